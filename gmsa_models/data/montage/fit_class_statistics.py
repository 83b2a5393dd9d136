"""Fit `ClassStatistics` to real vectors: ridge regression on labels, groups of backgrounds, residual factors."""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.cluster.vq import kmeans2

from gmsa_models.data.clip import dequantize
from gmsa_models.data.montage.class_statistics import ClassStatistics
from gmsa_models.data.montage.recipe import VARIATION
from gmsa_models.data.montage.video_vectors import VideoVectors, read_video_vectors
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.errors import ContentError

__all__ = ["LEAST_GROUP", "factorise", "fit_statistics"]

RIDGE = 10.0  # in videos: a class of 10 videos keeps half of the effect that least squares would give it
EVENT_FACTORS, BACKGROUND_FACTORS = 128, 64
GROUPS, LEAST_GROUP = 192, 10  # groups of backgrounds, and the fewest videos that one may average
LEVELS = 16  # how finely the distributions of strength and scale are kept; a level averages many videos
SEED = 0
MODULE = "gmsa_models.data.montage.fit_class_statistics"


def fit_statistics(
    vectors: VideoVectors, vocabulary: Vocabulary, provenance: Mapping[str, str] | None = None
) -> ClassStatistics:
    """Fit the statistics to all videos of a source.

    Args:
        vectors: real vectors, usually of the training split.
        vocabulary: names of (at least) the kept labels.
        provenance: what to write down about the source.

    Returns:
        Statistics in half precision, ready to save.

    Raises:
        ContentError: fewer than two labelled videos or backgrounds, or a modality without a known frame variation.
        KeyError: a kept label that the vocabulary lacks.
    """
    unknown = sorted(set(vectors.features) - set(VARIATION))
    if unknown:
        raise ContentError(f"no frame variation is known of {unknown}; known: {sorted(VARIATION)}")
    if min(len(vectors.labelled), len(vectors.unlabelled)) < 2:
        raise ContentError(
            f"{len(vectors.labelled)} labelled videos and {len(vectors.unlabelled)} backgrounds; expected two of each"
        )
    sets = label_positions(vectors)
    tensors = _fit_events(_rows(vectors, vectors.labelled), sets, len(vectors.kept))
    tensors |= _fit_backgrounds(_rows(vectors, vectors.unlabelled))
    tensors["between_variance"] = np.concatenate([vectors.between_variance[key] for key in vectors.features])
    half = {name: values.astype(np.float16) for name, values in tensors.items()}
    return ClassStatistics(
        modalities=vectors.dims,
        classes=vectors.vocabulary(vocabulary),
        tensors=half | _count_label_sets(sets),
        variation={modality: VARIATION[modality] for modality in vectors.features},
        provenance={**(provenance or {}), "videos": str(len(vectors)), "events": str(len(vectors.labelled))},
    )


def label_positions(vectors: VideoVectors) -> list[tuple[int, ...]]:
    """Label set of every labelled video, as sorted positions in `vectors.kept`."""
    position = {label: place for place, label in enumerate(vectors.kept)}
    return [tuple(sorted(position[label] for label in vectors.labels_of(row))) for row in vectors.labelled.tolist()]


def _rows(vectors: VideoVectors, rows: np.ndarray) -> np.ndarray:
    """(videos, dim), dequantised, all modalities side by side."""
    return np.concatenate([dequantize(values[rows]) for values in vectors.features.values()], axis=1)


def _fit_events(values: np.ndarray, sets: list[tuple[int, ...]], classes: int) -> dict[str, np.ndarray]:
    """Ridge regression of vectors on labels; how strongly videos show their labels; what is left."""
    present = np.zeros((len(sets), classes), np.float32)
    for row, own in enumerate(sets):
        present[row, list(own)] = 1.0
    share, mean = present.mean(axis=0), values.mean(axis=0)
    centred = present - share
    gram = centred.T @ centred + RIDGE * np.eye(classes, dtype=np.float32)
    effects = np.linalg.solve(gram, centred.T @ (values - mean))
    expected, base = present @ effects, mean - share @ effects
    strengths = ((values - base) * expected).sum(axis=1) / np.maximum((expected**2).sum(axis=1), 1e-6)
    scales, residual = _split_scale(values - base - strengths[:, None] * expected)
    factors, deviation = factorise(residual, EVENT_FACTORS)
    levels = _levels(scales)
    return {
        "event_mean": base,
        "effects": effects,
        "event_scales": np.array([scales[rows].mean() for rows in levels]),
        "event_strengths": np.array(
            [[strengths[rows[part]].mean() for part in _levels(strengths[rows])] for rows in levels]
        ),
        "event_factors": factors,
        "event_deviation": deviation,
    }


