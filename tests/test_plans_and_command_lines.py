"""Whatever stands in a plan or on a command line: an answer, or one line. Never a traceback, never a file written."""

import json
import os
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from commands import Command, Said
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ganzoo.config import LARGEST_PLAN, Plan, read_plan, value_of
from ganzoo.errors import UserError

DEFAULT = json.loads(Plan().model_dump_json())
relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=120
)


@pytest.fixture
def ganzoo(ganzoo: Command) -> Command:
    """Whatever it warns of."""

    def called(*arguments: str) -> Said:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ganzoo(*arguments)

    return called


def is_an_answer_or_one_line(said: Said) -> None:
    assert said.status in (0, 1, 2), said
    assert "Traceback" not in said.out + said.err
    if said.status == 2:
        assert said.out == ""
        assert said.err.startswith("ganzoo: ")
        assert said.err.count("\n") == 1, said.err[:300]
        assert said.err[:-1].isprintable()


# --- plans

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ODD = ["", " ", "..", "../../x", "\x1b[2J", "\u202e", "none", "nan", "lsgan", "supervised", "gls-gan", "wgan:", "a:b=c"]
ODDER = ["gls-gan:slope=0,1,2", "dcgan:critic_steps=1000000000", "gls-gan:cost=elu,cost=relu", "~nobody/x", "cuda:9"]
odd_text = st.sampled_from([*ODD, *ODDER])
numbers = st.one_of(
    st.integers(-3, 300),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**30, -(10**30)]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1e308, 5e-324, float("nan"), float("inf")]),
)
scalars = st.one_of(st.booleans(), numbers, any_text, odd_text, st.dates(), st.times(), st.datetimes())
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
nested = {key: value for key, value in DEFAULT.items() if isinstance(value, dict)}
keys = st.sampled_from([*DEFAULT, *(f"{key}.{inner}" for key, value in nested.items() for inner in value)])
changes = st.dictionaries(st.one_of(keys, keys, keys, any_text), values, min_size=1, max_size=4)


