"""import_state: weights of somebody's own GMSA as a model of the package, and the proof that it computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.checkpoints.importing.deciding import check_proof
from gmsa_models.checkpoints.importing.deduce import variant_of
from gmsa_models.checkpoints.importing.matching import Assignment
from gmsa_models.checkpoints.importing.proof import read_proof
from gmsa_models.checkpoints.importing.reading import Reading, model_of
from gmsa_models.checkpoints.importing.rename import Renaming, read_renaming
from gmsa_models.checkpoints.importing.state_file import StateFile, read_state, state_in_memory
from gmsa_models.checkpoints.names import check_name
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.evaluating import standard_contexts

__all__ = ["ImportedState", "import_state"]


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


@standard_contexts()
def import_state(
    weights: str | Path | Mapping[str, Any],
    like: str,
    *,
    streams: Mapping[str, str] | None = None,
    heads: int | None = None,
    max_frames: int | None = None,
    norm: str | None = None,
    transposed: bool = False,
    key: str | None = None,
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
            which nothing is run; or a `state_dict`, or what such a file holds.
        like: variant whose attention block and neighbourhood it has: a key of `VARIANTS`, or with another size of the
            neighbourhood ("gate-op-tp20").
        streams: part of the names -> what that stream is called, in the order in which the pooled streams are joined;
            of a single stream the part need not be in any name. Default: by usual words (visual, rgb, audio, ...), in
            the variant's order.
        heads: M; default: the variant's in the paper's size, 8.
        max_frames: longest clip; default: as the gates of GateAtt say, else 300.
        norm: "pre" or "post": where norms stand in the original; default: before each part if there is a norm behind
            the last layer, else behind each residual. The other one is an error.
        transposed: matrices are (in, out), for x @ W.
        key: under which the weights lie, of several sets in one file ("ema", "state_dict.teacher").
        rename: TOML file of names; see `read_renaming`.
        classes: table of the classes (CSV, see `Vocabulary.read_csv`) or a text file of a name a line; default: they
            are numbered.
        proof: `.npz` of inputs and outputs of the original; see `read_proof`. One that other readings of the weights
            explain as well (of one frame, of frames that are alike) is refused.
        name: what the model is called; default: as its file.

    Raises:
        CheckpointError: of any fault: see the modules of this package.
    """
    variant_of(like)
    if not isinstance(weights, str | Path | Mapping):
        raise CheckpointError(
            f"weights is {type(weights).__name__}; expected the path of a file, or tensors by name",
            "give module.state_dict()",
        )
    renaming = Renaming() if rename is None else read_renaming(rename)
    reading = Reading(like, streams or {}, heads, max_frames, norm, transposed, renaming)
    pair = None if proof is None else read_proof(proof, streams or {})
    state = state_in_memory(weights, key) if isinstance(weights, Mapping) else read_state(weights, key)
    try:
        model, assignments, notes = model_of(state, reading)
        model.vocabulary = _class_names(classes, model.config.classes)
        model.card = {"name": check_name(state.path.stem if name is None else name), "imported": _origin(state, like)}
        difference = None if pair is None else check_proof(state, reading, pair, model)
        if pair is not None:
            model.card["imported"] |= {"proof": pair.path.name, "difference": difference}
    except CheckpointError as error:
        reason = str(error.args[0])
        raise CheckpointError(reason if reason.startswith(str(proof)) else f"{state.path}: {reason}") from error
    return ImportedState(model, assignments, notes, difference)


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
