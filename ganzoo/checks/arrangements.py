"""A margin compares images, not what their pixels add up to."""

import torch

from ganzoo.checks.counterexample import Refuted, Skipped
from ganzoo.checks.margins import delta, images
from ganzoo.checks.table import Check, Settings, Subject
from ganzoo.randomness import stream


def tells_rearranged_images_apart(subject: Subject, settings: Settings) -> None:
    x = images(subject, "real")
    order = torch.randperm(x[0, 0].numel(), generator=stream(subject.seed, "rearranged")).to(x.device)
    rearranged = x.flatten(2)[..., order].view(x.shape)
    largest = max(delta(subject, settings, x, y).max().item() for y in (-x, x.flip(0), rearranged))
    if largest == 0:
        raise Skipped("zero everywhere: it asks for no separation at all")
    lowest = delta(subject, settings, x, rearranged).min().item()
    if not lowest > 1e-9 * largest:
        raise Refuted(
            f"Delta is {lowest:.6g} for an image and the same pixels at other places: |sum of differences| where the"
            " sum of |differences| is meant?",
            "x = torch.rand(2, 3, 8, 8); assert (margin(x, x.flip(3)) > 0).all(), margin(x, x.flip(3))",
            images="the same pixels at other places",
            Delta=lowest,
        )


ARRANGEMENTS = (
    Check(
        "margin-13", "margin", "an image is not the same pixels at other places", True, tells_rearranged_images_apart
    ),
)
