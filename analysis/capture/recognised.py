"""Token layouts of transformers models, from their configuration and the shape of what they are given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from analysis.capture.errors import LayoutError
from analysis.capture.layout import Layout, TokenLayout, TokenTable

__all__ = ["RECOGNISED", "Recogniser"]

Layouts = dict[str, Layout | None]


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _grid(pixels: Tensor, patch: Any) -> tuple[int, int]:
    """Rows and columns of patches in pictures (..., height, width)."""
    rows, columns = _pair(patch)
    return pixels.shape[-2] // rows, pixels.shape[-1] // columns


def _cells(pixels: Tensor, patch: Any) -> int:
    rows, columns = _grid(pixels, patch)
    return rows * columns


def _videomae(config: Any, pixels: Tensor, arguments: dict[str, Any]) -> Layouts:
    length = config.tubelet_size
    frames, patches = pixels.shape[1] // length, _cells(pixels, config.patch_size)
    hidden = arguments.get("bool_masked_pos")
    if not isinstance(hidden, Tensor) or hidden.ndim != 2 or hidden.shape[1] != frames * patches:
        return {"*decoder.*": None, "*": TokenLayout(frames, patches, tubelet=length)}
    # The encoder is given the visible tokens, as many in every clip, the decoder these and then the masked ones.
    order = hidden.bool().int().argsort(stable=True, dim=1)[:, None].cpu()
    count = int((~hidden[0].bool()).sum())
    joined, visible = (
        TokenTable(each // patches, each % patches, frames, patches) for each in (order, order[..., :count])
    )
    return {"*decoder.*": joined, "*": visible}


def _vivit(config: Any, pixels: Tensor, arguments: dict[str, Any]) -> Layouts:
    length, *patch = config.tubelet_size
    return {"*": TokenLayout(pixels.shape[1] // length, _cells(pixels, patch), front=1, tubelet=length)}


def _timesformer(config: Any, pixels: Tensor, arguments: dict[str, Any]) -> Layouts:
    frames, patches = pixels.shape[1], _cells(pixels, config.patch_size)
    if config.attention_type == "joint_space_time":
        return {"*": TokenLayout(frames, patches, "patch frame", front=1)}
    spatial = TokenLayout(frames, patches, front=1, folded="frame")
    return {"*.temporal_attention.*": TokenLayout(frames, patches, folded="patch"), "*": spatial}


def _vjepa2(config: Any, pixels: Tensor, arguments: dict[str, Any]) -> Layouts:
    length = config.tubelet_size
    frames = max(pixels.shape[1] // length, 1)
    layout = TokenLayout(frames, _cells(pixels, config.patch_size), tubelet=length)
    return {"*predictor.*": None, "*pooler.*": None, "*": layout}


def _spectrogram(config: Any, values: Tensor, arguments: dict[str, Any]) -> Layouts:
    patches = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
    frames = (values.shape[1] - config.patch_size) // config.time_stride + 1
    return {"*": TokenLayout(frames, patches, "patch frame", front=2)}


def _whisper(config: Any, features: Tensor, arguments: dict[str, Any]) -> Layouts:
    # Two convolutions, the second with a stride of 2. The decoder's queries are text.
    return {"*decoder.*": None, "*": TokenLayout((features.shape[-1] - 1) // 2 + 1)}


def _wav2vec2(config: Any, samples: Tensor, arguments: dict[str, Any]) -> Layouts:
    def steps(length: int) -> int:
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            length = (length - kernel) // stride + 1
        return length

    mask = arguments.get("attention_mask")
    lengths = None if mask is None else tuple(steps(int(length)) for length in mask.sum(-1))
    return {"*": TokenLayout(steps(samples.shape[-1]), lengths=lengths)}


def _picture(config: Any, pixels: Tensor, arguments: dict[str, Any]) -> Layouts:
    front = 1 + getattr(config, "num_register_tokens", 0)
    return {"*": TokenLayout(1, _cells(pixels, config.patch_size), front=front)}


def _swin(config: Any, pixels: Tensor, arguments: dict[str, Any]) -> Layouts:
    """Windows are folded into the batch; every other block has them shifted."""
    layouts: Layouts = {}
    rows, columns = (-(-size // patch) for size, patch in zip(pixels.shape[-2:], _pair(config.patch_size), strict=True))
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            side = min(config.window_size, rows, columns)
            shift = 0 if side >= min(rows, columns) or block % 2 == 0 else config.window_size // 2
            layouts[f"*layers.{stage}.blocks.{block}.*"] = _windows(rows, columns, side, shift)
        rows, columns = -(-rows // 2), -(-columns // 2)
    return layouts


@lru_cache(maxsize=64)
def _windows(rows: int, columns: int, side: int, shift: int) -> TokenTable:
    """Patch of every token of every window; a picture that does not divide is padded behind, then rolled."""
    patch = torch.arange(rows * columns).reshape(rows, columns)
    padded = nn.functional.pad(patch, (0, -columns % side, 0, -rows % side), value=-1)
    rolled = torch.roll(padded, (-shift, -shift), (0, 1))
    cut = rolled.unflatten(0, (-1, side)).unflatten(2, (-1, side)).transpose(1, 2)
    patches = cut.reshape(1, -1, side * side)
    return TokenTable(torch.where(patches < 0, -1, 0), patches, 1, rows * columns)


RECOGNISED: dict[str, Callable[[Any, Tensor, dict[str, Any]], Layouts]] = {
    "videomae": _videomae,
    "vivit": _vivit,
    "timesformer": _timesformer,
    "vjepa2": _vjepa2,
    "audio-spectrogram-transformer": _spectrogram,
    "whisper": _whisper,
    "wav2vec2": _wav2vec2,
    "vit": _picture,
    "dinov2": _picture,
    "dinov2_with_registers": _picture,
    "clip_vision_model": _picture,
    "swin": _swin,
}


class Recogniser:
    """The layouts of the transformers models inside a module, each known once it was called.

    Args:
        module: with any number of them inside, or one itself.
        needed: whether it is an error to have none.

    Raises:
        LayoutError: there is none and it is needed.
    """

    def __init__(self, module: nn.Module, needed: bool) -> None:
        self._models: dict[str, Any] = {}  # of transformers, which may be absent
        self._layouts: Layouts = {}
        for path, each in module.named_modules():
            inside = any(not outer or path.startswith(f"{outer}.") for outer in self._models)
            kind = getattr(getattr(each, "config", None), "model_type", None)
            if not inside and kind in RECOGNISED and hasattr(each, "main_input_name"):
                self._models[path] = each
        if needed and not self._models:
            raise LayoutError(
                f"the token layout of {type(module).__name__} is not known, and maps between frames need one: give "
                f"layout=TokenLayout(frames=..., patches=...). Recognised by themselves: {', '.join(RECOGNISED)}"
            )

    def layouts(self) -> Layouts | None:
        """Pattern of module paths -> layout, of the models that were called so far; None where there is none."""
        return self._layouts or None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on the models, which read the shape of their input."""
        with ExitStack() as stack:
            for path, model in self._models.items():
                hook = model.register_forward_pre_hook(partial(self._read, path), with_kwargs=True)
                stack.callback(hook.remove)
            yield

    def _read(self, path: str, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        arguments = inspect.signature(model.forward).bind_partial(*args, **kwargs).arguments
        arguments |= arguments.pop("kwargs", {})
        values = arguments.get(model.main_input_name)
        if not isinstance(values, Tensor):
            return
        prefix = f"{path}." if path else ""
        for pattern, layout in RECOGNISED[model.config.model_type](model.config, values, arguments).items():
            self._layouts[prefix + pattern] = layout and _batch_first(layout)


@lru_cache(maxsize=64)
def _batch_first(layout: Layout) -> Layout:
    """With the axes of transformers' attention: batch, in which rows are folded behind the clip, and heads."""
    if isinstance(layout, TokenLayout):
        return replace(layout, axes=f"(clip {layout.folded}) head" if layout.folded else "clip head")
    return replace(layout, axes="(clip fold) head") if isinstance(layout, TokenTable) else layout
