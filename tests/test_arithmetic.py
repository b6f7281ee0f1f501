"""In which numbers the networks compute: what is chosen, what is refused, what it changes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ganzoo.arithmetic import Arithmetic, compiled, natural_precision, products_in
from ganzoo.bench import prepare
from ganzoo.config import Cell, Plan
from ganzoo.errors import UserError
from ganzoo.party import read_data
from ganzoo.train import Training
from ganzoo.zoo import Zoo

CPU = torch.device("cpu")


def training(cell: Cell, zoo: Zoo) -> Training:
    return Training(cell, zoo, read_data(cell.settings.data))


def test_a_processor_with_bf16_products_takes_them_for_images_above_16x16(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, wanted in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda able=able: able)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert natural_precision(CPU, (3, 32, 32)) == wanted
        assert natural_precision(CPU, (3, 16, 16)) == "fp32"


def test_a_gpu_takes_tf32_where_it_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, wanted in (((9, 0), "tf32"), ((8, 0), "tf32"), ((7, 5), "fp32")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert natural_precision(torch.device("cuda"), (1, 8, 8)) == wanted


def test_tf32_is_refused_without_a_gpu(tiny: Callable[..., Plan], zoo: Zoo) -> None:
    with pytest.raises(UserError, match="precision tf32 is a GPU's; on cpu there are: fp32, bf16"):
        prepare(tiny(precision="tf32"), zoo)


def test_the_products_of_a_gpu_are_set_and_put_back() -> None:
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision, conv.fp32_precision
    with products_in("tf32"):
        assert (matmul.fp32_precision, conv.fp32_precision) == ("tf32", "tf32")
        with products_in("fp32"):
            assert (matmul.fp32_precision, conv.fp32_precision) == ("ieee", "ieee")
    assert (matmul.fp32_precision, conv.fp32_precision) == before


@pytest.mark.parametrize("objective", ["dcgan", "wgan", "wgan-gp", "ls-gan", "gls-gan", "cls-gan"])
def test_bf16_trains_near_fp32_and_is_in_the_fingerprint(
    objective: str, one_cell: Callable[..., Cell], zoo: Zoo
) -> None:
    exact, coarse = (training(one_cell(objective, precision=name), zoo) for name in ("fp32", "bf16"))
    first, second = exact.play(), coarse.play()
    assert first.critic_loss != second.critic_loss
    torch.testing.assert_close(first.critic_loss, second.critic_loss, rtol=0.05, atol=0.02)
    torch.testing.assert_close(first.gradient_norm, second.gradient_norm, rtol=0.1, atol=1e-3)
    assert all(parameter.dtype == torch.float32 for parameter in coarse.players.critic.parameters())
    assert coarse.state_dict()["fingerprint"]["precision"] == "bf16"


def test_a_checkpoint_of_another_precision_is_refused(
    one_cell: Callable[..., Cell], zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = training(one_cell("dcgan"), zoo)  # the natural one, which another machine may not share
    state = one.state_dict()
    one.precision = "bf16"
    monkeypatch.setattr("ganzoo.train.load_checkpoint", lambda path, device, largest: state)
    with pytest.raises(UserError, match="was made with precision fp32, here bf16"):
        one.resume("checkpoint")  # type: ignore[arg-type]


class Stubborn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError("not today\nnor tomorrow")


def test_what_does_not_compile_is_named_and_left_as_it_is() -> None:
    norm = nn.BatchNorm1d(3)
    x = torch.rand(4, 3)
    networks: dict[str, tuple[nn.Module, Tensor]] = {"the critic": (Stubborn(), x), "the generator": (norm, x)}
    found, notes = compiled(networks, lambda network: network)
    assert notes == ["the critic is not compiled: NotImplementedError: not today"]
    assert list(found) == [norm]
    assert norm.num_batches_tracked == 0
    assert norm.weight.grad is None


def test_a_compiled_network_is_what_the_round_uses() -> None:
    network = nn.Linear(3, 2)
    x = torch.rand(4, 3)
    twice = Arithmetic(compiled={network: lambda x: 2 * network(x)})
    torch.testing.assert_close(twice(network, x), 2 * network(x))


def test_a_penalised_critic_is_not_compiled(
    one_cell: Callable[..., Cell], zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[nn.Module] = []
    monkeypatch.setattr("ganzoo.arithmetic.compiled.__defaults__", (lambda network: asked.append(network) or network,))
    penalised, free = (training(one_cell(name, compile=True), zoo) for name in ("wgan-gp", "dcgan"))
    assert asked == [penalised.players.generator, free.players.generator, free.players.critic]
    assert penalised.notes == ["the critic is not compiled: a penalty differentiates it twice, torch.compile does not"]
    plain = training(one_cell("dcgan"), zoo)
    torch.testing.assert_close(free.play().critic_loss, plain.play().critic_loss)
