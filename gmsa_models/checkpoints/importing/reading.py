"""Reading: what is assumed of a file of weights beside its names and shapes, and the model that follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gmsa_models.attention import ATTENTION
from gmsa_models.checkpoints.importing.deduce import config_of, variant_of
from gmsa_models.checkpoints.importing.matching import Assignment, assign
from gmsa_models.checkpoints.importing.rename import Renaming
from gmsa_models.checkpoints.importing.sources import read_sources
from gmsa_models.checkpoints.importing.state_file import StateFile
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.variants import SIZES

__all__ = ["Reading", "model_of"]


@dataclass(frozen=True)
class Reading:
    """How a file is read; see `import_state`.

    Attributes:
        reversed: the streams are joined in the other order.
        exchanged: what is called queries is keys, and the reverse.
    """

    like: str
    streams: Mapping[str, str] = field(default_factory=dict)
    heads: int | None = None
    max_frames: int | None = None
    norm: str | None = None
    transposed: bool = False
    renaming: Renaming = field(default_factory=Renaming)
    reversed: bool = False
    exchanged: bool = False


def model_of(state: StateFile, reading: Reading) -> tuple[GMSAClassifier, list[Assignment], list[str]]:
    """The model of a file, where its tensors come from, and what else is to be said.

    Raises:
        CheckpointError: weights that are no such model.
    """
    attention, neighbourhood = variant_of(reading.like)
    block = ATTENTION[attention]
    tensors, origin, left_out = reading.renaming.apply(state.tensors)
    gated_maps = block is not None and block.gated == "maps"
    sources = read_sources(tensors, reading.streams, neighbourhood, reading.transposed, gated_maps)
    order = _order(sources.streams, reading)
    config = config_of(reading.like, sources, order, reading.heads, reading.max_frames, reading.norm)
    assignments = [_by_origin(each, origin) for each in assign(config, sources, reading.renaming.zeros)]
    if reading.exchanged:
        assignments = _exchanged(assignments)
    with torch.random.fork_rng(devices=[]):
        model = GMSAClassifier(config)
    values, kinds = _one_type(assignments)
    model.to(next(iter(values.values())).dtype)
    model.load_state_dict(values)
    notes = [f"{name} is left out by --rename" for name in left_out]
    return model.eval(), assignments, [*notes, *sources.notes, *kinds]


def _order(streams: list[str], reading: Reading) -> list[str]:
    """Streams in the order in which their pooled vectors are joined."""
    wanted = [*reading.streams.values(), *SIZES["paper"].modalities]
    order = sorted(streams, key=lambda stream: wanted.index(stream) if stream in wanted else len(wanted))
    return order[::-1] if reading.reversed else order


def _by_origin(assignment: Assignment, origin: Mapping[str, str]) -> Assignment:
    """With the name in the file, where `--rename` gave another; a third of a packed tensor keeps its rows."""
    name, bracket, rows = assignment.source.partition("[")
    known = origin.get(name, name)
    how = assignment.how.replace("by name", "by --rename") if known != name else assignment.how
    return replace(assignment, source=known + bracket + rows, how=how)


def _exchanged(assignments: list[Assignment]) -> list[Assignment]:
    values = {each.name: each.value for each in assignments}
    others = {".attention.query.": ".attention.key.", ".attention.key.": ".attention.query."}

    def counterpart(name: str) -> str:
        part = next((part for part in others if part in name), "")
        return name.replace(part, others[part]) if part else name

    return [replace(each, value=values[counterpart(each.name)]) for each in assignments]


def _one_type(assignments: list[Assignment]) -> tuple[dict[str, Tensor], list[str]]:
    """All values in one type, the widest; a sentence if they were of several."""
    types = {each.value.dtype for each in assignments if each.source}
    wide = torch.float16 if types == {torch.float16} else torch.bfloat16 if types == {torch.bfloat16} else None
    if wide is None:
        wide = torch.float64 if torch.float64 in types else torch.float32
    values = {each.name: each.value.to(wide) for each in assignments}
    several = ", ".join(sorted(str(each).removeprefix("torch.") for each in types))
    return values, [f"weights of types {several}: all become {wide}"] if types != {wide} else []
