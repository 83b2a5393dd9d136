"""The variants of the study: the paper's columns, the control, and one that tells locality from size."""

from __future__ import annotations

from dataclasses import replace

import torch

from gmsa_models.classifier import GMSAClassifier
from gmsa_models.errors import UnknownNameError
from gmsa_models.evaluating import float32_by_default, standard_contexts
from gmsa_models.masks import Neighbourhood, OfClip, Scales, Toeplitz
from gmsa_models.variants import VARIANTS

__all__ = ["DEFAULT_VARIANTS", "LATER", "STUDY_VARIANTS", "WHOLE", "check_known", "column_of", "kind_of", "rebuilt"]

# GateOp whose local branch may attend to the whole video: its weights and gates, and no locality.
WHOLE = "gate-op-whole"
HALF_A_MINUTE = 30  # frames: of the N_i that tasks scale
WHOLE_VIDEO = Toeplitz(600)  # of up to 300 frames
STUDY_VARIANTS = (*VARIANTS, WHOLE)
# What the paper leaves for later: the variant of the study that each grew from. They are compared with it and with
# Baseline, and apart from the others: what the study says of the paper's variants does not depend on them.
LATER = {
    "share-att-seg": "share-att-tp",
    "gate-att-seg": "gate-att-tp10",
    "gate-op-seg": "gate-op-tp30",
    "gate-op-scales": "gate-op-tp30",
    "local-then-global": "baseline",
}
# One a family, of GateAtt and GateOp those that are best in the paper's table; GateOp without locality; the control.
DEFAULT_VARIANTS = ("baseline", "share-att-tp", "gate-op-tp30", "gate-att-tp10", WHOLE, "control")


def column_of(variant: str) -> str:
    """The paper's column, or the control, that a variant is built as."""
    return "gate-op-tp30" if variant == WHOLE else variant


def kind_of(variant: str) -> str:
    """Its family: an attention block, or a stack of them; GateOp without locality is of none of the paper's."""
    return WHOLE if variant == WHOLE else VARIANTS[variant][0]


def _as_scaled(own: Scales, scaled: Neighbourhood) -> Scales:
    """Each of several scales changed as the band of half a minute is; of those that come to be alike one."""
    ratio = getattr(scaled, "size", HALF_A_MINUTE) / HALF_A_MINUTE
    parts = (replace(part, size=max(1, round(ratio * part.size))) for part in own.parts)
    return Scales(tuple(dict.fromkeys(parts)))


def check_known(names: tuple[str, ...]) -> None:
    """Refuse names that are none of `STUDY_VARIANTS`.

    Raises:
        UnknownNameError: lists those that are.
    """
    if unknown := [name for name in names if name not in STUDY_VARIANTS]:
        raise UnknownNameError(f"unknown variant {unknown[0]!r}; known: {', '.join(STUDY_VARIANTS)}")


def rebuilt(model: GMSAClassifier, variant: str, scaled: Neighbourhood | None, seed: int) -> GMSAClassifier:
    """The untrained model with the neighbourhood that it has in the study; of the same initial weights.

    Args:
        model: of `build`.
        variant: of `STUDY_VARIANTS`.
        scaled: the N_i of every model that has one of a fixed length, but for `WHOLE`; several scales keep their
            ratios, segments of the clip are as long as they are. None: its own.
        seed: of its weights.
    """
    neighbourhood = WHOLE_VIDEO if variant == WHOLE else scaled
    own = model.config.neighbourhood
    if own is None or neighbourhood is None or isinstance(own, OfClip):
        return model
    config = replace(
        model.config, neighbourhood=_as_scaled(own, neighbourhood) if isinstance(own, Scales) else neighbourhood
    )
    with standard_contexts(), float32_by_default(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changed = GMSAClassifier(config, model.vocabulary)
    changed.card.update(model.card, name=variant)
    return changed
