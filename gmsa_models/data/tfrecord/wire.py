"""Protobuf on the wire, looked at before it is parsed: how much a record would become in memory.

Parsed, a message takes up to about 30 times its bytes: two bytes can be an empty message, one byte a 64-bit number.
Records of an honest size pass at once; in larger ones the parts are measured here, where nothing is allocated for them.
The usual form of a record is taken apart here too: protobuf would copy the frames twice.
"""

from __future__ import annotations

from collections.abc import Iterator

from gmsa_models.errors import ContentError

__all__ = ["LARGE_RECORD", "MOST_FRAMES", "MOST_VALUES", "check_size", "fields", "frame_messages", "usual_parts"]

LARGE_RECORD = 1 << 22  # bytes; a YouTube-8M video of 300 frames has 350 thousand
LONGEST_CONTEXT = 1 << 22  # bytes; a video with a thousand rated segments has 20 thousand
MOST_LISTS = 1_000  # frame lists of one record; YouTube-8M has two
LONGEST_FRAME = 1 << 22  # bytes
MOST_FRAMES = 100_000  # of one clip: 27 hours at one a second
MOST_VALUES = 100_000  # of one context feature

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_CONTEXT, _LISTS, _FRAME = 1, 2, 1  # field numbers
_FIRST, _SECOND = 1 << 3 | _BYTES, 2 << 3 | _BYTES  # tags of length-delimited fields 1 and 2, of one byte
_Field = tuple[int, int, int, int]


def fields(data: bytes, start: int = 0, end: int | None = None) -> Iterator[_Field]:
    """The fields at the top level of a message: number, wire type, and where the value lies.

    Raises:
        ContentError: bytes that are not a message.
    """
    end = len(data) if end is None else end
    while start < end:
        tag, start = _varint(data, start, end)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            length, start = _varint(data, start, end)
            stop = start + length
        elif kind == _VARINT:
            stop = _varint(data, start, end)[1]
        elif kind in (_FIXED64, _FIXED32):
            stop = start + (8 if kind == _FIXED64 else 4)
        else:
            raise ContentError(f"field {number} has wire type {kind}, which no record has", kind="not an example")
        if stop > end:
            raise ContentError(
                f"field {number} says it ends {stop - end} bytes after the message does", kind="not an example"
            )
        yield number, kind, start, stop
        start = stop


def check_size(data: bytes) -> None:
    """Refuse a SequenceExample that would take far more memory than its bytes.

    Raises:
        ContentError: too much context, or too many frame lists.
    """
    if len(data) <= LARGE_RECORD:
        return
    context, lists = 0, 0
    for number, kind, start, stop in fields(data):
        if number == _CONTEXT and kind == _BYTES:
            context += stop - start
        elif number == _LISTS and kind == _BYTES:
            for _ in fields(data, start, stop):
                lists += 1
                if lists > MOST_LISTS:
                    raise ContentError(f"more than {MOST_LISTS} frame lists; YouTube-8M has two", kind="frames")
        else:
            raise ContentError(
                f"has a field {number}; a SequenceExample has {_CONTEXT} and {_LISTS}", kind="not an example"
            )
    if context > LONGEST_CONTEXT:
        raise ContentError(
            f"its context has {context} bytes; at most {LONGEST_CONTEXT} are read", kind="context feature"
        )


def frame_messages(packed: bytes) -> Iterator[bytes]:
    """Each frame of a serialised FeatureList, itself still serialised.

    Raises:
        ContentError: bytes that are not a FeatureList; more or longer frames than are read.
    """
    count = 0
    for number, kind, start, stop in fields(packed):
        if number != _FRAME or kind != _BYTES:
            continue
        count += 1
        if count > MOST_FRAMES:
            raise ContentError(f"more than {MOST_FRAMES} frames; cut the video into several clips", kind="frames")
        if stop - start > LONGEST_FRAME:
            raise ContentError(
                f"frame {count - 1} has {stop - start} bytes; at most {LONGEST_FRAME} are read", kind="frames"
            )
        yield packed[start:stop]


def usual_parts(data: bytes) -> tuple[bytes, dict[str, memoryview]] | None:
    """The context and the frame lists of a SequenceExample as writers make it; None of any other, or if it is none.

    Usual are one context and then one map of lists, each entry of which has a name and then a list, and nothing else.
    A name's last list counts, as protobuf has it.

    Returns:
        The serialised context; name -> serialised FeatureList, which is a view of `data`.
    """
    context = _chunk(data, 0, len(data), _FIRST)
    lists = context and _chunk(data, context[1], len(data), _SECOND)
    if not context or not lists or lists[1] != len(data):
        return None
    view, packed, count = memoryview(data), {}, 0
    place, end = lists
    while place < end:
        entry = _chunk(data, place, end, _FIRST)
        name = entry and _chunk(data, *entry, _FIRST)
        value = entry and name and _chunk(data, name[1], entry[1], _SECOND)
        count += 1
        if not entry or not name or not value or value[1] != entry[1] or count > MOST_LISTS:
            return None
        try:
            packed[data[name[0] : name[1]].decode()] = view[value[0] : value[1]]
        except UnicodeDecodeError:
            return None
        place = entry[1]
    return data[context[0] : context[1]], packed


def _chunk(data: bytes, start: int, end: int, tag: int) -> tuple[int, int] | None:
    """Where the value of the field at `start` lies; None where that is not a field of this tag within `end`."""
    if start >= end or data[start] != tag:
        return None
    length = 0
    for place in range(start + 1, min(start + 5, end)):  # no record that is read is longer than 4 bytes can say
        length |= (data[place] & 127) << 7 * (place - start - 1)
        if data[place] < 128:
            stop = place + 1 + length
            return (place + 1, stop) if stop <= end else None
    return None


def _varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """A variable-length integer, and where it ends."""
    value = 0
    for place in range(start, min(start + 10, end)):
        byte = data[place]
        value |= (byte & 127) << 7 * (place - start)
        if byte < 128:
            return value, place + 1
    raise ContentError("a number on the wire does not end", kind="not an example")
