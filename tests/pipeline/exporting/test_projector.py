"""TensorBoard's own plugin serves what the export for it wrote."""

import json

import numpy as np
import pytest
from werkzeug.test import Client

from pipeline.exporting import projector
from tests.helpers.exports import counts
from tests.helpers.runs import vectors
from transforms.errors import UserError


def fetch(place, route, **query):
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin

    plugin = ProjectorPlugin(base_plugin.TBContext(logdir=str(place.dest)))
    return Client(plugin.get_plugin_apps()[route]).get(query_string={"run": ".", **query})


def check(place):
    config = json.loads(fetch(place, "/info").data)["embeddings"][0]
    rows, size = config["tensorShape"]
    data = fetch(place, "/tensor", name=config["tensorName"]).data
    matrix = np.frombuffer(data, np.float32).reshape(rows, size)
    lines = fetch(place, "/metadata", name=config["tensorName"]).data.decode().splitlines()
    head, *cells = [line.split("\t") for line in lines]
    assert head == ["uri", "run_id", "label", "score"]
    order = np.argsort([cell[0] for cell in cells])
    table = place.table()
    assert [cells[row][2] for row in order] == table["label"].to_pylist()
    np.testing.assert_array_equal(matrix[order], vectors(table))


def test_tensorboard_reads_the_newest_night(place):
    place.export("projector")
    check(place)
    place.night(2)
    assert counts(place.export("projector")) == (7, 0, 0)
    check(place)
    assert counts(place.export("projector")) == (0, 0, 0)


@pytest.mark.parametrize("name", ["vectors.bytes", "rows.tsv", "projector_config.pbtxt"])
def test_a_file_that_was_lost_or_cut_is_written_anew(place, name):
    place.export("projector")
    file = place.dest / name
    for damage in (file.unlink, lambda: file.write_bytes(file.read_bytes()[:-1])):
        damage()
        assert counts(place.export("projector")) == (6, 0, 0)
        check(place)
    assert counts(place.export("projector")) == (0, 0, 0)


def test_a_table_that_a_browser_cannot_draw_is_refused(place, monkeypatch):
    monkeypatch.setattr(projector, "MAX_ROWS", 5)
    with pytest.raises(UserError, match="has 6 rows"):
        place.export("projector")


@pytest.mark.parametrize("value", ["a\tb", "a\nb", "a\r\nb", "\x1b[31m", "\u2028"])
def test_a_cell_stays_one_cell(value):
    cell = projector._cell(value)
    assert len(cell.split("\t")) == len(cell.splitlines()) == 1
