"""Functions of torch, by what they do to an attention map that is followed."""

from __future__ import annotations

import torch
from torch.nn import functional as F

__all__ = [
    "CHANGES",
    "DROPOUTS",
    "ELEMENTWISE",
    "OTHER_PRODUCTS",
    "PRODUCTS",
    "REARRANGED",
    "SAME",
    "SOFTMAXES",
    "SUMS",
    "TRANSPOSES",
]

SOFTMAXES = {torch.softmax, torch.special.softmax, torch.Tensor.softmax, F.softmax}
PRODUCTS = {
    torch.matmul,
    torch.bmm,
    torch.mm,
    torch.Tensor.matmul,
    torch.Tensor.__matmul__,
    torch.Tensor.bmm,
    torch.Tensor.mm,
}
ELEMENTWISE = {torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__}
SUMS = {torch.sum, torch.Tensor.sum}
# What multiplies in other ways, none of which is followed.
OTHER_PRODUCTS = {
    torch.tensordot,
    torch.baddbmm,
    torch.addbmm,
    torch.addmm,
    torch.inner,
    torch.mv,
    F.linear,
    F.bilinear,
}
DROPOUTS = {F.dropout, torch.dropout}
# What leaves the numbers of a map as they are, but for their type and the split of their leading axes.
SAME = {
    torch.reshape,
    torch.squeeze,
    torch.unsqueeze,
    torch.flatten,
    torch.unflatten,
    torch.clone,
    torch.Tensor.to,
    torch.Tensor.type,
    torch.Tensor.type_as,
    torch.Tensor.float,
    torch.Tensor.half,
    torch.Tensor.bfloat16,
    torch.Tensor.double,
    torch.Tensor.contiguous,
    torch.Tensor.clone,
    torch.Tensor.view,
    torch.Tensor.reshape,
    torch.Tensor.expand,
    torch.Tensor.squeeze,
    torch.Tensor.unsqueeze,
    torch.Tensor.flatten,
    torch.Tensor.unflatten,
}
TRANSPOSES = {
    torch.transpose,
    torch.permute,
    torch.movedim,
    torch.swapaxes,
    torch.swapdims,
    torch.Tensor.movedim,
    torch.Tensor.swapdims,
    torch.Tensor.transpose,
    torch.Tensor.permute,
    torch.Tensor.mT.__get__,  # type: ignore[attr-defined]  # a descriptor
    torch.Tensor.swapaxes,
}
# What makes another map of one: gates, masks after the softmax, sums of branches, a key that is cut off.
CHANGES = {
    torch.add,
    torch.sub,
    torch.mul,
    torch.div,
    torch.where,
    torch.masked_fill,
    torch.Tensor.__getitem__,
    *(
        getattr(torch.Tensor, name)
        for verb in ("add", "sub", "mul", "div", "masked_fill")
        for name in (verb, f"{verb}_")
    ),
    *(
        getattr(torch.Tensor, f"__{mark}{verb}__")
        for verb in ("add", "sub", "mul")
        for mark in ("", "r", "i")
    ),
    torch.Tensor.__truediv__,
    torch.Tensor.__itruediv__,
}  # fmt: skip


# What takes maps apart or puts them together: not followed, but what they are multiplied with then is noted.
REARRANGED = {
    F.pad,
    *(
        getattr(place, name)
        for place in (torch, torch.Tensor)
        for name in (
            "chunk",
            "split",
            "unbind",
            "select",
            "narrow",
            "repeat_interleave",
            "index_select",
            "roll",
            "flip",
        )
    ),
    torch.cat,
    torch.concat,
    torch.stack,
    torch.tile,
    torch.Tensor.tile,
    torch.Tensor.repeat,
}
