"""The readers that are fuzzed, without the fuzzer: every input that was ever found, and the ones it starts from."""

import re
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent / "fuzz"
sys.path.insert(0, str(FUZZ))

from targets import TARGETS  # noqa: E402

FOUND = sorted(path for path in (FUZZ / "found").rglob("*") if path.is_file())


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_stays_mended(path, monkeypatch):
    monkeypatch.setattr(
        "gmsa_models.data.hdf5_probes._SECONDS", 1
    )  # of processor time, until a file that hangs is given up
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzing_starts_from_is_read_whole(name):
    for seed in TARGETS[name].seeds():
        TARGETS[name].read_whole(seed)


def test_a_find_is_a_find(monkeypatch):
    monkeypatch.setattr("gmsa_models.data.tfrecord.examples.read_id", lambda context: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        TARGETS["tfrecord"](TARGETS["tfrecord"].seeds()[0])


def test_make_fuzz_runs_every_target():
    makefile = (FUZZ.parents[1] / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^FUZZED \?= (.+)$", makefile, re.MULTILINE)[1].split() == list(TARGETS)
