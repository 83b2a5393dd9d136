"""From a video file to the input of a transformers model: which seconds, which pictures or how much sound, and when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from analysis.capture.layout import TokenLayout
from analysis.capture.recognised import RECOGNISED
from analysis.pretrained.preparation import PicturePreparation, SoundPreparation, read_preparation
from analysis.pretrained.windows import Layouts, joined, over_windows, window_mask
from gmsa_models.data.errors import ClipFileError
from gmsa_models.data.video.decode import HIGHEST_RATE, SAMPLE_RATE, VideoFile
from gmsa_models.errors import ArgumentError, ConfigError

__all__ = ["LENGTHS", "PreparedVideo", "Span", "prepare_video"]

PICTURES = 16  # of a video, by default, for models of single pictures
SOUND_SECONDS = 30.0  # of a video, by default, for models of sound
STEP_SECONDS = 0.1  # the least that a time step of sound lasts: shorter tokens are joined
WAVE_SECONDS = 10.0  # a window of models that take any number of samples
MOST_STEPS = 2000  # a map has their square
# Attributes of a configuration that say how many pictures a video model takes; none: a model of single pictures.
LENGTHS = {"videomae": "num_frames", "vivit": "num_frames", "timesformer": "num_frames", "vjepa2": "frames_per_clip"}
FIXED = ("videomae", "vivit")  # of these, models whose positions are of that number
TUBELETS = {"videomae": "tubelet_size", "vivit": "tubelet_size", "vjepa2": "tubelet_size"}

Span = tuple[float, float]


@dataclass(frozen=True, eq=False)
class PreparedVideo:
    """A part of a video as a model takes it.

    Attributes:
        values: the input; windows one after another.
        steps: the time step that each number of `values` belongs to; of its shape, or broadcast to it.
        layouts: of the model's calls on that batch.
        mask: see `window_mask`.
        span: seconds of the video, first and last, from the first picture of the file.
        frame_seconds: of a time step.
        times: second at which each picture taken came on the screen; empty of sound.
        sampling: the rule by which pictures or sound were taken, in words.
    """

    values: Float[Tensor, "windows ..."]
    steps: Int[Tensor, "*numbers"]
    layouts: Layouts
    mask: Bool[Tensor, "query key"] | None
    span: Span
    frame_seconds: float
    times: tuple[float, ...]
    sampling: str


def _recognised_type(model: nn.Module) -> tuple[str, Any]:
    """Type and configuration of the first model inside a module whose layout is recognised.

    Raises:
        ConfigError: none is; lists those that are.
    """
    for each in model.modules():
        config = getattr(each, "config", None)
        kind = getattr(config, "model_type", None)
        if kind in RECOGNISED:
            return kind, config
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    raise ConfigError(
        f"what a model of type {kind!r} is given of a video is not known; known: {', '.join(RECOGNISED)}. In Python "
        "inspect_module(model, inputs, layout=...) takes any model"
    )


def prepare_video(
    path: str | Path, folder: Path, model: nn.Module, frames: int | None = None, span: Span | None = None
) -> PreparedVideo:
    """Take of a video what a model takes.

    Pictures: the span is divided into as many equal parts as there are pictures, and of each part the picture that is
    on the screen at its start is taken. Models of several pictures get them in windows, one after another. Sound: the
    span is divided into windows as long as the model takes, silence fills the last.

    Args:
        path: of the video.
        folder: of the model, where the configuration of its processor lies.
        model: of transformers, of a type whose layout is recognised.
        frames: pictures, a multiple of those that the model takes at once; default: as many as it takes at once, 16
            for models of single pictures.
        span: seconds of the video, first and last; default: all of it, for models of sound the first 30 s.

    Raises:
        ClipFileError: not a video, damaged, or without sound where the model hears.
        ArgumentError: a span or number of pictures that there is not.
        ConfigError: a model or processor that is not known.
    """
    kind, config = _recognised_type(model)
    preparation, video = read_preparation(folder, kind), VideoFile(path)
    if isinstance(preparation, SoundPreparation):
        if frames is not None:
            raise ArgumentError(f"frames is {frames}; a {kind} model hears the sound and takes no pictures")
        return _prepared_sound(video, kind, config, preparation, _span(video, span, SOUND_SECONDS))
    return _seen(video, kind, config, preparation, frames, _span(video, span, math.inf))


def _span(video: VideoFile, span: Span | None, longest: float) -> Span:
    duration = video.duration
    if span is None:
        return 0.0, min(duration, longest)
    first, last = span
    if not 0 <= first < last or first >= duration:
        raise ArgumentError(f"{video.path}: the span is {first:g} to {last:g} s; the video has 0 to {duration:g} s")
    return first, min(last, duration)


def _seen(
    video: VideoFile, kind: str, config: Any, preparation: PicturePreparation, frames: int | None, span: Span
) -> PreparedVideo:
    together = _pictures_at_once(kind, config, preparation)
    count = frames or (together if kind in LENGTHS else PICTURES)
    if count < 1 or count % together:
        raise ArgumentError(f"frames is {count}; this {kind} model takes {together} at once: give a multiple of it")
    rate = count / (span[1] - span[0])
    if rate > HIGHEST_RATE:
        raise ArgumentError(_too_short(video, span, f"less than 1 / {HIGHEST_RATE:g} s for each of {count} pictures"))
    picked = list(islice(video.frames(rate, span[0]), count))
    if len(picked) < count:
        reason = f"{len(picked)} of {count} pictures could be decoded; it may be cut short: fetch it again"
        raise ClipFileError(video.path, reason, kind="video")
    if count > 1 and len({each.shown for each in picked}) == 1 and span[1] - span[0] < video.duration:
        raise ArgumentError(_too_short(video, span, f"the same picture {count} times"))
    pixels = preparation([each.pixels for each in picked])
    _check_size(preparation, config, pixels)
    windows = count // together
    values = pixels.unflatten(0, (windows, together)) if kind in LENGTHS else pixels
    tubelet = _tubelet(config, kind)
    size = together // tubelet
    _check_steps(windows * size)
    within = (torch.arange(together) // tubelet).clamp(max=size - 1)
    steps = (torch.arange(windows)[:, None] * size + within).reshape(*values.shape[:-3], 1, 1, 1)
    layouts = RECOGNISED[kind](config, values[:1], {})
    sampling = f"{count} pictures, evenly over {span[0]:g} to {span[1]:g} s"
    if windows > 1 and kind in LENGTHS:
        sampling += f", in {windows} windows of {together}"
    return PreparedVideo(
        values, steps, over_windows(layouts, windows), window_mask(windows, size), span, tubelet / rate,
        tuple(each.shown for each in picked), sampling,
    )  # fmt: skip


def _pictures_at_once(kind: str, config: Any, preparation: PicturePreparation) -> int:
    """How many pictures a model takes at once.

    Raises:
        ConfigError: the processor gives another number, and the model's positions are those of its own.
    """
    if kind not in LENGTHS:
        return 1
    own = int(getattr(config, LENGTHS[kind]))
    if kind in FIXED and preparation.frames not in (None, own):
        raise ConfigError(
            f"{preparation.path} has num_frames {preparation.frames}; the model's config.json expects {own}: the two "
            "do not belong together"
        )
    return preparation.frames or own


def _too_short(video: VideoFile, span: Span, what: str) -> str:
    return f"{video.path}: the span of {span[0]:g} to {span[1]:g} s holds {what}; give a longer one"


def _tubelet(config: Any, kind: str) -> int:
    length = getattr(config, TUBELETS[kind]) if kind in TUBELETS else 1
    return int(length if isinstance(length, int) else length[0])


def _check_size(preparation: PicturePreparation, config: Any, pixels: Tensor) -> None:
    wanted = getattr(config, "image_size", getattr(config, "crop_size", None))
    sides = (wanted, wanted) if isinstance(wanted, int) else tuple(wanted or pixels.shape[-2:])
    if tuple(pixels.shape[-2:]) != sides:
        raise ConfigError(
            f"{preparation.path} prepares pictures of {pixels.shape[-2]} x {pixels.shape[-1]} pixels; the model's "
            f"config.json expects {sides[0]} x {sides[1]}: the two do not belong together"
        )


def _check_steps(count: int) -> None:
    if count > MOST_STEPS:
        raise ArgumentError(f"the clip has {count} time steps; at most {MOST_STEPS} are shown: give a shorter span")


@dataclass(frozen=True)
class _AudioInput:
    """How a model hears one window.

    Attributes:
        samples: of sound that a window is made of.
        tokens: time steps before short ones are joined.
        token_seconds: of one.
        axis: of the input, along which time runs.
        stride: positions of the input a token.
    """

    samples: int
    tokens: int
    token_seconds: float
    axis: int
    stride: int


def _spectrogram(config: Any, extractor: Any) -> _AudioInput:
    """Kaldi's mel filter banks: a frame each 10 ms, of 25 ms."""
    hop, length = SAMPLE_RATE // 100, SAMPLE_RATE // 40
    tokens = (config.max_length - config.patch_size) // config.time_stride + 1
    samples = (config.max_length - 1) * hop + length
    return _AudioInput(samples, tokens, config.time_stride * hop / SAMPLE_RATE, 1, config.time_stride)


