"""VideoVectors: real video-level vectors with their labels, split by video id, as a source of montages."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from gmsa_models.data.arrays import arrays_digest, read_arrays
from gmsa_models.data.clip import dequantize, quantize
from gmsa_models.data.errors import OnSkip, UnreadableError, brief
from gmsa_models.data.paths import skip_handler
from gmsa_models.data.spaces import YOUTUBE_8M, published_spaces
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.errors import ContentError

__all__ = ["VideoVectors", "most_frequent_labels", "read_video_vectors", "split_of", "video_vectors"]

SPLITS = ("train", "held-out")
# The keys of YouTube-8M's video-level records, by our modality.
COLUMNS = {"visual": "mean_rgb", "audio": "mean_audio"}
HELD_OUT_ONE_IN = 10
VARIANCE_ROWS = 20_000


def split_of(identifier: str) -> str:
    """Which split a video belongs to: a tenth of all ids, chosen by their CRC-32, is "held-out", the rest "train".

    The id alone decides, so a video never changes side when a data set grows.
    """
    return "held-out" if zlib.crc32(identifier.encode()) % HELD_OUT_ONE_IN == 0 else "train"


def most_frequent_labels(labels: np.ndarray, count: int) -> tuple[int, ...]:
    """The `count` most frequent labels, most frequent first, ties in the order of the label index.

    Args:
        labels: label indices of all videos in one flat array, each >= 0.
        count: how many to keep.

    Raises:
        ContentError: fewer than `count` different labels occur.
    """
    present, frequency = np.unique(labels, return_counts=True)  # not bincount: a label may be any number
    if len(present) < count:
        raise ContentError(f"{count} classes asked for, but only {len(present)} labels occur in the data")
    return tuple(int(label) for label in present[np.argsort(-frequency, kind="stable")[:count]])


@dataclass(frozen=True)
class VideoVectors:
    """Video-level vectors (the mean over a video's frames) with labels.

    Attributes:
        ids: one a video.
        features: modality -> (videos, dim) uint8, quantised as YouTube-8M's frames are.
        labels: kept labels of every video in one flat array.
        offsets: (videos + 1,); the labels of video v are `labels[offsets[v]:offsets[v + 1]]`.
        kept: the labels that a model is to know, most frequent first.
        between_variance: modality -> (dim,), variance over the whole data set's videos, in dequantised units.
        name: what to call the source in a clip's `source`.
        dataset: whose labels they are; "": not said.
    """

    ids: np.ndarray
    features: Mapping[str, np.ndarray]
    labels: np.ndarray
    offsets: np.ndarray
    kept: tuple[int, ...]
    between_variance: Mapping[str, np.ndarray]
    name: str = field(default="video-level")
    dataset: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dims(self) -> dict[str, int]:
        """Width of each modality."""
        return {modality: values.shape[1] for modality, values in self.features.items()}

    @cached_property
    def sha256(self) -> str:
        """Of all that montages are drawn from, in its order."""
        own = {"ids": self.ids, "labels": self.labels, "offsets": self.offsets, "kept": np.array(self.kept, np.int64)}
        features = {f"features {name}": values for name, values in self.features.items()}
        variances = {f"variance {name}": values for name, values in self.between_variance.items()}
        # Earlier digests name no data set: series always were of YouTube-8M.
        dataset = {"dataset": np.array(self.dataset)} if self.dataset != YOUTUBE_8M else {}
        return arrays_digest(own | features | variances | dataset)

    @cached_property
    def labelled(self) -> np.ndarray:
        """Rows of the videos that have a kept label: the events."""
        return np.flatnonzero(np.diff(self.offsets) > 0)

    @cached_property
    def unlabelled(self) -> np.ndarray:
        """Rows of the videos that have none: the backgrounds."""
        return np.flatnonzero(np.diff(self.offsets) == 0)

    @cached_property
    def _rows_by_class(self) -> tuple[np.ndarray, ...]:
        owner = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        order = np.argsort(self.labels, kind="stable")
        _, starts = np.unique(self.labels[order], return_index=True)
        return tuple(np.split(owner[order], starts[1:]))

    def labels_of(self, row: int) -> tuple[int, ...]:
        """Kept labels of one video."""
        return tuple(int(label) for label in self.labels[self.offsets[row] : self.offsets[row + 1]])

    def vectors(self, row: int) -> dict[str, np.ndarray]:
        """Dequantised vector of one video, modality -> (dim,) float32."""
        return {modality: dequantize(values[row]) for modality, values in self.features.items()}

    def sample_event(
        self, rng: np.random.Generator, balance: float = 0.0
    ) -> tuple[dict[str, np.ndarray], tuple[int, ...], str]:
        """Draw a labelled video.

        Args:
            rng: where the chance comes from.
            balance: in [0, 1]; how often a class is drawn first, all classes alike, and then one of its videos, so that
                rare classes are seen. Otherwise every labelled video is as likely as any other.

        Returns:
            Its vectors (modality -> (dim,) float32), its kept labels (at least one) and its id.
        """
        by_class = rng.random() < balance
        rows = self._rows_by_class[rng.integers(len(self._rows_by_class))] if by_class else self.labelled
        row = int(rows[rng.integers(len(rows))])
        return self.vectors(row), self.labels_of(row), str(self.ids[row])

    def sample_background(self, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], tuple[int, ...], str]:
        """Draw a video that has none of the kept labels: its vectors, no labels, its id."""
        row = int(self.unlabelled[rng.integers(len(self.unlabelled))])
        return self.vectors(row), (), str(self.ids[row])

    def split(self, split: str) -> VideoVectors:
        """The videos of one split; the two splits share no video.

        Raises:
            KeyError: an unknown split; lists the known.
            ContentError: the split has no labelled video, or no background.
        """
        if split not in SPLITS:
            raise KeyError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
        rows = np.array([row for row, identifier in enumerate(self.ids) if split_of(str(identifier)) == split], int)
        chosen = self.take(rows)
        return replace(chosen, name=f"{self.name}:{split}")

    def take(self, rows: np.ndarray) -> VideoVectors:
        """The videos of these rows, in this order; kept labels and variances stay those of the whole data set.

        Raises:
            ContentError: no labelled video or no background among them.
        """
        counts = np.diff(self.offsets)[rows]
        flat = [self.labels[self.offsets[row] : self.offsets[row + 1]] for row in rows]
        if not (counts > 0).any() or not (counts == 0).any():
            raise ContentError(
                f"{len(rows)} videos, {int((counts > 0).sum())} of them with a kept label; "
                "montages need at least one with and one without (background)"
            )
        return replace(
            self,
            ids=self.ids[rows],
            features={modality: values[rows] for modality, values in self.features.items()},
            labels=np.concatenate(flat),
            offsets=np.concatenate([[0], np.cumsum(counts)]),
        )

    def vocabulary(self, full: Vocabulary) -> Vocabulary:
        """The kept labels with their names from a full table, most frequent first."""
        return full.keep(self.kept)


def video_vectors(
    ids: Sequence[str] | np.ndarray,
    features: Mapping[str, np.ndarray],
    labels: Sequence[Iterable[int]],
    kept: int | Sequence[int] = 300,
    name: str = "video-level",
    dataset: str = "",
) -> VideoVectors:
    """Build `VideoVectors` from arrays in hand.

    Args:
        ids: one a video, unique.
        features: modality -> (videos, dim), uint8 or dequantised floats (which are quantised).
        labels: data set labels of each video.
        kept: the labels to keep, or how many of the most frequent.
        name: what to call the source.
        dataset: whose labels they are; "": not said.

    Raises:
        ContentError: lengths that differ, or too few labels.
    """
    counts = np.array([len(tuple(own)) for own in labels], dtype=np.int64)
    flat = np.array([label for own in labels for label in own], dtype=np.int64)
    return _build(np.asarray(ids, dtype=str), features, flat, counts, kept, name, dataset)


def read_video_vectors(
    source: str | Path | Sequence[str | Path],
    split: str | None = None,
    kept: int | Sequence[int] = 300,
    *,
    dataset: str | None = None,
    on_error: str = "fail",
    on_skip: OnSkip | None = None,
) -> VideoVectors:
    """Read real video-level vectors.

    Args:
        source: an `.npz` with `id`, `mean_rgb`, `mean_audio`, `labels`, `label_offsets`, or video-level TFRecord
            shards (path, glob or a list of them) with `id`, `labels`, `mean_rgb`, `mean_audio`.
        split: "train", "held-out" or None for all.
        kept: the labels to keep, or how many of the most frequent (counted before the split).
        dataset: whose labels they are; default: YouTube-8M's where the vectors are as wide as its own, else not said.
        on_error: of shards: "fail" raises the first error; "skip" leaves out records that cannot be read, or whose
            vectors are not as those of the first.
        on_skip: with "skip", called with each error; default: a warning.

    Returns:
        The videos of that split.

    Raises:
        ContentError: a missing array, lengths that differ, too few labels; names the file.
        TFRecordError: a record that cannot be read, or is not like the first.
        KeyError: an unknown split.
    """
    if isinstance(source, str | Path) and str(source).endswith(".npz"):
        whole = _read_npz(Path(source), kept)
    else:
        whole = _read_shards(source, kept, skip_handler(on_error, on_skip))
    whole = replace(whole, dataset=_dataset_of_widths(whole.dims) if dataset is None else dataset)
    return whole if split is None else whole.split(split)


def _dataset_of_widths(widths: Mapping[str, int]) -> str:
    """YouTube-8M, where the vectors under its names are as wide as its own; "" otherwise."""
    return YOUTUBE_8M if len(published_spaces(YOUTUBE_8M, widths)) == len(widths) else ""


def _read_npz(path: Path, kept: int | Sequence[int]) -> VideoVectors:
    try:
        needed = {"id", "labels", "label_offsets", *COLUMNS.values()}
        arrays = read_arrays(path, needed)
        if missing := needed - set(arrays):
            raise ContentError(f"no array {sorted(missing)}; expected {', '.join(sorted(needed))}")
        offsets, labels = (_whole_numbers(name, arrays[name]) for name in ("label_offsets", "labels"))
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(labels) or (np.diff(offsets) < 0).any():
            raise ContentError(f"label_offsets do not rise from 0 to {len(labels)}, the number of labels")
        features = {modality: arrays[column] for modality, column in COLUMNS.items()}
        return _build(arrays["id"].astype(str), features, labels, np.diff(offsets), kept, path.stem)
    except (ValueError, TypeError) as error:
        raise ContentError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def _whole_numbers(name: str, values: np.ndarray) -> np.ndarray:
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ContentError(f"{name} is {values.dtype} of shape {values.shape}; expected whole numbers in a row")
    return values.astype(np.int64)


def _read_shards(
    source: str | Path | Sequence[str | Path], kept: int | Sequence[int], on_skip: OnSkip | None
) -> VideoVectors:
    from gmsa_models.data.tfrecord.video_level import read_video_level

    ids, labels = [], []
    columns: dict[str, list[np.ndarray]] = {}
    dims: dict[str, int] = {}
    for video in read_video_level(source, on_error="fail" if on_skip is None else "skip", on_skip=on_skip):
        widths = {modality: len(vector) for modality, vector in sorted(video.features.items())}
        dims = dims or widths
        if widths != dims:
            error = UnreadableError(
                f"{source}: {brief(video.id)} has widths {widths}; the first video has {dims}",
                kind="vectors unlike the first",
            )
            if on_skip is None:
                raise error
            on_skip(error)
            continue
        ids.append(video.id)
        labels.append(tuple(video.labels))
        for modality, vector in video.features.items():
            columns.setdefault(modality, []).append(quantize(vector))
    if not ids:
        raise ContentError(f"{source}: no video-level record found")
    features = {modality: np.stack(vectors) for modality, vectors in columns.items()}
    return video_vectors(ids, features, labels, kept, name="shards")


def _build(
    ids: np.ndarray,
    features: Mapping[str, np.ndarray],
    labels: np.ndarray,
    counts: np.ndarray,
    kept: int | Sequence[int],
    name: str,
    dataset: str = "",
) -> VideoVectors:
    for key, values in features.items():
        if values.ndim != 2 or (values.dtype != np.uint8 and values.dtype.kind != "f"):
            raise ContentError(
                f"{key} vectors are {values.dtype} of shape {values.shape}; expected (videos, dim), uint8 or floats"
            )
        if values.dtype != np.uint8 and not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise ContentError(f"the {key} vector in row {row} has a value that is not finite")
    lengths = {"ids": len(ids), "labels": len(counts), **{key: len(values) for key, values in features.items()}}
    if len(set(lengths.values())) > 1:
        raise ContentError(f"one row a video is expected everywhere, got {lengths}")
    unique, times = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        raise ContentError(
            f"id {brief(str(unique[times.argmax()]))} occurs {times.max()} times; one row a video is expected"
        )
    kept = most_frequent_labels(labels, kept) if isinstance(kept, int) else tuple(kept)
    keep = np.isin(labels, kept)
    owner = np.repeat(np.arange(len(ids)), counts)
    quantised = {key: values if values.dtype == np.uint8 else quantize(values) for key, values in features.items()}
    return VideoVectors(
        ids=ids,
        features=quantised,
        labels=labels[keep],
        offsets=np.concatenate([[0], np.cumsum(np.bincount(owner[keep], minlength=len(ids)))]),
        kept=kept,
        between_variance={key: _variance(values) for key, values in quantised.items()},
        name=name,
        dataset=dataset,
    )


def _variance(values: np.ndarray) -> np.ndarray:
    """Variance of each column in dequantised units, from at most `VARIANCE_ROWS` rows spread over all."""
    step = -(-len(values) // VARIANCE_ROWS)
    return dequantize(values[::step]).var(axis=0, dtype=np.float64).astype(np.float32)
