"""Agreement with Quantus 0.6 where both define the same thing: pointing game, ROC AUC, and pixel flipping.

Quantus is no dependency of this project: `pip install quantus==0.6.0` where this is run. Frames stand for its pixels
(one channel, one row), an explanation of a trained demo model for its attribution, the label's seconds for its mask.

    python benchmarks/quantus_agreement.py
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from analysis.explanations.attribution.baselines import baseline_inputs
from analysis.explanations.faithfulness import Replacer
from analysis.explanations.ground_truth import evidence_scores, label_evidence
from analysis.explanations.registry import explain
from analysis.explanations.scores import explained_labels
from analysis.explanations.stream import stream_inputs
from gmsa_models import GMSAClassifier, load, read_clips
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Clip

VIDEOS, METHODS, FRAMES = "demo:0-12", ("saliency", "relevance-propagation", "attention-global", "random"), 60


class FrameSwitch(nn.Module):
    """A model of Quantus' kind: a row of frames, 1 = the clip's own, 0 = replaced, to the logit of one class."""

    def __init__(self, model: GMSAClassifier, clip: Clip, target: int) -> None:
        super().__init__()
        self.model, self.target = model, target
        self.inputs, self.baseline = stream_inputs(model, clip), baseline_inputs(model, clip, "mean")

    def forward(self, there: torch.Tensor) -> torch.Tensor:
        """(batch, 1, 1, frames) -> (batch, 1)."""
        kept = there[:, 0, 0, :, None] > 0.5
        features = {name: torch.where(kept, self.inputs[name], self.baseline[name]) for name in self.inputs}
        valid = torch.ones(len(there), there.shape[-1], dtype=torch.bool)
        return self.model(Batch(features, valid))[:, self.target : self.target + 1]


def main() -> None:
    """Print the largest difference of each measure over all videos and methods."""
    import quantus

    quiet = {"disable_warnings": True, "display_progressbar": False, "return_aggregate": False, "normalise": False}
    quiet |= {"abs": False}
    model, gaps, compared = load("gate-op-bd20"), {"pointing game": [], "ROC AUC": [], "deletion": []}, 0
    for clip in (each.cut(FRAMES) for each in read_clips(VIDEOS)):
        for label, target in explained_labels(model.vocabulary, clip):
            evidence, switch = label_evidence(clip, label), FrameSwitch(model, clip, target).eval()
            here = np.ones((1, 1, 1, clip.frames), np.float32)
            mask = evidence.shows.numpy()[None, None, None]
            for method in METHODS:
                values = explain(model, clip, target, method).frames
                given = {
                    "model": switch, "x_batch": here, "y_batch": np.array([0]), "channel_first": True, "softmax": False,
                    "a_batch": values.double().numpy()[None, None, None],
                }  # fmt: skip
                ours = evidence_scores(values, evidence)
                pointing = quantus.PointingGame(**quiet)(**given, s_batch=mask)[0]
                auc = quantus.AUC(**quiet)(**given, s_batch=mask)[0]
                flip = quantus.PixelFlipping(
                    features_in_step=1, perturb_baseline=0.0, return_auc_per_sample=False, **quiet
                )(**given)[0]
                curve = Replacer(model, clip, target).curves(values).deletion[1:]
                gaps["pointing game"].append(abs(float(pointing) - ours["pointing"]))
                gaps["ROC AUC"].append(abs(float(auc) - ours["evidence_auc"]))
                gaps["deletion"].append(float(np.abs(np.asarray(flip).ravel() - curve.numpy()).max()))
                compared += 1
    print(f"quantus {quantus.__version__}, {compared} explanations")
    for name, found in gaps.items():
        print(f"{name}: largest difference {max(found):.2e}")


if __name__ == "__main__":
    main()
