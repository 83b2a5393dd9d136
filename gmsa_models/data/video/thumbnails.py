"""Thumbnails of a video: a small picture a frame, all on one sheet, which one WebP file holds.

Pictures lie row by row, `COLUMNS` in a row, so that the number of frames says where each of them is.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gmsa_models.data.errors import ClipFileError
from gmsa_models.data.video.decode import VideoFile

__all__ = ["MOST_HEIGHT", "ThumbnailSheet", "Thumbnails", "read_thumbnails", "video_thumbnails"]

COLUMNS = 20
MOST_HEIGHT = 96  # pixels of a picture
MOST_SHEET = 1 << 24  # pixels of a sheet: a browser holds four bytes for each
LONGEST_SIDE = 16_383  # pixels of a WebP
WIDEST = LONGEST_SIDE // COLUMNS
QUALITY, EFFORT = 72, 3  # of WebP: 0 to 100, 0 to 6


@dataclass(frozen=True)
class Thumbnails:
    """Small pictures of the frames of a video.

    Attributes:
        webp: the sheet, a WebP file.
        frames: how many pictures there are.
        columns: pictures in a row.
        width, height: of one picture, pixels.
    """

    webp: bytes
    frames: int
    columns: int
    width: int
    height: int


class ThumbnailSheet:
    """A sheet that is filled picture by picture; its memory does not grow with their number beyond `MOST_SHEET`.

    Args:
        frames: how many pictures there will be, at least 1.
    """

    def __init__(self, frames: int) -> None:
        if frames < 1:
            raise ValueError(f"{frames} frames; expected at least 1 for a sheet of thumbnails")
        self.frames, self.filled = frames, 0
        self._sheet: Image.Image | None = None
        self._size = (0, 0)

    def add(self, pixels: UInt8[np.ndarray, "height width 3"]) -> None:
        """Put the next picture on the sheet; the first one says of which size all are.

        Args:
            pixels: red, green, blue.
        """
        if self.filled == self.frames:
            raise ValueError(f"more than the {self.frames} pictures that the sheet of thumbnails was made for")
        columns = min(COLUMNS, self.frames)
        if self._sheet is None:
            self._size = thumbnail_size(pixels.shape[1], pixels.shape[0], self.frames)
            rows = -(-self.frames // columns)
            self._sheet = Image.new("RGB", (columns * self._size[0], rows * self._size[1]))
        picture = Image.fromarray(np.ascontiguousarray(pixels)).resize(self._size, Image.Resampling.BOX)
        row, column = divmod(self.filled, columns)
        self._sheet.paste(picture, (column * self._size[0], row * self._size[1]))
        self.filled += 1

    def encoded(self) -> Thumbnails:
        """The pictures that were put on the sheet; rows that stayed empty are cut off.

        Raises:
            ValueError: there is none.
        """
        if self._sheet is None:
            raise ValueError("no picture was put on the sheet of thumbnails")
        width, height = self._size
        columns = min(COLUMNS, self.filled)
        sheet = self._sheet.crop((0, 0, columns * width, -(-self.filled // columns) * height))
        file = io.BytesIO()
        sheet.save(file, "WEBP", quality=QUALITY, method=EFFORT)
        return Thumbnails(file.getvalue(), self.filled, columns, width, height)


def thumbnail_size(width: int, height: int, frames: int) -> tuple[int, int]:
    """Pixels of a thumbnail, so that the sheet of all has at most `MOST_SHEET` and fits a WebP.

    Args:
        width, height: of the picture that it shows; it is never made larger.
        frames: how many there are.

    Returns:
        Width and height.
    """
    rows = -(-frames // COLUMNS)
    scale = min(
        1.0, MOST_HEIGHT / height, WIDEST / width, (LONGEST_SIDE // rows) / height,
        (MOST_SHEET / (rows * COLUMNS * width * height)) ** 0.5,
    )  # fmt: skip
    return max(1, int(width * scale + 1e-6)), max(1, int(height * scale + 1e-6))


def read_thumbnails(path: str | Path, frames: int) -> Thumbnails | None:
    """The thumbnails of a WebP file; None where it is absent, or no sheet of so many.

    Args:
        path: of the file.
        frames: how many pictures there are.
    """
    try:
        webp = Path(path).read_bytes()
        with Image.open(io.BytesIO(webp), formats=["WEBP"]) as image:
            sides = image.size
    except (OSError, ValueError):
        return None
    columns = min(COLUMNS, frames)
    rows = -(-frames // columns)
    width, height = sides[0] // columns, sides[1] // rows
    whole = (width * columns, height * rows) == sides and min(width, height) > 0
    return Thumbnails(webp, frames, columns, width, height) if whole else None


def video_thumbnails(path: str | Path, times: Sequence[float], late: float = 0.0) -> Thumbnails:
    """A thumbnail a frame: the picture that is on the screen at its time.

    Args:
        path: of the video.
        times: of the frames, rising seconds from the first picture; at least one.
        late: seconds by which the last ones may lie after the video's end; they have its last picture.

    Raises:
        ClipFileError: not a video, damaged, or shorter than the times say.
    """
    video, sheet, pixels = VideoFile(path), ThumbnailSheet(len(times)), None
    for picture in video.frames_at(times, MOST_HEIGHT):
        pixels = picture.pixels
        sheet.add(pixels)
    if pixels is None or (sheet.filled < len(times) and times[-1] >= video.duration + late):
        raise ClipFileError(
            path, f"ends after {video.duration:g} s, where frames last until {times[-1]:g} s: give the video that the "
            "frames are of", kind="video",
        )  # fmt: skip
    while sheet.filled < len(times):
        sheet.add(pixels)
    return sheet.encoded()
