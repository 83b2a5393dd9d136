"""How much a pass of a sweep takes."""

from __future__ import annotations

from gmsa_models.config import ModelConfig

__all__ = ["pass_bytes"]

BYTES = 4  # of a float32
# Maps of frames x frames a head that are held at once while all patterns of a branch are computed, beside the trace's.
MAP_COPIES = 10


def pass_bytes(config: ModelConfig, frames: int) -> int:
    """About the most that one clip takes in a pass: its maps, three branches of them, and what patterns make of them.

    Args:
        config: of the model.
        frames: of the clip as padded; those beyond the model's longest do not count.
    """
    frames = min(frames, config.max_frames)
    maps = len(config.modalities) * 3 + MAP_COPIES
    widths = sum(config.modalities.values()) * 16
    return BYTES * (config.layers * maps * config.heads * frames**2 + frames * widths)
