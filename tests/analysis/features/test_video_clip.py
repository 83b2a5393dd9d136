"""A video as a clip: which frame sees which pictures and hears which sound."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV, of the extra video, is not installed")

from made_videos import tone, write_video

from analysis.features.clip import NO_SOUND, video_clip, with_shots
from analysis.features.log_mel import LogMel
from gmsa_models import read_clips, write_clips
from gmsa_models.data.clip import dequantize
from gmsa_models.data.errors import ClipFileError
from gmsa_models.data.spaces import FeatureSpace
from gmsa_models.data.video.decode import SAMPLE_RATE, VideoFile
from gmsa_models.errors import ArgumentError


class Levels:
    """One number a picture: its grey level over ten, as `write_video` counts pictures."""

    def __init__(self, pictures=1, quantized=False):
        self.pictures, self.quantized = pictures, quantized
        self.space = FeatureSpace("levels", pictures)
        self.calls = []

    def __call__(self, pictures):
        self.calls.append(len(pictures))
        levels = np.array([each.mean() / 10 for each in pictures], np.float32)
        return levels.reshape(-1, self.pictures)


class Loudness:
    """Two numbers a window: loudness of its first half, and of its second."""

    quantized = False
    space = FeatureSpace("loudness", 2)

    def __init__(self, window=None):
        self.window = window

    def __call__(self, windows):
        half = windows.shape[1] // 2
        return np.stack([np.abs(windows[:, :half]).max(1), np.abs(windows[:, half:]).max(1)], 1).astype(np.float32)


@pytest.mark.parametrize("first", [0.0, 4.25])
def test_a_frame_sees_the_picture_on_the_screen_and_says_when_it_came(tmp_path, first):
    times = [0.0, 0.3, 0.9, 1.1, 2.95, 3.05, 4.0]
    clip = video_clip(write_video(tmp_path / "a.mkv", times, first=first), Levels(), None)
    np.testing.assert_allclose(clip.features["visual"][:, 0], [0, 2, 3, 4, 6], atol=0.45)
    assert clip.frame_times == pytest.approx((0.0, 0.9, 1.1, 2.95, 4.0))
    assert (clip.id, clip.source, clip.frame_seconds) == ("a", str(tmp_path / "a.mkv"), 1.0)
    assert clip.spaces == {"visual": FeatureSpace("levels", 1, 1.0)}


def test_a_video_model_gets_pictures_over_each_frame(tmp_path):
    path = write_video(tmp_path / "a.mkv", [0.0, 0.5, 1.0, 1.5, 2.0])
    clip = video_clip(path, Levels(4), None)
    np.testing.assert_allclose(
        clip.features["visual"], [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 4, 4]], atol=0.45
    )  # the last picture stays for what its frame lacks
    assert clip.frame_times == pytest.approx((0.0, 1.0, 2.0))


def test_pictures_go_through_a_few_at_a_time(tmp_path):
    extractor = Levels()
    clip = video_clip(write_video(tmp_path / "a.mkv", np.arange(0, 25) / 5), extractor, None, rate=8.0)
    assert extractor.calls[:-1] == [16] * (clip.frames // 16)
    assert sum(extractor.calls) == clip.frames


@pytest.mark.parametrize("window", [None, 4000, 24_000])
def test_a_frame_hears_from_its_start_on(tmp_path, window):
    path = write_video(tmp_path / "a.mkv", np.arange(8) / 2, (1.5, tone(1.0)))
    clip = video_clip(path, None, Loudness(window), rate=2.0)
    assert clip.frames == 8
    heard = clip.features["audio"] > 0.1
    half = (window or 8000) / 32_000  # seconds
    starts = np.arange(8)[:, None] / 2 + np.array([0.0, half])
    expected = (starts < 2.5 - 1e-6) & (starts + half > 1.5 + 1e-6)
    np.testing.assert_array_equal(heard, expected)


def test_a_silent_video_is_heard_as_silence_and_says_so(tmp_path):
    path = write_video(tmp_path / "a.mkv", [0.0, 1.0, 2.0])
    clip = video_clip(path, Levels(), LogMel())
    assert clip.alignment == NO_SOUND
    np.testing.assert_allclose(clip.features["audio"][:, :64], np.log(0.01), atol=1e-5)
    assert video_clip(path, Levels(), None).alignment == ""


def test_quantised_features_are_stored_in_8_bits(tmp_path):
    path = write_video(tmp_path / "a.mkv", [0.0, 1.0])
    clip = video_clip(path, Levels(quantized=True), None)
    assert clip.features["visual"].dtype == np.uint8
    np.testing.assert_allclose(dequantize(clip.features["visual"])[:, 0], [0, 1], atol=0.15)


def test_a_clip_is_written_and_read_with_its_times(tmp_path):
    clip = video_clip(write_video(tmp_path / "a.mkv", [0.0, 0.7, 1.0]), Levels(), LogMel(), rate=0.5, identity="x")
    write_clips(tmp_path / "a.tfrecord", [clip])
    (read,) = read_clips(tmp_path / "a.tfrecord")
    assert (read.id, read.frame_times, read.spaces, read.alignment, read.frame_seconds) == (
        "x", clip.frame_times, clip.spaces, clip.alignment, 2.0,
    )  # fmt: skip
    np.testing.assert_array_equal(read.features["visual"], clip.features["visual"])


def coloured(number, size):
    """Twenty pictures a scene; a scene is a texture of its own."""
    random = np.random.default_rng(number // 20)
    return random.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


@pytest.mark.parametrize("first", [0.0, 4.25])
def test_a_clip_has_the_shots_of_its_video_in_every_picture_not_only_those_of_frames(tmp_path, first):
    path = write_video(tmp_path / "a.mkv", np.arange(70) / 20, first=first, picture=coloured)
    clips = [video_clip(path, Levels(), None), video_clip(path, None, LogMel()), video_clip(path, Levels(), None, 4.0)]
    assert {clip.shots for clip in clips} == {(0.0, 1.0, 2.0, 3.0)}
    assert [clip.shot_frames for clip in clips] == [(0, 1, 2, 3)] * 2 + [(0, 4, 8, 12)]
    assert with_shots(clips[0], path) is clips[0]
    assert with_shots(replace(clips[0], shots=()), path).shots == clips[0].shots
    write_clips(tmp_path / "a.tfrecord", clips[:1])
    assert next(read_clips(tmp_path / "a.tfrecord")).shots == clips[0].shots


def test_what_cannot_be_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mkv", [0.0, 1.0])
    with pytest.raises(ArgumentError, match="no extractor"):
        video_clip(path, None, None)
    with pytest.raises(ArgumentError, match="choose a lower rate"):
        video_clip(path, None, LogMel(), rate=50.0)
    (tmp_path / "b.mp4").write_text("hello")
    with pytest.raises(ClipFileError, match=r"b\.mp4: is not a video"):
        video_clip(tmp_path / "b.mp4", Levels(), None)


def test_three_hours_are_as_many_frames(tmp_path):
    times = np.arange(0, 3 * 3600 + 1, 1350.0)  # nine pictures: most frames show one that came long before
    clip = video_clip(write_video(tmp_path / "a.mkv", times), Levels(), None)
    assert clip.frames == 3 * 3600 + 1
    np.testing.assert_allclose(clip.features["visual"][:, 0], np.arange(clip.frames) // 1350, atol=0.45)
    assert clip.frame_times[1349:1351] == pytest.approx((0.0, 1350.0))


def test_a_video_that_is_cut_short_gives_what_is_there_or_one_error(tmp_path):
    whole = write_video(tmp_path / "a.mkv", range(12), (0.0, tone(12.0))).read_bytes()
    frames = set()
    for size in (100, *(len(whole) * share // 10 for share in (2, 5, 8, 9))):
        path = tmp_path / f"{size}.mkv"
        path.write_bytes(whole[:size])
        try:
            clip = video_clip(path, Levels(), LogMel())
        except ClipFileError:
            frames.add(0)
        else:
            np.testing.assert_allclose(clip.features["visual"][:, 0], range(clip.frames), atol=0.45)
            frames.add(clip.frames)
    assert min(frames) == 0
    assert max(frames) > 6


def test_a_video_without_a_picture_is_one_error(tmp_path):
    path = write_video(tmp_path / "a.mkv", [], (0.0, tone(1.0)))
    with pytest.raises(ClipFileError, match=r"a\.mkv: .*(no picture|cut short)"):
        video_clip(path, Levels(), LogMel())


class Ends:
    """Two numbers a window: its first sample, and its last."""

    quantized, window = False, 9001
    space = FeatureSpace("ends", 2)

    def __call__(self, windows):
        return windows[:, [0, -1]]


def test_windows_are_cut_out_of_one_sound_to_the_sample(tmp_path):
    path = write_video(tmp_path / "a.mkv", range(7), (0.3, tone(6.0)))
    clip = video_clip(path, None, Ends(), rate=3.0)
    video = VideoFile(path)
    sound = np.concatenate([*video.sound(video.start, clip.frames, 3.0), np.zeros(9001, np.float32)])
    starts = [round(number * SAMPLE_RATE / 3) for number in range(clip.frames)]
    np.testing.assert_array_equal(clip.features["audio"][:, 0], sound[starts])
    np.testing.assert_array_equal(clip.features["audio"][:-2, 1], sound[[start + 9000 for start in starts[:-2]]])
