"""The laws of a harness, which our own keeps and the exhibits of `museum/harness` break.

python benchmarks/museum_laws.py benchmarks/museum/harness/clip_before_the_step.py

They are laws of what an objective can see of those who play it: a spy is played, and notes what it is given.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ganzoo.checks import Refuted
from ganzoo.game import Critic, Objective, Recipe
from ganzoo.heads import BoundCritic
from ganzoo.randomness import seeded, stream

IMAGES, BATCH, Z_DIM, SHAPE = 64, 16, 3, (1, 8, 8)
CRITIC_STEPS = 2
CLIP = 0.01
RECIPE = Recipe(optimizer="rmsprop", critic_rate=0.05, generator_rate=0.05, critic_steps=CRITIC_STEPS, decay=1.0)


class Weights(NamedTuple):
    """Of both players, flat, when play began and when it ended."""

    generator: tuple[Tensor, Tensor]
    critic: tuple[Tensor, Tensor]


class Run(NamedTuple):
    """A harness, as far as a law asks for it."""

    play: Callable[[Objective, int, int], Weights] | None = None
    """(game, seed, rounds): play the game on IMAGES images in batches of BATCH, a round being CRITIC_STEPS steps of
    the critic and one of the generator."""
    classify: Callable[[nn.Module, Tensor], Tensor] | None = None
    """(critic, images): the class of each, for a test error."""


@dataclass
class Note:
    """What one loss was given."""

    player: Literal["critic", "generator"]
    real: Tensor
    fake: Tensor
    largest: float
    """Of the critic's weights at that moment."""


@dataclass
class Spy:
    """A game that notes who asks it for what."""

    notes: list[Note] = field(default_factory=list)

    def game(self, of_critic: float = 1.0, of_generator: float = 1.0) -> Objective:
        """WGAN's, its two losses times these."""

        def noted(player: Literal["critic", "generator"], critic: Critic, real: Tensor, fake: Tensor) -> None:
            network = critic.network if isinstance(critic, BoundCritic) else critic
            weights = [p.detach().abs().max() for p in network.parameters()] if isinstance(network, nn.Module) else []
            if weights:  # the harness may listen to a loss with something that is no network
                largest = float(torch.stack(weights).max())
                self.notes.append(Note(player, real.detach().clone(), fake.detach().clone(), largest))

        def critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
            noted("critic", critic, real, fake)
            return of_critic * (critic(real).mean() - critic(fake).mean())

        def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
            noted("generator", critic, real, fake)
            return of_generator * critic(fake).mean()

        def clip(critic: nn.Module) -> None:
            if of_critic:  # a critic without a loss is to stay as it was
                with torch.no_grad():
                    for parameter in critic.parameters():
                        parameter.clamp_(-CLIP, CLIP)

        return Objective(critic_loss, generator_loss, constrain=clip, recipe=RECIPE)

    def of(self, player: str) -> list[Note]:
        return [note for note in self.notes if note.player == player]


def played(run: Run, seed: int = 0, rounds: int = 2) -> Spy:
    spy = Spy()
    assert run.play is not None
    run.play(spy.game(), seed, rounds)
    return spy


# The laws


def the_generator_meets_a_constrained_critic(run: Run) -> None:
    for note in played(run).of("generator"):
        if note.largest > CLIP * (1 + 1e-6):
            raise Refuted(
                f"the generator's step meets a critic with a weight of {note.largest:.4g} where weights are clipped to"
                f" {CLIP:g}: constrain after the critic's step, not before it"
            )


def each_player_moves_by_its_own_loss(run: Run) -> None:
    assert run.play is not None
    still = {
        "critic": run.play(Spy().game(of_critic=0.0), 0, 3).critic,
        "generator": run.play(Spy().game(of_generator=0.0), 0, 3).generator,
    }
    for player, (before, after) in still.items():
        moved = (after - before).abs().max().item()
        if moved:
            raise Refuted(
                f"the {player}'s loss has no gradient, and its weights move by up to {moved:.3g}: by that of the other"
                " player, left over in .grad"
            )


