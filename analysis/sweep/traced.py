"""TracedBatch: what a model saw in some videos at once; what every analysis of a sweep starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.attention.maps import layer_maps
from analysis.attention.profiles import head_profiles
from analysis.sensitivity.norms import frame_gradient_norms
from gmsa_models.classifier import GMSAClassifier, ModelConfig
from gmsa_models.data.clip import Batch, Clip
from gmsa_models.evaluating import evaluating
from gmsa_models.masks import Neighbourhood
from gmsa_models.trace import AttentionTrace

BYTES = 4  # of a float32
# Maps of frames x frames a head that are held at once while all patterns of a branch are computed, beside the trace's.
MAP_COPIES = 10


@dataclass(frozen=True)
class TracedBatch:
    """Some clips, padded to one length, as a model saw them.

    Attributes:
        model: as it was traced: see `trace_clips`.
        clips: cut to the frames that the model takes.
        batch: the same, padded, on the model's device.
        trace: of the batch.
        neighbourhood: the N_i by which all models are measured alike.
        max_bytes: about the most that intermediate results of gradients may take.
    """

    model: GMSAClassifier
    clips: tuple[Clip, ...]
    batch: Batch
    trace: AttentionTrace
    neighbourhood: Neighbourhood
    max_bytes: int

    @property
    def modalities(self) -> tuple[str, ...]:
        """The model's, in its order."""
        return tuple(self.model.config.modalities)

    @property
    def attends(self) -> bool:
        """False for the control."""
        return self.model.config.attention != "none"

    @cached_property
    def profiles(self) -> dict[tuple[str, str], Float[Tensor, "batch frames"]]:
        """(modality, branch) -> attention received, mean over heads, each head over its own mask; NaN at padding."""
        found = {}
        for modality in self.modalities:
            for branch, parts in layer_maps(self.trace.layer(modality)).items():
                heads = [head_profiles(part.weights, part.neighbourhood, self.trace.valid) for part in parts]
                found[modality, branch] = torch.cat(heads, -2).mean(-2)
        return found

    @cached_property
    def gradient_norms(self) -> dict[str, Float[Tensor, "batch query key"]]:
        """Modality -> G of equation 10 in closed form; NaN at padding. Empty for the control."""
        if not self.attends:
            return {}
        return {
            name: frame_gradient_norms(self.model, self.batch, name, max_bytes=self.max_bytes)
            for name in self.modalities
        }


def trace_clips(
    model: GMSAClassifier, clips: Sequence[Clip], neighbourhood: Neighbourhood, max_bytes: int, labels: bool = True
) -> TracedBatch:
    """One pass of a model over some clips, without gradients.

    Args:
        model: on any device; left as it is. Its replica in evaluation mode is traced, one of half precision in float32.
        clips: at least one; each has every modality of the model, as wide as the model takes it.
        neighbourhood, max_bytes: see `TracedBatch`.
        labels: hold the clips' labels against the model's classes; False: the batch has none.

    Raises:
        ForeignLabelsError: with `labels`, a clip's are of another data set.
    """
    cut = tuple(clip.cut(model.config.max_frames) for clip in clips)
    with evaluating(model, widen=True) as replica:
        weight = next(replica.parameters())
        batch = Batch.from_clips(cut, tuple(model.config.modalities), model.vocabulary if labels else None)
        batch = batch.to(weight.device, weight.dtype)
        return TracedBatch(replica, cut, batch, replica.trace(batch, grad=False), neighbourhood, max_bytes)


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
