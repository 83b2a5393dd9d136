"""TraceView: what a model saw in one or several clips, whatever the model; records, sweeps and studies read this."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.errors import RecordError
from gmsa_models.branches import in_order
from gmsa_models.data.clip import Clip
from gmsa_models.data.spaces import same_labels
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.masks import Neighbourhood, batch_mask
from gmsa_models.segments import neighbourhood_of_clips
from gmsa_models.trace import LayerTrace

__all__ = ["Capabilities", "ModelNote", "TraceView", "features_sha256", "frame_seconds", "to_numpy", "type_name"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class ModelNote:
    """What a record says of the model that it is of.

    Attributes:
        name: what the model is called beside others.
        attributes: attributes of its records that say which model it is; a GMSA model's checkpoint and config.
    """

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Capabilities:
    """What only the model itself can give of a view; None: it cannot, and records lack that part.

    All but `explanations` and `spatial_maps` are called with the view, a modality and the number of a layer.

    Attributes:
        gradient_norms: G of equation 10, (batch, query, key), NaN at padding; None of a layer that it cannot say. Of a
            module that can be differentiated: `analysis.sensitivity.of_view.autograd_capability`.
        contributions: branch -> its part of the layer's output before the bias, (batch, frames, dim).
        certificates: checks of the layer's maps, each an `analysis.attention.certificates.Certificate`, branch by
            branch, in the order of `CHECKS`.
        gradient_norm_errors: standard errors of G, where it is sampled.
        values: branch -> V of its heads, (batch, heads, frames, head_dim).
        spatial_maps: where one query frame attends within the pictures; called with a modality, a layer and the frame.
        explanations: the `analysis.explanations.class_explanations.ClassExplanations` of one class of one clip; called
            with the view alone.
        frame_tokens: what a module makes of other inputs, by time step; called with these.
    """

    gradient_norms: Callable[[TraceView, str, int], Float[Tensor, "batch query key"] | None] | None = None
    contributions: Callable[[TraceView, str, int], dict[str, Float[Tensor, "batch frames _"]]] | None = None
    certificates: Callable[[TraceView, str, int], Sequence[Any]] | None = None
    explanations: Callable[[TraceView], Any] | None = None
    gradient_norm_errors: Callable[[TraceView, str, int], Float[Tensor, "batch query key"]] | None = None
    values: Callable[[TraceView, str, int], dict[str, Float[Tensor, "batch heads frames _"]]] | None = None
    spatial_maps: Callable[[str, int, int], Float[Tensor, "heads key patch"]] | None = None
    frame_tokens: Callable[[Any], Float[Tensor, "frames numbers"]] | None = None


@dataclass(frozen=True)
class TraceView:
    """What a model saw in some clips, padded to one length; a single clip is a batch of one.

    Attributes:
        clips: cut to the frames that the model takes.
        whole: the same clips before that.
        layers: modality -> its layers, first layer first; every modality has as many. Of a module that is no GMSA
            model a layer's maps are its branch "global", whatever their masks.
        valid: True where a frame is real. Real frames come first.
        logits: before the sigmoid.
        vocabulary: what the logits are of.
        model: which model it was.
        own: the model's own neighbourhood, None without one.
        chosen: a neighbourhood to analyse by in place of the model's own, or None.
        capabilities: what the model can give beside this.
        edited: whether something was changed in the pass, so that a query may attend to nothing.

    Raises:
        RecordError: parts that do not belong together; says which.
    """

    clips: tuple[Clip, ...]
    whole: tuple[Clip, ...]
    layers: Mapping[str, tuple[LayerTrace, ...]]
    valid: Bool[Tensor, "batch frames"]
    logits: Float[Tensor, "batch classes"]
    vocabulary: Vocabulary
    model: ModelNote
    own: Neighbourhood | None = None
    chosen: Neighbourhood | None = None
    capabilities: Capabilities = Capabilities()
    edited: bool = False
    _computed: dict[tuple[Any, ...], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.clips or len(self.clips) != len(self.whole) or len(self.clips) != len(self.valid):
            raise RecordError(
                f"a view of {len(self.clips)} clips has {len(self.whole)} whole ones and {len(self.valid)} rows of "
                "valid; expected one each, and at least one clip"
            )
        if [clip.frames for clip in self.clips] != self.valid.sum(1).tolist():
            frames = [clip.frames for clip in self.clips]
            raise RecordError(
                f"clips of {frames} frames have {self.valid.sum(1).tolist()} valid ones; expected as many"
            )
        if tuple(self.logits.shape) != (len(self.clips), len(self.vocabulary)):
            raise RecordError(
                f"logits have shape {tuple(self.logits.shape)}; expected {(len(self.clips), len(self.vocabulary))}, a "
                "row a clip and a column a class"
            )
        if len({len(layers) for layers in self.layers.values()}) != 1 or not self.layer_count:
            counts = {name: len(layers) for name, layers in self.layers.items()}
            raise RecordError(
                f"layers of each modality: {counts}; expected at least one modality and one layer, as many in each"
            )
        for modality, layers in self.layers.items():
            for number, layer in enumerate(layers):
                self._check_maps(f"layer {number} of {modality!r}", layer)

    def _check_maps(self, where: str, layer: LayerTrace) -> None:
        for branch, weights in layer.weights.items():
            if branch not in layer.head_groups:
                known = ", ".join(layer.head_groups) or "none"
                raise RecordError(
                    f"{where}: a map of the branch {branch!r}; expected one with head_groups, here {known}"
                )
            batch, frames = self.valid.shape
            heads = sum(group.count for group in layer.head_groups[branch])
            if tuple(weights.shape) != (batch, heads, frames, frames):
                raise RecordError(
                    f"{where}: maps of {branch!r} have shape {tuple(weights.shape)}; expected {batch} clips, {heads} "
                    f"heads, {frames} query and {frames} key frames"
                )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the streams, in order."""
        return tuple(self.layers)

    @property
    def layer_count(self) -> int:
        """How many layers each modality has."""
        return len(next(iter(self.layers.values()), ()))

    @property
    def frames(self) -> int:
        """Frames of the longest clip: to so many all are padded."""
        return self.valid.shape[1]

    def layer(self, modality: str, number: int = 0) -> LayerTrace:
        """One layer of one modality.

        Raises:
            RecordError: a modality or layer that the view lacks; names those it has.
        """
        if modality not in self.layers:
            raise RecordError(f"no modality {modality!r} in this view; it has {', '.join(self.layers)}")
        self.check_layer(number)
        return self.layers[modality][number]

    def check_layer(self, number: int) -> None:
        """Refuse a layer that the model lacks.

        Raises:
            RecordError: says which layers there are.
        """
        if not 0 <= number < self.layer_count:
            raise RecordError(f"layer is {number}; the model has layers 0 to {self.layer_count - 1}")

    @cached_property
    def heads(self) -> int:
        """M, the most heads that a layer has."""
        groups = [group for each in self._all_layers() for parts in each.head_groups.values() for group in parts]
        return max((group.first + group.count for group in groups), default=0)

    @cached_property
    def branches(self) -> tuple[str, ...]:
        """The branches that some layer has maps of, see `in_order`; none in the control."""
        return in_order(branch for layer in self._all_layers() for branch in layer.weights)

    def _all_layers(self) -> list[LayerTrace]:
        return [layer for layers in self.layers.values() for layer in layers]

    @property
    def one(self) -> Clip:
        """The clip of a view of one.

        Raises:
            RecordError: a view of several clips.
        """
        if len(self.clips) != 1:
            raise RecordError(f"a view of {len(self.clips)} clips; expected one: take it with `clip`")
        return self.clips[0]

    @property
    def labelled(self) -> bool:
        """Whether the clip's labels are of the data set that the model's classes are of, so that they compare."""
        return same_labels(self.one.dataset, self.vocabulary.dataset)

    @cached_property
    def neighbourhood(self) -> Bool[Tensor, "*clips query key"] | None:
        """N_i as a matrix, True = may attend: the one chosen, else the model's own, else None; see `mask`."""
        pattern = self.own if self.chosen is None else self.chosen
        return None if pattern is None else self.mask(pattern)

    def mask(self, pattern: Neighbourhood) -> Bool[Tensor, "*clips query key"]:
        """A neighbourhood as a matrix, True = inside: (query, key), or (batch, query, key) where clips differ."""
        own = neighbourhood_of_clips(pattern, self.clips, self.modalities)
        return batch_mask(own, self.frames, self.valid.device)

    def once(self, key: tuple[Any, ...], compute: Callable[[], Value]) -> Value:
        """What `compute` gives, computed once a view and key; several parts of a record need the same.

        Args:
            key: what is computed, and of which modality, branch and layer.
            compute: called where the key is new.
        """
        if key not in self._computed:
            self._computed[key] = compute()
        return self._computed[key]

    def clip(self, row: int) -> TraceView:
        """The view of one of the clips alone, without padding."""
        short = self.clips[row]
        one = slice(row, row + 1)
        return replace(
            self,
            clips=(short,),
            whole=self.whole[one],
            layers={
                name: tuple(_take_layer(layer, one, short.frames) for layer in each)
                for name, each in self.layers.items()
            },
            valid=self.valid[one, : short.frames],
            logits=self.logits[one],
        )

    def each(self) -> list[TraceView]:
        """A view a clip."""
        return [self.clip(row) for row in range(len(self.clips))]


