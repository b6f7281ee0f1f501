"""`ganzoo check`: its table of ids, expected failures, the three forms of a report, and whatever is typed."""

import gc
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command
from hypothesis.configuration import storage_directory
from torch import Tensor
from torch.nn.functional import softplus

import ganzoo as zoo_package
from ganzoo.checks import TABLE, Report, Result, Subject, as_entry, exhaustive, require_expected, run_checks, sweeps
from ganzoo.checks.about import CURES, SOURCES
from ganzoo.checks.counterexample import Refuted
from ganzoo.checks.exhaustive import FINITE, Tally, Violations, pattern_of
from ganzoo.checks.page import BEGIN, END, page, renewed
from ganzoo.checks.patience import at_most
from ganzoo.checks.report import SCHEMA, escaped
from ganzoo.checks.table import Check
from ganzoo.errors import UserError
from ganzoo.testing import checks_of
from ganzoo.zoo import Entry

ROOT = Path(__file__).parents[1]
PINNED: dict[str, list[str]] = json.loads((ROOT / "tests" / "check_ids.json").read_text())


@pytest.fixture
def ganzoo(ganzoo: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """With an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return ganzoo


def swept(**violations: Violations) -> Callable[..., Tally]:
    """What stands in for two minutes of a sweep."""
    names = {"wrong": "(I) wrong", "nan": "hides NaN"}
    found = {names[name]: number for name, number in violations.items()}
    return lambda *_, **__: Tally(FINITE, 2 * (2**23 - 1), FINITE - 2, found)


# The table


def test_no_id_changes_its_meaning() -> None:
    """A check that is reworded is reworded here too, on purpose; one that tests something else takes a new id."""
    now = {check.id: [check.level, check.title] for check in TABLE}
    assert {check_id: now.get(check_id) for check_id in PINNED} == PINNED


def test_every_check_is_pinned() -> None:
    new = sorted({check.id for check in TABLE} - set(PINNED))
    assert new == [], "add the new checks to tests/check_ids.json: from then on their ids are theirs"


def test_an_id_is_of_one_check_and_names_its_kind() -> None:
    assert len({check.id for check in TABLE}) == len(TABLE)
    assert all(check.id.rpartition("-")[0] == check.kind for check in TABLE)


def test_every_check_has_a_source_and_every_cure_a_check() -> None:
    ids = {check.id for check in TABLE}
    assert set(SOURCES) == ids, "each check says in ganzoo/checks/about.py what it rests on"
    assert set(CURES) <= ids
    questions = {check.id for check in TABLE if check.informs}
    assert not questions & set(CURES)


def test_the_page_has_the_table_as_it_is() -> None:
    text = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    assert text == renewed(text), "python -m ganzoo.checks.page docs/checks.md"
    for check in TABLE:
        assert f"| `{check.id}` | {check.level}" in text


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(UserError, match="no table to renew"):
        renewed("# mine\n")
    assert renewed(f"a\n{BEGIN}\nold\n{END}\nb") == f"a\n{BEGIN}\n\n{page()}\n\n{END}\nb"


# Expected failures


def soft(a: Tensor) -> Tensor:
    return softplus(a)


ON_PURPOSE = "smooth on purpose: above a by at most log 2"
SOFT = {"cost-2": ON_PURPOSE, "cost-3": ON_PURPOSE, "cost-4": ON_PURPOSE, "cost-10": ON_PURPOSE}


def test_a_failure_that_is_declared_does_not_refuse_and_says_why() -> None:
    report = run_checks(as_entry(zoo_package.cost(expected_failures=SOFT)(soft)), examples=1)
    assert report.passed
    results = {r.check_id: r for r in report.results}
    assert {r.check_id for r in report.results if r.verdict == "expected"} == set(SOFT)
    assert results["cost-2"].reason == ON_PURPOSE
    assert results["cost-2"].counterexample
    assert f"as expected: {ON_PURPOSE}" in report.text()
    assert "xfail  cost-2" in report.text()
    assert "4 failed as expected, 0 failed" in report.text()
    assert f"fails as expected: {escaped(ON_PURPOSE)}" in report.markdown()


def test_without_the_declaration_it_is_refused() -> None:
    report = run_checks(as_entry(zoo_package.cost(soft)), examples=1)
    assert {r.check_id for r in report.failures} == set(SOFT)
    assert not report.passed


@pytest.mark.parametrize("check_id", ["cost-1", "cost-13"])
def test_one_that_passes_is_a_failure_even_of_a_recommendation(check_id: str) -> None:
    report = run_checks(as_entry(zoo_package.cost(expected_failures={check_id: "an old reason"})(relu)), examples=1)
    assert not report.passed
    (failure,) = report.failures
    assert failure.check_id == check_id
    assert "was expected to fail and passes" in failure.message
    assert "an old reason" in failure.message
    assert f"FAIL   {check_id}" in report.text()


def relu(a: Tensor) -> Tensor:
    return a.relu()


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"cost-99": "why"}, r"names 'cost-99', no check of a cost; did you mean 'cost-9'\? there are: cost-1"),
        ({"margin-1": "why"}, "names 'margin-1', no check of a cost"),
        ({"cost-14": "why"}, "names 'cost-14', no check of a cost"),
        ({"cost-2": " "}, "gives no reason for 'cost-2'"),
        ({"cost-2": None}, "gives no reason for 'cost-2'"),
        (["cost-2"], r"should be \{'cost-2': 'the reason'\}, not \['cost-2'\]"),
    ],
)
def test_a_declaration_that_is_none_is_a_slip(declared: Any, words: str) -> None:
    entry = as_entry(zoo_package.cost(expected_failures=declared)(relu))
    with pytest.raises(UserError, match=words):
        run_checks(entry, examples=1)
    with pytest.raises(UserError, match=words):
        [*checks_of([entry])]


def test_a_check_of_every_float_may_be_expected_to_fail_and_is_not_held_to_it_when_it_does_not_run() -> None:
    function = zoo_package.cost(expected_failures={"cost-18": "below a at one value"})(relu)
    require_expected(as_entry(function))
    assert run_checks(as_entry(function), examples=1).passed
    report = run_checks(as_entry(function), examples=1, every_float=swept(wrong=Violations(3, pattern_of(-2.0))))
    assert {r.check_id for r in report.results if r.verdict == "expected"} == {"cost-18"}
    assert not run_checks(as_entry(function), examples=1, every_float=swept()).passed


def test_in_pytest_it_is_an_xfail_and_a_false_one_fails() -> None:
    checks = {check.check.id: check for check in checks_of([zoo_package.cost(expected_failures=SOFT)(soft)])}
    with pytest.raises(pytest.xfail.Exception, match=re.escape(ON_PURPOSE)):
        checks["cost-2"]()
    false = {c.check.id: c for c in checks_of([zoo_package.cost(expected_failures={"cost-13": "old"})(relu)])}
    with pytest.raises(AssertionError, match="was expected to fail and passes"):
        false["cost-13"]()
    assert not {check.id for check in TABLE if check.informs or check.every_float} & set(checks)


def test_a_name_can_be_given_beside_it() -> None:
    function = zoo_package.cost(name="of-mine", expected_failures=SOFT)(soft)
    assert as_entry(function).name == "of-mine"
    assert as_entry(zoo_package.cost(name="bare")(relu)).name == "bare"


# The report


def test_json_has_a_schema_and_text_markdown_and_json_tell_the_same(ganzoo: Command) -> None:
    (read,) = json.loads(ganzoo("check", "relu", "--json").out)
    assert read["schema"] == SCHEMA == 2
    assert json.loads(ganzoo("check", "relu", "--format", "json").out) == [read]
    text, markdown = ganzoo("check", "relu").out, ganzoo("check", "relu", "--format", "md").out
    for result in read["results"]:
        assert f"| {escaped(result['check_id'])} | {result['level']} |" in markdown
        if result["verdict"] != "skip":
            assert result["check_id"] in text
            assert result["title"] in text
            for line in result["message"].split("\n"):
                assert line in text
    assert "not run: cost-18 to cost-25, only with --exhaustive" in text
    assert [line.strip() for line in text.splitlines() if line.strip() in ("required", "recommended", "information")]
    assert set(read["results"][0]) >= {"level", "cure", "holds", "reason", "reproduce", "counterexample"}


def test_a_failure_comes_with_counterexample_cure_and_lines_that_fail(ganzoo: Command, tmp_path: Path) -> None:
    path = tmp_path / "half.py"
    path.write_text(
        "import ganzoo\nfrom torch import Tensor\n\n@ganzoo.cost\ndef half(a: Tensor) -> Tensor:\n    return a / 2\n"
    )
    said = ganzoo("check", str(path))
    assert said.status == 1
    assert "FAIL   cost-2" in said.out
    assert "counterexample: a = 1.0, C = 0.5" in said.out
    assert "cure: write torch.where(a >= 0, a, ...)" in said.out
    lines = said.out.split("to see it:\n")[1].splitlines()[:3]
    with pytest.raises(AssertionError):
        exec(textwrap.dedent("\n".join(lines)), {})


@pytest.mark.parametrize("asked", [".", "/", "mine"])
def test_of_a_folder_is_checked_what_lies_in_it_and_nothing_that_is_installed(
    asked: str, ganzoo: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine").mkdir()
    bad(Path("mine") if asked == "mine" else Path(), "sound")
    monkeypatch.setattr("ganzoo.checks.run_checks", lambda entry, *_, **__: Report(entry.kind, entry.name, []))
    said = ganzoo("check", asked, "--json")
    if asked == "/":
        assert (said.status, said.out) == (2, "")
        assert "no plugin in /" in said.err
    else:
        assert [report["name"] for report in json.loads(said.out)] == ["sound"]


def test_ctrl_c_in_a_check_that_keeps_nothing_promises_nothing(
    ganzoo: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr("ganzoo.checks.run_checks", stopped)
    assert ganzoo("check", "leaky") == (130, "", "ganzoo: interrupted\n")


def test_an_engine_is_checked_without_a_word_of_the_worker_that_is_refused(ganzoo: Command) -> None:
    said = ganzoo("check", "local")
    assert (said.status, said.err) == (0, "")


@pytest.mark.parametrize("arguments", [("check", "leaky"), ("new", "cost", "mine", "--package")])
def test_what_hypothesis_keeps_is_not_left_in_the_folder_where_it_is_typed(
    arguments: tuple[str, ...], ganzoo: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HYPOTHESIS_STORAGE_DIRECTORY", raising=False)
    before, places = storage_directory("constants").path, []

    def run(entry: Entry, *_: Any, **__: Any) -> Report:
        places.append(storage_directory("constants").path)
        return Report(entry.kind, entry.name, [])

    monkeypatch.setattr("ganzoo.checks.run_checks", run)
    assert ganzoo(*arguments).status == 0
    assert places == [tmp_path / "cache" / "ganzoo" / "hypothesis" / "constants"]
    assert storage_directory("constants").path == before


def test_a_readme_takes_nothing_of_a_plugin_for_markup() -> None:
    hostile = "<script>alert(1)</script> | `x` [y](z) \x1b[31m *b* $m$ ![i](u)\nsecond"
    result = Result("cost-1", "cost", hostile, hostile, True, "fail", message=hostile, reason=hostile)
    text = Report("cost", hostile, [result]).markdown()
    assert "<script" not in text
    assert "\x1b" not in text
    row = text.splitlines()[-1]
    assert len(re.findall(r"(?<!\\)\|", row)) == 5
    assert not re.search(r"(?<!\\)[`\[$]", row)


def test_a_row_is_one_line_however_long_the_message() -> None:
    result = Result("cost-1", "cost", "x", "t", True, "fail", message="line\n" * 100_000)
    text = Report("cost", "x", [result]).markdown()
    assert len(text.splitlines()) == 5
    assert len(text) < 5000


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_lines_fit_the_terminal_but_for_those_to_copy(columns: int) -> None:
    report = run_checks(as_entry(zoo_package.cost(soft)), examples=1)
    for line in report.text(columns).splitlines():
        longest = max(map(len, line.split()), default=0)
        assert len(line) <= max(columns, longest + 24) or "ganzoo" in line or "torch" in line
    words = " ".join(report.text(columns).split())
    assert "not run: cost-18 to cost-25" in words


def test_what_a_plugin_prints_is_not_part_of_the_document(ganzoo: Command, tmp_path: Path) -> None:
    path = tmp_path / "noisy.py"
    path.write_text("import ganzoo\n\n@ganzoo.cost\ndef noisy(a):\n    print('<b>noise</b>')\n    return a.relu()\n")
    said = ganzoo("check", str(path), "--json")
    (read,) = json.loads(said.out)
    assert [r["check_id"] for r in read["results"] if r["verdict"] == "fail"] == ["cost-12"]
    assert said.status == 1


def test_what_a_plugin_prints_in_a_sweep_is_not_either(capsys: pytest.CaptureFixture[str]) -> None:
    def noisy(*_: Any) -> Tally:
        print("noise")
        return Tally(FINITE)

    run_checks(as_entry(zoo_package.cost(relu)), examples=1, every_float=noisy)
    assert capsys.readouterr().out == ""


# Bad plugins


BAD = {
    "raises": "    raise RuntimeError('mine')\n",
    "hangs": "    while True: pass\n",
    "exits": "    raise SystemExit(3)\n",
    "half": "    return a.relu().float() if a.dtype == torch.bfloat16 else a.relu()\n",
    "none": "    return None\n",
}


def bad(tmp_path: Path, name: str, docstring: str = "") -> Path:
    path = tmp_path / f"{name}.py"
    path.write_text(
        f"import ganzoo, torch\n\n@ganzoo.cost\ndef {name}(a):\n    {docstring!r}\n"
        f"{BAD.get(name, '    return a.relu()')}"
    )
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", "raised RuntimeError: mine"),
        ("exits", "raised SystemExit: 3"),
        ("half", "C of torch.bfloat16 is torch.float32"),
        ("none", "is NoneType"),
    ],
)
def test_a_bad_plugin_is_a_failure_and_no_traceback(ganzoo: Command, tmp_path: Path, name: str, words: str) -> None:
    said = ganzoo("check", str(bad(tmp_path, name)))
    assert said.status == 1
    assert words in said.out
    assert "Traceback" not in said.out + said.err


def test_a_plugin_that_hangs_is_ended(ganzoo: Command, tmp_path: Path) -> None:
    said = ganzoo("check", str(bad(tmp_path, "hangs")), "--patience", "0.1")
    assert said.status == 1
    assert "no answer within 0.1 s: it hangs, or is very slow" in said.out


def test_patience_leaves_the_alarm_as_it_was() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with at_most(10):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert signal.getsignal(signal.SIGALRM) is before


def test_patience_that_ends_while_garbage_is_collected_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    met = []

    def collected(phase: str, info: dict[str, int]) -> None:
        if not met:  # where Hypothesis has a callback, too: what a callback raises is lost
            met.append(phase)
            time.sleep(60)

    def hangs() -> None:
        gc.collect(0)
        time.sleep(60)
        met.append("never")

    monkeypatch.setattr(sys, "unraisablehook", lambda lost: None)
    gc.callbacks.append(collected)
    try:
        with pytest.raises(Refuted, match=r"no answer within 0\.1 s"), at_most(0.1):
            hangs()
    finally:
        gc.callbacks.remove(collected)
    assert met == ["start"]


def test_a_megabyte_of_docstring_changes_nothing(ganzoo: Command, tmp_path: Path) -> None:
    said = ganzoo("check", str(bad(tmp_path, "sound", "x" * 1_000_000)), "--format", "md")
    assert said.status == 0
    assert len(said.out) < 20_000


# What is typed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lp", "--exhaustive"], ["--exhaustive is for costs", "margin 'lp'", "ganzoo check without it"]),
        (["leaky", "--device", "cuda"], ["torch sees no CUDA device here; take --device cpu"]),
        (["leaky", "--device", "gpu"], ["no device named 'gpu'; there are: cpu, cuda, cuda:N"]),
        (["leaky", "--device", "meta"], ["ganzoo does not run on 'meta'"]),
        (["leaky", "--json", "--format", "md"], ["two documents"]),
        (["leaky", "--format", "html"], ["html"]),
        (["leaky", "--fresh"], ["--fresh is for --exhaustive"]),
        (["leaky", "--patience", "0"], ["--patience"]),
        (["leaky:slope=2"], ["slope = 2", "<= 1"]),
        (["leaky:slop=0.2"], ["no hyperparameter 'slop'; did you mean 'slope'?"]),
        (["leaky:"], ["expected KEY=VALUE after the colon"]),
        (["leaky:slope"], ["expected KEY=VALUE after the colon, not 'slope'"]),
        (["leaky:slope="], ["slope has no value"]),
        (["leaky:slope=0.1,slope=0.2"], ["slope is given twice"]),
        (["leeky:slope=0.2"], ["did you mean 'leaky'?"]),
        (["empty.py"], ["supplies nothing"]),
        (["empty-folder"], ["no plugin in empty-folder"]),
    ],
)
def test_each_slip_is_one_line(ganzoo: Command, arguments: list[str], words: list[str]) -> None:
    if torch.cuda.is_available() and "cuda" in arguments:
        pytest.skip("there is a GPU here")
    Path("empty.py").write_text("x = 1\n")
    Path("empty-folder").mkdir()
    said = ganzoo("check", *arguments)
    assert said.status == 2
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    for word in words:
        assert word in said.err


def test_settings_that_are_given_are_checked_beside_the_defaults() -> None:
    seen = []

    def law(subject: Subject, settings: dict[str, Any]) -> None:
        seen.append(settings["slope"])

    entry = zoo_package.Zoo.installed().find("cost", "leaky")
    Check("cost-0", "cost", "t", True, law, drawn=False).run(Subject(entry, given=({"slope": 0.2}, {"slope": 0.5})))
    assert seen == [0.2, 0.5, 0.01]


def test_the_name_may_carry_settings(ganzoo: Command) -> None:
    (read,) = json.loads(ganzoo("check", "leaky:slope=0.2,-2", "--json").out)
    told = {r["check_id"]: r for r in read["results"]}
    assert told["cost-14"]["message"].count("\n") == 2
    assert told["cost-15"]["counterexample"]["hyperparameters"] == {"slope": -2.0}


# Every float, by the command


def test_exhaustive_says_proved_at_each_setting_and_fails_with_its_counterexample(
    ganzoo: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganzoo.checks.sweeps.every_float", swept())
    said = ganzoo("check", "leaky:slope=0.2", "--exhaustive")
    assert said.status == 0
    for slope in ("0.01", "0.2"):
        assert f"at slope = {slope}: proved for every finite float32 (4,278,190,080 values)" in said.out
    assert "not run" not in said.out
    monkeypatch.setattr("ganzoo.checks.sweeps.every_float", swept(wrong=Violations(7, pattern_of(-2.0))))
    said = ganzoo("check", "relu", "--exhaustive", "--json")
    assert said.status == 1
    failed = {r["check_id"]: r for r in json.loads(said.out)[0]["results"] if r["verdict"] == "fail"}
    assert set(failed) == {"cost-18"}
    assert failed["cost-18"]["counterexample"]["a"] == -2.0
    assert failed["cost-18"]["reproduce"].count("\n") == 2


def test_a_cost_whose_value_depends_on_its_batch_is_not_swept() -> None:
    def never(*_: Any) -> Tally:
        raise AssertionError("swept")

    report = run_checks(
        as_entry(zoo_package.cost(name="m")(lambda a: a.relu() + 0 * a.mean() + (len(a) > 3))),
        examples=1,
        every_float=never,
    )
    skipped = {r.check_id: r.message for r in report.results if r.verdict == "skip"}
    assert skipped["cost-18"].startswith("cost-6 fails: what such a cost gives in one batch proves nothing of another")
    assert not report.passed


PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background is deaf to it
from ganzoo.checks import exhaustive, sweeps
exhaustive.PIECE["cpu"] = 2**14
sweeps.SAVE_SECONDS = 0.0
from ganzoo.cli import main
main()
"""


def test_ctrl_c_ends_with_130_and_the_command_that_goes_on(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, "check", "relu", "--exhaustive", "--fresh"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 100
        while not [*tmp_path.rglob("relu-*.json")] and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == (
        "ganzoo: interrupted; what is evaluated is kept; go on with: ganzoo check relu --exhaustive"
    )
    assert "Traceback" not in err
    (kept,) = tmp_path.rglob("relu-*.json")
    done = json.loads(kept.read_text())["tally"]["finite"]
    assert 0 < done < FINITE
    assert "\r" not in err
    assert "\x1b" not in err


IN_A_COLLECTION = """
import gc, os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background is deaf to it

def collected(phase, info):
    if phase == "start":
        for _ in range(int(os.environ["TIMES"])):
            signal.raise_signal(signal.SIGINT)

from ganzoo.checks import exhaustive, sweeps
exhaustive.PIECE["cpu"] = 2**14
sweep = sweeps.swept

def swept(*args):
    for i, found in enumerate(sweep(*args)):
        if i == 3:
            gc.callbacks.append(collected)
            gc.collect(0)
        yield found

sweeps.swept = swept
from ganzoo.cli import main
main()
"""
"""Ctrl-C while garbage is collected, where Hypothesis has a callback, too: what a callback raises is lost."""


@pytest.mark.parametrize(
    ("times", "ends"),
    [
        (1, "ganzoo: interrupted; what is evaluated is kept; go on with: ganzoo check relu --exhaustive"),
        (2, "ganzoo: stopped; resume with: ganzoo check relu --exhaustive"),
    ],
)
def test_a_ctrl_c_is_heard_while_garbage_is_collected_and_a_second_ends_at_once(
    times: int, ends: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "TIMES": str(times)}
    command = [sys.executable, "-c", IN_A_COLLECTION, "check", "relu", "--exhaustive"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 130, done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stderr.splitlines()[-1] == ends


def test_plain_lines_tell_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    from ganzoo.checks.bar import following
    from ganzoo.checks.sweeps import News

    entry = zoo_package.Zoo.installed().find("cost", "leaky")
    with following() as tell:
        tell(News(entry, {"slope": 0.2}, 2**30, 2**32, 12.0, notes=("a note\x1b[31m",)))
        tell(News(entry, {"slope": 0.2}, 2**31, 2**32, 24.0))
        tell(News(entry, {"slope": 0.2}, 2**32, 2**32, 48.0))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "a note?[31m",
        "cost leaky at slope = 0.2: 25 % of 2^32 float32 values, 12 s, about 36 s left",
        "cost leaky at slope = 0.2: 100 % of 2^32 float32 values, 48 s",
    ]


def test_every_float_runs_what_it_says_on_a_stretch(ganzoo: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exhaustive, "EVERY", range(2**20))
    monkeypatch.setattr("ganzoo.checks.sweeps.every_float.__kwdefaults__", {
        **sweeps.every_float.__kwdefaults__, "patterns": range(2**31, 2**31 + 2**20),
    })  # fmt: skip
    said = ganzoo("check", "relu", "--exhaustive")
    assert said.status == 0
    assert "holds for 1,048,576 float32 values" in said.out
    assert "proved for every finite float32" not in said.out
    assert "cost relu: 100 % of 2^32" in said.err
