"""The clip that a patch names: an id, or what `read_clips` takes."""

from __future__ import annotations

import os
import re

from analysis.interventions.edit_texts import ClipOf
from analysis.interventions.edits import EditError
from gmsa_models.data.clip import Clip
from gmsa_models.data.paths import SourceNotFoundError
from gmsa_models.data.sources import read_clips, split_id

__all__ = ["clips_beside", "named_clip"]


def named_clip(name: str, source: str | Clip) -> Clip:
    """The clip that a patch is from.

    Args:
        name: as `read_clips` takes it, or an id: of a demo video, or of a clip in the file of the source, as records
            name them.
        source: of the clip that is patched, as `inspect_source` takes it.

    Raises:
        UnknownNameError, ClipFileError: it is neither.
    """
    if (demo := re.fullmatch(r"demo-0*(\d+)", name)) and not os.path.exists(name):
        return next(iter(read_clips(f"demo:{demo[1]}")))
    file = "" if isinstance(source, Clip) else split_id(source)[0]
    try:
        return next(iter(read_clips(name)))
    except SourceNotFoundError:
        if not os.path.exists(file):
            raise
    return next(iter(read_clips(f"{file}#{name}")))


def clips_beside(clip: Clip) -> ClipOf:
    """What finds the clips that patches of a clip name, those of its own file among them.

    Args:
        clip: the one that is patched.
    """

    def clip_of(name: str) -> Clip:
        try:
            return named_clip(name, clip.source or clip)
        except (ValueError, KeyError, OSError) as error:
            raise EditError(f"no clip {name!r} is given here, and none is found: {error}") from error

    return clip_of
