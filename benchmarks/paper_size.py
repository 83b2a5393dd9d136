"""Every analysis at the paper's size, in forward passes of the same model, and the memory that each takes.

300 random frames, D = 1024 and 128, 8 heads, 3862 classes, random weights, float32; one and four encoder layers. Each
group of parts of a model has a process of its own, and an operation one thread. A part is timed between forward passes
without a graph, a few before and a few after it, and both by the processor's seconds of all threads, so that the
quotient holds where other work takes part of the cores; on two free cores what runs in two threads takes about half of
its seconds. Memory is the most that the process held while the part ran, libraries and model included, after all that
was free had been given back to the system.

    python benchmarks/paper_size.py --keep before.json                    # on the code as it was
    python benchmarks/paper_size.py [--before before.json] [--write]      # the table, ratios first

`--models`, `--layers` and `--groups` (record, explanations one by one, all of them, page, sweep) measure less. Groups
that the file of `--keep` has already are not measured again, so that a run that was stopped goes on, and that of both
codes each can be measured in turn; the table has all that the file has.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import machine, report

from analysis import inspect_clip
from analysis.explanations.class_explanations import explain_class
from analysis.explanations.faithfulness import Replacer
from analysis.explanations.registry import applicable, explain
from analysis.gmsa_view import view_clips
from analysis.record.assemble import record_of
from analysis.record.variables import DEFAULT_PARTS
from analysis.sweep import ANALYSES, SweepSettings, run_sweep
from figures.inspector import write_html
from gmsa_models import Batch, Clip, GMSAClassifier, Vocabulary, save
from gmsa_models.data.tfrecord.files import write_clips
from gmsa_models.variants import variant_config

sys.path.insert(0, str(Path(__file__).parents[1]))

RESULTS = Path(__file__).parent / "results" / "paper_size.md"
MODELS = ("baseline", "share-att-tp", "gate-att-tp10", "gate-op-tp30")
LAYERS = (1, 4)
GROUPS = ("record", "explanations", "all", "page", "sweep")
FRAMES, CLASS = 300, 17
# Forward passes that a record with G and S, and all explanations with faithfulness, may take.
RECORD_GOALS = {"baseline": 10, "share-att-tp": 10, "gate-att-tp10": 60, "gate-op-tp30": 105}
EXPLANATION_GOALS = {"baseline": 400, "share-att-tp": 400, "gate-att-tp10": 700, "gate-op-tp30": 400}
MEMORY_GOAL, PAGE_GOAL, VIEW_GOAL = 1.2 * 1000**3 / 2**20, 12.0, 1.5  # MiB, MB, seconds
RECORD, ALL_EXPLANATIONS = "record: all default parts", "explanations: all, with faithfulness"
PAGE, FIRST_VIEW = "page: write_html", "page: first view"
INSPECTED = (RECORD, ALL_EXPLANATIONS, PAGE)
# What was measured, as JSON holds it: a `Measured` a part, by `model layers` and by group.
Kept = dict[str, dict[str, list[dict[str, Any]]]]


@dataclass(frozen=True)
class Measured:
    """One part.

    Attributes:
        name: what was done.
        passes: how many forward passes it took, by the processor's seconds.
        seconds: of the processor.
        mib: most that the process held, in MiB.
        note: beside it.
    """

    name: str
    passes: float
    seconds: float
    mib: float
    note: str = ""


class Meter:
    """Times parts of one model's analyses in its forward passes."""

    def __init__(self, model: GMSAClassifier, clip: Clip) -> None:
        self.model, self.batch = model, Batch.from_clips([clip])
        self.done: list[Measured] = []
        self._passes(5)

    def __call__(self, name: str, way: Callable[[], Any], per: int = 1) -> Any:
        """Do it once, and keep what it took, as `per` equal parts."""
        before = self._passes(3)
        _forget_peak()
        began = time.process_time()
        result = way()
        seconds, mib = time.process_time() - began, _peak_mib()
        one = statistics.median(before + self._passes(3))
        note = f"{per} videos" if per > 1 else ""
        self.done.append(Measured(name, seconds / one / per, seconds, mib, note))
        print(
            f"  {name}: {seconds / one / per:.1f} passes, {seconds:.2f} s, {mib:.0f} MiB", file=sys.stderr, flush=True
        )
        return result

    def _passes(self, count: int) -> list[float]:
        times = []
        for _ in range(count):
            began = time.process_time()
            with torch.inference_mode():
                self.model(self.batch)
            times.append(time.process_time() - began)
        return times


