"""Neighbourhoods N_i: which frames a local branch lets frame i attend to. True = may attend, everywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gmsa_models.data.errors import brief
from gmsa_models.errors import ArgumentError

__all__ = [
    "NEIGHBOURHOODS",
    "BatchNeighbourhood",
    "BlockDiagonal",
    "ChangePoints",
    "Neighbourhood",
    "OfClip",
    "Scales",
    "Shots",
    "Spans",
    "Toeplitz",
    "ToeplitzDilated",
    "batch_mask",
    "masked_softmax",
    "neighbourhood_from_dict",
    "neighbourhood_from_text",
    "neighbourhood_mask",
    "neighbourhood_text",
    "neighbourhood_to_dict",
    "padded_neighbours",
]

LARGEST = 2**31 - 1  # frames
MOST_SCALES = 16
SHOTS = "SHOTS"  # how they are written
_WRITTEN = re.compile(r"(BD|TP|TD|CP)(\d+)(?:[x×](\d+))?", re.IGNORECASE)
_SPANS = re.compile(r"SP(\d{1,10}(?:-\d{1,10})*)", re.IGNORECASE)


@dataclass(frozen=True)
class BlockDiagonal:
    """BD_n: consecutive blocks of n frames; a frame attends to its own block.

    Attributes:
        size: n, frames in a block, at least 1. The last block of a clip may be shorter.
    """

    size: int

    def __post_init__(self) -> None:
        _check_whole("size", self.size, self)


@dataclass(frozen=True)
class Toeplitz:
    """TP_n: a frame attends to the frames at most n/2 away, so to about n of them.

    Attributes:
        size: n in frames, at least 1 (1: the frame itself only).
    """

    size: int

    def __post_init__(self) -> None:
        _check_whole("size", self.size, self)


@dataclass(frozen=True)
class ToeplitzDilated:
    """TD_n^d: of the frames at most n/2 away, those whose distance is divisible by d.

    Attributes:
        size: n in frames, at least 1.
        dilation: d in frames, at least 1 (1 is TP_n). The paper's TD_80 gives no d; 2 is our reading.
    """

    size: int
    dilation: int = 2

    def __post_init__(self) -> None:
        _check_whole("size", self.size, self)
        _check_whole("dilation", self.dilation, self)


@dataclass(frozen=True)
class Spans:
    """Given segments: a frame attends to its own.

    Attributes:
        starts: first frame of each segment, in order; the first is 0. The last segment ends with the clip.
    """

    starts: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", starts := tuple(self.starts))
        for start in starts[1:]:
            _check_whole("a start", start, self)
        if starts[:1] != (0,) or any(before >= after for before, after in pairwise(starts)):
            raise ArgumentError(f"Spans: starts are {brief(starts)}; expected ascending frames, the first 0")


@dataclass(frozen=True)
class ChangePoints:
    """CP_p: a frame attends to its own segment, which is found in the features of the clip.

    The mask depends on the clip: `gmsa_models.segments.clip_spans` gives the `Spans` of one.

    Attributes:
        penalty: p, what one more segment costs, in the mean scatter of a frame; at least 1. A clip has at most
            frames / p segments more than one.
    """

    penalty: int = 4

    def __post_init__(self) -> None:
        _check_whole("penalty", self.penalty, self)


@dataclass(frozen=True)
class Shots:
    """A frame attends to its own shot of the video, which a clip of a video file holds (`Clip.shots`).

    The mask depends on the clip, as that of `ChangePoints`.
    """


@dataclass(frozen=True)
class Scales:
    """Several neighbourhoods, each of a local branch of its own; as one neighbourhood it is their union.

    Attributes:
        parts: in the order of the branches, no two alike; each is the same in all clips.
    """

    parts: tuple[BlockDiagonal | Toeplitz | ToeplitzDilated, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", parts := tuple(self.parts))
        if not parts or len(parts) > MOST_SCALES or len(set(parts)) < len(parts):
            raise ArgumentError(f"Scales: got {brief(parts)}; expected 1 to {MOST_SCALES} neighbourhoods, no two alike")

    @property
    def names(self) -> tuple[str, ...]:
        """What the branches are called: "TP5", "TD60x4"."""
        return tuple(neighbourhood_text(part).replace("×", "x") for part in self.parts)


# Those that depend on the clip, of which `gmsa_models.segments` gives the `Spans`.
OfClip = ChangePoints | Shots
Neighbourhood = BlockDiagonal | Toeplitz | ToeplitzDilated | Spans | ChangePoints | Shots | Scales
# Of the clips of a batch: one for all, or each clip's own segments.
BatchNeighbourhood = Neighbourhood | tuple[Spans, ...]

NEIGHBOURHOODS: dict[str, type] = {
    "block-diagonal": BlockDiagonal,
    "toeplitz": Toeplitz,
    "toeplitz-dilated": ToeplitzDilated,
    "spans": Spans,
    "change-points": ChangePoints,
    "shots": Shots,
    "scales": Scales,
}


# What a scale may be: the same in all clips.
_OF_SCALES = (BlockDiagonal, Toeplitz, ToeplitzDilated)
PART_KINDS = tuple(name for name, kind in NEIGHBOURHOODS.items() if kind in _OF_SCALES)


def neighbourhood_mask(
    neighbourhood: Neighbourhood, frames: int, device: torch.device | str | None = None
) -> Bool[Tensor, "query key"]:
    """The neighbourhood as a matrix over frames.

    Args:
        neighbourhood: which pattern.
        frames: frames of the clip, at least 1.
        device: where the result lies; default the CPU.

    Returns:
        (frames, frames), True where frame `key` is in N of frame `query`. Symmetric, with a True diagonal.

    Raises:
        ArgumentError: fewer than 1 frame, something that is no neighbourhood, or one that depends on the clip.

    Source:
        Equation 2 and the masks figure; True here is the paper's 1, False its -inf.
    """
    if frames < 1:
        raise ArgumentError(f"a mask over {frames} frames; at least 1 is needed")
    index = torch.arange(frames, device=device)
    distance = (index[:, None] - index[None, :]).abs()
    match neighbourhood:
        case BlockDiagonal(size):
            block = index // size
            return block[:, None] == block[None, :]
        case Toeplitz(size):
            return distance <= size // 2
        case ToeplitzDilated(size, dilation):
            return (distance <= size // 2) & (distance % dilation == 0)
        case Spans(starts):
            segment = (index[:, None] >= torch.tensor(starts, device=device)).sum(1)
            return segment[:, None] == segment[None, :]
        case Scales(parts):
            return torch.stack([neighbourhood_mask(part, frames, device) for part in parts]).any(0)
        case ChangePoints() | Shots():
            raise ArgumentError(
                f"{neighbourhood_text(neighbourhood)}: the mask depends on the clip; gmsa_models.segments.clip_spans "
                "gives the segments of one"
            )
    raise ArgumentError(f"{neighbourhood!r} is no neighbourhood; expected one of {_kinds()}")


def batch_mask(
    neighbourhood: BatchNeighbourhood, frames: int, device: torch.device | str | None = None
) -> Bool[Tensor, "*clips query key"]:
    """`neighbourhood_mask` of one for all clips, (query, key), or of each clip's own, (batch, query, key)."""
    if not isinstance(neighbourhood, tuple):
        return neighbourhood_mask(neighbourhood, frames, device)
    return torch.stack([neighbourhood_mask(each, frames, device) for each in neighbourhood])


