"""The script for a machine with a GPU: what it says without one, and that its checks can fail."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from gmsa_models.attention.blocks import Baseline

SCRIPT = Path(gpu.__file__)


def run(monkeypatch, capsys, *words) -> tuple[int, list[str]]:
    """The script's exit code and its lines, run in this process, which has torch already."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
    with pytest.raises(SystemExit) as end:
        gpu.main()
    return end.value.code, capsys.readouterr().out.splitlines()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_is_content():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("no GPU here (torch ")
    assert done.stdout.endswith("): nothing was checked\n")


def test_its_checks_pass_on_the_cpu_and_the_time_is_kept(monkeypatch, capsys):
    code, lines = run(monkeypatch, capsys, "--device", "cpu", "--small", "--only", "kernels", "edits")
    assert code == 0, lines
    assert [line.split()[:2] for line in lines[1:]] == [["ok", "kernels"], ["ok", "edits"]]
    over = run(monkeypatch, capsys, "--device", "cpu", "--small", "--only", "kernels", "--seconds", "-1")
    assert (over[0], over[1][1]) == (0, "left out  kernels: 0 s are over")


def test_a_difference_fails_it(monkeypatch, capsys):
    plain = Baseline.forward
    monkeypatch.setattr(Baseline, "forward", lambda *given, **more: plain(*given, **more) * 1.01)
    code, lines = run(monkeypatch, capsys, "--device", "cpu", "--small", "--only", "kernels")
    assert code == 1
    assert lines[1].startswith("FAILED    kernels")
    assert any("ArithmeticError: off by" in line for line in lines)
