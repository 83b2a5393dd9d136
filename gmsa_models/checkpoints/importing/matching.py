"""Which tensor of a file is which of a model: by name and shape, and nothing that is left to chance."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.checkpoints.importing.sources import Source, Sources
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.config import ModelConfig

__all__ = ["Assignment", "assign"]

_SLOT = re.compile(
    r"encoders\.(?P<stream>.+?)\.(?:(?P<outer>project|norm)|layers\.(?P<layer>\d+)\.(?P<inner>.+?))\.(?P<kind>weight|bias)"
)
_PARTS = {"feed_forward.0": "feed_first", "feed_forward.2": "feed_second"}
_MOST_NAMED = 6


@dataclass(frozen=True)
class Slot:
    """A tensor of the model that needs a value; `stream` and `layer` None: of the classifier, of a stream."""

    name: str
    shape: torch.Size
    part: str
    stream: str | None
    layer: int | None
    bias: bool


@dataclass(frozen=True, eq=False)
class Assignment:
    """What a tensor of the model is taken from.

    Attributes:
        name: of the model's tensor.
        value: the numbers.
        source: name in the file; "" for zeros.
        how: by what it was known, and what was done to it.
    """

    name: str
    value: Tensor
    source: str
    how: str


def assign(config: ModelConfig, sources: Sources, zeros: Sequence[str] = ()) -> list[Assignment]:
    """A value for each tensor of a model.

    Args:
        config: of the model.
        sources: of the file.
        zeros: patterns of the model's tensors that are 0 where the file has none.

    Returns:
        In the order of the model.

    Raises:
        CheckpointError: two tensors for one place or one for several; tensors that are missing, or left over.
    """
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in GMSAClassifier(config).state_dict().items()}
    slots = [_slot(name, shape) for name, shape in shapes.items()]
    tensors, cancelled = _without_cancelled(sources.tensors, config)
    chosen = _by_name(tensors, slots, sources) | {}
    chosen = _by_shape(chosen, tensors, slots, sources)
    left = [each for each in tensors if all(each is not source for source, _ in chosen.values())]
    missing = [slot for slot in slots if slot.name not in chosen and not _is_zero(slot, zeros)]
    if missing or left:
        raise CheckpointError(_unmatched(missing, left, sources))
    sources.notes.extend(cancelled)
    return [_assignment(slot, chosen) for slot in slots]


def _slot(name: str, shape: torch.Size) -> Slot:
    if name.startswith("classifier."):
        return Slot(name, shape, "classifier", None, None, name.endswith("bias"))
    if match := _SLOT.fullmatch(name):
        part = match["outer"] or match["inner"].removeprefix("attention.")
        layer = None if match["layer"] is None else int(match["layer"])
        return Slot(name, shape, _PARTS.get(part, part), match["stream"], layer, match["kind"] == "bias")
    *_, stream, _, number, _, part = name.split(".")  # a parameter of the block itself
    return Slot(name, shape, part.removesuffix("_bias"), stream, int(number), part.endswith("_bias"))


def _fits(source: Source, slot: Slot, sources: Sources) -> bool:
    """Whether a tensor may be what a slot needs, by its place in the model and by its name."""
    read = source.read
    if read.stream not in (None, slot.stream) and slot.stream is not None:
        return False
    numbered = read.stream in sources.numbered
    if slot.layer is None:
        in_place = read.layer is None
    else:
        in_place = read.layer == slot.layer or (read.layer is None and not numbered and slot.layer == 0)
    kind = read.bias is None or read.bias == slot.bias
    return in_place and kind and (not read.parts or slot.part in read.parts)


def _candidates(source: Source, slots: Sequence[Slot], sources: Sources) -> list[Slot]:
    return [slot for slot in slots if slot.shape == source.value.shape and _fits(source, slot, sources)]


Chosen = dict[str, tuple[Source, str]]


def _by_name(tensors: Sequence[Source], slots: Sequence[Slot], sources: Sources) -> Chosen:
    """Slot -> tensor whose name and shape leave no other choice.

    Raises:
        CheckpointError: two tensors for one slot.
    """
    chosen: Chosen = {}
    own = {slot.name: slot for slot in slots}
    for source in tensors:
        if (slot := own.get(source.name)) is not None and slot.shape == source.value.shape:
            chosen[slot.name] = source, "by name"
    for source in tensors:
        fits = _candidates(source, slots, sources) if source.read.parts and source.name not in own else []
        if len(fits) != 1:
            continue
        if (other := chosen.get(fits[0].name)) is not None:
            raise CheckpointError(
                f"{other[0].name} and {source.name} are both {fits[0].name} by their names: is it another variant "
                "(--like)? Else --rename decides which, and names the other or leaves it out"
            )
        chosen[fits[0].name] = source, "by name"
    return chosen


def _by_shape(chosen: Chosen, tensors: Sequence[Source], slots: Sequence[Slot], sources: Sources) -> Chosen:
    """The same with tensors that alone fit a slot that nothing else fits.

    Raises:
        CheckpointError: several that fit several.
    """
    chosen = dict(chosen)
    while True:
        free = [slot for slot in slots if slot.name not in chosen]
        left = [each for each in tensors if all(each is not source for source, _ in chosen.values())]
        fits = {
            each.name: (each, [slot for slot in _candidates(each, free, sources) if _in_module(each, slot, chosen)])
            for each in left
        }
        unambiguous = [
            (each, options[0])
            for each, options in fits.values()
            if len(options) == 1 and sum(options[0] in others for _, others in fits.values()) == 1
        ]
        if not unambiguous:
            break
        chosen |= {slot.name: (each, "by shape") for each, slot in unambiguous}
    for each, options in fits.values():
        if options:
            alternatives = [other.name for other, others in fits.values() if set(options) & set(others)]
            raise CheckpointError(
                f"{_named(alternatives)} of shape {tuple(each.value.shape)} may each be "
                f"{_named([s.name for s in options])}: their names do not tell; --rename decides"
            )
    return chosen


def _in_module(source: Source, slot: Slot, chosen: Chosen) -> bool:
    """Whether a bias goes with its weight: that of a module is of the same module, in the file and here."""
    weights = {weight.name: name for name, (weight, _) in chosen.items()}
    in_file = weights.get(source.name.removesuffix(".bias") + ".weight") if source.name.endswith(".bias") else None
    if in_file is not None:
        return slot.name == in_file.removesuffix(".weight") + ".bias"
    in_model = chosen.get(slot.name.removesuffix(".bias") + ".weight") if slot.name.endswith(".bias") else None
    return in_model is None or not in_model[0].name.endswith(".weight")


def _without_cancelled(tensors: Sequence[Source], config: ModelConfig) -> tuple[list[Source], list[str]]:
    """Tensors without biases that cancel, or that are one here: of both gates, of both outputs. And sentences on them.

    The gates are a softmax over the pair, which equal biases leave as it is; they add to 1, so that equal output biases
    are one.

    Raises:
        CheckpointError: biases that differ between the branches.
    """
    if config.attention != "gate-op":
        return list(tensors), []
    kept, notes = list(tensors), []
    for part in ("gate", "output"):
        pairs: dict[object, dict[str, Source]] = {}
        for each in tensors:
            if each.read.bias and len(each.read.parts - {"output"}) == 1 and "".join(each.read.parts).startswith(part):
                branch = "local" if f"{part}_local" in each.read.parts else "global"
                pairs.setdefault((each.read.stream, each.read.layer), {})[branch] = each
        for pair in pairs.values():
            same = len(pair) == 2 and torch.equal(pair["global"].value, pair["local"].value)
            if not same and any(bool(each.value.any()) for each in pair.values()):
                raise CheckpointError(
                    f"{_named([each.name for each in pair.values()])}: the {part} biases of the two branches differ, "
                    f"which no model here can have: its "
                    + ("gates have none" if part == "gate" else "branches share one output bias")
                )
            first, *others = pair.values()
            drop = [first, *others] if part == "gate" else others
            kept = [each for each in kept if all(each is not one for one in drop)]
            if part == "output":
                kept[next(i for i, each in enumerate(kept) if each is first)] = _shared(first)
            notes.append(
                f"{_named([each.name for each in pair.values()])}: equal in both branches, "
                + ("which the softmax over the pair cancels: left out" if part == "gate" else "so one bias here")
            )
    return kept, notes


def _shared(source: Source) -> Source:
    return replace(source, read=replace(source.read, parts=frozenset({"output"})))


def _is_zero(slot: Slot, zeros: Sequence[str]) -> bool:
    return any(fnmatchcase(slot.name, pattern) for pattern in zeros)


def _assignment(slot: Slot, chosen: Chosen) -> Assignment:
    if slot.name not in chosen:
        return Assignment(slot.name, torch.zeros(slot.shape), "", "zeros, as asked for")
    source, how = chosen[slot.name]
    return Assignment(slot.name, source.value, source.name, ", ".join(filter(None, (how, source.note))))


def _unmatched(missing: Sequence[Slot], left: Sequence[Source], sources: Sources) -> str:
    """What has no counterpart, and whether a transposition would give it one."""
    lines = []
    for slot in missing:
        for each in left:
            turned = each.value.ndim == 2 and each.value.mT.shape == slot.shape and slot.shape[0] != slot.shape[1]
            if turned and _fits(each, slot, sources):
                return (
                    f"{each.name} is {tuple(each.value.shape)}, which is {slot.name} {tuple(slot.shape)} transposed: "
                    "kept as (in, out), for x @ W? Then say --transposed, which turns every matrix"
                )
    if missing:
        lines.append(f"{len(missing)} tensors of the model are missing in the file: {_shaped(missing)}")
    if left:
        shown = [f"{each.name} {tuple(each.value.shape)}" for each in left]
        lines.append(f"{len(left)} tensors of the file have no place in the model: {_named(shown)}")
    biases = all(slot.bias for slot in missing) and bool(missing)
    advice = "--rename says which is which" + (", or which are zeros" if biases else "") + (
        ", and which are left out" if left else ""
    )  # fmt: skip
    return "; ".join([*lines, advice])


def _shaped(slots: Sequence[Slot]) -> str:
    return _named([f"{slot.name} {tuple(slot.shape)}" for slot in slots])


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(name[:120] for name in names[:_MOST_NAMED])
    return shown + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")