def padded_neighbours(
    mask: Bool[Tensor, "query key"],
) -> tuple[Int[Tensor, "query most"], Bool[Tensor, "query most"]]:
    """Neighbours of every frame side by side, in the order of the keys.

    Args:
        mask: True where a key is a neighbour.

    Returns:
        Their places, and which of them are neighbours: a frame with fewer than another has others behind them.
    """
    present, keys = mask.to(torch.int8).sort(dim=1, descending=True, stable=True)
    most = int(mask.sum(1).max())
    return keys[:, :most].contiguous(), present[:, :most] > 0


def masked_softmax(
    logits: Float[Tensor, "*batch query key"], allowed: Bool[Tensor, "*#batch #query key"] | None
) -> Float[Tensor, "*batch query key"]:
    """Softmax over the keys that may be attended to.

    Args:
        logits: attention logits; half precision is widened to float32 for the softmax.
        allowed: True = may attend; None: every key.

    Returns:
        Weights in the type of `logits`, exactly 0 where not allowed. A row in which nothing is allowed is uniform
        rather than nan: only a padded query has such a row, and no one reads it.

    Source:
        Equations 1 and 2; what eq. 1 prints as a product excludes logits before the softmax.
    """
    if allowed is not None:
        logits = logits.masked_fill(~allowed, torch.finfo(logits.dtype).min)
    wide = torch.promote_types(logits.dtype, torch.float32)
    return torch.softmax(logits, -1, dtype=wide).to(logits.dtype)


def neighbourhood_to_dict(neighbourhood: Neighbourhood) -> dict[str, Any]:
    """`{"kind": name in NEIGHBOURHOODS, "size": ...}`, the form that travels inside a checkpoint.

    Raises:
        ArgumentError: something that is no neighbourhood.
    """
    if isinstance(neighbourhood, Scales):
        return {"kind": "scales", "parts": [neighbourhood_to_dict(part) for part in neighbourhood.parts]}
    for kind, cls in NEIGHBOURHOODS.items():
        if type(neighbourhood) is cls:
            return {"kind": kind, **asdict(neighbourhood)}
    raise ArgumentError(f"{neighbourhood!r} is no neighbourhood; expected one of {_kinds()}")


