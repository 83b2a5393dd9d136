"""Exact frame-gradient norms G beside other ways to them, in forward passes; and the time of a whole record.

T = 300, D = 1024, 8 heads, float32, 2 threads, one clip of random frames. The unit is one forward pass without a graph
in the same round: of the model (at paper size, both streams), and of its visual attention block alone. The closed form
gives all 300 x 300 norms. The other ways are measured on a few of the 307,200 output components and the rest is
extrapolated, as said in the table:
autograd: batched vector-Jacobian products; `torch.func.jacrev` of one output frame; captum's Saliency, one target
(frame, component) a call.

    python benchmarks/sensitivity.py [--rounds 7] [--write]
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path

import torch
from captum.attr import Saliency
from measuring import interleaved, machine, ratio, report
from torch import Tensor

from analysis import inspect_clip
from analysis.sensitivity.closed_form.forms import closed_form_norms
from gmsa_models import available, load, read_clips
from gmsa_models.allocator import keep_freed_memory
from gmsa_models.attention import AttentionBlock
from gmsa_models.data.batch import Batch
from gmsa_models.variants import COLUMNS, build

RESULTS = Path(__file__).parent / "results" / "sensitivity.md"
FRAMES, WIDTH = 300, 1024
# Forward passes of the model that the closed form may take.
TARGETS = {"baseline": 8, "share-att": 8, "gate-att": 100, "gate-op": 100}
MAX_BYTES = 2**28
COMPONENTS = {"autograd": 32, "jacrev": 32, "captum": 4}  # of one output frame, measured
ONE_A_FAMILY = ("baseline", "share-att-tp", "gate-att-tp10", "gate-op-tp30")


def forward(module: torch.nn.Module, inputs: Tensor | Batch) -> Callable[[], object]:
    """One forward pass, without a graph."""

    def run() -> Tensor:
        with torch.no_grad():
            return module(inputs)

    return run


def batch_of(frames: Tensor) -> Batch:
    """One clip: these visual frames, and audio of no meaning."""
    audio = torch.randn(1, FRAMES, 128, generator=torch.Generator().manual_seed(1))
    return Batch({"visual": frames.unsqueeze(0), "audio": audio}, torch.ones(1, FRAMES, dtype=torch.bool))


def one_frame(block: AttentionBlock, middle: int) -> Callable[[Tensor], Tensor]:
    """Output frame `middle` as a function of all input frames."""
    return lambda inputs: block.trace(inputs.unsqueeze(0)).output[0, middle]


def autograd(block: AttentionBlock, frames: Tensor) -> Callable[[], object]:
    """Some components of one output frame, products batched."""
    ones = torch.eye(WIDTH)[: COMPONENTS["autograd"]]

    def run() -> Tensor:
        inputs = frames.clone().requires_grad_()
        output = one_frame(block, FRAMES // 2)(inputs)
        (rows,) = torch.autograd.grad(output, inputs, ones, is_grads_batched=True)
        return rows.square().sum((0, 2))

    return run


def jacrev(block: AttentionBlock, frames: Tensor) -> Callable[[], object]:
    """The same components by `torch.func.jacrev`."""
    some = lambda inputs: one_frame(block, FRAMES // 2)(inputs)[: COMPONENTS["jacrev"]]  # noqa: E731
    jacobian = torch.func.jacrev(some)
    return lambda: jacobian(frames).square().sum((0, 2))


def captum(block: AttentionBlock, frames: Tensor) -> Callable[[], object]:
    """Fewer components by captum, a call each."""
    method = Saliency(lambda inputs: block.trace(inputs).output)

    def run() -> list[Tensor]:
        inputs = frames.unsqueeze(0).requires_grad_()
        return [method.attribute(inputs, (FRAMES // 2, each), abs=False) for each in range(COMPONENTS["captum"])]

    return run


OTHERS: dict[str, Callable[[AttentionBlock, Tensor], Callable[[], object]]] = {
    "autograd": autograd,
    "jacrev": jacrev,
    "captum": captum,
}


def exact_rows(frames: Tensor, rounds: int) -> list[str]:
    """A line a column of the paper: closed form in forward passes."""
    lines = []
    for name, (family, _) in COLUMNS.items():
        model = build(name, size="paper").eval()
        block = model.encoders["visual"].layers[0].attention
        ways = {
            "model": forward(model, batch_of(frames)),
            "block": forward(block, frames.unsqueeze(0)),
            "closed": lambda block=block: closed_form_norms(block, frames, MAX_BYTES),
        }
        times = interleaved(ways, rounds)
        cells = [name, *(f"{1000 * statistics.median(times[way].wall):,.0f}" for way in ways)]
        cells += [f"{ratio(times['closed'].wall, times['model'].wall):.1f}", str(TARGETS[family])]
        cells.append(f"{ratio(times['closed'].wall, times['block'].wall):.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def other_rows(frames: Tensor, rounds: int) -> list[str]:
    """A line a family: the closed form's seconds and what the other ways would take for all components."""
    lines = []
    for name in ONE_A_FAMILY:
        block = build(name, size="paper").encoders["visual"].layers[0].attention.eval().requires_grad_(False)
        ways = {way: make(block, frames) for way, make in OTHERS.items()}
        ways["closed"] = lambda block=block: closed_form_norms(block, frames, MAX_BYTES)
        times = interleaved(ways, rounds)
        cells = [name, f"{statistics.median(times['closed'].wall):.2f}"]
        for way in OTHERS:
            scale = FRAMES * WIDTH / COMPONENTS[way]
            cells.append(f"{scale * statistics.median(times[way].wall):,.0f}")
            cells.append(f"{scale * ratio(times[way].wall, times['closed'].wall):,.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def record_rows(rounds: int) -> list[str]:
    """A line a trained model: seconds of one record of a 300-frame demo video with everything in it."""
    clip = next(clip for index in count() for clip in read_clips(f"demo:{index}") if clip.frames >= 290)
    models = {name: load(name) for name in available() if name in COLUMNS}
    times = interleaved({name: lambda one=model: inspect_clip(one, clip) for name, model in models.items()}, rounds)
    return [
        f"| {name} | {clip.frames} | {statistics.median(each.wall):.2f} | {max(each.wall):.2f} "
        f"| {statistics.median(each.processor):.2f} |"
        for name, each in times.items()
    ]


def main() -> None:
    """Print the tables; `--write` keeps them in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="of the closed form; the rest have fewer")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/sensitivity.md")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "Input Tensor 0 already required gradients")
    torch.set_num_threads(2)
    kept = keep_freed_memory()
    frames = torch.randn(FRAMES, WIDTH, generator=torch.Generator().manual_seed(0))
    few = max(2, arguments.rounds // 3)
    measured = ", ".join(f"{way} {number}" for way, number in COMPONENTS.items())
    lines = [
        "# Frame-gradient norms G: the closed form beside other ways",
        "",
        f"`python benchmarks/sensitivity.py --rounds {arguments.rounds} --write`: T = {FRAMES}, D = {WIDTH},",
        "8 heads, float32, one clip of random frames; medians, and medians of ratios within a round. A pass of the",
        "model has both streams, feed-forward layers and classifier; a pass of the block is its visual attention.",
        "",
        "| model | pass of the model, ms | of the block, ms | all of G in closed form, ms | in passes of the model "
        "| at most | in passes of the block |",
        "|---|---|---|---|---|---|---|",
        *exact_rows(frames, arguments.rounds),
        "",
        f"All of G in seconds by other ways, extrapolated to {FRAMES * WIDTH:,} output components from a few of one",
        f"frame ({measured}); and how many times the closed form's time that is.",
        "",
        "| model | closed form, s | autograd, s | times | `torch.func.jacrev`, s | times | captum, s | times |",
        "|---|---|---|---|---|---|---|---|",
        *other_rows(frames, few),
        "",
        "One record of a demo video by `inspect_clip`, every default part in it, the trained models.",
        "",
        "| model | frames | median, s | slowest, s | processor, s |",
        "|---|---|---|---|---|",
        *record_rows(arguments.rounds),
        "",
        f"{machine()}",
        f"Freed memory kept by the allocator: {'yes' if kept else 'no'}.",
    ]
    report(lines, RESULTS, arguments.write)


if __name__ == "__main__":
    main()
