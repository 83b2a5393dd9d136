"""Memory of a sweep: what a worker takes beside the program and the models is bounded by an argument."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from small_models import small_clip
from sweep_shards import write_models, write_shards

from analysis.errors import SweepError
from analysis.sweep import SweepSettings
from analysis.sweep.memory import pass_bytes
from analysis.sweep.run import plan_sweep
from analysis.sweep.work import _batches, _windows
from gmsa_models import load, read_clips

ROOT = Path(__file__).parents[3]


class TestMemory:
    PROGRAM = (
        "import re, sys; from analysis.sweep import ANALYSES, SweepSettings, run_sweep\n"
        "assert 'scipy.stats' not in sys.modules  # a fifth of what a worker takes to start\n"
        # Not getrusage: its peak begins at that of the process that started this one.
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024\n"
        "run_sweep(['gate-op-tp30'], ['demo:4'], sys.argv[1] + '/a', SweepSettings(tuple(ANALYSES), batch_size=1))\n"
        "before = peak()\n"
        "for allowed in (64, 1024):\n"
        "    settings = SweepSettings(tuple(ANALYSES), batch_size=64, memory=allowed * 2**20)\n"
        "    run_sweep(['gate-op-tp30'], ['demo:4-12'], sys.argv[1] + f'/{allowed}', settings)\n"
        "    print(peak() - before)"
    )

    def test_the_argument_bounds_what_a_worker_takes(self, tmp_path):
        """MiB by which the peak of a process grows in sweeps, beyond that of one clip at a time."""
        done = subprocess.run(
            [sys.executable, "-c", self.PROGRAM, str(tmp_path)],
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        little, much = map(float, done.stdout.split())
        assert little < 64
        assert much > 64

    def test_clips_wait_within_their_share(self, tmp_path):
        (shard,) = write_shards(tmp_path, ((23,) * 40 + (5,) * 60,))
        (task,) = plan_sweep(write_models(tmp_path, ("none",)), [str(shard)], tmp_path, SweepSettings(("scores",)))
        clips = list(read_clips(shard))
        small = replace(task, settings=SweepSettings(("scores",), batch_size=3))
        assert [len(window) for window in _windows(clips, small)] == [24] * 4 + [4]
        bytes_a_clip = 23 * (12 + 8)
        object.__setattr__(small.settings, "memory", 4 * 10 * bytes_a_clip)
        windows = list(_windows(clips, small))
        assert [len(window) for window in windows[:4]] == [10] * 4
        assert [clip.id for window in windows for clip in window] == [clip.id for clip in clips]

    def test_long_clips_go_in_smaller_batches_and_too_long_ones_are_refused(self, tmp_path):
        model = load(write_models(tmp_path, ("gate-att",))[0])
        clips = [small_clip(frames, seed) for seed, frames in enumerate((23, 5, 23, 5, 23, 5))]
        (shard,) = write_shards(tmp_path, ((5,),))
        (task,) = plan_sweep(
            [str(tmp_path / "gate-att.safetensors")], [str(shard)], tmp_path, SweepSettings(batch_size=3)
        )
        assert [list(each) for each in _batches(clips, model, task)] == [[1, 3, 5], [0, 2, 4]]
        object.__setattr__(task.settings, "memory", int(2 * 2.5 * pass_bytes(model.config, 23)))
        assert [list(each) for each in _batches(clips, model, task)] == [[1, 3, 5], [0, 2], [4]]
        object.__setattr__(task.settings, "memory", pass_bytes(model.config, 23))
        with pytest.raises(SweepError, match=r"23 frames need about .* MiB; .* are allowed"):
            list(_batches(clips, model, task))
