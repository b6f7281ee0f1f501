"""What is said of a user's slip: who, what, and what there is instead."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class UserError(ValueError):
    """A slip of the user's (a name, a value, a file): one clear line; the command ends with exit status 2."""


LONGEST = 2000
"""Characters of a line that people are shown."""


def printable(text: object, most: int = LONGEST) -> str:
    """One line that does nothing to a terminal, whatever a name or a file put into it: `?` for each character that is
    not printed (escape sequences, line breaks, marks that turn the direction of writing, halves of a surrogate pair).

    At most `most` characters: of a longer text the middle is left out.
    """
    line = str(text)
    if len(line) > most:
        end = most // 4
        line = f"{line[: most - end - 3]}...{line[len(line) - end :]}"
    return "".join(c if c.isprintable() else "?" for c in line)


def printable_lines(text: object, most: int = 10_000) -> str:
    """As `printable`, line by line: the breaks between them stay, and at most so many lines."""
    lines = str(text).split("\n")
    left_out = [f"... {len(lines) - most:,} more lines"] if len(lines) > most else []
    return "\n".join([printable(line) for line in lines[:most]] + left_out)


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
