"""Functions of torch, by what they do to an attention map that is followed."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

__all__ = [
    "ADDED_PRODUCTS",
    "ADDITIONS",
    "AXES_KEPT",
    "BESIDE",
    "CUTS",
    "DROPOUTS",
    "ELEMENTWISE",
    "EXPONENTIALS",
    "JOINS",
    "LEAVES",
    "LOGARITHMS",
    "LOGSUMS",
    "MOVES",
    "NOISY",
    "NO_NUMBERS",
    "OF_SCORES",
    "PICKS",
    "PRODUCTS",
    "RANDOM",
    "REDUCTIONS",
    "SAME",
    "SCALINGS",
    "SCATTERS",
    "SOFTMAXES",
    "SPLITS",
    "SUBTRACTIONS",
    "SUMS",
    "TRANSPOSES",
    "function_name",
]

BOTH = (torch, torch.Tensor)


def _named(*names: str, places: tuple[Any, ...] = BOTH) -> set[Any]:
    """The functions of these names, where torch has them."""
    return {getattr(place, name) for place in places for name in names if hasattr(place, name)}


def _getter(name: str) -> Any:
    return getattr(torch.Tensor, name).__get__


# Softmax -> position of its `dim` among the arguments, and what that is where it is not given.
SOFTMAXES: dict[Any, tuple[int, int | None]] = {
    torch.softmax: (1, None),
    torch.special.softmax: (1, None),
    torch.Tensor.softmax: (1, None),
    F.softmax: (1, None),
    F.softmin: (1, None),
    F.gumbel_softmax: (4, -1),
    torch.log_softmax: (1, None),
    torch.special.log_softmax: (1, None),
    torch.Tensor.log_softmax: (1, None),
    F.log_softmax: (1, None),
    torch.sparse.softmax: (1, None),
    torch.sparse.log_softmax: (1, None),
}
for _operator in (torch.ops.aten.softmax, torch.ops.aten._softmax, torch.ops.aten._safe_softmax):
    SOFTMAXES |= dict.fromkeys((_operator, *(getattr(_operator, name) for name in _operator.overloads())), (1, None))
SOFTMAXES |= {getattr(torch, name): (1, None) for name in ("_softmax", "_safe_softmax") if hasattr(torch, name)}
# Of these a map is what follows an exponential.
LOGARITHMS = {
    torch.log_softmax, torch.special.log_softmax, torch.Tensor.log_softmax, F.log_softmax, torch.sparse.log_softmax,
}  # fmt: skip
# Which are of their first argument as it is, and of nothing else.
OF_SCORES = set(SOFTMAXES) - {F.softmin, F.gumbel_softmax, torch.sparse.softmax, torch.sparse.log_softmax}
EXPONENTIALS = _named("exp", "exp_")
PRODUCTS = {*_named("matmul", "bmm", "mm"), torch.Tensor.__matmul__, torch.linalg.matmul}
ELEMENTWISE = {*_named("mul", "multiply"), torch.Tensor.__mul__, torch.Tensor.__rmul__}
SUMS = _named("sum")
LOGSUMS = {*_named("logsumexp"), torch.special.logsumexp}
SUBTRACTIONS = {*_named("sub", "subtract"), torch.Tensor.__sub__}
REDUCTIONS = {
    *SUMS,
    *_named("mean", "amax", "amin", "max", "min", "argmax", "argmin", "norm", "logsumexp", "std", "var", "prod"),
    *_named("median", "nansum", "nanmean", "any", "all", "count_nonzero"),
    torch.linalg.norm,
    torch.linalg.vector_norm,
}  # fmt: skip
DROPOUTS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, torch.dropout, torch.dropout_, torch.feature_dropout}
# Dropouts that move what they keep, so that the map before cannot be told from the one behind.
NOISY = {F.alpha_dropout, F.feature_alpha_dropout}
RANDOM = {
    *_named("bernoulli", "bernoulli_", "rand_like", "randn_like", "uniform_", "normal_", "random_"),
    *_named("rand", "randn", "randint", places=(torch,)),
}
# What leaves the numbers of a map as they are, but for their type and the split of their leading axes.
SAME = {
    *_named("reshape", "squeeze", "unsqueeze", "flatten", "unflatten", "clone", "detach"),
    *_named(
        "to", "type", "type_as", "float", "half", "bfloat16", "double", "contiguous", "view", "view_as", "reshape_as",
        "expand", "expand_as", "cpu", "cuda", "detach_", "requires_grad_", "squeeze_", "unsqueeze_",
        places=(torch.Tensor,),
    ),
    _getter("data"),
}  # fmt: skip
TRANSPOSES = {
    *_named("transpose", "permute", "movedim", "moveaxis", "swapaxes", "swapdims", "t", "adjoint"),
    *(_getter(name) for name in ("T", "mT", "H", "mH")),
}
# Changes of a map that can be made of the one before a dropout too, and leave what was dropped 0.
SCALINGS = {
    *ELEMENTWISE,
    *_named("div", "true_divide", "neg"),
    torch.Tensor.__truediv__,
    torch.Tensor.__neg__,
    torch.Tensor.__getitem__,
}
SCATTERS = _named("scatter", "scatter_")
# What takes some of a map's queries or keys, or adds keys: the axes stay.
CUTS = {
    *_named("narrow", "index_select", "gather", "take_along_dim", "flip", "roll", "sort"),
    F.pad,
    torch.Tensor.__getitem__,
}
# What may put a map's heads, queries or keys in other places.
MOVES = {
    *_named("index_select", "gather", "take_along_dim", "flip", "fliplr", "flipud", "roll", "sort", "topk", "rot90"),
    *_named("index_put", "index_put_", "index_copy", "index_copy_", "scatter", "scatter_", "masked_scatter"),
    torch.Tensor.__setitem__,
}
JOINS = _named("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack")
# What has several tensors, and multiplies none with another.
BESIDE = {
    *_named("subtract", "rsub", "div", "divide", "true_divide", "where", "masked_fill", "masked_scatter"),
    *_named("maximum", "minimum", "clamp", "clip", "eq", "ne", "gt", "ge", "lt", "le", "isclose", "equal", "allclose"),
    *_named("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "cat_", "copy_", "index_put"),
    *_named("div_", "masked_fill_", "index_put_", "index_copy", "index_copy_", "index_fill", "scatter"),
    *_named("scatter_", "fill_", "clamp_", "masked_scatter_", "pow", "float_power", "broadcast_to"),
    torch.Tensor.__truediv__,
    torch.Tensor.__itruediv__,
    torch.Tensor.__rtruediv__,
    *(getattr(torch.Tensor, f"__{verb}__") for verb in ("eq", "ne", "gt", "ge", "lt", "le", "pow", "rpow")),
    torch.Tensor.__setitem__,
    torch.broadcast_tensors,
    F.pad,
}
# Where numbers are added to others, so that what was made of a map alone cannot be told any more.
ADDITIONS = {
    *_named("add", "sub", "add_", "sub_", "index_add", "index_add_", "scatter_add", "scatter_add_", "scatter_reduce"),
    *(getattr(torch.Tensor, f"__{mark}{verb}__") for verb in ("add", "sub") for mark in ("", "r", "i")),
}
BESIDE |= ADDITIONS
BESIDE |= {
    getattr(F, name)
    for name in (
        "kl_div",
        "mse_loss",
        "l1_loss",
        "smooth_l1_loss",
        "huber_loss",
        "binary_cross_entropy",
        "cross_entropy",
        "nll_loss",
        "binary_cross_entropy_with_logits",
        "cosine_similarity",
        "cosine_embedding_loss",
        "pairwise_distance",
        "soft_margin_loss",
        "hinge_embedding_loss",
        "margin_ranking_loss",
    )
}  # losses
# What adds a product to its first argument.
ADDED_PRODUCTS = _named("addmm", "addmm_", "addbmm", "addbmm_", "baddbmm", "baddbmm_", "addcmul", "addcmul_", "addcdiv",
                        "addcdiv_")  # fmt: skip
# What leaves each axis of a map where it is, though it takes other numbers too.
# Products of matrices among it have no other numbers but maps by then.
AXES_KEPT = {
    *PRODUCTS,
    *ELEMENTWISE,
    *BESIDE,
    *CUTS,
    *SCATTERS,
    *MOVES,
    *_named("mul_", "multiply_", "__imul__", "lerp", "lerp_", "fmod", "remainder", "copysign", "hypot", "logaddexp"),
    *_named("fmax", "fmin", "bitwise_and", "logical_and", "logical_or"),
}
# What takes one position of axes, or their diagonal: name, place and default of the arguments that say which; how many
# axes are put behind the others.
PICKS: dict[Any, tuple[tuple[tuple[str, int, int], ...], int]] = {
    **dict.fromkeys(_named("select", "unbind"), ((("dim", 1, 0),), 0)),
    **dict.fromkeys(_named("diagonal"), ((("dim1", 2, 0), ("dim2", 3, 1)), 1)),
}
# What takes a tensor apart.
SPLITS = _named(
    "split", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk", "split_with_sizes", "hsplit", "dsplit"
)
# Of which only the shape, the type or the place of a tensor is asked.
NO_NUMBERS = {
    *_named(
        "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "randint_like", "new_zeros",
        "new_ones", "new_empty", "new_full", "new_tensor", "numel", "size", "dim",
    ),
    _getter("grad"),
}  # fmt: skip
# What takes numbers out of torch, where nothing is seen.
LEAVES = {torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.tolist, torch.Tensor.data_ptr}


def function_name(func: Any) -> str:
    """What a function is called in messages: "clamp", "conv2d", "linalg_matmul"."""
    name = str(getattr(func, "__name__", None) or type(func).__name__)
    if name == "__get__":  # of an attribute
        return str(torch.overrides.resolve_name(func) or name).removesuffix(".__get__").rpartition(".")[2]
    return name
