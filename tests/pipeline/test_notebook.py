"""The example of a notebook in docs/python.md, in a real kernel."""

import re
from pathlib import Path

import nbclient
import nbformat.v4
import pytest

from tests.helpers.runs import make_folder

PAGE = Path(__file__).parents[2] / "docs/python.md"


def example() -> str:
    section = PAGE.read_text(encoding="utf-8").partition("## In a notebook")[2]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]


def run_cells(place: Path, *cells: str) -> list[str]:
    """Run cells in one kernel, and return what each shows as text."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(place)}}
    nbclient.NotebookClient(notebook, timeout=200, resources=resources).execute()
    return ["".join(map(str, cell.outputs)) for cell in notebook.cells]


NO_PANDAS = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=name)

sys.meta_path.insert(0, Missing())
"""


@pytest.mark.parametrize("first", ["import pandas", NO_PANDAS], ids=["pandas", "none"])
def test_the_example_runs_with_and_without_pandas(first, photos, tmp_path):
    """Test that our graphs build, and that Beam's own pipelines still see the notebook."""
    make_folder(tmp_path / "photos", photos)
    others = (
        "import apache_beam as beam\n"
        "from apache_beam.utils.interactive_utils import is_in_ipython\n"
        "print('notebook', is_in_ipython(), beam.pipeline.is_in_ipython())"
    )
    left = (
        "import pathlib, tempfile\n"
        "print('left', list(pathlib.Path(tempfile.gettempdir()).glob('beam-pipeline-temp*')))"
    )
    own = f"import pathlib, tempfile; tempfile.tempdir = {str(tmp_path)!r}"
    shown = run_cells(tmp_path, first, own, example(), others, left)
    assert "6/6" in shown[2]
    assert "embedded 6, reused 0, failed 0" in shown[2]
    assert "notebook True True" in shown[3]
    assert "left []" in shown[4]
