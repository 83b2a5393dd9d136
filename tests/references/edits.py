"""Slow definition of an edited pass: one clip, one head at a time, float64, each change written where it acts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from torch import nn

from references.equations import may_attend, softmax_pair

# (stream, layer, branch, quantity, head) -> what is done to the value there; the head is None where there are none.
Changes = dict[tuple, Callable[[np.ndarray], np.ndarray]]


def edited_logits(model: nn.Module, clip, changes: Changes, kept: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """Logits of a model with changes on the way.

    Args:
        model: in float64.
        clip: not longer than the model takes.
        changes: see `Changes`.
        kept: stream -> frames that are no padding.
    """
    pooled = []
    for stream, encoder in model.encoders.items():
        frames = changes.get((stream, None, "", "input", None), _same)(clip.floats(stream).astype(np.float64))
        real = np.ones(len(frames), bool) if kept is None or stream not in kept else kept[stream]
        hidden = frames if encoder.project is None else _linear(encoder.project, frames)
        for number, layer in enumerate(encoder.layers):
            place = (stream, number)
            hidden = _layer(layer, hidden, real, lambda *at, place=place: changes.get(place + at, _same))
        hidden = _norm(encoder.norm, hidden) if isinstance(encoder.norm, nn.LayerNorm) else hidden
        pooled.append(changes.get((stream, None, "", "pooled", None), _same)(hidden[real].mean(0)))
    return _linear(model.classifier, np.concatenate(pooled))


def _layer(layer: nn.Module, hidden: np.ndarray, real: np.ndarray, change: Callable) -> np.ndarray:
    given = change("", "input", None)(_norm(layer.norm_attention, hidden) if layer.norm_first else hidden)
    hidden = hidden + change("", "output", None)(_block(layer.attention, given, real, change))
    if not layer.norm_first:
        hidden = _norm(layer.norm_attention, hidden)
    inside = _norm(layer.norm_feed_forward, hidden) if layer.norm_first else hidden
    wide = _linear(layer.feed_forward[0], inside)
    gelu = 0.5 * wide * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
    hidden = hidden + _linear(layer.feed_forward[2], gelu)
    return change("", "encoded", None)(hidden if layer.norm_first else _norm(layer.norm_feed_forward, hidden))


def _block(block: nn.Module, given: np.ndarray, real: np.ndarray, change: Callable) -> np.ndarray:
    kind, width = type(block).__name__, given.shape[1] // block.heads
    maps, values, contexts = {}, {}, {}
    for branch, heads in _heads(kind, block.heads).items():
        for head in heads:
            part = slice(head * width, (head + 1) * width)
            at = lambda quantity, head=head, branch=branch: change(branch, quantity, head)  # noqa: E731
            query = at("queries")(_linear(block.query, given)[:, part])
            key = at("keys")(_linear(block.key, given)[:, part])
            values[branch, head] = at("values")(_linear(block.value, given)[:, part])
            allowed = np.ones((len(given), len(given)), bool)
            if branch == "local":
                neighbourhood = change("local", "neighbourhood", None)(block.neighbourhood)
                allowed = np.array(
                    [[may_attend(neighbourhood, i, j) for j in range(len(given))] for i in range(len(given))]
                )
            allowed = at("mask")(allowed) & real[None, :] & real[:, None]
            logits = at("logits")(query @ key.T / math.sqrt(width))
            maps[branch, head] = at("weights")(_softmax(logits, allowed))
    if kind in ("GateAtt", "HeadGate"):
        for head in range(block.heads):
            gate = change("", "gate", head)(_map_gate(block, kind, maps, head))
            maps["global", head], maps["local", head] = gate * maps["global", head], (1 - gate) * maps["local", head]
    for (branch, head), each in maps.items():
        contexts[branch, head] = change(branch, "contexts", head)(each @ values[branch, head])
    return _output(block, kind, contexts, change)


def _output(block: nn.Module, kind: str, contexts: dict, change: Callable) -> np.ndarray:
    joined = {
        branch: np.concatenate([contexts[branch, head] for head in heads], 1)
        for branch, heads in _heads(kind, block.heads).items()
    }
    match kind:
        case "Baseline":
            return _linear(block.output, joined["global"])
        case "ShareAtt":
            return _linear(block.output, np.concatenate([joined["global"], joined["local"]], 1))
        case "GateAtt" | "HeadGate":
            return _linear(block.output, joined["global"] + joined["local"])
    gate = softmax_pair(_linear(block.gate_global, joined["global"]), _linear(block.gate_local, joined["local"]))[0]
    gate = change("", "gate", None)(gate)
    output = gate * _linear(block.output_global, joined["global"])
    output += (1 - gate) * _linear(block.output_local, joined["local"])
    return output + _numbers(block.output_bias)


def _heads(kind: str, heads: int) -> dict[str, range]:
    match kind:
        case "Baseline":
            return {"global": range(heads)}
        case "ShareAtt":
            return {"global": range(heads // 2), "local": range(heads // 2, heads)}
    return {"global": range(heads), "local": range(heads)}


def _map_gate(block: nn.Module, kind: str, maps: dict, head: int) -> np.ndarray:
    if kind == "HeadGate":
        return np.full_like(maps["global", head], 1 / (1 + math.exp(-float(_numbers(block.gate)[head]))))
    frames = len(maps["global", head])
    w_g, w_l = (_numbers(each)[:frames, :frames] for each in (block.gate_global, block.gate_local))
    return softmax_pair(maps["global", head] @ w_g, maps["local", head] @ w_l)[0]


def _softmax(logits: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    weights = np.zeros_like(logits)
    for i in range(len(logits)):
        if allowed[i].any():
            each = np.exp(logits[i, allowed[i]] - logits[i, allowed[i]].max())
            weights[i, allowed[i]] = each / each.sum()
    return weights


def _norm(norm: nn.LayerNorm, rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(1, keepdims=True)
    scale = np.sqrt((centred**2).mean(1, keepdims=True) + norm.eps)
    return centred / scale * _numbers(norm.weight) + _numbers(norm.bias)


def _linear(linear: nn.Linear, rows: np.ndarray) -> np.ndarray:
    product = rows @ _numbers(linear.weight).T
    return product if linear.bias is None else product + _numbers(linear.bias)


def _numbers(parameter) -> np.ndarray:
    return parameter.detach().double().numpy()


def _same(value):
    return value
