"""The paper's ten columns and their variations as configurations, in two sizes, with the published numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from gmsa_models.attention import STACKS
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.config import ModelConfig
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.errors import UnknownNameError
from gmsa_models.evaluating import float32_by_default, standard_contexts
from gmsa_models.masks import (
    BlockDiagonal,
    ChangePoints,
    Neighbourhood,
    OfClip,
    Scales,
    Spans,
    Toeplitz,
    ToeplitzDilated,
)

__all__ = [
    "COLUMNS",
    "CONTROL",
    "PUBLISHED",
    "PUBLISHED_FAMILY",
    "SIZES",
    "VARIANTS",
    "Size",
    "build",
    "nearest_variant",
    "variant_config",
]

Value = TypeVar("Value")

# Attention block and neighbourhood of each column of the results table. The paper gives no sizes for ShareAtt; it
# takes GateOp's here, so that the two families differ in the block only. TD_80's dilation, not given either, is 2.
COLUMNS: dict[str, tuple[str, Neighbourhood | None]] = {
    "baseline": ("baseline", None),
    "share-att-bd": ("share-att", BlockDiagonal(20)),
    "share-att-tp": ("share-att", Toeplitz(30)),
    "share-att-td": ("share-att", ToeplitzDilated(60, dilation=4)),
    "gate-att-bd10": ("gate-att", BlockDiagonal(10)),
    "gate-att-tp10": ("gate-att", Toeplitz(10)),
    "gate-att-td80": ("gate-att", ToeplitzDilated(80, dilation=2)),
    "gate-op-bd20": ("gate-op", BlockDiagonal(20)),
    "gate-op-tp30": ("gate-op", Toeplitz(30)),
    "gate-op-td60x4": ("gate-op", ToeplitzDilated(60, dilation=4)),
}

# Not in the paper: a layer with no attention, so that what attention adds can be measured.
CONTROL = "control"

VARIANTS: dict[str, tuple[str, Neighbourhood | None]] = {
    **COLUMNS,
    CONTROL: ("none", None),
    # What the paper leaves for later: neighbourhoods that are the clip's own segments.
    "share-att-seg": ("share-att", ChangePoints()),
    "gate-att-seg": ("gate-att", ChangePoints()),
    "gate-op-seg": ("gate-op", ChangePoints()),
    # And local attention at several hierarchies: at several scales in one layer, and before global attention in two.
    "gate-op-scales": ("gate-op-scales", Scales((Toeplitz(5), Toeplitz(15), Toeplitz(45)))),
    "local-then-global": ("local-then-global", Toeplitz(30)),
}

# Percent, YouTube-8M; minutes an epoch and MiB on disk are given a family, not a column.
PUBLISHED: dict[str, dict[str, float]] = {
    "baseline": {"gap": 85.07, "map": 44.61, "perr": 78.97, "hit_at_1": 87.75},
    "share-att-bd": {"gap": 85.18, "map": 44.81, "perr": 79.05, "hit_at_1": 87.79},
    "share-att-tp": {"gap": 85.25, "map": 45.04, "perr": 79.22, "hit_at_1": 87.92},
    "share-att-td": {"gap": 85.16, "map": 44.69, "perr": 79.03, "hit_at_1": 87.78},
    "gate-att-bd10": {"gap": 85.21, "map": 44.89, "perr": 79.13, "hit_at_1": 87.85},
    "gate-att-tp10": {"gap": 85.30, "map": 45.28, "perr": 79.27, "hit_at_1": 87.96},
    "gate-att-td80": {"gap": 85.30, "map": 45.31, "perr": 79.21, "hit_at_1": 87.91},
    "gate-op-bd20": {"gap": 86.03, "map": 47.03, "perr": 79.96, "hit_at_1": 88.40},
    "gate-op-tp30": {"gap": 86.13, "map": 47.49, "perr": 80.10, "hit_at_1": 88.49},
    "gate-op-td60x4": {"gap": 85.99, "map": 46.98, "perr": 79.88, "hit_at_1": 88.33},
}

PUBLISHED_FAMILY: dict[str, dict[str, float]] = {
    "baseline": {"minutes_per_epoch": 43.0, "disk_mebibytes": 48.9},
    "share-att": {"minutes_per_epoch": 50.0, "disk_mebibytes": 48.9},
    "gate-att": {"minutes_per_epoch": 60.0, "disk_mebibytes": 50.2},
    "gate-op": {"minutes_per_epoch": 49.0, "disk_mebibytes": 61.0},
}


@dataclass(frozen=True)
class Size:
    """How large a variant is built.

    Attributes:
        modalities: input width of each modality.
        widths: model width D of each modality; None: the input width, with no input projection.
        classes: how many unless the caller says.
        max_frames: the longest clip, T.
        heads: attention heads, M.
        feed_forward: hidden width of the feed-forward layer, in units of D.
    """

    modalities: Mapping[str, int]
    widths: Mapping[str, int] | None
    classes: int
    max_frames: int = 300
    heads: int = 8
    feed_forward: int = 2


YOUTUBE_8M = {"visual": 1024, "audio": 128}

SIZES: dict[str, Size] = {
    "paper": Size(YOUTUBE_8M, widths=None, classes=3862),
    "demo": Size(YOUTUBE_8M, widths={"visual": 128, "audio": 64}, classes=300, heads=4),
}


def variant_config(
    name: str,
    size: str = "paper",
    *,
    classes: int | None = None,
    modalities: Mapping[str, int] | tuple[str, ...] | None = None,
    widths: Mapping[str, int] | None = None,
    max_frames: int | None = None,
    dropout: float = 0.0,
    neighbourhood: Neighbourhood | None = None,
) -> ModelConfig:
    """Configuration of one of the paper's columns, or of another variant.

    Args:
        name: a key of `VARIANTS`.
        size: a key of `SIZES`: "paper" or "demo".
        classes: number of outputs; default: the size's.
        modalities: which of the size's modalities to build, for example `("audio",)`; or a dict of other names and
            input widths, which then have no input projection unless `widths` gives one. Default: all of the size's.
        widths: model width D of each modality, to which its frames are projected; default: the size's.
        max_frames: the longest clip; default: the size's.
        dropout: probability in [0, 1).
        neighbourhood: in place of the variant's own.

    Raises:
        UnknownNameError: an unknown name, size or modality.
        ConfigError: a neighbourhood that the variant's block does not take.
    """
    attention, own = _look_up(VARIANTS, name, "variant")
    chosen = _look_up(SIZES, size, "size")
    inputs, default = _streams(chosen, modalities)
    return ModelConfig(
        attention=attention,
        neighbourhood=own if neighbourhood is None else neighbourhood,
        modalities=inputs,
        widths=default if widths is None else dict(widths),
        classes=chosen.classes if classes is None else classes,
        heads=chosen.heads,
        layers=len(STACKS.get(attention, (attention,))),
        feed_forward=chosen.feed_forward,
        max_frames=chosen.max_frames if max_frames is None else max_frames,
        dropout=dropout,
    )


def build(
    name: str,
    size: str = "paper",
    *,
    classes: int | None = None,
    vocabulary: Vocabulary | None = None,
    modalities: Mapping[str, int] | tuple[str, ...] | None = None,
    widths: Mapping[str, int] | None = None,
    max_frames: int | None = None,
    dropout: float = 0.0,
    neighbourhood: Neighbourhood | None = None,
    seed: int = 0,
) -> GMSAClassifier:
    """An untrained model of one of the paper's columns, or of another variant.

    Args:
        name, size, classes, modalities, widths, max_frames, dropout, neighbourhood: see `variant_config`.
        vocabulary: what the outputs stand for; gives `classes` where that is None.
        seed: of the initial weights; the same seed gives the same weights, and the caller's random state is left alone.

    Returns:
        A float32 model on the CPU, in training mode, its card naming the variant and the size; the caller's settings
        of torch (default type and device, inference mode) change nothing.

    Raises:
        UnknownNameError, ConfigError: as `variant_config`.
    """
    if classes is None and vocabulary is not None:
        classes = len(vocabulary)
    config = variant_config(
        name, size, classes=classes, modalities=modalities, widths=widths, max_frames=max_frames, dropout=dropout,
        neighbourhood=neighbourhood,
    )  # fmt: skip
    with standard_contexts(), float32_by_default(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GMSAClassifier(config, vocabulary)
    model.card.update(name=name, size=size, seed=seed)
    return model


def nearest_variant(config: ModelConfig) -> str:
    """The column, or another variant, with the same attention block and the same kind of neighbourhood, of any size.

    The only variant of a block stands for all of its neighbourhoods.

    Figures draw a model in the style of that column, whatever the model is called.

    Raises:
        UnknownNameError: none is like it.
    """
    own_segments = isinstance(config.neighbourhood, OfClip | Spans)
    kind = ChangePoints if own_segments else type(config.neighbourhood)
    same = {name: shape for name, (block, shape) in VARIANTS.items() if block == config.attention}
    alike = [name for name, shape in same.items() if type(shape) is kind] or (list(same) if len(same) == 1 else [])
    exact = [name for name in alike if VARIANTS[name][1] == config.neighbourhood]
    if not alike:
        raise UnknownNameError(f"no column with {config.attention!r} and {config.neighbourhood}")
    return (exact or alike)[0]


def _streams(
    size: Size, modalities: Mapping[str, int] | tuple[str, ...] | None
) -> tuple[dict[str, int], dict[str, int] | None]:
    if isinstance(modalities, Mapping):
        return dict(modalities), None
    names = tuple(size.modalities) if modalities is None else tuple(modalities)
    inputs = {name: _look_up(size.modalities, name, "modality") for name in names}
    widths = None if size.widths is None else {name: size.widths[name] for name in names}
    return inputs, widths


def _look_up(table: Mapping[str, Value], name: str, what: str) -> Value:
    if name not in table:
        raise UnknownNameError(f"unknown {what} {name!r}; known: {', '.join(table)}")
    return table[name]
