"""In-distribution replacement: frames of other clips that do not show the label, in place of a clip's own.

A mean frame is an input that no model saw. Frames of other clips are such as it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from analysis.explanations.ground_truth import label_evidence
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError

__all__ = ["REPLACEMENTS", "replacement_clip"]

Pool = dict[str, Float[np.ndarray, "candidates width"]]


def replacement_clip(clip: Clip, others: Sequence[Clip], label: int, how: str) -> Clip:
    """As many frames as a clip has, of other clips, none of which shows the label.

    Args:
        clip: whose frames they stand for.
        others: with known segments, of the same modalities.
        label: of the data set.
        how: a key of `REPLACEMENTS`. "background": consecutive frames of the others, one clip after another; "nearest":
            for each frame the most similar one, by cosine, mean over the modalities.

    Returns:
        A clip without labels and segments; of every frame all modalities are from one place.

    Raises:
        ArgumentError: an unknown way, or others without a frame that is known not to show the label.
    """
    if how not in REPLACEMENTS:
        raise ArgumentError(f"replacement {how!r} is unknown; known: {', '.join(REPLACEMENTS)}")
    pool = _pool(clip, others, label)
    features = REPLACEMENTS[how](clip, pool)
    return replace(clip, features=features, labels=(), segments=(), spaces={}, frame_times=())


def background(clip: Clip, pool: Pool) -> dict[str, np.ndarray]:
    """Candidates in their order, over and over where they are fewer."""
    return {name: values[np.arange(clip.frames) % len(values)] for name, values in pool.items()}


def nearest(clip: Clip, pool: Pool) -> dict[str, np.ndarray]:
    """The candidate most similar to each frame; the first of equal ones."""
    similarity = sum(_unit(clip.floats(name)) @ _unit(values).T for name, values in pool.items())
    places = np.asarray(similarity).argmax(1)
    return {name: values[places] for name, values in pool.items()}


REPLACEMENTS: dict[str, Callable[[Clip, Pool], dict[str, np.ndarray]]] = {"background": background, "nearest": nearest}


def _pool(clip: Clip, others: Sequence[Clip], label: int) -> Pool:
    parts: dict[str, list[np.ndarray]] = {name: [] for name in clip.features}
    for other in others:
        evidence = label_evidence(other, label)
        chosen = (evidence.known & ~evidence.shows).numpy()
        for name, values in parts.items():
            values.append(other.floats(name)[chosen])
    pool = {name: np.concatenate(values) if values else np.zeros((0, 1)) for name, values in parts.items()}
    if not len(next(iter(pool.values()))):
        raise ArgumentError(
            f"clip {clip.id!r}: none of {len(others)} other clips has a frame that is known not to show label {label}; "
            "give more videos with known segments"
        )
    return pool


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