def _forget_peak() -> None:
    """Give free memory back, and begin to watch for the most that is held."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def random_model(name: str, layers: int) -> GMSAClassifier:
    """At paper size, with seeded random weights."""
    torch.manual_seed(0)
    model = GMSAClassifier(replace(variant_config(name), layers=layers)).eval()
    model.card.update(name=f"{name}-{layers}", size="paper", seed=0)
    classes = tuple(range(model.config.classes))
    model.vocabulary = Vocabulary("", classes, tuple(f"class {each}" for each in classes))
    return model


def random_clips(count: int) -> Iterator[Clip]:
    """Scenes of 10 s: frames of a scene are alike, as in a video."""
    generator = np.random.default_rng(0)
    for number in range(count):
        features = {}
        for modality, width in (("visual", 1024), ("audio", 128)):
            scenes = generator.standard_normal((FRAMES // 10, width)).repeat(10, 0)
            frames = 0.6 * scenes + 0.4 * generator.standard_normal((FRAMES, width))
            features[modality] = frames.clip(-2, 2).astype(np.float32)
        yield Clip(f"random-{number}", features, labels=(CLASS,))


def measure(name: str, layers: int, groups: Sequence[str], videos: int) -> list[Measured]:
    """All parts of one model."""
    torch.set_num_threads(1)
    model, clip = random_model(name, layers), next(random_clips(1))
    meter = Meter(model, clip)
    chosen: dict[str, Any] = {"layers": "all"} if layers > 1 else {}
    if "record" in groups:
        for part in DEFAULT_PARTS:
            view = view_clips(model, [clip])
            meter(f"record: {part}", lambda view=view, part=part: record_of(view, parts=[part], **chosen))
            del view
        meter(RECORD, lambda: inspect_clip(model, clip, **chosen))
    if "explanations" in groups:
        for method in applicable(model):
            meter(f"explanation: {method}", lambda method=method: explain(model, clip, CLASS, method))
        values = torch.rand(FRAMES, generator=torch.Generator().manual_seed(0))
        replacer = Replacer(model, clip, CLASS)
        meter("faithfulness of one ranking", lambda: replacer.curves(values))
    if "all" in groups:
        meter(ALL_EXPLANATIONS, lambda: explain_class(model, view_clips(model, [clip]), CLASS))
    with tempfile.TemporaryDirectory() as folder:
        if "page" in groups:
            record = inspect_clip(model, clip, **chosen)
            page = meter(PAGE, lambda: write_html(record, Path(folder) / "page.html"))
            meter.done.append(_page(page))
        if "sweep" in groups:
            _sweep(meter, model, Path(folder), videos)
    return meter.done


def _page(path: Path) -> Measured:
    """From opening the file to its first view, in chromium; and its size."""
    from tests.browser import SCREEN, started_browser

    inspector, browsers = "document.querySelector('.gmsa-inspector')?.inspector", started_browser()
    times = []
    browser = next(browsers)
    for _ in range(3):
        page = browser.new_page(viewport=SCREEN)
        page.goto(path.as_uri(), wait_until="commit")
        opened = None
        while not opened:  # the page's policy forbids what would wait for it
            page.wait_for_timeout(50)
            opened = page.evaluate(f"{inspector}?.openedAt")
        times.append(opened / 1000)
        page.close()
    next(browsers, None)
    return Measured(FIRST_VIEW, 0.0, statistics.median(times), 0.0, f"{path.stat().st_size / 1e6:.1f} MB")


def _sweep(meter: Meter, model: GMSAClassifier, folder: Path, videos: int) -> None:
    """Each analysis of a sweep alone: passes a video."""
    shard, file = folder / "random.tfrecord", folder / "model.safetensors"
    write_clips(shard, random_clips(videos))
    save(model, file)
    for analysis in ANALYSES:
        settings, out = SweepSettings((analysis,)), folder / analysis
        sweep = lambda settings=settings, out=out: run_sweep([str(file)], [str(shard)], out, settings)  # noqa: E731
        result = meter(f"sweep: {analysis}", sweep, per=videos)
        assert result.videos == videos, "a sweep that left videos out measures nothing"


def child(name: str, layers: int, group: str, videos: int) -> list[dict[str, Any]]:
    """What one process measured of one group of one model."""
    print(f"{name}, {layers} layers: {group}", file=sys.stderr)
    options = ["--child", name, str(layers), "--videos", str(videos), "--groups", group]
    done = subprocess.run([sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def read_kept(path: Path | None) -> Kept:
    """What a run kept, in the order of the table; nothing where there is no file."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path and path.exists() else {}
    keys = [f"{name} {layers}" for layers in LAYERS for name in MODELS]
    return {key: {group: kept[key][group] for group in GROUPS if group in kept[key]} for key in keys if key in kept}


