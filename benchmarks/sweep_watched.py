"""A sweep watched from outside: videos a second, and resident memory over time.

    python -m benchmarks.sweep_watched --model audioset-gate-op --data 'bal_train*.tfrecord' --out runs/audioset

Everything after the module's name goes to `gmsa sweep`. What is printed is also kept in OUT-watched.md, beside OUT.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

EVERY = 2.0  # seconds between looks
SHOWN = 12  # lines of the table
MEBI = 2**20


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in fields if line.startswith("VmRSS")), 0)


def rows_in(folder: Path) -> int:
    """Rows of the finished shards."""
    return sum(pq.read_metadata(path).num_rows for path in folder.glob("*.parquet"))


def watch(words: list[str], folder: Path) -> tuple[int, list[tuple[float, int, int]]]:
    """Run a sweep; its exit code, and (seconds, rows that are finished, resident bytes) over time."""
    begun, seen = time.monotonic(), []
    process = subprocess.Popen([sys.executable, "-c", "import gmsa; gmsa.main()", "sweep", *words])
    try:
        while process.poll() is None:
            if resident := resident_bytes(process.pid):
                seen.append((time.monotonic() - begun, rows_in(folder), resident))
            time.sleep(EVERY)
    finally:
        process.terminate()
    return process.wait(), seen


def table(seen: list[tuple[float, int, int]]) -> list[str]:
    """Lines of what was seen, evenly over time, and the whole of it in one."""
    step = max(1, len(seen) // SHOWN)
    lines = ["| seconds | rows finished | resident MiB |", "|---|---|---|"]
    lines += [f"| {at:.0f} | {rows:,} | {size / MEBI:.0f} |" for at, rows, size in seen[::step]]
    half = [size for _, _, size in seen[len(seen) // 4 :]]
    lines += ["", f"Resident memory after the first quarter: {min(half) / MEBI:.0f} to {max(half) / MEBI:.0f} MiB."]
    return lines


def main(words: list[str]) -> int:
    """Watch, print, keep."""
    folder = Path(words[words.index("--out") + 1])
    before = rows_in(folder)
    code, seen = watch(words, folder)
    seconds, rows = seen[-1][0], rows_in(folder) - before
    lines = [f"`gmsa sweep {' '.join(words)}`, exit code {code}", ""]
    lines += [f"{rows:,} rows in {seconds:.0f} s: {rows / seconds:.1f} a second, all of one process.", "", *table(seen)]
    text = "\n".join(lines) + "\n"
    folder.with_name(f"{folder.name}-watched.md").write_text(text, encoding="utf-8")
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
