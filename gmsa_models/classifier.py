"""The classifier: one encoder a modality and a linear layer on top; any number of streams, two in the paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gmsa_models.attention import AttentionBlock, xavier_linear
from gmsa_models.attention.stages import NO_EDIT, BlockEdit
from gmsa_models.config import ModelConfig
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Clip
from gmsa_models.data.spaces import FeatureSpace, card_spaces
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.errors import ArgumentError, ConfigError
from gmsa_models.hooks import check_hooks
from gmsa_models.masks import BatchNeighbourhood, OfClip, Shots, Spans
from gmsa_models.segments import batch_shots, batch_spans, clip_spans
from gmsa_models.trace import AttentionTrace, LayerTrace, Stage

__all__ = [
    "Encoder",
    "EncoderLayer",
    "GMSAClassifier",
    "PassEdit",
    "check_encoder",
    "mean_over_valid",
    "parameter_mib",
]

Frames = Float[Tensor, "batch frames dim"]
Valid = Bool[Tensor, "batch frames"]
Module = TypeVar("Module", bound=nn.Module)


@runtime_checkable
class PassEdit(Protocol):
    """What is changed, or watched, in a pass."""

    def __call__(self, stage: Stage, value: Tensor) -> Tensor:
        """What the pass goes on with in place of `value`: `value` itself where nothing is changed."""

    def of_layer(self, modality: str, layer: int) -> BlockEdit:
        """What is changed in one encoder layer: the stages of its block, and its output "encoded"."""

    def valid(self, modality: str, valid: Valid | None, frames: Frames) -> Valid | None:
        """Which frames of a modality are real."""


LayerEdits = Callable[[int], BlockEdit]


class EncoderLayer(nn.Module):
    """Attention, residual, feed-forward, residual; without attention in the control.

    "pre": h + attention(norm(h)), then h + feed_forward(norm(h)). "post": norm(h + attention(h)), then
    norm(h + feed_forward(h)).
    """

    def __init__(self, config: ModelConfig, dim: int, number: int = 0) -> None:
        super().__init__()
        block = config.block_of(number)
        self.norm_first = config.norm == "pre"
        self.attention: AttentionBlock | None = None
        self.norm_attention: nn.Module
        if block is None:
            self.norm_attention = nn.Identity()
        else:
            neighbourhood = config.neighbourhood if block.local else None
            self.attention = block(dim, config.heads, neighbourhood, config.max_frames, config.bias)
            self.norm_attention = nn.LayerNorm(dim)
        hidden = config.feed_forward * dim
        self.feed_forward = nn.Sequential(xavier_linear(dim, hidden), nn.GELU(), xavier_linear(hidden, dim))
        self.norm_feed_forward = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)

    @property
    def block(self) -> AttentionBlock:
        """The attention block.

        Raises:
            ArgumentError: the control, which has none.
        """
        if self.attention is None:
            raise ArgumentError("the control (attention 'none') has no attention block")
        return self.attention

    def forward(self, hidden: Frames, valid: Valid | None = None) -> Frames:
        """The layer's output from its input; `valid` None: no frame is padding."""
        if self.attention is None:
            return self._feed_forward(hidden)
        return self.finish(hidden, self.attention(self.attention_input(hidden), valid))

    def trace(self, hidden: Frames, valid: Valid | None, grad: bool, edit: BlockEdit = NO_EDIT) -> LayerTrace:
        """The same, with everything that the attention block computed; `edit`: what is changed on the way."""
        if grad and not hidden.requires_grad:
            # Frozen parameters and plain features leave no graph; X must be there to differentiate by.
            hidden = hidden.detach().requires_grad_()
        if self.attention is None:
            encoded = edit("", "encoded", self._feed_forward(hidden))
            return LayerTrace(input=hidden, output=torch.zeros_like(hidden), encoded=encoded)
        inputs = edit("", "input", self.attention_input(hidden))
        block = self.attention.trace(inputs, valid, edit)
        encoded = edit("", "encoded", self.finish(hidden, block.output))
        return LayerTrace(input=inputs, encoded=encoded, **{f.name: getattr(block, f.name) for f in fields(block)})

    def attention_input(self, hidden: Frames) -> Frames:
        """What the attention block is given: the layer's input, normed first under "pre"."""
        return self.norm_attention(hidden) if self.norm_first else hidden

    def finish(self, hidden: Frames, output: Frames) -> Frames:
        """The layer's output from its input and what its attention block returned."""
        hidden = hidden + self.dropout(output)
        return self._feed_forward(hidden if self.norm_first else self.norm_attention(hidden))

    def _feed_forward(self, hidden: Frames) -> Frames:
        if self.norm_first:
            return hidden + self.dropout(self.feed_forward(self.norm_feed_forward(hidden)))
        return self.norm_feed_forward(hidden + self.dropout(self.feed_forward(hidden)))


