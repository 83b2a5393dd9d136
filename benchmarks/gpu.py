"""What runs on a GPU, checked against the CPU: kernels, training in float16, records, explanations, sweeps, Ray.

For a machine with a GPU: one command of under 8 minutes, whose checks come in order of weight; each says by how much
the two differ, or what went wrong, and the exit code is 1 if one failed. Without a GPU it says so, and the exit code is
0.

    python benchmarks/gpu.py [--device cuda] [--seconds 440] [--only records kernels ...]

`--device cpu --small` runs the checks themselves where there is no GPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from analysis import inspect_clip, run_with
from analysis.explanations.faithfulness import Replacer
from analysis.explanations.registry import applicable, explain
from analysis.sweep import SweepSettings, read_sweep, run_sweep
from gmsa_models import GMSAClassifier, build, load, read_clips
from gmsa_models.data.clip import Clip
from gmsa_models.evaluation.scoring import evaluate
from gmsa_models.training.loop import fit
from gmsa_models.training.recipe import Recipe
from gmsa_models.variants import COLUMNS

ZOO = ("gate-op-tp30", "gate-att-tp10", "share-att-tp", "baseline")
PARTS = ("attention", "profile", "gate", "pattern", "contribution", "sensitivity", "score", "similarity")
# Largest differences of two float32 results: of numbers near 1, and of logits.
CLOSE, LOGIT = 2e-4, 2e-3


@dataclass(frozen=True)
class Setting:
    """Where and how large.

    Attributes:
        device: "cuda", or "cpu" to try the checks.
        small: fewer frames and methods.
        folder: for files.
    """

    device: torch.device
    small: bool
    folder: Path

    def clip(self) -> Clip:
        """A demo video of some length."""
        clip = max(read_clips("demo:0-8"), key=lambda one: one.frames)
        return clip.cut(40) if self.small else clip

    def pair(self, name: str) -> tuple[GMSAClassifier, GMSAClassifier]:
        """A model of the zoo on the CPU and on the device."""
        return load(name), load(name, self.device)


def kernels(setting: Setting) -> str:
    """Every block's fast form on the device beside its maps on the CPU, with gradients; at paper size."""
    worst = 0.0
    frames, width = (60, 64) if setting.small else (300, 1024)
    for name in COLUMNS:
        model = build(name, modalities={"visual": width}, max_frames=frames, classes=5).eval()
        block = model.encoders["visual"].layers[0].block
        inputs = torch.randn(2, frames, width, generator=torch.Generator().manual_seed(0))
        valid = torch.arange(frames) < torch.tensor([[frames], [frames - 7]])
        expected = _with_gradient(lambda x, block=block, valid=valid: block.trace(x, valid).output, inputs, valid)
        there = block.to(setting.device)
        result = _with_gradient(partial(there, valid=valid.to(setting.device)), inputs.to(setting.device), valid)
        worst = max(worst, *(_off(one, other) for one, other in zip(result, expected, strict=True)))
    return _within(worst, CLOSE)


