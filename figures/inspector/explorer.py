"""Explorer: choose data, a video and models in a notebook, and look at them in the inspector."""

from __future__ import annotations

import html
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from figures.inspector.widget import Inspector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import xarray as xr

    from analysis import EditEngine
    from gmsa_models import Clip

__all__ = ["Explorer"]

MOST_VIDEOS = 100  # listed of one source, so that a shard of thousands opens at once
# What a choice may fail with: files that cannot be read, data that do not fit a model, clips of unlike lengths.
FAILURES = (ValueError, KeyError, OSError, traitlets.TraitError)


class Explorer(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Four controls above an inspector: source of videos, video, model, and a model to hold it against.

    The picture is always of what the controls say. A choice that cannot be shown has a message in its place, and the
    inspector that was there is closed. The passes of both models can be edited in it.

    Attributes:
        inspector: the one shown now; a new one for every choice, and the old one is closed. None until a record is
            made, and where a choice cannot be shown.
        source, video, model, against: the controls; set their `value`.
    """

    children: Sequence[ipywidgets.Widget]
    inspector = traitlets.Instance(Inspector, allow_none=True)

    def __init__(self, source: str = "demo:0-8", model: str = "gate-op-tp30", against: str = "") -> None:
        """Read the videos of a source and show the first.

        Args:
            source: anything that `read_clips` takes: demo:0-8, a .tfrecord file or glob, catalog.parquet#ID.
            model, against: names in the zoo or checkpoint files; no second model when `against` is empty.
        """
        from gmsa_models import available

        names = list(dict.fromkeys([*available(), model, *([against] if against else [])]))
        self.source = ipywidgets.Text(source, description="source", continuous_update=False)
        self.video = ipywidgets.Dropdown(description="video")
        self.model = ipywidgets.Dropdown(options=names, value=model, description="model")
        self.against = ipywidgets.Dropdown(options=["", *names], value=against, description="against")
        self.progress = ipywidgets.IntProgress(0, 0, 1, layout={"width": "160px"})
        self.message = ipywidgets.Label()
        self.failure = ipywidgets.HTML()  # in the picture's place, where there is none
        self._clips: dict[str, Clip] = {}
        controls = ipywidgets.HBox([self.source, self.video, self.model, self.against])
        super().__init__([controls, ipywidgets.HBox([self.progress, self.message]), self.failure])
        self.source.observe(self._read, "value")
        for control in (self.video, self.model, self.against):
            control.observe(self._show, "value")
        self._read()

    def close(self) -> None:
        """Take everything off the page, and free the videos, the records and all controls."""
        if self.comm is None:  # closed before; Python closes widgets once more when it forgets them
            return
        super().close()
        self.layout.close()
        self.unobserve_all()
        if self.inspector is not None:
            self.inspector.close()
        for box in self.children:
            for widget in getattr(box, "children", ()):
                _close(widget)
            _close(box)
        _close(self.failure)
        self.children, self.inspector, self._clips = (), None, {}

    def _read(self, change: Any = None) -> None:
        """List the videos of the source and show the first."""
        from gmsa_models import read_clips

        self.message.value = "reading videos"
        clips: list[Clip] = []
        with self._failures_shown(f"{self.source.value} cannot be read"):
            clips = list(islice(read_clips(self.source.value), MOST_VIDEOS + 1))
            if not clips:
                raise ValueError("it has no videos")
        self._clips = {clip.id: clip for clip in clips[:MOST_VIDEOS]}
        self.video.unobserve(self._show, "value")  # new options set a new value, and one drawing is enough
        self.video.options = list(self._clips)
        self.video.index = 0 if self._clips else None
        self.video.observe(self._show, "value")
        if self._clips:
            self._show()
        if len(clips) > MOST_VIDEOS:
            self.message.value += f"; the first {MOST_VIDEOS} videos of {self.source.value} are listed"

    def _show(self, change: Any = None) -> None:
        """Make the records of the choice, one a model, and show them."""
        names = list(dict.fromkeys(name for name in (self.model.value, self.against.value) if name))
        if self.video.value is None:
            return  # the source has no videos, and the message says why
        with self._failures_shown(f"{self.video.value} by {' and '.join(names)} cannot be shown"):
            records, engines = self._records(names)
            against = names[1] if len(names) > 1 else ""
            self._put(Inspector(records, engines=engines, against=records[-1]["model"].item() if against else ""))
            self.message.value = f"{self.video.value}: {records[0].sizes['frame']} frames"

    def _records(self, names: list[str]) -> tuple[list[xr.Dataset], list[EditEngine]]:
        """A record a model, and what answers edits of it."""
        from analysis import EditEngine, inspect_clip
        from gmsa_models import load

        clip, models = self._clips[self.video.value], []
        self.progress.max, self.progress.value, records = len(names), 0, []
        for name in names:
            self.message.value = f"{name} looks at {self.video.value}"
            models.append(load(name))
            records.append(inspect_clip(models[-1], clip))
            self.progress.value += 1
        return records, [EditEngine(model, clip) for model in models]

    @contextmanager
    def _failures_shown(self, what: str) -> Iterator[None]:
        """Where the work fails, a message takes the picture's place; failures of other kinds are raised as well."""
        try:
            yield
        except Exception as error:
            words = error.args[0] if isinstance(error, KeyError) and error.args else error
            self._put(None, f"{what}: {words}")
            if not isinstance(error, FAILURES):
                raise

    def _put(self, inspector: Inspector | None, failure: str = "") -> None:
        """Show an inspector, or why there is none, and close the one that was there."""
        old, self.inspector = self.inspector, inspector
        self.failure.value = f'<div role="alert"><b>Not shown.</b> {html.escape(failure)}</div>' if failure else ""
        self.children = [*self.children[:2], inspector or self.failure]
        if inspector is None:
            self.message.value, self.progress.value = "", 0
        if old is not None:
            old.close()


def _close(widget: ipywidgets.Widget) -> None:
    """Close a widget, its layout and its style, which ipywidgets keeps each for itself."""
    widget.unobserve_all()
    for part in (widget.layout, getattr(widget, "style", None), widget):
        if part is not None:
            part.close()
