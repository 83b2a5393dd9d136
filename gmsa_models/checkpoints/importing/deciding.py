"""Whether a pair of inputs and outputs decides how a file of weights is read, or fits other readings as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from gmsa_models.attention import ATTENTION
from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.checkpoints.importing.deduce import variant_of
from gmsa_models.checkpoints.importing.proof import LARGEST_DIFFERENCE, Proof
from gmsa_models.checkpoints.importing.reading import Reading, model_of
from gmsa_models.checkpoints.importing.state_file import StateFile
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.config import ModelConfig
from gmsa_models.masks import (
    BlockDiagonal,
    Neighbourhood,
    OfClip,
    Spans,
    Toeplitz,
    ToeplitzDilated,
    neighbourhood_mask,
    neighbourhood_text,
)

__all__ = ["check_proof"]

_HEADS = (1, 2, 4, 8, 12, 16)
MARGIN = 10  # another reading whose difference is not so many times as large fits as well
ROUNDING = 3e-6  # of the largest output: what float32 computes otherwise in another order
_LONGEST_MASK = 4096  # frames
_MOST_NAMED = 3


@dataclass(frozen=True)
class OtherReading:
    """Another way to read a file.

    Attributes:
        reading: the way.
        option: by which of the command's options one would choose it.
        least_frames: a clip must have so many for it to differ by its mask; 0: it differs otherwise.
    """

    reading: Reading
    option: str
    least_frames: int = 0


def check_proof(state: StateFile, reading: Reading, pair: Proof, model: GMSAClassifier) -> float:
    """max |difference| of a model's outputs from those of a pair, which fits, and fits no other reading as well.

    Args:
        state: the file.
        reading: by which the model was made of it.
        pair: of the original.
        model: as read.

    Raises:
        CheckpointError: the outputs differ; or other readings of the file fit as well, so that the pair proves nothing.
    """
    difference = pair.difference(model)
    if not difference <= LARGEST_DIFFERENCE:
        raise CheckpointError(_refusal(state, reading, pair, model, difference))
    bound = max(MARGIN * difference, ROUNDING * float(pair.outputs.abs().max()))
    alternatives = [(other, gap) for other, gap in _gaps(state, reading, pair, model) if gap <= bound]
    if alternatives:
        raise CheckpointError(_undecided(pair, alternatives, difference))
    return difference


def _gaps(
    state: StateFile, reading: Reading, pair: Proof, model: GMSAClassifier
) -> Iterator[tuple[OtherReading, float]]:
    """Other readings that are other models, and how far their outputs are from those of the pair."""
    for other in _other_readings(reading, model.config):
        try:
            another = model_of(state, other.reading)[0]
            if not _same(model, another):
                yield other, pair.difference(another)
        except CheckpointError:  # no reading of this file
            continue


def _same(one: GMSAClassifier, other: GMSAClassifier) -> bool:
    values = other.state_dict()
    return (
        one.config == other.config
        and list(one.config.modalities) == list(other.config.modalities)
        and all(torch.equal(value, values[name]) for name, value in one.state_dict().items())
    )


def _other_readings(reading: Reading, config: ModelConfig) -> Iterator[OtherReading]:
    if ATTENTION[config.attention] is not None:
        for heads in _HEADS:
            if heads != config.heads:
                yield OtherReading(replace(reading, heads=heads), f"--heads {heads}")
    yield OtherReading(replace(reading, transposed=not reading.transposed), "the other choice of --transposed")
    yield OtherReading(
        replace(reading, reversed=not reading.reversed),
        "the streams in the other order (--stream, given in the order of joining)",
    )
    if ATTENTION[config.attention] is not None:
        yield OtherReading(replace(reading, exchanged=not reading.exchanged), "queries and keys exchanged (--rename)")
    block, neighbourhood = variant_of(reading.like)
    if neighbourhood is not None:
        yield from _other_neighbourhoods(reading, block, neighbourhood, min(config.max_frames, _LONGEST_MASK))


def _other_neighbourhoods(
    reading: Reading, block: str, neighbourhood: Neighbourhood, longest: int
) -> Iterator[OtherReading]:
    """Those nearest to one, that differ from it in clips as long as the model takes."""
    if isinstance(neighbourhood, OfClip | Spans):  # no size of which another would be near
        return
    own = neighbourhood_mask(neighbourhood, longest)
    for near in _nearest(neighbourhood):
        if (least := _least_frames(own, neighbourhood_mask(near, longest))) is not None:
            like = f"{block}-{_suffix(near)}"
            yield OtherReading(replace(reading, like=like), f"--like {like}", least)


def _nearest(neighbourhood: Neighbourhood) -> Sequence[Neighbourhood]:
    match neighbourhood:
        case BlockDiagonal(size):
            return [BlockDiagonal(each) for each in (size + 1, size - 1) if each]
        case Toeplitz(size):
            reach = size // 2
            return [Toeplitz(max(1, 2 * each)) for each in (reach + 1, reach - 1) if each >= 0]
        case ToeplitzDilated(size, dilation):
            steps = size // 2 // dilation
            sizes = [max(1, 2 * each * dilation) for each in (steps + 1, steps - 1) if each >= 0]
            others = [each for each in (dilation + 1, dilation - 1) if each]
            return [ToeplitzDilated(each, dilation) for each in sizes] + [
                ToeplitzDilated(size, each) for each in others
            ]
    raise AssertionError(neighbourhood)


def _suffix(neighbourhood: Neighbourhood) -> str:
    """As `variant_of` reads it."""
    return neighbourhood_text(neighbourhood).lower().replace("×", "x")


def _least_frames(one: Bool[Tensor, "query key"], other: Bool[Tensor, "query key"]) -> int | None:
    """Frames of the shortest clip in which two masks differ; a clip's mask is the first part of a longer one's."""
    differing = (one != other).nonzero()
    return int(differing.amax(1).min()) + 1 if len(differing) else None


def _refusal(state: StateFile, reading: Reading, pair: Proof, model: GMSAClassifier, difference: float) -> str:
    """That the proof fails, and which other reading would not."""
    head = (
        f"the model's {pair.kind} differ from those of {pair.path} by up to {difference:.3g}; at most "
        f"{LARGEST_DIFFERENCE:g} is taken for the same, so nothing is written"
    )
    if halves := _halves(pair, model):
        head += f"; {halves}, and models here compute in float32: make the pair with the original in float32 (.float())"
    for other, gap in _gaps(state, reading, pair, model):
        if gap <= LARGEST_DIFFERENCE:
            return f"{head}. With {other.option} the difference is {gap:.2g}"
    return (
        f"{head}. Check --heads, the variant's neighbourhood, the order of --stream, and whether matrices are (in, "
        "out) (--transposed); what differs otherwise (another activation, scale, norm, pooling, a packing head by "
        "head) these models do not have: analysis.inspect_module opens the original itself"
    )


def _halves(pair: Proof, model: GMSAClassifier) -> str:
    """What is in half precision; empty where nothing is."""
    kinds = [f"{name!r} of the pair is float16" for name in pair.halves]
    weights = next(model.parameters()).dtype
    if weights in (torch.float16, torch.bfloat16):
        kinds.append(f"the weights are {str(weights).removeprefix('torch.')}")
    return ", ".join(kinds)


def _undecided(pair: Proof, alternatives: list[tuple[OtherReading, float]], difference: float) -> str:
    shown = "; ".join(f"{other.option} ({gap:.2g})" for other, gap in alternatives[:_MOST_NAMED])
    more = f"; and {len(alternatives) - _MOST_NAMED} more" if len(alternatives) > _MOST_NAMED else ""
    return (
        f"{pair.path} does not decide how the weights are read: as given the difference is {difference:.2g}, and other "
        f"readings fit as well: {shown}{more}. A pair that decides has {_decisive(pair, alternatives)}. "
        "Nothing is written"
    )


def _decisive(pair: Proof, alternatives: list[tuple[OtherReading, float]]) -> str:
    """What kind of pair would tell the readings apart."""
    frames = next(iter(pair.inputs.values())).shape[1]
    least = max(other.least_frames for other, _ in alternatives)
    wanted = []
    if least > frames:
        wanted.append(f"clips of at least {least} frames, longer than the neighbourhood reaches (here {frames})")
    elif frames == 1:
        wanted.append("several frames a clip (here 1)")
    if frames > 1 and all(bool((each == each[:, :1]).all()) for each in pair.inputs.values()):
        wanted.append("frames that differ within a clip (here all are alike)")
    if pair.kind == "probabilities" and float((pair.outputs * (1 - pair.outputs)).max()) < LARGEST_DIFFERENCE:
        wanted.append("logits in place of probabilities (here all but 0 and 1)")
    if len(pair.inputs) > 1 and len({str(each.shape) for each in pair.inputs.values()}) == 1:
        first, *others = pair.inputs.values()
        if all(torch.equal(first, each) for each in others):
            wanted.append("other inputs in each stream (here all are the same)")
    return ", ".join(wanted) or "several clips whose outputs follow from what each frame attends to, such as real ones"
