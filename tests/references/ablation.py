"""Slow definitions of ablation: in the weights themselves, and in the paper's equations, one clip, float64."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from references.equations import attention_map, softmax_pair

GATE_OP = ("output_global", "output_local", "gate_global", "gate_local")


def without_columns(
    block: nn.Module, columns: slice, mean: np.ndarray | None = None, branch: str | None = None
) -> nn.Module:
    """The block with the columns of W_O that read some contexts set to 0, what a constant context gives in its bias."""
    changed = copy.deepcopy(block)
    names = GATE_OP if hasattr(block, "output_global") else ("output",)
    with torch.no_grad():
        for name in names:
            if branch is not None and not name.endswith(branch):
                continue
            weight = getattr(changed, name).weight
            if mean is not None:
                changed.output.bias += weight[:, columns] @ torch.as_tensor(mean, dtype=weight.dtype)
            weight[:, columns] = 0.0
    return changed


def with_constant_values(block: nn.Module, columns: slice, constant: np.ndarray) -> nn.Module:
    """The block whose values of some heads are one vector: where rows of weights sum to 1, so are the contexts."""
    changed = copy.deepcopy(block)
    with torch.no_grad():
        changed.value.weight[columns] = 0.0
        changed.value.bias[columns] = torch.as_tensor(constant, dtype=changed.value.bias.dtype)
    return changed


def contexts_by_definition(block: nn.Module, inputs: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Contexts of every head of every branch (frames, d), from equations 1 to 6; "alone" holds GateAtt's A V."""
    values = {name: tensor.detach().double().numpy() for name, tensor in block.state_dict().items()}
    query, key, value = (
        inputs @ values[f"{name}.weight"].T + values[f"{name}.bias"] for name in ("query", "key", "value")
    )
    width, frames = query.shape[1] // block.heads, len(inputs)
    found = {"global": [], "local": [], "global alone": [], "local alone": []}
    for m in range(block.heads):
        part = slice(m * width, (m + 1) * width)
        a_g = attention_map(query[:, part], key[:, part], None)
        a_l = attention_map(query[:, part], key[:, part], block.neighbourhood)
        found["global alone"].append(a_g @ value[:, part])
        found["local alone"].append(a_l @ value[:, part])
        if type(block).__name__ == "GateAtt":
            w_g, w_l = (values[name][:frames, :frames] for name in ("gate_global", "gate_local"))
            r_g, r_l = softmax_pair(a_g @ w_g, a_l @ w_l)
            a_g, a_l = r_g * a_g, r_l * a_l
        found["global"].append(a_g @ value[:, part])
        found["local"].append(a_l @ value[:, part])
    return found


def output_by_definition(
    block: nn.Module, o_g: list[np.ndarray], o_l: list[np.ndarray], open_global: float | None = None
) -> np.ndarray:
    """Y of GateAtt or GateOp from contexts; `open_global` fixes GateOp's R_g, None: equation 8."""
    values = {name: tensor.detach().double().numpy() for name, tensor in block.state_dict().items()}
    g, l = np.concatenate(o_g, 1), np.concatenate(o_l, 1)  # noqa: E741 (the paper's letters)
    if type(block).__name__ == "GateAtt":
        return (g + l) @ values["output.weight"].T + values["output.bias"]
    r_g, r_l = softmax_pair(g @ values["gate_global.weight"].T, l @ values["gate_local.weight"].T)
    if open_global is not None:
        r_g, r_l = np.full_like(r_g, open_global), np.full_like(r_l, 1 - open_global)
    y_g, y_l = g @ values["output_global.weight"].T, l @ values["output_local.weight"].T
    return r_g * y_g + r_l * y_l + values["output_bias"]
