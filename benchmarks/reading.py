"""How fast frame-level videos are read: ours beside the `tfrecord` package, the same work, in one run.

The work: every record of one shard of 300-frame YouTube-8M videos (1024 + 128 bytes a frame), from the page cache, in
one process, to an id, labels, and two uint8 arrays of shape (300, dim). Ours verifies both checksums; the package has
none. Beside the wall clock stands the processor time of the process, which other work on the machine hardly changes.

    python benchmarks/reading.py [--videos 1000] [--write]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tfrecord.reader import sequence_loader

from gmsa_models.data.catalog import build_catalog, open_clip
from gmsa_models.data.clip import Clip
from gmsa_models.data.shuffle import shuffled_clips
from gmsa_models.data.sources import read_clips
from gmsa_models.data.tfrecord import write_clips

RESULTS = Path(__file__).parent / "results" / "reading.md"
REPEATS = 5
FRAMES, WIDTHS = 300, {"visual": 1024, "audio": 128}


def made_clips(count: int) -> Iterator[Clip]:
    """Videos of random bytes; what is in them makes no difference to reading."""
    random = np.random.default_rng(0)
    for number in range(count):
        features = {name: random.integers(0, 256, (FRAMES, dim), dtype=np.uint8) for name, dim in WIDTHS.items()}
        yield Clip(f"v{number:04d}", features, labels=(number % 3862, 7))


def read_ours(path: Path, verify: bool = True) -> int:
    """Records read by `read_clips`."""
    return sum(clip.features["visual"].shape == (FRAMES, 1024) for clip in read_clips(path, verify=verify))


def read_shuffled(path: Path) -> int:
    """Records read by `shuffled_clips`, in random order."""
    return sum(clip.features["visual"].shape == (FRAMES, 1024) for clip in shuffled_clips(path, 0, 0))


def read_package(path: Path) -> int:
    """Records read by the `tfrecord` package, their frames stacked to arrays as ours are."""
    kinds = {"id": "byte", "labels": "int"}, {"rgb": "byte", "audio": "byte"}
    count = 0
    for context, lists in sequence_loader(str(path), None, *kinds):
        bytes(context["id"]).decode(), tuple(context["labels"])
        arrays = {name: np.stack([np.frombuffer(frame, np.uint8) for frame in lists[name]]) for name in kinds[1]}
        count += arrays["rgb"].shape == (FRAMES, 1024)
    return count


def rates(readers: dict[str, Callable[[], int]], videos: int) -> dict[str, tuple[list[float], list[float]]]:
    """Videos a second by the wall clock and by processor time, `REPEATS` times in turn."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in readers}
    for _ in range(REPEATS):
        for name, reader in readers.items():
            wall, processor = time.perf_counter(), time.process_time()
            if reader() != videos:
                raise RuntimeError(f"{name} did not read {videos} videos")
            found[name][0].append(videos / (time.perf_counter() - wall))
            found[name][1].append(videos / (time.process_time() - processor))
    return found


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes, the median of `REPEATS`."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(videos: int, folder: Path) -> list[str]:
    """Run everything; lines of Markdown."""
    shard, catalog = folder / "made.tfrecord", folder / "made.parquet"
    write_clips(shard, made_clips(videos))
    build_catalog(shard, catalog)
    readers = {
        "`read_clips`, checksums verified": lambda: read_ours(shard),
        "`read_clips(verify=False)`": lambda: read_ours(shard, verify=False),
        "`shuffled_clips`, checksums verified": lambda: read_shuffled(shard),
        "`tfrecord` package (no checksums)": lambda: read_package(shard),
    }
    found = rates(readers, videos)
    package = statistics.median(found["`tfrecord` package (no checksums)"][1])
    lines = [
        "| reader | videos a second, median (slowest, fastest) | videos a processor second | times the package |",
        "|---|---|---|---|",
    ]
    for name, (walls, processors) in found.items():
        clock = f"{statistics.median(walls):,.0f} ({min(walls):,.0f}, {max(walls):,.0f})"
        middle = statistics.median(processors)
        lines.append(f"| {name} | {clock} | {middle:,.0f} | {middle / package:.1f} |")
    last = f"v{videos - 1:04d}"
    lines += [
        "",
        f"The last video by id: {1000 * seconds(lambda: open_clip(catalog, last)):.1f} ms by the catalogue, "
        f"{1000 * seconds(lambda: next(read_clips(f'{shard}#{last}'))):.0f} ms by reading on through "
        f"{videos} videos ({shard.stat().st_size / 1e6:.0f} MB).",
    ]
    return lines


def _heading(videos: int) -> list[str]:
    widths = " + ".join(map(str, WIDTHS.values()))
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, niceness {os.nice(0)}"
    return [
        "# Reading frame-level videos",
        "",
        f"`python benchmarks/reading.py --videos {videos} --write`: {videos} videos of {FRAMES} frames,",
        f"{widths} bytes a frame, one shard in the page cache, one process, {REPEATS} rounds in turn.",
        f"{machine}, load {os.getloadavg()[0]:.1f} at the end. Where other work takes part of the cores, processor",
        "seconds are the fairer measure; the last column compares those.",
        "",
    ]


def main() -> None:
    """Print the table; `--write` keeps it in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/reading.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = measure(arguments.videos, Path(folder))
    text = "\n".join([*_heading(arguments.videos), *table, ""])
    print(text)
    if arguments.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
