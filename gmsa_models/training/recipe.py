"""Recipe: everything that decides what a training run computes, apart from the model and the data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from gmsa_models.errors import ConfigError

__all__ = ["PRECISIONS", "Recipe"]

PRECISIONS = ("32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true")
MONITORS = ("gap", "map", "perr", "hit_at_1")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: AdamW on the summed binary cross-entropy, warm-up, then a cosine to zero.

    Attributes:
        steps: optimiser steps in all; None: `epochs` decides.
        epochs: passes over the training clips, used where `steps` is None.
        batch_size: clips a step, over all processes together; so a recipe means the same on one process and on many.
        learning_rate: at the end of the warm-up.
        warmup: steps of linear rise.
        weight_decay: of the weight matrices; biases and norms have none.
        clip_norm: largest gradient norm; None: no clipping.
        precision: Lightning Fabric's name: one of `PRECISIONS`.
        initial_probability: the classifier's bias starts every class there, since most labels are absent;
            None leaves the model's own.
        ema_decay: the saved and validated weights are an exponential average with this decay; None: the weights.
        seed: of the clip order and of dropout. Initial weights are the model's own.
        validate_every: steps between validations; None: ten times a run.
        patience: validations without a better `monitor` before the run stops; None: never.
        monitor: the score of `MONITORS` that decides which weights are kept.
        save_every: steps between resumable states.
        log_every: steps between lines of the log.
        length_window: batches' worth of clips that are sorted by length together; 1 keeps the clip order.
    """

    monitors: ClassVar[tuple[str, ...]] = MONITORS

    steps: int | None = None
    epochs: float = 1.0
    batch_size: int = 16
    learning_rate: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    precision: str = "32-true"
    initial_probability: float | None = 0.01
    ema_decay: float | None = None
    seed: int = 0
    validate_every: int | None = None
    patience: int | None = None
    monitor: str = "gap"
    save_every: int = 200
    log_every: int = 50
    length_window: int = 16

    def __post_init__(self) -> None:
        for name in ("batch_size", "save_every", "log_every", "length_window"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("steps", "validate_every", "patience"):
            self._check(name, getattr(self, name) is None or getattr(self, name) >= 1, "at least 1, or None")
        for name in ("epochs", "learning_rate"):
            self._check(name, math.isfinite(getattr(self, name)) and getattr(self, name) > 0, "more than 0")
        for name in ("warmup", "weight_decay"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("initial_probability", "ema_decay"):
            self._check(name, getattr(self, name) is None or 0 < getattr(self, name) < 1, "between 0 and 1, or None")
        self._check("clip_norm", self.clip_norm is None or self.clip_norm > 0, "more than 0, or None")
        self._check("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}")
        self._check("monitor", self.monitor in self.monitors, f"one of {', '.join(self.monitors)}")

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ConfigError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step `step` (from 0) of `steps`: linear warm-up, then half a cosine down to 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, steps - self.warmup)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the card and for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: a name that is not a field.
        """
        unknown = sorted(set(values) - {entry.name for entry in fields(cls)})
        if unknown:
            raise ConfigError(f"unknown {', '.join(unknown)}; known: {', '.join(entry.name for entry in fields(cls))}")
        return cls(**values)
