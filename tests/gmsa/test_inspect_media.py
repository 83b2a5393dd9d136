"""`gmsa inspect --html --video FILE --media ...`: what the page holds, and what is refused before anything is made."""

import base64
import json
import re
import struct
import zlib

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("av", reason="PyAV, of the extra video, is not installed")

from made_videos import numbered, tone, write_video
from small_models import small_clip, small_model

import gmsa
from gmsa_models import save, write_clips

FRAMES = 13


def run(*words):
    return CliRunner().invoke(gmsa.app, [str(word) for word in words])


def header(path):
    """What the payload of a page says of itself."""
    packed = re.search(r'id="payload" type="text/plain">([^<]*)<', path.read_text(encoding="utf-8"))[1]
    payload = zlib.decompress(base64.b64decode(packed))
    (length,) = struct.unpack("<I", payload[:4])
    return json.loads(payload[4 : 4 + length])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model, a file of one clip, and the video that it is of."""
    folder = tmp_path_factory.mktemp("made")
    save(small_model(), folder / "mine.safetensors")
    write_clips(folder / "clips.tfrecord", [small_clip(FRAMES)])
    write_video(folder / "clip.mkv", np.arange(FRAMES * 5) / 5, (0.0, tone(FRAMES)), size=(48, 64), picture=numbered)
    write_video(folder / "short.mkv", np.arange(7.0), size=(48, 64))
    (folder / "text.mp4").write_text("no video")
    return folder


def inspect(made, out, *options):
    return run("inspect", made / "clips.tfrecord", "--model", made / "mine.safetensors", "--out", out, *options)


@pytest.mark.usefixtures("pages_left_empty")
def test_the_page_has_pictures_and_sound_and_a_saved_record_has_them_again(made, tmp_path):
    done = inspect(made, tmp_path, "--html", "--video", made / "clip.mkv")
    assert done.exit_code == 0, done.output
    about = header(next(tmp_path.glob("*.html")))["clip"]
    assert about["proxy"] == {"first": 0, "width": 64, "height": 48, "sound": True, "type": "video/webm"}
    assert about["thumbnails"] == {"columns": FRAMES, "width": 64, "height": 48, "type": "image/webp"}
    record, again = next(tmp_path.glob("*.nc")), tmp_path / "again"
    done = run("inspect", record, "--out", again, "--html", "--video", made / "clip.mkv", "--media", "thumbnails")
    assert done.exit_code == 0, done.output
    shown = header(next(again.glob("*.html")))["clip"]
    assert (shown["thumbnails"], "proxy" in shown) == (about["thumbnails"], False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--video", "clip.mkv"], "--video is of the page: add --html"),
        (["--media", "proxy"], "--media is of the page: add --html"),
        (["--html", "--media", "sound"], "--media is 'sound'; expected one of none, thumbnails, proxy"),
        (["--html", "--media", "proxy"], "--media proxy needs the video that .* is of: add --video FILE"),
        (["--html", "--video", "other.mkv"], "--video is 'other.mkv', which is no file"),
        (["--html", "--video", "short.mkv"], r"short\.mkv: ends after 6\.04 s, where frames last until 12 s"),
        (["--html", "--video", "text.mp4"], r"text\.mp4: is not a video"),
    ],
)
def test_what_cannot_be_shown_is_one_error(made, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(made)
    done = inspect(made, tmp_path / "out", *options)
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(message, done.stderr), done.stderr
    assert not list(tmp_path.rglob("*.nc"))
