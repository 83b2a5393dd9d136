"""An inspector inside a page of the documentation, without a kernel and without a network."""

from __future__ import annotations

import html
import tempfile
from pathlib import Path
from typing import Any

import xarray as xr
from IPython.display import HTML

from figures.inspector import write_html

__all__ = ["inspector_frame"]

# `srcdoc` holds the whole page, so that nothing is loaded, and what it does stays in the frame.
_FRAME = """<div>
<iframe class="inspector" title="inspector" loading="lazy" style="height: {height}px" srcdoc="{page}"></iframe>
</div>"""


def inspector_frame(record: xr.Dataset, height: int = 840, **view: Any) -> HTML:
    """The inspector of a record, as an element of a page.

    Args:
        record: of `analysis.inspect_clip`.
        height: of the element in pixels, until `docs.js` knows how high its page is.
        view: traits of `figures.inspector.Inspector`, by name.
    """
    with tempfile.TemporaryDirectory() as folder:
        page = write_html(record, Path(folder) / "inspector.html", view).read_text(encoding="utf-8")
    return HTML(_FRAME.format(height=height, page=html.escape(page)))
