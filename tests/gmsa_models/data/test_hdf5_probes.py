"""The process that reads a file first: one for many files, a new one where it has ended, none of another process."""

import os
import signal
from pathlib import Path

import pytest
from small_models import small_clip, small_model

from analysis import inspect_clip
from analysis.errors import RecordError
from analysis.record.files import open_record, save_record
from gmsa_models.data import hdf5_probes as probes

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each file has a process of its own on this system")
HANGS = Path(__file__).parents[2] / "fuzz/found/record/hdf5-hangs"


@pytest.fixture
def record(tmp_path):
    """A saved record; nobody has opened one before."""
    probes.end_all()
    return save_record(inspect_clip(small_model("none"), small_clip(5), parts=("score",)), tmp_path / "record.nc")


def asked() -> list[int]:
    """Processes that wait for a question."""
    return [one.process.pid for one in probes._idle]


def test_one_process_reads_one_file_after_the_other_and_not_itself(record, tmp_path, monkeypatch):
    monkeypatch.setattr(probes, "_SECONDS", 1)
    open_record(record)
    (first,) = asked()
    (tmp_path / "hangs.nc").write_bytes(HANGS.read_bytes()[1:])
    for _ in range(2):
        with pytest.raises(RecordError, match="crashes or hangs"):
            open_record(tmp_path / "hangs.nc")
    open_record(record)
    assert asked() == [first]


def test_where_it_has_ended_there_is_another(record):
    open_record(record)
    (first,) = asked()
    os.kill(first, signal.SIGKILL)
    open_record(record)
    assert len(asked()) == 1
    assert asked() != [first]


def test_an_interrupt_ends_it(record, monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gmsa_models.data.hdf5_probes.select.select", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_record(record)
    assert asked() == []
    open_record(record)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_process_asks_one_of_its_own(record):
    open_record(record)
    (first,) = asked()
    if (child := os.fork()) == 0:
        open_record(record)
        mine = asked()
        probes.end_all()
        os._exit(0 if len(mine) == 1 and mine != [first] else 9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    open_record(record)
    assert asked() == [first]


def test_where_a_process_cannot_fork_each_file_has_its_own(record, tmp_path, monkeypatch):
    monkeypatch.setattr(probes, "_FORKS", False)
    open_record(record)
    assert asked() == []
    (tmp_path / "cut.nc").write_bytes(record.read_bytes()[:-3000])
    with pytest.raises(RecordError, match=r"cut\.nc: damaged"):
        open_record(tmp_path / "cut.nc")


def test_names_that_are_no_unicode_and_relative_ones(record, tmp_path, monkeypatch):
    open_record(record)  # the process has this folder
    monkeypatch.chdir(tmp_path)
    record.rename(tmp_path / os.fsdecode(b"caf\xe9.nc"))
    open_record(os.fsdecode(b"caf\xe9.nc"))
