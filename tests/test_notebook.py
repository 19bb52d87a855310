"""Runs the notebook of the documentation as Jupyter would, in a folder of its own."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "first-run.ipynb"


@pytest.fixture
def jupyter(tmp_path, monkeypatch):
    """Jupyter's own files go to a temporary folder too, and its kernel is this Python, whatever kernels the user has."""
    for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR"):
        monkeypatch.setenv(f"JUPYTER_{name}", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share" / "jupyter"))
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of Jupyter's, which are not ours to mend
def test_the_notebook_runs(jupyter):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(jupyter)}}).execute()
    assert sorted(path.name for path in jupyter.iterdir()) == ["runs"]
    assert (jupyter / "runs" / "first" / "report.html").exists()


def test_the_outputs_that_readers_see_are_of_this_notebook_and_small():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    assert NOTEBOOK.stat().st_size < 100_000
