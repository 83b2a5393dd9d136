"""What becomes of 100,000 mutated TFRecords and 20,000 mutated checkpoints: read, or refused by one typed error.

Every mutant is written to a file and read in a child process, whose peak memory is reset before each read. A child that
dies or says nothing for 20 s is a crash or a hang of the mutant it was at; the next child goes on with the one after.
Mutants depend on their number only. TFRecords are read as `--on-error skip` reads them, so that what follows a fault is
read too; the first error counts.

    python benchmarks/mutations.py [--records 100000] [--checkpoints 20000] [--write]
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from measuring import machine, report
from mutating import Random, mutated_checkpoint, mutated_records, real_checkpoints, real_records

from gmsa_models import load, read_clips
from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.data.errors import UnreadableError

RESULTS = Path(__file__).parent / "results" / "mutations.md"
READ = "read"
SILENCE = 20.0  # seconds after which a child counts as hanging
MOST_SECONDS, MOST_MIB = 1.0, 200.0
A_CHILD = 5000  # mutants, after which a fresh child goes on


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant.

    Attributes:
        number: of the mutant.
        kind: `READ`, or the error's class and kind; "UNTYPED ..." for an error that the readers do not promise.
        wall, processor: seconds of the read.
        mib: peak resident memory of the read above what was held before and the file's size.
    """

    number: int
    kind: str
    wall: float = 0.0
    processor: float = 0.0
    mib: float = 0.0


@dataclass
class Tally:
    """All outcomes of one sort of file."""

    kinds: Counter[str] = field(default_factory=Counter)
    worst: dict[str, Outcome] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        self.kinds[outcome.kind] += 1
        for name in ("wall", "processor", "mib"):
            if getattr(outcome, name) >= getattr(self.worst.get(name, outcome), name):
                self.worst[name] = outcome

    @property
    def good(self) -> bool:
        """No crash, no hang, no untyped error, nothing too slow or too large."""
        bad = any(kind.split()[0] in ("UNTYPED", "CRASH", "HANG") for kind in self.kinds)
        return not bad and self.worst["processor"].processor <= MOST_SECONDS and self.worst["mib"].mib <= MOST_MIB


def read_records(path: Path) -> str:
    """Read every clip that can be; the first reason not to."""
    errors: list[UnreadableError] = []
    for _ in read_clips(path, on_error="skip", on_skip=errors.append):
        pass
    return f"{type(errors[0]).__name__}: {errors[0].kind}" if errors else READ


def read_checkpoint(path: Path) -> str:
    """Load it, or say which error refused it."""
    try:
        load(path)
    except CheckpointError as error:
        return type(error).__name__
    return READ


def watched(number: int, read: Callable[[Path], str], path: Path) -> Outcome:
    """Read one file and watch time and memory."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
    before, size = _status("VmRSS"), path.stat().st_size / 2**20
    wall, processor = time.perf_counter(), time.process_time()
    try:
        kind = read(path)
    except Exception as error:
        kind = f"UNTYPED {type(error).__name__}: {str(error)[:200]}"
    times = time.perf_counter() - wall, time.process_time() - processor
    return Outcome(number, kind, *times, max(0.0, _status("VmHWM") - before - size))


def _status(name: str) -> float:
    """A line of this process's status, in MiB."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.split(f"{name}:")[1].split()[0]) / 1024


def mutant(number: int, real: list[bytes], mutate: Callable[[bytes, Random], bytes]) -> bytes:
    """Mutant of this number."""
    return mutate(real[number % len(real)], np.random.default_rng((7, number)))


def outcomes(
    count: int, real: list[bytes], mutate: Callable[[bytes, Random], bytes], read: Callable[[Path], str], path: Path
) -> Iterator[Outcome]:
    """What becomes of each mutant, in order, whatever happens to the children that read them."""

    def work(pipe: Connection, numbers: range) -> None:
        for number in numbers:
            path.write_bytes(mutant(number, real, mutate))
            pipe.send(watched(number, read, path))

    context, number = multiprocessing.get_context("fork"), 0
    while number < count:
        ours, theirs = context.Pipe()
        child = context.Process(target=work, args=(theirs, range(number, min(count, number + A_CHILD))))
        child.start()
        theirs.close()
        try:
            while ours.poll(SILENCE):
                yield (outcome := ours.recv())
                number = outcome.number + 1
            yield Outcome(number, "HANG", SILENCE, SILENCE)
            number += 1
        except EOFError:
            child.join()
            if child.exitcode:
                yield Outcome(number, f"CRASH with exit code {child.exitcode}")
                number += 1
        child.kill()
        child.join()


def tally(name: str, count: int, found: Iterator[Outcome]) -> Tally:
    """Count outcomes, and print what should not be at once."""
    total = Tally()
    for outcome in found:
        total.add(outcome)
        if outcome.kind.split()[0] in ("UNTYPED", "CRASH", "HANG"):
            print(f"{name} {outcome.number}: {outcome.kind}", flush=True)
        if (outcome.number + 1) % 10_000 == 0:
            print(f"{name}: {outcome.number + 1:,} of {count:,}", flush=True)
    return total


def table(name: str, total: Tally) -> list[str]:
    """Lines of Markdown."""
    count, worst = total.kinds.total(), total.worst
    lines = [
        f"## {count:,} mutated {name}",
        "",
        f"Slowest read: {worst['wall'].wall:.2f} s by the clock (mutant {worst['wall'].number}), "
        f"{worst['processor'].processor:.2f} s of the processor (mutant {worst['processor'].number}).",
        f"Most memory above the file: {worst['mib'].mib:.0f} MiB (mutant {worst['mib'].number}).",
        "",
        "| outcome | mutants | percent |",
        "|---|---|---|",
    ]
    return [*lines, *(f"| {kind} | {n:,} | {100 * n / count:.2f} |" for kind, n in total.kinds.most_common()), ""]


def main() -> None:
    """Print the tables; exit code 1 if anything was not as it should be; `--write` keeps them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--checkpoints", type=int, default=20_000)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/mutations.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sorts = {
        "TFRecords": (arguments.records, real_records, mutated_records, read_records, "mutant.tfrecord"),
        "checkpoints": (arguments.checkpoints, real_checkpoints, mutated_checkpoint, read_checkpoint, "m.safetensors"),
    }
    start, totals = time.perf_counter(), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (count, make, mutate, read, file) in sorts.items():
            real, path = make(Path(folder)), Path(folder) / file
            read_all = [watched(0, read, _write(path, data)).kind for data in real]  # whole they are read; warms up
            if set(read_all) != {READ}:
                raise RuntimeError(f"real {name} are not read: {read_all}")
            totals[name] = tally(name, count, outcomes(count, real, mutate, read, path))
    lines = [
        "# Mutated files",
        "",
        f"`python benchmarks/mutations.py --records {arguments.records} --checkpoints {arguments.checkpoints} --write`",
        f"in {time.perf_counter() - start:,.0f} s, one child process at a time. Half of the mutants have raw bytes",
        "changed; in the other half lengths and checksums were made right again.",
        "",
        *(line for name, total in totals.items() for line in table(name, total)),
        machine(),
    ]
    report(lines, RESULTS, arguments.write)
    raise SystemExit(int(not all(total.good for total in totals.values())))


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


if __name__ == "__main__":
    main()