def neighbourhood_from_dict(values: Mapping[str, Any]) -> Neighbourhood:
    """The inverse of `neighbourhood_to_dict`.

    Raises:
        ArgumentError: no or an unknown `kind`, a field missing, unknown or out of range; names it.
    """
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in NEIGHBOURHOODS:
        raise ArgumentError(f"neighbourhood kind {brief(kind)} is unknown; known: {_kinds()}")
    cls = NEIGHBOURHOODS[kind]
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    del arguments["kind"]
    if cls is Scales and "parts" in arguments:
        arguments["parts"] = _parts_from_dicts(arguments["parts"])
    known = {field.name for field in fields(cls)}
    if unknown := sorted(set(arguments) - known):
        raise ArgumentError(f"{kind} has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    needed = [field.name for field in fields(cls) if field.default is MISSING]
    if missing := [name for name in needed if name not in arguments]:
        raise ArgumentError(f"{kind} needs a {missing[0]}; got {dict(values)}")
    return cls(**arguments)


def _parts_from_dicts(parts: object) -> tuple[Neighbourhood, ...]:
    if not isinstance(parts, tuple):
        raise ArgumentError(f"scales: parts are {brief(parts)}; expected a list of neighbourhoods")
    for part in parts:
        if not isinstance(part, Mapping) or NEIGHBOURHOODS.get(str(part.get("kind"))) not in _OF_SCALES:
            raise ArgumentError(f"scales: a part is {brief(part)}; expected one of {', '.join(PART_KINDS)}")
    return tuple(neighbourhood_from_dict(part) for part in parts)


def neighbourhood_from_text(text: str) -> Neighbourhood:
    """A neighbourhood in the paper's words: BDn, TPn or TDnxd; CPn: `ChangePoints`; SP0-12-40: `Spans`; SHOTS: `Shots`.

    TP5+TP15+TP45: `Scales`.

    Raises:
        ArgumentError: anything else, or a size below 1.
    """
    if "+" in text:
        return _scales([neighbourhood_from_text(part) for part in text.split("+")])
    if spans := _SPANS.fullmatch(text.strip()):
        return Spans(tuple(map(int, spans[1].split("-"))))
    if text.strip().upper() == SHOTS:
        return Shots()
    match = _WRITTEN.fullmatch(text.strip())
    if match is None or bool(match[3]) != (match[1].upper() == "TD"):
        raise ArgumentError(
            f"neighbourhood {text!r}; expected BDn, TPn or TDnxd, for example BD20, TP30, TD60x4; or CP4, SP0-9-31, "
            "SHOTS"
        )
    kind, size = match[1].upper(), int(match[2])
    if kind == "TD":
        return ToeplitzDilated(size, int(match[3]))
    kinds: dict[str, type[BlockDiagonal | Toeplitz | ChangePoints]] = {
        "BD": BlockDiagonal, "TP": Toeplitz, "CP": ChangePoints
    }  # fmt: skip
    return kinds[kind](size)


def _scales(parts: Sequence[Neighbourhood]) -> Scales:
    same = [part for part in parts if isinstance(part, _OF_SCALES)]
    if len(same) < len(parts):
        raise ArgumentError(f"Scales: got {', '.join(map(neighbourhood_text, parts))}; expected BDn, TPn or TDnxd")
    return Scales(tuple(same))


def neighbourhood_text(neighbourhood: Neighbourhood) -> str:
    """The reverse, with a multiplication sign, as figures show it."""
    match neighbourhood:
        case BlockDiagonal(size):
            return f"BD{size}"
        case Toeplitz(size):
            return f"TP{size}"
        case ToeplitzDilated(size, dilation):
            return f"TD{size}×{dilation}"
        case Spans(starts):
            return f"SP{'-'.join(map(str, starts))}"
        case ChangePoints(penalty):
            return f"CP{penalty}"
        case Shots():
            return SHOTS
        case Scales(parts):
            return "+".join(map(neighbourhood_text, parts))
    raise ArgumentError(f"{neighbourhood!r} is no neighbourhood")


def _check_whole(name: str, value: int, owner: Neighbourhood) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST:
        raise ArgumentError(
            f"{type(owner).__name__}: {name} is {brief(value)}; expected a whole number of at least 1 and "
            f"at most {LARGEST}"
        )


def _kinds() -> str:
    return ", ".join(NEIGHBOURHOODS)
