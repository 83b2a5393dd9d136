"""The four attention blocks of the paper, each one class, to be read beside its equations, and two that follow them.

Every block has two forms of one computation: `attend`, which makes no more maps than it must, and `trace`, which
makes them all, stage by stage (`stages.py`), as the equations in its members stand. A test holds them equal.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import reduce
from itertools import chain
from operator import add
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gmsa_models.attention.block import AttentionBlock, BlockTrace, Contexts, Gates
from gmsa_models.attention.functions import (
    Frames,
    Heads,
    Valid,
    gate_linear,
    global_attention,
    join_heads,
    near_zero,
    xavier_linear,
)
from gmsa_models.attention.kernels.gated_output import gated_output
from gmsa_models.attention.kernels.gated_weights import gated_attention
from gmsa_models.attention.kernels.local_attention import local_attention
from gmsa_models.attention.stages import AnyGates, Maps
from gmsa_models.branches import GLOBAL
from gmsa_models.errors import ArgumentError
from gmsa_models.hooks import is_unchanged_linear, plain_weight
from gmsa_models.masks import BatchNeighbourhood, Neighbourhood, Scales
from gmsa_models.trace import LayerTrace

__all__ = [
    "ATTENTION",
    "STACKS",
    "Baseline",
    "GateAtt",
    "GateOp",
    "GateOpScales",
    "GatedOutputs",
    "Local",
    "ShareAtt",
]


class Baseline(AttentionBlock):
    """Ordinary multi-headed self-attention: every head attends to every frame.

    Source:
        Equation 1 with a mask of ones.
    """

    branches = ("global",)
    local = False

    def __init__(
        self, dim: int, heads: int, neighbourhood: Neighbourhood | None, max_frames: int, bias: bool = True
    ) -> None:
        super().__init__(dim, heads, neighbourhood, max_frames, bias)
        self.output = xavier_linear(dim, dim, bias)

    def attend(self, query: Heads, key: Heads, value: Heads, valid: Valid | None = None) -> Frames:
        """Y from Q, K and V; `valid` None: no frame is padding."""
        return self.output(join_heads(global_attention(query, key, value, valid)))


class Local(AttentionBlock):
    """Multi-headed self-attention in which every head attends to the neighbourhood only; the first layer of a stack.

    Source:
        Equations 1 and 2.
    """

    branches = ("local",)

    def __init__(
        self, dim: int, heads: int, neighbourhood: Neighbourhood | None, max_frames: int, bias: bool = True
    ) -> None:
        super().__init__(dim, heads, neighbourhood, max_frames, bias)
        self.output = xavier_linear(dim, dim, bias)

    def attend(self, query: Heads, key: Heads, value: Heads, valid: Valid | None = None) -> Frames:
        """Y from Q, K and V; `valid` None: no frame is padding."""
        return self.output(join_heads(local_attention(query, key, value, self.local_neighbourhood, valid)))


class ShareAtt(AttentionBlock):
    """Half of the heads attend to every frame, half to the neighbourhood: the first M/2 and the last.

    Raises:
        ArgumentError: an odd number of heads.

    Source:
        Equations 1 and 2.
    """

    combined = "joined"

    def __init__(
        self, dim: int, heads: int, neighbourhood: Neighbourhood | None, max_frames: int, bias: bool = True
    ) -> None:
        super().__init__(dim, heads, neighbourhood, max_frames, bias)
        if heads % 2:
            raise ArgumentError(f"ShareAtt halves its heads; {heads} is odd")
        self.output = xavier_linear(dim, dim, bias)

    def attend(self, query: Heads, key: Heads, value: Heads, valid: Valid | None = None) -> Frames:
        """Y from Q, K and V; `valid` None: no frame is padding."""
        (query_g, query_l), (key_g, key_l), (value_g, value_l) = (each.chunk(2, 1) for each in (query, key, value))
        context_g = global_attention(query_g, key_g, value_g, valid)
        context_l = local_attention(query_l, key_l, value_l, self.local_neighbourhood, valid)
        return self.output(join_heads(torch.cat([context_g, context_l], 1)))

    def heads_of(self, branch: str) -> slice:
        """The first half of the heads is global, the last local."""
        half = self.heads // 2
        return {"global": slice(0, half), "local": slice(half, self.heads)}.get(branch, slice(0, self.heads))

    def join_branches(self, contexts: Contexts) -> Heads:
        """The global heads, then the local ones."""
        return torch.cat([contexts["global"], contexts["local"]], 1)

    def output_weights(self) -> dict[str, Float[Tensor, "dim _"]]:
        """Each branch's columns of W_O."""
        return dict(
            zip(self.branches, plain_weight(self.output, "an attention block's output").chunk(2, 1), strict=True)
        )

    def combine(self, weights: dict[str, Float[Tensor, "batch _ rows key"]]) -> Float[Tensor, "batch heads rows key"]:
        """The global heads, then the local ones."""
        return self.join_branches(weights)


