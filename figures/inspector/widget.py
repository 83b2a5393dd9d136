"""Inspector: the widget. Everything is drawn in the browser, from data that is already there."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets
import xarray as xr
from IPython import get_ipython
from matplotlib.figure import Figure

from figures.inspector.answers import Answers
from figures.inspector.choices import FIXED, LEFT, NO_CLASS, VIEW, Choices
from figures.inspector.html import FOLDER, write_html
from figures.inspector.limits import fitted_records
from figures.inspector.media import clip_media
from figures.inspector.modules import module_text
from figures.inspector.payload import PRECISIONS, pack_in_parts
from figures.inspector.records import split_records
from figures.inspector.still import draw_view
from gmsa_models.errors import ArgumentError

if TYPE_CHECKING:
    from analysis.inspect.engine import EditEngine

__all__ = ["Inspector"]

CLOSED = "this inspector was closed and its records are gone; make a new one of them"
# Traits that follow when the record no longer has what they name.
_DEPEND_ON = ("model", "against", "modality", "layer", "branch", "head", "left", "explanation")


class Inspector(anywidget.AnyWidget):
    """Look inside one clip: what each head attends to, when, and whether it mattered.

    Visual signs. Maps: the query is the row, the key the column; colours end where 1 pair in 200 lies above; grey =
    outside the neighbourhood. Blue = the cursor's frame as row and as column; when it is pinned, green boxes are its
    N_i. Curves: one colour a branch, dashed = the second model; dotted = the value that the unit names. Sand-coloured
    spans are known events. Green bars with a check mark are labels of the clip.

    Every trait can be linked (`ipywidgets.link`, `jslink`) and set; a value that no record has is refused with a
    `TraitError`, and a combination that does not exist becomes the nearest that does (`Choices.nearest`): where the
    branch lacks the head, the head nearest in number; where the model lacks a name, the first one that it has.

    Attributes:
        frame: the time cursor, index from 0.
        modality, branch: names, as in the record.
        layer: number of the encoder layer; of records that hold several, see `inspect_clip(..., layers="all")`.
        head: from 0; -1 = all heads as small multiples.
        model: name of the model shown; `against`: a second one, or "".
        view: "side" (by side) or "difference" (signed, first less second).
        scale: "linear", "log" or "row" (each row by its own largest weight).
        class_: label of the data set whose segments are marked; -1 = none.
        span: first frame shown, and the one after the last.
        pinned: whether the cursor's row, column and neighbourhood are marked.
        theme: "auto", "light" or "dark".
        left: what stands beside the attention maps: "similarity", "gradient" (norms of output by input), or "gate"
            (GateAtt's gate of the local branch). In a narrow cell two models side by side take its place.
        explanation: method drawn over time, of records with the part "explanation"; "" in others.
        live: names of the models whose pass can be edited on the page; those of `engines`.
        edits: what is changed in the pass of `model` on the page, as texts that `inspect_clip(edits=)` takes.
    """

    # Texts, not paths: of a file that may change, anywidget keeps every widget alive that was made of it.
    _esm = module_text()
    _css = (FOLDER / "inspector.css").read_text(encoding="utf-8")

    payload = traitlets.Bytes().tag(sync=True)
    rest = traitlets.Bytes().tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)
    modality = traitlets.Unicode().tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    branch = traitlets.Unicode().tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    model = traitlets.Unicode().tag(sync=True)
    against = traitlets.Unicode().tag(sync=True)
    view = traitlets.Enum(FIXED["view"], "side").tag(sync=True)
    scale = traitlets.Enum(FIXED["scale"], "linear").tag(sync=True)
    class_ = traitlets.Int(NO_CLASS).tag(sync=True)
    span = traitlets.List(traitlets.Int(), minlen=2, maxlen=2).tag(sync=True)
    pinned = traitlets.Bool(False).tag(sync=True)
    theme = traitlets.Enum(FIXED["theme"], "auto").tag(sync=True)
    left = traitlets.Enum(tuple(LEFT), "similarity").tag(sync=True)
    explanation = traitlets.Unicode().tag(sync=True)
    live = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    edits = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        record: xr.Dataset | Sequence[xr.Dataset],
        *,
        precision: str = "float32",
        video: str | Path | None = None,
        media: str | None = None,
        engines: Sequence[EditEngine] = (),
        edits: Sequence[str] = (),
        **view: Any,
    ) -> None:
        """Show a record.

        Args:
            record: of `analysis.inspect_clip`; several of one clip by several models, as a list or joined by
                `analysis.combine_models`, can be held against each other.
            precision: of the weights sent to the browser: "float32" as in the record, or "float16" (half the size).
            video: the video file that the record is of; its pictures and its sound follow the cursor.
            media: "none", "thumbnails" or "proxy", see `figures.inspector.media.clip_media`; default: "proxy" of a
                video.
            engines: `analysis.EditEngine(model, clip)` of some of the models. With one the page offers edits of that
                model's pass and explanations of any class, which the kernel computes.
            edits: to start with; they need an engine.
            view: traits to start with, by name.

        Raises:
            ArgumentError: records that cannot stand together, a name in `view` that is no trait of a view, or an engine
                of another model or clip; edits without an engine; as `clip_media`.
            ClipFileError: a video that cannot be read, or is not the one that the record is of.
            traitlets.TraitError: a value that the records do not have; the message lists those they do.
        """
        self.records = split_records(record)
        if precision not in PRECISIONS:
            raise ArgumentError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
        sent = fitted_records(self.records, precision)
        self.choices = Choices(sent)
        if unknown := [name for name in view if name not in VIEW]:
            raise ArgumentError(f"unknown trait {unknown[0]!r} of the inspector; known: {', '.join(VIEW)}")
        shown = self.choices.start() | view
        self._check(shown)
        shown = self.choices.nearest(shown)
        self.answers = Answers(self.records, engines)
        if edits and shown["model"] not in self.answers.models:
            raise ArgumentError(
                f"edits of {shown['model']!r}, which has no engine; give engines=[EditEngine(model, clip)]"
            )
        self.media = clip_media(self.records, video, media)
        first, rest = pack_in_parts(sent, precision, shown, self.media)
        super().__init__(payload=first, edits=list(edits), **shown)
        self.set_trait("live", self.answers.models)
        self.on_msg(self._answer_message)
        self._send_later(rest)

    def _answer_message(self, widget: Inspector, content: Any, buffers: Any) -> None:
        """Answer a question of the page about an edited pass, or about another class."""
        if isinstance(content, dict) and content.get("kind") in ("edits", "refusals", "explanation"):
            self.send(*self.answers.answer(content))

    def _send_later(self, rest: bytes) -> None:
        """Set `rest` at the end of the cell that runs now, so that the first view is on its way before the other maps.

        It is then still a message of that cell, which programs that execute notebooks and keep widgets need. Where no
        cell runs, as in a callback, it is set when the kernel's loop is free; where none runs, nobody waits for a view.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.rest = rest
            return
        shell, here = get_ipython(), weakref.ref(self)  # what waits does not keep an inspector that is gone

        def send() -> None:
            if shell is not None and send in shell.events.callbacks["post_execute"]:
                shell.events.unregister("post_execute", send)
            if (inspector := here()) is not None and inspector.records:
                inspector.rest = rest

        if shell is not None:
            shell.events.register("post_execute", send)
        loop.call_soon(send)

    def _check(self, view: Mapping[str, Any]) -> None:
        if not self.records:
            raise traitlets.TraitError(CLOSED)
        try:
            self.choices.check(view)
        except ArgumentError as error:
            raise traitlets.TraitError(str(error)) from None

    @traitlets.validate(
        "frame", "head", "span", "class_", "modality", "layer", "branch", "model", "left", "explanation"
    )
    def _known(self, proposal: Any) -> Any:
        self._check({proposal["trait"].name: proposal["value"]})
        return proposal["value"]

    @traitlets.validate("against")
    def _known_other(self, proposal: Any) -> str:
        self._check({"against": proposal["value"], "model": self.model})
        return proposal["value"]

    @traitlets.observe(*_DEPEND_ON)
    def _follow(self, change: Any) -> None:
        """Make the other traits go with what was chosen."""
        view = self.current_view()
        near = self.choices.nearest(view)
        with self.hold_trait_notifications():
            for name in _DEPEND_ON:
                if near[name] != view[name]:
                    self.set_trait(name, near[name])

    def to_html(self, path: str | Path, *, precision: str = "float16") -> Path:
        """Write the current view as one self-contained HTML file that works without a kernel and without a network.

        Args:
            path: of the file.
            precision: of the weights; see `figures.inspector.payload.pack`.

        Raises:
            ArgumentError: it was closed.
        """
        self._check_open()
        return write_html(self.records, path, self.current_view(), precision, video=self.media)

    def figure(self) -> Figure:
        """The current view as a matplotlib figure, in the house style.

        Raises:
            ArgumentError: it was closed.
        """
        self._check_open()
        return draw_view(self.records, self.current_view())

    def _check_open(self) -> None:
        if not self.records:
            raise ArgumentError(CLOSED)

    def close(self) -> None:
        """Take it off the page and free what it holds: records, payload, observers; it shows nothing from then on."""
        if self.comm is None:  # closed before; Python closes widgets once more when it forgets them
            return
        super().close()
        self.layout.close()
        self.unobserve_all()
        self.on_msg(self._answer_message, remove=True)
        self.records, self.media, self.answers = [], None, Answers([], [])
        self.payload = self.rest = b""

    def current_view(self) -> dict[str, Any]:
        """The traits that make up the view: `Inspector(record, **inspector.current_view())` shows it again."""
        return {name: getattr(self, name) for name in VIEW}
