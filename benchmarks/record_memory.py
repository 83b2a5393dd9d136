"""Resident memory while records are made one after another: it must stay flat.

Each record has every default part, of the next of the ten trained models, on a demo video cut to the next of a cycle
of lengths; then it is dropped. The resident size is that of the process, after garbage collection, every so many
records. The longest has 60 frames, so that thousands take minutes.

    python benchmarks/record_memory.py [--records 10000] [--write]
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import torch
from measuring import machine, report

from analysis import inspect_clip
from gmsa_models import Clip, available, load, read_clips
from gmsa_models.variants import COLUMNS

RESULTS = Path(__file__).parent / "results" / "record_memory.md"
LENGTHS = (7, 60, 23, 45, 13, 31)
SETTLED = 100  # records after which the size counts
ALLOWED = 0.05


def clips() -> Iterator[Clip]:
    """Demo videos over and over, each time cut to the next length."""
    videos = [next(read_clips(f"demo:{index}")) for index in range(24)]
    for number, frames in enumerate(cycle(LENGTHS)):
        yield videos[number % len(videos)].cut(frames)


def resident_mib() -> float:
    """Resident size of this process in MiB, from the kernel."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


def sizes(records: int, every: int) -> dict[int, float]:
    """Records made -> resident MiB."""
    models = cycle([load(name) for name in available() if name in COLUMNS])
    found = {}
    for number, (model, clip) in enumerate(zip(models, islice(clips(), records), strict=False), start=1):
        inspect_clip(model, clip)
        if number == SETTLED or number % every == 0:
            found[number] = resident_mib()
            print(f"{number} records: {found[number]:.0f} MiB", flush=True)
    return found


def main() -> None:
    """Print the sizes; exit code 1 if they grew; `--write` keeps them in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/record_memory.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    found = sizes(arguments.records, max(SETTLED, arguments.records // 20))
    settled = found[SETTLED]
    highest = max(found.values()) / settled - 1
    lines = [
        "# Resident memory while records are made",
        "",
        f"`python benchmarks/record_memory.py --records {arguments.records} --write`: records with every default part,",
        f"the ten trained models in turn, demo videos cut to {', '.join(map(str, LENGTHS))} frames in turn;",
        f"{time.perf_counter() - start:,.0f} s. After {SETTLED} records {settled:.0f} MiB; the most after that",
        f"{100 * highest:+.1f} percent, at the end {100 * (found[max(found)] / settled - 1):+.1f} percent.",
        "",
        "| records | resident, MiB |",
        "|---|---|",
        *(f"| {number:,} | {size:.0f} |" for number, size in found.items()),
        "",
        f"{machine()}",
    ]
    report(lines, RESULTS, arguments.write)
    raise SystemExit(int(highest > ALLOWED))


if __name__ == "__main__":
    main()
