"""PretrainingRecipe: what decides a pretraining beside the model and the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gmsa_models.training.recipe import Recipe

__all__ = ["PretrainingRecipe"]

_OF_LABELS = ("initial_probability", "monitor")  # fields of `Recipe` that have one value here


@dataclass(frozen=True)
class PretrainingRecipe(Recipe):
    """How encoders are pretrained: AdamW, warm-up, then a cosine to zero, as in `Recipe`, on hidden frames.

    Attributes:
        initial_probability: None; there is no class.
        monitor: "variance_explained"; there is no other score that is better when it is higher.
        hidden_share: of a clip's frames that are hidden in a step, in (0, 1).
        span: frames of a hidden span, at least 1.
    """

    monitors: ClassVar[tuple[str, ...]] = ("variance_explained",)

    initial_probability: float | None = None
    monitor: str = "variance_explained"
    hidden_share: float = 0.3
    span: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("initial_probability", self.initial_probability is None, "None: there are no classes")
        self._check("hidden_share", 0 < self.hidden_share < 1, "between 0 and 1")
        self._check("span", self.span >= 1, "at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the card and for JSON."""
        return {name: value for name, value in super().to_dict().items() if name not in _OF_LABELS}
