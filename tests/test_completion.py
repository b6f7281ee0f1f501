"""What a Tab offers, asked as bash, zsh and fish ask for it; and that it is harmless and never waits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from announcing import COST, HEAD, announce

from ganzoo import data
from ganzoo.cli import complete
from ganzoo.cli.complete import INERT, SETS, VARIED
from ganzoo.share import compare

SHELLS = ("bash", "zsh", "fish")
PATH = tuple(sys.path)


def asked(shell: str, words: str, folder: Path, *sites: Path, told: bool = False) -> "subprocess.CompletedProcess[str]":
    """What the shell's script runs when Tab is hit behind `words`, in `folder`."""
    code = "import sys; sys.argv[0] = 'ganzoo'\n"
    if told:
        code += "import atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
    code += "from ganzoo.cli import main; main()"
    environment = {key: value for key, value in os.environ.items() if key != "GANZOO_PLUGINS"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={
            **environment,
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join([*map(str, sites), *PATH]),
            "_GANZOO_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
            "_TYPER_COMPLETE_ARGS": words,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )


LOOP = """
import os, sys
sys.argv[0] = 'ganzoo'
from ganzoo.cli import main
for words in sys.argv[1:]:
    os.environ |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), "_TYPER_COMPLETE_ARGS": words}
    del sys.argv[1:]
    try:
        main()
    except SystemExit:
        print("---", flush=True)
"""


def offers(shell: str, folder: Path, *lines: str) -> list[list[str]]:
    """For each line the words alone; one process answers them all."""
    environment = {key: value for key, value in os.environ.items() if key != "GANZOO_PLUGINS"}
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOOP, *lines],
        env={
            **environment,
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join(PATH),
            "_GANZOO_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stderr == ""
    answers = said.stdout.split("---\n")[:-1]
    assert len(answers) == len(lines)
    return [_words(shell, answer) for answer in answers]


def _words(shell: str, said: str) -> list[str]:
    if shell == "bash":
        return said.split()
    if shell == "fish":
        return [line.partition("\t")[0] for line in said.splitlines() if line]
    inner = said.strip().removeprefix("_arguments '*: :((").removesuffix("))'")
    return [line.split('"')[1].replace("\\\\:", ":") for line in inner.splitlines() if '"' in line]


@pytest.mark.parametrize("shell", SHELLS)
def test_names_are_offered_without_torch(shell: str, tmp_path: Path) -> None:
    said = asked(shell, "ganzoo show gls", tmp_path, told=True)
    assert "gls-gan" in said.stdout
    modules = {name.partition(".")[0] for name in said.stderr.split()}
    assert "ganzoo" in modules
    assert {"torch", "numpy", "scipy", "hypothesis"}.isdisjoint(modules)


@pytest.mark.parametrize("shell", SHELLS)
def test_each_command_offers_what_goes_there(shell: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "plan.toml").touch()
    (tmp_path / "runs" / "no-run").mkdir()
    found = offers(
        shell,
        tmp_path,
        "ganzoo check leak",
        "ganzoo bench -o w",
        "ganzoo why local-",
        "ganzoo verify ",
        "ganzoo paper figure-1",
    )
    assert found == [
        ["leaky"],
        ["wgan", "wgan-gp"],
        ["local-engine"],
        ["runs/one", "runs/two"],
        ["figure-1", "figure-10"],
    ]


GOES_ON: list[tuple[str, set[str], set[str]]] = [
    ("ganzoo show pla", {"plan"}, {"leaky"}),
    ("ganzoo show cost/", {"cost/leaky", "cost/elu"}, {"leaky", "margin/lp"}),
    ("ganzoo bench --objective gls-gan:", {"gls-gan:penalty_weight=", "gls-gan:cost=", "gls-gan:margin="}, {"leaky"}),
    ("ganzoo bench -o gls-gan:cost=", {"gls-gan:cost=leaky", "gls-gan:cost=elu"}, {"gls-gan:cost=lp"}),
    ("ganzoo bench -o gls-gan:cost=elu,margin=l", {"gls-gan:cost=elu,margin=lp"}, set()),
    ("ganzoo bench -o nonsense:", set(), {"leaky"}),
    ("ganzoo list ", {"cost", "objective"}, {"leaky"}),
    ("ganzoo report runs/o", {"runs/one"}, {"runs/no-run"}),
    ("ganzoo worker --claim ", {"runs/one"}, {"runs/no-run"}),
    ("ganzoo why gan", {"ganzoo"}, {"leaky"}),
    ("ganzoo paper ta", {"table-1"}, {"figure-1"}),
    ("ganzoo bench --data ", {"digits", "cifar10", "folder"}, {"leaky"}),
    ("ganzoo bench --engine ", {"local", "ray"}, {"leaky", "ls-gan"}),
    ("ganzoo bench --listener t", {"tensorboard"}, {"local"}),
    ("ganzoo compare runs/one ", {"runs/one", "theirs.zip"}, {"runs/no-run"}),
    ("ganzoo compare a b --varying e", {"epochs"}, {"code"}),
    ("ganzoo merge runs/one runs/", {"runs/one"}, {"theirs.zip"}),
    ("ganzoo share ", {"runs/one"}, {"runs/no-run"}),
    ("ganzoo export ", {"runs/one"}, {"runs/no-run"}),
    ("ganzoo open ", {"theirs.zip"}, {"runs/one"}),
]
"""A line, some of what is offered, some of what is not."""


def test_what_is_offered_goes_on_from_what_was_typed(tmp_path: Path) -> None:
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "plan.toml").touch()
    (tmp_path / "runs" / "no-run").mkdir()
    (tmp_path / "theirs.zip").touch()
    answers = offers("fish", tmp_path, *(line for line, _, _ in GOES_ON))
    for (line, some, never), found in zip(GOES_ON, answers, strict=True):
        assert some <= set(found)
        assert never.isdisjoint(found)
        assert all(offer.startswith(line.rpartition(" ")[2]) for offer in found)


