"""The view of any PyTorch module: maps between frames as captured, features and logits, and G by differentiation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from analysis.capture import Adapter, AttentionCall, Captured, capture, capture_adapted
from analysis.capture.adapter import Inputs
from analysis.capture.layout import Layout
from analysis.errors import RecordError
from analysis.module_heads import JoinedCalls, join_heads
from analysis.module_norms import site_norms
from analysis.module_runs import evaluating_module
from analysis.module_scores import warn_of_activation
from analysis.module_sites import ModuleSite, Probes, call_module, check_arguments, tokens_given
from analysis.view import Capabilities, ModelNote, TraceView
from gmsa_models.data.clip import Clip
from gmsa_models.data.errors import is_plain
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.masks import Neighbourhood
from gmsa_models.trace import HeadGroup, LayerTrace

__all__ = [
    "ModuleClip",
    "logits_of",
    "main_tensor",
    "module_logits",
    "streams_of",
    "view_module",
]

ACTIVATIONS = ("softmax", "sigmoid")
Layouts = Layout | Mapping[str, Layout | None]


@dataclass(frozen=True)
class ModuleClip:
    """What is known of the one input beside its numbers.

    Attributes:
        id: what it is called.
        frame_seconds: seconds from one time step of the layout to the next; a tubelet is as long as its frames.
        start_seconds: where in its video it begins.
        source: where it came from.
        shots: see `Clip`.
    """

    id: str = "input"
    frame_seconds: float = 1.0
    start_seconds: float = 0.0
    source: str = ""
    shots: tuple[float, ...] = ()


def view_module(
    module: nn.Module,
    inputs: Inputs,
    *,
    layout: Layouts | None = None,
    class_names: Sequence[str] | None = None,
    streams: Mapping[str, str] | None = None,
    activation: str = "softmax",
    adapter: Adapter | None = None,
    features: Mapping[str, Float[np.ndarray, "frames _"]] | None = None,
    clip: ModuleClip | None = None,
    chosen: Neighbourhood | None = None,
    probes: Probes | None = None,
    mask: Bool[Tensor, "query key"] | None = None,
    note: ModelNote | None = None,
    heads_of_lists: bool = True,
    scored: bool = True,
) -> TraceView:
    """What a module saw in one clip; see `analysis.inspect_module` for the arguments, errors and conventions.

    Args:
        scored: whether its scores are wanted, so that `activation` is checked.

    Returns:
        Its modalities are the streams, its branch is "global". A layer's `input` and `output` are the numbers of all
        tokens of a frame in one row.
    """
    if activation not in ACTIVATIONS:
        raise RecordError(f"activation is {activation!r}; expected one of {', '.join(map(repr, ACTIVATIONS))}")
    if adapter is None:
        check_arguments(module, inputs)
    with evaluating_module(module), torch.no_grad():
        captured, output = _captured(module, inputs, layout, adapter)
        if adapter is not None:
            joined = JoinedCalls(captured, {call.name: [call] for call in captured}, {}, {})
        else:
            joined = join_heads(module, inputs, captured, output, heads_of_lists)
        calls, sites = streams_of(joined.captured, streams), joined.sites
        logits = _logits(module, output)
        if scored:
            again = partial(call_module, module, inputs) if adapter is None else None
            warn_of_activation(type(module).__name__, logits, activation, again)
    first = _first_site(captured, joined.inputs)
    known = any(call.name in sites for each in calls.values() for call in each)
    made = _clip(clip or ModuleClip(), calls, _features(calls, joined.inputs, features))
    probes = probes or Probes()
    norms, errors = (partial(_norms, module, inputs, calls, sites, probes, which) for which in (0, 1))
    return TraceView(
        clips=(made,),
        whole=(made,),
        layers={name: tuple(_layer(call, sites.get(call.name), mask) for call in each) for name, each in calls.items()},
        valid=torch.ones(1, made.frames, dtype=torch.bool, device=logits.device),
        logits=_log_odds(logits) if activation == "softmax" else logits,
        vocabulary=_vocabulary(module, class_names, logits.shape[1]),
        model=_note(module, joined.captured, note),
        chosen=chosen,
        capabilities=Capabilities(
            gradient_norms=norms if known else None,
            gradient_norm_errors=errors if known and probes.count is not None else None,
            frame_tokens=None if first is None else partial(tokens_given, module, first),
            spatial_maps=None if adapter is not None else partial(_spatial_map, module, inputs, layout, calls, joined),
        ),
    )


def module_logits(module: nn.Module, inputs: Inputs, softmax: bool) -> Float[Tensor, "1 classes"]:
    """Logits of a module for one clip, whose sigmoid is the probability; differentiable.

    Args:
        softmax: whether the module's own go through a softmax.
        module, inputs: see `view_module`.

    Raises:
        RecordError: the module returns none.
    """
    return logits_of(module, call_module(module, inputs), softmax)


def logits_of(module: nn.Module, output: Any, softmax: bool) -> Float[Tensor, "1 classes"]:
    """The same of what the module has returned."""
    logits = _logits(module, output)
    return _log_odds(logits) if softmax else logits


def _captured(
    module: nn.Module, inputs: Inputs, layout: Layouts | None, adapter: Adapter | None
) -> tuple[Captured, Any]:
    if adapter is not None:
        return capture_adapted(module, inputs, adapter, reduce="frames", layout=layout), adapter.logits(module, inputs)
    with capture(module, reduce="frames", layout=layout) as captured:
        output = call_module(module, inputs)
    return captured, output


def streams_of(captured: Captured, patterns: Mapping[str, str] | None) -> dict[str, list[AttentionCall]]:
    """Name of a stream -> its calls, one a layer, as many in each.

    Raises:
        RecordError: streams of unequal numbers of layers or of time steps, one without calls, or several clips.
    """
    if patterns is None:
        calls = _by_path(captured)
    else:
        calls = {
            name: [call for call in captured if fnmatchcase(call.module, pattern)] for name, pattern in patterns.items()
        }
    counts = {name: len(each) for name, each in calls.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise RecordError(
            f"the streams have {counts} layers; expected as many in each, at least one. Choose them: "
            f"streams={{'name': 'pattern of module paths'}}; recorded were {', '.join(captured.names)}"
        )
    steps = {call.name: tuple(call.frame_map.weights.shape[-2:]) for each in calls.values() for call in each}
    if len(set(steps.values())) != 1 or len(set(next(iter(steps.values())))) != 1:
        raise RecordError(
            f"a record needs calls of the same time steps, queries and keys alike; here are {steps}. Leave out others "
            "by layout={'pattern of module paths': None, ...}; analysis.capture.capture gives the maps of any"
        )
    clips = {len(call.frame_map.weights) for each in calls.values() for call in each}
    if clips != {1}:
        raise RecordError(f"the inputs are a batch of {max(clips)} clips; a record is of one: give them one by one")
    for call in (one for each in calls.values() for one in each):
        _check_not_padded(call)
    return calls


def _check_not_padded(call: AttentionCall) -> None:
    if call.tables is None:
        return
    table = call.tables[0]
    empty = sorted(set(range(table.frames)) - set(table.frame[0].flatten().tolist()))
    if empty:
        raise RecordError(
            f"{call.name}: time step {empty[0]} of {table.frames} has no tokens, as where a clip is padded; a record "
            "is of one clip as long as it is: give inputs and a layout without padding"
        )


def _by_path(captured: Captured) -> dict[str, list[AttentionCall]]:
    """Calls whose paths differ in numbers only are the layers of one stream, named by what not all paths have.

    The second call of a module whose layers each make several is a stream of its own, with #1 behind its name.
    """
    counts = Counter(call.module for call in captured)
    # The branches of a block: as many calls in each of several modules. One module alone is used again instead.
    branches = next(iter(counts.values())) if len(counts) > 1 and len(set(counts.values())) == 1 else 1
    groups: dict[tuple[str, ...], list[AttentionCall]] = {}
    for call in captured:
        words = tuple(word for word in call.module.split(".") if not word.isdigit())
        number = call.index % branches
        groups.setdefault((*words, f"#{number}") if number else words, []).append(call)
    shared = set.intersection(*map(set, groups))
    named: dict[str, list[AttentionCall]] = {}
    for words, calls in groups.items():
        own = [word for word in words if word not in shared and not word.startswith("#")]
        name = ".".join(own).removesuffix("_attention").removesuffix("_attn") or "attention"
        name += words[-1] if words and words[-1].startswith("#") else ""
        named[name if name not in named else ".".join(words).replace(".#", "#")] = calls
    return named


def _layer(call: AttentionCall, site: ModuleSite | None, mask: Bool[Tensor, "query key"] | None) -> LayerTrace:
    """The maps are of the branch "global", whatever their masks are."""
    heads = len(call.heads)
    mask = None if mask is None else mask.to(call.frame_map.weights.device)
    outside = {"global": call.frame_map.outside} if bool((call.frame_map.outside > 0).any()) else {}
    return LayerTrace(
        input=None if site is None else site.input_frames(site.tokens).flatten(1)[None],
        output=None if site is None or site.several else site.output_frames(site.output).flatten(1)[None],
        weights={"global": call.frame_map.weights},
        head_groups={"global": (HeadGroup(0, heads, mask),)},
        outside=outside,
    )


def _first_site(captured: Captured, sites: Mapping[str, ModuleSite]) -> ModuleSite | None:
    """Of the first module that attends and is given tokens."""
    return next((sites[call.name] for call in captured if call.name in sites), None)


def _features(
    calls: Mapping[str, Sequence[AttentionCall]],
    sites: Mapping[str, ModuleSite],
    features: Mapping[str, Float[np.ndarray, "frames _"]] | None,
) -> dict[str, np.ndarray]:
    """Those given, else what each stream's first layer was given, as the mean over a frame's tokens."""
    if features is not None:
        return {name: np.asarray(values) for name, values in features.items()}
    first_sites = {name: sites[each[0].name] for name, each in calls.items() if each[0].name in sites}
    if not first_sites:
        raise RecordError(
            "the features of the frames are not known, since no module that attends is given tokens, one tensor of "
            "them, on axes that sizes or other numbers tell: give "
            f"features={{{next(iter(calls))!r}: array (time steps, dim)}}"
        )
    for name, site in first_sites.items():
        site.check_tokens(calls[name][0].name)
    return {name: site.input_frames(site.tokens).mean(1).float().cpu().numpy() for name, site in first_sites.items()}


def _clip(known: ModuleClip, calls: Mapping[str, Sequence[AttentionCall]], features: dict[str, np.ndarray]) -> Clip:
    first = next(iter(calls.values()))[0]
    steps = first.frame_map.weights.shape[-1]
    if wrong := {name: len(values) for name, values in features.items() if len(values) != steps}:
        raise RecordError(f"features have {wrong} rows; expected {steps}, one a time step")
    return Clip(known.id, features, frame_seconds=known.frame_seconds, start_seconds=known.start_seconds,
                source=known.source, shots=known.shots)  # fmt: skip


def _logits(module: nn.Module, output: Any) -> Float[Tensor, "1 classes"]:
    """The logits in what a module returned: `output.logits`, or the one tensor of a row a clip in it.

    Raises:
        RecordError: there are none of shape (1, classes), or several.
    """
    fitting = [each for each in _tensors(output) if each.ndim == 2 and len(each) == 1 and each.is_floating_point()]
    if len(fitting) != 1:
        shapes = ", ".join(str(tuple(each.shape)) for each in _tensors(output)) or "no tensors"
        raise RecordError(
            f"{type(module).__name__} returned {type(output).__name__} of {shapes}; expected logits (1, classes), by "
            "themselves, as `.logits` or under 'logits', or as the only tensor of this form in a tuple. Put the model "
            "into a module that returns them, or give an adapter"
        )
    return fitting[0]


def main_tensor(module: nn.Module, output: Any) -> Tensor:
    """The logits in what a module returned, or the first tensor of numbers where there are none.

    Raises:
        RecordError: there is no tensor.
    """
    try:
        return _logits(module, output)
    except RecordError:
        tensors = [each for each in _tensors(output) if each.is_floating_point()]
        if not tensors:
            raise
        return tensors[0]


def _tensors(output: Any) -> list[Tensor]:
    """Tensors among which the logits are."""
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if logits is not None:
        output = logits
    values = (
        output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else [output]
    )
    return [each for each in values if isinstance(each, Tensor)]


def _log_odds(logits: Float[Tensor, "1 classes"]) -> Float[Tensor, "1 classes"]:
    """Logits whose sigmoid is the softmax of these: log p / (1 - p)."""
    values = logits.double()
    shares = torch.log_softmax(values, 1)
    if values.shape[1] < 2:  # no other class
        return (shares - torch.log1p(-shares.exp().clamp(max=1 - 1e-16))).to(logits.dtype)
    # The likeliest class's 1 - p may be below what a number near 1 can tell: it is summed up from the others.
    top = values.argmax(1, keepdim=True)
    others = values.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    odds = shares - torch.log1p(-shares.scatter(1, top, -1.0).exp())
    return odds.scatter(1, top, values.gather(1, top) - others).to(logits.dtype)


def _vocabulary(module: nn.Module, names: Sequence[str] | None, classes: int) -> Vocabulary:
    """Those given, else the configuration's, else numbered."""
    labels = getattr(getattr(module, "config", None), "id2label", None)
    if names is None and isinstance(labels, Mapping) and len(labels) == classes:
        if missing := [index for index in range(classes) if index not in labels]:
            raise RecordError(
                f"id2label of the module's configuration has no class {missing[0]}, but {list(labels)[:4]!r:.60}; "
                f"expected the whole numbers from 0 to {classes - 1}: give class_names="
            )
        names = [str(labels[index]) for index in range(classes)]
    names = [f"class {index}" for index in range(classes)] if names is None else list(names)
    if len(names) != classes:
        raise RecordError(f"{len(names)} class names; the module has {classes} classes")
    return Vocabulary("", tuple(range(classes)), tuple(names))