def rows_of(kept: Kept, key: str) -> dict[str, Measured]:
    """Parts of one model by their names."""
    rows = [Measured(**each) for group in kept.get(key, {}).values() for each in group]
    return {row.name: row for row in rows}


def summary(measured: Kept, before: Kept) -> list[str]:
    """Markdown: what has a goal, of every model."""
    lines = [
        "| model | layers | record, passes | explanations, passes | peak, MiB | first view, s | page, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for key in measured:
        name, layers = key.split(" ")
        new, old = rows_of(measured, key), rows_of(before, key)
        cells = [
            _compared(new, old, lambda rows: rows[RECORD].passes, 1, RECORD_GOALS[name]),
            _compared(new, old, lambda rows: rows[ALL_EXPLANATIONS].passes, 0, EXPLANATION_GOALS[name]),
            _compared(new, old, lambda rows: max(rows[part].mib for part in INSPECTED), 0, MEMORY_GOAL),
            _compared(new, old, lambda rows: rows[FIRST_VIEW].seconds, 2, VIEW_GOAL),
            _compared(new, old, lambda rows: float(rows[FIRST_VIEW].note.split()[0]), 1, PAGE_GOAL),
        ]
        lines.append(f"| {name} | {layers} | {' | '.join(cells)} |")
    return [*lines, ""]


def _compared(
    new: dict[str, Measured],
    old: dict[str, Measured],
    value: Callable[[dict[str, Measured]], float],
    digits: int,
    goal: float,
) -> str:
    """`now, was before, goal`, each where it is known."""
    texts = []
    for rows, text in ((new, "{}"), (old, "before {}")):
        with suppress(KeyError):
            texts.append(text.format(_number(value(rows), digits)))
    return ", ".join([*texts, f"goal {goal:,.{digits}f}"]) if texts else ""


def table(key: str, measured: Kept, before: Kept) -> list[str]:
    """Markdown of one model."""
    old = rows_of(before, key)
    name, layers = key.split(" ")
    lines = [f"## {name}, {'one layer' if layers == '1' else f'{layers} layers'}", ""]
    lines += ["| part | passes | before | seconds | before | peak, MiB | before |", "|---|---|---|---|---|---|---|"]
    for row in rows_of(measured, key).values():
        was = old.get(row.name, Measured("", 0.0, 0.0, 0.0))
        cells = [row.name + (f" ({row.note})" if row.note else ""), _number(row.passes, 1)]
        cells.append(_number(was.passes, 1) + (f" ({was.note})" if was.note else ""))
        cells += [_number(row.seconds, 2), _number(was.seconds, 2), _number(row.mib, 0), _number(was.mib, 0)]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if value else ""


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--layers", nargs="+", type=int, choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--videos", type=int, default=20, help="of a sweep")
    parser.add_argument("--keep", type=Path, help="add what is measured to this JSON, which has each group once")
    parser.add_argument("--before", type=Path, help="such a JSON of the code as it was")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, layers = arguments.child[0], int(arguments.child[1])
        print(json.dumps([vars(each) for each in measure(name, layers, arguments.groups, arguments.videos)]))
        return
    before, measured = read_kept(arguments.before), read_kept(arguments.keep)
    for layers, name, group in itertools.product(arguments.layers, arguments.models, arguments.groups):
        groups = measured.setdefault(f"{name} {layers}", {})
        if group not in groups:
            groups[group] = child(name, layers, group, arguments.videos)
            if arguments.keep:
                arguments.keep.write_text(json.dumps(measured, indent=1), encoding="utf-8")
    lines = [
        "# Analyses at the paper's size, in forward passes of the same model",
        "",
        f"`python benchmarks/paper_size.py --keep now.json --before before.json --write`: {FRAMES} random frames,",
        "D = 1024 and 128, 8 heads, 3862 classes, random weights, float32. Passes are the processor's seconds, of all",
        "threads, by those of a forward pass without a graph of the same model at the same time. The peak is the most",
        "that the process held meanwhile; in the first table the most of a record, all explanations and writing the",
        "page. The page's first view is timed from opening the file. Of a sweep, passes a video.",
        "",
        *summary(measured, before),
        *(line for key in measured for line in table(key, measured, before)),
        machine(),
    ]
    report(lines, RESULTS, arguments.write)


if __name__ == "__main__":
    main()
