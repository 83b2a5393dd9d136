"""Attribution by gradients, through captum: one stream, its frames and its baseline in, a number a feature out.

captum is imported where it is called: it takes longer to load than all else that a record needs.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.explanations.attribution.seeding import seeded
from analysis.explanations.stream import Stream, clips_together
from gmsa_models.hooks import plain_weight

__all__ = ["FrameScores", "deep_lift", "gradient_shap", "input_x_gradient", "integrated_gradients", "saliency"]

Frames = Float[Tensor, "frames width"]
FrameScores = tuple[Frames, float | None]

# Which warnings are shown is a setting of the whole process: two threads that changed it at once would mix it up.
_ONE_AT_A_TIME = threading.Lock()


def saliency(stream: Stream, inputs: Frames, baseline: Frames) -> FrameScores:
    """|d logit / d feature|.

    Source:
        Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2014.
    """
    from captum.attr import Saliency

    return Saliency(stream).attribute(_leaf(inputs))[0].detach(), None


def input_x_gradient(stream: Stream, inputs: Frames, baseline: Frames) -> FrameScores:
    """Feature times gradient: the change of the logit, were it linear, when the feature goes to 0.

    Source:
        Shrikumar et al., "Not Just a Black Box", 2016.
    """
    from captum.attr import InputXGradient

    return InputXGradient(stream).attribute(_leaf(inputs))[0].detach(), None


def integrated_gradients(stream: Stream, inputs: Frames, baseline: Frames, n_steps: int = 32) -> FrameScores:
    """Gradients along the straight line from the baseline, times the difference; adds up to that of the logits.

    Frames are embedded by a linear map, if at all, so a straight line of frames is one of embedded frames: the mean
    gradient is taken there and mapped back. As captum's `IntegratedGradients`, whose weights of the points would have
    the process's default type, however coarse.

    Args:
        n_steps: points of the Gauss-Legendre rule; more of them make the convergence delta smaller.

    Source:
        Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", 2017.
    """
    together = _graphs_together(stream, inputs)
    with torch.no_grad():
        hidden, start = stream.encoder.embed(torch.stack([inputs, baseline]))
        rise = stream.resume(torch.stack([hidden, start]))
    places, weights = (torch.from_numpy(each).to(inputs) for each in np.polynomial.legendre.leggauss(n_steps))
    mean = torch.zeros_like(hidden)
    for place, weight in zip(places.split(together), weights.split(together), strict=True):
        points = torch.lerp(start, hidden, (0.5 + 0.5 * place)[:, None, None]).requires_grad_()
        with torch.enable_grad():
            (gradients,) = torch.autograd.grad(stream.resume(points).sum(), points)
        mean += torch.tensordot(0.5 * weight, gradients, 1)
    project = stream.encoder.project
    attributions = (inputs - baseline) * (
        mean if project is None else mean @ plain_weight(project, "an encoder's projection")
    )
    return attributions, float(attributions.sum() - (rise[0] - rise[1]))


def gradient_shap(stream: Stream, inputs: Frames, baseline: Frames, n_samples: int = 8, seed: int = 0) -> FrameScores:
    """Expected gradients: at random points between the clip and one of two baselines, the given one and all zeros.

    Its convergence delta is the mean over samples, and noisy where samples are few.

    Source:
        Lundberg and Lee, "A Unified Approach to Interpreting Model Predictions", 2017, as captum's `GradientShap`.
    """
    from captum.attr import GradientShap

    both = torch.stack([baseline, torch.zeros_like(baseline)])
    with seeded(seed):
        attributions, delta = GradientShap(_OnceEach(stream)).attribute(
            inputs[None], both, n_samples=n_samples, stdevs=0.0, return_convergence_delta=True
        )
    return attributions[0].detach().to(inputs), float(delta.mean())


class _OnceEach:
    """A stream that passes equal clips once where no gradient is asked for: captum asks for every sample's ends.

    Of many clips at once, whose gradient is asked for, no more graphs are held than of those that pass together.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __call__(self, frames: Float[Tensor, "clips frames width"]) -> Float[Tensor, " clips"]:
        if torch.is_grad_enabled():
            together = _graphs_together(self._stream, frames[0])
            return self._stream(frames) if together >= len(frames) else _InParts.apply(frames, self._stream, together)
        first_equal: list[int] = []
        for at in range(len(frames)):
            first_equal.append(next((one for one in first_equal if torch.equal(frames[one], frames[at])), at))
        several = sorted(set(first_equal))
        return self._stream(frames[several])[[several.index(one) for one in first_equal]]


def deep_lift(stream: Stream, inputs: Frames, baseline: Frames) -> FrameScores:
    """captum's DeepLIFT, rescale rule.

    captum has no rule for GELU, layer norm, or the product of attention weights and values: there it multiplies
    gradients. So the values need not add up, not even in the control; the convergence delta says by how much.

    Source:
        Shrikumar, Greenside and Kundaje, "Learning Important Features Through Propagating Activation
        Differences", 2017.
    """
    from captum.attr import DeepLift

    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting forward, backward hooks")  # captum takes its hooks off again
        attributions, delta = DeepLift(stream).attribute(_leaf(inputs), baseline[None], return_convergence_delta=True)
    return attributions[0].detach(), float(delta)


class _InParts(torch.autograd.Function):
    """A stream whose gradient is taken with its values, some clips at a time: a clip's number depends on it alone."""

    @staticmethod
    def forward(
        ctx: Any, frames: Float[Tensor, "clips frames width"], stream: Stream, together: int
    ) -> Float[Tensor, " clips"]:
        """Numbers of all clips."""
        numbers, gradients = [], []
        for part in frames.detach().split(together):
            with torch.enable_grad():
                number = stream(part.requires_grad_())
                gradients += torch.autograd.grad(number.sum(), part)
            numbers.append(number.detach())
        ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(numbers)

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, " clips"]) -> tuple[Tensor | None, ...]:
        """The gradient of each clip, times that of its number."""
        (gradients,) = ctx.saved_tensors
        return grad[:, None, None] * gradients, None, None


def _graphs_together(stream: Stream, inputs: Frames) -> int:
    """How many clips pass at once where a graph is kept, which has what every layer computed."""
    return max(1, clips_together(len(inputs), len(stream.weights)) // max(1, len(stream.encoder.layers)))


def _leaf(inputs: Frames) -> Float[Tensor, "1 frames width"]:
    return inputs[None].clone().requires_grad_()
