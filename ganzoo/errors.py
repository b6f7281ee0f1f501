"""What is said of a user's slip: who, what, and what there is instead."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class UserError(ValueError):
    """A slip of the user's (a name, a value, a file): one clear line; the command ends with exit status 2."""


@contextmanager
def blamed(plugin: str) -> Iterator[None]:
    """Whatever a plugin's code raises in the block becomes one line that names the plugin."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{plugin} fails: {said}") from error


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """`; did you mean 'leaky'? there are: abs, elu, leaky`, ready to end an error's line with."""
    options = sorted(options)
    if not options:
        return "; there are none"
    close = get_close_matches(name, options, n=1, cutoff=0.6)
    guess = f"; did you mean '{close[0]}'?" if close else ";"
    return f"{guess} there are: {', '.join(options)}"