class Encoder(nn.Module):
    """One modality: an optional projection to D, the layers, and under "pre" a last layer norm before pooling."""

    layers: Sequence[EncoderLayer]

    def __init__(self, config: ModelConfig, modality: str) -> None:
        super().__init__()
        dim = config.width(modality)
        self.project = None if config.widths is None else xavier_linear(config.modalities[modality], dim)
        layers = nn.ModuleList(EncoderLayer(config, dim, number) for number in range(config.layers))
        self.layers = cast(Sequence[EncoderLayer], layers)  # torch's list does not tell the type of its modules
        # Under "pre" the residual stream is never normed; without this the classifier would see its raw scale.
        self.norm = nn.LayerNorm(dim) if config.norm == "pre" else nn.Identity()

    def forward(self, frames: Float[Tensor, "batch frames width"], valid: Valid | None = None) -> Frames:
        """Encoded frames, ready for pooling."""
        return self.resume(self.embed(frames), valid)

    def embed(self, frames: Float[Tensor, "batch frames width"]) -> Frames:
        """What the first layer is given."""
        return frames if self.project is None else self.project(frames)

    def resume(self, hidden: Frames, valid: Valid | None = None, first: int = 0) -> Frames:
        """Encoded frames from the input of layer `first`; after the last layer only the norm is left."""
        for layer in self.layers[first:]:
            hidden = layer(hidden, valid)
        return self.norm(hidden)

    def trace(
        self,
        frames: Float[Tensor, "batch frames width"],
        valid: Valid | None,
        grad: bool,
        edits: LayerEdits = lambda layer: NO_EDIT,
    ) -> tuple[Frames, tuple[LayerTrace, ...]]:
        """The same, with a trace of every layer; `edits`: what is changed in each."""
        hidden = self.embed(frames)
        traces: list[LayerTrace] = []
        for number, layer in enumerate(self.layers):
            traces.append(layer.trace(hidden, valid, grad, edits(number)))
            hidden = traces[-1].recorded("encoded")
        return self.norm(hidden), tuple(traces)

    def bound_to(self, neighbourhood: BatchNeighbourhood) -> Encoder:
        """The same encoder, over the same weights, whose local branches attend to another neighbourhood."""
        layers = [
            _with_modules(layer, {"attention": layer.block.bound_to(neighbourhood)}) if layer.block.local else layer
            for layer in self.layers
        ]
        return _with_modules(self, {"layers": nn.ModuleList(layers)})


