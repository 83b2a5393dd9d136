"""Slow definitions for what reads data: checksums bit by bit, the starter code's formula one number at a time."""

import functools
import struct


def crc32c(data: bytes) -> int:
    """CRC-32C by its definition (RFC 3720): reflected, polynomial 0x1EDC6F41."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _of_byte((crc ^ byte) & 0xFF) ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@functools.cache
def _of_byte(crc: int) -> int:
    """Eight steps of the division, bit by bit."""
    for _ in range(8):
        crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc


def masked(crc: int) -> int:
    """TFRecord's mask: rotate right by 15 bits, add a constant."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32


def record(data: bytes) -> bytes:
    """One TFRecord record."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(crc32c(length))) + data + struct.pack("<I", masked(crc32c(data)))


def varint(number: int) -> bytes:
    """Protobuf's variable-length integer."""
    encoded = b""
    while number > 127:
        encoded += bytes([number % 128 + 128])
        number //= 128
    return encoded + bytes([number])


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number * 8 + 2) + varint(len(content)) + content


def bytes_feature(*values: bytes) -> bytes:
    """A tf.train.Feature of strings."""
    return field(1, b"".join(field(1, value) for value in values))


def float_feature(*values: float) -> bytes:
    """A tf.train.Feature of floats."""
    return field(2, field(1, struct.pack(f"<{len(values)}f", *values)))


def int_feature(*values: int) -> bytes:
    """A tf.train.Feature of whole numbers, 0 or more."""
    return field(3, field(1, b"".join(varint(value) for value in values)))


def features(**named: bytes) -> bytes:
    """A tf.train.Features of encoded features."""
    return b"".join(field(1, field(1, name.encode()) + field(2, value)) for name, value in named.items())


def example(**named: bytes) -> bytes:
    """A tf.train.Example of encoded features."""
    return field(1, features(**named))


def sequence_example(context: dict[str, bytes], lists: dict[str, list[bytes]]) -> bytes:
    """A tf.train.SequenceExample of encoded features; each list holds one encoded feature a frame."""
    encoded = {name: b"".join(field(1, frame) for frame in frames) for name, frames in lists.items()}
    return field(1, features(**context)) + field(2, features(**encoded))


def dequantize_value(value: int) -> float:
    """`Dequantize` of the starter code for one number, in double precision."""
    max_quantized_value, min_quantized_value = 2, -2
    quantized_range = max_quantized_value - min_quantized_value
    scalar = quantized_range / 255.0
    bias = (quantized_range / 512.0) + min_quantized_value
    return value * scalar + bias
