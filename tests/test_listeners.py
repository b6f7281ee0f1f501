"""Who hears a run: each thing once, also after a resume; nothing that a listener does changes the run."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
import pytest
from commands import Command
from faults import within

import ganzoo
from ganzoo import Listener, Zoo, delivery
from ganzoo.bench import Run, prepare
from ganzoo.checks import Refuted, as_entry, replay, run_checks
from ganzoo.config import Plan
from ganzoo.delivery import asked_listeners, both, listening
from ganzoo.errors import UserError
from ganzoo.listening import nothing
from ganzoo.result import read_pictures

Call = tuple[str, str, Any]


class Keeping:
    """Keeps what it hears."""

    def __init__(self, fails: Callable[[str, Any], None] = nothing) -> None:
        self.calls: list[Call] = []
        self.fails = fails
        self.closed = 0

    def take(self, what: str) -> Callable[..., None]:
        def call(cell: dict[str, Any], given: Any) -> None:
            self.fails(what, given)
            self.calls.append((what, cell["name"], given))

        return call

    def end(self, rows: list[dict[str, Any]]) -> None:
        self.fails("finished", rows)
        self.calls.append(("finished", "", rows))

    def close(self) -> None:
        self.closed += 1

    @property
    def listener(self) -> Listener:
        return Listener(self.take("row"), self.take("point"), self.take("pictures"), self.end, self.close)

    def counts(self) -> dict[str, int]:
        return {what: sum(call[0] == what for call in self.calls) for what in ("row", "point", "pictures", "finished")}


@contextmanager
def heard(run: Run, *keeping: Keeping) -> Iterator[Any]:
    """A command's listening, of functions instead of plugins."""
    asked = []
    for number, one in enumerate(keeping):
        name = f"keeping-{number}"

        @ganzoo.listener(name=name)
        def made(folder: Path, one: Any = one) -> Listener:
            """Keeps what it hears."""
            return one.listener  # type: ignore[no-any-return]

        asked.append((as_entry(made), {}))
    prepared = prepare_again(run)
    with listening(asked, prepared, run.folder) as found:
        yield found


def prepare_again(run: Run) -> Any:
    from ganzoo.bench import Prepared

    return Prepared(run.plan, run.cells, run.data)


@pytest.fixture
def copy(finished: Run, tmp_path: Path, zoo: Zoo) -> Run:
    shutil.copytree(finished.folder, tmp_path / "run")
    return Run(tmp_path / "run", prepare(finished.plan, zoo))


WHOLE = {"row": 4, "point": 12, "pictures": 4, "finished": 1}


def test_a_run_tells_each_row_point_and_picture_once(tiny: Callable[..., Plan], zoo: Zoo, tmp_path: Path) -> None:
    run, one, two = (
        Run(tmp_path / "run", prepare(tiny(objectives=["dcgan", "gls-gan"], seeds=2), zoo)),
        Keeping(),
        Keeping(),
    )
    with run.held(), heard(run, one, two) as found:
        rows = run.train(2, found.tell)
        found.finished(rows)
    assert one.counts() == two.counts() == WHOLE
    told = {(name, given["label"], given["seed"]): given for what, name, given in one.calls if what == "row"}
    assert sorted(json.dumps(row, sort_keys=True) for row in told.values()) == sorted(
        json.dumps(row, sort_keys=True) for row in rows
    )
    for what, name, given in one.calls:
        if what == "pictures":
            wanted = read_pictures(run.folder / "cells" / name)
            assert all(np.array_equal(given[key], wanted[key]) for key in wanted)
    for name in {name for _, name, _ in one.calls if name}:  # points before the row, the row before its pictures
        order = [what for what, whose, _ in one.calls if whose == name]
        assert order == ["point"] * 3 + ["row", "pictures"]
    assert one.closed == 1


def test_after_a_resume_nothing_is_told_twice_and_nothing_is_left_out(copy: Run) -> None:
    for directory in sorted((copy.folder / "cells").iterdir())[2:]:
        for name in ("row.json", "verdict.json"):
            (directory / name).unlink()
    first, second, late = Keeping(), Keeping(), Keeping()
    with copy.held(), heard(copy, first):
        pass  # stopped before any work
    assert first.counts() == {"row": 2, "point": 12, "pictures": 2, "finished": 0}
    with copy.held(), heard(copy, second) as found:
        found.finished(copy.train(2, found.tell))
    assert second.counts() == {"row": 2, "point": 0, "pictures": 2, "finished": 1}
    with copy.held(), heard(copy, second) as found:
        found.finished(copy.train(2, found.tell))
    assert second.counts() == {"row": 2, "point": 0, "pictures": 2, "finished": 1}
    with copy.held(), heard(copy, Keeping(), late) as found:  # one that is added later hears everything
        found.finished(copy.train(2, found.tell))
    assert late.counts() == WHOLE


