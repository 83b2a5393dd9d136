"""What glibc's allocator does with freed memory, seen in processes of their own."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from gmsa_models import allocator

ROOT = Path(__file__).parents[2]
KEPT = """
import resource, sys, numpy
from gmsa_models.allocator import keep_freed_memory
if len(sys.argv) > 1 and not keep_freed_memory(): sys.exit("no glibc")
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use = lambda: [numpy.ones(2**17) for _ in range(8)]
use()
before = faults()
for _ in range(20): use()
print(faults() - before)
"""
RETURNED = """
import sys, threading, numpy
from gmsa_models.allocator import keep_freed_memory, return_freed_memory
if not keep_freed_memory(): sys.exit("no glibc")
resident = lambda: int(open("/proc/self/statm").read().split()[1]) // 256
thread = threading.Thread(target=lambda: [numpy.ones(2**17) for _ in range(200)])
thread.start(); thread.join()
before, done = resident(), return_freed_memory()
print(before - resident(), done)
"""


def printed(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    if "no glibc" in done.stderr:
        pytest.skip("no glibc on this machine")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_freed_memory_is_kept():
    (usual,), (kept,) = printed(KEPT), printed(KEPT, "keep")
    assert int(kept) < int(usual) / 3


def test_what_was_kept_is_returned():
    mib, done = printed(RETURNED)
    assert int(mib) > 150  # of 200
    assert done == "True"


@pytest.mark.parametrize("error", [OSError, AttributeError, TypeError])
def test_another_c_library_is_left_alone(monkeypatch, error):
    def library(name):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", library)
    assert not allocator.keep_freed_memory()
    assert not allocator.return_freed_memory()
