"""Whether the page of a video of five minutes shows the picture of its cursor: when sought and while it plays.

The video is made of real ones; its pictures say their numbers in their lowest rows, which are read from the page's
canvas in headless chromium. Sought: the cursor is sent to frames anywhere, and the picture of each is read. Playing:
cursor and picture are read at every frame that the browser paints.

    python benchmarks/playing.py 'videos/*.mp4' [--seconds 300] [--write]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from joined_video import MARKS, Part, joined
from measuring import machine, report

from figures.inspector import write_html
from figures.inspector.media import MEDIA
from gmsa_models.data.paths import expand
from tests.browser import SCREEN, started_browser
from tests.inspector_records import made_record

RESULTS = Path(__file__).parent / "results" / "playing.md"
RATE, SIZE = 25, (360, 640)  # pictures a second, height and width
SEEKS, PLAYED, SPEEDS = 60, 20, (1, 2)  # frames that are sought; seconds of the video that are played, at these speeds
INSPECTOR = "document.querySelector('.gmsa-inspector').inspector"
# Resolves when an expression is true; the page's policy forbids what `wait_for_function` needs.
UNTIL = "new Promise((done) => {{ const look = () => ({0}) ? done() : setTimeout(look, 20); look(); }})"
PAINTED = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
NUMBER = f"""(() => {{
    const {{ base, width, height, ratio }} = {INSPECTOR}.picture, context = base.getContext("2d");
    const at = (place) => context.getImageData((place + 0.5) * width * ratio / {MARKS}, 0.92 * height * ratio, 1, 1);
    return Array.from({{ length: {MARKS} }}, (_, place) => (at(place).data[1] > 127 ? 2 ** place : 0))
        .reduce((sum, each) => sum + each, 0);
}})()"""


def sought(page, frames: np.ndarray) -> np.ndarray:
    """Seconds of the picture that the page shows, with the cursor at each of some frames."""
    numbers = []
    for frame in frames:
        page.evaluate(f"{INSPECTOR}.set({{ frame: {frame} }})")
        page.evaluate(
            UNTIL.format(f"{INSPECTOR}.state.frame === {frame} && {INSPECTOR}.playback.isAt({INSPECTOR}.state)")
        )
        page.evaluate(PAINTED)
        numbers.append(page.evaluate(NUMBER))
    return np.array(numbers) / RATE


def played(page, first: int, speed: float) -> tuple[np.ndarray, np.ndarray]:
    """The cursor's frame and the seconds of the picture, at each painted frame of a part that plays."""
    sought(page, np.array([first]))
    page.get_by_label("Speed").select_option(str(speed))
    page.focus(".gmsa-inspector")
    page.keyboard.press("Space")
    seen = page.evaluate(f"""new Promise((done) => {{
        const seen = [], look = () => {{
            seen.push([{INSPECTOR}.state.frame, {NUMBER}]);
            if ({INSPECTOR}.state.frame >= {first + PLAYED}) done(seen); else requestAnimationFrame(look);
        }};
        look();
    }})""")
    page.keyboard.press("Space")
    frames, numbers = np.array(seen).T
    return frames, numbers / RATE


def distance(frames: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Pictures of the video between the picture shown and the nearest one of the second that the cursor stands on."""
    return np.rint(RATE * np.maximum(0, np.maximum(frames - seconds, seconds - (frames + 1 - 1 / RATE))))


def measure(page, seconds: int) -> list[str]:
    """Lines of the table."""
    frames = np.random.default_rng(0).permutation(seconds)[:SEEKS]
    apart = distance(frames, sought(page, frames))
    rows = [f"| sought | {len(frames)} | {np.mean(apart <= 1):.3f} | {apart.max():.0f} |"]
    for number, speed in enumerate(SPEEDS):
        at, shown = played(page, seconds // 3 * number, speed)
        apart = distance(at, shown)
        rows.append(f"| played, {speed} x | {len(at)} | {np.mean(apart <= 1):.3f} | {apart.max():.0f} |")
    return rows


def main() -> None:
    """Print the table; `--write` keeps it in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/playing.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        parts = [Part(path) for path in expand(arguments.paths)]
        video = joined(parts, Path(name) / "video.mp4", arguments.seconds, size=SIZE, rate=RATE, marked=True)
        record = made_record(arguments.seconds)
        pages = {media: write_html(record, Path(name) / f"{media}.html", video=video, media=media) for media in MEDIA}
        sizes = {media: path.stat().st_size / 1e6 for media, path in pages.items()}
        browsers = started_browser("--autoplay-policy=no-user-gesture-required")
        page = next(browsers).new_context(viewport=SCREEN).new_page()
        page.goto(pages["proxy"].as_uri())
        page.wait_for_selector(".gmsa-inspector footer")
        rows = measure(page, arguments.seconds)
        next(browsers, None)
    lines = [
        "# Playing a video of five minutes", "",
        f"`python benchmarks/playing.py ... --seconds {arguments.seconds} --write`: {len(parts)} real videos one after "
        f"another, {RATE} pictures\na second, {SIZE[1]} x {SIZE[0]}, with sound. The page's file: "
        + ", ".join(f"{size:.1f} MB ({media})" for media, size in sizes.items()) + ".", "",
        "Agree: the picture on the screen is one of the cursor's second, or next to it.", "",
        "| | readings | agree | most pictures apart |", "|---|---|---|---|", *rows, "", machine(),
    ]  # fmt: skip
    report(lines, RESULTS, arguments.write)


if __name__ == "__main__":
    main()
