"""Take the pictures of the inspector that the README shows: `python docs/screenshot.py`.

Light and dark, one video and two models; needs chromium and playwright (the test extra).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from analysis import DEFAULT_PARTS, inspect_clip
from figures.inspector import write_html
from gmsa_models import load, read_clips
from tests.browser import started_browser

FOLDER = Path(__file__).parent
CLIP, MODELS = "demo:3", ("gate-op-tp30", "baseline")
EXPLAINED = "Vehicle"
VIEW = {"against": MODELS[1], "frame": 47, "pinned": True, "head": 2, "explanation": "relevance-propagation"}
SCREEN = {"width": 1260, "height": 760}


def main() -> None:
    """Write `docs/inspector.png` and `docs/inspector-dark.png`."""
    clip = next(iter(read_clips(CLIP)))
    models, parts = [load(name) for name in MODELS], [*DEFAULT_PARTS, "explanation"]
    records = [inspect_clip(each, clip, parts=parts, target=each.vocabulary.find(EXPLAINED)) for each in models]
    browsers = started_browser()
    browser = next(browsers)
    with tempfile.TemporaryDirectory() as folder:
        path = write_html(records, Path(folder) / "inspector.html", VIEW)
        for theme, name in (("light", "inspector.png"), ("dark", "inspector-dark.png")):
            page = browser.new_page(viewport=SCREEN, color_scheme=theme, device_scale_factor=1.5)
            page.goto(path.as_uri())
            page.wait_for_selector(".gmsa-inspector footer")
            page.wait_for_timeout(500)
            page.locator(".gmsa-inspector").screenshot(path=FOLDER / name)
            page.close()
            print(f"wrote docs/{name}")
    next(browsers, None)


if __name__ == "__main__":
    main()
