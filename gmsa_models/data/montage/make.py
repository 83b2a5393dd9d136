"""Montages: labelled videos with exactly known segments, made of video-level vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from gmsa_models.data.clip import Clip, Segment
from gmsa_models.data.demo_videos import DEMO_VIDEOS
from gmsa_models.data.montage.class_statistics import shipped_statistics
from gmsa_models.data.montage.recipe import (
    LEAST_WITHIN,
    STATIC_FLICKER,
    FrameVariation,
    MontageRecipe,
    Span,
    draw_frames,
    draw_layout,
)
from gmsa_models.data.spaces import published_spaces
from gmsa_models.data.vocabulary import Vocabulary

__all__ = [
    "VectorSource",
    "demo_clip",
    "demo_vocabulary",
    "montage",
    "montages",
    "quantize_in_place",
    "within_variance",
]

DEMO_SEED = 8
# Three of four videos are short, as in the training of the zoo.
ZOO_FRAMES = ((0.75, 60, 150), (0.25, 150, 300))

Drawn = tuple[dict[str, np.ndarray], tuple[int, ...], str]  # vectors, labels, origin


@runtime_checkable
class VectorSource(Protocol):
    """What a montage is made of: real video-level vectors, or statistics of them."""

    @property
    def name(self) -> str:
        """What a clip's `source` calls it."""

    @property
    def between_variance(self) -> Mapping[str, np.ndarray]:
        """Modality -> (dim,), variance over the videos of the data set."""

    @property
    def kept(self) -> tuple[int, ...]:
        """Labels that events may have."""

    @property
    def dataset(self) -> str:
        """Whose labels they are; "": not said."""

    @property
    def sha256(self) -> str:
        """Of all that is drawn from."""

    def sample_event(self, rng: np.random.Generator, balance: float = 0.0) -> Drawn:
        """Vectors of a labelled video, its labels, its origin."""

    def sample_background(self, rng: np.random.Generator) -> Drawn:
        """Vectors of a video that has none of the kept labels, no labels, its origin."""


def montage(source: VectorSource, recipe: MontageRecipe, seed: int, index: int, identifier: str | None = None) -> Clip:
    """Make one video; any video can be made alone, and comes out the same byte for byte.

    The clip's labels are the union of its events' labels; `segments` tile it and say what each span shows. Labels are
    of the source's data set, and so are features that are as wide as those it is published with.

    Args:
        source: where the vectors of events and backgrounds come from.
        recipe: what the video is made of.
        seed: of the whole series, >= 0.
        index: which video of the series, >= 0.
        identifier: the clip's id; default `montage-SEED-INDEX`.

    Returns:
        A clip of uint8 features at one frame a second.

    Raises:
        KeyError: the source has a modality that the recipe does not describe.
        ValueError: a negative seed or index.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must be >= 0, got seed {seed}, index {index}")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    spans = draw_layout(recipe, draw_frames(recipe, rng), rng)
    drawn = _draw_sources(source, recipe, spans, rng)
    segments = tuple(
        Segment(float(start), float(end), labels, kind=kind, origin=origin)
        for (start, end, kind), (_, labels, origin) in zip(spans, drawn, strict=True)
    )
    features = _draw_modalities(source, recipe, spans, drawn, rng)
    return Clip(
        id=identifier or f"montage-{seed}-{index:06d}",
        features=features,
        labels=tuple(sorted({label for segment in segments for label in segment.labels})),
        segments=segments,
        source=f"montage of {source.name}, mix {recipe.mix}, seed {seed}, index {index}",
        dataset=source.dataset,
        spaces=published_spaces(source.dataset, {name: values.shape[1] for name, values in features.items()}),
    )


def montages(source: VectorSource, recipe: MontageRecipe, seed: int, count: int, start: int = 0) -> Iterator[Clip]:
    """Videos `start` to `start + count` of a series, in order."""
    for index in range(start, start + count):
        yield montage(source, recipe, seed, index)


def demo_clip(index: int) -> Clip:
    """Video `demo:index` of the demo set, made from the shipped class statistics; nothing is downloaded.

    Raises:
        IndexError: not in 0 to `DEMO_VIDEOS` - 1.
    """
    if not 0 <= index < DEMO_VIDEOS:
        raise IndexError(f"demo video {index}; the demo set is demo:0 to demo:{DEMO_VIDEOS - 1}")
    statistics = shipped_statistics()
    recipe = MontageRecipe(frames=ZOO_FRAMES, variation=dict(statistics.variation))
    return montage(statistics, recipe, DEMO_SEED, index, identifier=f"demo-{index:04d}")


def demo_vocabulary() -> Vocabulary:
    """The classes of the demo set, which are those of the zoo, most frequent first."""
    return shipped_statistics().classes


def within_variance(between: np.ndarray, variation: FrameVariation) -> np.ndarray:
    """Variance of each feature inside a video: what completes the between-video variance to a single frame's.

    Args:
        between: (dim,) variance of the video means, in dequantised units.
        variation: of the modality.

    Returns:
        (dim,) float32, at least `LEAST_WITHIN` of the single frame's variance.
    """
    total = variation.deviation**2
    return np.maximum(total - between, LEAST_WITHIN * total).astype(np.float32)


def _draw_sources(
    source: VectorSource, recipe: MontageRecipe, spans: list[Span], rng: np.random.Generator
) -> list[Drawn]:
    """The vectors of every segment; in mix "topic" all events show the same video."""
    topic = source.sample_event(rng, recipe.balance) if recipe.mix == "topic" else None
    return [
        source.sample_background(rng) if kind == "background" else topic or source.sample_event(rng, recipe.balance)
        for _, _, kind in spans
    ]


def _draw_shots(starts: np.ndarray, frames: int, shot_seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Number of the shot of each frame, (frames,); a shot starts with every segment, else once in `shot_seconds`."""
    first = rng.random(frames) < 1.0 / shot_seconds
    first[starts] = True
    return np.cumsum(first) - 1


