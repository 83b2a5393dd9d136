"""Small untrained models and clips for tests of records, figures and the command line."""

from __future__ import annotations

import numpy as np

from gmsa_models import Clip, GMSAClassifier, ModelConfig, Segment, Vocabulary
from gmsa_models.masks import BlockDiagonal, Scales, Toeplitz, ToeplitzDilated

VOCABULARY = Vocabulary("youtube-8m", (3, 5, 11, 17, 19), ("Game", "Car", "Food", "Dance", "Pokémon Trading Card Game"))
KINDS = ("baseline", "share-att", "gate-att", "gate-op", "none")


def small_model(kind: str = "gate-op", modalities: tuple[str, ...] = ("visual", "audio"), input_widths=None, **changes):
    """A `GMSAClassifier`: modalities of widths 12 and 8, 4 heads, neighbourhoods of 3 frames, at most 23 frames."""
    import torch

    scales = Scales((BlockDiagonal(3), Toeplitz(5), ToeplitzDilated(9, 2)))
    of_kind = {"baseline": None, "none": None, "gate-att": Toeplitz(3), "gate-op-scales": scales}
    neighbourhood = of_kind.get(kind, BlockDiagonal(3))
    widths = input_widths or {"visual": 12, "audio": 8}
    values = {
        "attention": kind,
        "modalities": {name: widths[name] for name in modalities},
        "classes": len(VOCABULARY),
        "neighbourhood": neighbourhood,
        "heads": 4,
        "layers": 2 if kind == "local-then-global" else 1,
        "max_frames": 23,
    } | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vocabulary = VOCABULARY if values["classes"] == len(VOCABULARY) else None
        model = GMSAClassifier(ModelConfig(**values), vocabulary)
    model.card["name"] = f"small-{kind}"
    return model.eval()


def moved(model, by: float = 0.2, seed: int = 0):
    """The same model with every parameter moved: a new one has biases of 0, norms of 1 and gates near 1/2."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in model.parameters():
            each += by * torch.randn(each.shape, generator=generator, dtype=each.dtype)
    return model


def small_clip(frames: int = 13, seed: int = 0, **changes) -> Clip:
    """A clip of uint8 frames with an event from 3 to 7 s and background around it, label 11 and one nobody knows."""
    generator = np.random.default_rng(seed)
    segments = (
        Segment(0.0, 3.0, (), kind="background"),
        Segment(3.0, 7.0, (11,), kind="event", origin="abcd"),
        Segment(7.0, float(max(frames, 8)), (), kind="background"),
    )
    values = {
        "id": f"clip{seed}",
        "features": {
            "visual": generator.integers(0, 256, (frames, 12)).astype(np.uint8),
            "audio": generator.integers(0, 256, (frames, 8)).astype(np.uint8),
        },
        "labels": (11, 404),
        "segments": segments if frames > 7 else (),
        "source": f"made{seed}",
    } | changes
    return Clip(**values)
