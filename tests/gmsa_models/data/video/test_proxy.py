"""The small copy of a video shows and sounds at every second as the video does, in as many bytes as it may have."""

import io
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV, of the extra video, is not installed")

from made_videos import numbered, tone, write_video  # noqa: E402

from gmsa_models.data.video.decode import VideoFile  # noqa: E402
from gmsa_models.data.video.proxy import video_proxy  # noqa: E402
from gmsa_models.errors import ArgumentError  # noqa: E402


def numbers(pictures):
    """What `numbered` pictures say."""
    columns = [each.pixels.mean((0, 2)).reshape(8, -1).mean(1) > 127 for each in pictures]
    return [int(bits @ 2 ** np.arange(8)) for bits in columns]


def copied(proxy, tmp_path) -> Path:
    path = tmp_path / "copy.webm"
    path.write_bytes(proxy.webm)
    return path


VARIABLE = np.cumsum(np.random.default_rng(1).choice([0.01, 0.02, 0.04, 0.1, 0.7, 1.9], 40))


@pytest.mark.parametrize("times", [np.arange(0, 4, 1 / 25), np.arange(0, 3, 1 / 60), VARIABLE - VARIABLE[0]])
@pytest.mark.parametrize("first", [0.0, 0.55])
def test_the_copy_shows_what_the_video_shows(tmp_path, times, first):
    path = write_video(tmp_path / "a.mkv", times, first=2.0, size=(48, 80), picture=numbered)
    proxy = video_proxy(path, first)
    end = proxy.last - first - 0.04
    asked = np.linspace(0, end, 211)
    shown = numbers(VideoFile(copied(proxy, tmp_path)).frames_at(asked.tolist()))
    earliest = numbers(VideoFile(path).frames_at((first + np.maximum(asked - 0.065, 0)).tolist()))
    latest = numbers(VideoFile(path).frames_at((first + asked + 0.001).tolist()))
    assert (np.array(shown) >= earliest).all()
    assert (np.array(shown) <= latest).all()
    assert len(set(shown)) > 10
    written = [each.shown for each in VideoFile(copied(proxy, tmp_path)).pictures()]
    assert np.diff(written).min() >= 0.03
    assert np.diff(written).max() <= 0.501
    assert written[-1] >= end - 0.04


@pytest.mark.parametrize(("begins", "first"), [(0.0, 0.0), (0.75, 0.5), (0.25, 1.0)])
def test_the_copy_sounds_as_the_video_does(tmp_path, begins, first):
    path = write_video(tmp_path / "a.mkv", np.arange(0, 4, 0.2), (begins, tone(2.0)), first=3.0)
    copy = VideoFile(copied(video_proxy(path, first), tmp_path))
    heard = np.abs(np.concatenate(list(copy.sound(copy.start, 4))))
    places = np.flatnonzero(heard > 0.1) / 16_000
    assert places[0] == pytest.approx(max(begins - first, 0.0), abs=0.03)
    assert places[-1] == pytest.approx(begins + 2.0 - first, abs=0.03)
    assert heard[int(16_000 * (places[0] + 0.3)) :][:8000].max() == pytest.approx(0.5, abs=0.1)


def test_what_the_copy_is(tmp_path):
    path = write_video(tmp_path / "a.mkv", np.arange(0, 3, 0.2), size=(480, 720))
    proxy = video_proxy(path, 0.4, 2.0)
    assert (proxy.first, proxy.last, proxy.width, proxy.height, proxy.has_sound) == (0.4, 2.0, 360, 240, False)
    with av.open(io.BytesIO(proxy.webm)) as file:
        assert [stream.codec_context.name for stream in file.streams] == ["vp9"]
    assert numbers(VideoFile(copied(proxy, tmp_path)).frames_at([0.0]))
    assert video_proxy(path, 1.0, 60.0).last == VideoFile(path).duration


def test_snow_is_made_smaller_until_its_bytes_fit(tmp_path):
    noise = np.random.default_rng(0)
    path = write_video(
        tmp_path / "a.mkv", np.arange(0, 3, 1 / 25), size=(240, 320), codec="ffv1",
        picture=lambda _, size: noise.integers(0, 256, (*size, 3), dtype=np.uint8),
    )  # fmt: skip
    whole, least = video_proxy(path), video_proxy(path, most_bytes=25_000)
    assert (whole.height, len(whole.webm) > 25_000) == (240, True)
    assert len(least.webm) <= 25_000
    assert least.height < 240
    with pytest.raises(ArgumentError, match="no copy of seconds 0 to 3 fits 8500 bytes; take thumbnails"):
        video_proxy(path, most_bytes=8500)


def test_seconds_that_are_none_or_too_many_are_refused(tmp_path):
    path = write_video(tmp_path / "a.mkv", [0.0, 1.0, 2.0])
    with pytest.raises(ArgumentError, match=r"a\.mkv: seconds 3 to 2\.04 of a video of 2\.04 s"):
        video_proxy(path, 3.0)
    with pytest.raises(ArgumentError, match="seconds -1 to 2"):
        video_proxy(path, -1.0)
    with pytest.raises(ArgumentError, match=r"2\.04 s are too long for a copy of 0\.001 MB, which holds up to 0 s"):
        video_proxy(path, most_bytes=1000)
