"""One self-contained HTML file: the payload, the module and the stylesheet; it opens from disk and asks no network."""

from __future__ import annotations

import base64
import html
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from figures.inspector.choices import Choices
from figures.inspector.limits import LEFT_OUT, fitted_records, map_bytes
from figures.inspector.live import pack_live
from figures.inspector.media import ClipMedia, clip_media
from figures.inspector.modules import live_module_text, module_text
from figures.inspector.payload import PRECISIONS, pack, pack_in_parts
from figures.inspector.records import split_records
from gmsa_models.data.atomic import write_text
from gmsa_models.errors import ArgumentError

if TYPE_CHECKING:
    from analysis.inspect.live import LiveModel

__all__ = ["FOLDER", "write_html"]

FOLDER = Path(__file__).parent
# Bytes of maps that are sent with the first view, needed or not: waiting for so few would be for nothing.
AT_ONCE = 2**20
# Nothing may be loaded from anywhere: the browser itself holds the file to that.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; media-src blob:"
)
# A live page has a thread whose text is in the page, and lets it use vector instructions.
_LIVE_POLICY = _POLICY.replace("'unsafe-inline'", "'unsafe-inline' 'wasm-unsafe-eval'", 1) + "; worker-src blob:"
_LIVE = """<script id="live" type="text/plain">{module}</script>
{weights}"""
_WEIGHTS = """<script class="weights" type="text/plain">{weights}</script>
"""
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
<script id="rest" type="text/plain">{rest}</script>
<script id="view" type="application/json">{view}</script>
{live}<script type="module">
{module}
const place = document.getElementById("inspector");
const [payload, rest, view] = ["payload", "rest", "view"].map((id) => document.getElementById(id).textContent);
const weights = [...document.querySelectorAll(".weights")].map((each) => each.textContent);
mountPage(place, payload, JSON.parse(view), document.getElementById("live")?.textContent, weights, rest)
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
    live: Sequence[LiveModel] = (),
    notify: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write the inspector of records as one HTML file.

    Args:
        inspected: as `split_records` takes it.
        path: of the file; parent folders are made, and the file appears whole or not at all.
        view: traits of the widget, by name; what is not given is as the inspector starts.
        precision: of maps, see `pack`; float16 (11 bits, about 3 digits) makes small files.
        video, media: pictures and sound of the clip, see `clip_media`.
        live: models whose passes can be edited in the page, which makes them itself: of
            `analysis.inspect.live.live_model`, with the clip of the records.
        notify: is told when maps are left out, since a browser could not hold them all; the page says so too.

    Returns:
        The path.

    Raises:
        ArgumentError: records that cannot stand together, or a view that they do not have; an unknown precision; a live
            model of which no record is; as `clip_media`.
        ClipFileError: a video that cannot be read, or is not the one that the records are of.
    """
    if precision not in PRECISIONS:
        raise ArgumentError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    records = fitted_records(split_records(inspected), precision)
    if LEFT_OUT in records[0].attrs:
        notify(records[0].attrs[LEFT_OUT])
    choices = Choices(records)
    choices.check(view or {})
    pictures = clip_media(records, video, media)
    weights = [pack_live(model, records) for model in live]
    if live or map_bytes(records, precision) < AT_ONCE:
        first, rest = pack(records, precision, pictures, [model.name for model in live]), b""
    else:
        start = choices.nearest(choices.start() | dict(view or {}))
        first, rest = pack_in_parts(records, precision, start, pictures)
    return write_text(Path(path), page(first, view or {}, Path(path).stem, weights, rest))


def page(payload: bytes, view: Mapping[str, Any], title: str, weights: Sequence[bytes] = (), rest: bytes = b"") -> str:
    """The text of the file; `rest` is what its first view does not need of the payload.

    The payload and the weights of live models are deflated and in base64, so nothing in them can end their element.
    """
    elements = "".join(_WEIGHTS.format(weights=_deflated(each)) for each in weights)
    return _PAGE.format(
        policy=html.escape(_LIVE_POLICY if weights else _POLICY),
        title=html.escape(f"{title} · inspector"),
        style=(FOLDER / "inspector.css").read_text(encoding="utf-8"),
        payload=_deflated(payload),
        rest=_deflated(rest) if rest else "",
        live=_LIVE.format(module=live_module_text(), weights=elements) if weights else "",
        view=json.dumps(dict(view)).replace("<", "\\u003c"),
        module=module_text(),
    )


def _deflated(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 6)).decode("ascii")
