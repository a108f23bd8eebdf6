"""Before a commit: counts that do not add up, rows that would be lost, and parts that are gone."""

import json

import pytest

from tests.helpers.runs import names, read_features, without
from transforms.errors import Refused


def receipts(output):
    return sorted(output.glob("runs/*/receipts/*.json"))


def test_a_run_whose_receipts_do_not_add_up_is_not_published(folder, run, tmp_path, monkeypatch):
    import pipeline.run
    import pipeline.steps.extract

    real = pipeline.steps.extract.extract_shards

    def forge(*arguments):
        real(*arguments)
        [path] = receipts(tmp_path / "out")
        path.write_text(json.dumps({**json.loads(path.read_text()), "reused": 2, "references": 7}))

    monkeypatch.setattr(pipeline.steps.extract, "extract_shards", forge)
    with pytest.raises(
        Refused, match=r"the counts do not balance: listed 6 .*shard-00000 does not add up"
    ):
        run(folder)
    assert not (tmp_path / "out/features/_delta_log").exists()


def test_a_run_that_would_leave_other_rows_than_it_counted_is_not_published(
    folder, run, tmp_path, monkeypatch
):
    """A part that was changed by hand would make a rewrite lose a row in the same way."""
    import transforms.parts.rewrite

    run(folder)
    before = read_features(tmp_path / "out")
    (folder / "chelsea.jpg").unlink()
    real = transforms.parts.rewrite.write_part
    monkeypatch.setattr(
        transforms.parts.rewrite,
        "write_part",
        lambda s, table, *rest: real(s, table.slice(1), *rest),
    )
    with pytest.raises(
        Refused,
        match="features table would hold 4 rows, and the counts say 5; nothing was published",
    ):
        run(folder)
    assert read_features(tmp_path / "out").equals(before)
    monkeypatch.setattr(transforms.parts.rewrite, "write_part", real)
    assert run(folder).removed == 1
    assert read_features(tmp_path / "out").equals(without(before, "chelsea.jpg"))


def test_a_part_that_was_lost_before_the_commit_is_made_again(folder, run, tmp_path, monkeypatch):
    import pipeline.run
    import pipeline.steps.extract

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.run, "publish", lambda *_: pytest.fail("stop here"))
        with pytest.raises(pytest.fail.Exception):
            run(folder, shard_size=2)
    lost = sorted((tmp_path / "out/features").glob("part-*"))[1]
    lost.unlink()
    assert run(folder, shard_size=2).embedded == 6
    assert len(names(tmp_path / "out")) == 6
    assert lost.exists()
