"""Processes that read HDF5 files before this one does; each is asked again for the next file."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from gmsa_models.data import hdf5_probe
from gmsa_models.data.hdf5_probe import RECORD, REFUSED

__all__ = ["end_all", "refusal"]

_SECONDS, _BYTES_A_SECOND, _LONGEST_WAIT = 5, 1 << 24, 300  # processor time, and by the clock
_CRASHED = "damaged so that the HDF5 library crashes or hangs on it"
_COMMAND = [sys.executable, "-P", hdf5_probe.__file__]
_FORKS = hasattr(os, "fork")


def refusal(path: Path, kind: str = RECORD) -> str:
    """What is wrong with a file that begins as HDF5, found by reading all of it in another process.

    Args:
        path: of the file.
        kind: `RECORD` or `CLIPS` of `gmsa_models.data.hdf5_probe`.

    Returns:
        Why it is not read; "" where nothing is wrong.
    """
    seconds = _SECONDS + path.stat().st_size // _BYTES_A_SECOND
    try:
        code, reason = (_ask if _FORKS else _ask_once)(str(path.absolute()), seconds, kind)
    except subprocess.TimeoutExpired:
        return _CRASHED
    if code == REFUSED:
        return reason
    return "" if code == 0 else _CRASHED


class _Probe:
    """A process that answers one question after the other."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment(),
            start_new_session=True,  # an interrupt is for the process that asks; and all it forked ends with it
        )  # fmt: skip

    def ask(self, *question: str | int) -> tuple[int, str]:
        """How reading the file of a question ended, and what was said of it.

        Raises:
            ConnectionError: the process has ended, as an idle one does.
            TimeoutExpired: no answer.
        """
        questions, answers = self.process.stdin, self.process.stdout
        assert questions is not None
        assert answers is not None
        questions.write(f"{json.dumps(question)}\n".encode())
        questions.flush()
        if not select.select([answers], [], [], _LONGEST_WAIT)[0]:
            raise subprocess.TimeoutExpired(_COMMAND, _LONGEST_WAIT)
        if not (line := answers.readline()):
            raise BrokenPipeError
        code, reason = json.loads(line)
        return code, reason

    def end(self) -> None:
        """End the process and what it forked, whatever they do."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def forget(self) -> None:
        """Take it for ended: it is another process's child."""
        self.process.returncode = 0


_idle: list[_Probe] = []


def _ask(path: str, seconds: int, kind: str) -> tuple[int, str]:
    """Ask a process that has nothing to do, or a new one."""
    while True:
        try:
            known, process = True, _idle.pop()
        except IndexError:
            known, process = False, _Probe()
        try:
            answer = process.ask(path, seconds, kind)
        except ConnectionError:
            process.end()
            if not known:
                return 1, ""
        except BaseException:  # an interrupt, too: what it would answer next is of this question
            process.end()
            raise
        else:
            _idle.append(process)
            return answer


def _ask_once(path: str, seconds: int, kind: str) -> tuple[int, str]:
    """Ask a process of its own, where a process cannot fork."""
    done = subprocess.run(
        [*_COMMAND, path, str(seconds), kind],
        capture_output=True,
        check=False,
        timeout=_LONGEST_WAIT,
        env=_environment(),
    )
    return done.returncode, done.stdout.decode()


def _environment() -> dict[str, str]:
    return os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@atexit.register
def end_all() -> None:
    """End the processes that have nothing to do."""
    while _idle:
        _idle.pop().end()


def _forget_all() -> None:
    while _idle:
        _idle.pop().forget()


if _FORKS:
    os.register_at_fork(after_in_child=_forget_all)
