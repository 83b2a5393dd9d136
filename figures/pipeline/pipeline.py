"""What `gmsa figures` does: collect the tables, draw the figures, write the table and the claims, or check them.

Each item stands alone: its numbers are one `.npz`, its pictures and its JSON lie beside it. An item is made again only
when something that it depends on has changed, told by content; one that fails does not stop the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from figures.files import code_digest, digest, sha256
from figures.pipeline import build_item
from figures.pipeline.build_item import CACHE, Made, read_json
from figures.pipeline.catalogue import ITEMS, Item
from figures.pipeline.drawing import inline_executor, numbers_file, process_executor
from figures.pipeline.from_sweep import MissingAnalysisError, NumberSource, Swept
from figures.pipeline.provenance import Checkpoint, DiskCache, data_digest, find_checkpoints, versions, zoo
from figures.pipeline.request import Request
from figures.pipeline.table_files import differences, load_tables
from figures.style import MODELS, use_style
from gmsa_models.data.lock import locked
from gmsa_models.errors import UnknownNameError, WorkerError
from gmsa_models.workers import leave_if_imported

if TYPE_CHECKING:
    from analysis.study.model_workers import ModelWorkers
    from analysis.study.study import Study

TOLERANCE = 1e-4  # of the largest value of a variable; another processor rounds otherwise by about 1e-5
DRAWN, UNCHANGED, FAILED, SAME, DIFFERENT = "drawn", "unchanged", "failed", "same", "different"
SKIPPED = "skipped"
Report = Callable[[str, str, str], None]
Progress = Callable[[str, int, int | None], None]


@dataclass
class FiguresOutcome:
    """What became of each item: name -> state, and for those that failed or differ why."""

    states: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """True when nothing failed and nothing differs."""
        return not {FAILED, DIFFERENT} & set(self.states.values())


def choose(only: Sequence[str]) -> list[Item]:
    """Items by name or number; all when none is named.

    Raises:
        UnknownNameError: one that does not exist.
    """
    by_name = {key: item for item in ITEMS for key in (item.key, item.name, item.number)}
    if unknown := [name for name in only if name not in by_name]:
        known = ", ".join(f"{item.number} ({item.key})" for item in ITEMS)
        raise UnknownNameError(f"unknown figure {unknown[0]!r}; known: {known}")
    chosen = [by_name[name] for name in only]
    return [item for item in ITEMS if item in chosen] if only else list(ITEMS)


def render(
    request: Request,
    report: Report = lambda name, state, detail: None,
    progress: Progress | None = None,
    beside: bool = False,
) -> FiguresOutcome:
    """Make every item whose inputs have changed.

    Args:
        request: what, of what, how.
        report: called after each item with its name, state and, if it failed, the reason.
        progress: of long computations: stage, done, of how much (None: not known).
        beside: compute and draw in other processes; see `ModelWorkers` and `process_executor`.

    Returns:
        The state of every item. A failure is told by its message and does not stop the others; stopping by the
        keyboard does, and leaves whole files only.

    Raises:
        UnknownNameError, ArgumentError: before anything is made.
        OutputError: `out` cannot be written, or another process makes figures there.
    """
    if beside:
        leave_if_imported()
    items = choose(request.only)
    source = _Redrawn(request.redraw_from) if request.redraw_from else _source(request, progress, report, beside=beside)
    with closing(source), locked(request.out, "figures"):
        outcome = _rendered(items, request, source, report, progress, beside)
        if outcome.good and not request.only:
            source.finish()
    return outcome


def _rendered(
    items: Sequence[Item],
    request: Request,
    source: _Redrawn | NumberSource,
    report: Report,
    progress: Progress | None,
    beside: bool,
) -> FiguresOutcome:
    """The items one after another, each drawn while the numbers of the next are computed."""
    outcome = FiguresOutcome()
    waiting: deque[Made] = deque()
    notify = lambda stage: progress and progress(stage, 0, None)  # noqa: E731

    def take_step(item: Item, step: Callable[[], str | None]) -> None:
        """Take a step of an item; it has an outcome when there is a state or an error."""
        try:
            state, detail = step(), ""
        except MissingAnalysisError as error:
            state, detail = FAILED if request.only else SKIPPED, str(error)
        except WorkerError:  # of the program, not of an item
            raise
        except Exception as error:
            state, detail = FAILED, f"{type(error).__name__}: {error}"
        if state is not None:
            outcome.states[item.name], outcome.details[item.name] = state, detail
            report(item.name, state, detail)

    def finish(made: Made) -> None:
        take_step(made.item, lambda: DRAWN if build_item.finish(made, request, source) else UNCHANGED)

    try:
        with (process_executor if beside else inline_executor)(notify) as executor:
            for item in items:
                take_step(item, lambda: waiting.append(build_item.make(item, request, source, executor)))  # noqa: B023 (at once)
                while waiting and waiting[0].ready:
                    finish(waiting.popleft())
            while waiting:
                notify(f"drawing {waiting[0].item.name}")
                finish(waiting.popleft())
    except KeyboardInterrupt:
        for made in waiting:
            if made.ready:
                finish(made)
        raise
    return outcome


def _compared(saved: Mapping[str, xr.Dataset], fresh: Mapping[str, xr.Dataset]) -> tuple[str, str]:
    """Whether an item's numbers are the same, and how nearly."""
    if lines := differences(saved, fresh, TOLERANCE):
        return DIFFERENT, "; ".join(lines)
    if lines := differences(saved, fresh):
        close = f"within {TOLERANCE:g} of the largest value of each variable, or neighbours in its type"
        return SAME, f"{close}; not bit for bit: {'; '.join(lines)}"
    return SAME, "bit for bit"