def _whisper(config: Any, extractor: Any) -> _AudioInput:
    seconds = 2 * extractor.hop_length / SAMPLE_RATE
    return _AudioInput(extractor.n_samples, (extractor.nb_max_frames - 1) // 2 + 1, seconds, 2, 2)


def _wave(config: Any, extractor: Any) -> _AudioInput:
    stride, reach = math.prod(config.conv_stride), 1
    for kernel, step in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        reach = (reach - 1) * step + kernel
    tokens = max(1, round(WAVE_SECONDS * SAMPLE_RATE / stride))
    return _AudioInput((tokens - 1) * stride + reach, tokens, stride / SAMPLE_RATE, 1, stride)


AUDIO_INPUTS = {"audio-spectrogram-transformer": _spectrogram, "whisper": _whisper, "wav2vec2": _wave}


def _prepared_sound(
    video: VideoFile, kind: str, config: Any, preparation: SoundPreparation, span: Span
) -> PreparedVideo:
    audio_input = AUDIO_INPUTS[kind](config, preparation.extractor)
    together = min(max(1, round(STEP_SECONDS / audio_input.token_seconds)), audio_input.tokens)
    size = audio_input.tokens // together
    seconds = together * audio_input.token_seconds
    if span[1] - span[0] < seconds and span[1] < video.duration:
        raise ArgumentError(_too_short(video, span, f"less sound than a time step of {seconds:g} s"))
    windows = max(1, math.ceil((span[1] - span[0]) / (size * seconds) - 1e-6))
    _check_steps(windows * size)
    starts = [round(number * size * seconds * SAMPLE_RATE) for number in range(windows)]
    sound = _sound(video, span, starts[-1] + audio_input.samples)
    values = preparation([sound[start : start + audio_input.samples] for start in starts])
    position = torch.arange(values.shape[audio_input.axis]) // (audio_input.stride * together)
    shape = [1] * values.ndim
    shape[audio_input.axis] = -1
    first = torch.arange(windows).reshape(-1, *[1] * (values.ndim - 1)) * size
    layouts = {
        pattern: joined(layout, together) if together > 1 and isinstance(layout, TokenLayout) else layout
        for pattern, layout in RECOGNISED[kind](config, values[:1], {}).items()
    }
    sampling = f"sound from {span[0]:g} to {span[1]:g} s, in {windows} windows of {size * seconds:g} s"
    return PreparedVideo(
        values, first + position.clamp(max=size - 1).reshape(shape), over_windows(layouts, windows),
        window_mask(windows, size), span, seconds, (), sampling,
    )  # fmt: skip


def _sound(video: VideoFile, span: Span, samples: int) -> Float[np.ndarray, " samples"]:
    """Sound of a span, silence behind it, as many samples as asked for."""
    blocks: Sequence[np.ndarray] = list(video.sound(video.start + span[0], math.ceil(span[1] - span[0])))
    waveform = np.concatenate(blocks)[: round((span[1] - span[0]) * SAMPLE_RATE)][:samples]
    return np.pad(waveform, (0, samples - len(waveform)))
