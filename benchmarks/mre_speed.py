"""How fast the minimum reconstruction error is found, and how well: one command, one table.

    python benchmarks/mre_speed.py [--quick] [--device cpu] [--threads 2] [--cifar10 FOLDER/cifar10.npz] [--out FILE]

Generators are trained first (a minute; 10 s with --quick); then, on validation images: the loop that inverts one image
and one start at a time, the batched search that ganzoo had before (`mre1`), today's (`mre2`) at several sizes, and each
against a much longer search; a linear generator against its linear programme; and, where CIFAR-10 is given and there is
time, 1,000 images of 32x32 at width 64. --out: one JSON line a row.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from ganzoo.config import cells, read_plan
from ganzoo.data import scaled
from ganzoo.mre import Protocol, Reconstruction, minimum_reconstruction_error, self_inversion
from ganzoo.party import read_data
from ganzoo.randomness import stream
from ganzoo.train import Training
from ganzoo.zoo import Zoo

NEW = {
    "30x1": Protocol(steps=30, restarts=1),
    "60x1": Protocol(steps=60, restarts=1),
    "60x4": Protocol(steps=60, restarts=4),
    "100x8": Protocol(steps=100),
    "200x8, the default": Protocol(),
    "200x8 bf16": Protocol(precision="bf16"),
}
OLD = {"50x1": (50, 1), "100x2": (100, 2), "200x4, the default": (200, 4)}
LONGER = Protocol(steps=800, restarts=16)


def measure(
    quick: bool = False, device: torch.device | str = "cpu", cifar10: Path | None = None, threads: int | None = None
) -> list[dict[str, Any]]:
    """Rows of `what`, `search`, `images`, `seconds`, `error` and what else was found; `threads` sets torch's count.

    `above` is the error's excess over that of a much longer search, `times_faster` the seconds an image of the loop
    over those of the search, `better_than_the_loop` whether its error on the loop's images is no larger.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    device = torch.device(device)
    made = [trained("digits 8x8, width 16, z_dim 10", {"objectives": ["dcgan"], "epochs": 6 if quick else 40})]
    if cifar10 is not None:
        plan = {
            "objectives": ["dcgan"], "epochs": 1, "batch_size": 64, "z_dim": 100, "generator.width": 16,
            "critic.width": 16, "data.set": "npz", "data.path": str(cifar10), "data.shuffle": False,
            "data.split": [6400 if quick else 25600, 2000, 2000],
        }  # fmt: skip
        made.append(trained("CIFAR-10 32x32, width 16, z_dim 100", plan))
    rows = [linear()]
    n = 1000 if device.type == "cuda" else 40 if quick else 100
    for what, generator, images, z_dim in made:
        rows += compared(what, generator.to(device), images[:n].to(device), z_dim, loop=2 if quick else 5)
    if cifar10 is not None and not quick:
        plan = {**plan, "generator.width": 64, "data.split": [12800, 2000, 2000]}
        what, generator, images, z_dim = trained("CIFAR-10 32x32, width 64, z_dim 100", plan)
        rows += thousand(what, generator.to(device), images.to(device), z_dim)
    return rows


def trained(what: str, changes: dict[str, Any]) -> tuple[str, nn.Module, Tensor, int]:
    """A generator of the plan, its validation images in [-1, 1], (N, C, H, W), and z_dim."""
    zoo = Zoo.installed()
    least = {"validation_images": 1, "validation_mre.steps": 1, "seeds": 1, "validate_every": 1000}
    plan = read_plan(**{**changes, **least})
    data = read_data(plan.data)
    training = Training(cells(plan, zoo)[0], zoo, data)
    training.run()
    return what, training.players.generator.eval(), scaled(data.validation.images), plan.z_dim