def _with_gradient(function: Callable[[Tensor], Tensor], inputs: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The output at real frames, and the gradient of the sum of its squares."""
    leaf = inputs.clone().requires_grad_()
    output = function(leaf) * valid[..., None].to(leaf)
    (gradient,) = torch.autograd.grad(output.square().sum(), leaf)
    return output.detach(), gradient


def training(setting: Setting) -> str:
    """Some steps in each mixed precision; the saved model scored once more on the device."""
    told = []
    for precision in ("16-mixed", "bf16-mixed") if setting.device.type == "cuda" else ("bf16-mixed",):
        model = build(ZOO[0], "demo", vocabulary=load(ZOO[0]).vocabulary)
        recipe = Recipe(steps=3 if setting.small else 12, batch_size=4, precision=precision, seed=0)
        result = fit(
            model, list(read_clips("demo:0-15")), list(read_clips("demo:16-23")), recipe, setting.folder / precision,
            accelerator=setting.device.type, progress=False,
        )  # fmt: skip
        again = evaluate(load(result.path, setting.device), list(read_clips("demo:16-23")))
        if not np.isfinite(again["gap"]) or abs(again["gap"] - result.scores["gap"]) > 0.05:
            raise ArithmeticError(f"{precision}: GAP {result.scores['gap']}, of the saved model {again['gap']}")
        told.append(f"{precision} GAP {result.scores['gap']:.3f}, saved {again['gap']:.3f}")
    return "; ".join(told)


def records(setting: Setting) -> str:
    """Records with G and S, of one video by each family."""
    worst = 0.0
    for name in ZOO[:1] if setting.small else ZOO:
        here, there = (inspect_clip(model, setting.clip(), parts=PARTS) for model in setting.pair(name))
        worst = max(worst, _records_off(there, here))
    return _within(worst, 10 * CLOSE)


def _records_off(one: xr.Dataset, other: xr.Dataset) -> float:
    """The largest difference of any variable, as a share of its largest number."""
    if set(one) != set(other):
        raise KeyError(f"variables differ: {set(one) ^ set(other)}")
    numbers = [name for name in one if one[name].dtype.kind == "f" and name != "verticality_p"]
    return max(_off(*(torch.from_numpy(np.asarray(each[name].values)) for each in (one, other))) for name in numbers)


def explanations(setting: Setting) -> str:
    """Every explanation, and the faithfulness curves of a ranking."""
    worst = 0.0
    for name in ZOO[1:2] if setting.small else ZOO:
        here, there = setting.pair(name)
        clip, target = setting.clip(), 3
        for method in applicable(here):
            values = [explain(model, clip, target, method).values for model in (there, here)]
            worst = max(worst, _off(*values))
        ranking = torch.rand(min(clip.frames, here.config.max_frames), generator=torch.Generator().manual_seed(0))
        curves = [Replacer(model, clip, target).curves(ranking) for model in (there, here)]
        worst = max(worst, _off(curves[0].deletion, curves[1].deletion), _off(curves[0].insertion, curves[1].insertion))
    return _within(worst, 20 * LOGIT)


def edits(setting: Setting) -> str:
    """A pass with edits of every kind of value: weights, gates, frames."""
    worst = 0.0
    texts = (
        "knock-out visual/0/local/weights keys 5..20",
        "force-gate visual/0/gate to 0.25",
        "drop audio/input at 3..9",
    )
    for name in ZOO[:1] if setting.small else ZOO[:2]:
        logits = [run_with(model, setting.clip(), texts).logits.cpu() for model in reversed(setting.pair(name))]
        worst = max(worst, _off(*logits))
    return _within(worst, LOGIT)


def sweeps(setting: Setting, engine: str = "in-process") -> str:
    """A sweep of demo videos on the device beside one on the CPU."""
    data, tables = ["demo:0-2" if setting.small else "demo:0-15"], []
    analyses = ("scores", "unevenness", "gates", "sensitivity")
    for device in ("cpu", setting.device.type):
        out = setting.folder / f"sweep-{engine}-{device}-{len(tables)}"
        result = run_sweep(
            [ZOO[0]], data, out, SweepSettings(analyses, device=device), engine=engine if tables else "in-process"
        )
        if not result.good:
            raise RuntimeError(f"shards failed: {[outcome.reason for outcome in result.failed]}")
        tables.append(read_sweep(out).sort_values("video").select_dtypes("number"))
    return _within(_off(*(torch.from_numpy(table.to_numpy(float)) for table in reversed(tables))), CLOSE)


def paper_size(setting: Setting) -> str:
    """Seconds of a forward pass and of a record with G and S at paper size; the most memory of the device."""
    told = []
    for name in ZOO[:1] if setting.small else ZOO:
        size = {"modalities": {"visual": 64}, "max_frames": 40, "classes": 9} if setting.small else {}
        model = build(name, **size).eval().to(setting.device)
        generator = np.random.default_rng(0)
        features = {
            modality: generator.standard_normal((model.config.max_frames, width)).astype(np.float32)
            for modality, width in model.config.modalities.items()
        }
        inspect_clip(model, Clip("random", features))  # tables are made once a model
        began = time.perf_counter()
        inspect_clip(model, Clip("random", features))
        memory = torch.cuda.max_memory_allocated() / 2**20 if setting.device.type == "cuda" else 0.0
        told.append(f"{name} {time.perf_counter() - began:.2f} s, {memory:.0f} MiB")
    return "records: " + ", ".join(told)


# In order of weight: what comes last may be left out for want of time.
CHECKS: dict[str, Callable[[Setting], str]] = {
    "kernels": kernels,
    "records": records,
    "explanations": explanations,
    "training": training,
    "sweep": sweeps,
    "ray": partial(sweeps, engine="ray"),
    "edits": edits,
    "paper-size": paper_size,
}


def _off(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the largest number above 1; NaN must stand at the same places."""
    one, other = one.detach().double().cpu(), other.detach().double().cpu()
    if one.shape != other.shape or not torch.equal(one.isnan(), other.isnan()):
        raise ArithmeticError(f"shapes {tuple(one.shape)} and {tuple(other.shape)}, or NaN at other places")
    if not one.numel():
        return 0.0
    return float((one - other).nan_to_num().abs().max() / max(1.0, float(other.nan_to_num().abs().max())))


def _within(worst: float, most: float) -> str:
    if worst > most:
        raise ArithmeticError(f"off by {worst:.1e}; at most {most:.0e} is rounding")
    return f"off by {worst:.1e} at most"


def run(names: list[str], setting: Setting, seconds: float) -> bool:
    """Do checks while there is time, and say what came of each; whether none failed."""
    began, good = time.monotonic(), True
    for name in names:
        if (spent := time.monotonic() - began) > seconds:
            print(f"left out  {name}: {spent:.0f} s are over", flush=True)
            continue
        start = time.monotonic()
        try:
            said, state = CHECKS[name](setting), "ok"
        except Exception:
            said, state, good = traceback.format_exc(), "FAILED", False
        print(f"{state:9} {name} ({time.monotonic() - start:.1f} s): {said}", flush=True)
    return good


def main() -> None:
    """Run the checks; exit code 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="fewer frames and models")
    parser.add_argument("--seconds", type=float, default=440, help="after so many no check is begun")
    parser.add_argument("--only", nargs="+", choices=tuple(CHECKS), default=list(CHECKS))
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(f"no GPU here (torch {torch.__version__}): nothing was checked")
        return
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "the CPU"
    print(f"{name}, torch {torch.__version__}, Python {sys.version.split()[0]}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(torch.device(arguments.device), arguments.small, Path(folder))
        sys.exit(0 if run(arguments.only, setting, arguments.seconds) else 1)


if __name__ == "__main__":
    main()