def check(
    request: Request,
    report: Report = lambda name, state, detail: None,
    progress: Progress | None = None,
    beside: bool = False,
) -> FiguresOutcome:
    """Compute and draw everything again, from nothing, and compare the numbers with those in `out`.

    Args:
        request, report, progress: as for `render`; nothing is written.
        beside: compute in other processes.

    Returns:
        "same" or "different" for every item. Same is within `TOLERANCE` or neighbours in the type (float16 is coarser),
        as processors round otherwise; whether it is so bit for bit, or how far apart they are, is said.
    """
    if beside:
        leave_if_imported()
    outcome, source = FiguresOutcome(), _source(request, progress, report, cached=False, beside=beside)
    with closing(source):
        for item in choose(request.only):
            state, detail = _checked(item, request, source)
            outcome.states[item.name], outcome.details[item.name] = state, detail
            report(item.name, state, detail)
    return outcome


def _checked(item: Item, request: Request, source: NumberSource) -> tuple[str, str]:
    """State of an item and why."""
    try:
        tables = source.tables(item)
        result = _compared(load_tables(numbers_file(request.out, item)), tables)
        with use_style(request.style):
            item.output(tables, request.width)
    except MissingAnalysisError as error:
        return FAILED if request.only else SKIPPED, str(error)
    except WorkerError:  # of the program, not of an item
        raise
    except Exception as error:
        return FAILED, f"{type(error).__name__}: {error}"
    return result


def _source(
    request: Request, progress: Progress | None, report: Report, cached: bool = True, beside: bool = False
) -> NumberSource:
    """A sweep's numbers or computed ones."""
    if request.sweep is None:
        return _Computed(request, progress, cached, beside)
    computed = lambda models: _Computed(replace(request, models=tuple(models)), progress, cached, beside)  # noqa: E731
    return Swept(request, request.sweep, computed, report)


