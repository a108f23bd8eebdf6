"""A run without a runner: what it gives, and what it does not import."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import transforms.extract as shards
from tests.helpers.runs import read_errors, read_features
from transforms import work

# Each costs a small run 0.3 to 3 s at its start.
UNUSED = ("apache_beam", "tensorflow", "keras", "grpc", "google.api_core", "jax", "pandas", "faiss")

RUN = """
import json, sys
from pipeline.cli import main
words = ["extract", "--quiet", "--input", sys.argv[1], "--output", sys.argv[2]]
assert main(words, own_process=True) == 0
print(json.dumps(sorted(sys.modules)))
"""


def test_it_gives_what_beam_gives_in_this_process(run, folder, tmp_path):
    (folder / "broken.jpg").write_bytes(b"no image")
    options = {"shard_size": 3, "max_failure_rate": 1}
    alone = run(folder, tmp_path / "alone", **options)
    beam = run(folder, tmp_path / "beam", beam_args=("--runner=DirectRunner",), **options)
    assert (alone.embedded, alone.failed) == (beam.embedded, beam.failed) == (6, 1)
    tables = [
        read_features(tmp_path / name).drop_columns(["run_id", "extracted_at"])
        for name in ("alone", "beam")
    ]
    assert tables[0].equals(tables[1])
    failures = [read_errors(tmp_path / name) for name in ("alone", "beam")]
    assert [[row["kind"] for row in rows] for rows in failures] == [["not_an_image"]] * 2


def test_one_shard_computes_while_another_one_is_written(run, folder, tmp_path, monkeypatch):
    """The first part waits until the second shard is computed: without overlap that never ends."""
    computed, writing, at_once = [threading.Event() for _ in range(2)], set(), []
    turns = threading.Semaphore(1)

    def complete(chunk, own):
        at_once.append(turns.acquire(blocking=False))
        work.complete(chunk, own)
        turns.release()
        computed[len(at_once) - 1].set()

    def write(shard, *own):
        writing.add(shard)
        assert computed[1].wait(60)
        return work.write(shard, *own)

    monkeypatch.setattr(shards, "complete", complete)
    monkeypatch.setattr(shards, "write", write)
    assert run(folder, tmp_path / "out", shard_size=3).embedded == 6
    assert at_once == [True, True]
    assert len(writing) == 2


def test_it_imports_neither_beam_nor_tensorflow(run, folder, tmp_path):
    # The network is exported now, with TensorFlow.
    run(folder, tmp_path / "before")
    words = [sys.executable, "-c", RUN, str(folder), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    imported = json.loads(done.stdout.splitlines()[-1])
    assert "openvino" in imported
    assert [name for name in UNUSED if name in imported] == []
