"""A frozen TensorFlow graph (`GraphDef`), run in torch by the operations that Inception of 2015 is made of.

The messages are declared here, as far as a frozen graph has them; names and field numbers are those of TensorFlow's
`graph.proto`, `node_def.proto`, `attr_value.proto`, `tensor.proto`. Pictures are (batch, rows, columns, channels), as
they are there. An operation that is not in `OPERATIONS` is refused, so no graph can do anything else than compute.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message import DecodeError
from torch import Tensor
from torch.nn import functional

from gmsa_models.errors import ConfigError

__all__ = ["FrozenGraph", "graph_message"]

_PACKAGE = "gmsa_graph"
# message -> (field, number, type, repeated); a type in capitals is a scalar.
_MESSAGES: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "Dim": (("size", 1, "INT64", False),),
    "Shape": (("dim", 2, "Dim", True),),
    "TensorValue": (
        ("dtype", 1, "INT32", False), ("tensor_shape", 2, "Shape", False), ("tensor_content", 4, "BYTES", False),
        ("float_val", 5, "FLOAT", True), ("int_val", 7, "INT32", True), ("int64_val", 10, "INT64", True),
    ),
    "List": (("i", 3, "INT64", True),),
    "Value": (
        ("list", 1, "List", False), ("s", 2, "BYTES", False), ("i", 3, "INT64", False), ("f", 4, "FLOAT", False),
        ("b", 5, "BOOL", False), ("type", 6, "INT32", False), ("tensor", 8, "TensorValue", False),
    ),
    "Attribute": (("key", 1, "STRING", False), ("value", 2, "Value", False)),
    "Node": (
        ("name", 1, "STRING", False), ("op", 2, "STRING", False), ("input", 3, "STRING", True),
        ("attr", 5, "Attribute", True),
    ),
    "Graph": (("node", 1, "Node", True),),
}  # fmt: skip
_TYPES = {1: np.float32, 3: np.int32, 9: np.int64}  # of TensorFlow's `DataType`
_VALUES = {1: "float_val", 3: "int_val", 9: "int64_val"}


@cache
def graph_message() -> Any:
    """The class of a `GraphDef` message; a map of attributes is a list of keys and values, as on the wire."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if kind.isupper():
                added.type = getattr(FieldDescriptorProto, f"TYPE_{kind}")
            else:
                added.type, added.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Graph"))


class FrozenGraph:
    """A graph whose weights are constants.

    Args:
        path: of a `GraphDef` in protobuf's binary form.
        device: where it runs.

    Raises:
        ConfigError: not a graph.
        OSError: no such file, or one that cannot be read.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path, self.device = path, device
        try:
            graph = graph_message().FromString(path.read_bytes())
        except DecodeError as error:
            raise ConfigError(f"{path}: not a frozen TensorFlow graph: {error}; fetch it again") from None
        self._nodes = {node.name: node for node in graph.node}
        self._constants: dict[str, Tensor] = {}

    @torch.inference_mode()
    def __call__(self, output: str, fed: dict[str, Tensor]) -> Tensor:
        """The value of a node.

        Args:
            output: name of the node.
            fed: node -> what takes the place of its value.

        Raises:
            ConfigError: a node that is not there, or an operation that is not known.
        """
        values = dict(fed)
        waiting = [output]
        while waiting:
            name = waiting[-1]
            if name in values or name in self._constants:
                waiting.pop()
                continue
            node = self._node(name)
            inputs = [_node_name(each) for each in node.input if not each.startswith("^")]  # ^: order alone
            if missing := [each for each in inputs if each not in values and each not in self._constants]:
                if set(missing) & set(waiting):
                    raise ConfigError(f"{self.path}: node {name!r:.100} depends on itself")
                waiting += missing
                continue
            if node.op == "Const":
                self._constants[name] = _constant(self.path, node).to(self.device)
            else:
                known = [values[each] if each in values else self._constants[each] for each in inputs]
                values[name] = self._run(node, known)
        return values[output] if output in values else self._constants[output]

    def _node(self, name: str) -> Any:
        if name not in self._nodes:
            raise ConfigError(f"{self.path}: has no node {name!r:.100} among its {len(self._nodes)}")
        return self._nodes[name]

    def _run(self, node: Any, inputs: list[Tensor]) -> Tensor:
        if node.op not in OPERATIONS:
            raise ConfigError(
                f"{self.path}: node {node.name!r:.100} is a {node.op!r:.100}; known: {', '.join(OPERATIONS)}"
            )
        try:
            return OPERATIONS[node.op]({each.key: each.value for each in node.attr}, *inputs)
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
            raise ConfigError(f"{self.path}: node {node.name!r:.100} ({node.op}): {error!s:.300}") from None


def _node_name(text: str) -> str:
    return text.split(":")[0]


def _constant(path: Path, node: Any) -> Tensor:
    attributes = {each.key: each.value for each in node.attr}
    stored = attributes["value"].tensor if "value" in attributes else None
    if stored is None or stored.dtype not in _TYPES:
        raise ConfigError(f"{path}: constant {node.name!r:.100} has no numbers of a known type")
    shape = [each.size for each in stored.tensor_shape.dim]
    kind = _TYPES[stored.dtype]
    values = np.frombuffer(stored.tensor_content, kind) if stored.tensor_content else np.array(
        getattr(stored, _VALUES[stored.dtype]), kind
    )  # fmt: skip
    count = int(np.prod(shape, dtype=np.int64))
    if values.size == 1 and count > 1:  # one number stands for all
        values = np.repeat(values, count)
    if values.size != count:
        raise ConfigError(f"{path}: constant {node.name!r:.100} has {values.size} numbers; its shape is {shape}")
    return torch.from_numpy(values.reshape(shape).copy())


def _resize_bilinear(attributes: dict[str, Any], values: Tensor, size: Tensor) -> Tensor:
    """TensorFlow 1's: place i of the result is place i * input / output of the input."""
    corners = "align_corners" in attributes and attributes["align_corners"].b
    for axis, target in zip((1, 2), size.tolist(), strict=True):
        length = values.shape[axis]
        step = (length - 1) / max(target - 1, 1) if corners else length / target
        at = torch.arange(target, dtype=torch.float32, device=values.device) * step
        below = at.floor().long().clamp(max=length - 1)
        above = (below + 1).clamp(max=length - 1)
        share = (at - below).reshape([-1 if each == axis else 1 for each in range(values.ndim)])
        values = values.index_select(axis, below) * (1 - share) + values.index_select(axis, above) * share
    return values


