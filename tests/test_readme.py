"""The README is run as it is written."""

import re
import shutil
from pathlib import Path

import pytest

from ganzoo.checks import run_checks
from ganzoo.cli import main
from ganzoo.config import Plan, default_objectives
from ganzoo.zoo import Zoo

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COST = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "@ganzoo.cost" in block)


@pytest.fixture
def cost_file(tmp_path: Path) -> Path:
    path = tmp_path / "capped.py"
    path.write_text(COST, encoding="utf-8")
    return path


def test_the_cost_of_the_readme_has_five_lines_and_passes_its_checks(cost_file: Path) -> None:
    assert len([line for line in COST.splitlines() if line.strip()]) <= 5
    zoo = Zoo.installed(cost_file)
    report = run_checks(zoo.find("cost", "capped"), zoo)
    assert report.passed, report.text()


def test_the_cost_of_the_readme_is_in_the_default_comparison(cost_file: Path) -> None:
    assert "gls-gan:cost=capped" in default_objectives(Zoo.installed(cost_file), Plan())


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("line", re.findall(r"^    (ganzoo bench .*?)(?:\s+#.*)?$", README, re.MULTILINE))
def test_each_bench_command_of_the_readme_parses(
    line: str, cost_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-plan.toml").write_text("epochs = 2\n", encoding="utf-8")
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    monkeypatch.setattr("sys.argv", [*line.split(), "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    needs = ("mnist", "photos", "CUDA", "cifar10.npz")  # what a bare machine has not, it is told in one line
    assert ended.value.code == 0 or (ended.value.code == 2 and any(word in said.err for word in needs)), said.err
