"""ADD A BACKBONE here: one readable line each, and nothing else.

Sizes, dimensions and value modes as in keras.applications of Keras 3.15; the tests hold every row
against Keras.
"""

from __future__ import annotations

import difflib

from transforms.backbones.spec import BLOCK5_POOL, POOL, POOL_NORM, Backbone
from transforms.errors import UserError

_ROWS = (
    # Name, module of keras.applications, input size, value mode, feature, dimension, parameters
    # in millions.
    Backbone("efficientnet_lite0", "lite", 224, "lite", POOL, 1280, 4.7, weights="embedded"),
    Backbone("efficientnet_lite1", "lite", 240, "lite", POOL, 1280, 5.5, weights="embedded"),
    Backbone("efficientnet_lite2", "lite", 260, "lite", POOL, 1280, 6.1, weights="embedded"),
    Backbone("ResNet50", "resnet", 224, "caffe", POOL, 2048, 25.6),
    Backbone("ResNet101", "resnet", 224, "caffe", POOL, 2048, 44.7),
    Backbone("ResNet152", "resnet", 224, "caffe", POOL, 2048, 60.4),
    Backbone("ResNet50V2", "resnet_v2", 224, "tf", POOL, 2048, 25.6),
    Backbone("ResNet101V2", "resnet_v2", 224, "tf", POOL, 2048, 44.7),
    Backbone("ResNet152V2", "resnet_v2", 224, "tf", POOL, 2048, 60.4),
    Backbone("MobileNet", "mobilenet", 224, "tf", POOL, 1024, 4.3),
    Backbone("MobileNetV2", "mobilenet_v2", 224, "tf", POOL, 1280, 3.5),
    Backbone("MobileNetV3Small", "mobilenet_v3", 224, "none", POOL, 576, 2.6),
    Backbone("MobileNetV3Large", "mobilenet_v3", 224, "none", POOL, 960, 5.5),
    Backbone("EfficientNetB0", "efficientnet", 224, "none", POOL, 1280, 5.3),
    Backbone("EfficientNetB1", "efficientnet", 240, "none", POOL, 1280, 7.9),
    Backbone("EfficientNetB2", "efficientnet", 260, "none", POOL, 1408, 9.2),
    Backbone("EfficientNetB3", "efficientnet", 300, "none", POOL, 1536, 12.3),
    Backbone("EfficientNetB4", "efficientnet", 380, "none", POOL, 1792, 19.5),
    Backbone("EfficientNetB5", "efficientnet", 456, "none", POOL, 2048, 30.6),
    Backbone("EfficientNetB6", "efficientnet", 528, "none", POOL, 2304, 43.3),
    Backbone("EfficientNetB7", "efficientnet", 600, "none", POOL, 2560, 66.7),
    Backbone("EfficientNetV2B0", "efficientnet_v2", 224, "none", POOL, 1280, 7.2),
    Backbone("EfficientNetV2B1", "efficientnet_v2", 240, "none", POOL, 1280, 8.2),
    Backbone("EfficientNetV2B2", "efficientnet_v2", 260, "none", POOL, 1408, 10.2),
    Backbone("EfficientNetV2B3", "efficientnet_v2", 300, "none", POOL, 1536, 14.5),
    Backbone("EfficientNetV2S", "efficientnet_v2", 384, "none", POOL, 1280, 21.6),
    Backbone("EfficientNetV2M", "efficientnet_v2", 480, "none", POOL, 1280, 54.4),
    Backbone("EfficientNetV2L", "efficientnet_v2", 480, "none", POOL, 1280, 119.0),
    Backbone("ConvNeXtTiny", "convnext", 224, "none", POOL_NORM, 768, 28.6),
    Backbone("ConvNeXtSmall", "convnext", 224, "none", POOL_NORM, 768, 50.2),
    Backbone("ConvNeXtBase", "convnext", 224, "none", POOL_NORM, 1024, 88.6),
    Backbone("ConvNeXtLarge", "convnext", 224, "none", POOL_NORM, 1536, 197.8),
    Backbone("ConvNeXtXLarge", "convnext", 224, "none", POOL_NORM, 2048, 350.2),
    Backbone("DenseNet121", "densenet", 224, "torch", POOL, 1024, 8.1),
    Backbone("DenseNet169", "densenet", 224, "torch", POOL, 1664, 14.3),
    Backbone("DenseNet201", "densenet", 224, "torch", POOL, 1920, 20.2),
    Backbone("InceptionV3", "inception_v3", 299, "tf", POOL, 2048, 23.9, min_size=75),
    Backbone("InceptionResNetV2", "inception_resnet_v2", 299, "tf", POOL, 1536, 55.9, min_size=75),
    Backbone("Xception", "xception", 299, "tf", POOL, 2048, 22.9, min_size=71),
    Backbone("NASNetMobile", "nasnet", 224, "tf", POOL, 1056, 5.3),
    Backbone("NASNetLarge", "nasnet", 331, "tf", POOL, 4032, 88.9),
    Backbone("VGG16", "vgg16", 224, "caffe", BLOCK5_POOL, 512, 138.4),
    Backbone("VGG19", "vgg19", 224, "caffe", BLOCK5_POOL, 512, 143.7),
)

BACKBONES: dict[str, Backbone] = {row.name: row for row in _ROWS}


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


_BY_PLAIN_NAME = {_plain(name): row for name, row in BACKBONES.items()}


def is_backbone(name: str) -> bool:
    """Tell whether ``name`` is a row's, in any case, with or without - and _."""
    return _plain(name) in _BY_PLAIN_NAME


def find_backbone(name: str) -> Backbone:
    """Return the row called ``name``, in any case, with or without - and _.

    Raises:
        UserError: No row has this name. The message lists the closest names, then all names.
    """
    if is_backbone(name):
        return _BY_PLAIN_NAME[_plain(name)]
    close = difflib.get_close_matches(_plain(name), _BY_PLAIN_NAME, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(_BY_PLAIN_NAME[c].name for c in close)}? " if close else ""
    raise UserError(
        f"--backbone {name}: neither a known backbone nor a file; {hint}The known ones are "
        f"{', '.join(BACKBONES)}. A network of your own is a path to a .keras, .h5 or .onnx file, "
        "or a SavedModel folder."
    )
