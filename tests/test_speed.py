"""The speed benchmark's logic: what a round needs, who is compared with whom, who is skipped and why. No timing."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import speed
from ganzoo.config import Plan, contenders, read_plan
from ganzoo.game import Objective
from ganzoo.train import Training
from ganzoo.zoo import Zoo
from ganzoo_speed import networks, rivals, roofline, rounds
from ganzoo_speed.drivers.answer import Setting
from ganzoo_speed.plain import (
    CLIP,
    OBJECTIVES,
    RATE,
    ExamplesRound,
    PlainRound,
    critic_loss,
    generator_loss,
    model_flops,
)
from ganzoo_speed.rivals import Process, Rival, Unusable, environment, last_line
from ganzoo_speed.rounds import Contender, Effort, Refused, interleaved, ours, random_images, rows_of, ways
from ganzoo_speed.table import aligned, fastest_library, judged, peaks, quartiles, table
from ganzoo_speed.timing import seconds_of, usual_precision

Row = dict[str, Any]
TINY = Setting(batch=4, width=2, device="cpu", rate=RATE, betas=(0.5, 0.999))
PENALISED = ("wgan-gp", "ls-gan", "gls-gan")


# What a round needs


def passes(batch: int, width: int) -> tuple[int, int, int]:
    """FLOPs of a critic's forward pass, of a generator's, and of the critic's first layer (the generator's last)."""
    edge = 2 * batch * width * 3 * 16 * 16**2
    middle = 2 * batch * 2 * width * width * 16 * 8**2 + 2 * batch * 4 * width * 2 * width * 16 * 4**2
    last = 2 * batch * 4 * width * 16
    first = 2 * batch * 100 * 4 * width * 16
    return edge + middle + last, first + middle + edge, edge


@pytest.mark.parametrize(("batch", "width"), [(64, 64), (4, 2)])
@pytest.mark.parametrize("objective", ["dcgan", "wgan"])
def test_a_round_without_penalty_needs_what_is_counted_by_hand(objective: str, batch: int, width: int) -> None:
    critic, generator, edge = passes(batch, width)
    first = 2 * batch * 100 * 4 * width * 16
    critic_step = generator + 2 * (3 * critic - edge)  # no gradient of the images
    generator_step = (3 * generator - first) + 2 * critic  # none of z, none of the critic's weights
    assert model_flops(objective, batch=batch, width=width) == critic_step + generator_step


@pytest.mark.parametrize("objective", PENALISED)
def test_a_penalty_adds_six_passes_through_the_critic(objective: str) -> None:
    """Forward, its gradient, and both of them backward, each twice as much; of the last layer a little less."""
    critic, _, _ = passes(64, 64)
    more = model_flops(objective, batch=64, width=64) - model_flops("dcgan", batch=64, width=64)
    assert more == pytest.approx(6 * critic, rel=1e-3)


def test_the_issues_round_needs_27_billion_flops_and_40_with_a_penalty() -> None:
    assert model_flops("dcgan", batch=64, width=64) / 1e9 == pytest.approx(26.9, abs=0.05)
    assert model_flops("wgan-gp", batch=64, width=64) / 1e9 == pytest.approx(40.4, abs=0.05)


@pytest.mark.parametrize("work", [roofline.matmul(16), roofline.convolution(2, 4, 8)], ids=lambda work: work.what)
def test_the_rooflines_flops_are_those_that_torch_counts(work: roofline.Work) -> None:
    with FlopCounterMode(display=False) as counter:
        work.make(torch.float32, "cpu")()
    assert counter.get_total_flops() == work.flops


def test_the_rooflines_convolutions_are_the_critics_middle_layers() -> None:
    layers = [module for module in networks.critic(64) if isinstance(module, nn.Conv2d)][1:3]
    images = torch.empty(64, 64, 16, 16, device="meta")
    found = []
    for layer in layers:
        with FlopCounterMode(display=False) as counter:
            images = layer.to("meta")(images)
        found.append(counter.get_total_flops())
    works = [work for work in roofline.works(64, 64, "cpu") if work.what.startswith("convolution")]
    assert [work.flops for work in works] == found


# The plain round


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return Zoo.installed()


def game(zoo: Zoo, objective: str) -> Objective:
    return contenders(objective, zoo, Plan())[0].game(zoo)


def images(seed: int, batch: int = 4) -> Tensor:
    return 2 * torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) - 1


def livelier(network: nn.Module) -> nn.Module:
    """Weights large enough that no difference drowns in rounding."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(16)
    return network


