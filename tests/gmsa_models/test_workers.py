"""Worker processes: silent whenever Ctrl-C comes; a program that they cannot import is told why, once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweep_shards import write_models, write_shards

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}

# Programs that start workers, by pool. Each says so and takes long, or is ended by what it cannot do.
SWEEP = "from analysis.sweep import run_sweep\nrun_sweep([MODEL], [DATA], OUT, engine='processes', workers=1)\n"
MONTAGE = (
    "from gmsa_models.data.montage.recipe import MontageRecipe\n"
    "from gmsa_models.data.montage.shards import write_montages\n"
    "from gmsa_models.data.montage.class_statistics import shipped_statistics\n"
    "write_montages(shipped_statistics(), MontageRecipe(frames=(9, 9)), 0, 4, OUT, shards=4, processes=2)\n"
)
FIGURES = (
    "from pathlib import Path\nfrom figures.pipeline.pipeline import Request, render\n"
    "render(Request(data=('demo:0',), out=Path(OUT), only=('2',), formats=('png',)), beside=True)\n"
)
POOLS = {"sweep": SWEEP, "montage": MONTAGE, "figures": FIGURES}

STARTS = (
    "import sys, time\n"
    "from gmsa_models.workers import WorkerContext\n"
    "if __name__ == '__main__':\n"
    "    context = WorkerContext()\n"
    "    print('ready', flush=True)\n"
    "    while True:\n"
    "        workers = [context.Process(target=time.sleep, args=(0.01,)) for _ in range(2)]\n"
    "        for worker in workers: worker.start()\n"
    "        for worker in workers: worker.join()\n"
)


@pytest.fixture
def program(tmp_path):
    """Writes a program of a pool, and gives its path."""
    (model,) = write_models(tmp_path, ("none",))
    write_shards(tmp_path, ((3,), (5,), (7,)))

    def write(text: str) -> Path:
        given = {"MODEL": model, "DATA": f"{tmp_path}/*.tfrecord", "OUT": str(tmp_path / "out")}
        path = tmp_path / "program.py"
        path.write_text("".join(f"{name} = {value!r}\n" for name, value in given.items()) + text)
        return path

    return write


def guarded(text: str) -> str:
    """The last line under a main guard."""
    *imports, call = text.splitlines()
    return "\n".join([*imports, "if __name__ == '__main__':", f"    {call}", ""])


@pytest.mark.parametrize("pool", POOLS)
class TestPrograms:
    def test_without_a_main_guard(self, program, pool):
        done = subprocess.run(
            [sys.executable, program(POOLS[pool])], env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr.count("Traceback") == 1, done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith("gmsa_models.errors.WorkerError: ")
        assert "program.py starts worker processes and has no main guard: put what the program does into" in last

    def test_from_standard_input(self, program, pool):
        done = subprocess.run(
            [sys.executable, "-"], input=program(guarded(POOLS[pool])).read_text(), env=ENVIRONMENT,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.count("Traceback") == 1, done.stderr
        assert "the program is <stdin>, which worker processes cannot read: write it to a file" in done.stderr


def test_programs_that_workers_can_import_and_those_that_have_no_file(program):
    text = program(MONTAGE.replace("OUT", "OUT + '2'")).read_text()
    for command in (["-c", text], [program(guarded(MONTAGE))]):
        done = subprocess.run([sys.executable, *command], env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_fails_in_the_worker_only(program):
    text = "if __name__ != '__main__':\n    raise ValueError('not here')\n" + guarded(SWEEP)
    done = subprocess.run([sys.executable, program(text)], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert "ValueError: not here" in done.stderr
    assert "a worker process ended while it imported the program, by the error above" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("moment", range(12))
def test_an_interrupt_at_any_moment_of_the_start_is_heard_by_the_parent_alone(program, moment):
    """The moments are spread over the start of a few workers: 5 ms is less than an import of Python takes."""
    process = subprocess.Popen(
        [sys.executable, program(STARTS)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    with process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.011 * moment)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=600)
    assert process.returncode != 0
    assert errors.count("Traceback") == 1, errors
    assert errors.splitlines()[-1] == "KeyboardInterrupt"


def test_a_worker_ends_with_its_parent(program):
    text = STARTS.replace("args=(0.01,)", "args=(600,)").replace(
        "        for worker in workers: worker.join()\n",
        "        print(*(worker.pid for worker in workers), flush=True)\n        time.sleep(600)\n",
    )
    with subprocess.Popen(
        [sys.executable, program(text)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        process.stdout.readline()
        pids = [int(pid) for pid in process.stdout.readline().split()]
        time.sleep(1)  # past their start
        process.kill()
    assert len(pids) == 2
    for _ in range(6000):
        if not any(Path(f"/proc/{pid}").exists() and "Z" not in status(pid) for pid in pids):
            return
        time.sleep(0.1)
    raise AssertionError(f"workers {pids} outlive their parent")


def status(pid: int) -> str:
    """One letter; Z for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
