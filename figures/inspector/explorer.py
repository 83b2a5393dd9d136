"""Explorer: choose data, a video and models in a notebook, and look at them in the inspector."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from figures.inspector.widget import Inspector

if TYPE_CHECKING:
    from gmsa_models import Clip

MOST_VIDEOS = 100  # listed of one source, so that a shard of thousands opens at once


class Explorer(ipywidgets.VBox):
    """Four controls above an inspector: source of videos, video, model, and a model to hold it against.

    Attributes:
        inspector: the one shown now; a new one for every choice. None until a record is made.
        source, video, model, against: the controls; set their `value`.
    """

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
        self._clips: dict[str, Clip] = {}
        controls = ipywidgets.HBox([self.source, self.video, self.model, self.against])
        super().__init__([controls, ipywidgets.HBox([self.progress, self.message])])
        self.source.observe(self._read, "value")
        for control in (self.video, self.model, self.against):
            control.observe(self._show, "value")
        self._read()

    def _read(self, change: Any = None) -> None:
        """List the videos of the source; what cannot be read is told under the controls."""
        from gmsa_models import read_clips

        self.message.value = "reading videos"
        try:
            clips = list(islice(read_clips(self.source.value), MOST_VIDEOS))
        except (ValueError, KeyError, OSError) as error:
            self.message.value = f"{error}"
            return
        self._clips = {clip.id: clip for clip in clips}
        self.video.unobserve(self._show, "value")  # new options set a new value, and one drawing is enough
        self.video.options = list(self._clips)
        self.video.index = 0 if self._clips else None
        self.video.observe(self._show, "value")
        self._show()

    def _show(self, change: Any = None) -> None:
        """Make the records of the choice, one a model, and show them; the view stays where it was."""
        from analysis import inspect_clip
        from gmsa_models import load

        if not self._clips:
            self.message.value = f"no videos in {self.source.value}"
            return
        names = list(dict.fromkeys(name for name in (self.model.value, self.against.value) if name))
        self.progress.max, self.progress.value, records = len(names), 0, []
        for name in names:
            self.message.value = f"{name} looks at {self.video.value}"
            records.append(inspect_clip(load(name), self._clips[self.video.value]))
            self.progress.value += 1
        self.inspector = Inspector(records, against=records[1]["model"].item() if len(records) > 1 else "")
        self.children = [*self.children[:2], self.inspector]
        self.message.value = f"{self.video.value}: {self.inspector.records[0].sizes['frame']} frames"