@pytest.fixture
def critic() -> Iterator[nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield livelier(networks.critic(4))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_plain_losses_are_those_of_the_zoo_in_value_and_gradient(
    zoo: Zoo, critic: nn.Module, objective: str
) -> None:
    def gradient(loss: Tensor) -> Tensor:
        made = torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True)
        return torch.cat([(torch.zeros(()) if part is None else part).flatten() for part in made])

    def as_zoo(x: Tensor) -> Tensor:
        made: Tensor = critic(x)
        return made.squeeze(1)

    real, fake = images(1, 8), images(2, 8)
    with torch.no_grad():
        violation = 2.4576 * (real - fake).abs().mean(dim=(1, 2, 3)) + as_zoo(real) - as_zoo(fake)
    assert violation.min() < 0 < violation.max()  # both sides of a cost's bend
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        plain = critic_loss(objective, critic, real, fake, torch.rand)
        torch.manual_seed(3)
        zoos = game(zoo, objective).critic_loss(as_zoo, real, fake)
    torch.testing.assert_close(plain, zoos)
    torch.testing.assert_close(gradient(plain), gradient(zoos), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        generator_loss(objective, critic, fake), game(zoo, objective).generator_loss(as_zoo, real, fake)
    )


@pytest.mark.parametrize("kind", ["generator", "critic"])
def test_the_shared_networks_are_those_of_the_zoo(zoo: Zoo, kind: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "generator":
            plain, zoos, x = (
                networks.generator(4),
                zoo.generator("dcgan", width=4)(100, (3, 32, 32)),
                torch.rand(4, 100),
            )
        else:
            plain, zoos, x = networks.critic(4), zoo.critic("dcgan", width=4)((3, 32, 32), 1), images(0)
    with torch.no_grad():
        for ours, theirs in zip(plain.parameters(), zoos.parameters(), strict=True):
            ours.copy_(theirs)
        torch.testing.assert_close(plain(x).squeeze(1), zoos(x))


def test_the_examples_critic_has_batch_norm_and_the_plain_one_has_none() -> None:
    def norms(network: nn.Module) -> int:
        return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())

    assert norms(ExamplesRound(images(0), width=2).discriminator) == 2
    assert norms(PlainRound("dcgan", images(0), width=2).critic) == 0
    # A bias before BatchNorm would be work for nothing.
    biased = [
        module.bias is not None for module in networks.critic(2, batch_norm=True) if isinstance(module, nn.Conv2d)
    ]
    assert biased == [True, False, False, True]


def steps(optimizer: torch.optim.Optimizer) -> set[float]:
    return {float(state["step"]) for state in optimizer.state.values()}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_plain_round_is_one_step_of_each_network(objective: str) -> None:
    play = PlainRound(objective, images(0), width=2)
    for count in (1, 2):
        play()
        assert steps(play.critic_optimizer) == steps(play.generator_optimizer) == {count}
        assert len(play.critic_optimizer.state) == len(list(play.critic.parameters()))


def test_an_examples_round_is_one_step_of_each_network() -> None:
    play = ExamplesRound(images(0), width=2)
    said = play()
    assert steps(play.discriminator_optimizer) == steps(play.generator_optimizer) == {1}
    assert all(0 < probability < 1 for probability in said[2:])


def test_only_wgan_clips_its_critic() -> None:
    def largest(objective: str) -> float:
        play = PlainRound(objective, images(0), width=8, generator=torch.Generator().manual_seed(0))
        livelier(play.critic)
        play()
        return max(float(parameter.detach().abs().max()) for parameter in play.critic.parameters())

    assert largest("wgan") <= CLIP < largest("wgan-gp")


