"""Effect maps of knock-out: all cells of a clip of 293 frames beside one edited pass, and one forward pass, a cell.

    python benchmarks/effects.py [--write]

30 windows, every branch and every head of each, both streams, of shipped models. Of the passes a cell, 20 cells are
run, spread over the streams, units and windows; ratios are of processor seconds a cell, in one process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from measuring import interleaved, machine, ratio, report

from analysis.interventions.cells import effect_edits, effect_units, windows_of
from analysis.interventions.effects import effect_map
from analysis.interventions.running import run_with
from gmsa_models import Batch, Clip, load
from gmsa_models.evaluating import evaluating

MODELS = ("baseline", "share-att-tp", "gate-att-tp10", "gate-op-tp30")
FRAMES, CELLS, ROUNDS = 293, 20, 5
RESULTS = Path(__file__).parent / "results" / "effects.md"


def measure(name: str) -> str:
    """A row of the table."""
    model, generator = load(name), np.random.default_rng(0)
    widths = model.config.modalities
    features = {each: generator.integers(0, 256, (FRAMES, width)).astype(np.uint8) for each, width in widths.items()}
    clip = Clip(id="benchmark", features=features, labels=(), spaces=model.spaces)
    windows, units = windows_of(clip), effect_units(model.encoders["visual"].layers[0].attention)
    cells = [(stream, unit, window) for stream in model.encoders for unit in units for window in windows]
    some = [cells[place] for place in np.linspace(0, len(cells) - 1, CELLS).astype(int)]
    edits = [effect_edits(unit.site(stream, 0, "weights"), [window]) for stream, unit, window in some]

    def forward():
        with evaluating(model) as replica:
            batch = Batch.from_clips([clip], tuple(widths)).to(dtype=torch.float32)
            return [replica(batch) for _ in range(CELLS)]

    found, clean = effect_map(model, clip, 0)["effect"].sel(direction="noising"), run_with(model, clip).logits[0, 0]
    at = {stream: list(model.encoders).index(stream) for stream in model.encoders}
    worst = max(
        abs(float(run_with(model, clip, edit).logits[0, 0] - clean)
            - float(found[at[stream], units.index(unit), windows.index(window)]))
        for edit, (stream, unit, window) in zip(edits, some, strict=True)
    )  # fmt: skip
    times = interleaved(
        {
            "map": lambda: effect_map(model, clip, 0),
            "edited": lambda: [run_with(model, clip, each) for each in edits],
            "forward": forward,
        },
        ROUNDS,
    )
    count = 2 * len(cells)  # both directions
    each = {"map": [t / count for t in times["map"].processor]}
    each |= {way: [t / CELLS for t in times[way].processor] for way in ("edited", "forward")}
    taken = " | ".join(f"{np.median(seconds) * 1e3:.2f} ms" for seconds in each.values())
    return (
        f"| {name} | {len(cells)} x 2 | {taken} | {ratio(each['edited'], each['map']):.1f} "
        f"| {ratio(each['forward'], each['map']):.1f} | {worst:.0e} |"
    )


def main() -> None:
    """Print the table; with --write keep it."""
    rows = [measure(name) for name in MODELS]
    lines = [
        "# Effect maps",
        "",
        f"A clip of {FRAMES} frames, 30 windows, both directions; processor time a cell. `difference`: the largest",
        f"between the map's effects and {CELLS} edited passes, in logits, float32.",
        "",
        "| model | cells | effect map | edited pass | forward pass | edited / map | forward / map | difference |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        machine(),
    ]
    report(lines, RESULTS, "--write" in sys.argv)


if __name__ == "__main__":
    main()
