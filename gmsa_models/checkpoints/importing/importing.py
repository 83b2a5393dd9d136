"""import_state: weights of somebody's own GMSA as a model of the package, and the proof that it computes the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmsa_models.attention import ATTENTION
from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.checkpoints.importing.deduce import config_of, variant_of
from gmsa_models.checkpoints.importing.matching import Assignment, assign
from gmsa_models.checkpoints.importing.proof import LARGEST_DIFFERENCE, Proof, read_proof
from gmsa_models.checkpoints.importing.rename import Renaming, read_renaming
from gmsa_models.checkpoints.importing.sources import read_sources
from gmsa_models.checkpoints.importing.state_file import StateFile, read_state, state_in_memory
from gmsa_models.checkpoints.names import check_name
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.evaluating import standard_contexts
from gmsa_models.variants import SIZES

__all__ = ["ImportedState", "import_state"]

_HEADS = (1, 2, 4, 8, 12, 16)  # which are tried when a proof fails


@dataclass(frozen=True, eq=False)
class ImportedState:
    """A model that was made of weights in a file.

    Attributes:
        model: in evaluation mode; its card says where the weights come from.
        assignments: where each of its tensors comes from, in its order.
        notes: what was left out or taken together, a sentence each.
        difference: max |difference| of its outputs from those of the proof; None without a proof.
    """

    model: GMSAClassifier
    assignments: list[Assignment]
    notes: list[str]
    difference: float | None


@dataclass(frozen=True)
class _Reading:
    """How a file is read; see `import_state`."""

    like: str
    streams: Mapping[str, str] = field(default_factory=dict)
    heads: int | None = None
    max_frames: int | None = None
    transposed: bool = False
    reversed: bool = False
    renaming: Renaming = field(default_factory=Renaming)


@standard_contexts()
def import_state(
    weights: str | Path | Mapping[str, Tensor],
    like: str,
    *,
    streams: Mapping[str, str] | None = None,
    heads: int | None = None,
    max_frames: int | None = None,
    transposed: bool = False,
    rename: str | Path | None = None,
    classes: str | Path | None = None,
    proof: str | Path | None = None,
    name: str | None = None,
) -> ImportedState:
    """A model from the weights of somebody's own GMSA code.

    Sizes are read off the shapes; what a shape does not tell is an argument. Each tensor is known by its name, under
    which such tensors usually stand, and its shape. Nothing is guessed: what is ambiguous, missing or left over is an
    error.

    Args:
        weights: a file with a `state_dict` as `torch.save` or safetensors writes it, alone or under a usual key, of
            which nothing is run; or a `state_dict`.
        like: variant whose attention block and neighbourhood it has: a key of `VARIANTS`, or with another size of the
            neighbourhood ("gate-op-tp20").
        streams: part of the names -> what that stream is called, in the order in which the pooled streams are joined;
            of a single stream the part need not be in any name. Default: by usual words (visual, rgb, audio, ...), in
            the variant's order.
        heads: M; default: the variant's in the paper's size, 8.
        max_frames: longest clip; default: as the gates of GateAtt say, else 300.
        transposed: matrices are (in, out), for x @ W.
        rename: TOML file of names; see `read_renaming`.
        classes: table of the classes (CSV, see `Vocabulary.read_csv`) or a text file of a name a line; default: they
            are numbered.
        proof: `.npz` of inputs and outputs of the original; see `read_proof`.
        name: what the model is called; default: as its file.

    Raises:
        CheckpointError: of any fault: see the modules of this package.
    """
    variant_of(like)
    renaming = Renaming() if rename is None else read_renaming(rename)
    reading = _Reading(like, streams or {}, heads, max_frames, transposed, renaming=renaming)
    pair = None if proof is None else read_proof(proof, streams or {})
    state = state_in_memory(weights) if isinstance(weights, Mapping) else read_state(weights)
    try:
        model, assignments, notes = _made(state, reading)
        model.vocabulary = _class_names(classes, model.config.classes)
        model.card = {"name": check_name(state.path.stem if name is None else name), "imported": _origin(state, like)}
        difference = None if pair is None else pair.difference(model)
        if pair is not None and difference is not None:
            if not difference <= LARGEST_DIFFERENCE:
                raise CheckpointError(_refusal(state, reading, pair, difference))
            model.card["imported"] |= {"proof": pair.path.name, "difference": difference}
    except CheckpointError as error:
        reason = str(error.args[0])
        raise CheckpointError(reason if reason.startswith(str(proof)) else f"{state.path}: {reason}") from error
    return ImportedState(model, assignments, notes, difference)


def _made(state: StateFile, reading: _Reading) -> tuple[GMSAClassifier, list[Assignment], list[str]]:
    """The model of a file, where its tensors come from, and what else is to be said."""
    attention, neighbourhood = variant_of(reading.like)
    block = ATTENTION[attention]
    tensors, origin, left_out = reading.renaming.apply(state.tensors)
    gated_maps = block is not None and block.gated == "maps"
    sources = read_sources(tensors, reading.streams, neighbourhood, reading.transposed, gated_maps)
    order = _order(sources.streams, reading)
    config = config_of(reading.like, sources, order, reading.heads, reading.max_frames)
    assignments = [_by_origin(each, origin) for each in assign(config, sources, reading.renaming.zeros)]
    with torch.random.fork_rng(devices=[]):
        model = GMSAClassifier(config)
    values, kinds = _one_type(assignments)
    model.to(next(iter(values.values())).dtype)
    model.load_state_dict(values)
    notes = [f"{name} is left out by --rename" for name in left_out]
    return model.eval(), assignments, [*notes, *sources.notes, *kinds]


def _order(streams: list[str], reading: _Reading) -> list[str]:
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


def _one_type(assignments: list[Assignment]) -> tuple[dict[str, Tensor], list[str]]:
    """All values in one type, the widest; a sentence if they were of several."""
    types = {each.value.dtype for each in assignments if each.source}
    wide = torch.float16 if types == {torch.float16} else torch.bfloat16 if types == {torch.bfloat16} else None
    if wide is None:
        wide = torch.float64 if torch.float64 in types else torch.float32
    values = {each.name: each.value.to(wide) for each in assignments}
    several = ", ".join(sorted(str(each).removeprefix("torch.") for each in types))
    return values, [f"weights of types {several}: all become {wide}"] if types != {wide} else []


def _class_names(path: str | Path | None, classes: int) -> Vocabulary:
    """Names of the classes: a table, a text file of a name a line, or numbers.

    Raises:
        CheckpointError: a file that cannot be read, or of another number of classes.
        ArgumentError: a table that cannot be used.
    """
    if path is None:
        return Vocabulary("", tuple(range(classes)), tuple(f"class {number}" for number in range(classes)))
    path = Path(path)
    try:
        if path.suffix.lower() == ".csv":
            vocabulary = Vocabulary.read_csv(path)
        else:
            names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
            vocabulary = Vocabulary("", tuple(range(len(names))), names)
    except OSError as error:
        raise CheckpointError(f"--classes {path}: cannot be read: {error.strerror}; expected .csv or .txt") from None
    except UnicodeDecodeError as error:
        raise CheckpointError(f"--classes {path}: not a text of class names: {error}; expected .csv or .txt") from None
    if len(vocabulary) != classes:
        raise CheckpointError(f"--classes {path}: {len(vocabulary)} names; the classifier has {classes} outputs")
    return vocabulary


def _origin(state: StateFile, like: str) -> dict[str, Any]:
    return {"file": state.path.name, "sha256": state.sha256, "like": like}


def _refusal(state: StateFile, reading: _Reading, pair: Proof, difference: float) -> str:
    """That the proof fails, and which other reading would not."""
    head = (
        f"the model's {pair.kind} differ from those of {pair.path} by up to {difference:.3g}; at most "
        f"{LARGEST_DIFFERENCE:g} is taken for the same, so nothing is written"
    )
    for other, advice in _other_readings(reading):
        try:
            gap = pair.difference(_made(state, other)[0])
        except CheckpointError:
            continue
        if gap <= LARGEST_DIFFERENCE:
            return f"{head}. With {advice} the difference is {gap:.2g}"
    return (
        f"{head}. Check --heads, the variant's neighbourhood, the order of --stream, and whether matrices are (in, "
        "out) (--transposed); what differs otherwise (another activation, scale, norm, pooling, a packing head by "
        "head) these models do not have: analysis.inspect_module opens the original itself"
    )


def _other_readings(reading: _Reading) -> Iterator[tuple[_Reading, str]]:
    for heads in _HEADS:
        yield replace(reading, heads=heads), f"--heads {heads}"
    yield replace(reading, transposed=not reading.transposed), "the other choice of --transposed"
    yield replace(reading, reversed=True), "the streams in the other order (--stream, given in the order of joining)"
