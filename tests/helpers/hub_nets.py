"""Small presets of KerasHub with seeded weights, of every family that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SIDE = 32
SHAPE = (SIDE, SIDE, 3)
_VIT = {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "image_shape": SHAPE}
_STAGES = {"stackwise_num_blocks": [1, 1], "stackwise_num_filters": [64, 16]}
# The arguments of each class, without "Backbone".
PLAIN: dict[str, dict[str, Any]] = {
    "ViT": {**_VIT, "mlp_dim": 32},
    "DeiT": {**_VIT, "intermediate_dim": 32},
    "DINOV2": {
        **_VIT,
        "intermediate_dim": 32,
        "num_register_tokens": 4,
        "position_embedding_shape": (64, 64),
    },
    "DINOV3": {**_VIT, "intermediate_dim": 32, "num_register_tokens": 4},
    "SwinTransformer": {
        "image_shape": SHAPE,
        "embed_dim": 8,
        "depths": (1, 1),
        "num_heads": (2, 2),
        "window_size": 4,
    },
    "ResNet": {
        **_STAGES,
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [7],
        "stackwise_num_strides": [1, 2],
        "block_type": "basic_block",
        "image_shape": (None, None, 3),
    },
    "VGG": {"stackwise_num_repeats": [1, 1], "stackwise_num_filters": [4, 8], "image_shape": SHAPE},
    "DenseNet": {"stackwise_num_repeats": [1, 1], "image_shape": SHAPE},
    "HGNetV2": {
        "depths": [1, 1],
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "stem_channels": [3, 4, 8],
        "hidden_act": "relu",
        "use_learnable_affine_block": False,
        "stackwise_stage_filters": [[8, 8, 8, 1, 1, 3], [8, 8, 16, 1, 1, 3]],
        "apply_downsample": [False, True],
        "use_lightweight_conv_block": [False, False],
        "image_shape": SHAPE,
    },
    "MiT": {
        "max_drop_path_rate": 0.0,
        "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [2, 1],
        "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2],
        "num_layers": 2,
        "layerwise_depths": [1, 1],
        "hidden_dims": [8, 16],
        "image_shape": SHAPE,
    },
    "Xception": {
        "stackwise_conv_filters": [[8, 8], [8, 16]],
        "stackwise_pooling": [True, False],
        "image_shape": SHAPE,
    },
    "MobileNet": {
        "stackwise_expansion": [[8], [8]],
        "stackwise_num_blocks": [1, 1],
        "stackwise_num_filters": [[8], [16]],
        "stackwise_kernel_size": [[3], [3]],
        "stackwise_num_strides": [[2], [1]],
        "stackwise_se_ratio": [[None], [None]],
        "stackwise_activation": [["relu6"], ["relu6"]],
        "stackwise_padding": [[1], [1]],
        "output_num_filters": 16,
        "depthwise_filters": 8,
        "depthwise_stride": 2,
        "depthwise_residual": False,
        "squeeze_and_excite": None,
        "last_layer_filter": 16,
        "image_shape": SHAPE,
    },
    "CSPNet": {
        "stem_filters": 8,
        "stem_kernel_size": 3,
        "stem_strides": 1,
        "stackwise_depth": [1, 1],
        "stackwise_strides": [1, 2],
        "stackwise_num_filters": [8, 16],
        "block_type": "dark_block",
        "stage_type": "dark",
        "image_shape": SHAPE,
    },
    "EfficientNet": {
        "stackwise_width_coefficients": [1.0, 1.0],
        "stackwise_depth_coefficients": [1.0, 1.0],
        "stackwise_kernel_sizes": [3, 3],
        "stackwise_num_repeats": [1, 1],
        "stackwise_input_filters": [8, 8],
        "stackwise_output_filters": [8, 16],
        "stackwise_expansion_ratios": [1, 4],
        "stackwise_strides": [1, 2],
        "stackwise_squeeze_and_excite_ratios": [0.25, 0.25],
        "stackwise_block_types": ["v1", "v1"],
        "stackwise_force_input_filters": [0, 0],
        "stackwise_nores_option": [False, False],
        "min_depth": 8,
        "depth_divisor": 8,
        "image_shape": SHAPE,
    },
}
# With a tower for texts too.
TOWERS = ("CLIP", "SigLIP", "MetaCLIP2")


def backbone(family: str) -> Any:
    """Make a small backbone with seeded weights."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(6)
    kinds = keras_hub.models
    if family not in TOWERS:
        return getattr(kinds, f"{family}Backbone")(**PLAIN[family])
    image = getattr(kinds, f"{family}VisionEncoder")(**_VIT, intermediate_dim=32)
    text = getattr(kinds, f"{family}TextEncoder")(
        vocabulary_size=50,
        embedding_dim=16,
        hidden_dim=16,
        num_layers=1,
        num_heads=2,
        intermediate_dim=32,
    )
    projected = {} if family == "SigLIP" else {"projection_dim": 12}
    return getattr(kinds, f"{family}Backbone")(image, text, **projected)


def save_preset(family: str, folder: Path, **converter: Any) -> tuple[Any, Any]:
    """Save a preset; return its backbone and its image converter."""
    import keras_hub

    made = backbone(family)
    options = {
        "image_size": (SIDE, SIDE),
        "scale": [1 / 255 / 0.23, 1 / 255 / 0.22, 1 / 255 / 0.225],
        "offset": [-0.485 / 0.23, -0.456 / 0.22, -0.406 / 0.225],
        "antialias": True,
        "interpolation": "bicubic",
        **converter,
    }
    images = getattr(keras_hub.layers, f"{family}ImageConverter")(**options)
    made.save_to_preset(str(folder))
    images.save_to_preset(str(folder))
    return made, images


def save_tokenizer(family: str, folder: Path) -> Any:
    """Save a small tokenizer beside a preset with a tower for texts; return it."""
    import io

    import keras_hub
    import sentencepiece

    if family == "CLIP":
        ends = ["<|startoftext|>", "<|endoftext|>"]
        letters = [*"abcdefghijklmnopqrstuvwxyz"]
        pieces = [*letters[:20], *(f"{letter}</w>" for letter in letters[:20]), "ca", *ends]
        tokenizer = keras_hub.models.CLIPTokenizer(
            vocabulary={piece: number for number, piece in enumerate(pieces)}, merges=["c a"]
        )
    else:
        proto = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a cat", "a dog", "a photo of a cup", "the moon"]),
            model_writer=proto,
            vocab_size=30,
            hard_vocab_limit=False,
            model_type="bpe",
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=3,
        )
        kind = getattr(keras_hub.models, f"{family}Tokenizer")
        tokenizer = kind(proto=proto.getvalue())
    tokenizer.save_to_preset(str(folder))
    return tokenizer
