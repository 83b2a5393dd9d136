"""The gallery: which figures there are, and drawing those whose inputs have changed, one after the other.

A figure is drawn again when the code, the model, the clip or the versions are not those that its JSON names. One that
fails does not stop the rest; what is done stays done when the run is stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from figures.style import save, software

RENDERED = Path("figures/rendered")
CLIPS = ("demo:0", "demo:1", "demo:2")
MODEL = "gate-op-bd20"
ROOMS = ("gmsa_models", "analysis", "figures")  # whose code decides what a figure looks like

DRAWN, KEPT, FAILED = "drawn", "unchanged", "failed"
Report = Callable[["Job", str, str], None]


@dataclass(frozen=True)
class Job:
    """One figure to be.

    Attributes:
        name: of the files, without suffix.
        clip: a source that names one clip.
        model: name in the zoo, or a checkpoint's path.
        against: a second model, or None.
    """

    name: str
    clip: str
    model: str
    against: str | None = None


@dataclass
class Outcome:
    """What a run came to: names of the figures drawn, left as they were, and failed (with the reason)."""

    drawn: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def overview_jobs(clips: Sequence[str] = CLIPS, model: str = MODEL, against: str | None = None) -> list[Job]:
    """An overview a clip."""
    suffix = f"-against-{Path(against).stem}" if against else ""
    return [Job(f"overview-{file_name(clip)}-{Path(model).stem}{suffix}", clip, model, against) for clip in clips]


def render(
    jobs: Sequence[Job],
    out: str | Path = RENDERED,
    formats: Sequence[str] = ("png", "pdf"),
    *,
    command: str = "gmsa figures",
    force: bool = False,
    report: Report = lambda job, state, detail: None,
) -> Outcome:
    """Draw the figures whose inputs have changed.

    Args:
        jobs: what to draw.
        out: folder of the files; made if it is absent.
        formats: of "png", "pdf", "svg".
        command: what the JSON beside each figure says made it.
        force: draw all, changed or not.
        report: called after each with "drawn", "unchanged" or "failed" and, when it failed, the reason.

    Returns:
        What was drawn, kept, failed. A failure (any error, told by its message) does not stop the others; stopping
        by the keyboard does, and leaves whole files only.
    """
    outcome, code = Outcome(), _code_digest()
    for job in jobs:
        try:
            state = _render_one(job, Path(out) / job.name, formats, code, command, force)
        except Exception as error:
            outcome.failed[job.name] = f"{type(error).__name__}: {error}"
            report(job, FAILED, outcome.failed[job.name])
            continue
        (outcome.drawn if state == DRAWN else outcome.kept).append(job.name)
        report(job, state, "")
    return outcome


def provenance(records: Sequence[xr.Dataset], command: str) -> dict[str, Any]:
    """Where a figure of these records comes from, for the JSON beside it."""
    first = records[0].attrs
    return {
        "command": command,
        "clip": {name: first[name] for name in ("clip", "source", "features_sha256")},
        "models": [
            {name: one.attrs[name] for name in ("checkpoint_name", "checkpoint_sha256") if name in one.attrs}
            for one in records
        ],
    }


def file_name(text: str) -> str:
    """A text as part of a file's name: what is not a letter, digit, dot or underscore becomes a hyphen."""
    stem = Path(text).name if "#" not in text else text.rpartition("#")[2]
    kept = "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in stem)
    return kept.removesuffix(".tfrecord").strip("-.") or "clip"


def _render_one(job: Job, path: Path, formats: Sequence[str], code: str, command: str, force: bool) -> str:
    # Here, not above: whoever only draws from records needs neither torch nor the models.
    from analysis import inspect_clip
    from figures import overview
    from gmsa_models import load, read_clips

    clip = next(iter(read_clips(job.clip)))
    models = [load(name) for name in (job.model, job.against) if name is not None]
    inputs = _inputs(job, clip, models, formats, code)
    if not force and _is_current(path, formats, inputs):
        return KEPT
    records = [inspect_clip(model, clip) for model in models]
    save(overview.draw(*records), path, formats, provenance(records, command) | {"inputs": inputs})
    return DRAWN


def _inputs(job: Job, clip: Any, models: Sequence[Any], formats: Sequence[str], code: str) -> str:
    """Digest of everything that a figure depends on."""
    from analysis.view import features_sha256

    told = [job.name, clip.id, clip.labels, repr(clip.segments), features_sha256(clip), sorted(formats), code]
    told += [model.origin["sha256"] for model in models] + [software()]
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()


def _is_current(path: Path, formats: Sequence[str], inputs: str) -> bool:
    about = path.with_name(f"{path.name}.json")
    if not about.is_file() or not all(path.with_name(f"{path.name}.{name}").is_file() for name in formats):
        return False
    try:
        return json.loads(about.read_text(encoding="utf-8")).get("inputs") == inputs
    except (json.JSONDecodeError, UnicodeDecodeError):
        return False


def _code_digest() -> str:
    """Digest of the three rooms' code: a changed line draws every figure again."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
