"""Frozen TensorFlow graphs, written node by node as TensorFlow writes them."""

import numpy as np
import torch

from analysis.features.tensorflow_graph import FrozenGraph, graph_message

CPU = torch.device("cpu")


class Graph:
    """Writes a `GraphDef` node by node."""

    def __init__(self):
        self.message = graph_message()()

    def node(self, name, op, *inputs, **attributes):
        node = self.message.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            place = node.attr.add(key=key).value
            if isinstance(value, bytes):
                place.s = value
            elif isinstance(value, list):
                place.list.i.extend(value)
            elif isinstance(value, bool):
                place.b = value
            elif isinstance(value, float):
                place.f = value
            else:
                place.type = value
        return name

    def constant(self, name, values, packed=True):
        values = np.asarray(values)
        stored = self.message.node.add(name=name, op="Const").attr.add(key="value").value.tensor
        stored.dtype = {"float32": 1, "int32": 3}[str(values.dtype)]
        for size in values.shape:
            stored.tensor_shape.dim.add(size=size)
        if packed:
            stored.tensor_content = values.tobytes()
        else:
            (stored.float_val if values.dtype == np.float32 else stored.int_val).extend(values.reshape(-1).tolist())
        return name

    def write(self, path):
        path.write_bytes(self.message.SerializeToString())
        return FrozenGraph(path, CPU)


def inception_graph(width):
    """A graph with the first and the last nodes of Inception of 2015, and one convolution between them."""
    graph, random = Graph(), np.random.default_rng(0)
    graph.node("DecodeJpeg", "DecodeJpeg", "DecodeJpeg/contents")
    graph.node("Cast", "Cast", "DecodeJpeg", DstT=1, SrcT=4)
    graph.node("ExpandDims", "ExpandDims", "Cast", graph.constant("ExpandDims/dim", np.array(0, np.int32)))
    graph.node("ResizeBilinear", "ResizeBilinear", "ExpandDims", graph.constant("size", np.array([9, 9], np.int32)))
    graph.node("Sub", "Sub", "ResizeBilinear", graph.constant("Sub/y", np.array(128, np.float32)))
    graph.node("Mul", "Mul", "Sub", graph.constant("Mul/y", np.array(1 / 128, np.float32)))
    graph.constant("conv/conv2d_params", random.standard_normal((3, 3, 3, width)).astype(np.float32))
    graph.node("conv", "Conv2D", "Mul", "conv/conv2d_params", strides=[1, 2, 2, 1], padding=b"VALID")
    graph.node("pool_3", "AvgPool", "conv", ksize=[1, 4, 4, 1], strides=[1, 1, 1, 1], padding=b"VALID")
    graph.node("pool_3/_reshape", "Reshape", "pool_3", graph.constant("shape", np.array([1, width], np.int32)))
    return graph
