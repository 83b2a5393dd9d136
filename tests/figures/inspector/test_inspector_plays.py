"""Cursor, pictures and sound in a real browser, of a video whose pictures say their numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV, of the extra video, is not installed")

from made_videos import numbered, tone, write_video

from figures.inspector import write_html
from tests.browser import SCREEN, started_browser
from tests.inspector_records import made_record

ROOT = "document.querySelector('.gmsa-inspector').inspector"
FRAMES, RATE = 12, 8  # of the record, one a second; pictures a second of the video
# Resolves when an expression is true; the page's policy forbids what `wait_for_function` needs.
UNTIL = "new Promise((done) => {{ const look = () => ({0}) ? done() : setTimeout(look, 20); look(); }})"
# The number that the picture on the canvas says.
NUMBER = f"""(() => {{
    const {{ base, width, height, ratio }} = {ROOT}.picture, context = base.getContext("2d");
    const pixel = (place) => context.getImageData((place + 0.5) * width * ratio / 8, height * ratio / 2, 1, 1).data[1];
    const bit = (place) => (pixel(place) > 127 ? 1 : 0);
    return Array.from({{ length: 8 }}, (_, place) => bit(place) * 2 ** place).reduce((sum, each) => sum + each, 0);
}})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    yield from started_browser("--autoplay-policy=no-user-gesture-required")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "numbers.mkv"
    return write_video(path, np.arange(FRAMES * RATE) / RATE, (0.0, tone(FRAMES)), size=(120, 160), picture=numbered)


@pytest.fixture(scope="module")
def page(browser, video, tmp_path_factory):
    problems = []
    path = write_html(made_record(FRAMES), tmp_path_factory.mktemp("page") / "view.html", video=video)
    page = browser.new_context(viewport=SCREEN).new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    page.goto(path.as_uri())
    page.wait_for_selector(".gmsa-inspector footer")
    yield page
    page.context.close()
    assert problems == []


def settled(page, frame):
    """Once the cursor is at a frame and its picture is there: the number that the picture says."""
    shown = f"{ROOT}.state.frame === {frame} && {ROOT}.playback.isAt({ROOT}.state)"
    page.evaluate(UNTIL.format(shown))
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.evaluate(NUMBER)


def test_the_picture_follows_the_cursor(page):
    assert settled(page, 0) == 0
    page.focus(".gmsa-inspector")
    for key, frame in [("ArrowRight", 1), ("End", FRAMES - 1), ("ArrowLeft", FRAMES - 2), ("Home", 0)]:
        page.keyboard.press(key)
        assert settled(page, frame) == frame * RATE


def test_the_cursor_follows_the_picture(page):
    page.get_by_label("Speed").select_option("2")
    page.focus(".gmsa-inspector")
    page.keyboard.press("Space")
    seen = page.evaluate(f"""new Promise((done) => {{
        const seen = [], look = () => {{
            seen.push([{ROOT}.state.frame, {NUMBER}]);
            if ({ROOT}.state.frame >= 5) done(seen); else requestAnimationFrame(look);
        }};
        look();
    }})""")
    page.keyboard.press("Space")
    frames, numbers = np.array(seen).T
    assert page.evaluate(f"{ROOT}.media.video.playbackRate") == 2
    assert list(np.unique(frames)) == [0, 1, 2, 3, 4, 5]
    assert len(np.unique(numbers)) > 15
    print(json.dumps(seen))
    assert np.abs(numbers / RATE - frames - 0.5).max() <= 0.5 + 1 / RATE
    assert page.evaluate(f"{ROOT}.state.playing || !{ROOT}.media.video.paused") is False