class GMSAClassifier(nn.Module):
    """Encode each modality, average over its valid frames, join, classify.

    Attributes:
        config: the model's shape.
        vocabulary: what the outputs are called, or None.
        card: how the model came to be: name, recipe, seed, training data, scores.
        origin: which file it was loaded from: name, path, sha256.
        encoders: modality -> `Encoder`.
        classifier: from the joined vectors to the classes; of no classes, logits have no columns.

    Raises:
        ConfigError: a vocabulary whose length is not the number of classes.
    """

    encoders: Mapping[str, Encoder]

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary | None = None) -> None:
        super().__init__()
        if vocabulary is not None and len(vocabulary) != config.classes:
            raise ConfigError(f"the vocabulary has {len(vocabulary)} classes, the config {config.classes}")
        self.config = config
        self.vocabulary = vocabulary
        self.card: dict[str, Any] = {}
        self.origin: dict[str, Any] = {}
        encoders = nn.ModuleDict({name: Encoder(config, name) for name in config.modalities})
        self.encoders = cast(Mapping[str, Encoder], encoders)  # as the layers of an encoder
        self.classifier = _classifier(sum(config.width(name) for name in config.modalities), config.classes)

    @property
    def spaces(self) -> dict[str, FeatureSpace]:
        """Modality -> the space of the features that the model was trained on, see `card_spaces`."""
        return card_spaces(self.card, self.vocabulary.dataset if self.vocabulary else "", self.config.modalities)

    def forward(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        """Logits, before the sigmoid.

        Raises:
            ArgumentError: a modality missing, a wrong width, too many frames, or a clip without a valid frame.
        """
        valid, encoders = self._check(batch), self.bound_to(batch).encoders
        pooled = [mean_over_valid(encoder(batch.features[name], valid), valid) for name, encoder in encoders.items()]
        return self.classifier(torch.cat(pooled, -1))

    def trace(self, batch: Batch, grad: bool = False, edit: PassEdit | None = None) -> AttentionTrace:
        """One pass with everything it computed; its logits are those of `forward`.

        Args:
            batch: as for `forward`.
            grad: keep the graph: logits, outputs and maps can be differentiated by any layer's `input`, by the
                maps, by features that require a gradient, and by parameters. Otherwise nothing has a graph.

        Raises:
            ArgumentError: as for `forward`; a forward hook on the model, an encoder, a layer or an attention block that
                changes the logits, as a trace does not pass through it.
        """
        check_hooks(self, _traced_modules(self), lambda model: model(_copied(batch)), partial(_traced_logits, batch))
        return self._trace(batch, grad, edit)

    def _trace(self, batch: Batch, grad: bool = False, edit: PassEdit | None = None) -> AttentionTrace:
        valid, bound = self._check(batch), self.bound_to(batch)
        layers: dict[str, tuple[LayerTrace, ...]] = {}
        pooled: dict[str, Float[Tensor, "batch _"]] = {}
        with torch.set_grad_enabled(grad):
            for name in self.encoders:
                layers[name], pooled[name] = bound.trace_stream(batch, name, valid, grad, edit)
            logits = self.classifier(torch.cat(list(pooled.values()), -1))
        return AttentionTrace(layers=layers, valid=batch.valid, pooled=pooled, logits=logits)

    def trace_stream(
        self, batch: Batch, modality: str, valid: Valid | None, grad: bool = False, edit: PassEdit | None = None
    ) -> tuple[tuple[LayerTrace, ...], Float[Tensor, "batch dim"]]:
        """The layers of one modality, and the mean over its valid frames; see `trace`.

        Args:
            valid: True where a frame is real; None: everywhere.
            batch, modality, grad, edit: see `trace`.
        """
        encoder, frames = self.encoders[modality], batch.features[modality]
        if edit is None:
            encoded, layers = encoder.trace(frames, valid, grad)
            return layers, mean_over_valid(encoded, valid)
        valid = edit.valid(modality, valid, frames)
        frames = edit(Stage(modality, None, "", "input"), frames)
        encoded, layers = encoder.trace(frames, valid, grad, lambda layer: edit.of_layer(modality, layer))
        return layers, edit(Stage(modality, None, "", "pooled"), mean_over_valid(encoded, valid))

    def bound_to(self, clips: Batch | Clip) -> GMSAClassifier:
        """The same model, over the same weights, whose local branches attend to these clips' own segments.

        Args:
            clips: a batch, or one clip, which is cut to the model's longest.

        Returns:
            The model itself where its neighbourhood does not depend on the clip. Else one that keeps these segments,
            whatever becomes of the features: an explanation that replaces frames moves no boundary. Bound to one clip
            it takes any number of copies; its config has the segments.
        """
        each = self.spans_of(clips)
        if each is None:
            return self
        one = len(set(each)) == 1
        encoders = {name: encoder.bound_to(each[0] if one else each) for name, encoder in self.encoders.items()}
        changes = {"encoders": nn.ModuleDict(encoders)}
        return _with_modules(self, changes, config=replace(self.config, neighbourhood=each[0]) if one else self.config)

    def spans_of(self, clips: Batch | Clip) -> tuple[Spans, ...] | None:
        """The segments of each clip, by the features of the model's modalities, or its shots; None without such.

        Args:
            clips: see `bound_to`.

        Raises:
            UnfitClipError: a clip without shots, of a model that attends to them.
        """
        pattern = self.config.neighbourhood
        if not isinstance(pattern, OfClip):
            return None
        if isinstance(clips, Clip):
            return (clip_spans(clips.cut(self.config.max_frames), pattern, self.config.modalities),)
        if isinstance(pattern, Shots):
            return batch_shots(clips)
        features = {name: clips.features[name] for name in self.config.modalities}
        return batch_spans(features, None if clips.full else clips.valid, pattern)

    def _check(self, batch: Batch) -> Valid | None:
        """`batch.valid`, or None where nothing is padding; raises on a batch that does not fit."""
        frames = batch.valid.shape[1]
        if frames > self.config.max_frames:
            raise ArgumentError(f"a batch of {frames} frames; the model takes at most {self.config.max_frames}")
        for name, width in self.config.modalities.items():
            if name not in batch.features:
                raise ArgumentError(
                    f"no modality {name!r} in a batch of {', '.join(batch.features)}; the model needs it"
                )
            expected = (*batch.valid.shape, width)
            if tuple(batch.features[name].shape) != expected:
                raise ArgumentError(f"{name!r} has shape {tuple(batch.features[name].shape)}; expected {expected}")
        if batch.full:
            return None
        empty = ~batch.valid.any(1)
        if empty.any():
            raise ArgumentError(f"clip {int(empty.nonzero()[0])} of the batch has no valid frame")
        return batch.valid


def _copied(batch: Batch) -> Batch:
    """A batch whose features a hook may change in place."""
    return replace(batch, features={name: values.clone() for name, values in batch.features.items()})


def _traced_logits(batch: Batch, model: GMSAClassifier) -> Float[Tensor, "batch classes"]:
    return model._trace(batch).logits


def check_encoder(encoder: Encoder, inputs: Float[Tensor, "frames width"]) -> None:
    """Refuse an encoder with hooks that its trace does not pass through; see `check_hooks`.

    Args:
        encoder: whose layers are to be traced.
        inputs: of one clip, without padding.
    """
    frames = inputs[None].to(next(encoder.parameters()))
    check_hooks(
        encoder,
        _traced_modules(encoder),
        lambda replica: replica(frames.clone(), None),
        lambda replica: replica.trace(frames, None, False)[0],
    )


def _traced_modules(module: nn.Module) -> list[nn.Module]:
    """The modules whose `trace` is called in place of their `forward`."""
    kinds = (GMSAClassifier, Encoder, EncoderLayer, AttentionBlock)
    return [each for each in module.modules() if isinstance(each, kinds)]


def _classifier(width: int, classes: int) -> nn.Linear:
    """From the joined vectors to the classes; of no classes it has no weights, and nothing to train."""
    linear = xavier_linear(width, max(1, classes))
    if classes == 0:  # torch warns of a `Linear` that has no weights to draw
        linear.weight, linear.bias = (
            nn.Parameter(each[:0], requires_grad=False) for each in (linear.weight, linear.bias)
        )
        linear.out_features = 0
    return linear


def _with_modules(module: Module, changes: Mapping[str, nn.Module], **attributes: Any) -> Module:
    """A module over the same parameters, with other modules inside."""
    result = module.__new__(type(module))
    result.__dict__ = {**module.__dict__, "_modules": {**module._modules, **changes}, **attributes}
    return result


def mean_over_valid(
    frames: Float[Tensor, "batch frames dim"], valid: Bool[Tensor, "batch frames"] | None
) -> Float[Tensor, "batch dim"]:
    """Mean over the valid frames of each clip, taken in at least float32; `valid` None: over all."""
    if valid is None:
        return frames.mean(1)
    # Not frames * valid: that would let a padded nan through.
    kept = frames.masked_fill(~valid[:, :, None], 0.0)
    return (kept.sum(1, dtype=torch.promote_types(frames.dtype, torch.float32)) / valid.sum(1, keepdim=True)).to(
        frames.dtype
    )


def parameter_mib(model: nn.Module) -> float:
    """Size of a model's parameters in MiB (2^20 bytes) as stored; the paper's "MB" is MiB of float32."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()) / 2**20
