"""The notebook in docs runs from a results folder to the paper's figure, in ten cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.search.report.demo import write_demo

NOTEBOOK = Path(__file__).parents[3] / "docs" / "results.ipynb"


@pytest.mark.slow
def test_runs_to_the_papers_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) == 10
    assert all(not cell.outputs for cell in code), "outputs are not committed"
    monkeypatch.setenv("RPS_RESULTS", str(write_demo(tmp_path / "experiment", 40, repeats=2, epochs=3)))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(NOTEBOOK.parent))
    kinds = [set(output.get("data", {})) for cell in code for output in cell.outputs]
    assert sum("image/png" in kind for kind in kinds) == 2
    assert " reaches " in code[6].outputs[0].data["text/plain"]
    assert (tmp_path / "experiment" / "report" / "report.html").exists()
