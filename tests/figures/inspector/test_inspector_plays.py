"""Cursor, pictures and sound in a real browser, of a video whose pictures say their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV, of the extra video, is not installed")

from made_videos import numbered, tone, write_video

from figures.inspector import write_html
from tests.browser import SCREEN, settle, started_browser, wait_until
from tests.inspector_records import made_record

ROOT = "document.querySelector('.gmsa-inspector').inspector"
FRAMES, RATE = 12, 8  # of the record, one a second; pictures a second of the video
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


@pytest.fixture(scope="module", params=["proxy", "thumbnails"])
def page(browser, video, tmp_path_factory, request):
    problems = []
    path = tmp_path_factory.mktemp("page") / "view.html"
    record = made_record(FRAMES).assign(segment_origin=("segment", np.array(["vid1", "vid2"], dtype=object)))
    write_html(record, path, {"theme": "light"}, "float32", video=video, media=request.param)
    page = browser.new_context(viewport=SCREEN).new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    page.goto(path.as_uri())
    page.wait_for_selector(".gmsa-inspector footer")
    page.media = request.param
    yield page
    page.context.close()
    assert problems == []


def settled(page, frame):
    """Once the cursor is at a frame and its picture is there: the number that the picture says."""
    there = f"{ROOT}.playback.isAt({ROOT}.state)" if page.media == "proxy" else f"{ROOT}.media.sheet"
    wait_until(page, f"{ROOT}.state.frame === {frame} && {there}")
    settle(page)
    return page.evaluate(NUMBER)


def played(page, until):
    """Play until an expression is true: the cursor's frame and the number on the screen, behind each painting."""
    page.focus(".gmsa-inspector")
    page.keyboard.press("Space")
    seen = page.evaluate(f"""new Promise((done) => {{
        const seen = [], look = () => {{
            seen.push([{ROOT}.state.frame, {NUMBER}]);
            if ({until}) done(seen); else requestAnimationFrame(() => setTimeout(look));
        }};
        look();
    }})""")
    page.keyboard.press("Space")
    assert page.evaluate(f"{ROOT}.state.playing || {ROOT}.media.video?.paused === false") is False
    return np.array(seen).T


def test_the_picture_follows_the_cursor(page):
    assert settled(page, 0) == 0
    page.focus(".gmsa-inspector")
    for key, frame in [("ArrowRight", 1), ("End", FRAMES - 1), ("ArrowLeft", FRAMES - 2), ("Home", 0)]:
        page.keyboard.press(key)
        assert settled(page, frame) == frame * RATE


def test_the_cursor_follows_the_picture(page):
    if page.media == "proxy":
        page.get_by_label("Speed").select_option("2")
        assert page.evaluate(f"{ROOT}.media.video.playbackRate") == 2
    frames, numbers = played(page, f"{ROOT}.state.frame >= 4")
    # A busy machine paints fewer of them, never an earlier one.
    assert frames[0] == 0
    assert (np.diff(frames) >= 0).all()
    if page.media == "proxy":
        assert (np.diff(numbers) >= 0).all()
        # The cursor moves as a picture comes on the screen; the canvas is painted at the end of that moment.
        assert np.abs(numbers / RATE - frames - 0.5).max() <= 0.5 + 1 / RATE
    else:
        assert np.abs(numbers / RATE - frames).max() <= 1
    assert settled(page, frame := page.evaluate(f"{ROOT}.state.frame")) // RATE == frame


def test_playing_stays_within_the_span(page):
    page.evaluate(f"{ROOT}.set({{ frame: 7, span: [6, 8] }})")
    settled(page, 7)
    if page.media == "proxy":
        page.get_by_label("Speed").select_option("4")
    back_and_again = f"seen.some(([frame], at) => at && frame < seen[at - 1][0]) && {ROOT}.state.frame === 7"
    frames, _ = played(page, back_and_again)
    assert set(frames) == {6, 7}
    page.evaluate(f"{ROOT}.set({{ frame: 0, span: [0, {FRAMES}] }})")


def test_a_click_on_the_picture_plays(page):
    page.locator(".picture .overlay").click()
    assert page.evaluate(f"{ROOT}.state.playing") is True
    page.locator(".picture .overlay").click()
    assert page.evaluate(f"{ROOT}.state.playing") is False


def peaks(values):
    padded = np.concatenate([[0], values, [0]])
    return [at for at in np.argsort(-values) if padded[at] < values[at] >= padded[at + 2]]


def test_pictures_of_what_is_attended_to(page):
    maps = made_record(FRAMES)["attention"].sel(modality="visual", branch="global", head=1).values
    page.evaluate(f"{ROOT}.set({{ frame: 5, head: 1, pinned: true }})")
    settled(page, 5)
    tiles = page.evaluate(f"{ROOT}.attended.tiles")
    rows = [[tile for tile in tiles if tile["y"] == y] for y in sorted({tile["y"] for tile in tiles})]
    for row, values in zip(rows, (maps[5], maps.mean(0)), strict=True):
        assert [tile["frame"] for tile in row] == peaks(values)[: len(row)]
        assert len(row) >= min(3, len(peaks(values)))
    said = page.get_attribute(".attended canvas", "aria-label")
    assert said.startswith("0:05 attends to (pinned)")
    assert f"0:{rows[0][0]['frame']:02} {maps[5].max():.2g}" in said
    box, tile = page.locator(".attended .overlay").bounding_box(), rows[1][0]
    place = box["x"] + tile["x"] + 9, box["y"] + tile["y"] + 9
    page.mouse.move(*place)
    assert page.evaluate(f"{ROOT}.state.hover.key") == tile["frame"]
    page.mouse.click(*place)
    assert settled(page, tile["frame"]) == tile["frame"] * RATE


def test_saved_views_have_the_pictures(page):
    with page.expect_download() as png:
        page.get_by_role("button", name="PNG").click()
    assert Path(png.value.path()).stat().st_size > 20_000
    with page.expect_download() as svg:
        page.get_by_role("button", name="SVG").click()
    assert Path(svg.value.path()).read_text().count("<image ") > 10


def test_python_gives_the_video_again(page, video):
    text = page.evaluate(f"{ROOT}.python()")
    assert f"Inspector(records, video={str(video)!r}, media={page.media!r}, " in text


def test_where_a_span_of_a_montage_comes_from_is_told(page):
    page.evaluate(f"{ROOT}.set({{ frame: 3, pinned: false, hover: null }})")
    settled(page, 3)
    assert page.text_content(".readout") == "0:03 (frame 3) · Food of vid1"
    page.evaluate(f"{ROOT}.set({{ frame: 10 }})")
    settled(page, 10)
    assert page.text_content(".readout") == "0:10 (frame 10) · background of vid2"


@pytest.mark.parametrize(
    ("second", "words"), [(0, "0:00"), (12.1875, "0:12.19"), (29.9999, "0:30"), (59.996, "1:00"), (61, "1:01")]
)
def test_times_in_words_are_rounded_to_hundredths(page, second, words):
    assert page.evaluate(f"{ROOT}.scene.axisClock({second})") == words


def test_only_a_copy_has_sound(page):
    """Without one the speed is in frames of the record, as nothing says how fast its video is."""
    count = 1 if page.media == "proxy" else 0
    assert page.get_by_role("button", name="sound").count() == count
    speeds = page.get_by_label("Speed").locator("option").all_text_contents()
    assert speeds[1] == ("1 ×" if count else "10 frames/s")
    if count:
        page.get_by_role("button", name="sound").click()
        assert page.evaluate(f"{ROOT}.media.video.muted") is True