def features_sha256(clip: Clip) -> str:
    """SHA-256 over the clip's modalities, shapes, types, values and, where they are known, shots.

    The same frames of the same shots give the same digest.
    """
    digest = hashlib.sha256()
    for modality in sorted(clip.features):
        values = np.ascontiguousarray(clip.features[modality])
        digest.update(f"{modality} {values.dtype.str} {values.shape} ".encode())
        digest.update(values.tobytes())
    if clip.shots:
        digest.update(f"shots {clip.shots} ".encode())
    return digest.hexdigest()


def _take_layer(layer: LayerTrace, one: slice, frames: int) -> LayerTrace:
    def by_frame(values: Float[Tensor, "batch frames dim"]) -> Float[Tensor, "1 kept dim"]:
        return values[one, :frames]

    def by_pair(values: Float[Tensor, "batch heads query key"]) -> Float[Tensor, "1 heads kept kept"]:
        return values[one, :, :frames, :frames]

    return LayerTrace(
        input=None if layer.input is None else by_frame(layer.input),
        output=None if layer.output is None else by_frame(layer.output),
        encoded=None if layer.encoded is None else by_frame(layer.encoded),
        weights={branch: by_pair(values) for branch, values in layer.weights.items()},
        gates={name: (by_pair if gate.ndim == 4 else by_frame)(gate) for name, gate in layer.gates.items()},
        contexts={branch: values[one, :, :frames] for branch, values in layer.contexts.items()},
        gated_contexts={branch: values[one, :, :frames] for branch, values in layer.gated_contexts.items()},
        branch_outputs={branch: by_frame(values) for branch, values in layer.branch_outputs.items()},
        neighbourhood=_cut_mask(layer.neighbourhood, one, frames),
        head_groups={
            branch: tuple(replace(group, mask=_cut_mask(group.mask, one, frames)) for group in each)
            for branch, each in layer.head_groups.items()
        },
        outside={branch: values[one, :, :frames] for branch, values in layer.outside.items()},
    )


def _cut_mask(
    mask: Bool[Tensor, "*clips query key"] | None, one: slice, frames: int
) -> Bool[Tensor, "kept kept"] | None:
    """The mask of one clip; of those that differ its own."""
    if mask is None:
        return None
    return (mask if mask.ndim == 2 else mask[one.start])[:frames, :frames]


def type_name(values: Tensor) -> str:
    """Name of a tensor's type, such as "float32"."""
    return str(values.dtype).removeprefix("torch.")


def to_numpy(values: Tensor) -> np.ndarray:
    """float32 on the CPU for floating point, the same type otherwise."""
    values = values.detach()
    return (values.float() if values.dtype.is_floating_point else values).cpu().numpy()


def frame_seconds(view: TraceView) -> Float[Tensor, " batch"]:
    """Seconds a frame, one a clip, beside the view's tensors."""
    return torch.tensor([clip.frame_seconds for clip in view.clips], dtype=torch.float32, device=view.valid.device)
