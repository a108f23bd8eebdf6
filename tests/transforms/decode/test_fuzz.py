"""Decode thousands of damaged files: each gives a vector or a failure row, and no crash.

``IMAGE_FEATURES_MUTANTS`` sets the number of files (default 8,000), ``IMAGE_FEATURES_SEED`` the
seed.
"""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import main
from tests.helpers.mutants import mutant, originals
from tests.helpers.runs import read_errors, read_features

MUTANTS = int(os.environ.get("IMAGE_FEATURES_MUTANTS", "8000"))
SEED = int(os.environ.get("IMAGE_FEATURES_SEED", "0"))
WHOLE_RUN = 300


def run(words, seconds):
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)], capture_output=True, text=True, timeout=seconds
    )


def test_mutants_of_every_format_give_a_picture_or_a_failure(tmp_path):
    """A decoder that crashes ends the process, whose last note then names the mutant."""
    place = tmp_path / "number"
    done = run(["tests.helpers.mutants", SEED, 0, MUTANTS, place], 60 + MUTANTS / 20)
    at = struct.unpack("<q", place.read_bytes())[0] if place.exists() else None
    assert done.returncode == 0, (
        f"ended with {done.returncode} at mutant {at} of seed {SEED}: {done.stderr[-2000:]}"
    )
    # Messages of libtiff and Pillow would not name the file.
    assert done.stderr == ""
    found = json.loads(done.stdout)
    print(found)
    assert sum(found["ends"].values()) == MUTANTS
    assert {"corrupt", "truncated", "unsupported", "not_an_image", "too_many_pixels"} <= set(
        found["ends"]
    )
    formats = {name.rsplit(".", 1)[-1] for name in originals()}
    assert formats == {
        name.removeprefix("picture ") for name in found["ends"] if name.startswith("picture ")
    }
    # At most 16 bytes for each of the 4 megapixels allowed here, and libavif's own limit of 268 for
    # hidden pictures of an AVIF.
    assert found["grown_mib"] < 1000


@pytest.mark.slow
def test_a_night_of_mutants_ends_with_a_row_for_each(tmp_path):
    folder, output = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for number in range(WHOLE_RUN):
        name, data = mutant(SEED + 1, number)
        (folder / f"{number:04d}.{name}").write_bytes(data)
    places = ["--input", folder, "--output", output]
    limits = ["--max-failure-rate", "1", "--max-pixels", "4000000"]
    done = run(["pipeline.cli", "extract", *places, *limits], 200)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [Path(uri).name for uri in read_features(output)["uri"].to_pylist()]
    failures = [Path(row["uri"]).name for row in read_errors(output)]
    assert sorted(rows + failures) == sorted(path.name for path in folder.iterdir())
    assert min(len(rows), len(failures)) > WHOLE_RUN / 10
    assert main(["verify", str(output)]) == 0
