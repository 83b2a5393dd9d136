"""One self-contained HTML file: the payload, the module and the stylesheet; it opens from disk and asks no network."""

from __future__ import annotations

import base64
import html
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from figures.inspector.choices import Choices
from figures.inspector.media import ClipMedia, clip_media
from figures.inspector.modules import module_text
from figures.inspector.payload import pack
from figures.inspector.records import split_records
from gmsa_models.data.atomic import write_text

__all__ = ["FOLDER", "write_html"]

FOLDER = Path(__file__).parent
# Nothing may be loaded from anywhere: the browser itself holds the file to that.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; media-src blob:"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 8px; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #0d0f12; }} }}
{style}</style>
</head>
<body>
<div id="inspector"></div>
<script id="payload" type="text/plain">{payload}</script>
<script id="view" type="application/json">{view}</script>
<script type="module">
{module}
const place = document.getElementById("inspector");
const [payload, view] = ["payload", "view"].map((id) => document.getElementById(id).textContent);
mountPage(place, payload, JSON.parse(view))
  .catch((error) => {{ place.textContent = `The inspector could not start: ${{error.message}}`; }});
</script>
</body>
</html>
"""


def write_html(
    inspected: xr.Dataset | Sequence[xr.Dataset],
    path: str | Path,
    view: Mapping[str, Any] | None = None,
    precision: str = "float16",
    *,
    video: str | Path | ClipMedia | None = None,
    media: str | None = None,
) -> Path:
    """Write the inspector of records as one HTML file.

    Args:
        inspected: as `split_records` takes it.
        path: of the file; parent folders are made, and the file appears whole or not at all.
        view: traits of the widget, by name; what is not given is as the inspector starts.
        precision: of maps, see `pack`; float16 (11 bits, about 3 digits) makes small files.
        video, media: pictures and sound of the clip, see `clip_media`.

    Returns:
        The path.

    Raises:
        ArgumentError: records that cannot stand together, or a view that they do not have; an unknown precision; as
            `clip_media`.
        ClipFileError: a video that cannot be read, or is not the one that the records are of.
    """
    records = split_records(inspected)
    Choices(records).check(view or {})
    pictures = clip_media(records, video, media)
    return write_text(Path(path), page(pack(records, precision, pictures), view or {}, Path(path).stem))


def page(payload: bytes, view: Mapping[str, Any], title: str) -> str:
    """The text of the file. The payload is deflated and in base64, so nothing in it can end its element."""
    return _PAGE.format(
        policy=html.escape(_POLICY),
        title=html.escape(f"{title} · inspector"),
        style=(FOLDER / "inspector.css").read_text(encoding="utf-8"),
        payload=base64.b64encode(zlib.compress(payload, 6)).decode("ascii"),
        view=json.dumps(dict(view)).replace("<", "\\u003c"),
        module=module_text(),
    )
