"""Pictures and sound of the clip for the page: thumbnails, and a small copy of the video that plays."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from gmsa_models.errors import ArgumentError

if TYPE_CHECKING:
    from gmsa_models.data.video.proxy import Proxy
    from gmsa_models.data.video.thumbnails import Thumbnails

__all__ = ["MEDIA", "ClipMedia", "clip_media"]

MEDIA = ("none", "thumbnails", "proxy")


@dataclass(frozen=True)
class ClipMedia:
    """What a page shows of a clip's video.

    Attributes:
        thumbnails: a picture a frame of the record.
        proxy: a small copy of the frames' seconds, with sound; None: no copy.
        path: of the video; "" where the record itself holds the pictures.
    """

    thumbnails: Thumbnails
    proxy: Proxy | None = None
    path: str = ""

    def described(self) -> dict[str, Any]:
        """Plain values for the payload's header; "python": arguments that give it to an inspector again."""
        sheet, proxy = self.thumbnails, self.proxy
        about: dict[str, Any] = {
            "thumbnails": {"columns": sheet.columns, "width": sheet.width, "height": sheet.height, "type": "image/webp"}
        }
        if proxy is not None:
            about["proxy"] = {
                "first": proxy.first, "width": proxy.width, "height": proxy.height, "sound": proxy.has_sound,
                "type": "video/webm",
            }  # fmt: skip
        if self.path:
            about["video"] = [f"video={os.path.abspath(self.path)!r}", f"media={MEDIA[1 + (proxy is not None)]!r}"]
        return about


def clip_media(
    records: Sequence[xr.Dataset], video: str | Path | ClipMedia | None, media: str | None = None
) -> ClipMedia | None:
    """Make what a page shows of the video that records are of.

    Args:
        records: of one clip; their `frame` are seconds from the video's first picture.
        video: path of the video file; what this function made of it before; None: no video.
        media: "none"; "thumbnails", a small picture a frame (1 to 2 kB each); or "proxy", these and a small copy that
            plays (at most 4.5 MB). Default: "proxy" of a video, else "none".

    Raises:
        ArgumentError: an unknown `media`, or one without a video; frames before the video's first picture; a copy that
            would be too large.
        ClipFileError: not a video, damaged, or shorter than the frames say.
    """
    media = media or ("none" if video is None else "proxy")
    if media not in MEDIA:
        raise ArgumentError(f"media is {media!r}; expected one of {', '.join(MEDIA)}")
    if media == "none" or not records[0].sizes["frame"]:
        return None
    if video is None:
        raise ArgumentError(f"media is {media!r} and no video was given; give the file that the frames are of: video=")
    if isinstance(video, ClipMedia):
        return video
    return _of_video(records[0], video, media)


def _of_video(record: xr.Dataset, video: str | Path, media: str) -> ClipMedia:
    from gmsa_models.data.video.proxy import video_proxy  # PyAV is an extra, and records are drawn without torch
    from gmsa_models.data.video.thumbnails import video_thumbnails

    times = [float(time) for time in record["frame"].values]
    lasts = float(record.attrs.get("frame_seconds", 1.0))
    if times[0] < 0:
        raise ArgumentError(f"frames begin {-times[0]:g} s before the video {str(video)!r}; expected 0 or more")
    late = math.inf if _is_source(record, video) else lasts  # a sound model's last window may be longer than its video
    thumbnails = video_thumbnails(video, times, late)
    proxy = video_proxy(video, times[0], times[-1] + lasts) if media == "proxy" else None
    return ClipMedia(thumbnails, proxy, str(video))


def _is_source(record: xr.Dataset, video: str | Path) -> bool:
    """Whether the record itself says that it is of this video."""
    return "video_span" in record.attrs and os.path.abspath(str(record.attrs.get("source"))) == os.path.abspath(video)
