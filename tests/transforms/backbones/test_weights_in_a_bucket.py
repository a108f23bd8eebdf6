"""A weights file in a bucket: fetched once into the user's cache, and hashed."""

import hashlib

import pytest

from transforms.backbones import BackboneConfig, resolve
from transforms.storage import NotFound


def test_weights_by_url_are_those_of_the_file(s3, tmp_path):
    import keras

    file = tmp_path / "mine.weights.h5"
    keras.applications.MobileNetV3Small(weights=None).save_weights(file)
    s3.put("nets/mine.weights.h5", file.read_bytes())
    url = f"{s3.url}/nets/mine.weights.h5"
    found = resolve(BackboneConfig(backbone="MobileNetV3Small", weights=url))
    assert found.weights.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.weights.word == "mine.weights.h5"
    assert found.weights.classes == 1000
    with pytest.raises(NotFound, match=r"nets/none\.h5 is not there"):
        resolve(BackboneConfig(backbone="MobileNetV3Small", weights=f"{s3.url}/nets/none.h5"))
