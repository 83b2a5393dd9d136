"""What a large data set costs: reading, training input, Ray beside one process, 64 workers on paper, arithmetic.

    python -m benchmarks.scale --data 'montages/*.tfrecord' [--shards 8] [--write]

`docs/scale.md` uses these numbers. The shards should be of YouTube-8M's kind: 1024 and 128 bytes a second.
"""

from __future__ import annotations

import argparse
import heapq
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from analysis.sweep import SweepSettings, run_sweep
from analysis.sweep.cluster import ray_module, start_here
from analysis.sweep.run import Watch
from benchmarks.measuring import machine, report
from gmsa_models import Batch, Clip, build, load, read_clips
from gmsa_models.data.paths import expand
from gmsa_models.evaluation.scoring import collation_of
from gmsa_models.feeding import TrainingClips, planned_batches

RESULTS = Path(__file__).parent / "results" / "scale.md"
MODEL = "gate-op-tp30"
ANALYSES = ("scores", "unevenness")
TRAIN, VALIDATION, TEST, SHARDS = 3_888_919, 1_112_356, 1_133_323, 3_844
TERABYTES = 1.53
TRAINED = ("baseline", "share-att-tp", "gate-att-tp10", "gate-op-tp30")
TABLE = {"baseline": 1, "share-att-tp": 3, "gate-att-tp10": 3, "gate-op-tp30": 3}  # models of each family
# Assumed, not measured: epochs, what a GPU sustains, what an hour of it costs.
EPOCHS, SUSTAINED, DOLLARS = 5, 100e12, 2.5
FRAMES = 300


class Seconds(Watch):
    """Keeps the seconds of every shard."""

    def __init__(self) -> None:
        self.each: list[float] = []
        self.begun = self.ended = 0.0

    def begin(self, size: int, left: int) -> None:
        """The clock starts."""
        self.begun = time.perf_counter()

    def end_shard(self, outcome) -> None:
        """A shard more."""
        self.each.append(outcome.seconds)
        self.ended = time.perf_counter()

    @property
    def wall(self) -> float:
        """From the beginning to the last shard."""
        return self.ended - self.begun


def videos_a_second(items, videos) -> tuple[int, float]:
    """How many videos, and how many a second of processor time."""
    begun, count = time.process_time(), 0
    for item in items:
        count += videos(item)
    return count, count / (time.process_time() - begun)


def input_rates(shards: Sequence[str]) -> list[str]:
    """Reading in order, and shuffled, batched and padded as training takes it."""
    read, reading = videos_a_second(read_clips(list(shards)), lambda clip: 1)
    model = load(MODEL)
    clips, collate = TrainingClips(list(shards)), collation_of(model)
    len(clips)  # the index of the shards is made once a run
    plan = planned_batches(clips, batch_size=16, window=16, seed=0, epoch=0)
    fed, feeding = videos_a_second((collate(batch) for batch in plan), len)
    return [
        f"Reading: {reading:,.0f} videos a second of processor time ({read:,} videos, checksums verified).",
        f"Training input (shuffled over all shards, batches of 16, padded, uint8): {feeding:,.0f} ({fed:,} videos).",
    ]


