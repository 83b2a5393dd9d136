"""F-Fidelity and eMPRT beside their authors' code: expectations and values worked out by hand.

F-Fidelity: `evaluation_model.py` of github.com/AslanDing/Finetune-Fidelity (commit a46b564): of the candidates, the
highest pixels or the lowest, each is removed with probability min(alpha, beta * pixels / candidates). eMPRT:
`efficient_mprt.py` and `complexity_func.py` of Quantus: (entropy of the last - entropy of the first) / that of the
first, of histograms with 100 bins.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_models import moved, small_clip, small_model

from analysis.explanations.benchmark.random_removal import BOUND, SHARE, SIZES, random_removal
from analysis.explanations.benchmark.randomisation import BINS, histogram_entropy, randomisation_measures
from analysis.explanations.faithfulness import Replacer

FRAMES, SAMPLES = 20, 800


class OneFrameDecides(Replacer):
    """A class whose logit is 2 with one frame and -1 without it, whatever the others are."""

    def __init__(self, frame: int) -> None:
        super().__init__(moved(small_model("baseline")), small_clip(FRAMES, 0), 2)
        self.frame = frame

    def logits(self, kept: torch.Tensor) -> torch.Tensor:
        """Of rows of kept frames."""
        return torch.where(kept[:, self.frame], 2.0, -1.0)


def authors_share(candidates: int) -> float:
    """Chance of a candidate to be removed."""
    return SHARE if candidates * SHARE <= BOUND * FRAMES else BOUND * FRAMES / candidates


def test_f_fidelity_is_what_its_authors_code_gives_on_average():
    assert (SHARE, BOUND, SIZES) == (0.5, 0.1, (0.1, 0.2, 0.3, 0.4, 0.5))
    fall = 1 / (1 + math.exp(-2.0)) - 1 / (1 + math.exp(1.0))
    values = torch.arange(FRAMES, 0, -1).double()  # the first frame is the highest, the last the lowest
    highest = random_removal(OneFrameDecides(0), values, SAMPLES)
    # Explanations of 2, 4, 6, 8 and 10 frames: a half of 2 and 4, then two of 6, 8 and 10.
    by_hand = (1 / 2 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5
    assert by_hand == pytest.approx(np.mean([authors_share(count) for count in (2, 4, 6, 8, 10)]))
    assert highest["fidelity_plus"] == pytest.approx(fall * by_hand, abs=0.015)
    assert highest["fidelity_minus"] == pytest.approx(0.0, abs=1e-12)
    lowest = random_removal(OneFrameDecides(FRAMES - 1), values, SAMPLES)
    by_hand = (2 / 18 + 2 / 16 + 2 / 14 + 2 / 12 + 2 / 10) / 5
    assert by_hand == pytest.approx(np.mean([authors_share(count) for count in (18, 16, 14, 12, 10)]))
    assert lowest["fidelity_plus"] == pytest.approx(0.0, abs=1e-12)
    assert lowest["fidelity_minus"] == pytest.approx(fall * by_hand, abs=0.015)


def test_the_rise_of_complexity_is_that_of_emprt():
    assert BINS == 100
    first, last = np.array([0.0, 0.0, 0.0, 1.0]), np.array([0.0, 1.0, 2.0, 3.0])
    assert histogram_entropy(first) == pytest.approx(0.562335, abs=1e-6)  # 3/4 ln 4/3 + 1/4 ln 4
    assert histogram_entropy(last) == pytest.approx(1.386294, abs=1e-6)  # ln 4
    middle = np.array([0.0, 0.0, 1.0, 1.0])  # between them; the measure is of the first and the last
    assert randomisation_measures(first, [middle, last])["complexity_rise"] == pytest.approx(1.465246, abs=1e-6)
    # The authors divide an explanation by the root of its mean square first: a histogram over its range stays the same.
    values = np.random.default_rng(0).normal(size=60)
    scaled = values / np.sqrt(np.mean(values**2))
    assert histogram_entropy(scaled) == pytest.approx(histogram_entropy(values), abs=1e-12)
    counts = np.histogram(values, bins=100)[0] / 60
    assert histogram_entropy(values) == pytest.approx(-sum(each * math.log(each) for each in counts if each > 0))
