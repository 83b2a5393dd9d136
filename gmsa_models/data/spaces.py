"""What the numbers of a clip mean: the data set whose classes its labels count, and the space of its features."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gmsa_models.data.errors import brief, is_plain
from gmsa_models.errors import ArgumentError, UnknownNameError

__all__ = [
    "AUDIOSET",
    "LONGEST_NAME",
    "RGB",
    "VGGISH",
    "YOUTUBE_8M",
    "FeatureSpace",
    "card_spaces",
    "check_known",
    "is_name",
    "published_spaces",
    "same_labels",
    "spaces_from_dict",
    "spaces_to_dict",
]

YOUTUBE_8M, AUDIOSET = "youtube-8m", "audioset"
LONGEST_NAME = 100  # characters of the name of a data set or of a feature space
WIDEST = 2**31 - 1
_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_name(value: object) -> bool:
    """Whether it can be the name of a data set: plain text, "" for one that is not said."""
    return isinstance(value, str) and is_plain(value) and len(value) <= LONGEST_NAME


@dataclass(frozen=True)
class FeatureSpace:
    """What a vector of features is an output of. Vectors of two spaces cannot be compared, whatever their widths.

    Attributes:
        name: tells the space from all others: the network, what was done with its output.
        width: of a vector.
        rate: vectors a second; None: not said.
        weights: SHA-256 of the network's weights, 64 hexadecimal digits; "": not said, or there are none.
    """

    name: str
    width: int
    rate: float | None = None
    weights: str = ""

    def __post_init__(self) -> None:
        if not self.name or not is_name(self.name):
            raise ArgumentError(
                f"a feature space is called {brief(self.name)}; expected 1 to {LONGEST_NAME} characters"
            )
        if type(self.width) is not int or not 1 <= self.width <= WIDEST:
            raise ArgumentError(
                f"feature space {self.name!r} is {brief(self.width)} wide; expected a whole number >= 1"
            )
        if self.rate is not None and not (
            type(self.rate) in (int, float) and math.isfinite(self.rate) and self.rate > 0
        ):
            raise ArgumentError(
                f"feature space {self.name!r} has {brief(self.rate)} vectors a second; expected a number above 0"
            )
        if self.weights and not (isinstance(self.weights, str) and _DIGEST.fullmatch(self.weights)):
            raise ArgumentError(
                f"feature space {self.name!r} has weights {brief(self.weights)}; expected a SHA-256 of 64 "
                "hexadecimal digits, or ''"
            )

    def is_same(self, other: FeatureSpace) -> bool:
        """Whether vectors of both can be compared; a rate or weights that one of them does not say are the other's."""
        rates, weights = (self.rate, other.rate), (self.weights, other.weights)
        return (
            (self.name, self.width) == (other.name, other.width)
            and (None in rates or math.isclose(self.rate or 0, other.rate or 0, rel_tol=1e-6))
            and ("" in weights or self.weights == other.weights)
        )

    def __str__(self) -> str:
        """Name, width, and what else is said, for messages."""
        rate = [] if self.rate is None else [f"{self.rate:g} a second"]
        weights = [f"weights {self.weights[:8]}"] if self.weights else []
        return f"{self.name!r} ({', '.join([f'{self.width}-d', *rate, *weights])})"


RGB = FeatureSpace("youtube-8m-rgb", 1024)  # Inception's last hidden layer after PCA and whitening
VGGISH = FeatureSpace("vggish-pca", 128)  # after PCA and whitening: the audio of YouTube-8M and all of AudioSet
# Data set -> modality -> the space of the features that it is published with.
PUBLISHED: dict[str, dict[str, FeatureSpace]] = {
    YOUTUBE_8M: {"visual": RGB, "audio": VGGISH},
    AUDIOSET: {"audio": VGGISH},
}


def published_spaces(dataset: str, widths: Mapping[str, int]) -> dict[str, FeatureSpace]:
    """The spaces of a data set's own features, for those modalities that are as wide as these are.

    Args:
        dataset: any; one that is not known has none.
        widths: modality -> width of a frame.
    """
    published = PUBLISHED.get(dataset, {})
    return {name: space for name, space in published.items() if widths.get(name) == space.width}


def card_spaces(card: Mapping[str, Any], dataset: str, widths: Mapping[str, int]) -> dict[str, FeatureSpace]:
    """Modality -> the space of the features that a model was trained on, where that is known.

    Args:
        card: of the model; its `feature_spaces`. A card without them tells none, and then a model whose classes are of
            YouTube-8M or AudioSet takes their features, where it takes vectors as wide.
        dataset: whose classes the model has.
        widths: modality -> width of a frame.
    """
    if "feature_spaces" in card:
        return spaces_from_dict(card["feature_spaces"])
    return published_spaces(dataset, widths)


def same_labels(one: str, other: str) -> bool:
    """Whether labels of two data sets are of the same classes; "" (not said) is taken for the other."""
    return one == other or not one or not other


def check_known(dataset: str, others: Iterable[str] = ()) -> None:
    """Check that a data set is one of those published, or of some others.

    Args:
        dataset: its name.
        others: of the models at hand, for example; "" (not said) is none.

    Raises:
        UnknownNameError: it is none of them.
    """
    known = dict.fromkeys([*PUBLISHED, *(each for each in others if each)])
    if dataset not in known:
        raise UnknownNameError(f"unknown data set {brief(dataset)}; known: {', '.join(known)}")


def spaces_to_dict(spaces: Mapping[str, FeatureSpace]) -> dict[str, dict[str, Any]]:
    """Plain values, by modality in the order of the alphabet, for JSON; what is not said is left out."""
    return {name: _to_dict(spaces[name]) for name in sorted(spaces)}


def _to_dict(space: FeatureSpace) -> dict[str, Any]:
    rate = {} if space.rate is None else {"rate": space.rate}
    return {"name": space.name, "width": space.width} | rate | ({"weights": space.weights} if space.weights else {})


def spaces_from_dict(values: object) -> dict[str, FeatureSpace]:
    """The inverse of `spaces_to_dict`.

    Raises:
        ArgumentError: anything else than names with a name and a width each.
    """
    if not isinstance(values, Mapping) or not all(is_name(name) for name in values):
        raise ArgumentError(f"feature spaces are {brief(values)}; expected a name and a width for each modality")
    spaces = {}
    for modality, one in values.items():
        if not isinstance(one, Mapping) or not {"name", "width"} <= set(one):
            raise ArgumentError(f"the feature space of {brief(modality)} is {brief(one)}; expected a name and a width")
        spaces[modality] = FeatureSpace(one["name"], one["width"], one.get("rate"), one.get("weights", ""))
    return spaces
