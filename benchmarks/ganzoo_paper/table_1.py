"""Table 1: the networks of CLS-GAN, layer by layer, as they are built and as the paper prints them."""

import time
from itertools import zip_longest
from typing import Any

import torch
from torch import nn

from ganzoo.paper import Item, Options, write_rows
from ganzoo.randomness import seeded, stream
from ganzoo.zoo import Zoo

CLASSES = 10
Z_DIM = 100
IMAGE = (3, 32, 32)

PRINTED = {
    "critic": (
        "3c1s96o Conv. BN LeakyReLU",
        "3c1s96o Conv. BN LeakyReLU",
        "4c2s96o Conv. BN LeakyReLU",
        "3c1s192o Conv. BN LeakyReLU",
        "3c1s192o Conv. BN LeakyReLU",
        "4c2s192o Conv. BN LeakyReLU",
        "3c1s192o Conv. BN LeakyReLU",
        "3c1s192o Conv. BN LeakyReLU",
        "1c1s192o Conv. BN LeakyReLU",
        "global meanpool",
        "Output 1x1x10",
    ),
    "generator": (
        "4c1s512o UpConv. BN LeakyReLU",
        "4c2s256o UpConv. BN LeakyReLU",
        "4c2s128o UpConv. BN LeakyReLU",
        "4c2s3o UpConv. BN LeakyReLU",
        "Elementwise Tanh",
        "Output 32x32x3",
    ),
}
"""Table 1's lines, under `Input 32x32x3` and `Input 100-D random vector + 10-D one-hot vector`."""

REASONS = {
    ("4c2s3o UpConv. BN LeakyReLU", "4c2s3o UpConv."): (
        "BN and LeakyReLU are taken for a slip: DCGAN, which sec. 9.1 follows, has neither on the image; the"
        " hyperparameter as_printed=True puts them there"
    )
}
"""(printed, built) -> why they differ."""


def run(options: Options) -> str:
    """Both networks at the paper's width; `small` times 8 images, `paper` a batch of 64 (sec. 9.2)."""
    batch = 8 if options.size == "small" else 64
    zoo, draw = Zoo.installed(), stream("table 1")
    with seeded("table 1"):
        critic: nn.Module = zoo.critic("table-1")(IMAGE, CLASSES)
        generator: nn.Module = zoo.generator("table-1")(Z_DIM + CLASSES, IMAGE)
    inputs = {"critic": torch.rand(batch, *IMAGE, generator=draw) * 2 - 1}
    inputs["generator"] = torch.rand(batch, Z_DIM + CLASSES, generator=draw) * 2 - 1
    rows: list[dict[str, Any]] = []
    for name, network in (("critic", critic), ("generator", generator)):
        network, x = network.to(options.device).eval(), inputs[name].to(options.device)
        pairs = zip_longest(PRINTED[name], lines(network, x), fillvalue="-")
        for i, (printed, built) in enumerate(pairs, 1):
            reason = None if built == printed else REASONS.get((printed, built), "unexplained")
            rows.append({"network": name, "layer": i, "printed": printed, "built": built, "deviation": reason})
        rows.append(
            {
                "network": name,
                "parameters": sum(parameter.numel() for parameter in network.parameters()),
                "batch": batch,
                "device": options.device,
                "forward_seconds": seconds(network, x),
            }
        )
    write_rows(options.folder, rows)
    return text(rows)


def lines(network: nn.Module, x: torch.Tensor) -> list[str]:
    """The built modules in the table's own words."""
    found: list[str] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            kind = "UpConv." if isinstance(module, nn.ConvTranspose2d) else "Conv."
            found.append(f"{module.kernel_size[0]}c{module.stride[0]}s{module.out_channels}o {kind}")
        elif isinstance(module, nn.BatchNorm2d):
            found[-1] += " BN"
        elif isinstance(module, nn.LeakyReLU):
            found[-1] += " LeakyReLU" if module.negative_slope == 0.2 else f" LeakyReLU({module.negative_slope})"
        elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size == 1:
            found.append("global meanpool")
        elif isinstance(module, nn.Tanh):
            found.append("Elementwise Tanh")
    with torch.no_grad():
        shape = network(x).shape[1:]
    channels, height, width = shape if len(shape) == 3 else (shape[0], 1, 1)
    return [*found, f"Output {height}x{width}x{channels}"]


def seconds(network: nn.Module, x: torch.Tensor, times: int = 5) -> float:
    """The shortest of a few forward passes of the batch, in eval mode, after a first one."""
    taken = []
    with torch.no_grad():
        for _ in range(times + 1):
            started = time.perf_counter()
            network(x).sum().item()  # waits for the device
            taken.append(time.perf_counter() - started)
    return min(taken[1:])


def text(rows: list[dict[str, Any]]) -> str:
    layers, totals = [r for r in rows if "layer" in r], [r for r in rows if "parameters" in r]
    out = [f"{'network':<11}{'Table 1':<32}{'built':<32}"]
    for row in layers:
        verdict = "match" if row["deviation"] is None else "deviation"
        out.append(f"{row['network']:<11}{row['printed']:<32}{row['built']:<32}{verdict}")
    out.append("")
    for row in totals:
        of = [layer for layer in layers if layer["network"] == row["network"]]
        matched = sum(layer["deviation"] is None for layer in of)
        out.append(f"The {row['network']} matches Table 1 in {matched} of {len(of)} lines, has {row['parameters']:,}")
        out[-1] += f" parameters, and takes {1e3 * row['forward_seconds']:.1f} ms for {row['batch']} images"
        out[-1] += f" ({row['device']})."
    deviations = [row for row in layers if row["deviation"] is not None]
    out += [f"{row['network'].capitalize()}, line {row['layer']}: {row['deviation']}." for row in deviations]
    if not deviations:
        out.append("No line deviates.")
    return "\n".join(out)


ITEM = Item(
    shows="Table 1: the layers of CLS-GAN's two networks, as built and as printed",
    small="5 s",
    paper="5 s",
    run=run,
)