class GateAtt(AttentionBlock):
    """Each head blends its global and its local map, pair of frames by pair of frames.

    The gate weights W_g are max_frames x max_frames, shared across heads; a shorter clip uses their top left corner.
    Products are as printed, A W: `gate_global[k, j]` carries the weight on key k to the gate of key j.

    Source:
        Equations 3 and 4.
    """

    combined = "blended"
    gated = "maps"

    def __init__(
        self, dim: int, heads: int, neighbourhood: Neighbourhood | None, max_frames: int, bias: bool = True
    ) -> None:
        super().__init__(dim, heads, neighbourhood, max_frames, bias)
        self.gate_global = nn.Parameter(near_zero(torch.empty(max_frames, max_frames)))
        self.gate_local = nn.Parameter(near_zero(torch.empty(max_frames, max_frames)))
        self.output = xavier_linear(dim, dim, bias)

    def attend(self, query: Heads, key: Heads, value: Heads, valid: Valid | None = None) -> Frames:
        """Y from Q, K and V; `valid` None: no frame is padding."""
        frames = query.shape[2]
        gates = self.gate_global[:frames, :frames], self.gate_local[:frames, :frames]
        contexts = gated_attention(query, key, value, *gates, self.local_neighbourhood, valid)
        return self.output(join_heads(contexts))

    def gates_of_maps(self, weights: Maps) -> AnyGates:
        """Equation 3."""
        return dict(zip(self.branches, self.map_gates(weights["global"], weights["local"]), strict=True))

    def gated_maps(self, weights: Maps, gates: AnyGates) -> Maps:
        """R_g * A_g and R_l * A_l."""
        return {branch: gate * weights[branch] for branch, gate in gates.items()}

    def contexts(self, layer: LayerTrace | BlockTrace) -> Contexts:
        """(R_g * A_g) V and (R_l * A_l) V."""
        return layer.gated_contexts

    def join_branches(self, contexts: Contexts) -> Heads:
        """The sum of the two."""
        return contexts["global"] + contexts["local"]

    def combine(self, weights: dict[str, Float[Tensor, "batch _ rows key"]]) -> Float[Tensor, "batch heads rows key"]:
        """R_g A_g + R_l A_l; equation 3 works row by row, so that some rows suffice."""
        gates = self.map_gates(weights["global"], weights["local"])
        return gates[0] * weights["global"] + gates[1] * weights["local"]

    def map_gates(
        self, global_rows: Float[Tensor, "batch heads rows key"], local_rows: Float[Tensor, "batch heads rows key"]
    ) -> Float[Tensor, "branch batch heads rows key"]:
        """R_g and R_l of equation 3 for some queries, in the type of the maps; all keys."""
        frames, dtype = global_rows.shape[-1], global_rows.dtype
        weights = (each[:frames, :frames].to(dtype) for each in (self.gate_global, self.gate_local))
        pair = (rows @ weight for rows, weight in zip((global_rows, local_rows), weights, strict=True))
        return torch.softmax(torch.stack(list(pair)), 0)


class GatedOutputs(AttentionBlock):
    """Blocks that blend the outputs of their branches: R_b is the softmax over branches of O_b W_g^b.

    Source:
        Equations 5 to 9.
    """

    gated = "outputs"
    output_bias: nn.Parameter | None

    @abstractmethod
    def branch_linears(self) -> dict[str, tuple[nn.Linear, nn.Linear]]:
        """Branch -> W^o and W_g, D x D `Linear`s without bias."""

    def gates_of_contexts(self, contexts: Contexts) -> AnyGates:
        """Equation 8."""
        linear = [gate(join_heads(contexts[branch])) for branch, (_, gate) in self.branch_linears().items()]
        return dict(zip(self.branches, torch.softmax(torch.stack(linear), 0), strict=True))

    def blend(self, contexts: Contexts, gates: AnyGates) -> tuple[Frames, dict[str, Frames]]:
        """Equation 9; Y of each branch."""
        linears = self.branch_linears()
        outputs = {branch: linear(join_heads(contexts[branch])) for branch, (linear, _) in linears.items()}
        output = reduce(add, (gates[branch] * each for branch, each in outputs.items()))
        return output if self.output_bias is None else output + self.output_bias, outputs

    def output_from(self, contexts: Contexts, gates: Gates | None = None) -> Frames:
        """Equation 9, and 8 where gates are not given."""
        return self.blend(contexts, self.gates_of_contexts(contexts) if gates is None else gates)[0]

    def output_weights(self) -> dict[str, Float[Tensor, "dim _"]]:
        """W^o of each branch."""
        linears = self.branch_linears().items()
        return {branch: plain_weight(each, f"the output of {branch} in a block") for branch, (each, _) in linears}

    def gate_weights(self) -> dict[str, Float[Tensor, "dim _"]]:
        """W_g of each branch."""
        linears = self.branch_linears().items()
        return {branch: plain_weight(each, f"the gate of {branch} in a block") for branch, (_, each) in linears}

    def bias(self) -> Float[Tensor, " dim"] | None:
        """The bias of all branches."""
        return self.output_bias

    def contributions(self, layer: LayerTrace) -> dict[str, Frames]:
        """R * Y of each branch."""
        return {branch: layer.gates[branch] * layer.branch_outputs[branch] for branch in self.branches}

    def mixing_maps(self, layer: LayerTrace) -> dict[str, Float[Tensor, "batch heads query key"]]:
        """A of each branch, each row times the mean over features of the query's gates."""
        return {
            branch: layer.gates[branch].mean(-1)[:, None, :, None] * layer.weights[branch] for branch in self.branches
        }