def ray_beside_one_process(shards: Sequence[str], folder: Path) -> tuple[list[str], list[float], float]:
    """The same shards by one process and by Ray with two workers; lines, seconds a shard, and videos a shard."""
    settings, one, two = SweepSettings(ANALYSES), Seconds(), Seconds()
    result = run_sweep([MODEL], shards, folder / "one", settings, watch=one)
    ray = ray_module()
    start_here(ray, 2)
    try:
        run_sweep([MODEL], shards[:2], folder / "warm", settings, engine="ray", workers=2)  # workers start, models load
        run_sweep([MODEL], shards, folder / "two", settings, engine="ray", workers=2, watch=two)
    finally:
        ray.shutdown()
    files = {path.name: path.read_bytes() for path in (folder / "one").iterdir()}
    same = files == {path.name: path.read_bytes() for path in (folder / "two").iterdir()}
    overhead = (2 * two.wall - sum(two.each)) / result.videos
    lines = [
        f"One process: {result.videos} videos of {len(shards)} shards in {one.wall:.1f} s, "
        f"{result.videos / one.wall:.1f} a second.",
        f"Ray, two workers that are warm: {two.wall:.1f} s, {result.videos / two.wall:.1f} a second; "
        f"files the same byte for byte: {'yes' if same else 'NO'}.",
        f"Worker time not spent on shards: {1000 * overhead:.2f} ms a video, beside "
        f"{1000 * sum(two.each) / result.videos:.1f} ms that are.",
    ]
    return lines, one.each, result.videos / len(shards)


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Seconds until the last of some shards is done, each given to the worker that is free first."""
    free = [0.0] * workers
    for each in seconds:
        heapq.heappush(free, heapq.heappop(free) + each)
    return max(free)


def schedule(seconds: Sequence[float], overhead: float, workers: int = 64, runs: int = 20) -> list[str]:
    """A schedule of 3,844 shards whose times are drawn from those measured."""
    random, found = np.random.default_rng(0), []
    for _ in range(runs):
        drawn = random.choice(seconds, SHARDS) + overhead
        found.append((drawn - overhead).sum() / (workers * makespan(drawn, workers)))
    spread = np.std(seconds) / np.mean(seconds)
    return [
        f"{SHARDS:,} shards on {workers} workers, times drawn from the {len(seconds)} measured "
        f"(mean {np.mean(seconds):.1f} s, "
        f"standard deviation {100 * spread:.0f} % of it, longest {max(seconds):.1f} s), in order, {runs} draws: "
        f"efficiency {min(found):.3f} to {max(found):.3f}."
    ]


def forward_flops(name: str) -> int:
    """Floating-point operations of one video of 300 frames through a model of the paper's size."""
    model = build(name, "paper")
    features = {key: np.zeros((FRAMES, width), np.uint8) for key, width in model.config.modalities.items()}
    batch = Batch.from_clips([Clip("zeros", features)])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch)
    return counter.get_total_flops()


def arithmetic() -> list[str]:
    """Bytes, operations, hours and cost of the paper's table."""
    every = TRAIN + VALIDATION + TEST
    flops = {name: forward_flops(name) for name in TRAINED}
    lines = [
        "| model | GFLOP a video, forward | training, one epoch, EFLOP | hours an epoch on one GPU |",
        "|---|---|---|---|",
    ]
    for name, each in flops.items():
        epoch = 3 * each * TRAIN  # a backward pass costs about two forward ones
        lines.append(f"| {name} | {each / 1e9:.2f} | {epoch / 1e18:.3f} | {epoch / SUSTAINED / 3600:.2f} |")
    total = sum(TABLE[name] * each * (3 * EPOCHS * TRAIN + VALIDATION) for name, each in flops.items())
    hours = total / SUSTAINED / 3600
    fed = sum(TABLE.values()) * (EPOCHS * TRAIN + VALIDATION) / 1500 / 3600
    lines += [
        "",
        f"A video is {TERABYTES * 1e12 / every / 1000:.0f} kB on average; "
        f"1,500 a second are {1500 * TERABYTES * 1e6 / every:.0f} MB/s.",
        f"The table (10 models, {EPOCHS} epochs, one validation): {total / 1e18:.1f} EFLOP, {hours:.0f} GPU hours at "
        f"{SUSTAINED / 1e12:.0f} TFLOP/s, and {fed:.0f} GPU hours at 1,500 videos a second and GPU; "
        f"what limits is {'the arithmetic' if hours > fed else 'the input'}.",
        "",
        "| GPUs | hours | cost at $2.50 a GPU hour | input, GB/s |",
        "|---|---|---|---|",
    ]
    slower = max(hours, fed)
    for gpus in (1, 8, 64):
        rate = gpus * 1500 * TERABYTES * 1e12 / every / 1e9
        lines.append(f"| {gpus} | {slower / gpus:.1f} | ${slower * DOLLARS:,.0f} | {rate:.2f} |")
    return lines


def main() -> None:
    """Measure, work out, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shards = [str(path) for path in expand(options.data)[: options.shards]]
    lines = ["# Scale", "", *arithmetic(), "", *input_rates(shards), ""]
    with tempfile.TemporaryDirectory() as folder:
        ray, seconds, videos = ray_beside_one_process(shards, Path(folder))
    lines += [*ray, "", *schedule(seconds, 0.05)]
    lines += [f"(Shards of {videos:.0f} videos; 0.05 s a shard are added for handing it over.)", "", machine()]
    report(lines, RESULTS, options.write)


if __name__ == "__main__":
    main()
