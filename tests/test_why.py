"""`ganzoo why`: where a plugin comes from, who else claims its name, what is wrong with it."""

import hashlib
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from announcing import COST, HEAD, announce

from ganzoo import UserError, Zoo
from ganzoo.zoo.announced import VARIABLE
from ganzoo.zoo.why import Account, given_files, why

Said = tuple[int, str, str]


@pytest.fixture(autouse=True)
def all_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on sys.path with five distributions: a sound one, three broken ones, two of one name."""
    imported = set(sys.modules)
    place = tmp_path / "site"
    announce(place, "fine", COST.format(name="fine_cost"), entry_points="fine-point = fine")
    announce(place, "bad", "import os\n\nimport nowhere_zz\n")
    announce(place, "half", HEAD + "@ganzoo.cost\ndef half(b): return b\n@ganzoo.cost\ndef other(a): return a\n")
    announce(place, "Twin.One", "", entry_points="one = twin_one")
    announce(place, "Twin.Two", "", entry_points="two = twin_two")
    for name in ("twin_one", "twin_two"):
        (place / f"{name}.py").write_text("\n" + COST.format(name="twin"))
    monkeypatch.syspath_prepend(place)
    importlib.invalidate_caches()
    yield place
    for name in set(sys.modules) - imported:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """command("leaky", "--json") -> exit status, standard output and error of `ganzoo why leaky --json`."""
    from ganzoo.cli import main

    def called(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["ganzoo", "why", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return called


def sha256(path: Path) -> str:
    return hashlib.sha256(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest()).hexdigest()


def one(asked: str) -> Account:
    (account,) = why(Zoo.installed(), asked)
    return account


@pytest.mark.parametrize("asked", ["fine-cost", "cost/fine-cost", "fine", "fine-point", "Fine_Point", "fine 1.0"])
def test_a_sound_plugin_is_found_by_each_of_its_names(asked: str, site: Path) -> None:
    account = one(asked)
    assert (account.what, account.state, account.reason, account.traceback) == ("cost 'fine-cost'", "works", "", "")
    origin = account.origin
    assert (origin.distribution, origin.version, origin.entry_point, origin.plugin) == (
        "fine",
        "1.0",
        "fine-point",
        "fine",
    )
    assert account.source == f"{site / 'fine.py'}:4"
    assert account.sha256 == sha256(site / "fine.py") == Zoo.installed().find("cost", "fine-cost").source_sha256
    assert account.also == ()


def test_a_name_of_several_kinds_is_told_of_each() -> None:
    assert [account.what for account in why(Zoo.installed(), "dcgan")][:3] == [
        "objective 'dcgan'",
        "generator 'dcgan'",
        "critic 'dcgan'",
    ]
    assert one("generator/dcgan").what == "generator 'dcgan'"


@pytest.mark.parametrize("asked", ["bad", "bad 1.0"])
def test_a_broken_plugin_is_told_with_its_reason_file_and_whole_traceback(asked: str, site: Path) -> None:
    account = one(asked)
    assert (account.what, account.state) == ("bad 1.0 (bad)", "broken")
    assert account.reason == "ModuleNotFoundError: No module named 'nowhere_zz' (line 3 of bad.py)"
    assert account.source == str(site / "bad.py")
    assert account.sha256 == sha256(site / "bad.py")
    assert account.traceback.startswith("Traceback (most recent call last):\n")
    assert f'File "{site / "bad.py"}", line 3, in <module>' in account.traceback
    assert account.traceback.rstrip().endswith("ModuleNotFoundError: No module named 'nowhere_zz'")


def test_of_a_plugin_that_works_in_part_both_parts_are_told(site: Path) -> None:
    sound, wrong = why(Zoo.installed(), "half")
    assert (sound.what, sound.state, sound.source) == ("cost 'other'", "works", f"{site / 'half.py'}:6")
    assert (wrong.what, wrong.state, wrong.source) == ("cost 'half'", "broken", f"{site / 'half.py'}:4")
    assert "'b' has no default and the harness does not give it" in wrong.reason
    assert one("cost/half") == wrong
    assert one("other") == sound


@pytest.mark.parametrize("asked", ["twin", "cost/twin"])
def test_of_two_that_claim_a_name_each_is_told_with_the_other(asked: str, site: Path) -> None:
    accounts = why(Zoo.installed(), asked)
    assert [(a.state, a.source, a.also) for a in accounts] == [
        ("broken", f"{site / 'twin_one.py'}:5", ("twin-two 1.0 (twin_two)",)),
        ("broken", f"{site / 'twin_two.py'}:5", ("twin-one 1.0 (twin_one)",)),
    ]
    assert why(Zoo.installed(), "two") == why(Zoo.installed(), "twin_two") == accounts[1:]
    assert why(Zoo.installed(), "TWIN.two") == accounts[1:]


def test_a_claim_on_a_name_of_ours_is_told_with_ours_and_ours_with_it(site: Path) -> None:
    announce(site, "thief", COST.format(name="leaky"))
    importlib.invalidate_caches()
    ours, thief = why(Zoo.installed(), "cost/leaky")
    assert (ours.state, ours.also) == ("works", ("thief 1.0 (thief)",))
    assert (thief.state, thief.origin.distribution) == ("broken", "thief")
    assert thief.also == (str(ours.origin),)


def test_a_broken_entry_points_file_is_told_of(site: Path) -> None:
    announce(site, "torn", "", entry_points="nothing to see")
    importlib.invalidate_caches()
    account = one("torn")
    assert account.state == "broken"
    assert "entry_points.txt" in account.what
    assert account.traceback


def test_a_file_or_a_folder_is_told_of_broken_or_not(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "good.py").write_text(COST.format(name="good"))
    (folder / "bad.py").write_text("1 / 0\n")
    for asked, expected in (
        (folder, ["works", "broken"]),
        (folder / "good.py", ["works"]),
        (folder / "bad.py", ["broken"]),
    ):
        zoo = Zoo()
        given_files(zoo, asked)
        accounts = why(zoo, str(asked))
        assert [account.state for account in accounts] == expected
    assert accounts[0].reason == "ZeroDivisionError: division by zero (line 1 of bad.py)"
    assert f'File "{folder / "bad.py"}", line 1' in accounts[0].traceback
    assert accounts[0].sha256 == sha256(folder / "bad.py")
    with pytest.raises(UserError, match=r"^no plugin file at .*absent\.py$"):
        given_files(Zoo(), folder / "absent.py")


def test_what_is_left_out_by_the_limit_is_said_so(monkeypatch: pytest.MonkeyPatch, site: Path) -> None:
    monkeypatch.setenv(VARIABLE, "ganzoo,half")
    account = one("bad")
    assert (account.state, account.reason) == ("left out", "GANZOO_PLUGINS lets in ganzoo, half")
    assert account.source == str(site / "bad.py")
    monkeypatch.setenv(VARIABLE, "")
    assert one("fine-point").reason == "GANZOO_PLUGINS lets in nothing that is installed"
    assert {a.state for a in why(Zoo.installed(), "ganzoo")} == {"left out"}


def test_an_unknown_name_is_told_the_nearest_and_what_one_may_ask_for(site: Path) -> None:
    with pytest.raises(
        UserError, match=r"^nothing is named 'fine-cots'; did you mean 'fine-cost'\? there are: "
    ) as raised:
        why(Zoo.installed(), "fine-cots")
    for name in ("bad", "fine", "fine-point", "half", "leaky", "twin-one"):
        assert f" {name}," in str(raised.value)


# The command


def test_the_command_prints_it_for_people_and_as_json(command: Callable[..., Said], site: Path) -> None:
    status, out, err = command("bad")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:3] == [
        "bad 1.0 (bad): broken",
        "  reason      ModuleNotFoundError: No module named 'nowhere_zz' (line 3 of bad.py)",
        "  origin      bad 1.0, entry point bad = bad",
    ]
    assert lines[-1] == "  | ModuleNotFoundError: No module named 'nowhere_zz'"
    (found,) = json.loads(command("bad", "--json")[1])
    assert found["state"] == "broken"
    assert found["origin"] == {"distribution": "bad", "version": "1.0", "entry_point": "bad", "plugin": "bad"}
    assert found["traceback"].startswith("Traceback")
    assert command("cost/leaky")[1].startswith("cost 'leaky': works\n  origin      ganzoo ")


def test_the_command_takes_files_and_refuses_what_is_not_there(command: Callable[..., Said], tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("raise OSError('no\\n\\x1b[2J<b>good</b>' + 'x' * 50_000)\n")
    status, out, _ = command(str(path))
    assert status == 0
    assert all(line.isprintable() and len(line) <= 2100 for line in out.splitlines())
    assert "OSError: no ?[2J<b>good</b>" in out
    assert command("fine", "-p", str(path))[0] == 2  # nothing is called so
    assert command("bad.py")[2] == "ganzoo: no plugin file at bad.py\n"
    status, out, err = command("leeky")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "did you mean 'leaky'?" in err
