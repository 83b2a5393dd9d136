"""Tiled local attention beside dense masked attention, the same numbers, in one run.

Forward, float32, batch 1, D = 1024, 8 heads, at the paper's T = 300 and at T = 4096, for BD20, TP30 and TD60 with
dilation 4. "Dense" is softmax(Q K^T / sqrt(d) + mask) V written out; "kernel" is torch's fused attention given the
same mask, ready made. Memory is the most that torch held at once beyond the inputs, from its profiler.

    python benchmarks/local_attention.py [--rounds 15] [--write]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import Times, interleaved, machine, peak_mib, ratio, report
from torch import Tensor
from torch.nn import functional

from gmsa_models.allocator import keep_freed_memory
from gmsa_models.attention.kernels.local_attention import local_attention
from gmsa_models.masks import BlockDiagonal, Neighbourhood, Toeplitz, ToeplitzDilated, neighbourhood_mask

RESULTS = Path(__file__).parent / "results" / "local_attention.md"
WIDTH, HEADS = 1024, 8
# Frames of a clip, and calls in a row of each form.
CALLS = {300: 10, 4096: 1}
NEIGHBOURHOODS = {"BD20": BlockDiagonal(20), "TP30": Toeplitz(30), "TD60^4": ToeplitzDilated(60, 4)}


def ways(neighbourhood: Neighbourhood, frames: int) -> dict[str, Callable[[], Tensor]]:
    """The three forms on the same random heads, laid out as a projection leaves them."""
    generator = torch.Generator().manual_seed(0)
    projected = (torch.randn(1, frames, WIDTH, generator=generator) for _ in range(3))
    query, key, value = (each.unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in projected)
    mask = neighbourhood_mask(neighbourhood, frames)
    bias = torch.zeros(frames, frames).masked_fill(~mask, float("-inf"))
    return {
        "tiles": lambda: local_attention(query, key, value, neighbourhood),
        "dense": lambda: torch.softmax(query @ key.mT * query.shape[-1] ** -0.5 + bias, -1) @ value,
        "kernel": lambda: functional.scaled_dot_product_attention(query, key, value, attn_mask=mask),
    }


def row(name: str, frames: int, rounds: int) -> str:
    """One line of the table; the three forms are compared before they are timed."""
    forms = ways(NEIGHBOURHOODS[name], frames)
    for form in ("dense", "kernel"):
        torch.testing.assert_close(forms["tiles"](), forms[form](), rtol=0, atol=1e-5)
    times = interleaved(forms, rounds, CALLS[frames])
    memory = {form: peak_mib(way) for form, way in forms.items()}
    cells = [name, str(frames), *(f"{1000 * statistics.median(times[form].wall):,.2f}" for form in forms)]
    cells += [f"{ratio(times[form].wall, times['tiles'].wall):.1f}" for form in ("dense", "kernel")]
    cells += [f"{_processor_ratio(times):.1f}", *(f"{memory[form]:,.1f}" for form in forms)]
    cells += [f"{memory['dense'] / memory['tiles']:.1f}"]
    return f"| {' | '.join(cells)} |"


def _processor_ratio(times: dict[str, Times]) -> float:
    return ratio(times["dense"].processor, times["tiles"].processor)


def main() -> None:
    """Print the table; `--write` keeps it in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="at T = 300; at T = 4096 a third of that")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/local_attention.md")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    kept = keep_freed_memory()
    columns = ["mask", "T", "tiles, ms", "dense, ms", "kernel, ms", "dense / tiles", "kernel / tiles"]
    columns += ["dense / tiles, processor time", "tiles, MiB", "dense, MiB", "kernel, MiB", "memory, dense / tiles"]
    with torch.no_grad():
        rounds = {300: arguments.rounds, 4096: max(3, arguments.rounds // 3)}
        rows = [row(name, frames, count) for frames, count in rounds.items() for name in NEIGHBOURHOODS]
    heading = [
        "# Local attention: tiles beside the dense masked form",
        "",
        f"`python benchmarks/local_attention.py --rounds {arguments.rounds} --write`: forward, float32, batch 1,",
        f"D = {WIDTH}, {HEADS} heads; medians of interleaved rounds, ratios within a round (ten calls at T = 300).",
        "Dense: softmax(Q K^T + mask) V written out. Kernel: torch's fused attention given the mask. MiB: the",
        "most that torch held beyond the inputs.",
        f"{machine()}",
        f"Freed memory kept by the allocator: {'yes' if kept else 'no'}.",
        "",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
    ]
    report([*heading, *rows], RESULTS, arguments.write)


if __name__ == "__main__":
    main()