def laid_over(plan: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The plan, some of its keys changed; what is None in it left out."""
    made: dict[str, Any] = json.loads(json.dumps(plan))
    for key, value in changes.items():
        place, _, last = key.rpartition(".")
        inner = made.setdefault(place, {}) if place else made
        (inner if isinstance(inner, dict) else made)[last] = value
    return {
        key: {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value
        for key, value in made.items()
        if value is not None
    }


def reads_or_says_why(content: bytes, path: Path) -> Plan | None:
    path.write_bytes(content)
    try:
        return read_plan(path)
    except UserError:
        return None


@settings(relaxed, max_examples=400)
@given(changes=changes)
@example(changes={"seeds": 10**30})
@example(changes={"epochs": float("nan")})
@example(changes={"data.split": [0.5, float("inf"), 0.1]})
@example(changes={"data": 3})
@example(changes={"generator.name": ["x"]})
@example(changes={"generator": {"name": "dcgan", "width": {"a": float("nan")}}})
@example(changes={"": {"": ""}})
def test_any_plan_that_is_toml_is_read_strictly_or_refused_in_words(
    changes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = tomli_w.dumps(laid_over(DEFAULT, changes)).encode()
    plan = reads_or_says_why(content, tmp_path_factory.mktemp("plan") / "plan.toml")
    if plan is None:
        return
    # Strict: what was read says what was written, and says it again.
    written = tomllib.loads(content.decode())
    json.dumps(plan.model_dump(mode="python"), allow_nan=False)
    assert (plan.seeds, plan.epochs, plan.device) == (written["seeds"], written["epochs"], str(written["device"]))
    assert type(plan.seeds) is int
    assert type(plan.compile) is bool
    assert set(written) <= set(Plan.model_fields)
    path = tmp_path_factory.mktemp("again") / "plan.toml"
    assert reads_or_says_why(plan.toml().encode(), path) == plan


@settings(relaxed, max_examples=300)
@given(
    content=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
)
@example(content=b"\xff\xfe")
@example(content=b"seeds = " + b"9" * 5000)
@example(content=b"x = " + b"[" * 2000)
@example(content=b"x = " + b"{a = " * 500)
@example(content=b"[" + b"a." * 3000 + b"b]\n")
@example(content=b"\x00")
@example(content=b"seeds = 0x" + b"f" * 50_000)
@example(content=b"epochs = 1e999999999\n")
def test_any_bytes_are_a_plan_or_refused_in_words(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    reads_or_says_why(content, tmp_path_factory.mktemp("plan") / "plan.toml")


@settings(relaxed, max_examples=200)
@given(data=st.data(), how=st.sampled_from(["flip", "cut", "double", "insert"]))
def test_a_plan_with_a_torn_or_altered_byte_is_a_plan_or_refused_in_words(
    data: st.DataObject, how: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = Plan().toml().encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = bytes([data.draw(st.integers(0, 255))])
    altered = {
        "flip": whole[:at] + byte + whole[at + 1 :],
        "cut": whole[:at],
        "double": whole[:at] + whole,
        "insert": whole[:at] + byte + whole[at:],
    }[how]
    reads_or_says_why(altered, tmp_path_factory.mktemp("plan") / "plan.toml")


def test_a_plan_of_64_kb_is_read_and_a_larger_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_bytes(b"seeds = 5\n#" + b"x" * (LARGEST_PLAN - 11))
    assert read_plan(path).seeds == 5
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"has 65,537 bytes; a plan has at most 65,536"):
        read_plan(path)


def test_a_plan_that_is_a_device_or_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(UserError, match="is not a file; a plan is a TOML file"):
            read_plan(path)


@pytest.mark.parametrize(
    "key", [*DEFAULT, *(f"data.{key}" for key in DEFAULT["data"]), "labels.folds", "shared.critic_steps"]
)
def test_a_misspelt_key_is_told_the_right_one(key: str) -> None:
    *place, last = key.split(".")
    with pytest.raises(UserError, match=rf"unknown key '{last}x'.*did you mean '{last}'\?"):
        read_plan(None, **{".".join([*place, f"{last}x"]): 1})


@settings(relaxed)
@given(text=st.text())
@example(text="1_0")
@example(text="nan")
@example(text="0x10\n\nother = 3")
@example(text="[" * 5000)
def test_any_value_of_a_command_line_is_one_value(text: str) -> None:
    value_of(text)


# --- the plan, through the command


@pytest.mark.usefixtures("unmeasured")
@relaxed
@given(changes=changes)
def test_a_dry_run_of_any_plan_ends_in_an_answer_or_one_line(
    changes: dict[str, Any], ganzoo: Command, tiny: Callable[..., Plan], tmp_path: Path
) -> None:
    made = laid_over(json.loads(tiny(objectives=["wgan"]).model_dump_json()), changes)
    # Whatever is sensible and merely large is tested elsewhere: it takes long.
    for key, most in (("z_dim", 50), ("epochs", 10**6), ("seeds", 9)):
        if type(made.get(key)) is int and made[key] > most:
            made[key] = most
    for key in ("generator", "critic"):
        inner = made.get(key)
        if isinstance(inner, dict) and type(inner.get("width")) is int and inner["width"] > 8:
            inner["width"] = 8
    (tmp_path / "plan.toml").write_bytes(tomli_w.dumps(made).encode())
    is_an_answer_or_one_line(ganzoo("bench", str(tmp_path / "plan.toml"), "--dry-run"))


# --- command lines

COMMANDS = ["list", "show", "check", "bench", "mre", "paper", "doctor", "verify", "worker", "--version", "--help"]
OPTIONS = [
    "--json",
    "-o",
    "-d",
    "--data",
    "--set",
    "--seeds",
    "--split",
    "-p",
    "--plugin",
    "--out",
    "--jobs",
    "--device",
]
MORE = [
    "--engine",
    "--address",
    "--retries",
    "--lost-seconds",
    "--last",
    "--images",
    "--size",
    "-h",
    "--",
    "-",
    "--slots",
]
WORDS = ["leaky", "gls-gan:slope=", "gls-gan:slope=0,0.5", "plan", "cost", "costs", "seeds=1e9", "data.set=digits"]
VALUES = [
    "1",
    "-1",
    "0",
    "1e9",
    "nan",
    "none",
    "x.py",
    ".",
    "/",
    "",
    "digits",
    "cpu",
    "ray:slots=2",
    "=",
    "a=b",
    "seeds",
]
word = st.one_of(
    st.sampled_from([*COMMANDS, *OPTIONS, *MORE]),
    st.sampled_from([*WORDS, *VALUES]),
    st.text(st.characters(exclude_characters="\0"), max_size=8),
    st.builds(
        "{}={}".format, st.sampled_from(["--set", "-o", "--seeds", "--jobs"]), any_text.filter(lambda t: "\0" not in t)
    ),
    st.builds("--set={}={}".format, keys, any_text.filter(lambda t: "\0" not in t)),
    st.builds("-ogls-gan:{}={}".format, st.sampled_from(["slope", "cost", "margin", "x", ""]), odd_text),
)


@pytest.mark.usefixtures("unmeasured")
@settings(relaxed, max_examples=250)
@given(words=st.lists(word, max_size=6))
@example(words=["bench", "--set", "data.size=4097"])
@example(words=["bench", "--set=seeds=\udcff"])
@example(words=["show", "\udcff"])
@example(words=["list", "\x1b[2J"])
@example(words=["check", "x" * 5000])
@example(words=["bench", "x" * 5000])
@example(words=["bench", "--out", "x" * 5000])
@example(words=["bench", "-p", "x" * 5000])
@example(words=["bench", "-p", "~nobody"])
@example(words=["mre", "x" * 5000])
@example(words=["mre", "~nobody/x"])
def test_any_words_end_in_an_answer_or_one_line(words: list[str], ganzoo: Command) -> None:
    # What a check, a comparison or an item of the paper finds is tested elsewhere, and takes long.
    instead = {"bench": ["bench", "--dry-run"], "check": ["show"], "paper": ["paper", "--x"], "doctor": ["list"]}
    words = [typed for word in words for typed in instead.get(word, [word])]
    said = ganzoo(*words)
    if words[:1] != ["worker"]:
        is_an_answer_or_one_line(said)
    assert "Traceback" not in said.err
