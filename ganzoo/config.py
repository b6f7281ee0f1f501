"""The plan of a comparison: TOML in, JSON schema out, one line for each slip.

A plan resolves to cells. A cell holds everything that training it needs (its data, networks, game, seed, budget and
the hashes of the code it uses), so whoever trains it needs nothing else.
"""

import hashlib
import itertools
import json
import math
import re
import tomllib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tomli_w
from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from ganzoo.arithmetic import Precision
from ganzoo.errors import UserError, blamed, did_you_mean, printable
from ganzoo.game import Margin, Need, Objective, Recipe
from ganzoo.heads import matched
from ganzoo.mre import Protocol
from ganzoo.penalty import PENALTIES, penalized
from ganzoo.zoo import Entry, Zoo, source_sha256

if TYPE_CHECKING:
    from ganzoo.features import Networks

LARGEST_PLAN = 64 * 1024
"""Bytes; nobody writes a larger one by hand."""
LARGEST_GRID = 10_000
"""Contenders that one objective may ask for."""
LARGEST_COMPARISON = 100_000
"""Cells of a plan."""
PART_OF_KEY = r"""(?:[A-Za-z0-9_-]{1,1000}+|"(?:[^"\\\n]|\\.){0,1000}+"|'[^'\n]{0,1000}+')"""
DEEP_KEY = re.compile(rf"(?<![A-Za-z0-9_-])(?:{PART_OF_KEY}[ \t]*+\.[ \t]*+){{64}}")
"""A key of 64 parts, a.a.a. ...: tomllib takes half a minute and 4 GB for one of 32,000."""

PLANS = Path(__file__).parent / "plans"
IMMATERIAL = ("checkpoint_seconds", "plugins")
"""How often a cell is saved and where its plugins lie change no bit of its result; what the plugins say is hashed."""


