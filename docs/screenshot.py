"""Take the pictures of the inspector that the README shows: `python docs/screenshot.py [--video FILE]`.

Light and dark, one video and two models; with `--video` a video file by a VideoMAE with random weights in their place
(the README's is the first 30 s of Big Buck Bunny). Needs chromium and playwright (the test extra).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import xarray as xr

from analysis import DEFAULT_PARTS, inspect_clip
from analysis.inspect.video import inspect_video
from benchmarks.random_model import write_model
from figures.inspector import write_html
from gmsa_models import load, read_clips
from gmsa_models.masks import Toeplitz
from tests.browser import started_browser

FOLDER = Path(__file__).parent
CLIP, MODELS = "demo:3", ("gate-op-tp30", "baseline")
EXPLAINED = "Vehicle"
VIEW = {"against": MODELS[1], "frame": 47, "pinned": True, "head": 2, "explanation": "relevance-propagation"}
SCREEN = {"width": 1260, "height": 760}


VIDEO_VIEW = {"frame": 13, "pinned": True, "head": 1, "explanation": "frame-occlusion", "left": "similarity"}


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


def take(records: Sequence[xr.Dataset], view: Mapping[str, object], stem: str, video: Path | None = None) -> None:
    """Write `docs/STEM.png` and `docs/STEM-dark.png`, with the pictures of a video."""
    browsers = started_browser()
    browser = next(browsers)
    scale = 1.5 if video is None else 1.0  # pictures of a video are many bytes
    with tempfile.TemporaryDirectory() as folder:
        path = write_html(records, Path(folder) / "inspector.html", view, video=video)
        for theme, name in (("light", f"{stem}.png"), ("dark", f"{stem}-dark.png")):
            page = browser.new_page(viewport=SCREEN, color_scheme=theme, device_scale_factor=scale)
            page.goto(path.as_uri())
            page.wait_for_selector(".gmsa-inspector footer")
            page.wait_for_timeout(1500)
            page.locator(".gmsa-inspector").screenshot(path=FOLDER / name)
            page.close()
            print(f"wrote docs/{name}")
    next(browsers, None)


def main() -> None:
    """Write `docs/inspector.png` and its dark twin, or those of a video file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="a video file, for docs/inspector-video.png")
    video = parser.parse_args().video
    if video is None:
        take(shipped_records(), VIEW, "inspector")
    else:
        take([video_record(video)], VIDEO_VIEW, "inspector-video", video)


if __name__ == "__main__":
    main()
