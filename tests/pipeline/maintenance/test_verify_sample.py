"""Verify --sample computes vectors again, and names each reason for a different one."""

import os
import shutil

import pytest

from pipeline.maintenance.verify import _picks, verify
from tests.helpers.damaged import commit_damaged, found, kinds, with_vectors
from transforms.recompute import tolerance


def test_another_vector_of_the_sample(output):
    commit_damaged(output, with_vectors(lambda vectors: vectors[::-1]))
    assert kinds(output) == []
    problems = found(output, sample=7)
    assert {kind for kind, _ in problems} == {"vector"}
    # The order of three vectors was reversed: the middle one stays the same.
    assert len(problems) == 2
    assert "of its length; 0.0045 is allowed" in problems[0][1]
    assert (
        str(verify(str(output), 7))
        .splitlines()[2]
        .startswith("sample: 5 vectors are the same, 2 are not")
    )


def test_changed_and_vanished_images_are_no_problems(images, run, tmp_path):
    copies = shutil.copytree(images, tmp_path / "copies")
    output = tmp_path / "out"
    run(copies, output, max_failure_rate=1)
    (copies / "coffee.jpg").unlink()
    (copies / "camera.jpg").write_bytes((copies / "rocket.jpg").read_bytes())
    verification = verify(str(output), sample=100)
    assert verification.clean
    counts = (verification.sample.same, verification.sample.changed, verification.sample.vanished)
    assert counts == (5, 1, 1)


def test_other_bytes_behind_the_same_etag(images, run, tmp_path):
    copies = shutil.copytree(images, tmp_path / "copies")
    output = tmp_path / "out"
    run(copies, output, max_failure_rate=1)
    photo = copies / "coffee.jpg"
    status = photo.stat()
    data = photo.read_bytes()
    photo.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))
    [(kind, text)] = found(output, sample=100)
    assert (kind, str(photo) in text) == ("content", True)


def test_an_image_that_cannot_be_read_is_a_problem_of_the_sample(images, run, tmp_path):
    copies = shutil.copytree(images, tmp_path / "copies")
    run(copies, tmp_path / "out", max_failure_rate=1)
    (copies / "coffee.jpg").unlink()
    (copies / "coffee.jpg").mkdir()
    [(kind, text)] = found(tmp_path / "out", sample=100)
    assert kind == "vector"
    assert "cannot be computed again: unsupported: not a file" in text


def test_the_network_is_gone(output):
    shutil.rmtree(output / "models")
    assert kinds(output) == []
    [(kind, text)] = found(output, sample=1)
    assert kind == "model"
    assert text.endswith("the network that made the vectors is not there")


def test_the_sample_is_drawn_again_alike_and_from_all_parts(output):
    rows = [3, 0, 5, 2]
    assert all((a == b).all() for a, b in zip(_picks(rows, 4, 1), _picks(rows, 4, 1), strict=True))
    assert sum(len(pick) for pick in _picks(rows, 4, 1)) == 4
    assert [pick.tolist() for pick in _picks(rows, 100, 1)] == [
        [0, 1, 2],
        [],
        [0, 1, 2, 3, 4],
        [0, 1],
    ]
    drawn = [tuple(map(tuple, _picks(rows, 2, version))) for version in range(20)]
    assert len(set(drawn)) > 5


def test_a_sample_of_another_recipe(images, run, tmp_path):
    run(images, tmp_path / "out", max_failure_rate=1, precision="bfloat16", resize="crop")
    verification = verify(str(tmp_path / "out"), sample=7)
    assert verification.clean, str(verification)
    assert verification.sample.same == 7


def test_tolerance_is_that_of_the_self_check():
    assert tolerance("float32") == pytest.approx(0.00447, abs=1e-5)
    assert tolerance("bfloat16") == pytest.approx(0.2)
