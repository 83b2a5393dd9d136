"""One record's bytes <-> one Clip: YouTube-8M frame level, its segment ratings, and AudioSet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gmsa_models.data.clip import LARGEST_LABEL, Clip, ClipError, Segment
from gmsa_models.data.errors import brief, is_plain
from gmsa_models.data.spaces import AUDIOSET, YOUTUBE_8M, published_spaces
from gmsa_models.data.tfrecord.extension import EXTENSION, decode_extension, encode_extension
from gmsa_models.data.tfrecord.frames import pack_frames, unpack_frames
from gmsa_models.data.tfrecord.schema import DecodeError, Features, PackedSequenceExample, parse
from gmsa_models.data.tfrecord.wire import MOST_VALUES, check_size, usual_parts
from gmsa_models.errors import ContentError

__all__ = ["decode_clip", "encode_clip", "read_context", "read_id", "read_labels", "values_of"]

# Frame list in a record -> modality. Any other list is a modality under its own name.
MODALITIES = {"rgb": "visual", "audio": "audio", "audio_embedding": "audio"}
_LISTS = {"visual": "rgb", "audio": "audio"}
# Frame list -> the data set whose records have it.
_DATASETS = {"rgb": YOUTUBE_8M, "audio": YOUTUBE_8M, "audio_embedding": AUDIOSET}
LONGEST_ID = 1000  # characters; YouTube-8M has 4, YouTube 11
_RATINGS = ("segment_labels", "segment_start_times", "segment_end_times", "segment_scores")
RATED_SECONDS = 5.0  # a rated segment of YouTube-8M where the record does not say when it ends

Context = dict[str, Any]


def decode_clip(data: bytes, where: str = "") -> Clip:
    """Read one SequenceExample.

    A record that does not say whose labels it has (`extension.py`) is of YouTube-8M if all its lists are `rgb` and
    `audio`, and of AudioSet if its only list is `audio_embedding`, quantised and as wide as these are; else it is not
    known whose they are.

    Args:
        data: the record's data, checksum aside.
        where: the file, for the clip's `source`, which becomes `where#id`.

    Raises:
        ContentError: not a SequenceExample, a feature missing or of the wrong kind, frames that do not fit together.
    """
    check_size(data)
    features_of_context, packed = _parse(data)
    context = read_context(features_of_context)
    identity = read_id(context)
    if not packed:
        raise ContentError(f"{brief(identity)} has no frame lists" + _video_level_hint(context), kind="frames")
    try:
        features = _read_features(packed)
        metadata = {"segments": _read_ratings(context)} | _read_times(context)
        if not {"dataset", "spaces"} <= metadata.keys():
            metadata = _meaning(packed, features) | metadata
        return Clip(
            id=identity,
            features=features,
            labels=read_labels(context),
            source=f"{where}#{identity}" if where else "",
            **metadata,
        )
    except ClipError as error:
        raise ContentError(str(error), kind="frames") from None


def _parse(data: bytes) -> tuple[Any, dict[str, Any]]:
    """The context, as a Features message, and name -> serialised frame list."""
    parts = usual_parts(data)
    try:
        if parts is not None:
            return parse(Features, parts[0]), parts[1]
        message: Any = parse(PackedSequenceExample, data)
    except DecodeError as error:
        raise ContentError(f"is not a SequenceExample: {error}", kind="not an example") from None
    return message.context, dict(message.feature_lists.feature_list)


def encode_clip(clip: Clip) -> bytes:
    """Write one clip as a YouTube-8M SequenceExample.

    The lists are `rgb` (visual), `audio` and, for other modalities, their own names. Events and ratings become the
    `segment_*` features of the segment-rated data set, one entry a label, in whole seconds. What those cannot say goes
    into one more context feature, see `extension.py`; a reader that does not know it loses nothing else.

    Raises:
        ContentError: a feature that float32 cannot hold, a modality named as a record's list of another modality, or an
            id that cannot be read back.
    """
    _check_id("id", clip.id)
    message = PackedSequenceExample()
    feature = message.context.feature
    feature["id"].bytes_list.value.append(clip.id.encode())
    feature["labels"].int64_list.value.extend(clip.labels)
    _write_ratings(feature, clip)
    lossless = _read_ratings(read_context(message.context)) == clip.segments
    meaning = _meaning([_LISTS.get(modality, modality) for modality in clip.features], clip.features)
    extension = encode_extension(clip, lossless, meaning)
    if extension is not None:
        feature[EXTENSION].bytes_list.value.append(extension)
    for modality, values in clip.features.items():
        if MODALITIES.get(modality, modality) != modality:
            raise ContentError(
                f"clip {clip.id!r}: modality {modality!r} would be read back as {MODALITIES[modality]!r}"
            )
        message.feature_lists.feature_list[_LISTS.get(modality, modality)] = pack_frames(values)
    return message.SerializeToString(deterministic=True)


def read_context(features: Any) -> Context:
    """A Features message as a dict of lists: bytes, float or int."""
    context = {}
    for name, feature in features.feature.items():
        kind = feature.WhichOneof("kind")
        context[name] = [] if kind is None else getattr(feature, kind).value
    return context


def read_id(context: Context) -> str:
    """The `id` (YouTube-8M) or `video_id` (AudioSet) of a record."""
    for name in ("id", "video_id"):
        if name in context:
            return _check_id(name, _text(name, _one(context, name, bytes)))
    names = brief(sorted(context)) if context else "nothing"
    raise ContentError(f"has neither 'id' nor 'video_id' in its context, which has {names}", kind="context feature")


def _one(context: Context, name: str, kind: type) -> Any:
    values = values_of(context, name, kind)
    if len(values) != 1:
        raise ContentError(f"context feature {name!r} has {len(values)} values; expected one", kind="context feature")
    return values[0]


def values_of(context: Context, name: str, kind: type) -> list[Any]:
    """All values of a feature, none where it is absent; a ContentError where they are of another kind."""
    entries = context.get(name, ())
    if len(entries) > MOST_VALUES:
        raise ContentError(
            f"context feature {name!r} has {len(entries)} values; at most {MOST_VALUES} are read",
            kind="context feature",
        )
    values = list(entries)
    if values and not isinstance(values[0], kind):  # a protobuf list has one type
        raise ContentError(
            f"context feature {name!r} holds {type(values[0]).__name__}; expected {kind.__name__}",
            kind="context feature",
        )
    return values


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ContentError(
            f"context feature {name!r} is {value[:40]!r}; expected UTF-8 text", kind="context feature"
        ) from None


def _check_id(name: str, identity: str) -> str:
    if not 0 < len(identity) <= LONGEST_ID or not is_plain(identity):
        raise ContentError(
            f"context feature {name!r} is {brief(identity)}; expected 1 to {LONGEST_ID} characters, none a control one",
            kind="context feature",
        )
    return identity


def read_labels(context: Context) -> tuple[int, ...]:
    """The `labels` of a record, none where it has none."""
    return _checked_labels("labels", values_of(context, "labels", int))


def _checked_labels(name: str, labels: list[int]) -> tuple[int, ...]:
    if unexpected := [label for label in labels if not 0 <= label <= LARGEST_LABEL]:
        raise ContentError(
            f"context feature {name!r} has {unexpected[0]}; a label is 0 or more, at most {LARGEST_LABEL}",
            kind="context feature",
        )
    return tuple(labels)


def _read_features(packed: Mapping[str, bytes | memoryview]) -> dict[str, np.ndarray]:
    features: dict[str, np.ndarray] = {}
    # "rgb", the paper's first modality, comes first; a map has no order of its own.
    for name in sorted(packed, key=lambda name: (name != "rgb", name)):
        modality = MODALITIES.get(name, name)
        if modality in features:
            raise ContentError(
                f"two lists hold modality {brief(modality)}, one of them {brief(name)}; expected one", kind="frames"
            )
        features[modality] = unpack_frames(name, packed[name])
    return features


def _meaning(lists: Iterable[str], features: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """`dataset` and `spaces` that a record's form tells: which lists it has, and how wide and how stored."""
    datasets = {_DATASETS.get(name, "") for name in lists}
    dataset = datasets.pop() if len(datasets) == 1 else ""
    widths = {name: values.shape[1] for name, values in features.items() if values.dtype == np.uint8}
    spaces = published_spaces(dataset, widths)
    if len(spaces) < len(features):
        return {"dataset": "", "spaces": {}}
    return {"dataset": dataset, "spaces": spaces}


