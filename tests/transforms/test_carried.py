"""Carried values survive the way into the table, or are refused by name."""

import json

import pytest

from transforms.carried import Carry, hash_of, parse
from transforms.carried_types import extend, merge, to_array, to_arrow, type_of
from transforms.errors import UserError

ALL = Carry(("all",))


def through(text):
    """Return the values of a JSON text as the table holds them."""
    source = ALL.encode(parse(text))
    return to_array([source], to_arrow(type_of([("a.jpg", source)]))).to_pylist()[0]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"a": "x\\ud800y"}', {"a": "x\ufffdy"}),
        ('{"\\udc00": 1}', {"\ufffd": 1}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('{"a": 18446744073709551615}', {"a": 2.0**64}),
        ('{"a": [[1], [2.5]]}', {"a": [[1.0], [2.5]]}),
        ('{"a": "\\u0000", "b": true}', {"a": "\0", "b": True}),
    ],
)
def test_hostile_values_fit_into_a_table(text, values):
    assert through(text) == values


def test_what_nests_too_deeply_is_no_note_and_no_value():
    assert parse('{"a":' * 33 + "1" + "}" * 33) is None
    assert parse('{"a":' * 90_000) is None
    deep = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(UserError, match="more than 32 deep"):
        ALL.encode({"a": deep})


def test_the_json_is_canonical_and_so_is_its_hash():
    one, two = ALL.encode({"b": 1, "a": "é"}), ALL.encode({"a": "é", "b": 1, "c": None})
    assert one == two == '{"a": "é", "b": 1}'
    assert hash_of(one) == hash_of(two) != hash_of(ALL.encode({"a": "e", "b": 1}))
    assert (ALL.encode({"a": None}), hash_of(None)) == (None, None)


def test_bytes_are_left_out_of_all_and_refused_by_name():
    assert ALL.encode({"a": b"x", "b": 1}) == '{"b": 1}'
    with pytest.raises(UserError, match="type bytes cannot be carried"):
        Carry(("a",)).encode({"a": b"x"})


def test_types_merge_within_a_night():
    assert merge({"a": "int64"}, {"a": "double", "b": "string"}) == {"a": "double", "b": "string"}
    images = [("x.jpg", '{"a": 1}'), ("y.jpg", '{"a": "1"}')]
    with pytest.raises(UserError, match=r"'a' holds int64 for some images and string .* y\.jpg"):
        type_of(images)


def test_a_table_gets_columns_and_keeps_their_types():
    assert extend({"a": "double"}, {"a": "int64", "b": "bool"}) == {"a": "double", "b": "bool"}
    assert extend({"a": {"x": "bool"}}, {"a": {"y": "bool"}}) == {"a": {"x": "bool", "y": "bool"}}
    for now, word in (("double", "double"), ("string", "string"), (["int64"], "a list")):
        with pytest.raises(UserError, match=f"'a' holds int64 in the table and {word} now"):
            extend({"a": "int64"}, {"a": now})


@pytest.mark.parametrize(
    "sources",
    [
        ['{"a": 1, "A": 2}'],
        ['{"a": 1}', '{"A": 2}'],
        ['{"x": {"Ab": 1, "aB": 2}}'],
        ['{"x": [{"a": 1}]}', '{"x": [{"A": 1}]}'],
    ],
)
def test_names_that_differ_only_in_case_are_refused(sources):
    """Delta refuses them at the commit, when all work is done."""
    with pytest.raises(UserError, match=r"(?i)the columns 'a.?' and 'a.?' differ only in case"):
        type_of([(f"{place}.jpg", source) for place, source in enumerate(sources)])


def test_a_name_with_nul_is_refused():
    """Arrow ends the name there, and its values would be lost."""
    with pytest.raises(UserError, match=r"the column 'n\\x00' has the character NUL"):
        type_of([("a.jpg", json.dumps({"n\0": 1}))])
