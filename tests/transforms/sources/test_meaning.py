"""Inputs that name the same have the same normal form."""

import pytest

from transforms.sources import meaning_of


@pytest.mark.parametrize(
    "text", ["cl/", "./cl", "x/../cl", ".//cl//", "{here}/cl", "{here}/cl/", "file://{here}/cl"]
)
def test_spellings_of_one_folder_mean_the_same(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = text.format(here=tmp_path)
    assert meaning_of(text) == meaning_of("cl") == str(tmp_path / "cl")
    assert meaning_of(f"list:{text}") == meaning_of("list:cl")


def test_globs_and_urls_mean_the_same_where_they_take_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert meaning_of("./cl/*.jpg") == meaning_of(f"{tmp_path}/cl/*.jpg")
    assert meaning_of("s3://b/k/") == meaning_of("s3://b/k")
    assert meaning_of("list:-") == "list:-"
    others = [
        "cl",
        "list:cl",
        "CL",
        "cl/*",
        "cl/*/",
        "s3://b/k",
        "s3://b//k",
        "gs://b/k",
        "list:s3://b/k",
        "list:-",
    ]
    assert len(set(map(meaning_of, others))) == len(others)


def test_another_spelling_is_no_other_input_of_a_run(run, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(folder.name).embedded == 6
    next(folder.iterdir()).unlink()
    assert run(f"./{folder.name}/").removed == 1
