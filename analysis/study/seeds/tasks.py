"""The tasks of the study: they differ in what the paper's argument for local attention turns on.

All montages are of 60 s and of the classes of the shipped models. A task differs from "events" in what its meaning
says, and in nothing else; "topic-few" from "topic".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gmsa_models.data.montage.recipe import VARIATION, FrameVariation, MontageRecipe
from gmsa_models.errors import UnknownNameError
from gmsa_models.masks import Neighbourhood, Toeplitz, neighbourhood_to_dict

__all__ = ["MAIN", "REAL_FRAMES", "TASKS", "StudyTask", "study_tasks"]

SECONDS = (60, 60)
MAIN, REAL_FRAMES = "events", "audioset"
MAIN_SEEDS, SEEDS = 5, 3
HALF_A_MINUTE = Toeplitz(30)


@dataclass(frozen=True)
class StudyTask:
    """What models are trained on and scored by.

    Attributes:
        name: a key of `TASKS`.
        meaning: in a few words, for tables and figures.
        recipe: of its montages; None: real AudioSet frames, audio alone, in their own order.
        share: of the training montages that are used, in (0, 1]; the number of steps stays, so fewer are seen oftener.
        neighbourhood: the N_i by which the sensitivity of every model is measured alike.
        scaled: the N_i of every model that has one, in the place of its variant's; None: the variant's own.
        seeds: how many a variant is trained with unless told otherwise.
    """

    name: str
    meaning: str
    recipe: MontageRecipe | None
    share: float = 1.0
    neighbourhood: Neighbourhood = HALF_A_MINUTE
    scaled: Neighbourhood | None = None
    seeds: int = SEEDS

    def to_dict(self) -> dict[str, Any]:
        """Plain values: what decides the numbers."""
        return {
            "recipe": None if self.recipe is None else self.recipe.to_dict(),
            "share": self.share,
            "neighbourhood": neighbourhood_to_dict(self.neighbourhood),
            "scaled": None if self.scaled is None else neighbourhood_to_dict(self.scaled),
        }


def _varied(**changes: float) -> dict[str, FrameVariation]:
    """The variation of the frames of real videos, with some of its numbers changed in both modalities."""
    return {name: replace(each, **changes) for name, each in VARIATION.items()}


_EVENTS = MontageRecipe(frames=SECONDS)
_TOPIC = replace(_EVENTS, mix="topic")
_ALL = (
    StudyTask(MAIN, "1 to 3 events of 8-16 s in an unrelated background", _EVENTS, seeds=MAIN_SEEDS),
    StudyTask("topic", "one topic throughout, with inserts of 8-16 s", _TOPIC),
    StudyTask("all-labelled", "every segment (8-30 s) shows a labelled video", replace(_EVENTS, mix="all-labelled")),
    StudyTask("topic-few", "topic, an eighth of the training videos", _TOPIC, share=1 / 8),
    StudyTask("few", "events, an eighth of the training videos", _EVENTS, share=1 / 8),
    StudyTask("short", "events of 3-5 s", replace(_EVENTS, event_seconds=(3, 5))),
    StudyTask("long", "events of 20-28 s", replace(_EVENTS, event_seconds=(20, 28))),
    StudyTask(
        "redundant", "events; shots of 15 s, most of which stand still",
        replace(_EVENTS, shot_seconds=15.0, variation=_varied(noise=0.3, static=0.7)),
    ),
    StudyTask(
        "noisy", "events; shots of 2 s, frames that vary twice as much and never stand still",
        replace(_EVENTS, shot_seconds=2.0, variation=_varied(deviation=1.4, noise=0.95, static=0.0)),
    ),
    StudyTask(
        REAL_FRAMES, "AudioSet: 10 real seconds in their own order, audio alone", None,
        neighbourhood=Toeplitz(4), scaled=Toeplitz(4),
    ),
)  # fmt: skip
TASKS = {task.name: task for task in _ALL}


def study_tasks(names: tuple[str, ...]) -> list[StudyTask]:
    """Tasks by name, in the order of `TASKS`.

    Raises:
        UnknownNameError: one that does not exist.
    """
    if unknown := [name for name in names if name not in TASKS]:
        raise UnknownNameError(f"unknown task {unknown[0]!r}; known: {', '.join(TASKS)}")
    return [task for name, task in TASKS.items() if name in names]
