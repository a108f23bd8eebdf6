"""What is read from the bytes of an ONNX file: which other files hold its weights."""

import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers.onnx_nets import small_net
from transforms.backbones.onnx_wire import external_files, with_output
from transforms.errors import UserError


def external(name, location):
    tensor = TensorProto(name=name, dims=[1], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def everywhere():
    """A model with external weights wherever the format allows them."""
    inner = helper.make_graph([], "inner", [], [], [external("a", "a.bin")])
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner)
    constant = helper.make_node("Constant", [], ["c"], value=external("b", "b.bin"))
    several = helper.make_node("Mine", [], ["d"])
    several.attribute.add(name="all", type=9, tensors=[external("c", "c.bin")])
    several.attribute.add(name="graphs", type=10, graphs=[inner])
    function = onnx.FunctionProto(name="f", node=[constant])
    graph = helper.make_graph([branch, several], "g", [], [], [external("d", "sub/d.bin")])
    graph.sparse_initializer.add(values=external("e", "e.bin"), indices=external("f", "f.bin"))
    return onnx.ModelProto(ir_version=8, graph=graph, functions=[function])


def test_all_external_files_are_found(tmp_path):
    names = ["a.bin", "b.bin", "c.bin", "e.bin", "f.bin", "sub/d.bin"]
    (tmp_path / "sub").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "net.onnx").write_bytes(everywhere().SerializeToString())
    assert external_files(tmp_path / "net.onnx") == tuple(tmp_path / name for name in names)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret", "sub/../../secret", "C:\\secret", "a\0b", ""]
)
def test_a_file_outside_the_folder_is_refused(name, tmp_path):
    graph = helper.make_graph([], "g", [], [], [external("a", name)])
    (tmp_path / "net.onnx").write_bytes(onnx.ModelProto(graph=graph).SerializeToString())
    with pytest.raises(UserError, match="which is outside its own folder"):
        external_files(tmp_path / "net.onnx")


def test_every_cut_is_refused_or_holds_a_graph(tmp_path):
    """No byte of a hostile file may do more than raise ``UserError``."""
    whole = small_net().SerializeToString()
    path = tmp_path / "net.onnx"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="is no ONNX file, or is cut short"):
            external_files(path)
    deep = b"\x3a\x02\x0a\x00"
    for _ in range(5000):
        size, length = len(deep), bytearray()
        while size > 0x7F:
            length.append(size & 0x7F | 0x80)
            size >>= 7
        # A graph with a node with an attribute that is a graph …
        deep = bytes([0x0A, *length, size]) + deep
    path.write_bytes(deep)
    with pytest.raises(UserError):
        external_files(path)


def test_one_more_output_is_added_and_nothing_else_changes():
    model = small_net()
    name = "hidden" + "x" * 200
    changed = onnx.ModelProto.FromString(with_output(model.SerializeToString(), name))
    assert [output.name for output in changed.graph.output] == ["answer", name]
    del changed.graph.output[1]
    assert changed == model
