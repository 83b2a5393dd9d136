"""The contract of an attention block: what analysis needs to know of one, said once.

Its branches and which heads each has; what its gates are and which stage they follow from; how its output follows from
what its heads hand on (the contexts). A new block is a class with these members, which `trace` goes through stage by
stage (`stages.py`), and `attend`, the same computation without the maps that it need not make.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor, nn

from gmsa_models.attention.functions import Frames, Heads, Valid, join_heads, xavier_linear
from gmsa_models.attention.stages import NO_EDIT, AnyGates, BlockEdit, CleanPass, Contexts, Maps, staged_pass
from gmsa_models.branches import GLOBAL
from gmsa_models.errors import ArgumentError
from gmsa_models.hooks import plain_weight
from gmsa_models.masks import BatchNeighbourhood, Neighbourhood, OfClip, Scales, batch_mask
from gmsa_models.trace import HeadGroup, LayerTrace

__all__ = ["AttentionBlock", "BlockTrace", "Contexts", "Gates"]

Gates = dict[str, Float[Tensor, "batch frames dim"]]


@dataclass(frozen=True)
class BlockTrace:
    """What one attention block computed; the fields are those of `LayerTrace`."""

    output: Float[Tensor, "batch frames dim"]
    weights: dict[str, Float[Tensor, "batch _ query key"]]
    contexts: dict[str, Float[Tensor, "batch _ frames _"]]
    gates: dict[str, Float[Tensor, "batch ..."]] = field(default_factory=dict)
    gated_contexts: dict[str, Float[Tensor, "batch _ frames _"]] = field(default_factory=dict)
    branch_outputs: dict[str, Float[Tensor, "batch frames dim"]] = field(default_factory=dict)
    neighbourhood: Bool[Tensor, "*clips query key"] | None = None
    head_groups: dict[str, tuple[HeadGroup, ...]] = field(default_factory=dict)


class AttentionBlock(nn.Module, ABC):
    """What the blocks share: Q, K and V of every head, the two plain forms of attention, and what analysis asks for.

    Attributes:
        branches: names of the branches, "global" first where there is one. Every other is local: it attends to a
            neighbourhood only.
        local: whether there are local branches.
        scales: whether the local branches have a neighbourhood each (`Scales`) that names them.
        combined: how the branches' maps make one map a head, under the name "combined": "joined" (each branch has some
            of the heads), "blended" (each pair of frames weighted by gates), or "" where there is no such map.
        gated: what gates weigh: "maps" (before the contexts), "outputs" (after them), or "" without gates.
        neighbourhood: N_i of the local branches, of all clips; of each clip in a block that `bound_to` some, whose
            batches hold these clips or copies of them all; None in a block without one.

    Args:
        dim: D, width of a frame.
        heads: M; must divide D.
        neighbourhood: N_i of the local branch; None in a block without one.
        max_frames: longest clip.
        bias: whether Q, K, V and the output have biases.

    Raises:
        ArgumentError: heads that do not divide D, or a neighbourhood that is missing or not used.
    """

    branches: tuple[str, ...] = ("global", "local")
    local: bool = True
    scales: bool = False
    combined: str = ""
    gated: str = ""
    output: nn.Linear  # W_O; a block with other projections says how it joins and weighs its contexts

    def __init__(
        self, dim: int, heads: int, neighbourhood: Neighbourhood | None, max_frames: int, bias: bool = True
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if dim % heads:
            raise ArgumentError(f"{name}: {heads} heads do not divide a width of {dim}")
        if self.local and neighbourhood is None:
            raise ArgumentError(f"{name} has a local branch and needs a neighbourhood, got None")
        if not self.local and neighbourhood is not None:
            raise ArgumentError(f"{name} has no local branch and takes no neighbourhood, got {neighbourhood!r}")
        if isinstance(neighbourhood, Scales) != self.scales:
            wanted = "Scales" if self.scales else "one neighbourhood for all"
            raise ArgumentError(f"{name} takes {wanted}, got {neighbourhood!r}")
        self.heads = heads
        self.neighbourhood: BatchNeighbourhood | None = neighbourhood
        self.max_frames = max_frames
        self.query = xavier_linear(dim, dim, bias)
        self.key = xavier_linear(dim, dim, bias)
        self.value = xavier_linear(dim, dim, bias)

    def forward(self, inputs: Frames, valid: Valid | None = None) -> Frames:
        """Y from X, with no more maps than it must make; `valid` None: no frame is padding."""
        return self.attend(*self.project(inputs), valid)

    @abstractmethod
    def attend(self, query: Heads, key: Heads, value: Heads, valid: Valid | None = None) -> Frames:
        """Y from Q, K and V of every head likewise."""

    def trace(
        self,
        inputs: Frames,
        valid: Valid | None = None,
        edit: BlockEdit = NO_EDIT,
        clean: CleanPass | None = None,
    ) -> BlockTrace:
        """Y from X with every map, as the equations stand.

        Args:
            inputs: X.
            valid: True where a frame is real; None: no frame is padding.
            edit: what is changed on the way; see `stages.QUANTITIES`.
            clean: the pass of the same inputs without edits, from which what lies before the edits is taken.
        """
        done = staged_pass(self, inputs, valid, edit, clean)
        plain = {}
        if self.gated == "maps":
            plain = {branch: weights @ done.values[branch] for branch, weights in done.weights.items()}
        joined = {} if done.joined is None or not self.combined else {"combined": done.joined}
        return BlockTrace(
            output=done.output,
            weights=done.weights | done.combined,
            contexts=(plain or done.contexts) | joined,
            gates=done.gates,
            gated_contexts=done.contexts if plain else {},
            branch_outputs=done.branch_outputs,
            neighbourhood=done.neighbourhood,
            head_groups=self.head_groups(done.masks),
        )

    def project(self, inputs: Frames) -> tuple[Heads, Heads, Heads]:
        """Queries, keys and values, head by head."""
        return self._split_heads(self.query(inputs)), self._split_heads(self.key(inputs)), self.values(inputs)

    def values(self, inputs: Frames) -> Heads:
        """V of every head."""
        return self._split_heads(self.value(inputs))

    @classmethod
    def branches_with(cls, neighbourhood: Neighbourhood | None) -> tuple[str, ...]:
        """The branches of a block with a neighbourhood: those of the class, unless its neighbourhoods name them."""
        return cls.branches

    @property
    def local_branches(self) -> tuple[str, ...]:
        """The branches that attend to a neighbourhood only."""
        return tuple(branch for branch in self.branches if branch != GLOBAL)

    @property
    def gate_branches(self) -> tuple[str, ...]:
        """The branches whose gates are stages of a pass: "" of the first; of more than two, each other by its name."""
        if not self.gated:
            return ()
        return ("",) if len(self.branches) <= 2 else ("", *self.branches[1:])

    def neighbourhood_of(self, branch: str) -> BatchNeighbourhood:
        """N_i of one local branch; see `local_neighbourhood`."""
        return self.local_neighbourhood

    @property
    def local_neighbourhood(self) -> BatchNeighbourhood:
        """N_i of the local branches together.

        Raises:
            ArgumentError: a block without a local branch, or whose N_i depends on the clip and that is bound to none.
        """
        if self.neighbourhood is None:
            raise ArgumentError(f"{type(self).__name__} has no local branch, so no neighbourhood")
        if isinstance(self.neighbourhood, OfClip):
            raise ArgumentError(
                f"the neighbourhood of this {type(self).__name__} depends on the clip, and it is bound to none; take "
                "the block from model.bound_to(batch)"
            )
        return self.neighbourhood

    def bound_to(self, neighbourhood: BatchNeighbourhood) -> AttentionBlock:
        """The same block, over the same weights, whose local branch attends to another neighbourhood."""
        result = self.__new__(type(self))
        result.__dict__ = {**self.__dict__, "neighbourhood": neighbourhood}
        return result

    def mask(self, inputs: Frames, branch: str | None = None) -> Bool[Tensor, "*clips query key"]:
        """N as a matrix over the frames of these inputs; of each of the clips where they differ.

        Args:
            inputs: X.
            branch: of which local branch; None: of all of them together.
        """
        own = self.local_neighbourhood if branch is None else self.neighbourhood_of(branch)
        mask = batch_mask(own, inputs.shape[1], inputs.device)
        return mask if mask.ndim == 2 else mask.repeat(len(inputs) // len(mask), 1, 1)

    def heads_of(self, branch: str) -> slice:
        """Which of the layer's heads a branch has; all of them, unless the block says otherwise."""
        return slice(0, self.heads)

    def head_groups(self, masks: Mapping[str, Bool[Tensor, "*clips query key"]]) -> dict[str, tuple[HeadGroup, ...]]:
        """The heads of each map of a trace, cut where the mask changes; `masks`: N of each local branch."""
        groups: dict[str, tuple[HeadGroup, ...]] = {
            branch: (_head_group(self.heads_of(branch), masks.get(branch)),) for branch in self.branches
        }
        match self.combined:
            case "joined":
                groups["combined"] = tuple(group for each in groups.values() for group in each)
            case "blended":
                groups["combined"] = (HeadGroup(0, self.heads, None),)
        return groups

    def gates_of_maps(self, weights: Maps) -> AnyGates:
        """R of each branch from the maps; of a block whose gates weigh maps."""
        return {}

    def gated_maps(self, weights: Maps, gates: AnyGates) -> Maps:
        """The maps whose product with the values of each branch's heads are its contexts."""
        return {branch: weights[branch] for branch in self.branches}

    def gates_of_contexts(self, contexts: Contexts) -> AnyGates:
        """R of each branch from the contexts; of a block whose gates weigh outputs."""
        return {}

    def blend(self, contexts: Contexts, gates: AnyGates) -> tuple[Frames, dict[str, Frames]]:
        """Y from contexts and gates, and the branches' outputs before they are gated; where gates weigh outputs."""
        raise ArgumentError(f"{type(self).__name__} has one output projection, and no outputs to blend")

    def context_maps(self, layer: LayerTrace | BlockTrace) -> Maps:
        """`gated_maps` of a trace."""
        return self.gated_maps(layer.weights, layer.gates)

    def contexts(self, layer: LayerTrace | BlockTrace) -> Contexts:
        """What each head of each branch hands on: the block's output follows from these alone.

        Baseline: A V under "global". ShareAtt: A V of its global heads and of its local heads. GateAtt: (R_g * A_g) V
        and (R_l * A_l) V, which add up to the context of the combined map. GateOp: O_g and O_l, head by head.

        Args:
            layer: a trace of this block.

        Returns:
            A branch each. Padded frames hold values of no meaning.

        Source:
            Equations 1 to 6.
        """
        return {branch: layer.contexts[branch] for branch in self.branches}

    def output_from(self, contexts: Contexts, gates: Gates | None = None) -> Frames:
        """Y from what the heads hand on.

        Args:
            contexts: of `contexts`, or changed.
            gates: of a block whose gates weigh outputs: R of each branch as numbers; None: they follow from the
                contexts.

        Raises:
            ArgumentError: gates for a block that has none after its contexts.

        Source:
            Equations 7 to 9; for the other blocks the output projection after equations 1 and 4.
        """
        if gates is not None:
            raise ArgumentError(f"gates for a {type(self).__name__}, which has none after its contexts")
        return self.output(join_heads(self.join_branches(contexts)))

    def join_branches(self, contexts: Contexts) -> Heads:
        """Contexts of all heads from those of the branches; of blocks with one output projection."""
        return contexts[self.branches[0]]

    def output_weights(self) -> dict[str, Float[Tensor, "dim _"]]:
        """Branch -> W_O as a `Linear` stores it, (out, in): what its joined contexts are multiplied by."""
        return dict.fromkeys(self.branches, plain_weight(self.output, "an attention block's output"))

    def gate_weights(self) -> dict[str, Float[Tensor, "dim _"]]:
        """Branch -> W_g likewise, where gates over features follow from joined contexts; empty in other blocks."""
        return {}

    def bias(self) -> Float[Tensor, " dim"] | None:
        """b of Y - b = sum of what the branches add: the output projection's bias, None without one."""
        return self.output.bias

    def contributions(self, layer: LayerTrace) -> dict[str, Frames]:
        """Y as a sum over the branches, without its bias: Y - b = global + local.

        Baseline: all of it is global. ShareAtt: W_O on the contexts of the global heads, and of the local heads.
        GateAtt: W_O on concat_m((R_g * A_g) V), and on concat_m((R_l * A_l) V). GateOp: R_g * Y_g, and R_l * Y_l.

        Args:
            layer: a trace of this block.

        Source:
            Equations 1 to 9; each block is linear in its contexts once its gates are numbers, so the split is exact.
        """
        weights = self.output_weights()
        return {branch: join_heads(each) @ weights[branch].mT for branch, each in self.contexts(layer).items()}

    def mixing_maps(self, layer: LayerTrace) -> dict[str, Float[Tensor, "batch _ query key"]]:
        """The maps by which each head of each branch mixes frames into the output.

        Baseline: A. ShareAtt: A of its global heads and A of its local heads. GateAtt: R_g * A_g and R_l * A_l, which
        add up to the combined map. GateOp, which blends outputs instead of maps: rows of A_g and A_l times the mean
        over features of the query's gates.

        Args:
            layer: a trace of this block.

        Source:
            Equations 1 to 9.
        """
        return self.context_maps(layer)

    def combine(self, weights: dict[str, Float[Tensor, "batch _ rows key"]]) -> Float[Tensor, "batch heads rows key"]:
        """The combined map of some queries from the maps of the branches.

        Args:
            weights: rows of each branch's maps; all keys.

        Raises:
            ArgumentError: a block without a combined map.
        """
        raise ArgumentError(f"{type(self).__name__} has no combined map")

    def _split_heads(self, frames: Frames) -> Heads:
        return frames.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _head_group(heads: slice, mask: Bool[Tensor, "*clips query key"] | None) -> HeadGroup:
    return HeadGroup(heads.start, heads.stop - heads.start, mask)
