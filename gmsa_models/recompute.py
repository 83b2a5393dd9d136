"""What a pass would have come to, had some part of a block been otherwise: from its contexts to the model's logits.

A block is read in two halves. Up to its contexts each head of each branch works alone; what follows (the output
projections, GateOp's gates) mixes them. `block_state` takes the first half from a trace, the block's `output_from` is
the second, `logits_from` the rest of the model. With nothing changed they give what the model gave, to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gmsa_models.attention import Contexts, Frames, Gates, Valid
from gmsa_models.classifier import GMSAClassifier, mean_over_valid
from gmsa_models.data.clip import Batch
from gmsa_models.trace import AttentionTrace

__all__ = ["BlockState", "RecomputeError", "block_state", "logits_from"]


class RecomputeError(ValueError):
    """A block or an output that cannot be computed on from; the message says what was received and expected."""


@dataclass(frozen=True)
class BlockState:
    """All that is needed to compute on from one attention block of a pass; far smaller than its trace.

    Attributes:
        modality: whose block.
        layer: which encoder layer.
        hidden: what the layer was given, before norm and attention.
        contexts: what its heads hand on, branch by branch.
        shut: branch -> contexts and gates with that branch's gate at 0 and the other's at 1; empty without gates.
        pooled: modality -> mean over frames, of the pass as it was.
        valid: True where a frame is real; None: everywhere.
    """

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
        RecomputeError: the control, which has no attention block.
    """
    traced, encoder = trace.layer(modality, layer), model.encoders[modality]
    if (block := encoder.layers[layer].attention) is None:
        raise RecomputeError("the control (attention 'none') has no attention block")
    before = trace.layer(modality, layer - 1).recorded("encoded") if layer else None
    hidden = encoder.embed(batch.features[modality]) if before is None else before
    return BlockState(
        modality=modality,
        layer=layer,
        hidden=hidden,
        contexts=block.contexts(traced),
        shut={branch: block.with_branch_shut(traced, branch) for branch in block.branches if block.gated},
        pooled=trace.pooled,
        valid=None if batch.full else batch.valid,
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
        RecomputeError: outputs of another shape.
    """
    copies, expected = len(output), state.hidden.shape
    if output.shape[1:] != expected:
        raise RecomputeError(
            f"outputs of shape {tuple(output.shape)}; expected (copies, {', '.join(map(str, expected))})"
        )
    encoder = model.encoders[state.modality]
    valid = None if state.valid is None else state.valid.repeat(copies, 1)
    hidden = encoder.layers[state.layer].finish(state.hidden.expand(output.shape).flatten(0, 1), output.flatten(0, 1))
    pooled = mean_over_valid(encoder.resume(hidden, valid, state.layer + 1), valid).unflatten(0, (copies, -1))
    parts = {name: other.expand(copies, *other.shape) for name, other in state.pooled.items()}
    return model.classifier(torch.cat(list((parts | {state.modality: pooled}).values()), -1))
