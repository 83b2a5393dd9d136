"""ModelConfig: everything that fixes a model's shape, checked when it is made; it travels inside the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import nn

from gmsa_models.attention import ATTENTION, STACKS, AttentionBlock
from gmsa_models.branches import in_order
from gmsa_models.data.errors import brief, is_plain
from gmsa_models.errors import ArgumentError, ConfigError
from gmsa_models.masks import Neighbourhood, Scales, neighbourhood_from_dict, neighbourhood_to_dict

__all__ = ["ModelConfig", "check_classifies"]

NORMS = ("pre", "post")
MOST_MODALITIES = 32
LARGEST_SIZE = 2**31 - 1  # of any width or number, so that products of two still fit 64 bits

_NAMESPACE = nn.ModuleDict()  # which takes no name that it has an attribute of


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes a model's shape; it travels inside the checkpoint.

    Attributes:
        attention: a key of `ATTENTION`: "baseline", "share-att", "gate-att", "gate-op", "gate-op-scales", "local", or
            "none" (the control), the block of every layer; or of `STACKS`, a block each: "local-then-global".
        modalities: name -> width of its frames, in the order in which pooled vectors are joined.
        classes: number of outputs; 0: an encoder without a classifier, as pretraining leaves it.
        neighbourhood: N_i of the local branches; needed by the blocks that have one, `Scales` by "gate-op-scales"; None
            in the others.
        widths: name -> D, with a `Linear` from the frames to D; None: D is the frames' width, and no such `Linear`.
        heads: M; must divide every D, and be even for "share-att".
        layers: encoder layers a modality; the paper has 1, a key of `STACKS` as many as it has blocks.
        feed_forward: hidden width of the feed-forward, in D.
        max_frames: longest clip, in frames.
        norm: "pre": layer norm before attention and feed-forward, and once more before pooling; "post": after
            each residual.
        bias: biases in the Q, K, V and output projections.
        dropout: probability in [0, 1) on what attention and feed-forward add, in training only.
    """

    attention: str
    modalities: dict[str, int]
    classes: int
    neighbourhood: Neighbourhood | None = None
    widths: dict[str, int] | None = None
    heads: int = 8
    layers: int = 1
    feed_forward: int = 2
    max_frames: int = 300
    norm: str = "pre"
    bias: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_choice("attention", self.attention, (*ATTENTION, *STACKS))
        _check_choice("norm", self.norm, NORMS)
        for name in ("heads", "layers", "feed_forward", "max_frames"):
            _check_positive(name, getattr(self, name))
        if self.classes != 0 or isinstance(self.classes, bool | float):
            _check_positive("classes", self.classes)
        if not isinstance(self.bias, bool):
            raise ConfigError(f"bias is {brief(self.bias)}; expected True or False")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout!r}; expected a probability in [0, 1)")
        self._check_modalities()
        self._check_attention()

    def _check_modalities(self) -> None:
        if not 0 < len(self.modalities) <= MOST_MODALITIES:
            raise ConfigError(
                f"modalities has {len(self.modalities) or 'no'} entries; expected 1 to {MOST_MODALITIES} names, each "
                "with the width of its frames"
            )
        for name, width in self.modalities.items():
            if not name or "." in name or not is_plain(name) or hasattr(_NAMESPACE, name):
                raise ConfigError(
                    f"modality name {brief(name)}; expected a word without dots that torch has no use for"
                )
            _check_positive(f"modalities[{name!r}]", width)
        if self.widths is not None and set(self.widths) != set(self.modalities):
            raise ConfigError(f"widths are for {sorted(self.widths)}; modalities are {sorted(self.modalities)}")
        for name in self.modalities:
            _check_positive(f"widths[{name!r}]", self.width(name))

    def _check_attention(self) -> None:
        if (stack := STACKS.get(self.attention)) and self.layers != len(stack):
            raise ConfigError(f"attention {self.attention!r} is of {len(stack)} layers; layers is {self.layers}")
        blocks = [block for block in map(ATTENTION.get, self.kinds) if block is not None]
        local = any(block.local for block in blocks)
        if local and self.neighbourhood is None:
            raise ConfigError(f"attention {self.attention!r} has a local branch and needs a neighbourhood, got None")
        if not local and self.neighbourhood is not None:
            raise ConfigError(f"attention {self.attention!r} takes no neighbourhood, got {self.neighbourhood!r}")
        if isinstance(self.neighbourhood, Scales) != any(block.scales for block in blocks):
            wanted = "one neighbourhood" if isinstance(self.neighbourhood, Scales) else "Scales, as TP5+TP15+TP45"
            raise ConfigError(f"attention {self.attention!r} takes {wanted}, got {self.neighbourhood!r}")
        if any(block.combined == "joined" for block in blocks) and self.heads % 2:
            raise ConfigError(f"attention {self.attention!r} halves its heads; heads is {self.heads}, which is odd")
        for name in self.modalities:
            if blocks and self.width(name) % self.heads:
                wide = -(-self.width(name) // self.heads) * self.heads
                raise ConfigError(
                    f"{self.heads} heads do not divide the width {self.width(name)} of {name!r}; let the model work "
                    f"in a width that they divide, to which the frames are projected: widths={{{name!r}: {wide}}}, or "
                    f"`gmsa train --modality {name}:{self.modalities[name]}:{wide}`"
                )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Keys of `ATTENTION`, one where all layers have the same block, else one a layer."""
        return STACKS.get(self.attention, (self.attention,))

    def block_of(self, layer: int) -> type[AttentionBlock] | None:
        """The class of a layer's block; None without attention."""
        return ATTENTION[self.kinds[layer if len(self.kinds) > 1 else 0]]

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the branches that some layer has, see `in_order`; none in the control."""
        blocks = [block for block in map(ATTENTION.get, self.kinds) if block is not None]
        return in_order(branch for block in blocks for branch in block.branches_with(self.neighbourhood))

    def width(self, modality: str) -> int:
        """D of a modality."""
        return self.modalities[modality] if self.widths is None else self.widths[modality]

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `from_dict` reads them back to an equal config."""
        values = asdict(self)
        values["neighbourhood"] = None if self.neighbourhood is None else neighbourhood_to_dict(self.neighbourhood)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: a field missing, unknown or out of range; names it.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ConfigError(f"a model config has no {', '.join(unknown)}; it has {', '.join(known)}")
        if missing := [name for name in ("attention", "modalities", "classes") if name not in values]:
            raise ConfigError(f"a model config needs {', '.join(missing)}; got {', '.join(values)}")
        values = dict(values)
        for name in ("modalities", "widths", "neighbourhood"):
            if not isinstance(values.get(name, {}), dict | None):
                raise ConfigError(f"{name} is {brief(values[name])}; expected names with values")
        if values.get("neighbourhood") is not None:
            values["neighbourhood"] = neighbourhood_from_dict(values["neighbourhood"])
        return cls(**values)


def check_classifies(config: ModelConfig, name: str = "the model") -> None:
    """Check that a model has classes.

    Args:
        config: of the model.
        name: what it is called in the message.

    Raises:
        ArgumentError: encoders alone, as pretraining leaves them; says what can be done with them.
    """
    if not config.classes:
        raise ArgumentError(
            f"{name} has no classifier and predicts nothing: its encoders were pretrained without labels. Train one on "
            "them with gmsa train --from; gmsa inspect shows their maps"
        )


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} {brief(value)} is unknown; known: {', '.join(known)}")


def _check_positive(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_SIZE:
        raise ConfigError(f"{name} is {brief(value)}; expected a whole number of at least 1, at most {LARGEST_SIZE}")
