"""Spectral normalisation of the shipped critics: W / sigma(W), exact wherever a round is played, refused where not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganzoo import BoundCritic, UserError, Zoo
from ganzoo.config import Cell
from ganzoo.heads import plain
from ganzoo.lipschitz import product_of_layer_norms
from ganzoo.party import read_data
from ganzoo.players import players
from ganzoo.randomness import seeded
from ganzoo.stacked import stackable
from ganzoo.train import Training

ZOO = Zoo.installed()
CRITICS: dict[str, dict[str, Any]] = {"dcgan": {"width": 6}, "table-1": {"width": 4, "norm": "none"}}
names = pytest.mark.parametrize("name", CRITICS)

MakeCell = Callable[..., Cell]


def made(name: str, **changes: Any) -> nn.Module:
    with seeded("spectral"):
        network: nn.Module = ZOO.critic(name, **{**CRITICS[name], "spectral": True, **changes})((1, 8, 8), 1)
    return network


def normalised(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if parametrize.is_parametrized(module, "weight")]


def images(count: int = 5) -> Tensor:
    with seeded("spectral images"):
        return torch.rand(count, 1, 8, 8) * 2 - 1


def meet(network: nn.Module, passes: int) -> nn.Module:
    with torch.no_grad():
        for _ in range(passes):
            network(images())
    return network


@names
def test_every_weight_that_multiplies_images_is_normalised(name: str) -> None:
    layers = [module for module in made(name).modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) >= 3
    assert all(parametrize.is_parametrized(layer, "weight") for layer in layers)
    assert not normalised(made(name, spectral=False))


@names
def test_after_some_passes_each_weight_has_the_largest_singular_value_1(name: str) -> None:
    network = meet(made(name), 200).eval()
    for layer in normalised(network):
        weight = layer.weight.detach().flatten(1)
        assert float(torch.linalg.svdvals(weight)[0]) == pytest.approx(1, abs=2e-3)
        # ... and is the trained one but for its size.
        original = dict(layer.named_parameters())["parametrizations.weight.original"].detach().flatten(1)
        torch.testing.assert_close(weight * torch.linalg.svdvals(original)[0], original, rtol=5e-3, atol=1e-6)


@names
def test_it_begins_with_the_weights_that_it_has_without(name: str) -> None:
    plain_one, spectral = (made(name, spectral=flag) for flag in (False, True))
    own = {key.replace("parametrizations.weight.original", "weight"): p for key, p in spectral.named_parameters()}
    for key, parameter in plain_one.named_parameters():
        assert torch.equal(own[key], parameter), key


@names
def test_the_size_of_a_weight_no_longer_matters_and_the_bound_on_its_slope_is_small(name: str) -> None:
    network = meet(made(name), 100).eval()
    before = network(images())
    for layer in normalised(network):
        with torch.no_grad():
            dict(layer.named_parameters())["parametrizations.weight.original"].mul_(7)
    torch.testing.assert_close(network(images()), before)
    product = product_of_layer_norms(network, images(2))
    assert product is not None
    # A kernel's matrix of norm 1 makes a convolution of at most sqrt(taps that overlap).
    assert product <= 4.0 ** len(normalised(network))


def test_weight_norm_and_spectral_norm_together_are_refused() -> None:
    with pytest.raises(UserError, match="the table-1 critic takes weight_norm or spectral, not both"):
        made("table-1", weight_norm=True)


# The harness


def training(cell: Cell, zoo: Zoo = ZOO) -> Training:
    return Training(cell, zoo, read_data(cell.settings.data))


@names
def test_a_step_of_the_power_method_is_not_taken_for_batch_statistics(name: str, one_cell: MakeCell) -> None:
    cell = one_cell("ls-gan", critic={"name": name, **CRITICS[name], "spectral": True})
    found = players(cell, ZOO, read_data(cell.settings.data))
    assert found.per_sample
    # Nor does looking leave a trace in the network.
    again = players(cell, ZOO, read_data(cell.settings.data))
    assert all(torch.equal(p, q) for p, q in zip(found.critic.buffers(), again.critic.buffers(), strict=True))


def test_batch_norm_under_it_is_still_found(one_cell: MakeCell) -> None:
    cell = one_cell("ls-gan", **{"critic.spectral": True, "critic.norm": "batch"})
    with pytest.raises(UserError, match="penalises a gradient per sample"):
        players(cell, ZOO, read_data(cell.settings.data))


def test_a_critic_that_knows_its_batch_is_still_found(plugin: Callable[..., Path], one_cell: MakeCell) -> None:
    own = Zoo.installed(
        plugin("""
    class Centred(nn.Module):
        def forward(self, x):
            return x - x.mean(dim=0)


    @ganzoo.critic
    def knowing(image_shape: tuple, outputs: int) -> nn.Module:
        linear = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(64, 1))
        return nn.Sequential(nn.Flatten(), Centred(), linear, nn.Flatten(0))
    """)
    )
    cell = one_cell("ls-gan", zoo=own, critic={"name": "knowing"})
    with pytest.raises(UserError, match="penalises a gradient per sample"):
        players(cell, own, read_data(cell.settings.data))


def test_each_pass_of_training_leaves_another_state_and_a_checkpoint_holds_it(one_cell: MakeCell) -> None:
    one = training(one_cell("hinge", **{"critic.spectral": True}))
    before = {key: value.clone() for key, value in one.state_dict()["critic"].items()}
    one.play()
    after = one.state_dict()["critic"]
    vectors = [key for key in after if key.endswith(("_u", "_v"))]
    assert len(vectors) == 2 * len(normalised(one.players.critic))
    assert all(not torch.equal(before[key], after[key]) for key in vectors if after[key].numel() > 1)


def test_such_a_critic_plays_outside_the_stacks(one_cell: MakeCell) -> None:
    """torch.func.vmap has no form of the power method's writing in place: so each cell is played alone, and exactly."""
    assert stackable([training(one_cell("hinge"))]) is None
    why = stackable([training(one_cell("hinge", **{"critic.spectral": True}))])
    assert why is not None
    assert "does not run under torch.func.vmap" in why


