"""Shots of videos made here: cuts and fades are found, motion, flashes and still pictures are none."""

from collections import deque

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV, of the extra video, is not installed")

from made_videos import write_video  # noqa: E402

from gmsa_models.data.errors import ClipFileError  # noqa: E402
from gmsa_models.data.video.decode import VideoFile  # noqa: E402
from gmsa_models.data.video.shots import AROUND, HEIGHT, MOST_PICTURES, WIDTH, ShotFinder, video_shots  # noqa: E402

RATE = 25
SIZE = (90, 160)


def scene(number, shift=0):
    """A coloured texture of its own, moved to the right."""
    random = np.random.default_rng(number)
    tiles = random.integers(30, 226, (9, 16, 3), dtype=np.uint8)
    return np.roll(tiles.repeat(10, 0).repeat(10, 1), shift, axis=1)


def black():
    return np.zeros((*SIZE, 3), np.uint8)


def faded(pixels, share):
    return (pixels * share).astype(np.uint8)


def starts_of(tmp_path, pictures, times=None, **options):
    times = [number / RATE for number in range(len(pictures))] if times is None else times
    path = write_video(
        tmp_path / "a.mkv", times, size=SIZE, picture=lambda number, size: pictures[number], codec="ffv1", **options
    )
    return list(video_shots(path))


def still(number, count):
    return [scene(number)] * count


def test_cuts_between_scenes_that_stand_still(tmp_path):
    pictures = still(1, 30) + still(2, 25) + still(3, 40)
    assert starts_of(tmp_path, pictures) == pytest.approx([0, 1.2, 2.2], abs=1e-3)


@pytest.mark.parametrize("first", [0.0, 3.5])
def test_a_variable_rate_and_a_first_time_above_0_have_the_clock_of_frames(tmp_path, first):
    times = [0.0, 0.04, 0.2, 0.9, 1.5, 1.51, 1.6, 3.0, 3.04, 4.0]
    pictures = still(1, 4) + still(2, 3) + still(3, 3)
    starts = starts_of(tmp_path, pictures, times, first=first)
    assert starts == pytest.approx([0, 1.5, 3.0], abs=2e-3)
    shown = {round(frame.shown, 3) for frame in VideoFile(tmp_path / "a.mkv").pictures()}
    assert {round(start, 3) for start in starts} <= shown


def test_motion_is_no_cut_and_a_cut_within_motion_is(tmp_path):
    pan = [scene(1, 7 * number) for number in range(60)]
    assert starts_of(tmp_path, pan) == [0], "each picture differs from the one before"
    assert starts_of(
        tmp_path, [scene(1, number) for number in range(60)] + [scene(2, 2 * number) for number in range(40)]
    ) == pytest.approx([0, 2.4])


def test_light_that_changes_slowly_is_no_cut(tmp_path):
    assert starts_of(tmp_path, [faded(scene(1), share) for share in np.linspace(0.3, 1, 60)]) == [0]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("level", [0, 255])
def test_flashes_and_black_pictures_are_no_cuts(tmp_path, count, level):
    flash = [np.full((*SIZE, 3), level, np.uint8)] * count
    assert starts_of(tmp_path, still(1, 30) + flash + still(1, 30)) == [0]


def test_a_flash_in_a_moving_scene_is_no_cut(tmp_path):
    pan = [scene(1, 2 * number) for number in range(60)]
    pan[30] = np.full((*SIZE, 3), 255, np.uint8)
    assert starts_of(tmp_path, pan) == [0], "behind it no picture is as the one before"


def test_a_strobe_is_no_cut_however_long(tmp_path):
    strobe = [scene(1) if number % 4 else np.full((*SIZE, 3), 255, np.uint8) for number in range(400)]
    assert starts_of(tmp_path, still(1, 30) + strobe + still(1, 30)) == [0]


def test_black_pictures_between_two_scenes_are_one_boundary(tmp_path):
    starts = starts_of(tmp_path, still(1, 30) + [black()] * 3 + still(2, 30))
    assert len(starts) == 2
    assert 1.2 <= starts[1] <= 1.32


def test_a_flash_behind_a_cut_does_not_move_it(tmp_path):
    pictures = still(1, 30) + still(2, 3) + [np.full((*SIZE, 3), 255, np.uint8)] + still(2, 40)
    assert starts_of(tmp_path, pictures) == pytest.approx([0, 1.2])


