"""An image on which the engine fails costs only itself; a full device gets smaller batches."""

import numpy as np
import pytest

from transforms.embed import embed
from transforms.engines.base import ExportedModel, Outputs, as_batch
from transforms.errors import FailureKind


class ToyEngine:
    """Sum up each image; fail on black ones, return NaN for white ones, hold ``room`` images."""

    def __init__(self, tmp_path, room=100):
        self.model = ExportedModel(tmp_path, (2, 2), dimension=1, top_k=1, labels=("a",))
        self.batch_size = 8
        self.room = room
        self.calls = 0

    def run(self, images):
        self.calls += 1
        if self.batch_size > self.room:
            raise MemoryError
        sums = images.reshape(len(images), -1).sum(1).astype(np.float32)
        if (sums == 0).any():
            raise RuntimeError("black image\nand more")
        sums[sums == 12 * 255] = np.nan
        return Outputs(
            sums[:, None],
            np.ones((len(images), 1), np.float32),
            np.zeros((len(images), 1), np.int32),
        )


def pictures(*values):
    return np.stack([np.full((2, 2, 3), value, np.uint8) for value in values])


def test_all_images_in_order(tmp_path):
    outputs, failures = embed(ToyEngine(tmp_path), pictures(1, 2, 3))
    assert outputs.features[:, 0].tolist() == [12, 24, 36]
    assert not failures


@pytest.mark.parametrize("position", range(5))
def test_only_the_bad_image_fails(tmp_path, position):
    values = [1, 2, 3, 4, 5]
    values[position] = 0
    outputs, failures = embed(ToyEngine(tmp_path), pictures(*values))
    assert list(failures) == [position]
    assert failures[position].kind is FailureKind.ENGINE_ERROR
    assert failures[position].message == "RuntimeError: black image"
    good = [i for i in range(5) if i != position]
    assert outputs.features[good, 0].tolist() == [12 * values[i] for i in good]


def test_a_vector_that_is_not_finite_is_a_failure(tmp_path):
    _, failures = embed(ToyEngine(tmp_path), pictures(1, 255, 3))
    assert {i: e.kind for i, e in failures.items()} == {1: FailureKind.NON_FINITE}


def test_batches_shrink_when_memory_is_short_and_stay_small(tmp_path):
    engine = ToyEngine(tmp_path, room=2)
    outputs, failures = embed(engine, pictures(1, 2, 3))
    assert not failures
    assert outputs.features[:, 0].tolist() == [12, 24, 36]
    assert engine.batch_size == 2
    calls = engine.calls
    embed(engine, pictures(1, 2, 3))
    assert engine.calls == calls + 1


def test_padding_keeps_the_images_and_fills_the_batch():
    images = pictures(1, 2)
    padded = as_batch(images, 4)
    assert padded.shape == (4, 2, 2, 3)
    assert (padded[:2] == images).all()
    assert as_batch(images, 2) is images


def test_overlapped_stages_give_the_same_items_in_order():
    from transforms.prefetch import prefetch

    assert list(prefetch(iter([1, 2, 3]))) == [1, 2, 3]
    assert list(prefetch(iter([]))) == []

    def breaks():
        yield 1
        raise ValueError("broke")

    passed = prefetch(breaks())
    assert next(passed) == 1
    with pytest.raises(ValueError, match="broke"):
        next(passed)