class _Redrawn:
    """Numbers of an earlier run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, item: Item) -> str:
        return sha256(numbers_file(self.folder, item)) if numbers_file(self.folder, item).is_file() else ""

    def tables(self, item: Item) -> dict[str, xr.Dataset]:
        return load_tables(numbers_file(self.folder, item))

    def about(self, item: Item) -> dict[str, Any]:
        """What the earlier run said of itself, whatever draws now; its command is `computed_by`."""
        about = read_json(self.folder / f"{item.name}.json")
        kept = ("models", "data", "settings", "computed_with")
        first = {"computed_by": about.get("computed_by", about.get("command"))} if about else {}
        return first | {name: about[name] for name in kept if name in about}

    def finish(self) -> None:
        """Nothing to clear up."""

    def close(self) -> None:
        """No process to end."""


class _Computed:
    """Numbers computed from models and data, kept in a cache."""

    def __init__(self, request: Request, progress: Progress | None, cached: bool = True, beside: bool = False) -> None:
        self.beside = beside
        self.request, self.cached = request, cached and not request.force
        self.progress = progress or (lambda stage, done, total: None)
        self.checkpoints = find_checkpoints(request.models or default_models())
        self.source = expand_lists(request.data or ())
        self.data = data_digest(self.source)
        self.common = {"code": code_digest(("gmsa_models", "analysis")), "versions": versions()}
        self.cache = DiskCache(request.out / CACHE, self.common)
        self._study: Study | None = None
        self._workers: ModelWorkers | None = None

    def key(self, item: Item) -> str:
        described: dict[str, Any] = {"item": item.key, "common": self.common, "settings": self.request.settings}
        if item.needs_study:
            described |= {"data": self.data, "models": [[each.name, each.sha256] for each in self.checkpoints]}
        if item.reads is not None:
            described |= {"file": sha256(item.reads)}
        return digest(described)

    def tables(self, item: Item) -> dict[str, xr.Dataset]:
        from analysis.study.tables import tables_of

        return tables_of(item.key, self.study if item.needs_study else None)

    @property
    def study(self) -> Study:
        if self._study is None:
            from analysis.study.model_workers import ModelWorkers
            from analysis.study.study import NoCache, Settings, Study
            from gmsa_models.checkpoints.model_file import ModelFile
            from gmsa_models.masks import neighbourhood_from_text

            cache = self.cache if self.cached else NoCache()
            requested = self.request.settings
            settings = Settings(**{**requested, "neighbourhood": neighbourhood_from_text(requested["neighbourhood"])})
            models = [ModelFile(each.name, each.path, each.sha256) for each in self.checkpoints]
            self._workers = ModelWorkers() if self.beside else None
            self._study = Study(models, self.source, self.data, settings, cache, self.progress, self._workers)
        return self._study

    def about(self, item: Item) -> dict[str, Any]:
        about: dict[str, Any] = {"computed_with": versions(), "settings": self.request.settings}
        if item.needs_study:
            about |= {
                "models": {each.name: each.sha256 for each in self.checkpoints},
                "data": {"source": list(self.request.data or ()), "sha256": self.data},
            }
        if item.reads is not None:
            about |= {"data": {"source": item.reads.name, "sha256": sha256(item.reads)}}
        return about

    def finish(self) -> None:
        if self._study is not None:
            self.cache.prune()

    def close(self) -> None:
        if self._workers is not None:
            self._workers.close()


def default_models() -> tuple[str, ...]:
    """The paper's ten and the control, in the paper's order, as far as the zoo has them."""
    shipped = zoo()
    return tuple(name for name in MODELS if name in shipped)


def expand_lists(data: Sequence[str]) -> list[str]:
    """Sources; a `.txt` file stands for its lines, empty ones and those that begin with `#` left out."""
    sources: list[str] = []
    for one in data:
        if one.endswith(".txt") and Path(one).is_file():
            lines = (line.strip() for line in Path(one).read_text(encoding="utf-8").splitlines())
            sources += [line for line in lines if line and not line.startswith("#")]
        else:
            sources.append(one)
    return sources


__all__ = ["Checkpoint", "FiguresOutcome", "Request", "check", "choose", "render"]
