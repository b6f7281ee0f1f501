"""A sweep over every float32 as somebody waits for it: kept as it goes, taken up where it stopped, told of."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ganzoo.checks.costs import bound
from ganzoo.checks.exhaustive import EVERY, Tally, pieces_of, swept
from ganzoo.checks.kept import Kept, fingerprint, key_of
from ganzoo.checks.table import Settings, Subject
from ganzoo.zoo import Entry

SAVE_SECONDS = 2.0
"""Between two saves: so much is lost to a kill."""


@dataclass(frozen=True)
class News:
    """How a sweep is going."""

    entry: Entry
    settings: Settings
    done: int
    """Patterns."""
    total: int
    seconds: float
    """That the patterns done have taken, in all commands together."""
    before: int = 0
    """Patterns that an earlier command did."""
    notes: tuple[str, ...] = ()
    """What became of the kept progress; each note once."""


def every_float(
    entry: Entry,
    settings: Settings,
    tell: Callable[[News], None] = lambda news: None,
    *,
    device: str = "cpu",
    threads: int | None = None,
    fresh: bool = False,
    patience: float | None = None,
    patterns: range = EVERY,
) -> Tally:
    """The tally of a cost at all `patterns`, from where an earlier call stopped, unless `fresh`.

    A finished sweep is kept too: asked again, it is read. Raises Refuted where the cost raises or hangs, Busy where
    another process is at it.
    """
    cost = bound(Subject(entry, device=device), settings)
    pieces = pieces_of(patterns, device)
    key = key_of(entry, settings, device) | {"patterns": [patterns.start, patterns.stop]}
    kept = Kept(key, fingerprint(cost, device), len(pieces), fresh=fresh)
    try:
        number = {piece.start: i for i, piece in enumerate(pieces)}
        before = sum(len(pieces[i]) for i in kept.done)
        news = News(entry, settings, before, len(patterns), kept.seconds, before)
        tell(_with_notes(news, kept))
        began = saved = time.monotonic()
        spent = kept.seconds
        left = [piece for i, piece in enumerate(pieces) if i not in kept.done]
        sweep = swept(cost, left, device, threads, patience)
        try:
            for piece, tally in sweep:
                kept.tally += tally
                kept.done.add(number[piece.start])
                now = time.monotonic()
                kept.seconds = spent + now - began
                if now - saved >= SAVE_SECONDS:
                    kept.save()
                    saved = now
                news = replace(news, done=news.done + len(piece), seconds=kept.seconds)
                tell(_with_notes(news, kept))
        finally:
            sweep.close()
            if left:
                kept.save()
    finally:
        kept.close()
    if kept.notes:
        tell(_with_notes(news, kept))
    return kept.tally


def _with_notes(news: News, kept: Kept) -> News:
    notes, kept.notes = tuple(kept.notes), []
    return replace(news, notes=notes)
