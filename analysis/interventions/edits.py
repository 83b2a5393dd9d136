"""Edits: what can be changed in a pass, each at a site.

Seconds are of the pass as it is with all edits made: where frames are moved, of where they have come to stand. A span
holds the frames that start in it, its end not included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from analysis.interventions.sites import Site
from gmsa_models.branches import COMBINED
from gmsa_models.data.clip import Clip
from gmsa_models.errors import GMSAError
from gmsa_models.masks import Neighbourhood

__all__ = [
    "OWN_SOURCES",
    "DropFrames",
    "Edit",
    "EditError",
    "ForceGate",
    "KnockOut",
    "MoveFrames",
    "Number",
    "Patch",
    "ReplaceNeighbourhood",
    "ScaleHead",
    "Seconds",
]

Number = int | float
Seconds = tuple[Number, Number]

OWN_SOURCES = ("mean", "zero", "own")
PATCHED = (
    "input", "queries", "keys", "values", "logits", "weights", "gate", "contexts", "output", "encoded", "pooled"
)  # fmt: skip


class EditError(GMSAError, ValueError):
    """An edit that cannot be made; the message says what was received and expected."""


@dataclass(frozen=True)
class _Edit:
    """What edits share.

    Attributes:
        site: where; a name is parsed.
        quantities: of which sites it can be.
    """

    site: Site | str
    quantities: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", self.place)
        if self.place.quantity not in self.quantities:
            raise EditError(f"{type(self).__name__} at {self.site}; expected a site of {' or '.join(self.quantities)}")

    @property
    def place(self) -> Site:
        """The site, parsed."""
        return Site.parse(self.site) if isinstance(self.site, str) else self.site


@dataclass(frozen=True)
class KnockOut(_Edit):
    """Edges of an attention map are taken out: some queries no longer attend to some keys.

    Attributes:
        site: weights of a branch, as "visual/0/local/weights[head 3]".
        queries: of which frames, in seconds; None: all.
        keys: to which frames; None: all.
        renormalise: True: before the softmax, so the other weights of a query grow until they add up to 1 again (a
            query that has none left attends to nothing); False: after it, so they stay as they are.

    Source:
        Geva et al., "Dissecting Recall of Factual Associations", 2023 (attention knock-out).
    """

    queries: Seconds | None = None
    keys: Seconds | None = None
    renormalise: bool = True
    quantities: ClassVar[tuple[str, ...]] = ("weights",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_span("queries", self.queries)
        _check_span("keys", self.keys)


@dataclass(frozen=True)
class Patch(_Edit):
    """A value is replaced by what another pass had there, or by a mean.

    Attributes:
        site: of any of `PATCHED`.
        source: another clip, whose own pass gives the value; "own": this clip's other seconds; "mean": its mean over
            frames; "zero"; or the value itself, as a tensor that broadcasts to the site's: (batch, heads, frames,
            head_dim) or (batch, frames, width).
        at: which frames (of maps: queries), in seconds; None: all.
        start: where the source's frames begin, in seconds; None: where `at` does. For clips and "own".

    Source:
        Heimersheim and Nanda, "How to use and interpret activation patching", 2024.
    """

    source: Clip | Float[Tensor, ...] | str = "mean"
    at: Seconds | None = None
    start: Number | None = None
    quantities: ClassVar[tuple[str, ...]] = PATCHED

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_span("at", self.at)
        if isinstance(self.source, str) and self.source not in OWN_SOURCES:
            raise EditError(f"source is {self.source!r}; expected a clip, a tensor or one of {', '.join(OWN_SOURCES)}")
        if self.start is not None and not (isinstance(self.source, Clip) or self.source == "own"):
            raise EditError(f"start is {self.start:g} s, but the source is no clip; expected a clip or 'own'")
        if self.place.quantity == "pooled" and (self.source == "own" or self.at is not None or self.start is not None):
            raise EditError(f"{self.site} is one vector a clip; it takes no seconds")
        if self.source == "own" and self.start is None:
            raise EditError("a patch from the clip's own seconds needs the second at which they start")
        if self.start is not None and not 0 <= self.start < math.inf:
            raise EditError(f"start is {self.start:g} s; expected at least 0")


@dataclass(frozen=True)
class ForceGate(_Edit):
    """The gate of a branch is a number; the other branch's is 1 less it, and of several others each keeps its part.

    Attributes:
        site: the gate of a layer, as "visual/0/gate", with heads where the block's gates have them.
        value: in [0, 1]; 0 shuts the branch.
        branch: whose gate; of a site with a branch that one's, whatever is said here.
        at: of which frames (of gates over pairs: queries), in seconds; None: all.
    """

    value: Number = 0.0
    branch: str = "global"
    at: Seconds | None = None
    quantities: ClassVar[tuple[str, ...]] = ("gate",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_span("at", self.at)
        if not 0 <= self.value <= 1:
            raise EditError(f"a gate of {self.value:g}; expected a number from 0 to 1")
        if not self.branch.isalnum() or self.branch == COMBINED:
            raise EditError(
                f"the gate of branch {self.branch!r}; expected 'global' or 'local', or another branch that has one, "
                "as 'TP5'"
            )


@dataclass(frozen=True)
class ReplaceNeighbourhood(_Edit):
    """A local branch attends to another neighbourhood.

    Attributes:
        site: as "visual/0/local/neighbourhood".
        neighbourhood: N_i in place of the model's.
    """

    neighbourhood: Neighbourhood | None = None
    quantities: ClassVar[tuple[str, ...]] = ("neighbourhood",)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "neighbourhood", self.pattern)

    @property
    def pattern(self) -> Neighbourhood:
        """The neighbourhood; there is one."""
        if self.neighbourhood is None:
            raise EditError(f"ReplaceNeighbourhood at {self.site} needs a neighbourhood, got None")
        return self.neighbourhood


@dataclass(frozen=True)
class ScaleHead(_Edit):
    """What heads hand on is multiplied by a factor.

    Attributes:
        site: contexts of a branch, as "visual/0/local/contexts[head 3]".
        factor: 0 takes them away.
        at: at which frames, in seconds; None: all.
    """

    factor: Number = 0.0
    at: Seconds | None = None
    quantities: ClassVar[tuple[str, ...]] = ("contexts",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_span("at", self.at)
        if not math.isfinite(self.factor):
            raise EditError(f"a factor of {self.factor:g}; expected a finite number")


@dataclass(frozen=True)
class DropFrames(_Edit):
    """Frames are as padding: they attend to nothing, nothing attends to them, and no mean counts them.

    The others keep their places.

    Attributes:
        site: the input of a stream, as "visual/input"; "*/input": of all.
        at: which frames, in seconds; not all of the clip.
    """

    at: Seconds = (0.0, 0.0)
    quantities: ClassVar[tuple[str, ...]] = ("input",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_stream(self)
        _check_span("at", self.at)


@dataclass(frozen=True)
class MoveFrames(_Edit):
    """Frames stand elsewhere in the clip; those between move up.

    Attributes:
        site: the input of a stream, as "visual/input"; "*/input": of all.
        at: which frames of the clip as it was, in seconds.
        to: the second at which they start afterwards.
    """

    at: Seconds = (0.0, 0.0)
    to: Number = 0.0
    quantities: ClassVar[tuple[str, ...]] = ("input",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_stream(self)
        _check_span("at", self.at)
        if not 0 <= self.to < math.inf:
            raise EditError(f"to is {self.to:g} s; expected at least 0")


Edit = KnockOut | Patch | ForceGate | ReplaceNeighbourhood | ScaleHead | DropFrames | MoveFrames


def _check_span(name: str, span: Seconds | None) -> None:
    if span is not None and not 0 <= span[0] < span[1] < math.inf:
        raise EditError(f"{name} is {span[0]:g} to {span[1]:g} s; expected a start of at least 0 and an end after it")


def _check_stream(edit: DropFrames | MoveFrames) -> None:
    if edit.place.layer is not None:
        raise EditError(f"{type(edit).__name__} at {edit.site}; expected the input of a stream, as visual/input")
