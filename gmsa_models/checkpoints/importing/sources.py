"""The tensors of a file as candidates for those of a model: names read, packed ones split, masks set apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.checkpoints.importing.names import PACKED, ReadName, read_name, streams_of
from gmsa_models.masks import Neighbourhood, OfClip, neighbourhood_mask

__all__ = ["Source", "Sources", "read_sources"]

LONGEST_STATED_MASK = 4096  # frames


@dataclass(frozen=True, eq=False)
class Source:
    """A tensor of the file, or a third of a packed one.

    Attributes:
        name: as in the file; a third says which rows.
        value: what is taken.
        read: what its name says.
        note: what was done to it.
    """

    name: str
    value: Tensor
    read: ReadName
    note: str = ""


@dataclass(frozen=True, eq=False)
class Sources:
    """All of them.

    Attributes:
        tensors: those that are weights.
        streams: names of the streams that they are of, in the order of the file.
        numbered: streams whose names have a number of a layer.
        notes: what was left out, and why, in a sentence each.
    """

    tensors: list[Source]
    streams: list[str]
    numbered: frozenset[str]
    notes: list[str]


def read_sources(
    tensors: Mapping[str, Tensor],
    streams: Mapping[str, str],
    neighbourhood: Neighbourhood | None,
    transposed: bool = False,
    gated_maps: bool = False,
) -> Sources:
    """What the names of a file say.

    Args:
        tensors: of the file, by name.
        streams: part of a name -> what its stream is called; one alone need not be in any name; empty: by usual words.
        neighbourhood: of the model's local branch, which a mask in the file must be; None: it has none.
        transposed: the file keeps matrices as (in, out), for x @ W.
        gated_maps: gates weigh maps; their matrices are (in, out) here, so that a `Linear`'s are turned.

    Raises:
        CheckpointError: no name says of which stream it is; a mask of another neighbourhood; values that are not
            finite, quantised or complex.
    """
    known = dict(streams)
    stream_names = streams_of(list(tensors), known)
    only = next(iter(known.values())) if len(known) == 1 else None
    stream_names = stream_names or ([only] if only else [])
    if not stream_names:
        raise CheckpointError(
            f"no name says of which stream it is ({_some(tensors)}); say what the model is given: --stream visual, "
            "or --stream PART_OF_NAME=visual for each stream"
        )
    if missing := [key for key, stream in known.items() if stream not in stream_names]:
        raise CheckpointError(f"no tensor is called {missing[0]!r}: {_some(tensors)}; give a part of their names")
    weights, notes = _weights(tensors, neighbourhood)
    read = [_oriented(name, value, known, transposed, gated_maps) for name, value in weights.items()]
    if len(stream_names) == 1:
        read = [replace(each, read=replace(each.read, stream=stream_names[0])) for each in read]
    read, numbered = _ranked(read, stream_names)
    return Sources([part for each in read for part in _unpacked(each)], stream_names, numbered, notes)


def _oriented(name: str, value: Tensor, known: Mapping[str, str], transposed: bool, gated_maps: bool) -> Source:
    """A tensor as a `Linear` keeps it, (out, in); gates of maps as the paper prints them, (in, out)."""
    read = read_name(name, value.shape, known)
    if value.ndim != 2:
        return Source(name, value, read)
    gate = gated_maps and bool(read.parts) and read.parts <= {"gate_global", "gate_local"}
    if name.endswith(".weight") and not transposed if gate else transposed:
        note = "transposed: a Linear's gate is (out, in)" if gate else "transposed"
        return Source(name, value.mT.contiguous(), read_name(name, value.mT.shape, known), note)
    return Source(name, value, read)


def _weights(tensors: Mapping[str, Tensor], neighbourhood: Neighbourhood | None) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors that are weights, and sentences on the others."""
    weights, notes = {}, []
    for name, value in tensors.items():
        _check_type(name, value)
        mask = _as_mask(value)
        if mask is not None:
            _check_mask(name, mask, neighbourhood)
            notes.append(f"{name} is the mask of the model: compared, and left out")
        elif not value.is_floating_point():
            notes.append(f"{name} is {str(value.dtype).removeprefix('torch.')}, no weight: left out")
        elif not value.isfinite().all():
            raise CheckpointError(
                f"{name} {tuple(value.shape)} has a value that is not finite: the training diverged, or the file is "
                "damaged; give weights of an earlier step"
            )
        else:
            weights[name] = value
    return weights, notes


