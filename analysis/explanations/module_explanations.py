"""One class of one clip explained for any PyTorch module: what its input's time steps count for its logit.

The methods of `EXPLANATIONS` that need no more than the module itself: its gradient by the input, its logit with time
steps of the input replaced, and its maps between time steps. Values are of the input, so that of several streams only
the first row holds them; maps have a row each.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from analysis.attention.of_view import block_map, branch_profile
from analysis.capture.adapter import Inputs
from analysis.errors import RecordError
from analysis.explanations.class_explanations import ClassExplanations
from analysis.explanations.explanation import Explanation
from analysis.explanations.faithfulness import FaithfulnessCurves, curve_counts
from analysis.explanations.ground_truth import EVIDENCE_MEASURES
from analysis.explanations.input_steps import Steps, Values, explained_tensor, replaced_tensor
from analysis.module_view import module_logits
from analysis.sensitivity.of_view import view_gradient_norms
from analysis.view import TraceView
from gmsa_models.errors import ArgumentError, UnknownNameError

__all__ = ["MODULE_METHODS", "ModuleScore", "check_module_methods", "explain_module"]

Kept = Bool[Tensor, " steps"]

POINTS = 16  # of an integral along a line of inputs, and parts of a curve
OCCLUDED = 32  # parts of a clip that are replaced one by one
BASELINE = "mean"


@dataclass(eq=False)
class ModuleScore:
    """The logit of one class as a function of a module's input, and of which time steps of it are kept.

    Attributes:
        module: in evaluation mode.
        inputs: of one clip, see `call_module`; of several arguments the one of `explained_tensor` is explained.
        steps: the time step of each number of that tensor, of its shape or broadcast to it.
        target: position of the class.
        softmax: whether the module's logits go through a softmax; the logit is then the log-odds of the class.
    """

    module: nn.Module
    inputs: Inputs
    steps: Steps
    target: int
    softmax: bool
    _known: dict[bytes, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.count = int(self.steps.max()) + 1
        self.values = explained_tensor(self.inputs, self.count, self.steps)
        self.steps = self.steps.to(self.values.device)

    @property
    def baseline(self) -> Values:
        """The mean over time at every time step."""
        axes = [axis for axis in range(self.values.ndim) if self.steps.shape[axis] > 1]
        return self.values.mean(axes, keepdim=True).expand_as(self.values)

    def __call__(self, values: Values) -> Float[Tensor, ""]:
        """The logit, differentiable."""
        return module_logits(self.module, replaced_tensor(self.inputs, self.values, values), self.softmax)[
            0, self.target
        ]

    def kept(self, kept: Kept) -> float:
        """The logit with the time steps that are not kept replaced by the baseline; each choice is computed once."""
        key = kept.numpy().tobytes()
        if key not in self._known:
            with torch.no_grad():
                mask = kept.to(self.values.device)[self.steps]
                self._known[key] = float(self(torch.where(mask, self.values, self.baseline)))
        return self._known[key]

    def gradient(self, values: Values) -> Values:
        """d logit / d input."""
        leaf = values.detach().clone().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self(leaf), leaf)[0]

    def by_step(self, values: Values) -> Float[Tensor, " steps"]:
        """Sums over the numbers of each time step."""
        index = self.steps.expand_as(values).flatten()
        return values.new_zeros(self.count).index_add(0, index, values.flatten()).cpu()

    def curves(self, values: Float[Tensor, " steps"]) -> FaithfulnessCurves:
        """Deletion and insertion by a ranking, in `POINTS` parts, see `curve_counts`."""
        order = values.double().nan_to_num(nan=-torch.inf).argsort(descending=True, stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(self.count)
        counts = curve_counts(self.count, POINTS)
        deletion = torch.tensor([self.kept(rank >= count) for count in counts], dtype=torch.float64)
        insertion = torch.tensor([self.kept(rank < count) for count in counts], dtype=torch.float64)
        return FaithfulnessCurves(deletion, insertion, BASELINE, counts)


def _saliency(score: ModuleScore, view: TraceView) -> Found:
    return score.by_step(score.gradient(score.values).square()).sqrt(), "1", None


def _input_x_gradient(score: ModuleScore, view: TraceView) -> Found:
    return score.by_step(score.values * score.gradient(score.values)), "logit", None


def _integrated_gradients(score: ModuleScore, view: TraceView) -> Found:
    places, weights = np.polynomial.legendre.leggauss(POINTS)
    mean = torch.zeros_like(score.values)
    for place, weight in zip(places, weights, strict=True):
        mean += 0.5 * weight * score.gradient(torch.lerp(score.baseline, score.values, 0.5 + 0.5 * place))
    values = score.by_step((score.values - score.baseline) * mean)
    return values, "logit", float(values.sum()) - _rise(score)


def _gradient_shap(score: ModuleScore, view: TraceView) -> Found:
    """Expected gradients: at random points between the clip and its mean frame."""
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(POINTS // 2, generator=generator).tolist()
    gradients = [score.gradient(torch.lerp(score.baseline, score.values, place)) for place in places]
    values = score.by_step((score.values - score.baseline) * torch.stack(gradients).mean(0))
    return values, "logit", float(values.sum()) - _rise(score)


def _rise(score: ModuleScore) -> float:
    """The logit of the clip less that of its baseline."""
    every = torch.ones(score.count, dtype=torch.bool)
    return score.kept(every) - score.kept(~every)


def _occlusion(score: ModuleScore, view: TraceView) -> Found:
    """How far the logit falls when a part of the clip is replaced, shared evenly among its time steps."""
    part = torch.arange(score.count) * min(score.count, OCCLUDED) // score.count
    whole = score.kept(torch.ones_like(part, dtype=torch.bool))
    falls = torch.tensor([whole - score.kept(part != number) for number in range(int(part.max()) + 1)])
    return (falls / part.bincount())[part], "logit", None


def _rollout(score: ModuleScore, view: TraceView) -> Found:
    """Attention followed through the layers, half of each being the time step itself; mean over the last's queries."""
    rows = []
    for modality in view.modalities:
        reached = torch.full((1, view.frames), 1.0 / view.frames)
        for layer in reversed(range(view.layer_count)):
            weights = block_map(view, modality, layer)[0].float().cpu()
            weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)
            reached = reached @ (0.5 * weights + 0.5 * torch.eye(view.frames))
        rows.append(reached[0])
    return torch.stack(rows), "1", None


