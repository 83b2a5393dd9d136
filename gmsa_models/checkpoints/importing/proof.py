"""The proof of an import: the model gives the outputs that the other program gave for the same inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.arrays import read_arrays
from gmsa_models.data.batch import Batch
from gmsa_models.data.errors import brief
from gmsa_models.errors import ArgumentError, DamagedError
from gmsa_models.evaluating import evaluating

__all__ = ["LARGEST_DIFFERENCE", "Proof", "read_proof"]

LARGEST_DIFFERENCE = 1e-4  # of a logit or probability; float32 of another order of sums differs by less
OUTPUTS = ("logits", "probabilities")


@dataclass(frozen=True, eq=False)
class Proof:
    """Inputs and outputs of the model that is imported.

    Attributes:
        path: of the file.
        inputs: stream -> frames of each clip.
        outputs: of each clip.
        kind: "logits", or "probabilities" (after a sigmoid).
        halves: names of the arrays that were in half precision.
    """

    path: Path
    inputs: Mapping[str, Float[Tensor, "clips frames width"]]
    outputs: Float[Tensor, "clips classes"]
    kind: str
    halves: tuple[str, ...] = ()

    def difference(self, model: GMSAClassifier) -> float:
        """max |difference| of the model's outputs from those that are given.

        Raises:
            CheckpointError: arrays that the model cannot take.
        """
        wide = torch.promote_types(next(model.parameters()).dtype, torch.float32)
        inputs = {name: values.to(wide) for name, values in self.inputs.items()}
        clips, frames = next(iter(inputs.values())).shape[:2]
        if missing := [name for name in model.config.modalities if name not in inputs]:
            raise CheckpointError(f"{self.path}: no array {missing[0]!r}, which the model needs; it has {list(inputs)}")
        if others := [name for name in inputs if name not in model.config.modalities]:
            raise CheckpointError(
                f"{self.path}: array {others[0]!r:.60}, which the model does not take; it has streams "
                f"{list(model.config.modalities)}: was the original given more? Else leave it out of the pair"
            )
        batch = Batch(features=inputs, valid=torch.ones(clips, frames, dtype=torch.bool))
        try:
            with torch.no_grad(), evaluating(model, widen=True) as replica:
                outputs = replica(batch)
        except ArgumentError as error:
            raise CheckpointError(f"{self.path}: {error}") from None
        outputs = (outputs.sigmoid() if self.kind == "probabilities" else outputs).double()
        if outputs.shape != self.outputs.shape:
            raise CheckpointError(
                f"{self.path}: {self.kind} of shape {tuple(self.outputs.shape)}; the model gives {tuple(outputs.shape)}"
            )
        return float((outputs - self.outputs).abs().max())


def read_proof(path: str | Path, streams: Mapping[str, str]) -> Proof:
    """A pair of inputs and outputs in an `.npz`.

    Args:
        path: its arrays are the streams by name, (frames, width) or (clips, frames, width), and "logits" or
            "probabilities", (classes,) or (clips, classes).
        streams: other names of the streams -> their names here.

    Raises:
        CheckpointError: it cannot be read, or has other arrays.
    """
    try:
        arrays = read_arrays(path)
    except DamagedError as error:
        raise CheckpointError(str(error)) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}; expected an .npz") from None
    kinds = [name for name in OUTPUTS if name in arrays]
    if len(kinds) != 1:
        raise CheckpointError(f"{path}: has {brief(sorted(arrays))}; expected one of {' or '.join(OUTPUTS)}")
    values = {name: _tensor(path, name, each) for name, each in arrays.items()}
    outputs = values.pop(kinds[0])
    inputs = {streams.get(name, name): each[None] if each.ndim == 2 else each for name, each in values.items()}
    outputs = outputs[None] if outputs.ndim == 1 else outputs
    for name, each in inputs.items():
        if each.ndim != 3 or 0 in each.shape or each.shape[:2] != next(iter(inputs.values())).shape[:2]:
            raise CheckpointError(
                f"{path}: {name!r:.60} has shape {tuple(each.shape)}; expected (frames, width) or (clips, frames, "
                "width), as many clips and frames in all streams"
            )
    if not inputs:
        raise CheckpointError(f"{path}: no inputs beside {kinds[0]!r}; expected an array a stream, by its name")
    halves = tuple(name for name, each in arrays.items() if each.dtype.itemsize < 4)
    return Proof(Path(path), inputs, outputs.double(), kinds[0], halves)


def _tensor(path: str | Path, name: str, values: np.ndarray) -> Tensor:
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        raise CheckpointError(
            f"{path}: {name!r:.60} is {values.dtype!s:.60}, or not finite; expected finite floating-point numbers, as "
            "the model was given them"
        )
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64 if values.dtype.itemsize > 4 else np.float32))
