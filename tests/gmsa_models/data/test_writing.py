"""Files that are written: whole or not at all, with the reason where they cannot be, and one job a folder."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gmsa_models.data.atomic import cannot_write, remedy_for, replaced_when_done
from gmsa_models.data.lock import LOCK, locked
from gmsa_models.errors import OutputError

HOLD = """
import sys
from gmsa_models.data.lock import locked
with locked(sys.argv[1], "training"):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(folder: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


class TestLocked:
    def test_another_process_is_named(self, tmp_path: Path) -> None:
        process = start_holder(tmp_path / "run")
        with pytest.raises(OutputError) as caught, locked(tmp_path / "run", "sweep"):
            pass
        process.communicate()
        assert f"{tmp_path / 'run'}: in use by training (process {process.pid} on " in str(caught.value)
        assert "choose another folder" in str(caught.value)
        with locked(tmp_path / "run", "sweep"):
            pass
        assert list((tmp_path / "run").iterdir()) == []

    def test_a_killed_holder_stops_nobody(self, tmp_path: Path) -> None:
        process = start_holder(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert (tmp_path / LOCK).exists()
        with locked(tmp_path, "training"):
            pass

    def test_a_second_block_of_one_process_is_kept_out(self, tmp_path: Path) -> None:
        with locked(tmp_path, "training"):
            with pytest.raises(OutputError, match=f"process {os.getpid()} on"), locked(tmp_path, "training"):
                pass
            assert (tmp_path / LOCK).exists()

    def test_a_holder_that_has_not_said_who_it_is(self, tmp_path: Path) -> None:
        with locked(tmp_path, "training"):
            (tmp_path / LOCK).write_text("")
            with pytest.raises(OutputError, match="in use by another process"), locked(tmp_path, "training"):
                pass

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="what should be a folder is a file"), locked(tmp_path / "file", "training"):
            pass


class TestReasons:
    @pytest.mark.parametrize(
        ("number", "remedy"),
        [
            (errno.ENOSPC, "make room"), (errno.EDQUOT, "quota"), (errno.EACCES, "change its permissions"),
            (errno.EPERM, "change its permissions"), (errno.EROFS, "read-only"), (errno.ENAMETOOLONG, "shorter name"),
            (errno.ENOENT, "is not there any more"), (errno.EIO, "check the folder and its disk"),
        ],
    )  # fmt: skip
    def test_each_error_has_its_remedy(self, number: int, remedy: str) -> None:
        error = OSError(number, os.strerror(number))
        assert remedy in remedy_for(error)
        assert ("make room" in remedy_for(error)) == (number in (errno.ENOSPC, errno.EDQUOT))
        made = cannot_write("a/b.txt", error)
        assert (type(made), made.errno) == (type(error), number)
        assert str(made).startswith(f"cannot write a/b.txt: {os.strerror(number)}; ")
        assert cannot_write("c", made) is made

    def test_the_file_is_named_and_not_the_temporary_one(self, tmp_path: Path) -> None:
        (tmp_path / "gone").mkdir()

        def write() -> None:
            with replaced_when_done(tmp_path / "gone" / "x.txt") as temporary:
                temporary.parent.rmdir()
                temporary.write_text("")

        with pytest.raises(FileNotFoundError) as caught:
            write()
        assert str(caught.value).startswith(f"cannot write {tmp_path / 'gone' / 'x.txt'}: No such file")
        assert ".tmp" not in str(caught.value)

    def test_a_full_disk(self, tmp_path: Path) -> None:
        def write() -> None:
            with replaced_when_done(tmp_path / "x.txt"), Path("/dev/full").open("w") as full:
                full.write("a")

        with pytest.raises(OSError, match=r"cannot write .*x.txt: No space left on device; make room") as caught:
            write()
        assert caught.value.errno == errno.ENOSPC
        assert list(tmp_path.iterdir()) == []

    def test_an_error_of_reading_stays_as_it_is(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError) as caught, replaced_when_done(tmp_path / "x.txt"):
            (tmp_path / "input").read_text()
        assert "cannot write" not in str(caught.value)