def _split_scale(residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's size relative to the root mean square of all, and the rows at one size.

    Columns keep their variance: a modality whose size does not follow the row's would otherwise gain.
    """
    sizes = np.sqrt((residual**2).mean(axis=1))
    scales = np.maximum(sizes / max(float(np.sqrt((sizes**2).mean())), 1e-6), 1e-6)
    even = residual / scales[:, None]
    return scales, even * (residual.std(axis=0) / np.maximum(even.std(axis=0), 1e-6))


def _levels(values: np.ndarray) -> list[np.ndarray]:
    """Rows in the order of their values, cut into `LEVELS` equally large parts."""
    parts = np.array_split(np.argsort(values, kind="stable"), LEVELS)
    return [part if len(part) else parts[0] for part in parts]


def _fit_backgrounds(values: np.ndarray) -> dict[str, np.ndarray]:
    """Groups by k-means on directions; each keeps its mean and share; what is left has one covariance."""
    groups = min(GROUPS, max(1, len(values) // (2 * LEAST_GROUP)))
    centred = values - values.mean(axis=0)
    directions = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an empty group; small ones are merged in the next line anyway
        _, group_of = kmeans2(directions, groups, minit="++", rng=np.random.default_rng(SEED))
    group_of = _merge_small(directions, group_of)
    names, group_of, counts = np.unique(group_of, return_inverse=True, return_counts=True)
    means = np.stack([values[group_of == place].mean(axis=0) for place in range(len(names))])
    scales, residual = _split_scale(values - means[group_of])
    factors, deviation = factorise(residual, BACKGROUND_FACTORS)
    return {
        "background_scales": np.array([scales[rows].mean() for rows in _levels(scales)]),
        "background_means": means,
        "background_weights": counts / counts.sum(),
        "background_factors": factors,
        "background_deviation": deviation,
    }


def _merge_small(values: np.ndarray, group_of: np.ndarray) -> np.ndarray:
    """Give the members of groups below `LEAST_GROUP` to the nearest large one, so that no mean shows few videos."""
    names, counts = np.unique(group_of, return_counts=True)
    large = names[counts >= LEAST_GROUP] if (counts >= LEAST_GROUP).any() else names[[counts.argmax()]]
    means = np.stack([values[group_of == name].mean(axis=0) for name in large])
    lost = np.flatnonzero(~np.isin(group_of, large))
    merged = group_of.copy()
    for row in lost:
        merged[row] = large[((means - values[row]) ** 2).sum(axis=1).argmin()]
    return merged


def factorise(residual: np.ndarray, factors: int) -> tuple[np.ndarray, np.ndarray]:
    """Write a covariance as factors plus a diagonal.

    Args:
        residual: (videos, dim), mean about zero.
        factors: how many; fewer where the data has fewer dimensions.

    Returns:
        (factors, dim) with `factors.T @ factors` the leading part of the covariance, and (dim,) the standard deviation
        that completes each feature's variance.
    """
    covariance = (residual.T @ residual).astype(np.float64) / len(residual)
    values, directions = np.linalg.eigh(covariance)
    leading = np.argsort(values)[::-1][: min(factors, len(values), len(residual) - 1)]
    loads = directions[:, leading].T * np.sqrt(np.maximum(values[leading], 0.0))[:, None]
    rest = np.diag(covariance) - (loads**2).sum(axis=0)
    return loads, np.sqrt(np.maximum(rest, 0.0))


def _count_label_sets(sets: list[tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Every label set that occurs and how often, in a fixed order."""
    counted = sorted(Counter(sets).items())
    return {
        "label_set_positions": np.array([place for own, _ in counted for place in own], np.uint16),
        "label_set_sizes": np.array([len(own) for own, _ in counted], np.uint8),
        "label_set_counts": np.array([count for _, count in counted], np.uint16),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m gmsa_models.data.montage.fit_class_statistics`: fit, write, and say what was written."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--vectors", required=True, help="video-level .npz, or TFRecord shards (path or glob)")
    parser.add_argument("--vocabulary", required=True, help="YouTube-8M's vocabulary.csv")
    parser.add_argument("--out", required=True, help="safetensors file to write")
    parser.add_argument("--split", default="train", help="which videos by id (default: train)")
    parser.add_argument("--classes", type=int, default=300, help="how many of the most frequent (default: 300)")
    options = parser.parse_args(arguments)
    vectors = read_video_vectors(options.vectors, options.split, options.classes)
    provenance = describe_source(options.vectors) | {"split": options.split}
    statistics = fit_statistics(vectors, Vocabulary.read_csv(options.vocabulary), provenance)
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    statistics.save(options.out)
    size = Path(options.out).stat().st_size
    print(f"{options.out}: {len(statistics.classes)} classes from {len(vectors)} videos, {size / 1e6:.2f} MB")


def describe_source(source: str) -> dict[str, str]:
    """Provenance of a source: its name, its sha256 where it is one file, its licence."""
    path = Path(source)
    described = {"source": path.name, "dataset": "YouTube-8M, video level", "licence": "CC BY 4.0, Google LLC"}
    if path.is_file():
        described["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return described


if __name__ == "__main__":
    main()
