"""In which numbers and forms the networks compute; what an objective makes of their outputs stays in float32."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ganzoo.convolutions import Cheaper
from ganzoo.errors import UserError

Precision = Literal["fp32", "tf32", "bf16"]
"""fp32: IEEE single; tf32: products of 10 bits on a GPU; bf16: the networks under autocast, weights kept in float32."""

Apply = Callable[..., Tensor]
"""(network, images or z, the mode of a pass to be differentiated twice or None) -> outputs."""

SMALL = 16 * 16
"""Pixels of an image whose networks are small: a round of theirs is overhead, to which casts add."""


@dataclass(frozen=True)
class Arithmetic:
    """How a network is applied to a batch: in a precision, with its convolutions in their cheapest forms."""

    precision: Precision = "fp32"
    device_type: str = "cpu"
    compiled: Mapping[nn.Module, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    """Network -> what torch.compile made of it."""

    def __call__(self, network: nn.Module, x: Tensor, cheaper: Cheaper | None = None) -> Tensor:
        """The network's output in x's own precision; `cheaper` is the mode of a pass to be differentiated twice."""
        form = self.compiled.get(network)
        # The compiler chooses its own forms.
        mode = cheaper or (Cheaper() if form is None else nullcontext())
        # Without the cache: it would keep the weights of one step for the next where a graph was captured.
        with (
            mode,
            torch.autocast(self.device_type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False),
        ):
            made: Tensor = (form or network)(x)
        return made.to(x.dtype)


def as_written(network: nn.Module, x: Tensor, cheaper: Cheaper | None = None) -> Tensor:
    """The network's output as its author wrote it."""
    with cheaper or nullcontext():
        made: Tensor = network(x)
    return made


def natural_precision(device: torch.device, image_shape: tuple[int, int, int]) -> Precision:
    """What the device does well: tf32 on a GPU that has it, bf16 on a processor with instructions for it, else fp32.

    On a processor small images take fp32.
    """
    if device.type == "cuda":
        return "tf32" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if able and image_shape[1] * image_shape[2] > SMALL else "fp32"


def require_precision(precision: Precision, device: torch.device) -> None:
    """Raises UserError for a precision that the device does not have."""
    if precision == "tf32" and device.type != "cuda":
        raise UserError(f"precision tf32 is a GPU's; on {device.type} there are: fp32, bf16")


@contextmanager
def products_in(precision: Precision, deterministic: bool = False) -> Iterator[None]:
    """Within the block a GPU's float32 products are tf32, or IEEE, and all its algorithms such as repeat bit for bit,
    where that is wanted; after it as they were."""
    places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]
    were_deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        for place in places:
            place.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        if deterministic:
            # Read when the library is first used; a worker process has not used it yet.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
        yield
    finally:
        torch.use_deterministic_algorithms(were_deterministic)
        for place, was in zip(places, before, strict=True):
            place.fp32_precision = was


Compile = Callable[[nn.Module], Callable[[Tensor], Tensor]]


def compiled(
    networks: Mapping[str, tuple[nn.Module, Tensor]], compile: Compile = torch.compile
) -> tuple[dict[nn.Module, Callable[[Tensor], Tensor]], list[str]]:
    """Name -> (network, inputs to try it on) -> those that compile, and a line on each that does not.

    A network is as it was afterwards, its statistics included.
    """
    found, notes = {}, []
    for name, (network, inputs) in networks.items():
        before = {key: value.clone() for key, value in network.state_dict().items()}
        form = compile(network)
        try:
            form(inputs).sum().backward()  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 (dynamo and the compilers behind it raise anything)
            reason = str(error).strip().partition("\n")[0]
            notes.append(f"{name} is not compiled: {type(error).__name__}: {reason}")
        else:
            found[network] = form
        network.load_state_dict(before)
        network.zero_grad(set_to_none=True)
    return found, notes
