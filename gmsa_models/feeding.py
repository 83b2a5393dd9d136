"""Feeding: clips -> padded mini-batches, in an order that a killed run can pick up again."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor
from typing_extensions import TypeIs

from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.batch import Batch, ShotFrames, shots_of
from gmsa_models.data.clip import QUANTIZED_MAXIMUM, QUANTIZED_MINIMUM, Clip, ClipError
from gmsa_models.data.errors import OnSkip, UnfitClipError, brief
from gmsa_models.data.shuffle import count_clips, shuffled_clips
from gmsa_models.data.sources import Source
from gmsa_models.data.spaces import FeatureSpace
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import Neighbourhood, Shots
from gmsa_models.segments import check_shots

__all__ = [
    "ClipShare",
    "ClipSource",
    "Collation",
    "Inputs",
    "RawBatch",
    "TrainingClips",
    "check_fits",
    "fitting",
    "in_hand",
    "planned_batches",
    "prefetched",
    "widen",
]

Item = TypeVar("Item")
ClipStream = Callable[[int, int], Iterable[Clip]]  # (epoch, clips to skip) -> the rest of that epoch
ClipSource = Source | Sequence[Clip]


LARGEST_VALUE = 1e6  # of a feature: products and squares of such numbers still fit float32; YouTube-8M's end at 2


@dataclass(frozen=True)
class ClipShare:
    """A share of some clips, drawn at random; of one seed a smaller share lies within a larger one.

    Attributes:
        share: of the clips, in (0, 1]; at least one clip.
        seed: of the draw.

    Raises:
        ArgumentError: no share.
    """

    share: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or self.seed < 0:
            raise ArgumentError(
                f"a share of {self.share!r} with the seed {self.seed!r}; expected more than 0 and at most 1, and a "
                "seed of at least 0"
            )

    def places(self, count: int) -> Integer[np.ndarray, " places"]:
        """Places of the clips among `count`, in rising order."""
        order = np.random.default_rng((self.seed, count)).permutation(count)
        return np.sort(order[: max(1, round(self.share * count))])


@dataclass(frozen=True)
class TrainingClips:
    """One process's share of the training clips, in an order that the seed and the epoch decide.

    Attributes:
        source: files of clips or globs; or clips in hand: any sequence of them, which may make each when it is asked.
        seed: of the order.
        rank, world_size: which share, of how many. Every share has the same size; what remains is left out.
        inputs: what a clip must have; None: not checked here.
        on_skip: takes the error of each record or clip that cannot be used, in whose place another is read; None: the
            error is raised. Clips in hand are not checked.
        part: of the clips, the others are not used; None: all are.
    """

    source: ClipSource
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    inputs: Inputs | None = None
    on_skip: OnSkip | None = None
    part: ClipShare | None = None

    def __len__(self) -> int:
        """Clips of all shares together."""
        return self._count() if self.part is None else len(self.part.places(self._count()))

    def _count(self) -> int:
        return len(self.source) if in_hand(self.source) else count_clips(self.source, self.on_skip)

    def spaces(self) -> dict[str, FeatureSpace]:
        """Modality -> the space of its features, as the first clip of the share says, where it does."""
        first = next(iter(self(epoch=0)), None)
        return {} if first is None else dict(first.spaces)

    def __call__(self, epoch: int, skip: int = 0) -> Iterator[Clip]:
        """The share's clips of an epoch, without the first `skip`."""
        part = None if self.part is None else self.part.places(self._count())
        if not in_hand(self.source):
            return shuffled_clips(
                self.source, self.seed, epoch, self.rank, self.world_size, skip, on_skip=self.on_skip, part=part,
                check=lambda clip: None if self.inputs is None else check_fits(clip, self.inputs),
            )  # fmt: skip
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self))
        order = order if part is None else part[order]
        share = order[: len(order) // self.world_size * self.world_size][self.rank :: self.world_size]
        return (self.source[int(index)] for index in share[skip:])


@dataclass(frozen=True)
class Inputs:
    """What a clip must have for a model.

    Attributes:
        modalities: name -> width of its frames.
        spaces: modality -> the space of the features that the model was trained on, where that is known.
        vocabulary: classes that the clip's labels are held against; None: its labels do not matter.
        shots: whether its shots must be known.
    """

    modalities: Mapping[str, int]
    spaces: Mapping[str, FeatureSpace] = field(default_factory=dict)
    vocabulary: Vocabulary | None = None
    shots: bool = False

    @classmethod
    def of(cls, model: GMSAClassifier, labels: bool = True, chosen: Neighbourhood | None = None) -> Inputs:
        """What a model takes; with `labels`, clips whose labels are of another data set do not fit.

        Args:
            model: any.
            labels: see above.
            chosen: a neighbourhood by which its clips are analysed.
        """
        shots = any(isinstance(each, Shots) for each in (model.config.neighbourhood, chosen))
        return cls(model.config.modalities, model.spaces, model.vocabulary if labels else None, shots)


def check_fits(clip: Clip, inputs: Inputs) -> None:
    """Check that a clip has every modality of a model, as wide and of the same feature space as the model takes it.

    Absurdly large values do not fit either, nor labels of another data set where they are held against the model's, nor
    clips without shots where these are needed.

    Raises:
        UnfitClipError: it has not; an UnfitClipError or UnfitClipError where that is why.
    """
    where = brief(clip.source or clip.id)
    for name, width in inputs.modalities.items():
        if name not in clip.features:
            raise UnfitClipError(
                f"{where}: the clip has no modality {name!r}, which the model takes; it has "
                f"{brief(sorted(clip.features))}; choose a model of those"
            )
        values, expected, space = clip.features[name], inputs.spaces.get(name), clip.spaces.get(name)
        if expected is not None and space is not None and not expected.is_same(space):
            raise UnfitClipError(
                f"{where}: {name!r} lies in the feature space {space}, the model takes {expected}: their numbers mean "
                "different things; choose a model trained on those features, or make the clip's features anew",
                kind="features of another space",
            )
        if values.shape[1] != width:
            raise UnfitClipError(
                f"{where}: {name!r} is {values.shape[1]} wide; the model takes {width}; choose a model of that width"
            )
        if values.dtype != np.uint8 and (largest := max(float(values.max()), -float(values.min()))) > LARGEST_VALUE:
            raise UnfitClipError(
                f"{where}: {name!r} has values as large as {largest:g}; at most {LARGEST_VALUE:g} are computed with: "
                "scale the features"
            )
    if inputs.shots:
        check_shots(clip)
    if inputs.vocabulary is not None:
        clip.positions(inputs.vocabulary)


def fitting(clips: Iterable[Clip], inputs: Inputs, on_skip: OnSkip | None = None) -> Iterator[Clip]:
    """The clips that a model can take.

    Args:
        clips: in any number.
        inputs: what the model takes.
        on_skip: called with the error of each other clip, instead of raising it.

    Raises:
        UnfitClipError: a clip that does not fit, unless `on_skip` takes it.
    """
    for clip in clips:
        try:
            check_fits(clip, inputs)
        except UnfitClipError as error:
            if on_skip is None:
                raise
            on_skip(error)
        else:
            yield clip


def in_hand(source: ClipSource) -> TypeIs[Sequence[Clip]]:
    """True for a sequence of clips, False for what names files."""
    if isinstance(source, str | Path):
        return False
    return len(source) > 0 and isinstance(source[0], Clip)


@dataclass(frozen=True)
class Collation:
    """How clips become tensors.

    Attributes:
        modalities: which, in the model's order.
        vocabulary: the classes of the label columns; labels outside it are dropped. None: there are no such columns,
            and no label is read.
        max_frames: longer clips are cut to their first frames.
    """

    modalities: tuple[str, ...]
    vocabulary: Vocabulary | None
    max_frames: int

    def __call__(self, clips: Sequence[Clip]) -> RawBatch:
        """Pad and stack clips, leaving quantised features as uint8 so that they are widened once, on the device.

        Raises:
            UnfitClipError: a clip's labels are of another data set than the vocabulary.
        """
        clips = [clip.cut(self.max_frames) for clip in clips]
        lengths = torch.tensor([clip.frames for clip in clips])
        classes = Vocabulary("", (), ()) if self.vocabulary is None else self.vocabulary
        labels = torch.zeros(len(clips), len(classes), dtype=torch.float32)
        for row, clip in enumerate(clips if len(classes) else ()):
            labels[row, list(clip.positions(classes))] = 1.0
        return RawBatch(
            features={name: _stack(clips, name, int(lengths.max())) for name in self.modalities},
            valid=torch.arange(int(lengths.max())) < lengths[:, None],
            labels=labels,
            ids=tuple(clip.id for clip in clips),
            shots=shots_of(clips),
        )


@dataclass(frozen=True)
class RawBatch:
    """A padded mini-batch as it was stored: features are uint8 (quantised) or float32.

    Attributes:
        features: modality -> (batch, frames, dim).
        valid: True where a frame is real.
        labels: 0 and 1.
        ids: one a clip.
        shots: as of `Batch`.
    """

    features: dict[str, Shaped[Tensor, "batch frames _"]]
    valid: Bool[Tensor, "batch frames"]
    labels: Float[Tensor, "batch classes"]
    ids: tuple[str, ...] = ()
    shots: ShotFrames = ()

    def __len__(self) -> int:
        return self.valid.shape[0]

    def batch(self, device: torch.device | str | None = None) -> Batch:
        """The float batch on a device; equals `Batch.from_clips` of the same clips."""
        valid = self.valid.to(device, non_blocking=True)
        features = {name: widen(values.to(device), valid) for name, values in self.features.items()}
        return Batch(features, valid, self.labels.to(device, non_blocking=True), self.ids, shots=self.shots)


def widen(
    values: Shaped[Tensor, "batch frames dim"], valid: Bool[Tensor, "batch frames"]
) -> Float[Tensor, "batch frames dim"]:
    """Dequantise uint8 features as `clip.dequantize` does, with zeros where a frame is padding; floats pass."""
    if values.dtype != torch.uint8:
        return values
    span = QUANTIZED_MAXIMUM - QUANTIZED_MINIMUM
    floats = values.float().mul_(float(np.float32(span / 255.0)))
    floats.add_(float(np.float32(span / 512.0 + QUANTIZED_MINIMUM)))
    return floats if bool(valid.all()) else floats.mul_(valid[..., None])


def planned_batches(
    stream: ClipStream, *, batch_size: int, window: int, seed: int, epoch: int, start: int = 0
) -> Iterator[list[Clip]]:
    """One epoch's mini-batches, from batch `start` on.

    Clips of like length share a batch, so that little is padding: `window` batches' worth of clips are sorted by
    length (ties keep their order), cut into batches, and the batches shuffled. The plan depends on the seed, the
    epoch and the window's number only, so it can be entered anywhere. Clips that do not fill a batch are left out;
    another epoch's order leaves out others. Streams of equal length have equally many batches, so that processes
    that share an epoch stay in step.
    """
    first, inside = divmod(start, window)
    clips = iter(stream(epoch, first * window * batch_size))
    for number in count(first):
        alike = list(islice(clips, window * batch_size))
        whole = len(alike) // batch_size
        alike = sorted(alike[: whole * batch_size], key=lambda clip: clip.frames)
        order = np.random.default_rng((seed, epoch, number)).permutation(whole)[inside:]
        yield from (alike[position * batch_size : (position + 1) * batch_size] for position in order)
        if whole < window:
            return
        inside = 0


def prefetched(items: Iterable[Item], depth: int = 4) -> Iterator[Item]:
    """The same items, made ahead of time by a background thread; its errors are raised here."""
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=depth)
    stopped, end = threading.Event(), object()

    def put(item: tuple[Any, BaseException | None]) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((end, None))
        except BaseException as error:
            put((end, error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


def _stack(clips: Sequence[Clip], modality: str, frames: int) -> Shaped[Tensor, "batch frames _"]:
    """Rows padded with zeros: uint8 where every clip is quantised, else float32."""
    quantized = all(clip.features[modality].dtype == np.uint8 for clip in clips if modality in clip.features)
    rows = [
        clip.features[modality] if quantized and modality in clip.features else clip.floats(modality) for clip in clips
    ]
    width = rows[0].shape[1]
    stacked = np.zeros((len(clips), frames, width), np.uint8 if quantized else np.float32)
    for place, row, clip in zip(stacked, rows, clips, strict=True):
        if row.shape[1] != width:
            raise ClipError(f"clip {clip.id!r}: {modality!r} is {row.shape[1]} wide; clip {clips[0].id!r} has {width}")
        place[: len(row)] = row
    return torch.from_numpy(stacked)
