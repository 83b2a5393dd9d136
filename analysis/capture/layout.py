"""Token layouts: which frame and which patch every token of an attention call is, or that it is neither."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.capture.axes import parse_axes
from analysis.capture.errors import LayoutError

__all__ = ["CrossLayout", "Layout", "TokenLayout", "TokenTable", "check_tokens", "fit", "layout_of"]

ORDERS = ("frame patch", "patch frame")
FOLDED = ("patch", "frame")
WHOLE = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Frame and patch of every token of a call, written out.

    Attributes:
        frame: -1 for a token that is of no frame (class token, register, padding). A call's batch is (clip, fold), clip
            first; `clips` is 1 where all clips are alike.
        patch: likewise; -1 where `frame` is.
        frames: how many time steps there are.
        patches: how many patches a frame has.
        axes: see `TokenLayout`; the folded axis is "fold" here.
    """

    frame: Int[Tensor, "clips fold tokens"]
    patch: Int[Tensor, "clips fold tokens"]
    frames: int
    patches: int = 1
    axes: str | None = None

    def __post_init__(self) -> None:
        for name in ("frames", "patches"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        _check_text(self.axes)
        for name, numbers, most in (("frame", self.frame, self.frames), ("patch", self.patch, self.patches)):
            shown = f"{tuple(numbers.shape)} of {numbers.dtype}" if isinstance(numbers, Tensor) else f"{numbers!r:.60}"
            if not isinstance(numbers, Tensor) or numbers.dtype not in WHOLE or numbers.ndim != 3:
                raise LayoutError(
                    f"{name} is {shown}; expected whole numbers of the axes (clips, rows of a clip, tokens): "
                    "torch.tensor([[[0, 0, 1, 1]]]) of one clip, all of whose tokens are in one row"
                )
            if numbers.shape != self.frame.shape:
                raise LayoutError(f"{name} has the shape {tuple(numbers.shape)}; frame has {tuple(self.frame.shape)}")
            if numbers.numel() and not -1 <= int(numbers.min()) <= int(numbers.max()) < most:
                raise LayoutError(
                    f"{name} numbers run from {int(numbers.min())} to {int(numbers.max())}; expected -1 to {most - 1}"
                )

        if self.axes is not None:
            parse_axes(self.axes, "fold")

    @property
    def tokens(self) -> int:
        """Tokens of a call."""
        return self.frame.shape[2]

    @property
    def fold(self) -> int:
        """Rows of a call's batch that are of one clip."""
        return self.frame.shape[1]

    def table(self) -> TokenTable:
        """Itself."""
        return self

    @cached_property
    def uniform(self) -> bool:
        """Whether the frames of the tokens are the same in all rows."""
        return bool((self.frame == self.frame[:1, :1]).all())

    @cached_property
    def regular(self) -> tuple[int, int, int] | None:
        """How many tokens lie before those of the frames, how many each frame has, and how they follow each other.

        The last is 1 if they go frame by frame, 0 if every frame's first token comes first. None where they go neither
        way, or are not the same in all rows.
        """
        if not self.uniform:
            return None
        inner = self.frame[0, 0] >= 0
        total = int(inner.sum())
        count = total // self.frames
        if not count or count * self.frames != total:
            return None
        front = int(inner.nonzero()[0])
        numbers = self.frame[0, 0, front : front + total]
        position = torch.arange(total, device=numbers.device)
        for axis, expected in ((1, position // count), (0, position % self.frames)):
            if torch.equal(numbers, expected):
                return front, count, axis
        return None

    def of_frames(self, device: torch.device) -> Float[Tensor, "clips fold tokens columns"]:
        """One-hot: a column a frame, the last one for tokens of none."""
        columns = torch.where(self.frame < 0, self.frames, self.frame).to(device)
        return torch.nn.functional.one_hot(columns, self.frames + 1).float()

    def __str__(self) -> str:
        return f"a table of {self.tokens} tokens" + (f" in {self.fold} rows a clip" if self.fold > 1 else "")


@dataclass(frozen=True)
class TokenLayout:
    """Which frame and patch each token of a call is, for the usual layouts.

    Attributes:
        frames: time steps in a call: frames, or tubelets of several.
        patches: tokens of a frame.
        order: of the tokens; "frame patch": all patches of the first frame come first; "patch frame": all frames of the
            first patch come first.
        front: tokens before them that are of no frame (class token, registers).
        back: tokens behind them that are of no frame.
        folded: divided attention folds an axis into the batch, behind the clip. "patch": a call's tokens are the frames
            of one patch (temporal attention); "frame": the patches of one frame (spatial attention); None: neither.
        tubelet: frames of the video in one time step.
        lengths: real time steps of each clip, those behind them are padding; None: all are real.
        axes: what the axes of a map in front of its tokens are, outermost first: "clip head patch" of (batch, heads,
            patches, time, time); the folded axis is called as in `folded`. Axes that the module made one stand in
            parentheses, "(clip patch) head", or alone where all are one, as of heads that are folded into the batch.
            None: (batch, heads), or what the sizes tell.
    """

    frames: int
    patches: int = 1
    order: str = "frame patch"
    front: int = 0
    back: int = 0
    folded: str | None = None
    tubelet: int = 1
    lengths: tuple[int, ...] | None = None
    axes: str | None = None

    def __post_init__(self) -> None:
        least = {"frames": 1, "patches": 1, "tubelet": 1, "front": 0, "back": 0}
        for name, fewest in least.items():
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
            if getattr(self, name) < fewest:
                raise LayoutError(f"{name} is {getattr(self, name)}; expected at least {fewest}")
        if self.order not in ORDERS:
            raise LayoutError(f"order is {self.order!r}; expected one of {', '.join(map(repr, ORDERS))}")
        if self.folded not in (None, *FOLDED):
            raise LayoutError(f"folded is {self.folded!r}; expected None or one of {', '.join(map(repr, FOLDED))}")
        if self.lengths is not None:
            object.__setattr__(self, "lengths", _whole_numbers("lengths", self.lengths))  # as a key of a cache
        if any(not 0 <= length <= self.frames for length in self.lengths or ()):
            raise LayoutError(f"lengths are {self.lengths}; expected 0 to {self.frames} time steps")
        _check_text(self.axes)
        if self.axes is not None:
            parse_axes(self.axes, self.folded)

    @property
    def tokens(self) -> int:
        """Tokens of a call."""
        return self.front + self._inner + self.back

    @property
    def fold(self) -> int:
        """Rows of a call's batch that are of one clip."""
        return {None: 1, "patch": self.patches, "frame": self.frames}[self.folded]

    @property
    def _inner(self) -> int:
        return {None: self.frames * self.patches, "patch": self.frames, "frame": self.patches}[self.folded]

    def table(self) -> TokenTable:
        """The same, written out token by token; made once, as every call of a module asks for it."""
        return _table(self, torch.get_default_device())

    def _written_out(self) -> TokenTable:
        frame, patch = self._numbers()
        none = frame.new_full((frame.shape[0], 1), -1)
        frame, patch = (
            torch.cat([none.expand(-1, self.front), numbers, none.expand(-1, self.back)], 1)[None]
            for numbers in (frame, patch)
        )
        if self.lengths is not None:
            padding = frame >= torch.tensor(self.lengths)[:, None, None]
            frame, patch = (numbers.masked_fill(padding, -1) for numbers in torch.broadcast_tensors(frame, patch))
        axes = self.axes if self.axes is None or self.folded is None else self.axes.replace(self.folded, "fold")
        return TokenTable(frame, patch.expand_as(frame), self.frames, self.patches, axes)

    def _numbers(self) -> tuple[Int[Tensor, "fold inner"], Int[Tensor, "fold inner"]]:
        """Frame and patch of the tokens that have them."""
        frame, patch = torch.meshgrid(torch.arange(self.frames), torch.arange(self.patches), indexing="ij")
        match self.folded:
            case "patch":
                return frame.mT, patch.mT
            case "frame":
                return frame, patch
        if self.order == "patch frame":
            frame, patch = frame.mT, patch.mT
        return frame.reshape(1, -1), patch.reshape(1, -1)

    def __str__(self) -> str:
        axes = {None: f"{self.frames} frames x {self.patches} patches", "patch": f"{self.frames} frames"}
        text = axes.get(self.folded, f"{self.patches} patches")
        text += f" + {self.front} in front" * (self.front > 0) + f" + {self.back} behind" * (self.back > 0)
        text = f"{self.tokens} tokens ({text})"
        return text + (f" in {self.fold} rows of the batch a clip" if self.fold > 1 else "")


def _whole(name: str, value: Any) -> int:
    """A whole number of Python, NumPy or torch, as one of Python.

    Raises:
        LayoutError: something else: a fraction would be cut, and a boolean counted.
    """
    kind = value.dtype if isinstance(value, Tensor) else getattr(value, "dtype", type(value))
    if str(kind) not in ("torch.bool", "bool") and not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise LayoutError(f"{name} is {value!r:.60}; expected a whole number")


def _whole_numbers(name: str, values: Any) -> tuple[int, ...]:
    """Those of any sequence.

    Raises:
        LayoutError: something else.
    """
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise LayoutError(f"{name} is {values!r:.60}; expected a number of time steps for each clip")
    return tuple(_whole(name, each) for each in values)


def _check_text(axes: Any) -> None:
    if axes is not None and not isinstance(axes, str):
        raise LayoutError(f"axes is {axes!r:.60}; expected names of axes, as in axes='clip head'")


@lru_cache(maxsize=64)
def _table(layout: TokenLayout, device: torch.device) -> TokenTable:
    """`device`: where the table lies, by the caller's settings of torch."""
    return layout._written_out()


@dataclass(frozen=True)
class CrossLayout:
    """A layout for calls whose queries are other tokens than their keys.

    Attributes:
        queries: of the query tokens.
        keys: of the key tokens; of the same fold.
    """

    queries: TokenLayout | TokenTable
    keys: TokenLayout | TokenTable

    def __post_init__(self) -> None:
        for name, each in (("queries", self.queries), ("keys", self.keys)):
            if not isinstance(each, TokenLayout | TokenTable):
                raise LayoutError(f"{name} is {each!r:.60}; expected a TokenLayout or a TokenTable")


Layout = TokenLayout | TokenTable | CrossLayout


def layout_of(layouts: Layout | Mapping[str, Layout | None] | None, name: str) -> Layout | None:
    """The layout of the calls of one module.

    Args:
        layouts: one for all calls; or pattern of module paths (as in file names) -> layout or None, the first that
            matches counts.
        name: path of the module.
    """
    if not isinstance(layouts, Mapping):
        return layouts
    return next((layout for pattern, layout in layouts.items() if fnmatchcase(name, pattern)), None)


def check_tokens(layout: Layout, where: str, batch: int, tokens: tuple[int, int]) -> None:
    """Refuse a call of other numbers of query and key tokens than its layout has.

    Args:
        layout: of the call.
        where: which call, for the message.
        batch: of it, for the message.
        tokens: of its queries and of its keys.

    Raises:
        LayoutError: it is one.
    """
    sides = (layout.queries, layout.keys) if isinstance(layout, CrossLayout) else (layout, layout)
    for side, each, count in zip(("query", "key"), sides, tokens, strict=True):
        if each.tokens != count:
            single = "Queries that are taken one by one are a call each: give an Adapter that puts them together. "
            raise LayoutError(
                f"{where} has {count} {side} tokens in a batch of {batch}; the layout has {each}. "
                + (single if side == "query" and count == 1 else "")
                + "Give this module's calls their own layout: layout={'pattern of its path': TokenLayout(...), ...}"
            )


def fit(layout: Layout, where: str, shape: tuple[int, int, int, int]) -> tuple[TokenTable, TokenTable]:
    """The tables of a call's queries and keys.

    Args:
        layout: of the call.
        where: which call, for the message.
        shape: batch, heads, query tokens, key tokens.

    Raises:
        LayoutError: a call of other numbers of tokens, or whose batch cannot be so many rows a clip.
    """
    check_tokens(layout, where, shape[0], (shape[2], shape[3]))
    sides = (layout.queries, layout.keys) if isinstance(layout, CrossLayout) else (layout, layout)
    for each in sides:
        if shape[0] % each.fold:
            raise LayoutError(
                f"{where} has a batch of {shape[0]}, which is no whole number of clips; the layout has {each}"
            )
    queries, keys = (each.table() for each in sides)
    if queries.fold != keys.fold:
        raise LayoutError(f"{where}: the queries' layout has {queries.fold} rows a clip, the keys' {keys.fold}")
    for table in (queries, keys):
        if table.frame.shape[0] not in (1, shape[0] // queries.fold):
            raise LayoutError(
                f"{where} has {shape[0] // queries.fold} clips; the layout has lengths for {table.frame.shape[0]}"
            )
    return queries, keys
