"""Inspector: the widget. Everything is drawn in the browser, from data that is already there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets
import xarray as xr
from IPython import get_ipython
from matplotlib.figure import Figure

from figures.inspector.html import FOLDER, write_html
from figures.inspector.payload import pack_in_parts
from figures.inspector.records import InspectorError, model_name, split_records
from figures.inspector.still import draw_view

ALL_HEADS, NO_CLASS = -1, -1
# Traits that make up a view, in the order in which Python that reproduces it names them.
VIEW = ("frame", "modality", "branch", "head", "model", "against", "view", "scale", "class_", "span", "pinned", "theme",
        "left", "explanation")  # fmt: skip


class Inspector(anywidget.AnyWidget):
    """Look inside one clip: what each head attends to, when, and whether it mattered.

    Visual signs. Maps: the query is the row, the key the column; colours end where 1 pair in 200 lies above; grey =
    outside the neighbourhood. Blue = the cursor's frame as row and as column; when it is pinned, green boxes are its
    N_i. Curves: one colour a branch, dashed = the second model; dotted = the value that the unit names. Sand-coloured
    spans are known events. Green bars with a check mark are labels of the clip.

    Every trait can be linked (`ipywidgets.link`, `jslink`) and set; one that names what the record lacks is refused
    here, and a combination that does not exist (a branch without that head) becomes the nearest that does.

    Attributes:
        frame: the time cursor, index from 0.
        modality, branch: names, as in the record.
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
    """

    _esm = FOLDER / "inspector.js"
    _css = FOLDER / "inspector.css"

    payload = traitlets.Bytes().tag(sync=True)
    rest = traitlets.Bytes().tag(sync=True)
    frame = traitlets.Int(0, min=0).tag(sync=True)
    modality = traitlets.Unicode().tag(sync=True)
    branch = traitlets.Unicode().tag(sync=True)
    head = traitlets.Int(0, min=ALL_HEADS).tag(sync=True)
    model = traitlets.Unicode().tag(sync=True)
    against = traitlets.Unicode().tag(sync=True)
    view = traitlets.Enum(("side", "difference"), "side").tag(sync=True)
    scale = traitlets.Enum(("linear", "log", "row"), "linear").tag(sync=True)
    class_ = traitlets.Int(NO_CLASS).tag(sync=True)
    span = traitlets.List(traitlets.Int(min=0), minlen=2, maxlen=2).tag(sync=True)
    pinned = traitlets.Bool(False).tag(sync=True)
    theme = traitlets.Enum(("auto", "light", "dark"), "auto").tag(sync=True)
    left = traitlets.Enum(("similarity", "gradient", "gate"), "similarity").tag(sync=True)
    explanation = traitlets.Unicode().tag(sync=True)

    def __init__(self, record: xr.Dataset | Sequence[xr.Dataset], *, precision: str = "float32", **view: Any) -> None:
        """Show a record.

        Args:
            record: of `analysis.inspect_clip`; several of one clip by several models, as a list or joined by
                `analysis.combine_models`, can be held against each other.
            precision: of the weights sent to the browser: "float32" as in the record, or "float16" (half the size).
            view: traits to start with, by name.

        Raises:
            InspectorError: records that cannot stand together, or a name in `view` that is no trait of a view.
            traitlets.TraitError: a value that the records do not have; the message lists those they do.
        """
        if unknown := [name for name in view if name not in VIEW]:
            raise InspectorError(f"unknown trait {unknown[0]!r} of the inspector; known: {', '.join(VIEW)}")
        self.records = split_records(record)
        first = self.records[0]
        start = {
            "modality": str(first["modality"].values[0]),
            "branch": str(first["branch"].values[0]) if "branch" in first.dims else "",
            "model": model_name(first),
            "span": [0, first.sizes["frame"]],
            "explanation": str(first["explainer"].values[0]) if "explanation" in first else "",
        }
        first, rest = pack_in_parts(self.records, precision, start | view)
        super().__init__(payload=first, **start | view)
        self._send_later(rest)

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
        shell = get_ipython()

        def send() -> None:
            if shell is not None and send in shell.events.callbacks["post_execute"]:
                shell.events.unregister("post_execute", send)
            self.rest = rest

        if shell is not None:
            shell.events.register("post_execute", send)
        loop.call_soon(send)

    @traitlets.validate("modality", "branch", "model", "against", "explanation")
    def _known(self, proposal: Any) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        known = self._names(name)
        if value not in known:
            raise traitlets.TraitError(f"{name} is {value!r}; these records have {', '.join(map(repr, known))}")
        return value

    @traitlets.validate("class_")
    def _known_class(self, proposal: Any) -> int:
        value = proposal["value"]
        if value != NO_CLASS and not any(value in one["class"].values for one in self.records if "class" in one.dims):
            raise traitlets.TraitError(f"class_ is {value}; expected -1, or a label of the data set that a model knows")
        return value

    def _names(self, trait: str) -> list[str]:
        if trait in ("model", "against"):
            return [""] * (trait == "against") + [model_name(record) for record in self.records]
        axis = "explainer" if trait == "explanation" else trait
        found = dict.fromkeys(str(name) for one in self.records if axis in one.coords for name in one[axis].values)
        return list(found) or [""]

    def to_html(self, path: str | Path, *, precision: str = "float16") -> Path:
        """Write the current view as one self-contained HTML file that works without a kernel and without a network.

        Args:
            path: of the file.
            precision: of the weights; see `figures.inspector.payload.pack`.
        """
        return write_html(self.records, path, self.current_view(), precision)

    def figure(self) -> Figure:
        """The current view as a matplotlib figure, in the house style."""
        return draw_view(self.records, self.current_view())

    def current_view(self) -> dict[str, Any]:
        """The traits that make up the view: `Inspector(record, **inspector.current_view())` shows it again."""
        return {name: getattr(self, name) for name in VIEW}
