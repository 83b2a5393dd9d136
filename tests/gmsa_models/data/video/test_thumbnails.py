"""Thumbnails: each in its place, each of the picture on the screen, whatever their number a sheet of bounded size."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from gmsa_models.data.errors import ClipFileError
from gmsa_models.data.video.thumbnails import (
    LONGEST_SIDE,
    MOST_HEIGHT,
    MOST_SHEET,
    ThumbnailSheet,
    thumbnail_size,
    video_thumbnails,
)


def cut(thumbnails):
    """Mean level of each thumbnail."""
    sheet = np.asarray(Image.open(BytesIO(thumbnails.webp))).astype(float)
    rows = sheet.reshape(
        sheet.shape[0] // thumbnails.height, thumbnails.height, thumbnails.columns, thumbnails.width, 3
    )
    return rows.mean((1, 3, 4)).reshape(-1)[: thumbnails.frames]


def test_thumbnails_lie_row_by_row():
    sheet, levels = ThumbnailSheet(47), np.random.default_rng(0).integers(0, 256, 47)
    for level in levels:
        sheet.add(np.full((192, 320, 3), level, np.uint8))
    thumbnails = sheet.encoded()
    assert (thumbnails.columns, thumbnails.width, thumbnails.height) == (20, 160, 96)
    assert Image.open(BytesIO(thumbnails.webp)).size == (3200, 288)
    np.testing.assert_allclose(cut(thumbnails), levels, atol=4)


@pytest.mark.parametrize("filled", [1, 7, 20, 21])
def test_rows_that_stay_empty_are_cut_off(filled):
    sheet = ThumbnailSheet(61)
    for number in range(filled):
        sheet.add(np.full((11, 13, 3), 12 * number, np.uint8))
    thumbnails = sheet.encoded()
    assert (thumbnails.frames, thumbnails.width, thumbnails.height) == (filled, 13, 11)
    assert Image.open(BytesIO(thumbnails.webp)).size == (13 * min(filled, 20), 11 * (1 + (filled - 1) // 20))
    np.testing.assert_allclose(cut(thumbnails), 12 * np.arange(filled), atol=4)


@pytest.mark.parametrize("shape", [(1920, 1080), (1080, 1920), (7680, 320), (16, 9), (1, 1), (1, 4000)])
def test_no_sheet_is_larger_than_a_webp_or_a_browser_takes(shape):
    for frames in (1, 20, 300, 3413, 10_001, 300_000):
        width, height = thumbnail_size(*shape, frames)
        rows = -(-frames // 20)
        assert 1 <= height <= min(MOST_HEIGHT, shape[1])
        assert 1 <= width <= shape[0]
        assert width == 1 or 20 * rows * width * height <= MOST_SHEET
        assert 20 * width <= LONGEST_SIDE
        assert rows * height <= LONGEST_SIDE
    assert thumbnail_size(1920, 1080, 300) == (170, 96)


def test_a_sheet_takes_as_many_as_were_said():
    with pytest.raises(ValueError, match="0 frames; expected at least 1"):
        ThumbnailSheet(0)
    sheet = ThumbnailSheet(1)
    with pytest.raises(ValueError, match="no picture was put on the sheet"):
        sheet.encoded()
    sheet.add(np.zeros((3, 5, 3), np.uint8))
    with pytest.raises(ValueError, match="more than the 1 pictures"):
        sheet.add(np.zeros((3, 5, 3), np.uint8))


class TestOfAVideo:
    """Of a video of variable rate whose picture k is grey of level 10 k."""

    times = (0.0, 0.3, 0.9, 1.1, 2.95, 3.05, 4.0)

    @pytest.fixture
    def path(self, tmp_path):
        pytest.importorskip("av", reason="PyAV, of the extra video, is not installed")
        from made_videos import write_video

        return write_video(tmp_path / "a.mkv", self.times, first=1.5)

    def test_each_is_of_the_picture_on_the_screen(self, path):
        frames = [0.0, 0.5, 1.0, 2.0, 3.0, 3.1, 4.0]
        levels = [10 * max(k for k, shown in enumerate(self.times) if shown <= time) for time in frames]
        np.testing.assert_allclose(cut(video_thumbnails(path, frames)), levels, atol=4)

    def test_frames_after_the_end_have_the_last_picture_or_are_refused(self, path):
        frames = [3.0, 4.0, 4.9]
        np.testing.assert_allclose(cut(video_thumbnails(path, frames, late=1.0)), [40, 60, 60], atol=4)
        with pytest.raises(ClipFileError, match=r"a\.mkv: ends after 4\.04 s, where frames last until 4\.9 s"):
            video_thumbnails(path, frames)
        with pytest.raises(ClipFileError, match=r"ends after 4\.04 s, where frames last until 60 s"):
            video_thumbnails(path, [60.0], late=1.0)