def test_penalty_ii_takes_the_gradient_through_the_norm() -> None:
    """W / sigma(W) with sigma = u W v, the vectors held fixed: each image's gradient as autograd has it alone."""
    network = meet(made("dcgan"), 3)
    critic = BoundCritic(network, plain)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    found = critic.gradient_in_theta(images(3))
    moved = {key: value.clone() for key, value in network.state_dict().items()}
    for i, own in enumerate(found):
        network.load_state_dict(state)
        gradients = torch.autograd.grad(network(images(3)[i : i + 1]).sum(), list(network.parameters()))
        torch.testing.assert_close(own, torch.cat([g.flatten() for g in gradients]), rtol=1e-4, atol=1e-6)
    # However many images there were, the power method took one step.
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, moved[key], rtol=1e-5, atol=1e-6, msg=key)


def test_penalty_ii_s_own_derivative_is_that_of_differences() -> None:
    network = meet(made("dcgan", width=2), 50).double().eval()  # in eval mode the vectors stand still
    critic = BoundCritic(network, plain)
    x = images(2).double()

    def penalty() -> Tensor:
        return critic.gradient_in_theta(x).square().sum()

    for parameter in network.parameters():
        (gradient,) = torch.autograd.grad(penalty(), parameter, allow_unused=True, materialize_grads=True)
        step = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        sides = []
        for sign in (1e-6, -1e-6):
            with torch.no_grad():
                parameter.add_(sign * step)
            sides.append(float(penalty().detach()))
            with torch.no_grad():
                parameter.sub_(sign * step)
        assert float((gradient * step).sum()) == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4, abs=1e-9)


def test_the_slope_of_a_spectral_critic_stays_small_where_that_of_a_plain_one_grows(one_cell: MakeCell) -> None:
    """With rates of a tenth, which throw a plain critic far off."""
    changes = {"shared.critic_rate": 0.1, "epochs": 6}
    found = {}
    for spectral in (False, True):
        one = training(one_cell("wgan:clip=1000", **{**changes, "critic.spectral": spectral}))
        for _ in range(20):
            one.play()
        product = product_of_layer_norms(meet(one.players.critic, 60).eval(), images(2))
        assert product is not None
        found[spectral] = product
    assert found[True] < 64
    assert found[False] > 10 * found[True]