def _note(module: nn.Module, captured: Captured, note: ModelNote | None) -> ModelNote:
    """Its name says where its weights are no trained ones, if its configuration does (`weights: "random"`)."""
    name = type(module).__name__ if note is None else note.name
    attributes = {
        "checkpoint_name": name,
        "attention_kind": "module",
        "attention_modules": ", ".join(captured.names),
        "attention_verified": f"max |P V - out| {captured.difference:.3g}",
    }
    attributes |= {} if note is None else dict(note.attributes)
    weights = getattr(getattr(module, "config", None), "weights", None)
    if isinstance(weights, str) and is_plain(weights):
        attributes["weights"] = weights
        name = f"{name} (weights: {weights:.40})"
    return ModelNote(name, attributes)


def _spatial_map(
    module: nn.Module,
    inputs: Inputs,
    layout: Layouts | None,
    calls: Mapping[str, Sequence[AttentionCall]],
    joined: JoinedCalls,
    modality: str,
    layer: int,
    frame: int,
) -> Float[Tensor, "heads key patch"]:
    """Another pass, of which the rows of one frame of one call are kept."""
    heads = joined.members[calls[modality][layer].name]
    with evaluating_module(module), torch.no_grad():
        with capture(module, queries=[frame], layers=[call.module for call in heads], layout=layout) as captured:
            call_module(module, inputs)
        return torch.cat([captured[call.name].spatial_map(frame)[0] for call in heads])


def _norms(
    module: nn.Module,
    inputs: Inputs,
    calls: Mapping[str, Sequence[AttentionCall]],
    sites: Mapping[str, ModuleSite],
    probes: Probes,
    which: int,
    view: TraceView,
    modality: str,
    layer: int,
) -> Float[Tensor, "1 query key"]:
    """G of the module that attends (0), or its standard error (1)."""
    name = calls[modality][layer].name
    site = sites.get(name)
    both = view.once(("norms and errors", modality, layer), lambda: site_norms(module, inputs, name, site, probes))
    return both[which][None]
