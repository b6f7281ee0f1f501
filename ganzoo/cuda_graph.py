"""Work on a device, recorded once and replayed: what a CUDA graph is here."""

from collections.abc import Callable

import torch

Replay = Callable[[], None]
Record = Callable[[Callable[[], None]], Replay]
"""Makes of some work on the device what does it again."""


def cuda_graph(work: Callable[[], None], device: torch.device) -> Replay:
    """The work as a CUDA graph, recorded on a stream of its own and replayed on the caller's."""
    with torch.cuda.device(device):
        graph, aside = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(device))
        # Entered by hand as well: where a recording fails, some versions of torch stay on its stream.
        with torch.cuda.stream(aside), torch.cuda.graph(graph, stream=aside):
            work()
        torch.cuda.current_stream(device).wait_stream(aside)
    replay: Replay = graph.replay
    return replay
