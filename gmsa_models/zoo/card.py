"""The card of a trained model: what it is, how it came to be, how well it does; written beside its checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gmsa_models.checkpoints import Description, describe
from gmsa_models.data.atomic import replaced_when_done

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
        "Scores in percent; the paper's definitions (20 predictions a video), but for AudioSet, where MAP uses all.",
        "",
        f"| test | videos | {' | '.join(SCORES.values())} |",
        f"|---|---|{'---|' * len(SCORES)}",
    ]
    for test, scores in card["scores"].items():
        values = " | ".join(f"{100 * scores[key]:.2f}" for key in SCORES)
        lines.append(f"| {test} | {scores['videos']:,} | {values} |")
    return "\n".join(lines) + "\n"


def _pairs(values: dict) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
