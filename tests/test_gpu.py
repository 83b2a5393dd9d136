"""The script for a machine with a GPU: what it says without one, and that its checks can fail."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def run(*words):
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_is_content():
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("no GPU here (torch ")
    assert done.stdout.endswith("): nothing was checked\n")


def test_its_checks_pass_on_the_cpu_and_the_time_is_kept():
    done = run("--device", "cpu", "--small", "--only", "kernels", "edits")
    assert done.returncode == 0, done.stdout
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [["ok", "kernels"], ["ok", "edits"]]
    over = run("--device", "cpu", "--small", "--only", "kernels", "--seconds", "-1")
    assert (over.returncode, over.stdout.splitlines()[1]) == (0, "left out  kernels: 0 s are over")


def test_a_difference_fails_it():
    broken = (
        "import runpy, sys\nimport gmsa_models.attention.blocks as blocks\n"
        "plain = blocks.Baseline.forward\n"
        "blocks.Baseline.forward = lambda *given, **more: plain(*given, **more) * 1.01\n"
        "sys.argv = ['gpu.py', '--device', 'cpu', '--small', '--only', 'kernels']\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", broken], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FAILED    kernels" in done.stdout
    assert "ArithmeticError: off by" in done.stdout
