"""Equal ways of computing vectors have equal recipe ids."""

import hashlib

from transforms.recipe import canonical_json, differences, recipe_id


def test_the_id_does_not_depend_on_the_order_of_the_fields():
    assert recipe_id({"a": 1, "b": "é"}) == recipe_id({"b": "é", "a": 1})


def test_the_id_is_the_sha256_of_the_canonical_json():
    assert canonical_json({"b": None, "a": "é"}) == '{"a":"é","b":null}'
    assert (
        recipe_id({"b": None, "a": "é"})
        == hashlib.sha256('{"a":"é","b":null}'.encode()).hexdigest()
    )


def test_every_field_counts():
    base = {"resize": "squash", "top_k": 5}
    assert (
        len(
            {
                recipe_id(base),
                recipe_id({**base, "resize": "crop"}),
                recipe_id({**base, "top_k": 3}),
            }
        )
        == 3
    )


def test_differences_read_field_by_field():
    old, new = (
        {"resize": "squash", "backbone": "VGG16", "gone": 1},
        {"resize": "crop", "backbone": "VGG16", "extra": 2},
    )
    assert differences(old, new) == [
        "extra: (none) → 2",
        "gone: 1 → (none)",
        "resize: squash → crop",
    ]
