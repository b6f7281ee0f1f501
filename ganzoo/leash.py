"""Imported by the server of worker processes before all else, so that it ends with whoever started it: by itself it
hears of that only when it has imported torch, seconds later."""

from ganzoo.processes import die_with_the_parent

die_with_the_parent()
