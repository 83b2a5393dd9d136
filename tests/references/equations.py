"""Plain definitions straight from the paper: one clip, one number at a time, float64, no padding.

Rows are frames. Products are as printed: O W with a row vector on the left; a `Linear` stores the transpose.
"""

from __future__ import annotations

import math

import numpy as np
from torch import nn

from gmsa_models.masks import BlockDiagonal, Neighbourhood, Scales, Toeplitz, ToeplitzDilated


def may_attend(neighbourhood: Neighbourhood, i: int, j: int) -> bool:
    """Whether frame j is in N_i."""
    if isinstance(neighbourhood, BlockDiagonal):
        first = i - i % neighbourhood.size
        return first <= j < first + neighbourhood.size
    if isinstance(neighbourhood, Toeplitz):
        return abs(i - j) <= neighbourhood.size / 2
    assert isinstance(neighbourhood, ToeplitzDilated)
    return abs(i - j) <= neighbourhood.size / 2 and (i - j) % neighbourhood.dilation == 0


def attention_map(query: np.ndarray, key: np.ndarray, neighbourhood: Neighbourhood | None) -> np.ndarray:
    """Equations 1 and 2 for one head: queries and keys (frames, d), None = every frame."""
    frames, d = query.shape
    weights = np.zeros((frames, frames))
    for i in range(frames):
        allowed = [j for j in range(frames) if neighbourhood is None or may_attend(neighbourhood, i, j)]
        exponentials = {j: math.exp(float(query[i] @ key[j]) / math.sqrt(d)) for j in allowed}
        for j in allowed:
            weights[i, j] = exponentials[j] / sum(exponentials.values())
    return weights


def softmax_pair(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Softmax over the two numbers at each place."""
    total = np.exp(first) + np.exp(second)
    return np.exp(first) / total, np.exp(second) / total


def block_by_definition(block: nn.Module, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """What the paper says a block returns, and its maps and gates, for one clip (frames, D)."""
    values = {name: tensor.detach().double().numpy() for name, tensor in block.state_dict().items()}
    query, key, value = (_linear(inputs, values, name) for name in ("query", "key", "value"))
    heads = [
        slice(m * query.shape[1] // block.heads, (m + 1) * query.shape[1] // block.heads) for m in range(block.heads)
    ]
    own = block.neighbourhood
    scales = {str_of(part): part for part in own.parts} if isinstance(own, Scales) else {"local": own}
    maps = {
        branch: [attention_map(query[:, m], key[:, m], pattern) for m in heads]
        for branch, pattern in {"global": None, **scales}.items()
    }
    contexts = [value[:, m] for m in heads]
    return DEFINITIONS[type(block).__name__](values, maps, contexts)


def str_of(part: Neighbourhood) -> str:
    """What the branch of a neighbourhood is called."""
    kind = {BlockDiagonal: "BD", Toeplitz: "TP", ToeplitzDilated: "TD"}[type(part)]
    return f"{kind}{part.size}" + (f"x{part.dilation}" if isinstance(part, ToeplitzDilated) else "")


def _local(values: dict, maps: dict, v: list) -> dict[str, np.ndarray]:
    return {"output": _project(values, maps["local"], v), "local": np.stack(maps["local"])}


def _gate_op_scales(values: dict, maps: dict, v: list) -> dict[str, np.ndarray]:
    """Equations 5 to 9 with a sum over branches where they have two terms."""
    o = {name: np.concatenate([a @ v_m for a, v_m in zip(each, v, strict=True)], 1) for name, each in maps.items()}
    y = {name: _linear(each, values, f"outputs.{name}") for name, each in o.items()}
    powers = {name: np.exp(_linear(each, values, f"gates.{name}")) for name, each in o.items()}
    r = {name: each / sum(powers.values()) for name, each in powers.items()}
    output = sum(r[name] * (y[name] + values.get("output_bias", 0.0)) for name in y)
    return {"output": output, **{name: np.stack(each) for name, each in maps.items()}, "gates": r}


def _baseline(values: dict, maps: dict, v: list) -> dict[str, np.ndarray]:
    return {"output": _project(values, maps["global"], v), "global": np.stack(maps["global"])}


def _share_att(values: dict, maps: dict, v: list) -> dict[str, np.ndarray]:
    half = len(v) // 2
    combined = maps["global"][:half] + maps["local"][half:]
    return {
        "output": _project(values, combined, v),
        "global": np.stack(combined[:half]),
        "local": np.stack(combined[half:]),
        "combined": np.stack(combined),
    }


def _gate_att(values: dict, maps: dict, v: list) -> dict[str, np.ndarray]:
    frames = v[0].shape[0]
    w_g, w_l = (values[name][:frames, :frames] for name in ("gate_global", "gate_local"))
    combined, gates = [], []
    for a_g, a_l in zip(maps["global"], maps["local"], strict=True):
        r_g, r_l = softmax_pair(a_g @ w_g, a_l @ w_l)  # equation 3
        combined.append(r_g * a_g + r_l * a_l)  # equation 4
        gates.append(r_g)
    return {
        "output": _project(values, combined, v),
        "global": np.stack(maps["global"]),
        "local": np.stack(maps["local"]),
        "combined": np.stack(combined),
        "gate": np.stack(gates),
    }


def _gate_op(values: dict, maps: dict, v: list) -> dict[str, np.ndarray]:
    o_g = np.concatenate([a @ v_m for a, v_m in zip(maps["global"], v, strict=True)], 1)  # equation 5
    o_l = np.concatenate([a @ v_m for a, v_m in zip(maps["local"], v, strict=True)], 1)  # equation 6
    y_g, y_l = _linear(o_g, values, "output_global"), _linear(o_l, values, "output_local")  # equation 7
    bias = values.get("output_bias", 0.0)
    r_g, r_l = softmax_pair(_linear(o_g, values, "gate_global"), _linear(o_l, values, "gate_local"))  # equation 8
    return {
        "output": r_g * (y_g + bias) + r_l * (y_l + bias),  # equation 9, the bias in each branch
        "global": np.stack(maps["global"]),
        "local": np.stack(maps["local"]),
        "gate": r_g,
    }


DEFINITIONS = {
    "Baseline": _baseline, "ShareAtt": _share_att, "GateAtt": _gate_att, "GateOp": _gate_op, "Local": _local,
    "GateOpScales": _gate_op_scales,
}  # fmt: skip


def _linear(inputs: np.ndarray, values: dict, name: str) -> np.ndarray:
    return inputs @ values[f"{name}.weight"].T + values.get(f"{name}.bias", 0.0)


def _project(values: dict, maps: list, v: list) -> np.ndarray:
    return _linear(np.concatenate([a @ v_m for a, v_m in zip(maps, v, strict=True)], 1), values, "output")
