"""Ten SIGKILLs at random moments of a sweep on each engine, and of a training run: all come to the same end.

    python -m benchmarks.kills [--kills 10] [--only in-process processes ray training] [--write]

Each run is started, killed at a random moment after it has begun to write, and started again by the same command; when
one comes to its end before it is killed, another begins from nothing, until the kills are used up. Every end is
compared with an uninterrupted run's: tables byte for byte, weights bit for bit.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.numpy import load_file

from benchmarks.measuring import machine, report
from gmsa_models import read_clips, write_clips

RESULTS = Path(__file__).parent / "results" / "kills.md"
SHARDS, CLIPS, FRAMES = 16, 4, 60
GMSA = (sys.executable, "-c", "import gmsa; gmsa.main()")
SWEEP = ("sweep", "--model", "gate-op-tp30", "--analyses", "scores,unevenness,gates,sensitivity,frame-sensitivity")
TRAIN = ("train", "--variant", "gate-op-tp30", "--steps", "60", "--batch-size", "4", "--save-every", "7",
         "--validate-every", "20", "--log-every", "5", "--threads", "1", "--accelerator", "cpu")  # fmt: skip


@dataclass
class Account:
    """What became of one kind of run.

    Attributes:
        kills: how many were done.
        ends: runs that came to their end.
        equal: how many of those equal the uninterrupted run.
        left: finished shards (or the step) that each kill left, as told by the files.
        seconds: the uninterrupted run took, from its first file on.
    """

    kills: int = 0
    ends: int = 0
    equal: int = 0
    left: list[int] = field(default_factory=list)
    seconds: float = 0.0


def contents(folder: Path) -> dict[str, bytes]:
    """What is compared of a finished run: every table, or every weight."""
    tables = {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}
    for path in folder.glob("model.safetensors"):
        tables |= {name: values.tobytes() for name, values in load_file(path).items()}
    return tables


def trace_of(folder: Path) -> set[tuple[str, int]]:
    """Names and times of the files of a run, by which its beginning to write is seen."""
    found = set()
    for path in folder.glob("*") if folder.is_dir() else ():
        try:
            found.add((path.name, path.stat().st_mtime_ns))
        except OSError:
            continue  # a temporary file that was renamed meanwhile
    return found


def run_once(command: list[str], folder: Path, kill_after: float | None) -> tuple[bool, float]:
    """Run; kill so many seconds after the first file is written, or not. Whether it came to its end, and seconds."""
    before = trace_of(folder)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and trace_of(folder) <= before:
        time.sleep(0.005)
    begun = time.monotonic()
    while process.poll() is None and (kill_after is None or time.monotonic() - begun < kill_after):
        time.sleep(0.005)
    killed = process.poll() is None
    if killed:
        process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1].decode()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}: {errors[-2000:]}")
    return not killed, time.monotonic() - begun


def punish(command: list[str], folder: Path, kills: int, moments: random.Random) -> Account:
    """Kill and resume until the kills are used up and the last run has come to its end.

    Args:
        command: without `--out`.
        folder: under which the runs lie.
        kills: how many.
        moments: where random moments come from.
    """
    account, done = Account(), False
    _, account.seconds = run_once([*command, "--out", str(folder / "whole")], folder / "whole", None)
    expected = contents(folder / "whole")
    while account.kills < kills or not done:
        target = folder / f"killed{account.ends}"
        # A third of the whole at most, so that several kills meet one run.
        moment = moments.uniform(0, account.seconds / 3) if account.kills < kills else None
        done, _ = run_once([*command, "--out", str(target)], target, moment)
        if done:
            account.ends += 1
            account.equal += contents(target) == expected
        else:
            account.kills += 1
            account.left.append(len(list(target.glob("*.parquet"))))
    return account


@contextmanager
def ray_address(needed: bool) -> Iterator[str]:
    """Address of a cluster of two CPUs that outlives the sweeps that are killed."""
    if not needed:
        yield ""
        return
    from analysis.sweep.cluster import ray_module, start_here

    ray = ray_module()
    start_here(ray, 2)
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


def make_data(folder: Path) -> str:
    """Demo videos, cut, in small shards; their glob."""
    clips = iter(read_clips(f"demo:0-{SHARDS * CLIPS}"))
    for number in range(SHARDS):
        write_clips(folder / f"shard{number:02d}.tfrecord", [next(clips).cut(FRAMES) for _ in range(CLIPS)])
    return str(folder / "*.tfrecord")


def commands(data: str, address: str) -> dict[str, list[str]]:
    """What is killed, by name."""
    sweep = [*GMSA, *SWEEP, "--data", data]
    return {
        "in-process": sweep,
        "processes": [*sweep, "--engine", "processes", "--workers", "2"],
        "ray": [*sweep, "--engine", "ray", "--address", address],
        "training": [*GMSA, *TRAIN, "--data", data, "--validation", data],
    }


def main() -> None:
    """Kill, compare, print; exit code 1 where an end differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--only", nargs="+", default=["in-process", "processes", "ray", "training"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    lines = ["| run | kills | runs that ended | equal to the uninterrupted | finished shards that the kills left |"]
    lines, good = [*lines, "|---|---|---|---|---|"], True
    with tempfile.TemporaryDirectory() as folder, ray_address("ray" in options.only) as address:
        data = make_data(Path(folder))
        for name, command in commands(data, address).items():
            if name not in options.only:
                continue
            account = punish(command, Path(folder) / name, options.kills, random.Random(options.seed))
            good = good and account.equal == account.ends
            left = "" if name == "training" else ", ".join(map(str, account.left))
            lines.append(f"| {name} | {account.kills} | {account.ends} | {account.equal} | {left} |")
            print(lines[-1], flush=True)
    title = (
        f"# SIGKILL at random moments\n\n`python -m benchmarks.kills --kills {options.kills} --seed {options.seed}`: "
    )
    about = f"{SHARDS} shards of {CLIPS} videos of at most {FRAMES} s; training 60 steps, saved every 7."
    report([title + about, "", *lines, "", machine()], RESULTS, options.write)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