def test_a_torn_note_of_what_was_taken_repeats_one_message_and_no_more(copy: Run) -> None:
    one, again = Keeping(), Keeping()
    with heard(copy, one):
        pass
    seen = copy.folder / "listeners" / "keeping-0" / delivery.SEEN
    seen.write_bytes(seen.read_bytes()[:-5])
    with heard(copy, again):
        pass
    assert sum(again.counts().values()) == 1
    with heard(copy, Keeping()) as found:
        assert found.heard[0].seen == {tuple(message) for message in found.heard[0].seen}
    assert len(seen.read_bytes().splitlines()) == 20


@pytest.mark.parametrize("error", [ValueError("a \x1b[31m slip"), SystemExit(3), KeyboardInterrupt(), MemoryError()])
def test_what_a_listener_raises_is_told_once_and_its_message_comes_again(copy: Run, error: BaseException) -> None:
    def fails(what: str, given: Any) -> None:
        if what == "row":
            raise error

    bad, good = Keeping(fails), Keeping()
    with heard(copy, bad, good) as found:
        found.finished(copy.rows())
    assert bad.counts() == {**WHOLE, "row": 0}
    assert good.counts() == WHOLE
    (note,) = found.notes()
    assert note.startswith(f"listener 'keeping-0' failed (4 times in all): row: {type(error).__name__}")
    mended = Keeping()
    with heard(copy, mended):
        pass
    assert mended.counts() == {"row": 4, "point": 0, "pictures": 0, "finished": 0}