def test_a_fade_through_black_is_one_boundary_where_the_next_scene_appears(tmp_path):
    out = [faded(scene(1), share) for share in np.linspace(1, 0, 20)]
    into = [faded(scene(2), share) for share in np.linspace(0, 1, 20)]
    starts = starts_of(tmp_path, still(1, 30) + out + [black()] * 10 + into + still(2, 30))
    assert len(starts) == 2
    assert 2.4 <= starts[1] <= 2.6, "black pictures end at 2.4 s"


def test_the_black_before_the_first_scene_and_behind_the_last_are_no_boundaries(tmp_path):
    into, out = ([faded(scene(1), share) for share in np.linspace(*ends, 25)] for ends in ((0, 1), (1, 0)))
    assert starts_of(tmp_path, [black()] * 20 + into + still(1, 30) + out + [black()] * 20) == [0]


def test_pictures_that_are_nearly_of_one_colour_are_no_fades(tmp_path):
    """A night scene, whose spread comes and goes around that of one colour."""
    random = np.random.default_rng(0)
    noise = random.normal(0, 1, (9, 16, 1)).repeat(10, 0).repeat(10, 1)
    night = [np.clip(20 + spread * noise + np.zeros(3), 0, 255).astype(np.uint8) for spread in (1, 6) * 30]
    assert starts_of(tmp_path, night) == [0]


@pytest.mark.parametrize("count", [1, 2, 100])
def test_a_still_video_and_a_single_picture_are_one_shot(tmp_path, count):
    assert starts_of(tmp_path, still(1, count)) == [0]
    assert starts_of(tmp_path, [black()] * count) == [0]


def test_a_slide_show_of_a_picture_a_second(tmp_path):
    pictures = [scene(number) for number in range(6)]
    assert starts_of(tmp_path, pictures, [float(number) for number in range(6)]) == pytest.approx(range(6))


def test_a_cut_of_the_first_and_of_the_last_picture(tmp_path):
    assert starts_of(tmp_path, still(1, 30) + still(2, 1)) == pytest.approx([0, 1.2])
    assert starts_of(tmp_path, still(1, 1) + still(2, 30)) == pytest.approx([0, 0.04])


@pytest.mark.parametrize("pixel_format", ["gray", "yuv444p", "yuv422p10le"])
def test_odd_pixel_formats(tmp_path, pixel_format):
    pictures = still(1, 30) + still(2, 25)
    assert starts_of(tmp_path, pictures, pixel_format=pixel_format) == pytest.approx([0, 1.2])


def test_every_decoded_picture_is_watched_in_the_pass_that_picks_some(tmp_path):
    pictures = still(1, 30) + still(2, 45)
    starts = starts_of(tmp_path, pictures)
    video, finder, times = VideoFile(tmp_path / "a.mkv"), ShotFinder(), []

    def watch(time, frame):
        times.append(time)
        finder.watch(time, frame)

    picked = list(video.frames(1.0, watch=watch))
    assert len(picked) == 3
    assert times == pytest.approx([number / RATE for number in range(75)], abs=1e-3)
    assert list(finder.starts()) == starts == pytest.approx([0, 1.2])


@pytest.mark.parametrize(
    ("pictures", "step"), [(1, AROUND / 1000), (7, 0.04)], ids=["of no camera", "cuts without end"]
)
def test_memory_does_not_grow_with_the_video(pictures, step):
    finder, random = ShotFinder(), np.random.default_rng(0)
    few = random.integers(0, 256, (7, 3, HEIGHT, WIDTH), dtype=np.uint8)
    for number in range(3000):  # another one after so many pictures
        finder.add(number * step, few[number // pictures % 7])
    kept = {name: len(value) for name, value in vars(finder).items() if isinstance(value, list | deque)}
    assert len(kept) == 4
    assert max(kept.values()) <= MOST_PICTURES + 1


def test_what_is_no_video_is_one_error(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(ClipFileError, match=r"text\.mp4: is not a video"):
        video_shots(tmp_path / "text.mp4")
    with pytest.raises(FileNotFoundError):
        video_shots(tmp_path / "absent.mp4")
