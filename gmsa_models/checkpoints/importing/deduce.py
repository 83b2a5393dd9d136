"""A model's configuration from the shapes of its weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gmsa_models.attention import ATTENTION, STACKS
from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.checkpoints.importing.names import FRONT_NORM
from gmsa_models.checkpoints.importing.sources import Source, Sources
from gmsa_models.config import ModelConfig
from gmsa_models.errors import ConfigError
from gmsa_models.masks import BlockDiagonal, Neighbourhood, Scales, Toeplitz, ToeplitzDilated
from gmsa_models.variants import PUBLISHED_FAMILY, SIZES, VARIANTS

__all__ = ["config_of", "variant_of"]

_VARIANT = re.compile(r"(share-att|gate-att|gate-op)-(bd|tp|td)([1-9]\d{0,5})(?:x([1-9]\d{0,5}))?")
_BIASED = ("query", "key", "value", "output", "output_global", "output_local")


def variant_of(like: str) -> tuple[str, Neighbourhood | None]:
    """Attention block and neighbourhood of a variant, whose neighbourhood may have any size: "gate-op-tp20".

    Raises:
        CheckpointError: no such variant; lists them. One with several scales, or with layers of different blocks.
    """
    if like in VARIANTS:
        attention, neighbourhood = VARIANTS[like]
        if attention in STACKS or isinstance(neighbourhood, Scales):
            known = ", ".join(name for name, (block, _) in VARIANTS.items() if block in (*PUBLISHED_FAMILY, "none"))
            raise CheckpointError(
                f"weights of other code are not read as {like!r}: names of its parts are not known; known: {known}"
            )
        return attention, neighbourhood
    if not (match := _VARIANT.fullmatch(like)):
        raise CheckpointError(
            f"no variant {like!r:.60}; known: {', '.join(VARIANTS)}, or with another size of the neighbourhood, such "
            "as gate-op-tp20 or gate-att-td60x4"
        )
    block, kind, size, dilation = match[1], match[2], int(match[3]), int(match[4] or 2)
    if match[4] and kind != "td":
        raise CheckpointError(f"variant {like!r}: only td has a dilation (x{dilation})")
    kinds: dict[str, Neighbourhood] = {
        "bd": BlockDiagonal(size), "tp": Toeplitz(size), "td": ToeplitzDilated(size, dilation)
    }  # fmt: skip
    return block, kinds[kind]


def config_of(
    like: str,
    sources: Sources,
    order: Sequence[str],
    heads: int | None = None,
    max_frames: int | None = None,
    norm: str | None = None,
) -> ModelConfig:
    """The configuration that weights fit.

    Args:
        like: see `variant_of`.
        sources: of the file.
        order: names of the streams, in the order in which pooled vectors are joined.
        heads: M, which no shape tells; None: as the variant has in the paper's size.
        max_frames: longest clip; None: as the gates of GateAtt say, else the variant's.
        norm: "pre" or "post", which the norms must be; None: as they are.

    Raises:
        CheckpointError: shapes that no such model has.
    """
    attention, neighbourhood = variant_of(like)
    width = {stream: _width(stream, sources) for stream in order}
    inputs = {stream: _input_width(stream, width[stream], sources) for stream in order}
    if len({each is None for each in inputs.values()}) > 1:
        raise CheckpointError(
            f"a projection of the inputs in some streams only: {_input_text(inputs)}; the models here have one in each "
            "or in none"
        )
    plain = None in inputs.values()
    try:
        return ModelConfig(
            attention=attention,
            modalities={stream: inputs[stream] or width[stream] for stream in order},
            classes=_classes(sum(width.values()), sources),
            neighbourhood=neighbourhood,
            widths=None if plain else width,
            heads=SIZES["paper"].heads if heads is None else heads,
            layers=_layers(order, sources),
            feed_forward=_feed_forward(width, sources),
            max_frames=_max_frames(attention, sources, max_frames),
            norm=_norm(order, sources, attention, norm),
            bias=any(each.read.bias for each in _of(sources.tensors, *_BIASED)) or attention == "none",
        )
    except ConfigError as error:
        raise CheckpointError(f"{error}; heads cannot be read off the weights: give --heads") from error


def _of(tensors: Iterable[Source], *parts: str) -> list[Source]:
    """Tensors that their names say to be of one of some parts."""
    return [each for each in tensors if each.read.parts and each.read.parts <= set(parts)]


def _matrices(stream: str, sources: Sources) -> list[Source]:
    return [each for each in sources.tensors if each.read.stream == stream and each.value.ndim == 2]


def _width(stream: str, sources: Sources) -> int:
    """D: what queries are projected to, else the side of its square matrices, else the length of its norms."""
    matrices = _matrices(stream, sources)
    gates = _of(matrices, "gate_global", "gate_local")
    squares = [each for each in matrices if each.value.shape[0] == each.value.shape[1] and each not in gates]
    norms = [each for each in sources.tensors if each.read.stream == stream and "norm" in "".join(each.read.parts)]
    for known in (_of(matrices, "query"), squares, norms):
        sides = sorted({each.value.shape[0] for each in known})
        if len(sides) == 1:
            return sides[0]
        if sides:
            raise CheckpointError(
                f"stream {stream!r}: {known[0].name} and others have widths {sides}; expected one: name them apart "
                "with --stream, or --rename"
            )
    raise CheckpointError(
        f"stream {stream!r}: no query projection is known by its name or shape: {_shapes(matrices)}; "
        "--rename gives the names that are known"
    )


def _input_width(stream: str, width: int, sources: Sources) -> int | None:
    """Width of the frames where a `Linear` projects them to D; None without one."""
    fits = [
        each
        for each in _matrices(stream, sources)
        if each.read.layer is None and each.value.shape[0] == width and "project" in each.read.parts
    ]
    sure = [each for each in fits if each.read.parts == {"project"}] or [
        each for each in fits if each.value.shape[1] != width
    ]
    if len(sure) > 1:
        raise CheckpointError(f"stream {stream!r}: several projections of the inputs: {_shapes(sure)}; --rename them")
    return sure[0].value.shape[1] if sure else None


def _classes(joined: int, sources: Sources) -> int:
    fits = [
        each
        for each in sources.tensors
        if each.value.ndim == 2 and each.value.shape[1] == joined and each.read.layer is None
    ]
    named = [each for each in fits if each.read.parts == {"classifier"}] or [
        each for each in fits if "classifier" in each.read.parts
    ]
    chosen = named or [each for each in fits if not each.read.parts]
    if len(chosen) != 1:
        classes = (
            _shapes(chosen) if chosen else f"none among {_shapes([e for e in sources.tensors if e.value.ndim == 2])}"
        )
        raise CheckpointError(
            f"the classifier must be one matrix (classes, {joined}), of the joined streams: {classes}; "
            "--rename names it"
        )
    return chosen[0].value.shape[0]


def _layers(order: Sequence[str], sources: Sources) -> int:
    numbers = {
        stream: len({each.read.layer for each in sources.tensors if each.read.stream == stream} - {None}) or 1
        for stream in order
    }
    if len(set(numbers.values())) > 1:
        raise CheckpointError(f"streams have different numbers of layers: {numbers}; expected as many in each")
    return next(iter(numbers.values()))


def _feed_forward(width: dict[str, int], sources: Sources) -> int:
    """Hidden width in D."""
    factors = {}
    for stream, side in width.items():
        matrices = [each for each in _matrices(stream, sources) if each.value.shape[1] == side]
        named = [each for each in matrices if each.read.parts == {"feed_first"}]
        likely = [each for each in matrices if "feed_first" in each.read.parts and each.value.shape[0] != side]
        free = [each for each in matrices if not each.read.parts and each.read.layer is not None]
        hidden = {each.value.shape[0] for each in named or likely or [each for each in free if len(each.value) != side]}
        if len(hidden) != 1 or (size := hidden.pop()) % side:
            what = "none is known by its name" if not hidden else f"hidden widths are {sorted(hidden)}"
            what = _shapes(named or likely) or what
            raise CheckpointError(
                f"stream {stream!r}: the feed-forward's first matrix must be (hidden, {side}), hidden a multiple of "
                f"{side}: {what}"
            )
        factors[stream] = size // side
    if len(set(factors.values())) > 1:
        raise CheckpointError(f"feed-forwards are {factors} times as wide as the streams; expected as many in each")
    return next(iter(factors.values()))


def _max_frames(attention: str, sources: Sources, requested: int | None) -> int:
    block = ATTENTION[attention]
    if block is not None and block.gated == "maps":
        sides = {len(each.value) for each in _of(sources.tensors, "gate_global", "gate_local") if each.value.ndim == 2}
        if len(sides) == 1 and requested in (None, *sides):
            return sides.pop()
        raise CheckpointError(f"the gates must be (frames, frames), as many in all, --max-frames too: {sorted(sides)}")
    return SIZES["paper"].max_frames if requested is None else requested


def _norm(order: Sequence[str], sources: Sources, attention: str, stated: str | None) -> str:
    """Where norms stand: before attention and feed-forward where there is one behind the last layer too."""
    if stated not in (None, "pre", "post"):
        raise CheckpointError(f"--norm is {stated!r:.60}; expected pre or post")
    own = [each for each in sources.tensors if each.read.stream == order[0] and not each.read.bias]
    _check_front(sources)
    norms = [each for each in own if each.read.parts and all(part.startswith("norm") for part in each.read.parts)]
    norm = "pre" if len(norms) > (1 if attention == "none" else 2) * _layers(order, sources) else "post"
    if stated not in (None, norm):
        last = "has a norm behind the last layer" if norm == "pre" else "has no norm behind the last layer"
        raise CheckpointError(
            f"--norm {stated}: the file {last} ({_shapes(norms)}), as models here have with {norm}-norm only; "
            "analysis.inspect_module opens the original itself"
        )
    return norm


def _check_front(sources: Sources) -> None:
    """Refuse a norm that its name puts in front of the layers: it must not be taken for the one behind them."""
    named = {each.read.stream for each in sources.tensors if each.read.parts == {"norm_attention"}}
    for each in sources.tensors:
        if FRONT_NORM in each.read.parts and each.read.stream in sources.numbered | named:
            raise CheckpointError(
                f"{each.name} {tuple(each.value.shape)} is a norm in front of the layers by its name, which no model "
                "here has; if it is another (behind the last layer, say), --rename says which; else "
                "analysis.inspect_module opens the original itself"
            )


def _shapes(sources: Sequence[Source]) -> str:
    shown = ", ".join(f"{each.name} {tuple(each.value.shape)}" for each in sources[:6])
    return shown + (f" and {len(sources) - 6} more" if len(sources) > 6 else "")


def _input_text(inputs: dict[str, int | None]) -> str:
    return ", ".join(f"{stream} {'none' if size is None else f'from {size}'}" for stream, size in inputs.items())
