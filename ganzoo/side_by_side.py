"""Several trainings in one process, a few rounds of each in turn; on a GPU, a stream each, small networks fill it."""

from collections.abc import Sequence
from contextlib import nullcontext, suppress

import torch

from ganzoo.pulse import Stopped
from ganzoo.randomness import undisturbed
from ganzoo.saving import Keep
from ganzoo.train import Tell, Training


def side_by_side(
    trainings: Sequence[Training], keeps: Sequence[Keep | None], tells: Sequence[Tell]
) -> list[BaseException | None]:
    """`Training.run` of all of them. What ended each: None at its last round, else what it raised (`Diverged`, or what
    a plugin did); the others go on. Each ends in the bits in which it ends alone. Raises Stopped, all of them saved.
    """
    ended: list[BaseException | None] = [None] * len(trainings)
    streams = _streams(trainings)
    going = {i: one.going(keeps[i], tells[i]) for i, one in enumerate(trainings)}
    with undisturbed():
        while going:
            for i, steps in list(going.items()):
                with nullcontext() if streams[i] is None else torch.cuda.stream(streams[i]):
                    try:
                        next(steps)
                    except StopIteration:
                        del going[i]
                        trainings[i].release()
                    except Stopped as stopped:
                        del going[i]
                        for others in going.values():
                            with suppress(Stopped, StopIteration):
                                others.throw(stopped)
                        raise
                    except (Exception, SystemExit) as error:  # noqa: BLE001 (a plugin may raise anything)
                        ended[i] = error
                        del going[i]
                        trainings[i].release()
    for stream in streams:
        if stream is not None:
            stream.synchronize()
    return ended


def _streams(trainings: Sequence[Training]) -> "list[torch.cuda.Stream | None]":
    """Each has its own; those whose plugins draw share one, for their recordings read one seed on the device."""
    shared: dict[torch.device, torch.cuda.Stream | None] = {}
    return [
        shared.setdefault(one.device, _stream(one.device)) if one.asked.draws else _stream(one.device)
        for one in trainings
    ]


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    if device.type != "cuda":
        return None
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))  # what made the training is done before it plays
    return stream
