"""What a pass would have come to, had some part of a block been otherwise: from its contexts to the model's logits.

A block is read in two halves. Up to its contexts each head of each branch works alone; what follows (the output
projections, GateOp's gates) mixes them. `block_state` takes the first half from a trace, the block's `output_from` is
the second, `logits_from` the rest of the model. With nothing changed they give what the model gave, to rounding.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gmsa_models.attention import AttentionBlock, CleanPass, Contexts, Frames, Gates, Valid
from gmsa_models.classifier import GMSAClassifier, mean_over_valid
from gmsa_models.data.batch import Batch
from gmsa_models.errors import ArgumentError
from gmsa_models.trace import AttentionTrace

__all__ = ["BlockState", "block_state", "logits_from", "pooled_from"]


@dataclass(frozen=True)
class BlockState:
    """All that is needed to compute on from one attention block of a pass; far smaller than its trace.

    Attributes:
        model: whose pass it was, bound to the clips where its neighbourhoods depend on them.
        modality: whose block.
        layer: which encoder layer.
        hidden: what the layer was given, before norm and attention.
        contexts: what its heads hand on, branch by branch.
        shut: branch -> contexts and gates with that branch's gate at 0 and the others' adding to 1; empty without
            gates.
        pooled: modality -> mean over frames, of the pass as it was.
        valid: True where a frame is real; None: everywhere.
    """

    model: GMSAClassifier
    modality: str
    layer: int
    hidden: Frames
    contexts: Contexts
    shut: dict[str, tuple[Contexts, Gates | None]]
    pooled: dict[str, Float[Tensor, "batch _"]]
    valid: Valid | None


def block_state(
    model: GMSAClassifier, batch: Batch, trace: AttentionTrace, modality: str, layer: int = 0
) -> BlockState:
    """The state of one attention block in a pass.

    Args:
        model: the model.
        batch: what was traced.
        trace: its trace.
        modality: whose block.
        layer: which encoder layer, from 0.

    Raises:
        KeyError, IndexError: a modality or a layer that the model lacks.
        ArgumentError: the control, which has no attention block.
    """
    model = model.bound_to(batch)
    traced, encoder = trace.layer(modality, layer), model.encoders[modality]
    if (block := encoder.layers[layer].attention) is None:
        raise ArgumentError("the control (attention 'none') has no attention block")
    before = trace.layer(modality, layer - 1).recorded("encoded") if layer else None
    valid = None if batch.full else batch.valid
    clean = CleanPass(block, traced.recorded("input"), valid, traced)
    return BlockState(
        model=model,
        modality=modality,
        layer=layer,
        hidden=encoder.embed(batch.features[modality]) if before is None else before,
        contexts=clean.contexts,
        shut=_shut(block, clean) if block.gated else {},
        pooled=trace.pooled,
        valid=valid,
    )


def logits_from(
    model: GMSAClassifier, state: BlockState, output: Float[Tensor, "copies batch frames dim"]
) -> Float[Tensor, "copies batch classes"]:
    """Logits of the model, had an attention block returned other outputs.

    Layers after the block see the change; the other modalities are as they were.

    Args:
        model: in evaluation mode, if it has dropout.
        state: of the block.
        output: any number of outputs Y for each clip of the batch.

    Raises:
        ArgumentError: outputs of another shape.
    """
    copies, expected = len(output), state.hidden.shape
    if output.shape[1:] != expected:
        raise ArgumentError(
            f"outputs of shape {tuple(output.shape)}; expected (copies, {', '.join(map(str, expected))})"
        )
    pooled = pooled_from(state.model, state.modality, state.layer, state.hidden, output, state.valid)
    parts = {name: other.expand(copies, *other.shape) for name, other in state.pooled.items()}
    return model.classifier(torch.cat(list((parts | {state.modality: pooled}).values()), -1))


def pooled_from(
    model: GMSAClassifier,
    modality: str,
    layer: int,
    hidden: Frames,
    output: Float[Tensor, "copies batch frames dim"],
    valid: Valid | None,
) -> Float[Tensor, "copies batch dim"]:
    """Pooled vectors of one modality, had an attention block returned other outputs.

    Args:
        model: in evaluation mode, if it has dropout.
        modality, layer: whose block.
        hidden: what the layer was given, before norm and attention.
        output: any number of outputs Y for each clip of the batch.
        valid: True where a frame is real; None: everywhere.
    """
    encoder, copies = model.encoders[modality], len(output)
    valid = None if valid is None else valid.repeat(copies, 1)
    hidden = encoder.layers[layer].finish(hidden.expand(output.shape).flatten(0, 1), output.flatten(0, 1))
    return mean_over_valid(encoder.resume(hidden, valid, layer + 1), valid).unflatten(0, (copies, -1))


def _shut(block: AttentionBlock, clean: CleanPass) -> dict[str, tuple[Contexts, Gates | None]]:
    passes = {
        branch: block.trace(clean.inputs, clean.valid, _Shut.of(block, branch), clean) for branch in block.branches
    }
    return {
        branch: (block.contexts(each), each.gates if block.gated == "outputs" else None)
        for branch, each in passes.items()
    }


@dataclass(frozen=True)
class _Shut:
    """The gate of a branch at 0, everywhere.

    Attributes:
        stage: the branch of its gate's stage: "" of the first.
        value: 0; where that gate is 1 less the branch's, 1.
    """

    stage: str
    value: float

    @classmethod
    def of(cls, block: AttentionBlock, branch: str) -> _Shut:
        if branch in block.gate_branches:
            return cls(branch, 0.0)
        return cls("", float(branch != block.branches[0]))

    def __call__(self, branch: str, quantity: str, value: Tensor) -> Tensor:
        return torch.full_like(value, self.value) if quantity == "gate" and branch == self.stage else value

    def touches(self, branch: str, quantities: Collection[str]) -> bool:
        return branch == self.stage and "gate" in quantities