class GateOp(GatedOutputs):
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

    def attend(self, query: Heads, key: Heads, value: Heads, valid: Valid | None = None) -> Frames:
        """Y from Q, K and V; `valid` None: no frame is padding."""
        context_g = global_attention(query, key, value, valid)
        context_l = local_attention(query, key, value, self.local_neighbourhood, valid)
        return self.output_from({"global": context_g, "local": context_l})

    def branch_linears(self) -> dict[str, tuple[nn.Linear, nn.Linear]]:
        """W^og and W_g^g, W^ol and W_g^l."""
        return {"global": (self.output_global, self.gate_global), "local": (self.output_local, self.gate_local)}

    def output_from(self, contexts: Contexts, gates: Gates | None = None) -> Frames:
        """Equation 9, and 8 where gates are not given."""
        if gates is None and all(map(is_unchanged_linear, chain(*self.branch_linears().values()))):
            return self._gated(*(join_heads(contexts[branch]) for branch in self.branches))
        return super().output_from(contexts, gates)

    def _gated(self, context_g: Frames, context_l: Frames) -> Frames:
        outputs, gates = self.output_weights(), self.gate_weights()
        return gated_output(
            context_g, context_l, outputs["global"], outputs["local"], gates["global"], gates["local"],
            self.output_bias,
        )  # fmt: skip


class GateOpScales(GatedOutputs):
    """GateOp with several local branches: each has a neighbourhood of its own, and the gates are over all branches.

    The branches are "global" and one a neighbourhood, by its name ("TP5"). All have the same Q, K and V. W^o and W_g
    of each are D x D `Linear`s without bias; with one neighbourhood the block is GateOp. A step over GateOp is 2 D^2
    parameters a branch.

    Source:
        Equations 5 to 9 with more branches: local attention at several hierarchies, which the paper leaves for later.
    """

    scales = True

    def __init__(
        self, dim: int, heads: int, neighbourhood: Neighbourhood | None, max_frames: int, bias: bool = True
    ) -> None:
        super().__init__(dim, heads, neighbourhood, max_frames, bias)
        self.branches = self.branches_with(neighbourhood)
        self.outputs = nn.ModuleDict({branch: xavier_linear(dim, dim, bias=False) for branch in self.branches})
        self.gates = nn.ModuleDict({branch: gate_linear(dim) for branch in self.branches})
        self.output_bias = nn.Parameter(torch.zeros(dim)) if bias else None

    @classmethod
    def branches_with(cls, neighbourhood: Neighbourhood | None) -> tuple[str, ...]:
        """A global branch, and a local one of each scale."""
        return (GLOBAL, *neighbourhood.names) if isinstance(neighbourhood, Scales) else cls.branches

    def neighbourhood_of(self, branch: str) -> BatchNeighbourhood:
        """N_i of one local branch."""
        own = self.local_neighbourhood
        assert isinstance(own, Scales)  # as the base class has seen
        return dict(zip(self.local_branches, own.parts, strict=True))[branch]

    def attend(self, query: Heads, key: Heads, value: Heads, valid: Valid | None = None) -> Frames:
        """Y from Q, K and V; `valid` None: no frame is padding."""
        contexts = {GLOBAL: global_attention(query, key, value, valid)}
        for branch in self.local_branches:
            contexts[branch] = local_attention(query, key, value, self.neighbourhood_of(branch), valid)
        return self.output_from(contexts)

    def branch_linears(self) -> dict[str, tuple[nn.Linear, nn.Linear]]:
        """W^o and W_g of each branch."""
        pairs = {branch: (self.outputs[branch], self.gates[branch]) for branch in self.branches}
        return cast(dict[str, tuple[nn.Linear, nn.Linear]], pairs)  # torch's dict does not tell the type of its modules


# "none" is the control: an encoder layer that is feed-forward only.
ATTENTION: dict[str, type[AttentionBlock] | None] = {
    "baseline": Baseline,
    "share-att": ShareAtt,
    "gate-att": GateAtt,
    "gate-op": GateOp,
    "gate-op-scales": GateOpScales,
    "local": Local,
    "none": None,
}

# Models whose layers have different blocks: the block of each layer, first layer first.
STACKS: dict[str, tuple[str, ...]] = {"local-then-global": ("local", "baseline")}