def test_the_names_that_are_written_down_are_those_that_there_are() -> None:
    assert SETS == data.SETS
    assert (*compare.IMPLIED,) == VARIED


def test_beside_a_name_stands_its_kind_and_a_name_of_two_kinds_has_both(tmp_path: Path) -> None:
    lines = asked("fish", "ganzoo show dc", tmp_path).stdout.splitlines()
    assert lines == ["dcgan\tobjective, generator, critic"]


@pytest.mark.parametrize("shell", SHELLS)
def test_neither_a_docstring_nor_a_broken_plugin_reaches_the_shell(shell: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    source = (
        HEAD
        + "@ganzoo.cost\ndef rude(a):\n    '''$(touch evil) `touch evil` '; touch evil;' \\x1b[2J'''\n    return a\n"
    )
    announce(site, "rude", source)
    announce(site, "bad", "print('seen')\nraise SystemExit(3)\n")
    announce(site, "good", COST.format(name="rue"))
    said = asked(shell, "ganzoo show ru", tmp_path, site)
    assert "rude" in said.stdout
    assert "rue" in said.stdout
    for word in ("evil", "\x1b", "seen", "$"):
        assert word not in said.stdout + said.stderr


def test_a_folder_whose_name_means_something_to_a_shell_is_not_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("good", "$(touch evil)", "a b", "x;y", "a'b", "new\nline", "ü"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "plan.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert complete.complete_run("") == [("runs/good", "run")]


def test_whatever_fails_offers_nothing_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        print("said")
        raise RuntimeError("no")

    monkeypatch.setattr("ganzoo.zoo.listing.listing_at_once", fails)
    assert complete.complete_name("le") == complete.complete_objective("w") == []
    assert capsys.readouterr() == ("", "")


def test_all_that_can_be_offered_is_inert() -> None:
    for offered in (complete.complete_show, complete.complete_why, complete.complete_objective, complete.complete_kind):
        found = offered("")
        assert found
        assert all(INERT.fullmatch(word) for word, _ in found)
    assert complete.complete_item("")
    assert complete.complete_kind("cr") == [("critic", "kind")]


def test_bash_itself_completes_a_name(tmp_path: Path) -> None:
    """The script that `--show-completion` prints, in a bash, with a Tab's variables."""
    script = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'ganzoo'; from ganzoo.cli import main; main()"],
        env={**os.environ, "_GANZOO_COMPLETE": "source_bash"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    command = tmp_path / "ganzoo"
    command.write_text(f"#!{sys.executable}\nimport sys\nfrom ganzoo.cli import main\nmain()\n")
    command.chmod(0o755)
    function = script.split("complete -o default -F ")[1].split()[0]
    lines = (
        f'{script}\nCOMP_WORDS=(ganzoo check leak); COMP_CWORD=2\n{function} ganzoo\necho "found ${{COMPREPLY[*]}}"\n'
    )
    said = subprocess.run(
        ["bash", "--norc", "-c", lines],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(PATH)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "found leaky\n"