def timed(search: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds and the errors, on the CPU: whoever has them there has waited for the device."""
    start = time.perf_counter()
    errors = search().cpu()
    return time.perf_counter() - start, errors


def compared(what: str, generator: nn.Module, x: Tensor, z_dim: int, loop: int) -> list[dict[str, Any]]:
    """One image at a time, `mre1` and `mre2` on the same images."""
    best = minimum_reconstruction_error(generator, x, z_dim=z_dim, protocol=LONGER).errors
    seconds, alone = timed(lambda: adam(generator, x[:loop], z_dim, 200, 4, chunk=1))
    rows = [row(what, "one image and start at a time, 200x4", loop, seconds, alone, best[:loop], 800)]
    for name, (steps, restarts) in OLD.items():
        seconds, errors = timed(lambda s=steps, r=restarts: adam(generator, x, z_dim, s, r, chunk=4096))  # type: ignore[misc]
        rows.append(row(what, f"mre1 {name}", len(x), seconds, errors, best, steps * restarts))
    for name, protocol in NEW.items():
        seconds, errors = timed(lambda p=protocol: search(generator, x, z_dim, p).errors)  # type: ignore[misc]
        found = row(what, f"mre2 {name}", len(x), seconds, errors, best, protocol.samples)
        control = self_inversion(generator, len(x), z_dim=z_dim, protocol=protocol).mean
        rows.append({**found, "control": control, "protocol": protocol.id})
    for found in rows:
        found["times_faster"] = rows[0]["seconds_an_image"] / found["seconds_an_image"]
        # On the images that the loop had.
        found["better_than_the_loop"] = found.pop("first")[:loop].mean().item() <= alone.mean().item()
    return rows


def search(generator: nn.Module, x: Tensor, z_dim: int, protocol: Protocol) -> Reconstruction:
    return minimum_reconstruction_error(generator, x, z_dim=z_dim, protocol=protocol)


def row(what: str, how: str, images: int, seconds: float, errors: Tensor, best: Tensor, steps: int) -> dict[str, Any]:
    return {
        "what": what,
        "search": how,
        "images": images,
        "seconds": seconds,
        "seconds_an_image": seconds / images,
        "steps_an_image": steps,
        "error": errors.mean().item(),
        "above": (errors.mean() / best.mean() - 1).item(),
        "threads": torch.get_num_threads(),
        "first": errors,
    }


def adam(generator: nn.Module, x: Tensor, z_dim: int, steps: int, restarts: int, chunk: int) -> Tensor:
    """`mre1`, plainly: torch's Adam at rate 0.3 falling along a cosine, random starts, z clamped to the box; the least
    error of each image, (N,). `chunk` samples at once: 1 is the loop over images and starts."""
    starts = torch.rand(len(x) * restarts, z_dim, generator=stream("mre1")) * 2 - 1
    starts, image = starts.to(x.device), torch.arange(len(x), device=x.device).repeat_interleave(restarts)
    generator.requires_grad_(False)
    least = []
    for part in torch.split(torch.arange(len(starts), device=x.device), chunk):
        z = starts[part].requires_grad_()
        optimizer = torch.optim.Adam([z], lr=0.3)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        best = torch.full((len(part),), math.inf, device=x.device)
        for _ in range(steps):
            errors = (x[image[part]] - generator(z)).abs().flatten(1).mean(1)
            best = torch.minimum(best, errors.detach())
            (z.grad,) = torch.autograd.grad(errors.sum(), z)
            optimizer.step()
            cosine.step()
            with torch.no_grad():
                z.clamp_(-1, 1)
        with torch.no_grad():
            least.append(torch.minimum(best, (x[image[part]] - generator(z)).abs().flatten(1).mean(1)))
    return torch.cat(least).view(len(x), restarts).amin(1)


def linear(n: int = 20, z_dim: int = 9, side: int = 6) -> dict[str, Any]:
    """G(z) = A z + b: the error above the optimum, which a linear programme finds exactly."""
    random = stream("mre_speed linear")
    a = torch.randn(side * side, z_dim, generator=random) * 0.7 / math.sqrt(z_dim)
    b = torch.randn(side * side, generator=random) * 0.1
    z = (torch.rand(n, z_dim, generator=random) * 2 - 1) * 1.6
    noise = torch.rand(n, side * side, generator=random) * 2 - 1
    x = (z @ a.T + b + 0.4 * noise).clamp(-1, 1)
    seconds, errors = timed(
        lambda: (
            minimum_reconstruction_error(
                lambda z: (z @ a.T + b).view(-1, 1, side, side), x.view(-1, 1, side, side), z_dim=z_dim
            ).errors
        )
    )
    exact = torch.tensor([_optimum(a.double().numpy(), (image - b).double().numpy()) for image in x])
    found = row(
        "linear generator, 6x6, z_dim 9", f"mre2 {Protocol().id}", n, seconds, errors, exact, Protocol().samples
    )
    del found["first"]
    return {**found, "worst_above": (errors / exact - 1).max().item(), "protocol": Protocol().id}


def _optimum(a: np.ndarray, x: np.ndarray) -> float:
    """min_z mean |x - a z|, z in [-1, 1]: e >= +-(x - a z), minimise mean e."""
    pixels, z_dim = a.shape
    solved = linprog(
        np.r_[np.zeros(z_dim), np.full(pixels, 1 / pixels)],
        A_ub=np.block([[a, -np.eye(pixels)], [-a, -np.eye(pixels)]]),
        b_ub=np.r_[x, -x],
        bounds=[(-1, 1)] * z_dim + [(0, None)] * pixels,
        method="highs",
    )
    return float(solved.fun)


def thousand(what: str, generator: nn.Module, images: Tensor, z_dim: int) -> list[dict[str, Any]]:
    """1,000 images; `above` is on the first 50, against a search of 500 steps from 8 starts, none of which leaves."""
    few = 50
    longer = Protocol(steps=500, halvings=0)
    best = minimum_reconstruction_error(generator, images[:few], z_dim=z_dim, protocol=longer).errors
    rows = []
    for name in ("60x1", "100x8"):  # "60x1" is what validation would take, "100x8" lies within 1 %
        for protocol in (NEW[name], NEW[name].model_copy(update={"precision": "bf16"})):
            seconds, errors = timed(lambda p=protocol: search(generator, images[:1000], z_dim, p).errors)  # type: ignore[misc]
            found = row(what, f"mre2 {name} {protocol.precision}", 1000, seconds, errors, errors, protocol.samples)
            found["above"] = (found.pop("first")[:few].mean() / best.mean() - 1).item()
            rows.append({**found, "protocol": protocol.id})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines, what = [], None
    for found in rows:
        if found["what"] != what:
            what = found["what"]
            lines += [
                "",
                f"{what}, {found['threads']} threads",
                f"{'search':58} {'images':>6} {'ms/image':>9}"
                f" {'times':>7} {'steps':>6} {'error':>8} {'above':>7}  control",
            ]
        times, control = found.get("times_faster"), found.get("control")
        lines.append(
            f"{found['search']:58} {found['images']:6} {1000 * found['seconds_an_image']:9.2f}"
            f" {'' if times is None else f'{times:.1f}':>7} {found['steps_an_image']:6} {found['error']:8.5f}"
            f" {100 * found['above']:6.2f}% {'' if control is None else f'{control:.5f}':>8}"
        )
    return "\n".join(lines[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under two minutes")
    parser.add_argument("--cifar10", type=Path, help="cifar10.npz: images (N, 32, 32, 3) uint8")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="one JSON line a row")
    arguments = parser.parse_args()
    rows = measure(arguments.quick, arguments.device, arguments.cifar10, arguments.threads)
    print(table(rows))
    if arguments.out is not None:
        arguments.out.write_text("".join(json.dumps(found) + "\n" for found in rows))


if __name__ == "__main__":
    main()