def test_a_slow_listener_holds_up_neither_the_run_nor_another_one(copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PATIENCE", 1.0)
    monkeypatch.setattr(delivery, "HURRIED", 0.2)
    gate = threading.Event()
    slow, quick = Keeping(lambda *_: gate.wait(60) and None), Keeping()
    with heard(copy, slow, quick) as found:
        began = time.monotonic()
        for cell, _ in found.cells.values():
            found.tell({**cell, "event": "point", "point": {"epoch": 9, "round": 99}})
        assert time.monotonic() - began < 30  # it is given nothing to wait for
        assert within(30, lambda: quick.counts()["point"] == 16)
    assert quick.counts()["point"] == 16
    notes = found.notes()
    gate.set()
    assert any("was given no more time: 24 messages are left; the same command delivers them" in note for note in notes)


def test_a_listener_cannot_change_what_others_or_the_run_see(copy: Run) -> None:
    def spoil(what: str, given: Any) -> None:
        if what == "row":
            given.clear()
        if what == "finished":
            given[0]["verdict"] = "spoilt"

    one, two = Keeping(spoil), Keeping()
    rows = copy.rows()
    before = json.dumps(rows)
    with heard(copy, one, two) as found:
        for row in rows:
            found.tell({**row, "event": "row", "row": row})
        found.finished(rows)
    assert json.dumps(rows) == before
    assert all(given for what, _, given in two.calls if what == "row")


def test_with_a_listener_the_cells_and_their_bits_are_those_without(copy: Run, finished: Run) -> None:
    with copy.held(), heard(copy, Keeping()) as found:
        copy.train(1, found.tell)
    ours = sorted(path.relative_to(copy.folder) for path in (copy.folder / "cells").glob("*/row.json"))
    assert ours == sorted(path.relative_to(finished.folder) for path in (finished.folder / "cells").glob("*/row.json"))
    for path in ours:
        assert (copy.folder / path).read_bytes() == (finished.folder / path).read_bytes()
    assert "listener" not in copy.plan.toml()


def test_whoever_draws_the_progress_keeps_nothing_from_a_listener() -> None:
    heard_: list[Any] = []

    def fails(event: Any) -> None:
        raise RuntimeError("no terminal")

    with pytest.raises(RuntimeError):
        both(fails, heard_.append)({"event": "row"})
    assert heard_ == [{"event": "row"}]


# Slips


def test_a_listener_is_asked_for_by_name_with_its_hyperparameters(zoo: Zoo) -> None:
    ((entry, given),) = asked_listeners(["tensorboard:images=4"], zoo)
    assert (entry.name, given) == ("tensorboard", {"images": 4})
    for asked, match in (
        (["tensorbord"], "no listener named 'tensorbord'; did you mean 'tensorboard'"),
        (["tensorboard:images"], "expected KEY=VALUE after the colon"),
        (["tensorboard:images=99"], "images = 99 is outside its domain"),
        (["tensorboard:pictures=9"], "has no hyperparameter 'pictures'"),
        (["tensorboard", "tensorboard:images=4"], "--listener tensorboard is asked for twice"),
    ):
        with pytest.raises(UserError, match=match):
            asked_listeners(asked, zoo)


def test_one_that_cannot_be_made_ends_the_command_before_any_work(copy: Run) -> None:
    @ganzoo.listener
    def no_listener(folder: Path) -> Any:
        """Returns a word."""
        return "hello"

    @ganzoo.listener
    def failing(folder: Path) -> Any:
        """Fails."""
        raise ConnectionError("no server")

    for function, match in (
        (no_listener, "listener 'no-listener' returned str; it should return a ganzoo.Listener"),
        (failing, "listener 'failing' fails: ConnectionError: no server"),
    ):
        with (
            pytest.raises(UserError, match=match),
            listening([(as_entry(function), {})], prepare_again(copy), copy.folder),
        ):
            pytest.fail("it began")


# The contract's checks

BAD = {
    "listener-1": "return 3",
    "listener-2": "return ganzoo.Listener(point=lambda cell, point: float(point['critic_loss']))",
    "listener-3": "(folder / 'once').mkdir(); return ganzoo.Listener()",
    "listener-4": "return ganzoo.Listener(row=lambda cell, row: print(row['verdict']))",
    "listener-5": "open('log.txt', 'w').close(); return ganzoo.Listener()",
}


@pytest.mark.parametrize("check", BAD)
def test_each_check_refuses_what_breaks_it_and_it_alone(
    check: str, tmp_path: Path, plugin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # one of them writes where it is
    text = f"@ganzoo.listener\ndef bad(folder: Path) -> ganzoo.Listener:\n    '''Breaks {check}.'''\n    {BAD[check]}\n"
    path = plugin(indent(text, "    "))
    entry = Zoo.installed(path).find("listener", "bad")
    report = run_checks(entry)
    failed = {result.check_id for result in report.results if result.verdict == "fail"}
    assert check in failed
    if check not in ("listener-1", "listener-2"):  # whoever cannot be called cannot be called twice
        assert failed == {check}
    with pytest.raises(Refuted):
        replay(check, entry)


def test_the_installed_listener_keeps_the_contract(zoo: Zoo) -> None:
    report = run_checks(zoo.find("listener", "tensorboard"), zoo)
    assert report.passed
    assert all(result.verdict == "pass" for result in report.results), report.text()


# TensorBoard


def test_tensorboard_holds_the_curves_the_figures_and_the_pictures(copy: Run, zoo: Zoo) -> None:
    asked = asked_listeners(["tensorboard:images=3"], zoo)
    for _ in range(2):  # the second command has nothing to add
        with listening(asked, prepare_again(copy), copy.folder) as found:
            found.finished(copy.rows())
        assert found.notes() == []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for row in copy.rows():
        (folder,) = (copy.folder / "listeners" / "tensorboard").glob(f"{row['label']}-seed{row['seed']}-*")
        events = EventAccumulator(str(folder))
        events.Reload()
        curve = [(one.step, one.value) for one in events.Scalars("curve/validation_mre")]
        assert curve == [(p["epoch"], pytest.approx(p["validation_mre"])) for p in row["curve"]]
        assert [one.step for one in events.Scalars("curve/critic_loss")] == [1, 2]
        (figure,) = events.Scalars("result/test_mre")
        assert figure.value == pytest.approx(row["test_mre"])
        assert {"samples", "originals", "reconstructions"} == set(events.Tags()["images"])


def test_without_tensorboard_it_says_what_to_install(copy: Run, zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(UserError, match=r"pip install 'ganzoo\[tensorboard\]'"),
        listening(asked_listeners(["tensorboard"], zoo), prepare_again(copy), copy.folder),
    ):
        pytest.fail("it began")


def test_the_command_takes_a_listener_and_its_json_stays_whole(
    tmp_path: Path, tiny_arguments: list[str], plugin: Callable[..., Path], ganzoo: Command
) -> None:
    text = (
        "@ganzoo.listener\n"
        "def loud(folder: Path) -> ganzoo.Listener:\n"
        "    '''Prints, and then fails.'''\n"
        "    def row(cell, row):\n"
        "        print('heard', row['verdict'])\n"
        "        (folder / cell['name']).touch()\n"
        "        raise ValueError('a slip')\n"
        "    return ganzoo.Listener(row=row)\n"
    )
    path = plugin(indent(text, "    "))
    words = ["bench", "-o", "dcgan", *tiny_arguments, "-p", str(path), "--listener", "loud", "--out", "run", "--json"]
    ran = subprocess.run(
        [sys.executable, "-m", "ganzoo.cli", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["standings"][0]["verdicts"] == ["done"]
    assert "heard done" in ran.stderr
    assert "listener 'loud' failed: row: ValueError: a slip; the run is as it would be without it" in ran.stderr
    assert len(list((tmp_path / "run" / "listeners" / "loud").glob("dcgan-*"))) == 1
    again = ganzoo(*words[:-3], "--out", str(tmp_path / "run"))
    assert again.out.splitlines()[-1] == f"listener  {tmp_path / 'run' / 'listeners' / 'loud'}"
