"""MontageRecipe: what montages are made of, and where their events and backgrounds lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from gmsa_models.data.errors import brief
from gmsa_models.errors import ConfigError

__all__ = [
    "LEAST_WITHIN",
    "MIXES",
    "STATIC_FLICKER",
    "VARIATION",
    "FrameVariation",
    "MontageRecipe",
    "Span",
    "draw_frames",
    "draw_layout",
]

Span = tuple[int, int, str]  # first frame, frame after the last, "event" or "background"


@dataclass(frozen=True)
class FrameVariation:
    """How single frames of one modality differ from their video's mean.

    A frame is its video's vector + an offset of its shot + noise of its own. The variance of offset and noise together
    completes the between-video variance of each feature to `deviation` squared, which YouTube-8M's whitening makes
    nearly the same in every feature.

    Attributes:
        deviation: standard deviation of one feature over all frames of all videos, in dequantised units.
        noise: share of the within-video variance that is frame noise; the rest is the shot's offset.
        static: share of shots that stand still: the noise is drawn once for the whole shot.
    """

    deviation: float
    noise: float
    static: float


# Fitted to the one real frame-level video by `python -m benchmarks.montage_realism --fit`, rounded.
VARIATION = {
    "visual": FrameVariation(deviation=1.05, noise=0.75, static=0.28),
    "audio": FrameVariation(deviation=0.99, noise=0.8, static=0.3),
}
# A static shot still flickers a little: this part of a moving shot's noise (about one uint8 step).
STATIC_FLICKER = 0.02
# The within-video variance of a feature is at least this part of `deviation` squared.
LEAST_WITHIN = 0.25


@dataclass(frozen=True)
class MontageRecipe:
    """What montages are made of. Lengths are seconds; one frame a second.

    Attributes:
        mix: how the segments are laid out, a key of `MIXES`.
        frames: (fewest, most), drawn uniformly, both inclusive; or several (weight, fewest, most), one of which is
            drawn first.
        events: fewest and most events (mix "events") or inserts (mix "topic") of a video.
        event_seconds: shortest and longest event.
        background_seconds: shortest and longest background segment; what is left before an event may be shorter.
        shot_seconds: mean length of a shot; lengths are geometric.
        balance: how often an event's class is drawn first, all classes alike (0 never, 1 always).
        variation: modality -> how single frames vary.
    """

    mix: str = "events"
    frames: tuple[Any, ...] = (60, 300)
    events: tuple[int, int] = (1, 3)
    event_seconds: tuple[int, int] = (8, 16)
    background_seconds: tuple[int, int] = (8, 30)
    shot_seconds: float = 6.0
    balance: float = 0.5
    variation: dict[str, FrameVariation] = field(default_factory=lambda: dict(VARIATION))

    def __post_init__(self) -> None:
        if self.mix not in MIXES:
            raise KeyError(f"unknown mix {self.mix!r}; known: {', '.join(MIXES)}")
        for name in ("events", "event_seconds", "background_seconds"):
            _check_range(name, *getattr(self, name))
        for weight, fewest, most in self.frame_ranges:
            _check_range("frames", fewest, most)
            if weight <= 0:
                raise ConfigError(f"frames: weight {weight}; expected > 0")
        if self.shot_seconds < 1:
            raise ConfigError(f"shot_seconds is {self.shot_seconds}; expected at least 1, one frame")
        if not 0 <= self.balance <= 1:
            raise ConfigError(f"balance is {self.balance}; expected a share in [0, 1]")

    @property
    def frame_ranges(self) -> tuple[tuple[float, int, int], ...]:
        """`frames` as (weight, fewest, most) throughout."""
        if len(self.frames) == 2 and not isinstance(self.frames[0], tuple | list):
            return ((1.0, *self.frames),)
        return tuple((float(weight), fewest, most) for weight, fewest, most in self.frames)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MontageRecipe:
        """The inverse of `to_dict`, also after a trip through JSON.

        Raises:
            ConfigError: a field that recipes do not have, or a value that it cannot have.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"a recipe is {brief(values)}; expected its fields by name")
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise ConfigError(
                f"unknown fields {brief(sorted(map(str, unknown)))}; known: {', '.join(cls.__dataclass_fields__)}"
            )
        try:
            values = {name: _tuples(value) for name, value in values.items()}
            if "variation" in values:
                values["variation"] = {key: FrameVariation(**part) for key, part in values["variation"].items()}
            return cls(**values)
        except (TypeError, AttributeError, LookupError, RecursionError, OverflowError) as error:
            raise ConfigError(f"a recipe that cannot be read ({brief(str(error))}): {brief(values)}") from None


