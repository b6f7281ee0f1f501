"""The notebook runs from its first cell to its last, and shows what its words say."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "benchmarks" / "tour.ipynb"


@pytest.fixture(scope="module")
def written() -> Any:
    return nbformat.read(TOUR, as_version=4)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def executed(written: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = str(tmp_path_factory.mktemp("elsewhere"))
    there = {"metadata": {"path": folder}}
    return NotebookClient(written, timeout=300, kernel_name="python3", resources=there).execute()


def printed(cell: Any) -> str:
    """The text of a cell's outputs."""
    return "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def cell_with(notebook: Any, code: str) -> Any:
    (found,) = [cell for cell in notebook.cells if cell.cell_type == "code" and code in cell.source]
    return found


def test_the_notebook_is_committed_as_it_was_written_without_outputs(written: Any) -> None:
    nbformat.validate(written)
    for cell in written.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.slow
def test_the_tour_shows_what_its_words_say(executed: Any) -> None:
    assert printed(cell_with(executed, "report.passed")).endswith("True")
    refused = printed(cell_with(executed, "refused.passed"))
    assert "wrong formula" in refused
    assert refused.endswith("False")
    verdicts = printed(cell_with(executed, "run.train"))
    assert verdicts.count("'done'") == 6
    assert "ls-gan and gls-gan:slope=0 are the same game" in printed(cell_with(executed, "same_games"))
    table = printed(cell_with(executed, "reported(plan"))
    assert all(label in table for label in ("ls-gan", "gls-gan:cost=capped", "gls-gan:cost=identity"))
    assert "can be reached" in table
    assert "True" in printed(cell_with(executed, "fill_between"))
    drawn = [cell for cell in executed.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(drawn) == 3