def _draw_modalities(
    source: VectorSource, recipe: MontageRecipe, spans: list[Span], drawn: list[Drawn], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Frames of every modality; all share their shots, but each stands still in shots of its own."""
    segment_of = np.repeat(np.arange(len(spans)), [end - start for start, end, _ in spans])
    shot_of = _draw_shots(np.array([start for start, _, _ in spans]), len(segment_of), recipe.shot_seconds, rng)
    features = {}
    for modality, between in source.between_variance.items():
        if modality not in recipe.variation:
            raise KeyError(f"the recipe describes no variation of {modality!r}; it has {sorted(recipe.variation)}")
        variation = recipe.variation[modality]
        vectors = np.stack([vectors[modality] for vectors, _, _ in drawn])
        within = within_variance(between, variation)
        features[modality] = _draw_features(vectors, segment_of, shot_of, within, variation, rng)
    return features


def _draw_features(
    vectors: np.ndarray,
    segment_of: np.ndarray,
    shot_of: np.ndarray,
    within: np.ndarray,
    variation: FrameVariation,
    rng: np.random.Generator,
) -> np.ndarray:
    """Frames of one modality, (frames, dim) uint8: video vector + shot offset + frame noise.

    A moving shot has an offset of variance (1 - noise) * within and frames of variance noise * within around it. A
    static shot draws the noise once, as part of its offset, so that a single frame varies alike in both.
    """
    shots = int(shot_of[-1]) + 1
    static = rng.random(shots) < variation.static
    deviation = np.sqrt(within)
    offsets = rng.standard_normal((shots, len(within)), dtype=np.float32) * deviation
    offsets *= np.sqrt(np.where(static, 1.0, 1.0 - variation.noise)).astype(np.float32)[:, None]
    moving = np.where(static, STATIC_FLICKER, 1.0).astype(np.float32) * np.float32(np.sqrt(variation.noise))
    first_frames = np.flatnonzero(np.diff(shot_of, prepend=-1))
    values = rng.standard_normal((len(shot_of), len(within)), dtype=np.float32)
    values *= deviation
    values *= moving[shot_of][:, None]
    values += (vectors[segment_of[first_frames]] + offsets)[shot_of]
    return quantize_in_place(values)


def quantize_in_place(values: np.ndarray) -> np.ndarray:
    """`quantize`, but overwriting its float32 argument: a third of a montage's time goes into temporaries otherwise."""
    values -= np.float32(4.0 / 512.0 - 2.0)
    values *= np.float32(255.0 / 4.0)
    np.rint(values, out=values)
    np.clip(values, 0, 255, out=values)
    return values.astype(np.uint8)
