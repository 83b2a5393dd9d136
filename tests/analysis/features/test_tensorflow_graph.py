"""Operations of frozen graphs against slow definitions; a graph written in the test as TensorFlow writes it."""

import numpy as np
import pytest
import torch
from frozen_graphs import Graph

from analysis.features.tensorflow_graph import FrozenGraph
from gmsa_models.errors import ConfigError

CPU = torch.device("cpu")
random = np.random.default_rng(0)


def floats(*shape):
    return random.standard_normal(shape).astype(np.float32)


def padded(values, kernel, stride, fill):
    """TensorFlow's SAME: as many results as places a stride apart; the odd place of padding goes behind."""
    for axis in (0, 1):
        size = values.shape[axis]
        both = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        widths = [(0, 0)] * values.ndim
        widths[axis] = (both // 2, both - both // 2)
        values = np.pad(values, widths, constant_values=fill)
    return values


def slow(values, kernel, stride, padding, fill, combine):
    """`combine` of each window of (rows, columns, channels)."""
    values = padded(values, kernel, stride, fill) if padding == b"SAME" else values
    rows = range(0, values.shape[0] - kernel + 1, stride)
    columns = range(0, values.shape[1] - kernel + 1, stride)
    return np.array([[combine(values[r : r + kernel, c : c + kernel]) for c in columns] for r in rows])


@pytest.mark.parametrize("padding", [b"SAME", b"VALID"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 1), (5, 2)])
def test_windows_are_those_of_a_slow_definition(tmp_path, padding, kernel, stride):
    values, weights, graph = floats(1, 11, 7, 2), floats(kernel, kernel, 2, 3), Graph()
    graph.constant("in", values)
    graph.constant("weights", weights)
    common = {"strides": [1, stride, stride, 1], "padding": padding}
    graph.node("conv", "Conv2D", "in", "weights", **common)
    graph.node("max", "MaxPool", "in", ksize=[1, kernel, kernel, 1], **common)
    graph.node("mean", "AvgPool", "in", ksize=[1, kernel, kernel, 1], **common)
    made = graph.write(tmp_path / "g.pb")
    expected = slow(values[0], kernel, stride, padding, 0, lambda window: np.einsum("rci,rcio->o", window, weights))
    np.testing.assert_allclose(made("conv", {})[0], expected, atol=1e-4)
    expected = slow(values[0], kernel, stride, padding, -np.inf, lambda window: window.max((0, 1)))
    np.testing.assert_allclose(made("max", {})[0], expected)
    expected = slow(values[0], kernel, stride, padding, np.nan, lambda window: np.nanmean(window, (0, 1)))
    np.testing.assert_allclose(made("mean", {})[0], expected, atol=1e-5)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("size", [(5, 13), (11, 2), (7, 7)])
def test_resizing_is_tensorflow_ones(tmp_path, corners, size):
    values, graph = floats(1, 7, 7, 3), Graph()
    graph.constant("in", values)
    graph.constant("size", np.array(size, np.int32))
    graph.node("out", "ResizeBilinear", "in", "size", align_corners=corners)
    result = graph.write(tmp_path / "g.pb")("out", {})[0].numpy()

    def at(place, target):
        return place * (6 / max(target - 1, 1)) if corners else place * 7 / target

    for row in range(size[0]):
        for column in range(size[1]):
            y, x = at(row, size[0]), at(column, size[1])
            top, left = min(int(y + 1e-6), 6), min(int(x + 1e-6), 6)
            below, right = min(top + 1, 6), min(left + 1, 6)
            one = values[0, top, left] * (1 - x + left) + values[0, top, right] * (x - left)
            two = values[0, below, left] * (1 - x + left) + values[0, below, right] * (x - left)
            np.testing.assert_allclose(result[row, column], one * (1 - y + top) + two * (y - top), atol=1e-5)


