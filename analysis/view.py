"""ClipView: one clip of a traced batch, without its padding; what every part of a record is made from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Batch, Clip
from gmsa_models.data.spaces import same_labels
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.evaluating import evaluating
from gmsa_models.feeding import Inputs, check_fits
from gmsa_models.masks import Neighbourhood, neighbourhood_mask
from gmsa_models.trace import BRANCHES, AttentionTrace, HeadGroup, LayerTrace


class RecordError(ValueError):
    """A clip, model or set of records of which no record can be made; the message names which and why."""


@dataclass(frozen=True)
class ClipView:
    """One clip as a model saw it.

    Attributes:
        clip: cut to the frames that the model takes.
        clip_frames: frames of the clip before that.
        model: the model, as it computes here: see `view_clips`.
        trace: of this clip alone: batch 1, no padding.
        layer: which encoder layer the record is about, from 0.
        chosen: a neighbourhood to analyse by in place of the model's own, or None.
        target: position of the class to explain; None: the one that the model finds most probable.
        explanation_progress: see `inspect_clip`; only the part "explanation" calls it.
        gradient_norms: (layer, modality) -> G, as far as it was asked for; several parts need it.
    """

    clip: Clip
    clip_frames: int
    model: GMSAClassifier
    trace: AttentionTrace
    layer: int = 0
    chosen: Neighbourhood | None = None
    target: int | None = None
    explanation_progress: Callable[[int, int], None] = field(
        default=lambda done, total: None, repr=False, compare=False
    )
    gradient_norms: dict[tuple[int, str], Float[Tensor, "query key"]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def modalities(self) -> tuple[str, ...]:
        """The model's modalities, in its order."""
        return tuple(self.model.config.modalities)

    @property
    def heads(self) -> int:
        """M, heads of a layer."""
        return self.model.config.heads

    @cached_property
    def layers(self) -> dict[str, LayerTrace]:
        """Modality -> the traced layer."""
        return {modality: self.trace.layer(modality, self.layer) for modality in self.modalities}

    @cached_property
    def branches(self) -> tuple[str, ...]:
        """The branches that this model's block has, in the order of `BRANCHES`; none in the control."""
        weights = next(iter(self.layers.values())).weights
        return tuple(branch for branch in BRANCHES if branch in weights)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The model's classes; without a vocabulary output k is taken for label k."""
        if self.model.vocabulary is not None:
            return self.model.vocabulary
        classes = self.model.config.classes
        return Vocabulary("", tuple(range(classes)), tuple(f"class {index}" for index in range(classes)))

    @property
    def labelled(self) -> bool:
        """Whether the clip's labels are of the data set that the model's classes are of, so that they compare."""
        return same_labels(self.clip.dataset, self.vocabulary.dataset)

    @cached_property
    def neighbourhood(self) -> Bool[Tensor, "query key"] | None:
        """N_i as a matrix, True = may attend: the one chosen, else the model's own, else None."""
        if self.chosen is not None:
            return neighbourhood_mask(self.chosen, self.clip.frames)
        return next(iter(self.layers.values())).neighbourhood

    def heads_of(self, branch: str) -> slice:
        """Which of the layer's heads a branch has."""
        return next(iter(self.layers.values())).heads_of(branch)


def view_clips(
    model: GMSAClassifier, clips: list[Clip], layer: int = 0, chosen: Neighbourhood | None = None, grad: bool = False
) -> list[ClipView]:
    """Trace some clips in one pass and take the pass apart again, clip by clip.

    Args:
        model: on any device, in any floating-point type; left as it is. Its replica in evaluation mode is traced, in
            float32 where the model is in half precision: see `gmsa_models.evaluating`.
        clips: at least one; those longer than the model's `max_frames` are cut to their first frames.
        layer: which encoder layer.
        chosen: see `ClipView`.
        grad: keep the graph; parameters are not in it.

    Raises:
        RecordError: a layer the model lacks.
        UnfitClipError: a clip lacks one of the model's modalities, has frames of another width, features of another
            space, or absurdly large values.
    """
    config = model.config
    if not 0 <= layer < config.layers:
        raise RecordError(f"layer is {layer}; the model has layers 0 to {config.layers - 1}")
    cut = [clip.cut(config.max_frames) for clip in clips]
    for clip in cut:
        check_fits(clip, Inputs.of(model, labels=False))
    with evaluating(model, widen=True) as replica:
        weight = next(replica.parameters())
        batch = Batch.from_clips(cut, tuple(config.modalities)).to(weight.device, weight.dtype)
        trace = replica.trace(batch, grad=grad)
        return [
            ClipView(short, whole.frames, replica, _take(trace, row, short.frames), layer, chosen)
            for row, (short, whole) in enumerate(zip(cut, clips, strict=True))
        ]


def features_sha256(clip: Clip) -> str:
    """SHA-256 over the clip's modalities, shapes, types and values: the same frames give the same digest."""
    digest = hashlib.sha256()
    for modality in sorted(clip.features):
        values = np.ascontiguousarray(clip.features[modality])
        digest.update(f"{modality} {values.dtype.str} {values.shape} ".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _take(trace: AttentionTrace, row: int, frames: int) -> AttentionTrace:
    """The part of a batch's trace that is one clip's: batch 1, its real frames only (they come first)."""
    one = slice(row, row + 1)
    return AttentionTrace(
        layers={name: tuple(_take_layer(layer, one, frames) for layer in each) for name, each in trace.layers.items()},
        valid=trace.valid[one, :frames],
        pooled={name: values[one] for name, values in trace.pooled.items()},
        logits=trace.logits[one],
    )


def _take_layer(layer: LayerTrace, one: slice, frames: int) -> LayerTrace:
    def by_frame(values: Float[Tensor, "batch frames dim"]) -> Float[Tensor, "1 kept dim"]:
        return values[one, :frames]

    def by_pair(values: Float[Tensor, "batch heads query key"]) -> Float[Tensor, "1 heads kept kept"]:
        return values[one, :, :frames, :frames]

    return LayerTrace(
        input=by_frame(layer.input),
        output=by_frame(layer.output),
        encoded=by_frame(layer.encoded),
        weights={branch: by_pair(values) for branch, values in layer.weights.items()},
        gates={name: (by_pair if gate.ndim == 4 else by_frame)(gate) for name, gate in layer.gates.items()},
        contexts={branch: values[one, :, :frames] for branch, values in layer.contexts.items()},
        branch_outputs={branch: by_frame(values) for branch, values in layer.branch_outputs.items()},
        neighbourhood=None if layer.neighbourhood is None else layer.neighbourhood[:frames, :frames],
        head_groups={
            branch: tuple(_cut(group, frames) for group in each) for branch, each in layer.head_groups.items()
        },
    )


def _cut(group: HeadGroup, frames: int) -> HeadGroup:
    return group if group.mask is None else replace(group, mask=group.mask[:frames, :frames])


def type_name(values: Tensor) -> str:
    """ "float32" and the like."""
    return str(values.dtype).removeprefix("torch.")


def to_numpy(values: Tensor) -> np.ndarray:
    """float32 on the CPU for floating point, the same type otherwise."""
    values = values.detach()
    return (values.float() if values.dtype.is_floating_point else values).cpu().numpy()
