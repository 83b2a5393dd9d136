"""Sweeps of very many shards, and of one with very many records: seconds each and memory must stay flat.

A tiny model and tiny clips, so that what is measured is the sweep itself. Of 10,000 shards of one video each, and of
one shard of 100,000 videos: seconds of a shard or video in each tenth of the run, and the process's resident size after
it; before them what it takes to plan the sweep, after them what it takes to see that nothing is left to do. After each
tenth a few shards are swept into a folder of their own, always the same ones: where other work takes part of the cores,
the times of the tenths are judged beside these.

    python benchmarks/sweep_sizes.py [--shards 10000] [--records 100000] [--write]
"""

from __future__ import annotations

import argparse
import gc
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from measuring import machine, report

from analysis.sweep import SweepSettings, read_sweep, run_sweep
from analysis.sweep.run import Watch
from analysis.sweep.work import ShardOutcome
from gmsa_models import Clip, Vocabulary, build, save
from gmsa_models.data.tfrecord.files import write_clips

RESULTS = Path(__file__).parent / "results" / "sweep_sizes.md"
FRAMES, WIDTH = 3, 8
TENTHS = 10
CLASSES = Vocabulary("tiny", tuple(range(5)), tuple(f"class {number}" for number in range(5)))
SETTINGS = SweepSettings(("scores", "unevenness"))
SAME = 100  # shards
# How much the last tenths may be above the first ones: in processor seconds beside the same work, and in memory.
SLOWER, LARGER = 1.25, 1.05


@dataclass
class Tenths(Watch):
    """Processor seconds, and resident MiB, after each tenth of what there is to do.

    Attributes:
        each: videos or shards in a tenth.
        count_videos: whether clips are counted, else shards.
        same: does always the same work, and returns its processor seconds.
        beside: these, after each tenth.
    """

    each: int
    count_videos: bool
    same: Callable[[], float]
    beside: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    planned: float = 0.0
    _done: int = 0
    _since: float = field(default_factory=time.process_time)

    def begin(self, size: int, left: int) -> None:
        """The plan is made."""
        self.planned, self._since = time.process_time() - self._since, time.process_time()

    def advance(self, videos: int, size: int) -> None:
        """Clips of a shard are done."""
        self._count(videos if self.count_videos else 0)

    def end_shard(self, outcome: ShardOutcome) -> None:
        """A shard is done."""
        assert not outcome.reason, outcome.reason
        self._count(0 if self.count_videos else 1)

    def _count(self, more: int) -> None:
        self._done += more
        while self._done >= self.each * (len(self.seconds) + 1):
            self.seconds.append(time.process_time() - self._since)
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            self.resident.append(pages * 4096 / 2**20)
            self.beside.append(self.same())
            self._since = time.process_time()


def tiny_clips(count: int, first: int = 0) -> Iterator[Clip]:
    """Clips of a few frames with ids of their own."""
    generator = np.random.default_rng(first)
    for number in range(first, first + count):
        frames = generator.standard_normal((FRAMES, WIDTH)).clip(-2, 2).astype(np.float32)
        yield Clip(f"v{number}", {"sound": frames}, labels=(number % 5,), dataset="tiny")


def same_shards(folder: Path, model: str) -> float:
    """Processor seconds of a sweep of `SAME` shards into a new folder."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        began = time.process_time()
        assert run_sweep([model], [f"{folder}/same/*.tfrecord"], out, SETTINGS).good
        return time.process_time() - began


def swept(folder: Path, data: str, count: int, count_videos: bool) -> list[str]:
    """Sweep, and lines of the table; the sweep again, which has nothing to do."""
    model = str(folder / "tiny.safetensors")
    watch = Tenths(max(1, count // TENTHS), count_videos, lambda: same_shards(folder, model))
    out = folder / f"out-{count_videos}"
    result = run_sweep([model], [data], out, SETTINGS, watch=watch)
    assert result.good
    began = time.process_time()
    again = run_sweep([model], [data], out, SETTINGS)
    nothing = time.process_time() - began
    assert (again.unchanged, again.videos) == (again.shards, 0)
    assert len(read_sweep(out)) == count, "a sweep that lost videos measures nothing"
    per = watch.each / 1000
    times = " ".join(f"{seconds / per:.2f}" for seconds in watch.seconds)
    beside = [one / other for one, other in zip(watch.seconds, watch.beside, strict=True)]
    ratios = " ".join(f"{one / statistics.median(beside[:3]):.2f}" for one in beside)
    sizes = " ".join(f"{size:.0f}" for size in watch.resident)
    what = "video" if count_videos else "shard of one video"
    lines = [f"| {count:,} | {what} | {watch.planned:.1f} | {times} | {ratios} | {sizes} | {nothing:.1f} |"]
    slower = statistics.median(beside[-3:]) / statistics.median(beside[:3])
    grown = max(watch.resident[3:]) / watch.resident[2]
    if slower > SLOWER or grown > LARGER:
        lines.append(f"\nNOT FLAT: {what}, times {slower:.2f}, memory {grown:.2f}")
    return lines


def main() -> None:
    """Print the table; exit code 1 if something is not flat; `--write` keeps it in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/sweep_sizes.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = build("gate-op-tp30", "demo", vocabulary=CLASSES, modalities={"sound": WIDTH}, max_frames=FRAMES)
        save(model.eval(), folder / "tiny.safetensors")
        (folder / "many").mkdir()
        for shard in range(arguments.shards):
            write_clips(folder / "many" / f"s{shard:05}.tfrecord", tiny_clips(1, shard))
        shutil.copytree(folder / "many", folder / "same", ignore=lambda _, names: sorted(names)[SAME:])
        same_shards(folder, str(folder / "tiny.safetensors"))  # what is done once is not measured
        rows += swept(folder, f"{folder}/many/*.tfrecord", arguments.shards, False)
        print(*rows, sep="\n", flush=True)
        write_clips(folder / "one.tfrecord", tiny_clips(arguments.records))
        rows += swept(folder, f"{folder}/one.tfrecord", arguments.records, True)
    lines = [
        "# Sweeps of many shards, and of many records",
        "",
        f"`python benchmarks/sweep_sizes.py --shards {arguments.shards} --records {arguments.records} --write`: a tiny",
        f"GateOp, clips of {FRAMES} frames, in one process. Processor milliseconds of each in every tenth of the run,",
        f"the same beside {SAME} shards that are swept anew after each tenth, where the first three are 1, and the",
        "process's resident MiB after it; seconds before it to plan, and after it to see that all is done.",
        "",
        "| how many | of | plan, s | ms each, tenth by tenth | beside the same work | resident, MiB | again, s |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        machine(),
    ]
    report(lines, RESULTS, arguments.write)
    raise SystemExit(int(any("NOT FLAT" in row for row in rows)))


if __name__ == "__main__":
    main()