def an_epoch_shows_every_image_once(run: Run) -> None:
    seen = torch.cat([note.real for note in played(run, rounds=IMAGES // BATCH // CRITIC_STEPS).of("critic")])
    different = len(torch.unique(seen.flatten(1), dim=0))
    if different != IMAGES or len(seen) != IMAGES:
        raise Refuted(
            f"in an epoch of {IMAGES} images the critic sees {len(seen)}, of which {different} are different: batches"
            " that are stale"
        )


def critic_steps_come_first_and_are_all_there(run: Run) -> None:
    order = "".join(note.player[0] for note in played(run, rounds=3).notes)
    expected = ("c" * CRITIC_STEPS + "g") * 3
    if order != expected:
        raise Refuted(
            f"with {CRITIC_STEPS} steps of the critic (c) for each of the generator (g) the order is {order[:9]}, and"
            f" {expected} is meant"
        )


def the_generator_sees_a_whole_new_batch(run: Run) -> None:
    notes = played(run, rounds=3).notes
    for i, note in enumerate(notes):
        if note.player != "generator":
            continue
        if len(note.fake) != BATCH:
            raise Refuted(f"the generator's step is on {len(note.fake)} images, and a batch has {BATCH}")
        for other in notes[max(0, i - CRITIC_STEPS) : i]:
            if other.fake.shape == note.fake.shape and other.fake.equal(note.fake):
                raise Refuted("the generator's step is on the very images that the critic has just been trained on")


def the_seed_decides(run: Run) -> None:
    first, again, other = (torch.cat([note.fake for note in played(run, seed).notes]) for seed in (0, 0, 1))
    if not first.equal(again):
        raise Refuted(f"one seed, two runs: a generated pixel is {first[0, 0, 0, 0]:.6g} and {again[0, 0, 0, 0]:.6g}")
    if first.equal(other):
        raise Refuted("two seeds, one run")


def a_test_is_no_training(run: Run) -> None:
    assert run.classify is not None
    with seeded("a critic to be tested"):
        critic = nn.Sequential(
            nn.Flatten(), nn.Linear(SHAPE[1] * SHAPE[2], 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 10)
        )
    x = _images()
    with torch.no_grad():
        critic(x)  # some training, so that there are statistics
    before = {name: value.clone() for name, value in critic.state_dict().items()}
    # Beside others: what training mode does to an image depends on them.
    alone, beside = run.classify(critic, x[:8]), run.classify(critic, x)[:8]
    if not alone.equal(beside):
        raise Refuted(f"{int((alone != beside).sum())} of 8 images change their class with the images beside them")
    changed = [name for name, value in critic.state_dict().items() if not value.equal(before[name])]
    if changed or not critic.training:
        raise Refuted(f"a test changes the critic: {', '.join(changed) or 'it stays in eval mode'}")


LAWS: dict[str, Callable[[Run], None]] = {
    "harness-constrain": the_generator_meets_a_constrained_critic,
    "harness-own-loss": each_player_moves_by_its_own_loss,
    "harness-epoch": an_epoch_shows_every_image_once,
    "harness-order": critic_steps_come_first_and_are_all_there,
    "harness-fresh": the_generator_sees_a_whole_new_batch,
    "harness-seed": the_seed_decides,
    "harness-eval": a_test_is_no_training,
}


# A harness of the museum


def of_exhibit(module: ModuleType) -> Run:
    """Its `train(game, generator, critic, images, seed, rounds)`, or its `classify(critic, images)`."""
    if hasattr(module, "classify"):
        return Run(classify=module.classify)

    def play(game: Objective, seed: int, rounds: int) -> Weights:
        with seeded("networks of an exhibit", seed):
            layers = (nn.Linear(Z_DIM, 16), nn.ReLU(), nn.Linear(16, 64), nn.Tanh(), nn.Unflatten(1, SHAPE))
            generator = nn.Sequential(*layers)
            critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))
        before = flat(generator), flat(critic)
        with seeded("an exhibit", seed):
            module.train(game, generator, critic, _images(), seed, rounds)
        return Weights((before[0], flat(generator)), (before[1], flat(critic)))

    return Run(play)


def _images() -> Tensor:
    return torch.rand(IMAGES, *SHAPE, generator=stream("images of the museum")) * 2 - 1


def flat(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in network.parameters()])


def main(path: str) -> int:
    from museum_exhibits import harness_of, read, refused

    exhibit = read(Path(path))
    said = refused(LAWS[exhibit.refused_by], harness_of(exhibit))
    print(f"{exhibit.refused_by}: {said}" if said else f"{exhibit.refused_by}: nothing to refuse")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
