"""What a pass would have come to, had some part of a block been otherwise: from contexts to output, to logits.

A block is read in two halves. Up to its contexts each head of each branch works alone; what follows (the output
projections, GateOp's gates) mixes them. `block_state` takes the first half from a trace, `output_from` is the second,
`logits_from` the rest of the model. With nothing changed they give what the model gave, to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gmsa_models.attention import AttentionBlock, Baseline, Frames, GateAtt, GateOp, Heads, ShareAtt, Valid, join_heads
from gmsa_models.classifier import GMSAClassifier, mean_over_valid
from gmsa_models.data.clip import Batch
from gmsa_models.gated_output import gated_output
from gmsa_models.trace import BRANCHES, AttentionTrace, LayerTrace

Contexts = dict[str, Heads]
Gates = dict[str, Float[Tensor, "batch frames dim"]]


class RecomputeError(ValueError):
    """A block or an output that cannot be computed on from; the message says what was received and expected."""


def branch_contexts(block: AttentionBlock, layer: LayerTrace) -> Contexts:
    """What each head of each branch hands on: the block's output follows from these alone.

    Baseline: A V under "global". ShareAtt: A V of its global heads and of its local heads. GateAtt: (R_g * A_g) V and
    (R_l * A_l) V, which add up to the context of the combined map. GateOp: O_g and O_l, head by head.

    Args:
        block: the block that `layer` is a trace of.
        layer: its trace.

    Returns:
        "global", and "local" where the block has that branch. Padded frames hold values of no meaning.

    Raises:
        RecomputeError: a block of another kind.

    Source:
        Equations 1 to 6.
    """
    match block:
        case Baseline():
            return {"global": layer.contexts["global"]}
        case ShareAtt() | GateOp():
            return {branch: layer.contexts[branch] for branch in ("global", "local")}
        case GateAtt():
            value = block.value(layer.input).unflatten(-1, (block.heads, -1)).transpose(1, 2)
            return {branch: (gate * layer.weights[branch]) @ value for branch, gate in layer.gates.items()}
        case _:
            raise RecomputeError(f"no contexts of a {type(block).__name__}")


def output_from(block: AttentionBlock, contexts: Contexts, gates: Gates | None = None) -> Frames:
    """Y of a block from what its heads hand on.

    Args:
        block: any of the four.
        contexts: of `branch_contexts`, or changed.
        gates: R_g and R_l of GateOp as numbers; None: they follow from the contexts (equation 8). The other blocks
            take none: GateAtt's gates have done their work in the contexts.

    Raises:
        RecomputeError: gates for a block that takes none, or a block of another kind.

    Source:
        Equations 7 to 9; for the other blocks the output projection after equations 1 and 4.
    """
    if gates is not None and not isinstance(block, GateOp):
        raise RecomputeError(f"gates for a {type(block).__name__}; only GateOp has gates after its contexts")
    match block:
        case Baseline():
            return block.output(join_heads(contexts["global"]))
        case ShareAtt():
            return block.output(join_heads(torch.cat([contexts["global"], contexts["local"]], 1)))
        case GateAtt():
            return block.output(join_heads(contexts["global"] + contexts["local"]))
        case GateOp():
            return _gated(block, *(join_heads(contexts[branch]) for branch in ("global", "local")), gates)
        case _:
            raise RecomputeError(f"no output of a {type(block).__name__} from contexts")


@dataclass(frozen=True)
class BlockState:
    """All that is needed to compute on from one attention block of a pass; far smaller than its trace.

    Attributes:
        modality: whose block.
        layer: which encoder layer.
        hidden: what the layer was given, before norm and attention.
        contexts: of `branch_contexts`.
        ungated: GateAtt's A_g V and A_l V, before the gates; empty in the other blocks.
        pooled: modality -> mean over frames, of the pass as it was.
        valid: True where a frame is real; None: everywhere.
    """

    modality: str
    layer: int
    hidden: Frames
    contexts: Contexts
    ungated: Contexts
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
    return BlockState(
        modality=modality,
        layer=layer,
        hidden=trace.layer(modality, layer - 1).encoded if layer else encoder.embed(batch.features[modality]),
        contexts=branch_contexts(block, traced),
        ungated={name: traced.contexts[name] for name in BRANCHES[:2]} if isinstance(block, GateAtt) else {},
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


def _gated(block: GateOp, context_g: Frames, context_l: Frames, gates: Gates | None) -> Frames:
    if gates is None:
        weights = (block.output_global, block.output_local, block.gate_global, block.gate_local)
        return gated_output(context_g, context_l, *(each.weight for each in weights), block.output_bias)
    output = gates["global"] * block.output_global(context_g) + gates["local"] * block.output_local(context_l)
    return output if block.output_bias is None else output + block.output_bias
