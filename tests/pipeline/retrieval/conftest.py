"""A table of made rows, with an index."""

import shutil
from pathlib import Path

import pytest

import pipeline
from tests.helpers.indexes import more_rows


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Make a table of 1,500 made rows, with an index."""
    output = tmp_path_factory.mktemp("made") / "out"
    more_rows(output, 1500)
    result = pipeline.index(output)
    assert result.done == "made"
    assert result.facts.lists == 38
    assert result.facts.recall >= 0.99
    return output


@pytest.fixture
def copied(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "out"))
