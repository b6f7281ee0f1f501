"""Whether a device is one that is here."""

import torch

from ganzoo.errors import UserError


def require_device(where: str, what: str) -> None:
    """Raises UserError for what is no device, or none that torch sees here. `what`: who wants it."""
    try:
        device = torch.device(where)
    except RuntimeError:
        raise UserError(f"no device named '{where}'; there are: cpu, cuda, cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"ganzoo does not run on '{where}'; there are: cpu, cuda, cuda:N")
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= seen:
        sees = f"{seen or 'no'} CUDA device{'s' * (seen > 1)}"
        raise UserError(f"{what} wants {where}, but torch sees {sees} here; take --device cpu")