def _check_type(name: str, value: Tensor) -> None:
    """Refuse numbers of which weights cannot be read: quantised ones, whose scale is elsewhere, and complex ones."""
    small = value.element_size() == 1 and value.dtype != torch.bool
    small = small and (value.is_floating_point() or bool((value.int().abs() > 1).any()))  # else a mask of 0 and 1
    if small or value.is_complex():
        what = "quantised: its numbers are steps of a scale that it does not hold" if small else "complex"
        raise CheckpointError(
            f"{name} is {str(value.dtype).removeprefix('torch.')}, {what}; expected float64, float32, bfloat16 or "
            "float16: write the weights before they were quantised, or dequantised"
        )


def _as_mask(value: Tensor) -> Bool[Tensor, "query key"] | None:
    """True = may attend, of a matrix of bool or of -inf and one other value."""
    square = value.squeeze() if value.ndim > 2 else value
    if square.ndim != 2 or square.shape[0] != square.shape[1] or not 1 < len(square) <= LONGEST_STATED_MASK:
        return None
    if square.dtype == torch.bool:
        return square if bool(square.diagonal().all()) else ~square
    blocked = square.isneginf() if square.is_floating_point() else torch.zeros(())
    return ~blocked if bool(blocked.any()) and square[~blocked].unique().numel() == 1 else None


def _check_mask(name: str, mask: Bool[Tensor, "query key"], neighbourhood: Neighbourhood | None) -> None:
    if isinstance(neighbourhood, OfClip):
        raise CheckpointError(
            f"{name} is a mask, the same for all clips; the masks of {neighbourhood} are each clip's own"
        )
    expected = None if neighbourhood is None else neighbourhood_mask(neighbourhood, len(mask))
    if (not bool(mask.all())) if expected is None else (not torch.equal(mask, expected)):
        what = f"{neighbourhood} allows {int(expected.sum())}" if expected is not None else "the block has no mask"
        raise CheckpointError(
            f"{name} is a mask that allows {int(mask.sum())} of {mask.numel()} pairs of frames; {what}: choose the "
            "variant of that neighbourhood (--like gate-op-tp20 has |i - j| <= 10)"
        )


def _ranked(read: Sequence[Source], streams: Sequence[str]) -> tuple[list[Source], frozenset[str]]:
    """Numbers of layers from 0 in each stream, whatever the file counts from."""
    numbers = {stream: _numbers(read, stream) for stream in streams}
    ranked = []
    for each in read:
        own, layer = numbers.get(each.read.stream or "", []), each.read.layer
        rank = None if layer is None else own.index(layer)
        ranked.append(replace(each, read=replace(each.read, layer=rank)))
    return ranked, frozenset(stream for stream, own in numbers.items() if own)


def _numbers(read: Sequence[Source], stream: str) -> list[int]:
    layers = (each.read.layer for each in read if each.read.stream == stream)
    return sorted({layer for layer in layers if layer is not None})


def _unpacked(source: Source) -> list[Source]:
    if source.read.parts != {PACKED}:
        return [source]
    third = len(source.value) // 3
    return [
        replace(
            source,
            name=f"{source.name}[{number * third}:{(number + 1) * third}]",
            value=source.value[number * third : (number + 1) * third],
            read=replace(source.read, parts=frozenset({part}), bias=source.value.ndim == 1),
        )
        for number, part in enumerate(("query", "key", "value"))
    ]


def _some(names: Mapping[str, object]) -> str:
    return ", ".join(list(names)[:4])[:300]
