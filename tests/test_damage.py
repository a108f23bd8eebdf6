"""Damage to published parts: it is named, it is never copied into a new part, and one command makes it good."""

import re

import pyarrow.parquet as pq
import pytest
from outputs import live, parts

from pipeline.maintenance import compact
from pipeline.verify import verify
from transforms.errors import Damaged
from transforms.reuse import Reuse, encode_index
from transforms.storage import open_storage


def flip(path):
    """Change one bit of the vectors, so that the part still reads as Parquet."""
    sound, rows = path.read_bytes(), pq.read_table(path)
    column = next(
        column
        for number in range(pq.read_metadata(path).num_columns)
        if (column := pq.read_metadata(path).row_group(0).column(number)).path_in_schema.startswith("embedding")
    )
    place = column.data_page_offset + column.total_compressed_size // 2
    for at in range(place, place + 200):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        try:
            if not pq.read_table(path).equals(rows):
                return
        except OSError:
            continue
    raise AssertionError("no bit found whose flip Parquet does not see")


def test_compaction_names_a_flipped_bit_and_copies_nothing(output):
    bad = output / "features" / live(output)[0]
    flip(bad)
    before = live(output), parts(output)
    with pytest.raises(Damaged, match=rf"^part {bad.name} of {output}/features is damaged: its bytes have the digest"):
        compact(str(output))
    assert (live(output), parts(output)) == before
    assert verify(str(output)).problems[0].kind == "digest"


def test_a_damaged_part_gives_no_vectors_to_equal_bytes(output, caplog):
    bad = output / "features" / live(output)[0]
    rows = pq.read_table(bad, columns=["content_sha256"])
    index = encode_index(rows.append_column("part", [[bad.name] * rows.num_rows]))
    open_storage(str(output)).write("runs/test/index.parquet", index)
    contents = rows["content_sha256"].to_pylist()
    assert Reuse(open_storage(str(output)), "runs/test/index.parquet").find(contents)
    flip(bad)
    assert Reuse(open_storage(str(output)), "runs/test/index.parquet").find(contents) == []
    assert re.search(rf"part features/{bad.name} of .* is damaged: .*; its vectors are computed anew", caplog.text)
