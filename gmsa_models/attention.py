"""The four attention blocks of the paper, each one class, to be read beside its equations.

Every block has two forms of one computation: `forward`, which makes no more maps than it must, and `explain`, which
makes them all, as the equations stand. A test holds them equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from gmsa_models.gated_output import gated_output
from gmsa_models.gated_weights import gated_attention
from gmsa_models.local_attention import local_attention
from gmsa_models.masks import Neighbourhood, masked_softmax, neighbourhood_mask

# Gates begin near 1/2: a branch is neither shut nor favoured before there is evidence for it.
GATE_DEVIATION = 0.02

Heads = Float[Tensor, "batch heads frames head_dim"]
Frames = Float[Tensor, "batch frames dim"]
Valid = Bool[Tensor, "batch frames"]


class AttentionError(ValueError):
    """An attention block that cannot be built or fed; the message says what was received and expected."""


@dataclass(frozen=True)
class BlockTrace:
    """What one attention block computed; the fields are those of `LayerTrace`."""

    output: Float[Tensor, "batch frames dim"]
    weights: dict[str, Float[Tensor, "batch _ query key"]]
    contexts: dict[str, Float[Tensor, "batch _ frames _"]]
    gates: dict[str, Float[Tensor, "batch ..."]] = field(default_factory=dict)
    branch_outputs: dict[str, Float[Tensor, "batch frames dim"]] = field(default_factory=dict)
    neighbourhood: Bool[Tensor, "query key"] | None = None


class AttentionBlock(nn.Module):
    """What the four blocks share: Q, K and V of every head, and the two plain forms of attention.

    Args:
        dim: D, width of a frame.
        heads: M; must divide D.
        neighbourhood: N_i of the local branch; None in a block without one.
        max_frames: longest clip.
        bias: whether Q, K, V and the output have biases.

    Raises:
        AttentionError: heads that do not divide D, or a neighbourhood that is missing or not used.
    """

    local = True

    def __init__(
        self, dim: int, heads: int, neighbourhood: Neighbourhood | None, max_frames: int, bias: bool = True
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if dim % heads:
            raise AttentionError(f"{name}: {heads} heads do not divide a width of {dim}")
        if self.local and neighbourhood is None:
            raise AttentionError(f"{name} has a local branch and needs a neighbourhood, got None")
        if not self.local and neighbourhood is not None:
            raise AttentionError(f"{name} has no local branch and takes no neighbourhood, got {neighbourhood!r}")
        self.heads = heads
        self.neighbourhood = neighbourhood
        self.max_frames = max_frames
        self.query = xavier_linear(dim, dim, bias)
        self.key = xavier_linear(dim, dim, bias)
        self.value = xavier_linear(dim, dim, bias)

    def project(self, inputs: Frames) -> tuple[Heads, Heads, Heads]:
        """Queries, keys and values, head by head."""
        return tuple(
            projection(inputs).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )

    def mask(self, inputs: Frames) -> Bool[Tensor, "query key"]:
        """N as a matrix over the frames of these inputs."""
        return neighbourhood_mask(self.neighbourhood, inputs.shape[1], inputs.device)


class Baseline(AttentionBlock):
    """Ordinary multi-headed self-attention: every head attends to every frame.

    Source:
        Equation 1 with a mask of ones.
    """

    local = False

    def __init__(
        self, dim: int, heads: int, neighbourhood: Neighbourhood | None, max_frames: int, bias: bool = True
    ) -> None:
        super().__init__(dim, heads, neighbourhood, max_frames, bias)
        self.output = xavier_linear(dim, dim, bias)

    def forward(self, inputs: Frames, valid: Valid | None = None) -> Frames:
        """Y from X; `valid` None: no frame is padding."""
        return self.output(join_heads(global_attention(*self.project(inputs), valid)))

    def explain(self, inputs: Frames, valid: Valid | None = None) -> BlockTrace:
        """The same with its maps."""
        query, key, value = self.project(inputs)
        weights = attention_weights(query, key, None, valid)
        context = weights @ value
        return BlockTrace(self.output(join_heads(context)), {"global": weights}, {"global": context})


class ShareAtt(AttentionBlock):
    """Half of the heads attend to every frame, half to the neighbourhood: the first M/2 and the last.

    Raises:
        AttentionError: an odd number of heads.

    Source:
        Equations 1 and 2.
    """

    def __init__(
        self, dim: int, heads: int, neighbourhood: Neighbourhood | None, max_frames: int, bias: bool = True
    ) -> None:
        super().__init__(dim, heads, neighbourhood, max_frames, bias)
        if heads % 2:
            raise AttentionError(f"ShareAtt halves its heads; {heads} is odd")
        self.output = xavier_linear(dim, dim, bias)

    def forward(self, inputs: Frames, valid: Valid | None = None) -> Frames:
        """Y from X; `valid` None: no frame is padding."""
        (query_g, query_l), (key_g, key_l), (value_g, value_l) = (each.chunk(2, 1) for each in self.project(inputs))
        context_g = global_attention(query_g, key_g, value_g, valid)
        context_l = local_attention(query_l, key_l, value_l, self.neighbourhood, valid)
        return self.output(join_heads(torch.cat([context_g, context_l], 1)))

    def explain(self, inputs: Frames, valid: Valid | None = None) -> BlockTrace:
        """The same with its maps."""
        query, key, value = self.project(inputs)
        (query_g, query_l), (key_g, key_l), mask = query.chunk(2, 1), key.chunk(2, 1), self.mask(inputs)
        weights_g = attention_weights(query_g, key_g, None, valid)
        weights_l = attention_weights(query_l, key_l, mask, valid)
        combined = torch.cat([weights_g, weights_l], 1)
        context = combined @ value
        context_g, context_l = context.chunk(2, 1)
        return BlockTrace(
            output=self.output(join_heads(context)),
            weights={"global": weights_g, "local": weights_l, "combined": combined},
            contexts={"global": context_g, "local": context_l, "combined": context},
            neighbourhood=mask,
        )


class GateAtt(AttentionBlock):
    """Each head blends its global and its local map, pair of frames by pair of frames.

    The gate weights W_g are max_frames x max_frames, shared across heads; a shorter clip uses their top left corner.
    Products are as printed, A W: `gate_global[k, j]` carries the weight on key k to the gate of key j.

    Source:
        Equations 3 and 4.
    """

    def __init__(
        self, dim: int, heads: int, neighbourhood: Neighbourhood | None, max_frames: int, bias: bool = True
    ) -> None:
        super().__init__(dim, heads, neighbourhood, max_frames, bias)
        self.gate_global = nn.Parameter(near_zero(torch.empty(max_frames, max_frames)))
        self.gate_local = nn.Parameter(near_zero(torch.empty(max_frames, max_frames)))
        self.output = xavier_linear(dim, dim, bias)

    def forward(self, inputs: Frames, valid: Valid | None = None) -> Frames:
        """Y from X; `valid` None: no frame is padding."""
        frames = inputs.shape[1]
        gates = self.gate_global[:frames, :frames], self.gate_local[:frames, :frames]
        return self.output(join_heads(gated_attention(*self.project(inputs), *gates, self.neighbourhood, valid)))

    def explain(self, inputs: Frames, valid: Valid | None = None) -> BlockTrace:
        """The same with its maps."""
        frames, mask = inputs.shape[1], self.mask(inputs)
        query, key, value = self.project(inputs)
        weights_g = attention_weights(query, key, None, valid)
        weights_l = attention_weights(query, key, mask, valid)
        gate_logits = torch.stack(
            [weights_g @ self.gate_global[:frames, :frames], weights_l @ self.gate_local[:frames, :frames]]
        )
        gate_g, gate_l = torch.softmax(gate_logits, 0)
        combined = gate_g * weights_g + gate_l * weights_l
        weights = {"global": weights_g, "local": weights_l, "combined": combined}
        contexts = {branch: each @ value for branch, each in weights.items()}
        return BlockTrace(
            output=self.output(join_heads(contexts["combined"])),
            weights=weights,
            contexts=contexts,
            gates={"global": gate_g, "local": gate_l},
            neighbourhood=mask,
        )


class GateOp(AttentionBlock):
    """The outputs of the global and of the local branch are blended, frame by frame and component by component.

    W^og, W^ol, W_g^g and W_g^l are D x D `Linear`s without bias. The output bias is one for both branches: since the
    gates add to 1, that equals the same bias in each, and the step over Baseline is exactly 3 D^2 parameters.

    Source:
        Equations 5 to 9.
    """

    def __init__(
        self, dim: int, heads: int, neighbourhood: Neighbourhood | None, max_frames: int, bias: bool = True
    ) -> None:
        super().__init__(dim, heads, neighbourhood, max_frames, bias)
        self.output_global = xavier_linear(dim, dim, bias=False)
        self.output_local = xavier_linear(dim, dim, bias=False)
        self.gate_global = gate_linear(dim)
        self.gate_local = gate_linear(dim)
        self.output_bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, inputs: Frames, valid: Valid | None = None) -> Frames:
        """Y from X; `valid` None: no frame is padding."""
        query, key, value = self.project(inputs)
        context_g = join_heads(global_attention(query, key, value, valid))
        context_l = join_heads(local_attention(query, key, value, self.neighbourhood, valid))
        return gated_output(
            context_g,
            context_l,
            self.output_global.weight,
            self.output_local.weight,
            self.gate_global.weight,
            self.gate_local.weight,
            self.output_bias,
        )

    def explain(self, inputs: Frames, valid: Valid | None = None) -> BlockTrace:
        """The same with its maps."""
        query, key, value = self.project(inputs)
        mask = self.mask(inputs)
        weights = {
            "global": attention_weights(query, key, None, valid),
            "local": attention_weights(query, key, mask, valid),
        }
        contexts = {branch: each @ value for branch, each in weights.items()}
        context_g, context_l = (join_heads(each) for each in contexts.values())
        gate_g, gate_l = torch.softmax(torch.stack([self.gate_global(context_g), self.gate_local(context_l)]), 0)
        output_g, output_l = self.output_global(context_g), self.output_local(context_l)
        output = gate_g * output_g + gate_l * output_l
        return BlockTrace(
            output=output if self.output_bias is None else output + self.output_bias,
            weights=weights,
            contexts=contexts,
            gates={"global": gate_g, "local": gate_l},
            branch_outputs={"global": output_g, "local": output_l},
            neighbourhood=mask,
        )


# "none" is the control: an encoder layer that is feed-forward only.
ATTENTION: dict[str, type[AttentionBlock] | None] = {
    "baseline": Baseline,
    "share-att": ShareAtt,
    "gate-att": GateAtt,
    "gate-op": GateOp,
    "none": None,
}


def attention_weights(
    query: Heads, key: Heads, mask: Bool[Tensor, "query key"] | None, valid: Valid | None
) -> Float[Tensor, "batch heads query key"]:
    """softmax(Q K^T / sqrt(d)) over the keys that may be attended to, as a full map.

    Args:
        query: one a frame and head.
        key: likewise.
        mask: True = may attend; None: every pair.
        valid: True where a frame is real; None: all are.

    Returns:
        Weights in [0, 1]; a valid row sums to 1. Exactly 0 outside the mask, on padded keys and in the rows of
        padded queries.

    Source:
        Equations 1 and 2.
    """
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    allowed = mask
    if valid is not None:
        # Both ways: also a padded query attends to nothing.
        pairs = valid[:, None, :, None] & valid[:, None, None, :]
        allowed = pairs if mask is None else pairs & mask
    weights = masked_softmax(logits, allowed)
    return weights if valid is None else weights * pairs


def global_attention(query: Heads, key: Heads, value: Heads, valid: Valid | None) -> Heads:
    """softmax(Q K^T / sqrt(d)) V over every valid frame, by torch's fused kernel."""
    mask = None if valid is None else valid[:, None, None, :]
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def join_heads(contexts: Heads) -> Frames:
    """concat over heads: (batch, heads, frames, d) to (batch, frames, D)."""
    return contexts.transpose(1, 2).flatten(2)


def xavier_linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A `Linear` with Xavier uniform weights and zero bias."""
    linear = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def gate_linear(dim: int) -> nn.Linear:
    """W_g: D x D without bias, small, so that a gate begins near 1/2."""
    linear = nn.Linear(dim, dim, bias=False)
    near_zero(linear.weight.data)
    return linear


def near_zero(weights: Tensor) -> Tensor:
    """Gate weights as they begin, in place; meta tensors hold none, and drawing them would load torch's compiler."""
    return weights if weights.is_meta else weights.normal_(std=GATE_DEVIATION)
