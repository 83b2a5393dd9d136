"""What reading a file costs: each in a forked process of its own, whose memory and time are limited and measured."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES, LONGEST = 1 << 31, 120  # of address space beside the libraries'; seconds
_PROGRAM = """
import json, os, resource, signal, sys
sys.path.insert(0, {tests!r})
import {module}

def memory():
    return [int(pages) * resource.getpagesize() for pages in open("/proc/self/statm").read().split()[:2]]

taken, _ = memory()

def attempt(path):
    resource.setrlimit(resource.RLIMIT_AS, (taken + {most}, taken + {most}))
    signal.alarm({longest})
    try:
        {call}
    except BaseException as error:
        return [[kind.__name__ for kind in type(error).__mro__], str(error)]
    return [[], ""]

for path in sys.argv[1:]:
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        _, before = memory()  # a forked process begins with less than its parent has
        kinds, message = attempt(path)
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


def metered(module: str, call: str, paths: Sequence[Path]) -> list[Outcome]:
    """Read files by a call that has `path` for each.

    Args:
        module: what to import before.
        call: an expression, for example "analysis.record.files.open_record(path)".
        paths: of the files.
    """
    program = _PROGRAM.format(
        module=module, call=call, most=MOST_BYTES, longest=LONGEST, tests=str(Path(__file__).parent)
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *map(str, paths)], capture_output=True, text=True, check=True
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [Outcome(tuple(kinds), message, taken) for kinds, message, taken in found]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(file.lstat().st_size for file in (path.rglob("*") if path.is_dir() else [path]))
