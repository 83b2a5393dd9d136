"""AttentionTrace: what one forward pass saw, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from gmsa_models.errors import ArgumentError

__all__ = ["AttentionTrace", "HeadGroup", "LayerTrace", "Stage"]


class Stage(NamedTuple):
    """One value that a pass computes on its way, where it can be read and changed.

    Attributes:
        stream: the modality.
        layer: which encoder layer, from 0; None: before or after all of them.
        branch: of the attention block; "" where a value is of no branch.
        quantity: what it is: of a block one of `attention.QUANTITIES`; "encoded" of a layer; "input" and "pooled"
            before and after the layers.
    """

    stream: str
    layer: int | None
    branch: str
    quantity: str


@dataclass(frozen=True)
class HeadGroup:
    """Heads of a map that share one mask.

    Attributes:
        first: where the first of them stands among all heads of the layer.
        count: how many, one after another.
        mask: True where the query may attend to the key, in all clips or (batch, query, key) in each; None: everywhere.
            Padding is not in it.
    """

    first: int
    count: int
    mask: Bool[Tensor, "*clips query key"] | None


@dataclass(frozen=True)
class LayerTrace:
    """What one encoder layer computed. Of a layer of any other module, only its maps need be known.

    Rows of padded queries and columns of padded keys hold exactly 0 in `weights`; other values at padded frames
    are finite and mean nothing.

    Attributes:
        input: X of equation 10, what the attention block was given (after the norm, if that comes first). None, as
            `output` and `encoded`: not recorded; a GMSA model records all three.
        output: Y of equation 10, what the block returned, before the residual.
        encoded: the layer's output, after residuals and feed-forward.
        weights: branch -> attention weights after the softmax, query = row. Baseline: "global". ShareAtt: "global"
            and "local" with half of the heads each, "combined" with all heads in order. GateAtt: all three, all
            heads; rows of "combined" need not sum to 1. GateOp: "global" and "local". GateOpScales: "global" and one of
            each of its neighbourhoods, as "TP5". Local: "local". No attention: none.
        gates: R_g under "global", R_l under "local", of more branches each under its name, adding to 1. GateAtt:
            (batch, heads, query, key); GateOp and GateOpScales: (batch, frames, dim); else empty.
        contexts: branch -> A V, head by head, for each branch in `weights` whose A V the block uses.
        gated_contexts: GateAtt's (R_g * A_g) V under "global" and (R_l * A_l) V under "local"; else empty.
        branch_outputs: GateOp's Y_g under "global" and Y_l under "local", GateOpScales' likewise; else empty. The
            block's shared output bias is in none.
        neighbourhood: N as a matrix, True = may attend, of all clips or (batch, query, key) of each; where there are
            several local branches, the union of theirs; None in a block without one. Padding is not in it.
        head_groups: branch -> which heads its maps are of, and with which masks.
        outside: branch -> share of each query frame's weight on tokens of no frame (class token, registers), beside
            which the rows of `weights` sum to 1; empty where every token is a frame's, as in a GMSA model.
    """

    input: Float[Tensor, "batch frames dim"] | None = None
    output: Float[Tensor, "batch frames dim"] | None = None
    encoded: Float[Tensor, "batch frames dim"] | None = None
    weights: dict[str, Float[Tensor, "batch _ query key"]] = field(default_factory=dict)
    gates: dict[str, Float[Tensor, "batch ..."]] = field(default_factory=dict)
    contexts: dict[str, Float[Tensor, "batch _ frames _"]] = field(default_factory=dict)
    gated_contexts: dict[str, Float[Tensor, "batch _ frames _"]] = field(default_factory=dict)
    branch_outputs: dict[str, Float[Tensor, "batch frames dim"]] = field(default_factory=dict)
    neighbourhood: Bool[Tensor, "*clips query key"] | None = None
    head_groups: dict[str, tuple[HeadGroup, ...]] = field(default_factory=dict)
    outside: dict[str, Float[Tensor, "batch _ query"]] = field(default_factory=dict)

    def mask_of(self, branch: str) -> Bool[Tensor, "*clips query key"] | None:
        """N of a branch whose heads share one mask; None: it attends to every frame.

        Raises:
            KeyError: a branch that the layer lacks.
        """
        self.heads_of(branch)
        return self.head_groups[branch][0].mask

    @property
    def head_mask(self) -> Bool[Tensor, "#batch 1 query key"]:
        """N with axes for clips and heads.

        Raises:
            ArgumentError: a layer without a local branch.
        """
        if self.neighbourhood is None:
            raise ArgumentError("the layer has no local branch, so no neighbourhood")
        mask = self.neighbourhood if self.neighbourhood.ndim == 3 else self.neighbourhood[None]
        return mask[:, None]

    def recorded(self, name: Literal["input", "output", "encoded"]) -> Float[Tensor, "batch frames dim"]:
        """One of the three that a trace of another module may lack.

        Raises:
            ArgumentError: it was not recorded.
        """
        values: Tensor | None = getattr(self, name)
        if values is None:
            raise ArgumentError(f"the layer's {name} was not recorded; a trace of a GMSA model has it")
        return values

    def heads_of(self, branch: str) -> slice:
        """Which of the layer's heads the maps of a branch are of.

        Raises:
            KeyError: a branch that the layer lacks; names those it has.
        """
        if branch not in self.head_groups:
            raise KeyError(f"no branch {branch!r} in this layer; it has {', '.join(self.head_groups) or 'none'}")
        groups = self.head_groups[branch]
        return slice(groups[0].first, groups[-1].first + groups[-1].count)


@dataclass(frozen=True)
class AttentionTrace:
    """What one pass of a classifier computed.

    Attributes:
        layers: modality -> one `LayerTrace` a layer, first layer first.
        valid: True where a frame is real.
        pooled: modality -> mean over the valid frames of what the encoder returned; the classifier's input.
        logits: (batch, classes), before the sigmoid; equal to `model(batch)`.
        watched: values of stages that were asked for; see `analysis.interventions.run_with`.
    """

    layers: dict[str, tuple[LayerTrace, ...]]
    valid: Bool[Tensor, "batch frames"]
    pooled: dict[str, Float[Tensor, "batch _"]]
    logits: Float[Tensor, "batch classes"]
    watched: dict[Stage, Tensor] = field(default_factory=dict)

    def layer(self, modality: str, index: int = 0) -> LayerTrace:
        """One layer of one modality.

        Raises:
            KeyError: a modality that the model lacks; names those it has.
            IndexError: a layer that the model lacks; says how many there are.
        """
        if modality not in self.layers:
            raise KeyError(f"no modality {modality!r} in this trace; it has {', '.join(self.layers)}")
        layers = self.layers[modality]
        if not -len(layers) <= index < len(layers):
            raise IndexError(f"no layer {index} of {modality!r}; it has {len(layers)}")
        return layers[index]
