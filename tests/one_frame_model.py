"""A hand-set model whose answer is known: it reads one marked frame, and nothing else matters to its class 2."""

from __future__ import annotations

import numpy as np
import torch
from small_models import small_clip, small_model
from torch import nn

MARKED, FRAMES, TARGET = 8, 13, 2
MARK, SHOWN = 0, 6


def one_frame_model(kind: str):
    """Every head attends to frames by their feature `MARK`; what it finds there it writes into feature `SHOWN`, and the
    class reads that. The control, which has no attention, writes it by a unit that only the mark switches on.

    Norms are left out. A layer norm gives the same at every scale of a frame, so that feature times gradient adds up to
    about 0 in each frame, whatever it shows: no answer is known for that method then.
    """
    model = small_model(kind).double()
    with torch.no_grad():
        for parameter in (each for name, each in model.named_parameters() if "norm" not in name):
            parameter.zero_()
        for each in model.encoders.values():
            each.norm, each.layers[0].norm_feed_forward = nn.Identity(), nn.Identity()
            if each.layers[0].attention is not None:
                each.layers[0].norm_attention = nn.Identity()
        encoder = model.encoders["visual"].layers[0]
        if (block := encoder.attention) is None:
            encoder.feed_forward[0].weight[0, MARK], encoder.feed_forward[0].bias[0] = 4.0, -8.0
            encoder.feed_forward[2].weight[SHOWN, 0] = 1.0
        else:
            wide = 12 // block.heads
            block.query.bias[::wide] = 4.0
            block.key.weight[::wide, MARK] = 1.0
            block.value.weight[::wide, MARK] = 1.0
            outputs = [block.output] if hasattr(block, "output") else [block.output_global, block.output_local]
            for output in outputs:
                output.weight[SHOWN, ::wide] = 1.0
        model.classifier.weight[TARGET, SHOWN] = 5.0
    return model


def marked_clip():
    """Frames that are all alike but for the mark of one, and small differences that nothing reads."""
    visual = np.random.default_rng(1).normal(0, 0.01, (FRAMES, 12)).astype(np.float32)
    visual[:, 2], visual[:, 3] = 1.0, -1.0
    visual[MARKED, MARK], visual[MARKED, 1] = 3.0, -3.0
    audio = np.random.default_rng(2).normal(0, 1, (FRAMES, 8)).astype(np.float32)
    return small_clip(FRAMES, features={"visual": visual, "audio": audio}, segments=())
