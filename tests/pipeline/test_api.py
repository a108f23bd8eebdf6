"""The Python API: its public names, the effects of its import, and what its functions return."""

import subprocess
import sys

import pytest

import pipeline
from tests.helpers.outputs import FORTNIGHT


@pytest.mark.parametrize("name", pipeline.__all__)
def test_each_name_is_imported_on_first_use(name):
    value = getattr(pipeline, name)
    assert value.__name__ == name
    assert value.__module__.startswith("pipeline.")


def test_importing_the_package_changes_neither_the_environment_nor_logging():
    code = (
        "import logging, os; before = dict(os.environ)\n"
        "import pipeline\n"
        "assert dict(os.environ) == before\n"
        "assert not logging.getLogger().filters\n"
        "assert not logging.getLogger().handlers\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_the_functions_return_numbers(output):
    place = str(output)
    [last, first] = pipeline.history(place).versions
    assert (last.number, last.change.rows) == (1, first.change.rows + last.change.added)
    contents = pipeline.show(place, 2)
    assert (contents.rows, contents.version) == (last.change.rows, 1)
    assert sum(contents.failures.values()) == 1
    assert [image.vector_length for image in contents.samples.images] == [1280, 1280]
    status = pipeline.status(place)
    assert (status.at_work, status.run.run_id) == (False, last.run_id)
    back = pipeline.rollback(place, 0)
    assert (back.restored, back.version, back.features_rows) == (0, 2, first.change.rows)
    freed = pipeline.vacuum(place, FORTNIGHT, dry_run=True)
    assert (freed.garbage, freed.size, freed.dry_run) == ((), 0, True)
