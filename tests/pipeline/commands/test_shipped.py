from pathlib import Path

import pytest

from pipeline.commands.shipped import find_shipped

LAUNCH = Path(__file__).parents[3] / "launch"


@pytest.mark.parametrize("word", ["@launch/dask", "@launch/dask.args"])
def test_a_file_that_comes_with_the_package_is_found_from_any_folder(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_shipped(word) == f"@{LAUNCH / 'dask.args'}"


def test_a_file_of_the_current_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch/dask.args").write_text("--top-k=3\n")
    assert find_shipped("@launch/dask.args") == "@launch/dask.args"
    assert find_shipped("@launch/dask") == "@launch/dask.args"


@pytest.mark.parametrize(
    "word", ["@launch/../setup", "@launch/none", "launch/dask", "@other/dask", "@launch/a\0b"]
)
def test_other_words_stay_as_they_are(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_shipped(word) == word