def _read_times(context: Context) -> dict[str, Any]:
    """What the extension says, or else where in its source an AudioSet clip starts."""
    if EXTENSION in context:
        return decode_extension(_one(context, EXTENSION, bytes))
    times: dict[str, Any] = {}
    if "start_time_seconds" in context:
        start = float(_one(context, "start_time_seconds", float))
        if not np.isfinite(start):
            raise ContentError(
                f"context feature 'start_time_seconds' is {start}; expected seconds", kind="context feature"
            )
        times["start_seconds"] = start
    return times


def _read_ratings(context: Context) -> tuple[Segment, ...]:
    if not any(name in context for name in _RATINGS):
        return ()
    labels = _checked_labels("segment_labels", values_of(context, "segment_labels", int))
    starts = values_of(context, "segment_start_times", int)
    ends = values_of(context, "segment_end_times", int) or [start + RATED_SECONDS for start in starts]
    scores = values_of(context, "segment_scores", float)
    if not np.isfinite(scores).all():
        raise ContentError(
            f"context feature 'segment_scores' is {brief(scores)}; expected finite numbers", kind="context feature"
        )
    sizes = {"segment_labels": len(labels), "segment_start_times": len(starts), "segment_end_times": len(ends)}
    sizes |= {"segment_scores": len(scores)} if scores else {}
    if len(set(sizes.values())) > 1:
        raise ContentError(f"segment features differ in length: {sizes}", kind="context feature")
    kept = [(score,) for score in scores] if scores else [()] * len(labels)
    return tuple(
        Segment(float(start), float(end), (label,), score, kind="rated")
        for start, end, label, score in zip(starts, ends, labels, kept, strict=True)
    )


def _write_ratings(feature: Any, clip: Clip) -> None:
    entries = [
        (
            int(np.floor(segment.start)),
            int(np.ceil(segment.end)),
            label,
            segment.scores[number] if segment.scores else 1.0,
        )
        for segment in clip.segments
        if segment.kind != "background"
        for number, label in enumerate(segment.labels)
    ]
    if not entries:
        return
    starts, ends, labels, scores = zip(*entries, strict=True)
    feature["segment_start_times"].int64_list.value.extend(starts)
    feature["segment_end_times"].int64_list.value.extend(ends)
    feature["segment_labels"].int64_list.value.extend(labels)
    feature["segment_scores"].float_list.value.extend(scores)


def _video_level_hint(context: Context) -> str:
    if any(name.startswith("mean_") for name in context):
        return "; it is a video-level record: use read_video_level"
    return "; expected 'rgb' and 'audio' (YouTube-8M) or 'audio_embedding' (AudioSet)"
