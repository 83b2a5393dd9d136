"""What reading a file costs: each in a forked process of its own, whose memory and time are limited and measured."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES, LONGEST = 1 << 31, 600  # of address space beside the libraries'; seconds
_PROGRAM = """
import json, os, resource, signal, sys
sys.path.insert(0, {tests!r})

def memory():
    return [int(pages) * resource.getpagesize() for pages in open("/proc/self/statm").read().split()[:2]]

def attempt(call, path):
    taken, _ = memory()  # of address space
    resource.setrlimit(resource.RLIMIT_AS, (taken + {most}, taken + {most}))
    signal.alarm({longest})
    try:
        eval(call)
    except BaseException as error:
        return [[kind.__name__ for kind in type(error).__mro__], str(error)]
    return [[], ""]

for line in sys.stdin:
    modules, call, path = json.loads(line)
    for module in modules.split(", "):
        globals()[module.partition(".")[0]] = __import__(module)
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        _, before = memory()  # a forked process begins with less than its parent has
        kinds, message = attempt(call, path)
        os.write(writer, json.dumps([kinds, message[:30000], before]).encode())
        os._exit(0)
    os.close(writer)
    said = os.fdopen(reader).read()
    _, status, used = os.wait4(child, 0)
    kinds, message, before = json.loads(said) if said else (["killed"], f"status {{status}}", 0)
    print(json.dumps([kinds, message, used.ru_maxrss * 1024 - before]), flush=True)
"""


@dataclass(frozen=True)
class Outcome:
    """How reading one file ended.

    Attributes:
        kinds: classes of the error, its own first; none where it was read; "killed" where a signal ended the process.
        message: of the error.
        bytes: the most memory at once, beside that of the program before.
    """

    kinds: tuple[str, ...]
    message: str
    bytes: int


class Meter:
    """A process that has imported what reads files, and forks for each file."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def read(self, modules: str, call: str, paths: Sequence[Path]) -> list[Outcome]:
        """Read files by a call that has `path` for each.

        Args:
            modules: what to import before, with commas.
            call: an expression, for example "analysis.record.files.open_record(path)".
            paths: of the files.
        """
        outcomes = []
        for path in paths:
            print(json.dumps([modules, call, str(path)]), file=self.process.stdin, flush=True)
            kinds, message, taken = json.loads(self.process.stdout.readline())
            outcomes.append(Outcome(tuple(kinds), message, taken))
        return outcomes


@contextmanager
def meter() -> Iterator[Meter]:
    """The process; it ends with the block."""
    program = _PROGRAM.format(most=MOST_BYTES, longest=LONGEST, tests=str(Path(__file__).parent))
    command = [sys.executable, "-W", "ignore", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Meter(process)
        process.stdin.close()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(file.lstat().st_size for file in (path.rglob("*") if path.is_dir() else [path]))
