"""Site: the name of everything in a pass that can be watched or changed, as `visual/0/local/weights[head 3]`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache

from torch import Tensor

from gmsa_models.attention import QUANTITIES, WHOLE, AttentionBlock
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.errors import GMSAError
from gmsa_models.trace import AttentionTrace, LayerTrace, Stage

__all__ = ["Site", "SiteError", "SiteTable", "heads_at", "matching_sites", "site_value", "sites"]

ANY = "*"
# Quantities of a stream as a whole, and of a layer besides those of its block.
OF_STREAM = ("input", "pooled")
OF_LAYER = ("encoded",)
# Quantities whose second axis is the heads of the branch; a gate has it in blocks whose gates weigh maps.
BY_HEAD = ("queries", "keys", "values", "mask", "logits", "weights", "contexts")

_PATTERN = re.compile(
    r"(?P<stream>[^/\[\]\s]+)(?:/(?P<layer>\d+|\*)(?:/(?P<branch>[A-Za-z][A-Za-z0-9]*|\*))?)?/(?P<quantity>[a-z]+)"
    r"(?:\[heads? (?P<heads>\d+(?: *, *\d+)*)\])?"
)


class SiteError(GMSAError, ValueError):
    """A name that is no site, or a site that a model or trace lacks; the message lists what there is."""


@dataclass(frozen=True)
class Site:
    """One value of a pass.

    Attributes:
        stream: the modality; "*": every one.
        quantity: "input" (the features) or "pooled" of a stream; "input", "gate" (R_g), "output" or "encoded" of a
            layer; "queries", "keys", "values", "mask", "logits", "weights" or "contexts" of a branch; "neighbourhood"
            of a local one; where there are several, "gate" of each of them too.
        layer: which encoder layer, from 0; "*": every one; None: of the stream as a whole.
        branch: of the block; "*": every one; "": of none.
        heads: as they stand among all heads of the layer; empty: all.
    """

    stream: str
    quantity: str
    layer: int | str | None = None
    branch: str = ""
    heads: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not _PATTERN.fullmatch(str(self)):
            raise SiteError(f"{self!r} has no name; expected {_FORM}")
        object.__setattr__(self, "heads", tuple(sorted(set(self.heads))))

    @classmethod
    def parse(cls, text: str) -> Site:
        """The site of a name.

        Args:
            text: `stream/quantity`, `stream/layer/quantity` or `stream/layer/branch/quantity`; `[head 3]` or
                `[heads 1, 3]` behind it chooses heads, `*` stands for every stream, layer or branch.

        Raises:
            SiteError: a text of another form.
        """
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise SiteError(f"{text!r} is no site; expected {_FORM}")
        layer, heads = match["layer"], match["heads"]
        return cls(
            match["stream"],
            match["quantity"],
            int(layer) if layer and layer != ANY else layer,
            match["branch"] or "",
            tuple(int(head) for head in heads.split(",")) if heads else (),
        )

    def __str__(self) -> str:
        parts = [
            self.stream,
            *([] if self.layer is None else [str(self.layer)]),
            *([self.branch] if self.branch else []),
        ]
        heads = ", ".join(map(str, self.heads))
        return "/".join([*parts, self.quantity]) + (f"[head{'s' * (len(self.heads) > 1)} {heads}]" if heads else "")

    @property
    def stage(self) -> Stage:
        """Where it is in a pass; of a site without "*"."""
        if isinstance(self.layer, str):
            raise SiteError(f"{self} is several sites; expected one, without '*'")
        return Stage(self.stream, self.layer, self.branch, self.quantity)


@dataclass(frozen=True)
class SiteTable:
    """The sites of a model that is no GMSA model, for what else asks a model for them.

    Attributes:
        heads: site -> its heads, in the order of computation; none where it has no axis of heads.
    """

    heads: Mapping[Site, range]


_FORM = (
    "stream/quantity, stream/layer/quantity or stream/layer/branch/quantity, with [head 3] or [heads 1, 3] behind it "
    "where heads are chosen, as in visual/0/local/weights[head 3]"
)


def sites(model: GMSAClassifier | SiteTable) -> tuple[Site, ...]:
    """All sites of a model, in the order of computation.

    Args:
        model: any; the control has no block, and so only inputs, encoded frames and pooled vectors.
    """
    if isinstance(model, SiteTable):
        return tuple(model.heads)
    return tuple(site for stream in model.encoders for site in _sites_of_stream(model, stream))


def matching_sites(model: GMSAClassifier | SiteTable, site: Site | str) -> tuple[Site, ...]:
    """The sites of a model that a name stands for: one, or with "*" several.

    Heads stay chosen where a branch has them; a branch that has none of them is left out.

    Raises:
        SiteError: no such site, or no such head; lists what the model has.
    """
    wanted = Site.parse(site) if isinstance(site, str) else site
    known = sites(model)
    fitting = [each for each in known if _fits(wanted, each)]
    if not fitting:
        raise SiteError(f"the model has no site {wanted}; it has {', '.join(map(str, known))}")
    if not wanted.heads:
        return tuple(fitting)
    chosen = [(each, [head for head in wanted.heads if head in heads_at(model, each)]) for each in fitting]
    if missing := set(wanted.heads) - {head for _, heads in chosen for head in heads}:
        has = "; ".join(f"{each} has {_listed(heads_at(model, each))}" for each in fitting)
        raise SiteError(f"no head {min(missing)} at {wanted}; {has}")
    return tuple(replace(each, heads=tuple(heads)) for each, heads in chosen if heads)


def heads_at(model: GMSAClassifier | SiteTable, site: Site) -> range:
    """Which heads of the layer a site has; empty where it has no axis of heads."""
    if isinstance(model, SiteTable):
        return model.heads[replace(site, heads=())]
    number = site.stage.layer
    if number is None or (block := model.encoders[site.stream].layers[number].attention) is None:
        return range(0)
    if site.quantity in BY_HEAD:
        own = block.heads_of(site.branch)
        return range(own.start, own.stop)
    return range(block.heads if site.quantity == "gate" and block.gated == "maps" else 0)


def site_value(source: AttentionTrace, site: Site | str) -> Tensor:
    """What a pass had at a site.

    Args:
        source: a trace, or a view of clips; of `run_with` with `watch` it has every site that was watched.
        site: without "*".

    Returns:
        (batch, heads, ...) for what heads have, (batch, frames, width) else; "neighbourhood" is (query, key).

    Raises:
        SiteError: what the trace does not hold; says how to get it.
    """
    site = Site.parse(site) if isinstance(site, str) else site
    watched = getattr(source, "watched", {})
    value = watched[site.stage] if site.stage in watched else _of_trace(source, site)
    if value is None:
        raise SiteError(f"{site} is not in this trace; run_with(model, clip, watch=[{str(site)!r}]) keeps it")
    if not site.heads:
        return value
    number = site.stage.layer
    first = source.layers[site.stream][number].heads_of(site.branch).start if site.branch and number is not None else 0
    if value.ndim != 4 or not all(first <= head < first + value.shape[1] for head in site.heads):
        has = f"heads {_listed(range(first, first + value.shape[1]))}" if value.ndim == 4 else "no heads"
        raise SiteError(f"{site}: this site has {has}")
    return value[:, [head - first for head in site.heads]]


def _of_trace(source: AttentionTrace, site: Site) -> Tensor | None:
    layers = source.layers.get(site.stream, ())
    if site.layer is None:
        return getattr(source, "pooled", {}).get(site.stream) if site.quantity == "pooled" else None
    if not isinstance(site.layer, int) or site.layer >= len(layers):
        return None
    layer: LayerTrace = layers[site.layer]
    match site.quantity:
        case "input" | "output" | "encoded" | "neighbourhood":
            return getattr(layer, site.quantity)
        case "gate":
            return layer.gates.get(site.branch or next(iter(layer.gates), ""))
        case "weights":
            return layer.weights.get(site.branch)
        case "contexts":
            return (layer.gated_contexts or layer.contexts).get(site.branch)
    return None


# Every edit looks through all sites of its model: they are made, and their names checked, once.
_site = lru_cache(maxsize=4096)(Site)


def _sites_of_stream(model: GMSAClassifier, stream: str) -> Iterator[Site]:
    yield _site(stream, "input")
    for number, layer in enumerate(model.encoders[stream].layers):
        if layer.attention is not None:
            yield from _sites_of_block(layer.attention, stream, number)
        yield from (_site(stream, quantity, number) for quantity in OF_LAYER)
    yield _site(stream, "pooled")


def _sites_of_block(block: AttentionBlock, stream: str, layer: int) -> Iterator[Site]:
    for quantity in QUANTITIES:
        branches: tuple[str, ...]
        if quantity == "neighbourhood":
            branches = block.local_branches
        elif quantity in WHOLE:
            branches = block.gate_branches if quantity == "gate" else ("",)
        else:
            branches = block.branches
        yield from (_site(stream, quantity, layer, branch) for branch in branches)


def _fits(wanted: Site, site: Site) -> bool:
    same_layer = wanted.layer == site.layer or (wanted.layer == ANY and site.layer is not None)
    return (
        same_layer
        and wanted.quantity == site.quantity
        and fnmatchcase(site.stream, wanted.stream)
        and (wanted.branch == site.branch or (wanted.branch == ANY and bool(site.branch)))
    )


def _listed(heads: range) -> str:
    return ", ".join(map(str, heads)) or "no heads"