def _attention(score: ModuleScore, view: TraceView) -> Found:
    return torch.stack([branch_profile(view, name, "global")[0].cpu() for name in view.modalities]), "1", None


def _gradient_received(score: ModuleScore, view: TraceView) -> Found:
    rows = []
    for modality in view.modalities:
        norms = view_gradient_norms(view, modality)
        if norms is None:
            raise ArgumentError(f"the gradient norms of {modality!r} are not known")
        received = norms[0].mean(0).cpu()
        rows.append(received / received.mean())
    return torch.stack(rows), "1", None


def _random(score: ModuleScore, view: TraceView) -> Found:
    generator = torch.Generator().manual_seed(zlib.crc32(view.one.id.encode()))
    return torch.rand(score.count, generator=generator), "1", None


def _mean_frame_similarity(score: ModuleScore, view: TraceView) -> Found:
    frames = [torch.from_numpy(view.one.floats(name)) for name in view.modalities]
    return torch.stack([torch.cosine_similarity(one, one.mean(0, keepdim=True), dim=1) for one in frames]), "1", None


# Values of each time step, or a row a stream; their units; by how much they fail to add up, where they should.
Found = tuple[Float[Tensor, "*numbers"], str, float | None]
MODULE_METHODS: dict[str, Callable[[ModuleScore, TraceView], Found]] = {
    "saliency": _saliency,
    "input-x-gradient": _input_x_gradient,
    "integrated-gradients": _integrated_gradients,
    "gradient-shap": _gradient_shap,
    "frame-occlusion": _occlusion,
    "rollout": _rollout,
    "attention-global": _attention,
    "gradient-received": _gradient_received,
    "random": _random,
    "mean-frame-similarity": _mean_frame_similarity,
}


def check_module_methods(methods: Sequence[str]) -> None:
    """Refuse a method that no module can be asked for.

    Raises:
        UnknownNameError: there is one, or none is given; the message lists the names.
    """
    unknown = [name for name in methods if name not in MODULE_METHODS]
    if unknown or not methods:
        named = f"unknown explanation {unknown[0]!r}" if unknown else "no explanation is named"
        raise UnknownNameError(f"{named}; those of any module: {', '.join(MODULE_METHODS)}")


def explain_module(
    view: TraceView,
    score: ModuleScore,
    methods: Sequence[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ClassExplanations:
    """Explain one class of a view of one clip by a module, and say how faithful each explanation is.

    Args:
        view: of one clip.
        score: of the module that the view is of, and the class.
        methods: keys of `MODULE_METHODS`; default: all.
        progress: called with the steps done and their number; each method explains, and is then scored.

    Returns:
        Faithfulness is taken in `POINTS` parts of the curves, see `curve_counts`; evidence is not known.

    Raises:
        RecordError: time steps of the input that are not those of the view.
    """
    if score.count != view.frames:
        raise RecordError(f"steps has {score.count} time steps; the maps have {view.frames}")
    names = list(MODULE_METHODS if methods is None else methods)
    explanations, scores = {}, {}
    for number, name in enumerate(names):
        progress(2 * number, 2 * len(names))
        values, units, missing = MODULE_METHODS[name](score, view)
        explanation = Explanation(
            name, score.target, _rows(values, len(view.modalities)), view.modalities, units, {}, missing,
            None if units == "1" else BASELINE,
        )  # fmt: skip
        progress(2 * number + 1, 2 * len(names))
        explanations[name] = explanation
        scores[name] = score.curves(explanation.frames).measures() | dict.fromkeys(EVIDENCE_MEASURES, float("nan"))
    progress(2 * len(names), 2 * len(names))
    label = view.vocabulary.indices[score.target]
    name, steps = view.vocabulary.name(label), len(curve_counts(score.count, POINTS))
    return ClassExplanations(score.target, label, name, BASELINE, explanations, scores, steps)


def _rows(values: Float[Tensor, "*numbers"], streams: int) -> Float[Tensor, "streams steps"]:
    """A row a stream; what is of the input stands in the first."""
    if values.ndim == 2:
        return values.float()
    rows = values.new_full((streams, len(values)), torch.nan)
    rows[0] = values
    return rows.float()
