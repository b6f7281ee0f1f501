"""Imported by the server of worker processes before all else, so that it ends with whoever started it: by itself it
hears of that only when it has imported torch, seconds later."""

import os

from ganzoo.processes import STARTER, die_with_the_parent

die_with_the_parent()
# Who died while we came up is no parent that the kernel could tell us of.
if os.environ.get(STARTER) not in (None, str(os.getppid())):
    os._exit(1)
