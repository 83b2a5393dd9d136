"""The layout of files of arrays: which names stand for what a clip says of itself, in all formats alike.

Streams are arrays of shape (frames, width) under names of their own. Beside them a file may say `id`, `labels`,
`frame_seconds`, `start_seconds`, `dataset`, `align`, and `STREAM_space` of a stream: see `docs/your_own_arrays.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gmsa_models.data.alignment import REFUSE
from gmsa_models.data.errors import brief, is_plain
from gmsa_models.data.spaces import FeatureSpace
from gmsa_models.errors import ArgumentError, ContentError

__all__ = ["DEFAULT_STREAM", "NAMES", "Stated", "check_frames", "check_stream", "is_stated", "stated"]

SPACE = "_space"  # after a stream's name: the name of its feature space
NAMES = ("id", "labels", "frame_seconds", "start_seconds", "dataset", "align")
LONGEST_ID = 1000  # characters, as of a TFRecord's
MOST_LABELS = 100_000
MOST_FRAMES, WIDEST_FRAME = 100_000, 1 << 20  # of one clip, as of a TFRecord's; values of a frame
DEFAULT_STREAM = "visual"  # of a file of one array, which has no name


@dataclass(frozen=True)
class Stated:
    """What a file says of one clip, or what it is where the file does not say; see `Clip`.

    Attributes:
        align: what is done with streams of different lengths, a key of `ALIGNMENTS`.
        spaces: stream -> the name of its feature space.
    """

    id: str
    labels: tuple[int, ...] = ()
    frame_seconds: float = 1.0
    start_seconds: float = 0.0
    dataset: str = ""
    align: str = REFUSE
    spaces: Mapping[str, str] = field(default_factory=dict)

    def feature_spaces(self, widths: Mapping[str, int]) -> dict[str, FeatureSpace]:
        """Stream -> feature space, of those that are said.

        Raises:
            ContentError: a name that no space has.
        """
        try:
            return {stream: FeatureSpace(name, widths[stream]) for stream, name in self.spaces.items()}
        except ArgumentError as error:
            raise ContentError(str(error)) from None


def is_stated(name: str, streams: Mapping[str, Any]) -> bool:
    """Whether a name stands for something that a clip says of itself, given the names of its streams."""
    return name in NAMES or (name.endswith(SPACE) and name.removesuffix(SPACE) in streams)


def stated(values: Mapping[str, Any], identity: str) -> Stated:
    """What a file says of a clip, from its plain values.

    Args:
        values: name -> number, text, array of numbers; what is absent has a default.
        identity: the clip's id where the file does not say one.

    Raises:
        ContentError: a value of another kind than its name stands for.
    """
    return Stated(
        check_id(_text("id", values["id"]) if "id" in values else identity),
        _labels(values.get("labels", ())),
        _number("frame_seconds", values.get("frame_seconds", 1.0)),
        _number("start_seconds", values.get("start_seconds", 0.0)),
        _text("dataset", values.get("dataset", "")),
        _text("align", values.get("align", REFUSE)),
        {name.removesuffix(SPACE): _text(name, each) for name, each in values.items() if name not in NAMES},
    )


def check_id(identity: str) -> str:
    """The id.

    Raises:
        ContentError: empty, too long, or with characters that a terminal would obey.
    """
    if not 0 < len(identity) <= LONGEST_ID or not is_plain(identity):
        raise ContentError(f"the id is {brief(identity)}; expected 1 to {LONGEST_ID} characters, none a control one")
    return identity


def check_stream(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse an array that is no stream, before it is read.

    Raises:
        ContentError: of another shape or type, empty, or larger than is read.
    """
    if len(shape) != 2 or not 0 < shape[1] <= WIDEST_FRAME or shape[0] < 1:
        raise ContentError(
            f"{brief(name)} has shape {brief(shape)}; expected (frames, width), at least one frame of 1 to "
            f"{WIDEST_FRAME} values"
        )
    if dtype.kind != "f" and dtype != np.uint8:
        raise ContentError(
            f"{brief(name)} is {dtype!s:.60}; expected floating point, or uint8 quantised as YouTube-8M is"
        )


def check_frames(frames: int) -> None:
    """Refuse a clip that is too long.

    Raises:
        ContentError: more than `MOST_FRAMES`.
    """
    if frames > MOST_FRAMES:
        raise ContentError(f"{frames} frames; at most {MOST_FRAMES} are read as one clip: cut it into several")


def _scalar(name: str, value: Any) -> Any:
    array = np.asarray(value)
    if array.size != 1:
        raise ContentError(f"{brief(name)} has {array.size} values; expected one")
    return array.reshape(-1)[0].item() if array.dtype.kind != "O" else array.reshape(-1)[0]


def _text(name: str, value: Any) -> str:
    one = _scalar(name, value)
    if isinstance(one, bytes):
        try:
            one = one.decode()
        except UnicodeDecodeError:
            raise ContentError(f"{brief(name)} is {brief(one)}; expected UTF-8 text") from None
    if not isinstance(one, str):
        raise ContentError(f"{brief(name)} is {brief(one)}; expected text")
    return one


def _number(name: str, value: Any) -> float:
    one = _scalar(name, value)
    if isinstance(one, bool) or not isinstance(one, int | float):
        raise ContentError(f"{brief(name)} is {brief(one)}; expected a number")
    return float(one)


def _labels(value: Any) -> tuple[int, ...]:
    """One label, or several in a row; -1 fills up rows of different lengths."""
    array = np.asarray([] if value is None else value)
    if array.ndim > 1 or array.size > MOST_LABELS or (array.size and array.dtype.kind not in "iu"):
        raise ContentError(f"'labels' are {brief(value)}; expected whole numbers in a row")
    return tuple(int(label) for label in array.reshape(-1) if label != -1)
