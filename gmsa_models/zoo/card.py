"""The card of a trained model: what it is, how it came to be, how well it does; written beside its checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from gmsa_models.checkpoints.files import Description, describe
from gmsa_models.data.atomic import replaced_when_done

__all__ = ["predictions_used", "write_card"]

# Tests whose scores use every prediction of a video, in cards of before scores said how many they use.
ALL_USED = ("AudioSet eval",)
SCORES = {"gap": "GAP", "map": "MAP", "perr": "PERR", "hit_at_1": "Hit@1"}


def write_card(checkpoint: Path) -> Path:
    """Write `NAME.md` beside a checkpoint, from what the checkpoint says of itself; returns its path."""
    path = checkpoint.with_suffix(".md")
    with replaced_when_done(path) as temporary:
        temporary.write_text(card_text(describe(checkpoint), checkpoint), encoding="utf-8")
    return path


def card_text(model: Description, checkpoint: Path) -> str:
    """The card as Markdown.

    Raises:
        KeyError: the checkpoint's card lacks its training, recipe or scores.
    """
    card, config, training = model.card, model.config, model.card["training"]
    widths = config.widths or config.modalities
    lines = [
        f"# {model.name}",
        "",
        f"- **Block**: {config.attention}; neighbourhood: {config.neighbourhood or 'none'}.",
        f"- **Size**: width {_pairs(widths)}, {config.heads} heads, {config.layers} encoder layer, up to "
        f"{config.max_frames} frames, {config.classes} classes; {model.parameters:,} weights, "
        f"{model.bytes / 2**20:.2f} MiB (SHA-256 `{hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]}`).",
        f"- **Inputs**: {_pairs(config.modalities)}.",
        f"- **Trained on**: {card['data']}.",
        f"- **Command**: `{card['command']}`; initial weights from seed {card['seed']}.",
        f"- **Recipe**: {_pairs(card['recipe'])}.",
        f"- **Time**: {training['seconds'] / 60:.0f} min for {training['step']} steps on one core of a busy machine, "
        f"torch {training['torch']}.",
        f"- **Licence**: the weights were made from data under {card['licence']}.",
        "",
        "Scores in percent. GAP and MAP use as many of a video's predictions as the table says; the paper uses 20.",
        "",
        f"| test | videos | predictions | {' | '.join(SCORES.values())} |",
        f"|---|---|---|{'---|' * len(SCORES)}",
    ]
    for test, scores in card["scores"].items():
        values = " | ".join(f"{100 * scores[key]:.2f}" for key in SCORES)
        used = predictions_used(test, scores)
        lines.append(f"| {test} | {scores['videos']:,} | {'all' if used is None else used} | {values} |")
    return "\n".join(lines) + "\n"


def predictions_used(test: str, scores: Mapping[str, float | None]) -> int | None:
    """How many predictions of a video the GAP and MAP of a card use; None: all.

    Args:
        test: what the card calls the data.
        scores: of the test.
    """
    if "top_k" in scores:
        return None if scores["top_k"] is None else int(scores["top_k"])
    return None if test in ALL_USED else 20


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
