"""Figures of a classifier, its targets, and its report."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.training.baselines import measure
from pipeline.training.examples import Targets, _sides_by_column, _without_untrained
from pipeline.training.head import class_weights
from pipeline.training.labels import Labels
from pipeline.training.metrics import Calibration, Evaluation, best_temperature, scores_of
from pipeline.training.page import page
from pipeline.training.vectors import Chunk, Side
from transforms.errors import UserError


def targets(rows, classes=3, exclusive=False):
    starts = np.cumsum([0, *map(len, rows)])
    numbers = np.array([number for row in rows for number in row], np.int32)
    return Targets(tuple("abcdefgh"[:classes]), exclusive, starts, numbers)


def side(vectors, rows):
    return Side((Chunk(np.array(rows), lambda: vectors),), vectors.shape[1])


def test_targets_of_several_labels_become_a_matrix():
    several = targets([[0, 2], [], [1], [0]])
    assert several.of(np.array([2, 0, 1])).tolist() == [[0, 1, 0], [1, 0, 1], [0, 0, 0]]
    assert several.counts(np.arange(4)).tolist() == [2, 1, 1]
    one = targets([[2], [0]], exclusive=True)
    assert one.of(np.array([1, 0])).tolist() == [0, 2]


def test_a_class_without_rows_for_training_is_left_out():
    labels = Labels(("a", "b", "c"), ((0,), (1,), (2,), (1, 2)), exclusive=False)
    found, _, dropped = _without_untrained(labels, np.array([0, 2, 0, 0], np.int8), "folder")
    assert (found.classes, dropped) == (("a", "b", "c"), {})
    found, sides, dropped = _without_untrained(labels, np.array([0, 2, 0, -1], np.int8), "folder")
    assert (found.classes, dropped) == (("a", "c"), {"b": 1})
    assert sides.tolist() == [0, -1, 0, -1]
    with pytest.raises(UserError, match="only a has rows for training"):
        _without_untrained(labels, np.array([0, 2, 2, 1], np.int8), "folder")


def test_a_column_may_decide_the_sides():
    rows = pa.table({"source": [{"fold": word} for word in ("train", "Val", None, "TEST")]})
    assert _sides_by_column("fold", rows).tolist() == [0, 1, -1, 2]
    strange = pa.table({"source": [{"fold": "\x1b[2Jx"}]})
    with pytest.raises(UserError, match="a row's value is train") as error:
        _sides_by_column("fold", strange)
    assert "\x1b" not in str(error.value)


def test_an_evaluation_counts_what_a_person_would():
    found = Evaluation(3, True, 1.0)
    logits = np.array([[9, 0, 0], [0, 9, 0], [0, 9, 0], [0, 9, 0]], np.float32)
    found.add(logits[:2], np.array([0, 1], np.int32))
    found.add(logits[2:], np.array([0, 0], np.int32))
    assert (found.accuracy, found.confusions()) == (0.5, [(0, 1, 2)])
    # F1 of class 0 is 2·1 / (3 + 1), of class 1 is 2·1 / (1 + 3); class 2 has no row.
    assert found.macro_f1 == pytest.approx(0.5)
    several = Evaluation(2, False, 1.0)
    several.add(np.array([[5, -5], [5, 5]], np.float32), np.array([[1, 0], [1, 0]], np.float32))
    assert several.accuracy == 0.5
    assert several.confusions() == []


def test_the_calibration_error_is_confidence_against_accuracy():
    found = Calibration()
    found.add(np.full(10, 0.9), np.arange(10) < 6)
    assert found.error == pytest.approx(0.3)


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_temperature_finds_how_sure_a_head_is_by_mistake(exclusive):
    random = np.random.default_rng(0)
    honest = random.normal(0, 2, (20_000, 4)).astype(np.float32)
    scores = scores_of(honest, exclusive)
    if exclusive:
        true = (scores.cumsum(1) > random.random((20_000, 1))).argmax(1).astype(np.int32)
    else:
        true = (random.random(scores.shape) < scores).astype(np.float32)
    assert best_temperature(honest * 3, true, exclusive) == pytest.approx(3, rel=0.05)
    # A head that is always right is not made surer.
    right = honest[:9].argmax(1).astype(np.int32)
    assert best_temperature(honest[:9], right, True) == pytest.approx(1, abs=0.01)
    assert best_temperature(honest[:0], true[:0], exclusive) == 1


def test_only_unbalanced_classes_have_weights():
    balanced = targets([[0], [0], [0], [1]], 2, exclusive=True)
    assert class_weights(balanced, np.arange(4)) is None
    uneven = targets([[0]] * 8 + [[1]] * 2, 2, exclusive=True)
    np.testing.assert_allclose(class_weights(uneven, np.arange(10)), [0.625, 2.5])


def test_the_baselines_are_votes_and_the_largest_class():
    vectors = np.array([[1, 0]] * 30 + [[0, 1]] * 22 + [[1, 0.1], [0.1, 1]], np.float32)
    labels = targets([[0]] * 30 + [[1]] * 22 + [[0], [1]], 2, exclusive=True)
    found = measure(side(vectors[:52], range(52)), side(vectors[52:], [52, 53]), labels)
    assert (found.largest, found.neighbours, found.asked) == (0.5, 1.0, 2)


def test_a_hostile_label_is_only_text_in_the_report():
    found = Evaluation(2, True, 1.0)
    found.add(np.eye(2, dtype=np.float32), np.array([0, 1], np.int32))
    names = ["<script>x</script>", "\u202e\x1b[2J"]
    text = page("t", ["a <b>", "c"], [{"epoch": 1, "loss": 0.5, "accuracy": 1.0}], found, names)
    assert "<script" not in text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;" in text