@pytest.mark.parametrize("objective", ["dcgan", "wgan-gp"])
def test_holding_the_critic_in_the_generators_step_changes_no_result(objective: str) -> None:
    def played(hold: bool) -> list[Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            random = torch.Generator().manual_seed(1)
            play = PlainRound(objective, images(0), width=2, generator=random, hold_critic=hold)
            play()
            play()
        return [*play.critic.parameters(), *play.generator.parameters()]

    assert all(torch.equal(held, free) for held, free in zip(played(True), played(False), strict=True))


# Turns


def contender(name: str, seconds: Callable[[int], list[float]], precision: str = "fp32") -> Contender:
    return Contender(name, "1", precision, (), seconds)


def test_turns_are_interleaved_start_with_another_each_time_and_leave_the_warm_up_out() -> None:
    log: list[tuple[str, int]] = []

    def logged(name: str) -> Contender:
        def seconds(rounds: int) -> list[float]:
            log.append((name, rounds))
            return [float(len(log))] * rounds

        return contender(name, seconds)

    both = [logged("a"), logged("b")]
    found = interleaved(both, Effort(turns=3, rounds=2, warm_up=5))
    assert log == [("a", 5), ("b", 5), ("a", 2), ("b", 2), ("b", 2), ("a", 2), ("a", 2), ("b", 2)]
    assert found == [[3.0, 3.0, 6.0, 6.0, 7.0, 7.0], [4.0, 4.0, 5.0, 5.0, 8.0, 8.0]]


@pytest.mark.parametrize("after", [0, 3])
def test_who_fails_is_asked_no_more_and_keeps_the_reason_while_the_others_go_on(after: int) -> None:
    asked = []

    def fails(rounds: int) -> list[float]:
        asked.append(rounds)
        if len(asked) > after:
            raise Unusable("does not run: no such thing")
        return [1.0] * rounds

    broken, sound = contender("broken", fails), contender("sound", lambda rounds: [2.0] * rounds)
    found = interleaved([broken, sound], Effort(turns=4, rounds=1, warm_up=1))
    assert found == ["does not run: no such thing", [2.0] * 4]
    assert len(asked) == after + 1


def test_rows_have_median_quartiles_every_figure_and_the_flops_of_the_objective() -> None:
    values = iter([9.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    timed = contender("a", lambda rounds: [next(values) for _ in range(rounds)], "tf32")
    refused = Refused("b", "2", "bf16", "no such precision")
    made, skipped = rows_of("wgan", 2, TINY, [timed, refused], Effort(turns=5, rounds=1, warm_up=1))
    assert (made["seconds"], made["quartiles"], made["all"]) == (3.0, [2.0, 4.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert made["gflops"] == model_flops("wgan", batch=4, width=2) / 1e9
    assert (made["what"], made["threads"], made["contender"], made["precision"]) == ("wgan", 2, "a", "tf32")
    assert skipped["skipped"] == "no such precision"
    assert "seconds" not in skipped


def test_seconds_on_a_processor_are_one_figure_a_round() -> None:
    played: list[None] = []
    assert len(seconds_of(lambda: played.append(None), 3, "cpu")) == len(played) == 3


def test_a_processor_convolves_in_fp32_where_nothing_is_asked_for() -> None:
    assert usual_precision("cpu") == "fp32"


def test_a_gpu_waits_for_longer_turns() -> None:
    for quick in (True, False):
        assert rounds.effort(quick=quick, device="cuda:1").rounds > rounds.effort(quick=quick, device="cpu").rounds
    assert rounds.effort(quick=True, device="cpu").turns < rounds.effort(quick=False, device="cpu").turns


# Ours


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_images(tmp_path_factory.mktemp("speed") / "images.npz")


def test_we_play_in_every_precision_that_a_plan_takes_and_on_a_gpu_captured_and_not() -> None:
    assert [(who, precision) for who, precision, _ in ways("cpu", compiled=False)] == [
        ("ganzoo", "fp32"),
        ("ganzoo", "tf32"),
        ("ganzoo", "bf16"),
    ]
    plans = {(who, precision): read_plan(**changes) for who, precision, changes in ways("cuda:1", compiled=True)}
    assert len(plans) == 9
    for (who, precision), plan in plans.items():
        assert (plan.precision, plan.capture) == (precision, "not captured" not in who)
        assert plan.compile == ("compiled" in who)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_our_round_is_the_zoos_at_the_issues_size(archive: Path, objective: str) -> None:
    plan = rounds.plan(objective, archive, TINY._replace(batch=64, width=64), 2, {"precision": "bf16"})
    assert (plan.objectives, plan.batch_size, plan.z_dim, plan.threads) == ((objective,), 64, 100, 2)
    assert plan.precision == "bf16"
    assert plan.generator == plan.critic == Plan().generator
    assert plan.shared == Plan().shared.model_copy(update={"critic_rate": RATE, "generator_rate": RATE})


@pytest.mark.parametrize("objective", ["dcgan", "ls-gan"])
def test_each_precision_plays_or_says_in_one_line_why_not(archive: Path, zoo: Zoo, objective: str) -> None:
    found = list(ours(objective, archive, TINY, 1, zoo))
    assert [one.precision for one in found] == ["fp32", "tf32", "bf16"]
    first, second, third = found
    assert isinstance(first, Contender)
    assert isinstance(third, Contender)
    assert len(first.seconds(2)) == len(third.seconds(2)) == 2
    assert isinstance(second, Refused)
    assert "tf32 is a GPU's" in second.reason


def test_rounds_of_ours_are_rounds_of_the_training(archive: Path, zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Training] = []

    def noted(*arguments: Any) -> Training:
        made.append(Training(*arguments))
        return made[-1]

    monkeypatch.setattr(rounds, "Training", noted)
    found = next(ours("wgan", archive, TINY, 1, zoo))
    assert isinstance(found, Contender)
    found.seconds(3)
    assert made[0].round == 3
    made[0].notes.append("said while it played")
    (row,) = rows_of("wgan", 1, TINY, [found], Effort(1, 1, 1))
    assert "said while it played" in row["notes"]


def test_a_round_that_diverges_is_a_reason_and_no_figure(archive: Path, zoo: Zoo) -> None:
    found = next(ours("wgan-gp", archive, TINY._replace(rate=1e6), 1, zoo))
    assert isinstance(found, Contender)
    with pytest.raises(Unusable, match="diverged@"):
        found.seconds(50)


def test_the_section_measures_the_peak_ours_the_plain_and_the_examples_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roofline, "works", lambda *_: [roofline.matmul(8)])
    torch.set_num_threads(1)
    random = torch.get_rng_state()
    rows = rounds.measure(
        effort=Effort(turns=2, rounds=1, warm_up=1),
        device="cpu",
        objectives=["dcgan", "wgan"],
        threads=[2],
        rivals=[],
        environments=tmp_path,
        folder=tmp_path,
        batch=4,
        width=2,
    )
    assert torch.get_num_threads() == 1
    assert torch.equal(torch.get_rng_state(), random)
    who = {(row["what"], row["contender"]) for row in rows if row["section"] == "rounds" and "skipped" not in row}
    both = {(objective, name) for objective in ("dcgan", "wgan") for name in ("ganzoo", "plain")}
    assert who == both | {("dcgan", "pytorch/examples style")}
    peak = [row["precision"] for row in rows if row["section"] == "roofline"]
    assert peak == ["fp32", "bf16"] * 2  # before the rounds and after them
    assert "matmul 8" in table(rows)


# Libraries


def test_the_last_line_is_the_error_where_pip_names_one() -> None:
    assert last_line("a\nERROR:  no such\tthing\n\nnotice: upgrade\n") == "ERROR: no such thing"
    assert (
        last_line("Traceback\nModuleNotFoundError: No module named 'x'\n") == "ModuleNotFoundError: No module named 'x'"
    )
    assert last_line("\n") == "it says nothing"
    assert len(last_line("x" * 900)) == 200


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What an environment runs, with nothing run; `refuse` among a rival's needs makes the installer fail."""
    said: list[str] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        said.append(" ".join(command))
        packages = tmp_path / "packages"
        packages.mkdir(exist_ok=True)
        if "venv" in command:
            Path(command[-1]).mkdir()
        bad = "refuse" in command
        return subprocess.CompletedProcess(command, int(bad), f"{packages}\n", "ERROR: no version of refuse" * bad)

    monkeypatch.setattr(rivals.subprocess, "run", run)
    return said


def test_an_environment_is_made_once_shares_this_torch_and_leaves_the_librarys_pins_out(
    commands: list[str], tmp_path: Path
) -> None:
    rival = Rival("lib", "1.2", ("other",), "driver", "lib-torch")
    folder = tmp_path / "a" / "folder"
    first = environment(rival, folder)
    installs = [command.partition("install ")[2] for command in commands if " install " in command]
    assert [install.split()[-1] for install in installs] == ["other", "lib-torch==1.2"]
    assert ["--no-deps" in install for install in installs] == [False, True]
    shared = (tmp_path / "packages" / "shared.pth").read_text().strip()
    assert (Path(shared) / "torch").is_dir()
    ran = len(commands)
    assert environment(rival, folder) == first
    assert len(commands) == ran
    assert environment(rival._replace(version="1.3"), folder) != first
    assert len(commands) > ran


def test_a_library_that_does_not_install_says_why_and_is_tried_again(commands: list[str], tmp_path: Path) -> None:
    rival = Rival("lib", "1.2", ("refuse",), "driver")
    for _ in range(2):
        commands.clear()
        with pytest.raises(Unusable, match="does not install: ERROR: no version of refuse"):
            environment(rival, tmp_path)
        assert commands


DRIVER = """
import torch
from ganzoo_speed.drivers.answer import answer

def sound(setting):
    print("a library's chatter")
    return lambda: print("more of it", setting.batch, torch.get_num_threads())

def broken(setting):
    def play():
        raise RuntimeError("two\\nlines")
    return play

answer({"sound": sound, "broken": broken}, note="as it is")
"""


def test_a_driver_plays_on_demand_whatever_its_library_prints(tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    with Process(Path(sys.executable), "driver", TINY, tmp_path) as process:
        assert (process.objectives, process.note, process.precision) == (("sound", "broken"), "as it is", "fp32")
        assert len(process.seconds("sound", 1, 3)) == 3
        with pytest.raises(Unusable, match=r"^does not run: RuntimeError: two lines$"):
            process.seconds("broken", 1, 1)
        assert len(process.seconds("sound", 2, 1)) == 1
        process.close()
    said = (tmp_path / "stderr.txt").read_text()
    assert said.count("more of it 4 1\n") == 3  # batch 4, one thread
    assert said.count("more of it 4 2\n") == 1
    assert said.count("a library's chatter") == 1  # made once, played on


def test_a_library_that_does_not_import_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "environment", lambda *_: Path(sys.executable))
    absent = Rival("absent", "1", (), "no_such_driver")
    others = rounds.Rivals([absent], tmp_path, TINY, tmp_path)
    (found,) = others.contenders("dcgan", 1)
    others.close()
    assert isinstance(found, Refused)
    assert "No module named ganzoo_speed.drivers.no_such_driver" in found.reason
    (row,) = rows_of("dcgan", 1, TINY, [found], Effort(1, 1, 1))
    assert f"skipped: absent 1 fp32: {found.reason} (dcgan)" in table([row])


def test_a_library_plays_the_objectives_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Playing:
        objectives, note, precision = ("dcgan",), "as it is", "tf32"

        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> "Playing":
            return self

        def __exit__(self, *_: object) -> None: ...

        def seconds(self, objective: str, threads: int, rounds: int) -> list[float]:
            return [float(threads)] * rounds

    monkeypatch.setattr(rounds, "environment", lambda *_: Path(sys.executable))
    monkeypatch.setattr(rounds, "Process", Playing)
    others = rounds.Rivals(rivals.RIVALS[:1], tmp_path, TINY, tmp_path)
    assert list(others.contenders("wgan", 2)) == []
    (found,) = others.contenders("dcgan", 2)
    assert isinstance(found, Contender)
    assert found.seconds(3) == [2.0] * 3
    assert found[:4] == ("torchgan", "0.1.0", "tf32", ("as it is",))


def test_every_driver_of_a_library_is_there() -> None:
    folder = Path(rivals.__file__).parent / "drivers"
    assert {rival.driver for rival in rivals.RIVALS} == {path.stem for path in folder.glob("*_driver.py")}


# The table


def test_quartiles_of_a_known_row_of_numbers() -> None:
    assert quartiles([5.0, 1.0, 4.0, 2.0, 3.0]) == (2.0, 3.0, 4.0)
    assert quartiles([1.0, 2.0]) == (1.25, 1.5, 1.75)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)
    with pytest.raises(ValueError, match="no value"):
        quartiles([])


def timed(who: str, seconds: float, precision: str = "fp32", what: str = "dcgan", threads: int = 1) -> Row:
    return {
        "section": "rounds",
        "what": what,
        "contender": who,
        "version": "1",
        "precision": precision,
        "threads": threads,
        "seconds": seconds,
        "quartiles": [seconds, seconds],
        "gflops": 30.0,
        "notes": [],
    }


def peak(precision: str, best: float, threads: int = 1, what: str = "matmul 2048") -> Row:
    return {
        "section": "roofline",
        "what": what,
        "precision": precision,
        "threads": threads,
        "best_gflops_per_second": best,
    }


ROWS = [
    peak("fp32", 90.0),
    peak("fp32", 100.0, what="convolution"),
    peak("fp32", 80.0),
    peak("bf16", 750.0),
    peak("fp32", 200.0, threads=2),
    timed("ganzoo", 0.40),
    timed("ganzoo", 0.15, "bf16"),
    timed("plain", 0.42),
    timed("pytorch/examples style", 0.50),
    timed("torchgan", 0.45),
    timed("vegans", 0.20, threads=2),
    timed("vegans", 0.10, what="wgan"),
]


def test_the_fastest_library_is_of_the_same_objective_and_threads_and_neither_ours_nor_plain() -> None:
    def who(objective: str, threads: int) -> str | None:
        row = fastest_library(ROWS, objective, threads)
        return None if row is None else str(row["contender"])

    assert who("dcgan", 1) == "torchgan"
    assert who("dcgan", 2) == "vegans"
    assert who("wgan", 1) == "vegans"
    assert who("ls-gan", 1) is None
    assert fastest_library([timed(f"ganzoo, {how}", 1.0) for how in ("compiled", "not captured")], "dcgan", 1) is None
    examples = [timed("pytorch/examples style", 0.3), timed("torchgan", 0.4), {**timed("vegans", 0.0), "skipped": "no"}]
    row = fastest_library(examples, "dcgan", 1)
    assert row is not None
    assert row["contender"] == "pytorch/examples style"


def test_the_peak_is_the_best_of_all_looks_and_works_of_one_precision_and_number_of_threads() -> None:
    found = {key: row["best_gflops_per_second"] for key, row in peaks(ROWS).items()}
    assert found == {(1, "fp32"): 100.0, (1, "bf16"): 750.0, (2, "fp32"): 200.0}
    assert peaks(ROWS)[1, "fp32"]["what"] == "convolution"


def test_ratios_and_shares_come_from_the_rows() -> None:
    ours32, ours16, plain = judged(ROWS)[:3]
    assert (ours32.of_library, ours32.of_plain) == (pytest.approx(0.45 / 0.40), pytest.approx(0.42 / 0.40))
    assert (ours16.of_library, ours16.of_plain) == (pytest.approx(3.0), pytest.approx(0.42 / 0.15))
    assert plain.of_plain == 1
    assert ours32.share == pytest.approx(30 / 0.40 / 100)
    assert ours16.share == pytest.approx(30 / 0.15 / 750)
    assert next(one for one in judged(ROWS) if one.row["threads"] == 2).share == pytest.approx(30 / 0.20 / 200)


def test_goals_are_judged_from_the_rows() -> None:
    ours32, ours16, plain = judged(ROWS)[:3]
    assert ours32.goals == ((">= 1.1x", True),)
    assert ours16.goals == ((">= 3x", True), (">= 35% of peak", False))
    assert plain.goals == ()


@pytest.mark.parametrize(("objective", "times"), [("dcgan", 3), ("wgan", 3), ("wgan-gp", 4), ("ls-gan", 4)])
def test_the_fastest_of_ours_is_to_be_so_many_times_the_fastest_library(objective: str, times: int) -> None:
    for seconds, met in ((1.0, True), (1.001, False)):
        rows = [
            timed("ganzoo", seconds, "bf16", objective),
            timed("ganzoo", 1.2, what=objective),
            timed("lib", times, what=objective),
        ]
        fast, slow = judged(rows)[:2]
        assert fast.goals == ((f">= {times}x", met), (">= 35% of peak", None))
        assert [goal for goal, _ in slow.goals] == [">= 1.1x"]


def test_fp32_is_judged_against_both_goals_where_nothing_of_ours_is_faster() -> None:
    (one, _) = judged([timed("ganzoo", 1.0), timed("lib", 2.0)])
    assert one.goals == ((">= 1.1x", True), (">= 3x", False))


def test_without_a_library_of_the_objective_nothing_is_met_and_the_table_says_so() -> None:
    rows = [timed("ganzoo", 1.0, what="ls-gan"), timed("plain", 9.0, what="ls-gan")]
    assert judged(rows)[0].of_library is None
    assert judged(rows)[0].goals == ((">= 1.1x", None), (">= 4x", None))
    assert "no library has it" in table(rows)


def test_an_objective_without_goals_is_shown_without() -> None:
    assert judged([timed("ganzoo", 1.0, what="gls-gan"), timed("lib", 9.0, what="gls-gan")])[0].goals == ()


def test_the_table_has_a_block_for_each_number_of_threads_and_a_line_for_each_row() -> None:
    text = table([*ROWS, {**timed("mimicry", 0.0), "skipped": "does not import: no tensorflow"}])
    one, two = text.partition("threads: 2")[::2]
    lines = [line for line in one.splitlines() if line.startswith(("dcgan", "wgan"))]
    assert len(lines) == 6
    assert lines[1].split()[:4] == ["dcgan", "ganzoo", "bf16", "150.0"]
    assert lines[1].endswith("met, not met")
    assert "3.00" in lines[1]
    assert "27%" in lines[1]
    assert "convolution" in one
    assert sum(line.startswith("dcgan") for line in two.splitlines()) == 1
    assert "peak: bf16 750 GFLOP/s (matmul 2048); fp32 100 GFLOP/s (convolution)" in one
    assert text.count("does not import: no tensorflow (dcgan)") == 1


def test_a_note_and_a_reason_are_said_once() -> None:
    rows: list[Row] = [{**timed("lib", 1.0, what=what), "notes": ["with a stand-in"]} for what in ("dcgan", "wgan")]
    rows += [{**timed("mute", 1.0, what=what), "skipped": "no"} for what in ("dcgan", "wgan")]
    assert table(rows).count("note: lib 1: with a stand-in (dcgan, wgan)") == 1
    assert "skipped: mute 1 fp32: no (dcgan, wgan)" in table(rows)


def test_columns_are_aligned_words_to_the_left_and_numbers_to_the_right() -> None:
    assert aligned([("who", "ms"), ("a", "1"), ("bcde", "23")]).splitlines() == [
        "who   ms",
        "--------",
        "a      1",
        "bcde  23",
    ]


# The command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--section", "rounds,speed"], "no 'speed'; there are: rounds, mre, cells, scale"),
        (["--objectives", "lsgan"], "no 'lsgan'; there are: dcgan, wgan, wgan-gp, ls-gan, gls-gan"),
        (["--rivals", "studiogan"], "no 'studiogan'; there are: torchgan, vegans, mimicry, none"),
        (["--threads", "1,0"], "'1,0': expected numbers of threads"),
        (["--threads", "many"], "'many': expected numbers of threads"),
        (["--device", "mps"], "no device 'mps'; there are: cpu, cuda, cuda:N"),
        (["--device", "cuda:999"], "'cuda:999': torch sees"),
    ],
)
def test_a_slip_is_one_line_that_says_what_there_is(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        speed.parsed(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_by_default_everything_is_measured_with_one_thread_and_with_two() -> None:
    options = speed.parsed([])
    assert options.section == ("rounds", "mre", "cells", "scale")
    assert (options.objectives, options.threads, options.quick) == (OBJECTIVES, (1, 2), False)
    assert options.rivals == ("torchgan", "vegans", "mimicry")
    assert speed.parsed(["--threads", "4,4,1"]).threads == (4, 1)
    assert speed.parsed(["--objectives", "wgan,wgan"]).objectives == ("wgan",)


def test_a_section_that_is_not_there_yet_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(speed.ELSEWHERE, "mre", "no_such_measure")
    assert speed.of_module("mre", speed.parsed(["--quick"])) == (
        [],
        "not measured: there is no no_such_measure.py beside speed.py",
    )


def test_a_section_that_fails_is_named_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "no_measure.py").write_text("def measure():\n    raise KeyError('nothing to measure')\n")
    (tmp_path / "plain_measure.py").write_text(
        "def measure(repeats=7):\n    return [{'seconds': 1.0}]\ndef table(rows):\n    return 'one row'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(speed.ELSEWHERE, "mre", "no_measure")
    monkeypatch.setitem(speed.ELSEWHERE, "cells", "plain_measure")
    assert speed.main(["--section", "mre,cells", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "== mre ==\n\nfailed: KeyError: 'nothing to measure'" in said.out
    assert "== cells ==\n\none row" in said.out
    assert "Traceback" in said.err
    (row,) = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert (row["section"], row["seconds"]) == ("cells", 1.0)


def test_every_row_says_where_it_comes_from_and_a_module_measures_its_own_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a_measure.py").write_text(
        "def measure(quick, device):\n"
        "    return [{'section': 'cells', 'what': f'{quick} {device}', 'seconds': 1.0}]\n"
        "def table(rows):\n"
        "    return f'{len(rows)} row of cells'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(speed.ELSEWHERE, "cells", "a_measure")
    asked: Row = {}

    def measure(**arguments: Any) -> list[Row]:
        asked.update(arguments)
        return [timed("ganzoo", 1.0), peak("fp32", 100.0)]

    monkeypatch.setattr(rounds, "measure", measure)
    out = tmp_path / "run"
    assert (
        speed.main(["--quick", "--compiled", "--section", "rounds,cells", "--rivals", "vegans,none", "--out", str(out)])
        == 0
    )
    assert asked["effort"] == rounds.effort(quick=True, device="cpu")
    assert asked["compiled"]
    assert [rival.name for rival in asked["rivals"]] == ["vegans"]
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert [row["section"] for row in rows] == ["rounds", "roofline", "cells"]
    assert rows[2]["what"] == "True cpu"
    for row in rows:
        assert {"machine", "processor", "versions", "commit", "device", "command", "started"} <= row.keys()
    text = (out / "table.txt").read_text()
    assert text == capsys.readouterr().out
    assert "left out: StudioGAN: not on the package index" in text
    assert "== cells ==\n\n1 row of cells" in text
    assert rows[0]["versions"]["torch"] in text