def _padding(attributes: dict[str, Any], sizes: tuple[int, ...], kernel: list[int], strides: list[int]) -> list[int]:
    """As torch's `pad` takes it: left, right, top, bottom."""
    if attributes["padding"].s == b"VALID":
        return [0, 0, 0, 0]
    if attributes["padding"].s != b"SAME":
        raise ValueError(f"padding {attributes['padding'].s!r}; expected SAME or VALID")
    both = [
        max((-(-size // step) - 1) * step + width - size, 0)
        for size, width, step in zip(sizes, kernel, strides, strict=True)
    ]
    return [both[1] // 2, both[1] - both[1] // 2, both[0] // 2, both[0] - both[0] // 2]


def _spatial(values: Any) -> list[int]:
    """Rows and columns of a list for four axes."""
    return [int(each) for each in values.list.i][1:3]


def _conv2d(attributes: dict[str, Any], values: Tensor, weights: Tensor) -> Tensor:
    strides = _spatial(attributes["strides"])
    padding = _padding(attributes, tuple(values.shape[1:3]), list(weights.shape[:2]), strides)
    padded = functional.pad(values.permute(0, 3, 1, 2), padding)
    return functional.conv2d(padded, weights.permute(3, 2, 0, 1), stride=tuple(strides)).permute(0, 2, 3, 1)


def _max_pool(attributes: dict[str, Any], values: Tensor) -> Tensor:
    kernel, strides = _spatial(attributes["ksize"]), _spatial(attributes["strides"])
    padding = _padding(attributes, tuple(values.shape[1:3]), kernel, strides)
    padded = functional.pad(values.permute(0, 3, 1, 2), padding, value=-torch.inf)
    return functional.max_pool2d(padded, kernel, strides).permute(0, 2, 3, 1)


def _average_pool(attributes: dict[str, Any], values: Tensor) -> Tensor:
    """Padding counts neither in the sum nor in the number."""
    kernel, strides = _spatial(attributes["ksize"]), _spatial(attributes["strides"])
    padding = _padding(attributes, tuple(values.shape[1:3]), kernel, strides)
    planes = values.permute(0, 3, 1, 2)
    inside = functional.pad(torch.ones_like(planes[:1, :1]), padding)
    total = functional.avg_pool2d(functional.pad(planes, padding), kernel, strides)
    return (total / functional.avg_pool2d(inside, kernel, strides)).permute(0, 2, 3, 1)


def _batch_norm(
    attributes: dict[str, Any], values: Tensor, mean: Tensor, variance: Tensor, offset: Tensor, scale: Tensor
) -> Tensor:
    factor = torch.rsqrt(variance + attributes["variance_epsilon"].f)
    if "scale_after_normalization" in attributes and attributes["scale_after_normalization"].b:
        factor = factor * scale
    return (values - mean) * factor + offset


def _cast(attributes: dict[str, Any], values: Tensor) -> Tensor:
    return values.to(torch.from_numpy(np.zeros(0, _TYPES[attributes["DstT"].type])).dtype)


# Operation -> (attributes, inputs ...) -> its value.
OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Identity": lambda attributes, values: values,
    "CheckNumerics": lambda attributes, values: values,
    "Cast": _cast,
    "ExpandDims": lambda attributes, values, axis: values.unsqueeze(int(axis)),
    "ResizeBilinear": _resize_bilinear,
    "Add": lambda attributes, one, other: one + other,
    "Sub": lambda attributes, one, other: one - other,
    "Mul": lambda attributes, one, other: one * other,
    "BiasAdd": lambda attributes, values, bias: values + bias,
    "Conv2D": _conv2d,
    "BatchNormWithGlobalNormalization": _batch_norm,
    "Relu": lambda attributes, values: values.relu(),
    "MaxPool": _max_pool,
    "AvgPool": _average_pool,
    "Concat": lambda attributes, axis, *values: torch.cat(values, int(axis)),
    "Reshape": lambda attributes, values, shape: values.reshape(shape.tolist()),
    "MatMul": lambda attributes, one, other: one @ other,
}