def test_a_graph_as_inceptions_is(tmp_path):
    """Every operation of it, from the picture on; control inputs order, and `name:0` is the node."""
    graph, weights = Graph(), floats(3, 3, 3, 4)
    mean, variance, offset, scale = floats(4), floats(4) ** 2, floats(4), floats(4)
    graph.node("DecodeJpeg", "DecodeJpeg", "DecodeJpeg/contents")
    graph.node("cast", "Cast", "DecodeJpeg", DstT=1, SrcT=4)
    graph.node("expanded", "ExpandDims", "cast", graph.constant("zero", np.array(0, np.int32), packed=False))
    graph.node("resized", "ResizeBilinear", "expanded", graph.constant("side", np.array([9, 9], np.int32)))
    graph.node("centred", "Sub", "resized:0", graph.constant("128", np.array(128, np.float32), packed=False))
    graph.node("scaled", "Mul", "centred", graph.constant("1/128", np.array(1 / 128, np.float32)))
    graph.constant("weights", weights)
    graph.node("conv", "Conv2D", "scaled", "weights", strides=[1, 2, 2, 1], padding=b"VALID")
    statistics = [graph.constant(f"s{number}", each) for number, each in enumerate((mean, variance, offset, scale))]
    graph.node("norm", "BatchNormWithGlobalNormalization", "conv", *statistics, variance_epsilon=0.001,
               scale_after_normalization=True)  # fmt: skip
    graph.node("checked", "CheckNumerics", "norm")
    graph.node("same", "Identity", "norm", "^checked")
    graph.node("relu", "Relu", "same")
    graph.node("join", "Concat", graph.constant("axis", np.array(3, np.int32)), "relu", "same")
    graph.node("biased", "BiasAdd", "join", graph.constant("bias", floats(8)))
    graph.node("pool_3", "AvgPool", "biased", ksize=[1, 4, 4, 1], strides=[1, 1, 1, 1], padding=b"VALID")
    graph.node("pool_3/_reshape", "Reshape", "pool_3", graph.constant("shape", np.array([1, 8], np.int32)))
    graph.node("added", "Add", "pool_3/_reshape", "pool_3/_reshape")
    graph.node("out", "MatMul", "added", graph.constant("matrix", floats(8, 5)))
    made = graph.write(tmp_path / "g.pb")
    picture = torch.from_numpy(random.integers(0, 256, (9, 9, 3)).astype(np.uint8))
    values = (picture.numpy().astype(np.float32) - 128) / 128
    conv = np.array([[np.einsum("rci,rcio->o", values[r : r + 3, c : c + 3], weights) for c in (0, 2, 4, 6)]
                     for r in (0, 2, 4, 6)])  # fmt: skip
    norm = (conv - mean) / np.sqrt(variance + 0.001) * scale + offset
    joined = np.concatenate([np.maximum(norm, 0), norm], -1) + made("bias", {}).numpy()
    pooled = made("pool_3/_reshape", {"DecodeJpeg": picture})
    np.testing.assert_allclose(pooled[0], joined.mean((0, 1)), atol=1e-4)
    out = made("out", {"DecodeJpeg": picture})
    np.testing.assert_allclose(out, 2 * pooled.numpy() @ made("matrix", {}).numpy(), atol=1e-4)


def test_one_number_may_stand_for_all(tmp_path):
    graph = Graph()
    node = graph.message.node.add(name="a", op="Const").attr.add(key="value").value.tensor
    node.dtype = 1
    node.tensor_shape.dim.add(size=3)
    node.float_val.append(2.5)
    np.testing.assert_array_equal(graph.write(tmp_path / "g.pb")("a", {}), [2.5] * 3)


def test_what_cannot_be_run_is_refused(tmp_path):
    graph = Graph()
    graph.node("py", "PyFunc", "one")
    graph.constant("one", np.ones(1, np.float32))
    graph.node("round", "Relu", "about")
    graph.node("about", "Relu", "round")
    graph.node("odd", "Conv2D", "one", "one", strides=[1, 1, 1, 1], padding=b"SAME")
    made = graph.write(tmp_path / "g.pb")
    with pytest.raises(ConfigError, match=r"g\.pb: node 'py' is a 'PyFunc'; known: Identity, .*"):
        made("py", {})
    with pytest.raises(ConfigError, match=r"node '.*' depends on itself"):
        made("round", {})
    with pytest.raises(ConfigError, match="has no node 'none' among its 5"):
        made("none", {})
    with pytest.raises(ConfigError, match=r"node 'odd' \(Conv2D\)"):
        made("odd", {})
    (tmp_path / "b.pb").write_bytes(b"\xff" * 20)
    with pytest.raises(ConfigError, match=r"b\.pb: not a frozen TensorFlow graph"):
        FrozenGraph(tmp_path / "b.pb", CPU)