def _tuples(value: object) -> object:
    return tuple(_tuples(part) for part in value) if isinstance(value, list | tuple) else value


def _check_range(name: str, fewest: int, most: int) -> None:
    if not 1 <= fewest <= most:
        raise ConfigError(f"{name} is ({fewest}, {most}); expected 1 <= fewest <= most")


def draw_frames(recipe: MontageRecipe, rng: np.random.Generator) -> int:
    """Length of a video in frames."""
    ranges = recipe.frame_ranges
    weights = np.array([weight for weight, _, _ in ranges])
    _, fewest, most = ranges[int(np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(), side="right"))]
    return int(rng.integers(fewest, most + 1))


def draw_layout(recipe: MontageRecipe, frames: int, rng: np.random.Generator) -> list[Span]:
    """Where the segments of a video lie; they tile it without gap or overlap, in order."""
    return MIXES[recipe.mix](recipe, frames, rng)


def _events_in_background(recipe: MontageRecipe, frames: int, rng: np.random.Generator) -> list[Span]:
    """A few events at random places; background segments fill the rest."""
    spans: list[Span] = []
    position = 0
    for start, end in _place(recipe, frames, rng):
        spans += _fill(position, start, "background", recipe.background_seconds, rng)
        spans.append((start, end, "event"))
        position = end
    return spans + _fill(position, frames, "background", recipe.background_seconds, rng)


def _all_labelled(recipe: MontageRecipe, frames: int, rng: np.random.Generator) -> list[Span]:
    """Every segment is an event, of the length of a background segment."""
    return _fill(0, frames, "event", recipe.background_seconds, rng)


def _topic_with_inserts(recipe: MontageRecipe, frames: int, rng: np.random.Generator) -> list[Span]:
    """One labelled topic throughout, interrupted by background inserts of the length of an event."""
    spans: list[Span] = []
    position = 0
    for start, end in _place(recipe, frames, rng):
        spans += [(position, start, "event"), (start, end, "background")]
        position = end
    spans.append((position, frames, "event"))
    return [span for span in spans if span[0] < span[1]]


def _place(recipe: MontageRecipe, frames: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Non-overlapping spans of event length at random places, as many as fit in all but one frame."""
    count = int(rng.integers(recipe.events[0], recipe.events[1] + 1))
    lengths = rng.integers(recipe.event_seconds[0], recipe.event_seconds[1] + 1, size=count)
    lengths = lengths[np.cumsum(lengths) < frames]
    if not len(lengths):
        lengths = np.array([max(1, frames - 1)])
    free = frames - int(lengths.sum())
    before = np.sort(rng.integers(0, free + 1, size=len(lengths)))
    starts = before + np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return [(int(start), int(start + length)) for start, length in zip(starts, lengths, strict=True)]


def _fill(start: int, end: int, kind: str, seconds: tuple[int, int], rng: np.random.Generator) -> list[Span]:
    """Segments of random lengths from `start` to `end`; a last piece too short to stand alone joins the one before."""
    shortest, longest = seconds
    cuts = [start]
    while cuts[-1] < end:
        cuts.append(cuts[-1] + int(rng.integers(shortest, longest + 1)))
    if len(cuts) > 2 and end - cuts[-2] < shortest:
        cuts.pop()
    cuts[-1] = end
    return [(first, last, kind) for first, last in pairwise(cuts) if first < last]


MIXES: dict[str, Callable[[MontageRecipe, int, np.random.Generator], list[Span]]] = {
    "events": _events_in_background,
    "all-labelled": _all_labelled,
    "topic": _topic_with_inserts,
}
