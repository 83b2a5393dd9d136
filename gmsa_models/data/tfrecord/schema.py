"""The protobuf messages inside a TFRecord, declared at run time so that no generated code has to be kept.

The names and field numbers are those of TensorFlow's `example.proto` and `feature.proto`. `PackedSequenceExample` is
the same bytes read with coarser eyes: on the wire a message and a bytes field look alike, so each frame list arrives as
one bytes value, whose constant per-frame headers numpy can check and strip at once (see `frames.py`).
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message import DecodeError, Message

__all__ = [
    "DecodeError",
    "Example",
    "Feature",
    "FeatureList",
    "Features",
    "PackedSequenceExample",
    "SequenceExample",
    "parse",
]

_PACKAGE = "gmsa_wire"

# message -> (field, number, type, repeated). A type in capitals is a scalar, any other one a message of this table.
_MESSAGES: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "BytesList": (("value", 1, "BYTES", True),),
    "FloatList": (("value", 1, "FLOAT", True),),
    "Int64List": (("value", 1, "INT64", True),),
    "Feature": (
        ("bytes_list", 1, "BytesList", False),
        ("float_list", 2, "FloatList", False),
        ("int64_list", 3, "Int64List", False),
    ),
    "FeatureList": (("feature", 1, "Feature", True),),
    "Example": (("features", 1, "Features", False),),
    "SequenceExample": (("context", 1, "Features", False), ("feature_lists", 2, "FeatureLists", False)),
    "PackedSequenceExample": (("context", 1, "Features", False), ("feature_lists", 2, "PackedFeatureLists", False)),
}
# message with one field, a map from string -> (field, type of its values)
_MAPS = {
    "Features": ("feature", "Feature"),
    "FeatureLists": ("feature_list", "FeatureList"),
    "PackedFeatureLists": ("feature_list", "BYTES"),
}


def _set_type(field: FieldDescriptorProto, kind: str) -> None:
    if kind.isupper():
        field.type = getattr(FieldDescriptorProto, f"TYPE_{kind}")
    else:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


def _add_field(
    message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str, repeated: bool
) -> FieldDescriptorProto:
    field = message.field.add(
        name=name,
        number=number,
        label=FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL,
    )
    _set_type(field, kind)
    return field


def _add_map(file: descriptor_pb2.FileDescriptorProto, name: str, field: str, kind: str) -> None:
    message = file.message_type.add(name=name)
    entry_name = "".join(part.capitalize() for part in field.split("_")) + "Entry"
    entry = message.nested_type.add(name=entry_name)
    entry.options.map_entry = True
    _add_field(entry, "key", 1, "STRING", repeated=False)
    _add_field(entry, "value", 2, kind, repeated=False)
    _add_field(message, field, 1, f"{name}.{entry_name}", repeated=True)


def _build() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for each in fields:
            _add_field(message, *each)
        if name == "Feature":
            message.oneof_decl.add(name="kind")
            for field in message.field:
                field.oneof_index = 0
    for name, (map_name, kind) in _MAPS.items():
        _add_map(file, name, map_name, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    wanted = (*_MESSAGES, *_MAPS)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in wanted}


_CLASSES = _build()
Example = _CLASSES["Example"]
SequenceExample = _CLASSES["SequenceExample"]
PackedSequenceExample = _CLASSES["PackedSequenceExample"]
Feature = _CLASSES["Feature"]
FeatureList = _CLASSES["FeatureList"]
Features = _CLASSES["Features"]


def parse(kind: type[Message], data: bytes) -> Message:
    """Parse one message.

    Raises:
        DecodeError: the bytes are not a message of this kind.
    """
    return kind.FromString(data)
