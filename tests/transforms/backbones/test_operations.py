"""The operations that a SavedModel may hold, against all that TensorFlow registers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transforms.backbones import BackboneConfig, resolve
from transforms.backbones.network import import_keras
from transforms.backbones.operations import PURE, SAVER, SEEDED
from transforms.backbones.safety import check_file
from transforms.errors import UserError

_HARM = re.compile(
    r"file|path|socket|address|host|port$|dataset|iterator|py_?func|token|random|rng|seed|debug|dump|print|log(ger|ging)"
    r"|summary|queue|reader|record|save|restore|checkpoint|remap|memory_region|rpc|remote|send|recv|session|table|"
    r"vocab|custom_call|library|url|host_|server|worker|collective|^tpu|xla|compile",
    re.IGNORECASE,
)
_HARMLESS = {("VarHandleOp", "debug_name")}  # a name, for messages


def _registered() -> list[Any]:
    import_keras()
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    listed = op_def_pb2.OpList()
    listed.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    return list(listed.op)


def test_nothing_that_touches_the_machine_is_allowed() -> None:
    registered = _registered()
    assert len(registered) > 1000
    names = {op.name for op in registered}
    assert names >= PURE | SAVER | SEEDED, "misspelt, or TensorFlow has dropped it"
    for op in (op for op in registered if op.name in PURE):
        words = [op.name, *(a.name for a in op.attr), *(a.name for a in op.input_arg)]
        bad = [word for word in words if _HARM.search(word) and (op.name, word) not in _HARMLESS]
        assert not bad, f"{op.name}: {bad}"


def test_what_the_list_of_bad_operations_let_pass_is_not_allowed() -> None:
    passed = """CacheDatasetV2 ImmutableConst InitializeTableFromTextFileV2 DataServiceDatasetV4
    RegisterDataset
        DistributedSave DebugNanCount LoadAndRemapMatrix RecordInput FixedUnigramCandidateSampler"""
    assert not PURE.intersection(passed.split())


def test_only_pure_operations_keep_state_that_is_the_networks_own() -> None:
    stateful = {op.name for op in _registered() if op.is_stateful and op.name in PURE}
    flow = {"Assert", "Case", "If", "StatefulPartitionedCall", "While"}
    variables = re.compile(
        r"Variable|^Resource(Gather|GatherNd)$|^VarHandleOp$|^VarIsInitializedOp$"
    )
    others = {name for name in stateful - flow if not variables.search(name)}
    assert others <= {"DestroyResourceOp", "DisableCopyOnRead"}


@pytest.mark.parametrize(
    "inside", [False, True], ids=["in the signature", "in a function that it calls"]
)
def test_a_file_in_a_constant_is_refused(inside: bool, tmp_path: Path) -> None:
    import_keras()
    import tensorflow as tf

    secret = tmp_path / "secret"
    secret.write_bytes(b"abcdefgh" * 8)

    def leak(pixels: Any) -> Any:
        read = tf.raw_ops.ImmutableConst(
            dtype=tf.float32, shape=[1], memory_region_name=str(secret)
        )
        return tf.reduce_mean(pixels, [1, 2]) + read

    called = tf.function(leak) if inside else leak

    def serve(pixels: Any) -> dict[str, Any]:
        return {"y": tf.matmul(called(pixels), np.ones((3, 2), np.float32))}

    module = tf.Module()
    spec = tf.TensorSpec([None, 8, 8, 3], tf.float32, name="pixels")
    module.serve = tf.function(serve, [spec])
    tf.saved_model.save(module, str(tmp_path / "saved"), {"serving_default": module.serve})
    with pytest.raises(UserError, match=r"\(ImmutableConst\).*--allow-code"):
        resolve(BackboneConfig(backbone=str(tmp_path / "saved"), preprocess="none"))


def test_common_layers_of_keras_are_loaded(tmp_path: Path) -> None:
    layers = import_keras().layers
    model = import_keras().Sequential(
        [
            layers.Input((16, 16, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="gelu"),
            layers.BatchNormalization(),
            layers.SeparableConv2D(4, 3, padding="same", activation="swish"),
            layers.Conv2DTranspose(4, 3, strides=2),
            layers.UpSampling2D(2, interpolation="bilinear"),
            layers.Resizing(12, 12),
            layers.PReLU(),
            layers.ZeroPadding2D(1),
            layers.MaxPooling2D(),
            layers.LayerNormalization(),
            layers.GroupNormalization(2),
            layers.Dropout(0.5),
            layers.Reshape((-1, 4)),
            layers.Dense(5),
            layers.GlobalAveragePooling1D(),
            layers.UnitNormalization(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.export(str(tmp_path / "saved"), verbose=False)
    assert (
        resolve(BackboneConfig(backbone=str(tmp_path / "saved"), preprocess="none")).dimension == 5
    )


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_a_loop_of_keras_is_allowed(kind: str, tmp_path: Path) -> None:
    layers = import_keras().layers
    recurrent = getattr(layers, kind)(5)
    model = import_keras().Sequential(
        [layers.Input((4, 4, 3)), layers.Reshape((16, 3)), recurrent, layers.Dense(2)]
    )
    model.export(str(tmp_path / "saved"), verbose=False)
    check_file(tmp_path / "saved")


@pytest.mark.parametrize(
    "saver", [False, True], ids=["in the initialiser", "in the saver's function, called by it"]
)
def test_a_resource_that_writes_when_it_is_loaded_is_refused(saver: bool, tmp_path: Path) -> None:
    import_keras()
    import tensorflow as tf
    from tensorflow.python.trackable.resource import TrackableResource

    written = tmp_path / "written"

    class Resource(TrackableResource):  # type: ignore[misc]
        def _create_resource(self) -> Any:
            return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name="own")

        def _initialize(self) -> Any:
            numbers = {
                "tensors": [tf.constant([1.0])],
                "tensor_names": ["a"],
                "shape_and_slices": [""],
            }
            tf.raw_ops.SaveV2(prefix=str(written), **numbers)

    module = tf.Module()
    spec = tf.TensorSpec([None, 8, 8, 3], tf.float32, name="pixels")
    module.serve = tf.function(
        lambda pixels: {"y": tf.reduce_mean(pixels, [1, 2]) @ tf.ones([3, 2])}, [spec]
    )
    module.resource = Resource()
    tf.saved_model.save(module, str(tmp_path / "saved"), {"serving_default": module.serve})
    _make_the_initialiser_harmful(tmp_path / "saved" / "saved_model.pb", saver)
    with pytest.raises(UserError, match=r"\(SaveV2\).*--allow-code"):
        resolve(BackboneConfig(backbone=str(tmp_path / "saved"), preprocess="none"))
    assert not list(tmp_path.glob("written*"))
    assert (
        resolve(
            BackboneConfig(backbone=str(tmp_path / "saved"), preprocess="none", allow_code=True)
        ).dimension
        == 3
    )
    assert list(tmp_path.glob("written*")), "it is harmless: the test shows nothing"


def _make_the_initialiser_harmful(path: Path, saver: bool) -> None:
    """Make the result depend on a write that the saver calls, so that it looks like the saver's."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    meta = saved.meta_graphs[0]
    harm = next(f for f in meta.graph_def.library.function if "initializer" in f.signature.name)
    next(node for node in harm.node_def if node.op == "Identity").input.append("^SaveV2")
    if saver:
        called = meta.graph_def.node.add(name="called", op="StatefulPartitionedCall")
        called.attr["f"].func.name = harm.signature.name
        name = meta.saver_def.save_tensor_name.partition(":")[0]
        next(node for node in meta.graph_def.node if node.name == name).input.append("^called")
    path.write_bytes(saved.SerializeToString())


def test_a_restore_that_writes_is_refused(tmp_path: Path) -> None:
    """A SavedModel of TensorFlow 1 has no objects: its restore operation runs as it stands."""
    import_keras()
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        pixels = tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 3], "pixels")
        kernel = tf.compat.v1.get_variable(
            "kernel", [3, 2], initializer=tf.compat.v1.ones_initializer()
        )
        outputs = tf.reduce_mean(pixels, [1, 2]) @ kernel
        session.run(kernel.initializer)
        saved = str(tmp_path / "saved")
        tf.compat.v1.saved_model.simple_save(session, saved, {"pixels": pixels}, {"y": outputs})
    assert resolve(BackboneConfig(backbone=saved, preprocess="none")).dimension == 3
    from tensorflow.core.protobuf import saved_model_pb2

    path = tmp_path / "saved" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    meta = model.meta_graphs[0]
    writing = next(node.name for node in meta.graph_def.node if node.op == "SaveV2")
    restore = next(
        node for node in meta.graph_def.node if node.name == meta.saver_def.restore_op_name
    )
    restore.input.append(f"^{writing}")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"MergeV2Checkpoints.*SaveV2|SaveV2.*--allow-code"):
        resolve(BackboneConfig(backbone=saved, preprocess="none"))