class Model(BaseModel):
    # The text under a key is its description in the schema, which editors show.
    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class DataPlan(Model):
    set: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, svhn, celeba, folder, npz, npy."""
    path: str | None = None
    """Folder or file of the set, where it has one."""
    size: Annotated[int, Ge(1), Le(4096)] | None = None
    """Resize the images to size x size pixels."""
    split: tuple[int, int, int] | tuple[float, float, float] = (0.5, 0.25, 0.25)
    """Train, validation, test: fractions or counts   (Qi 2017, sec. 9.5: 50 %, 25 %, 25 %)."""
    shuffle: bool = True
    """Draw the three parts at random (always the same ones), or take the images in their given order."""
    download: bool = False
    """Fetch an official set that is not there."""
    skip_corrupt: bool = False
    """Leave out images that cannot be read, and say how many; else the first one ends it."""


class LabelPlan(Model):
    """Which training images keep their labels, drawn anew for each seed   (Qi 2017, sec. 9.4)."""

    per_class: Annotated[int, Ge(1)] | None = None
    """Labelled images of each class; the others are unlabelled. None: all are labelled."""
    folds: Annotated[int, Ge(2), Le(100)] | None = None
    """Cross-validation: so many cells a seed, each trained without one fold of the labelled images, which validates."""


class NetworkPlan(Model):
    """A network by name; every further key is one of its hyperparameters."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="allow", allow_inf_nan=False, use_attribute_docstrings=True
    )

    name: str = "dcgan"
    """Of the plugin: `ganzoo list generator`, `ganzoo list critic`."""

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Plan(Model):
    """Everything that a comparison depends on. The defaults are those of Qi 2017, sec. 9, where it gives any."""

    objectives: tuple[str, ...] = ()
    """`NAME` or `NAME:key=v1,v2,key=v` (a grid); none: every installed one but those marked `by_default=False`."""
    seeds: Annotated[int, Ge(1), Le(1000)] = 3
    """Trainings of each objective; equal seeds of two objectives are a pair."""
    first_seed: Annotated[int, Ge(0), Le(1_000_000)] = 0
    """Seeds count from here: what was chosen with some seeds is judged with others."""
    recipe: Literal["shared", "native"] = "shared"
    """One recipe for all, so that only the objective changes; or each objective's own."""
    shared: Recipe = Recipe()
    """The recipe of all where recipe = "shared"."""
    cost: str = "leaky"
    """For objectives that take a cost and do not name one."""
    margin: str = "lp"
    """For objectives that take a margin and do not name one."""
    data: DataPlan = DataPlan()
    """The images, and how they are cut into three parts."""
    measure: Literal["mre", "accuracy"] = "mre"
    """What is compared: the reconstruction of test images, or their classification   (Qi 2017, sec. 9.5, 9.4)."""
    labels: LabelPlan = LabelPlan()
    """Which training images keep their labels."""
    z_dim: Annotated[int, Ge(1)] = 100
    """z ~ Unif[-1, 1]^z_dim   (Qi 2017, sec. 9.2)."""
    generator: NetworkPlan = NetworkPlan()
    """G, the same for all; further keys are its hyperparameters (width)."""
    critic: NetworkPlan = NetworkPlan()
    """L, the same for all; further keys are its hyperparameters (width, norm)."""
    batch_size: Annotated[int, Ge(1)] = 64
    """Images of a critic step, real and generated each."""
    epochs: Annotated[int, Ge(1), Le(1_000_000)] = 100
    """Passes of the critic over the training images."""
    validate_every: Annotated[int, Ge(1)] = 5
    """Epochs from one validation MRE to the next."""
    validation_images: Annotated[int, Ge(1)] = 1000
    """Of the validation part, at most so many are measured."""
    test_images: Annotated[int, Ge(1)] = 1000
    """Of the test part, at most so many are measured."""
    curve_test_images: Annotated[int, Ge(0)] = 0
    """So many test images are measured at each point of the curve too, by validation_mre; nothing is chosen by it."""
    control_images: Annotated[int, Ge(1)] = 100
    """Images of its own that the self-inversion control inverts, and test images inverted over all labels."""
    validation_mre: Protocol = Protocol()
    """How z is sought on validation images, which choose the best epoch."""
    test_mre: Protocol = Protocol()
    """How z is sought on test images: the figure compared."""
    metrics: tuple[str, ...] = ()
    """Other figures of the same generator, against the test images: classifier-fd, fid:weights=FILE, ...
    A list, or one text with commas."""
    threads: Annotated[int, Ge(1), Le(256)] = 1
    """CPU threads of one process; other counts round differently."""
    processes: Annotated[int, Ge(1), Le(4096)] = 1
    """Over which a cell's batches are shared; other counts round differently."""
    device: str = "cpu"
    """cpu, cuda, cuda:1."""
    precision: Precision | None = None
    """In which the networks compute; none: what the device does well (see `natural_precision`)."""
    compile: bool = False
    """Compile the networks with torch.compile. On CPUs it was slower than not."""
    capture: bool = True
    """Replay whole rounds as a CUDA graph; on a GPU only."""
    deterministic: bool = False
    """On a GPU: only algorithms that repeat bit for bit, slower; a CPU has no others."""
    checkpoint_seconds: Annotated[float, Ge(0)] = 30.0
    """So long a training may go on unsaved, if saving takes no more than 2 % of its time; 0: save every round."""
    plugins: tuple[str, ...] = ()
    """Files and folders of plugins, beside the installed ones."""

    @field_validator("metrics", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        """A command line's `fid:weights=FILE,classifier-fd`."""
        several = value.split(",") if isinstance(value, str) else value
        return tuple(several) if isinstance(several, list) else several  # strict: of Python's a tuple alone

    @classmethod
    def schema_of_toml(cls) -> dict[str, Any]:
        """JSON schema (draft 2020-12) of a plan's file, for editors: every key, its type and its range.

        Which names and hyperparameters there are is known to the zoo alone; `ganzoo bench --dry-run` tells.
        """
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **cls.model_json_schema()}

    def toml(self) -> str:
        """The whole plan; what is not printed (a bidi mark, a C1 control) stands as its number, as TOML allows."""
        written = tomli_w.dumps(self.model_dump(exclude_none=True, mode="json"))
        return "".join(c if c.isprintable() or c == "\n" else f"\\U{ord(c):08x}" for c in written)

    @property
    def seed_range(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def settings(self) -> dict[str, Any]:
        """All but what merely adds cells."""
        return self.model_dump(mode="json", exclude={"objectives", "seeds", "first_seed"})

    @property
    def identity(self) -> dict[str, Any]:
        """What the bits of a result depend on: runs of one identity can share a folder and its finished cells."""
        return {key: value for key, value in self.settings.items() if key not in IMMATERIAL}

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()


def read_plan(path: Path | None = None, /, **changes: Any) -> Plan:
    """The plan of a TOML file with dotted `changes` laid over it, `{"data.set": "mnist"}`.

    Without a file: the plan that ganzoo brings for that data set (digits), or the defaults where it brings none; of a
    network that the changes name, its own defaults.
    Raises UserError for an absent file, bad TOML, an unknown key, a value outside its domain.
    """
    if path is None:
        ours = PLANS / f"{changes.get('data.set', DataPlan().set)}.toml"
        content = _read_toml(ours) if ours in PLANS.iterdir() else {}
        for kind in ("generator", "critic"):
            if changes.get(f"{kind}.name", NetworkPlan().name) != NetworkPlan().name:
                content.pop(kind, None)  # the width that we chose is the other network's
    else:
        content = _read_toml(path)
    for key, value in changes.items():
        _lay_over(content, key.split("."), value)
    try:
        # As JSON: strict about numbers, text and truth values, yet a list may stand for a tuple.
        text = json.dumps(content, default=str)
    except ValueError:
        raise UserError(f"{path or 'the plan'} holds a number of over 4,300 digits") from None
    except RecursionError:
        raise UserError(f"{path or 'the plan'} holds tables within tables within tables, too deep to be read") from None
    try:
        plan = Plan.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{path or 'the plan'}: {_one_line(error)}") from None
    for kind in ("generator", "critic"):
        for key, value in getattr(plan, kind).hyperparameters.items():
            if value is not None and not _plain(value):
                wanted = "a finite number, text, a truth value or a list of them"
                raise UserError(f"{path or 'the plan'}: {kind}.{key} = {value!r}: expected {wanted}")
    if len(plan.toml().encode()) > LARGEST_PLAN:
        raise UserError(f"{path or 'the plan'} comes to more than {LARGEST_PLAN:,} bytes, and could not be read back")
    return plan


def _plain(value: Any) -> bool:
    """What a network's hyperparameter may be in a plan."""
    if isinstance(value, list):
        return all(_plain(item) for item in value)
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a file; a plan is a TOML file")
        if path.stat().st_size > LARGEST_PLAN:
            raise UserError(f"{path} has {path.stat().st_size:,} bytes; a plan has at most {LARGEST_PLAN:,}")
        text = path.read_text(encoding="utf-8")
        if DEEP_KEY.search(text):
            raise UserError(f"{path} has a key of more than 64 parts; a plan's have at most 2")
        return tomllib.loads(text)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"no plan at {path}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RecursionError) as error:  # tomllib passes on a number of 5,000 digits, brackets 500 deep
        raise UserError(f"{path} is not TOML: {error}") from None


def _lay_over(content: dict[str, Any], keys: list[str], value: Any) -> None:
    *folders, last = keys
    for folder in folders:
        inner = content.setdefault(folder, {})
        if not isinstance(inner, dict):
            raise UserError(f"the plan's '{folder}' is a value, not a table: '{'.'.join(keys)}' cannot be set in it")
        content = inner
    content[last] = value


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    if not first["loc"]:
        return str(first["msg"]).lower()  # text that is not Unicode
    # pydantic names the branch of a union that it tried last; that is nothing of the user's.
    *folders, last = [str(part) for part in first["loc"] if not str(part).startswith("tuple[")]
    if first["type"] == "extra_forbidden":
        model: Any = Plan
        for folder in folders:
            model = model.model_fields[folder].annotation
        where = f" in [{'.'.join(folders)}]" if folders else ""
        return f"unknown key '{last}'{where}{did_you_mean(last, model.model_fields)}"
    value = first["input"]
    return f"{'.'.join([*folders, last])} = {value!r}: {first['msg'].lower()}"


def value_of(text: str) -> Any:
    """A value as typed in a plan or on a command line: TOML where it is TOML, `none`, otherwise the text itself."""
    if text.lower() == "none":
        return None
    if DEEP_KEY.search(text):
        return text
    try:
        found = tomllib.loads(f"value = {text}")["value"]
        str(found)  # a hexadecimal number of over 4,300 digits can be read, but not told
    except (ValueError, RecursionError):  # as in `_read_toml`
        return text
    return found


class Contender(Model):
    """One objective with all its hyperparameters, its cost and its margin: what a comparison compares."""

    label: str
    """What was asked for, and nothing that is a default: `gls-gan:slope=0.5`."""
    objective: str
    hyperparameters: dict[str, Any]
    cost: str | None
    cost_hyperparameters: dict[str, Any]
    margin: str | None
    margin_hyperparameters: dict[str, Any]
    recipe_changes: dict[str, Any] = {}
    """What of the recipe is this contender's own."""
    theta_penalty: Annotated[float, Ge(0), Le(1e6)] = 0.0
    """Weight of penalty (II), 1/2 E ||grad_theta L(x)||^2, added to S   (Qi 2017, sec. 5.2)."""
    r1: Annotated[float, Ge(0), Le(1e6)] = 0.0
    """Of 1/2 E ||grad L(x)||^2   (Mescheder et al. 2018); on any objective, whatever penalty it brings itself."""
    r2: Annotated[float, Ge(0), Le(1e6)] = 0.0
    """Of 1/2 E ||grad L(G(z))||^2   (Mescheder et al. 2018)."""
    dragan: Annotated[float, Ge(0), Le(1e6)] = 0.0
    """Of E (||grad L(x + d)|| - 1)^2 around real images   (Kodali et al. 2017)."""
    feature_matching: Annotated[float, Ge(0), Le(1e6)] = 0.0
    """Weight of ||E f(x) - E f(G(z))||^2, f the critic's features, added to T   (Salimans et al. 2016)."""
    sources: dict[str, str]
    """`kind/name` -> sha256 of the file that defines it."""

    def game(self, zoo: Zoo, networks: "Networks | None" = None) -> Objective:
        """The objective, bound; `networks` serves a margin that wants one. UserError where the plugin itself fails."""
        cost = zoo.cost(self.cost, **self.cost_hyperparameters) if self.cost else _unused
        margin = self.bound_margin(zoo, networks) if self.margin else _unused
        with blamed(f"objective '{self.objective}'"):
            game = zoo.objective(self.objective, cost, margin, **self.hyperparameters)
        for name, penalty in PENALTIES.items():
            game = penalized(game, penalty, getattr(self, name))
        return matched(game, self.feature_matching)

    def bound_margin(self, zoo: Zoo, networks: "Networks | None") -> Margin:
        """The margin as the objective sees it: (real, fake) -> (N,)."""
        assert self.margin is not None
        margin: Any = zoo.margin(self.margin, **self.margin_hyperparameters)
        return partial(margin, networks=networks) if self.wants_networks(zoo) else margin

    def wants_networks(self, zoo: Zoo) -> bool:
        """Whether the margin compares feature maps."""
        return self.margin is not None and "networks" in zoo.find("margin", self.margin).inputs


def _unused(*_: Any) -> Any:
    raise AssertionError("an objective used what it did not declare")


ADDED = (*PENALTIES, "feature_matching")
"""What any objective can be given on top of its own hyperparameters."""


def grid_of(asked: str) -> list[dict[str, Any]]:
    """`NAME:slope=0,0.01,cost=elu` -> one dict for each combination, in order; `NAME` -> one empty dict.

    Raises UserError for what is no such text, and for more than LARGEST_GRID combinations.
    """
    _, colon, rest = asked.partition(":")
    if colon and not rest:
        raise UserError(f"'{asked}': expected KEY=VALUE after the colon")
    grid: dict[str, list[Any]] = {}
    key = ""
    for item in rest.split(",") if rest else []:
        left, equals, right = item.partition("=")
        if equals:
            key, item = left.strip(), right
            if key in grid:
                raise UserError(f"'{asked}': {key} is given twice; a grid is {key}=V1,V2")
            grid[key] = []
        if not key:
            raise UserError(f"'{asked}': expected KEY=VALUE after the colon, not '{item}'")
        if not item.strip():
            raise UserError(f"'{asked}': {key} has no value")
        grid[key].append(value_of(item.strip()))
    if (size := math.prod(map(len, grid.values()))) > LARGEST_GRID:
        raise UserError(f"'{printable(asked, 80)}' is a grid of {size:,} contenders; at most {LARGEST_GRID:,} are made")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def contenders(asked: str, zoo: Zoo, plan: Plan) -> list[Contender]:
    """`gls-gan:slope=0,0.01,cost=elu` -> one contender for each combination of the grid.

    A key is the objective's own hyperparameter, `cost` or `margin`, a hyperparameter of that cost or margin
    (`cost.scale` where several have one of that name), a penalty (`r1`, `r2`, `dragan`, `theta_penalty`),
    `feature_matching`, or a key of the recipe (`critic_steps`). Raises UserError for every name or value that does not
    fit.
    """
    entry = zoo.find("objective", asked.partition(":")[0])
    found = [_contender(entry, given, zoo, plan) for given in grid_of(asked)]
    return list({contender.label: contender for contender in found}.values())


def _contender(entry: Entry, given: dict[str, Any], zoo: Zoo, plan: Plan) -> Contender:
    label = ",".join(f"{key}={_typed(value)}" for key, value in given.items())
    parts: dict[str, Entry] = {}
    for kind, default in (("cost", plan.cost), ("margin", plan.margin)):
        if kind in entry.inputs:
            parts[kind] = zoo.find(kind, str(given.pop(kind, default)))
        elif kind in given:
            able = [e.name for e in zoo.entries("objective") if kind in e.inputs]
            raise UserError(f"objective '{entry.name}' takes no {kind}; {', '.join(able) or 'no objective'} does")
    takers = {"objective": entry, **parts}
    values: dict[str, dict[str, Any]] = {place: {} for place in takers}
    known = {name for taker in takers.values() for name in taker.hyperparameters}
    added = {key: given.pop(key) for key in ADDED if key in given and key not in known}
    recipe = {key: given.pop(key) for key in Recipe.model_fields if key in given and key not in known}
    for key, value in given.items():
        place, _, bare = key.rpartition(".")
        places = [place] if place else [p for p, taker in takers.items() if key in taker.hyperparameters]
        if not place and "objective" in places:
            places = ["objective"]
        if len(places) > 1:
            raise UserError(f"'{entry.name}': several have a {key}; say {' or '.join(f'{p}.{key}' for p in places)}")
        if not places or places[0] not in takers:
            there_are = [name for taker in takers.values() for name in taker.hyperparameters]
            raise UserError(
                f"objective '{entry.name}' has no hyperparameter '{key}'"
                f"{did_you_mean(key, [*there_are, *parts, *ADDED, *Recipe.model_fields])}"
            )
        values[places[0]][bare] = value
    cost, margin = parts.get("cost"), parts.get("margin")
    for key, value in added.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= 1e6:
            raise UserError(f"'{entry.name}': {key} = {value!r} is outside its domain (float, >= 0, <= 1e6)")
    try:
        Recipe(**recipe)
    except ValidationError as error:
        raise UserError(f"'{entry.name}': {_one_line(error)}") from None
    return Contender(
        label=f"{entry.name}:{label}" if label else entry.name,
        recipe_changes=recipe,
        **{key: float(value) for key, value in added.items()},
        objective=entry.name,
        hyperparameters=entry.validate(**values["objective"]),
        cost=cost.name if cost else None,
        cost_hyperparameters=cost.validate(**values["cost"]) if cost else {},
        margin=margin.name if margin else None,
        margin_hyperparameters=margin.validate(**values["margin"]) if margin else {},
        sources={f"{e.kind}/{e.name}": e.source_sha256 for e in takers.values()},
    )


def _typed(value: Any) -> str:
    return "none" if value is None else str(value)


class Cell(Model):
    """One training: a contender, a seed, and all of the plan that it depends on."""

    contender: Contender
    seed: int
    fold: int | None = None
    """The fold of the labelled images that is held out; None without cross-validation."""
    recipe: Recipe
    needs: tuple[Need, ...]
    plan: dict[str, Any]
    """`Plan.settings`."""
    network_sources: dict[str, str]
    core_sha256: str
    """Of ganzoo's own files that a result depends on."""

    @property
    def sha256(self) -> str:
        content = self.model_dump(mode="json")
        content["plan"] = {key: value for key, value in self.plan.items() if key not in IMMATERIAL}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def directory(self) -> str:
        """A safe name for the cell's folder, which tells people what it holds."""
        label = "".join(c if c.isalnum() or c in ".-" else "_" for c in self.contender.label.lower())[:40]
        fold = "" if self.fold is None else f"-fold{self.fold}"
        return f"{label}-seed{self.seed}{fold}-{self.sha256[:8]}"

    @property
    def settings(self) -> Plan:
        return Plan.model_validate_json(json.dumps(self.plan))


def cells(plan: Plan, zoo: Zoo) -> list[Cell]:
    """Every training of the plan, seeds and folds innermost. UserError for anything in it that cannot be played."""
    if plan.labels.folds is not None and plan.measure == "mre":
        raise UserError(
            f"labels.folds = {plan.labels.folds} holds out labelled images to classify; take it with measure = accuracy"
        )
    if plan.batch_size % plan.processes:
        near = plan.batch_size // plan.processes * plan.processes
        sizes = " or ".join(str(size) for size in (near, near + plan.processes) if size)
        raise UserError(
            f"batch_size = {plan.batch_size} cannot be shared evenly by processes = {plan.processes}; take {sizes}"
        )
    if plan.processes > 1 and plan.compile:
        raise UserError("compile = true and processes > 1 do not go together; take one of them")
    folds = [None] if plan.labels.folds is None else range(plan.labels.folds)
    chosen: dict[str, Contender] = {}
    for text in plan.objectives or default_objectives(zoo, plan):
        chosen |= {contender.label: contender for contender in contenders(text, zoo, plan)}
        if (size := len(chosen) * plan.seeds * len(folds)) > LARGEST_COMPARISON:
            raise UserError(f"the plan has {size:,} cells or more; at most {LARGEST_COMPARISON:,} are played at a time")
    networks = [zoo.find("generator", plan.generator.name), zoo.find("critic", plan.critic.name)]
    sources = {f"{e.kind}/{e.name}": e.source_sha256 for e in networks}
    core, settings = core_sha256(), plan.settings
    made = []
    for contender in chosen.values():
        game = contender.game(zoo)
        recipe = plan.shared if plan.recipe == "shared" else game.recipe
        recipe = recipe.model_copy(update=contender.recipe_changes)
        needs = tuple(sorted(game.needs))
        if (why := _senseless(contender, game, plan)) is not None:
            raise UserError(why)
        for seed, fold in itertools.product(plan.seed_range, folds):
            made.append(
                Cell(
                    contender=contender,
                    seed=seed,
                    fold=fold,
                    recipe=recipe,
                    needs=needs,
                    plan=settings,
                    network_sources=sources,
                    core_sha256=core,
                )
            )
    return made


def _senseless(contender: Contender, game: Objective, plan: Plan) -> str | None:
    """Why the plan's measure or labels leave the objective without what it lives on; None if they do not."""
    if Need.ALONE in game.needs and plan.measure == "mre":
        return (
            f"{contender.label} trains no generator, so it reconstructs nothing; compare it with --set measure=accuracy"
        )
    if Need.ALONE in game.needs and contender.feature_matching:
        return f"{contender.label} trains no generator, whose features could be matched; leave out feature_matching"
    if Need.UNLABELED in game.needs and plan.labels.per_class is None:
        return (
            f"{contender.label} needs unlabelled images, and all are labelled; say how many of each class keep their"
            " label: --set labels.per_class=10"
        )
    return None


def core_sha256() -> str:
    """Of the files of ganzoo that decide the bits of a result: a cell of other code is another cell."""
    here = Path(__file__).parent
    names = (
        "game", "heads", "arithmetic", "convolutions", "penalty", "randomness", "features", "mre", "distances",
        "classify", "lipschitz", "collapse", "health", "baselines", "players", "cuda_graph", "capture", "train",
        "data_parallel", "dense", "stacked", "side_by_side", "party", "result",
    )  # fmt: skip
    return source_sha256([*(here / f"{name}.py" for name in names), *(here / "data").glob("*.py")])


def default_objectives(zoo: Zoo, plan: Plan) -> tuple[str, ...]:
    """Every objective that the plan's measure and labels make sense for, and for each cost that is not ganzoo's own the
    objectives that take a cost, with it; but what is marked `by_default=False`.

    So whoever adds a cost sees it in the next comparison. Of ganzoo's own the paper's objectives play: each further
    one costs time and, by Holm's correction, the power to tell the others apart.
    """
    objectives = []
    for entry in filter(_by_default, zoo.entries("objective")):
        (contender,) = contenders(entry.name, zoo, plan)
        if _senseless(contender, contender.game(zoo), plan) is None:
            objectives.append(entry)
    if not objectives:
        if zoo.entries("objective"):
            raise UserError(
                "no objective that plays by default suits this plan's measure and labels; name some with -o"
            )
        cure = zoo.limited or "; install ganzoo itself (`pip install -e .` in a checkout)"
        raise UserError(f"no objective is installed{cure}")
    strangers = [cost for cost in zoo.entries("cost") if not cost.origin.ours and _by_default(cost)]
    played = [f"{o.name}:cost={c.name}" for c in strangers for o in objectives if "cost" in o.inputs]
    return (*(o.name for o in objectives), *played)


def _by_default(entry: Entry) -> bool:
    return bool(getattr(entry.function, "ganzoo_by_default", True))
