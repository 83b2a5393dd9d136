"""Take the pictures of the inspector: `python docs/screenshot.py`, with `--video`, `--model` or `--edits` others.

Light and dark, one demo video and two models; with `--video` a video file by a VideoMAE with random weights in their
place (the README's is the first 30 s of Big Buck Bunny); with `--model` by a model that was trained on features of
videos, its labels and their seconds from a table (the README's first picture: model, video and table as
`benchmarks/own_video_segments.py --keep` leaves them); with `--edits` one model whose pass is edited, for
`docs/what_if.md`. Needs chromium and playwright (the test extra).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[1]))

import xarray as xr

from analysis import DEFAULT_PARTS, inspect_clip
from analysis.features.labels import read_labels
from analysis.inspect.live import LiveModel, live_model
from analysis.inspect.video import inspect_video
from analysis.inspect.video_features import clip_for_models
from benchmarks.random_model import write_model
from figures.inspector import write_html
from gmsa_models import load, read_clips
from gmsa_models.data.clip import Segment
from gmsa_models.masks import Toeplitz
from tests.browser import started_browser

FOLDER = Path(__file__).parent
CLIP, MODELS = "demo:3", ("gate-op-tp30", "baseline")
EXPLAINED = "Vehicle"
VIEW = {"against": MODELS[1], "frame": 47, "pinned": True, "head": 2, "explanation": "relevance-propagation"}
SCREEN = {"width": 1260, "height": 760}


VIDEO_VIEW = {"frame": 13, "pinned": True, "head": 1, "explanation": "frame-occlusion", "left": "similarity"}
TRAINED_VIEW = {"frame": 27, "pinned": True, "head": 1, "explanation": "relevance-propagation", "left": "similarity"}

EDITED_VIEW = {"frame": 47, "head": 2, "branch": "local"}
EDITS = ("knock-out visual/0/*/weights keys 45..61", "force-gate audio/0/gate to 0.2")
SELECT = """document.querySelector('.gmsa-inspector').inspector.set({
    selection: { seconds: [45, 61], queries: null, keys: null } })"""


def edited_record() -> tuple[xr.Dataset, LiveModel]:
    """One demo video by a shipped model, and what a page needs to edit its pass."""
    clip, model = next(iter(read_clips(CLIP))), load(MODELS[0])
    return inspect_clip(model, clip), live_model(model, clip)


def shipped_records() -> list[xr.Dataset]:
    """One demo video by two shipped models."""
    clip = next(iter(read_clips(CLIP)))
    models, parts = [load(name) for name in MODELS], [*DEFAULT_PARTS, "explanation"]
    return [inspect_clip(each, clip, parts=parts, target=each.vocabulary.find(EXPLAINED)) for each in models]


def video_record(video: Path) -> xr.Dataset:
    """A video file by a VideoMAE of 64 pictures, with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        model = write_model("videomae", Path(folder) / "VideoMAE", num_frames=64)
        return inspect_video(video, model, neighbourhood=Toeplitz(8), explain=True)


def trained_record(video: Path, checkpoint: Path, table: Path) -> xr.Dataset:
    """A video file by a model of ours, with the seconds of its labels; the first label is explained."""
    model = load(checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        clip, _ = clip_for_models(video, [checkpoint], folder)
    labels = [
        (model.vocabulary.indices[model.vocabulary.find(each.name)], each.span)
        for each in read_labels(str(table), [video])[video]
    ]
    segments = tuple(Segment(*span, (label,)) for label, span in labels if span is not None)
    clip = replace(clip, labels=tuple(sorted({label for label, _ in labels})), segments=segments)
    target = model.vocabulary.positions([labels[0][0]])[0]
    return inspect_clip(model, clip, parts=[*DEFAULT_PARTS, "explanation"], target=target)


def take(
    records: Sequence[xr.Dataset],
    view: Mapping[str, object],
    stem: str,
    video: Path | None = None,
    live: Sequence[LiveModel] = (),
) -> None:
    """Write `docs/STEM.png` and `docs/STEM-dark.png`: with the pictures of a video, or with `EDITS` made."""
    address = f"#edits={quote(json.dumps(EDITS[:1]))}" if live else ""
    browsers = started_browser()
    browser = next(browsers)
    scale = 1.5 if video is None else 1.0  # pictures of a video are many bytes
    with tempfile.TemporaryDirectory() as folder:
        path = write_html(records, Path(folder) / "inspector.html", view, video=video, live=live)
        for theme, name in (("light", f"{stem}.png"), ("dark", f"{stem}-dark.png")):
            page = browser.new_page(viewport=SCREEN, color_scheme=theme, device_scale_factor=scale)
            page.goto(path.as_uri() + address)
            page.wait_for_selector(".gmsa-inspector footer")
            if live:
                make_edits(page)
            page.wait_for_timeout(1500)
            page.locator(".gmsa-inspector").screenshot(path=FOLDER / name)
            page.close()
            print(f"wrote docs/{name}")
    next(browsers, None)


def make_edits(page) -> None:
    """Make those of `EDITS` that are not in the address, and select seconds."""
    for edit in EDITS[1:]:
        page.wait_for_selector(".effect >> text=logit")
        page.get_by_label("An edit as text").fill(edit)
        page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    page.wait_for_selector(".effect >> text=logit")
    page.evaluate(SELECT)


def main() -> None:
    """Write `docs/inspector.png` and its dark twin, those of a video file, or of an edited pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="a video file, for docs/inspector-video.png")
    parser.add_argument("--model", type=Path, help="with --video: a trained model, for docs/inspector-trained.png")
    parser.add_argument("--labels", type=Path, help="with --model: a table as of gmsa features --labels")
    parser.add_argument("--edits", action="store_true", help="an edited pass, for docs/what-if.png")
    options = parser.parse_args()
    if (options.model is None) != (options.labels is None) or (options.model and options.video is None):
        parser.error("--model, --labels and --video go together")
    if options.edits:
        record, live = edited_record()
        take([record], EDITED_VIEW, "what-if", live=[live])
    elif options.video is None:
        take(shipped_records(), VIEW, "inspector")
    elif options.model is not None:
        record = trained_record(options.video, options.model, options.labels)
        take([record], TRAINED_VIEW, "inspector-trained", options.video)
    else:
        take([video_record(options.video)], VIDEO_VIEW, "inspector-video", options.video)


if __name__ == "__main__":
    main()
