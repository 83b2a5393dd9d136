"""Attention captured from many architectures: calls, how exact, and what it costs beside an eager run.

Every model is built from its configuration with random weights; nothing is downloaded. Each row runs the model with the
fused attention that it has, recorded with maps reduced to frames where it has a layout; beside it the eager run that
returns its maps (`output_attentions=True`) where the library can, else the plain run. Times are of processor seconds,
ratios within the same round; memory is the most that torch held at once in a pass, from its profiler.

    python benchmarks/capture.py [--rounds 5] [--rows Swin,ViT] [--write]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import transformers
from measuring import interleaved, machine, peak_mib, ratio, report
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))  # first: tests has folders of the packages' names

from foreign_models import FOREIGN, Foreign, run
from independent_gmsa import Classifier

from analysis.capture import TokenLayout, capture

RESULTS = Path(__file__).parent / "results" / "capture.md"
# Layers of the published base models, two of each: the share of attention in a pass is theirs.
WIDE = {"hidden_size": 768, "num_hidden_layers": 2, "num_attention_heads": 12, "intermediate_size": 3072}
VIDEO = {**WIDE, "image_size": 224, "patch_size": 16}
SIZES: dict[str, tuple[dict, tuple[int, ...]]] = {
    "VideoMAE": ({**VIDEO, "num_frames": 16}, (16, 3, 224, 224)),
    "ViViT": ({**VIDEO, "num_frames": 16, "tubelet_size": [2, 16, 16]}, (16, 3, 224, 224)),
    "TimeSformer": ({**VIDEO, "num_frames": 8}, (8, 3, 224, 224)),
    "V-JEPA 2": (
        {
            "hidden_size": 768, "num_hidden_layers": 2, "num_attention_heads": 12, "patch_size": 16, "crop_size": 224,
            "frames_per_clip": 16, "pred_num_hidden_layers": 1,
        },
        (16, 3, 224, 224),
    ),
    "AST": ({**WIDE, "max_length": 1024}, (1024, 128)),
    "Whisper encoder": (
        {"d_model": 768, "encoder_layers": 2, "encoder_attention_heads": 12, "encoder_ffn_dim": 3072}, (80, 3000),
    ),
    "wav2vec2": (WIDE, (160_000,)),
    "ViT": (VIDEO, (3, 224, 224)),
    "DINOv2": ({**WIDE, "image_size": 224, "patch_size": 14}, (3, 224, 224)),
    "DINOv2 with registers": (
        {**WIDE, "image_size": 224, "patch_size": 14, "num_register_tokens": 4}, (3, 224, 224),
    ),
    "CLIP vision": (VIDEO, (3, 224, 224)),
    "Swin": ({"embed_dim": 96, "depths": [2, 2], "num_heads": [3, 6]}, (3, 224, 224)),
}  # fmt: skip
MOST_ABOVE, MOST_TIME = 200.0, 1.15


@dataclass
class Case:
    """One architecture.

    Attributes:
        recorded: its run inside a capture.
        fused: the same run alone.
        eager: the run that returns maps, or the plain one.
        returned: what that returns as maps; none where it cannot.
        module: what is captured.
        layout: None: recognised.
        compared: pattern of the calls that the returned maps are of.
    """

    module: nn.Module
    fused: Callable[[], object]
    eager: Callable[[], object]
    returned: Callable[[], list[Tensor]] = list
    layout: TokenLayout | None = None
    compared: str = "*"

    def recorded(self) -> object:
        with capture(self.module, reduce="frames", layout=self.layout) as captured:
            self.fused()
        return captured


def foreign_case(foreign: Foreign) -> Case:
    """A transformers model, fused and eager, of the same weights."""
    fused, eager = foreign.build(), foreign.build("eager")
    values = foreign.example(1)

    def returned() -> list[Tensor]:
        return list(run(eager, values, output_attentions=True).attentions)

    return Case(fused, lambda: run(fused, values), returned, returned, compared=foreign.returned)


def torch_cases() -> dict[str, Case]:
    """Modules of torch, and a GMSA of somebody else's, of the paper's size: 300 frames, width 1024, 8 heads."""
    torch.manual_seed(0)
    frames = torch.randn(1, 300, 1024)
    attention = nn.MultiheadAttention(1024, 8, batch_first=True).eval()
    layer = nn.TransformerEncoderLayer(1024, 8, 2048, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    gmsa = Classifier(1024, 7, 8, depth=2).eval()

    def weights() -> list[Tensor]:
        return [attention(frames, frames, frames, average_attn_weights=False)[1]]

    layout = TokenLayout(300)
    return {
        "nn.MultiheadAttention": Case(
            attention, lambda: attention(frames, frames, frames, need_weights=False), weights, weights, layout
        ),
        "nn.TransformerEncoder": Case(encoder, lambda: encoder(frames), lambda: encoder(frames), layout=layout),
        "GMSA, independent": Case(gmsa, lambda: gmsa(frames), lambda: gmsa(frames), layout=layout),
    }


def largest_difference(case: Case) -> str:
    """Largest difference of any weight from the maps that the eager run returns; a dash where it returns none."""
    returned = case.returned()
    if not returned:
        return "–"
    with capture(case.module, layout=case.layout, layers=[case.compared]) as captured:
        case.fused()
    gaps = [float((call.weights - each).abs().max()) for call, each in zip(captured, returned, strict=True)]
    return f"{max(gaps):.1e}"


def row(name: str, case: Case, rounds: int) -> str:
    """One line of the table."""
    captured = case.recorded()
    kinds = ", ".join(sorted({call.kind.removesuffix("_forward").replace("_", " ") for call in captured}))
    shapes = {(call.shape[2], tuple(call.frames.weights.shape[-2:])) for call in captured}
    tokens = "; ".join(f"{count} → {sides[0]} x {sides[1]}" for count, sides in sorted(shapes))
    times = interleaved({"recorded": case.recorded, "eager": case.eager}, rounds)
    against = ratio(times["recorded"].processor, times["eager"].processor)
    print(name, f"{against:.2f}", flush=True)
    return (
        f"| {name} | {len(captured)} | {kinds} | {tokens} | {largest_difference(case)} | {captured.difference:.1e} | "
        f"{against:.2f} | {peak_mib(case.recorded):.0f} / {peak_mib(case.eager):.0f} |"
    )


def large(rounds: int) -> tuple[list[str], bool]:
    """VideoMAE of the usual size: 1568 tokens, 12 layers x 12 heads; whether both goals are met."""

    def build(implementation: str) -> nn.Module:
        torch.manual_seed(0)
        config = transformers.VideoMAEConfig()
        config._attn_implementation = implementation
        return transformers.VideoMAEModel(config).eval()

    fused, eager = build("sdpa"), build("eager")
    values = torch.randn(1, 16, 3, 224, 224)
    case = Case(fused, lambda: fused(values), lambda: eager(values))
    times = interleaved({"recorded": case.recorded, "eager": case.eager, "plain": case.fused}, rounds)
    against = {name: ratio(times["recorded"].processor, times[name].processor) for name in ("eager", "plain")}
    held = {"plain": peak_mib(case.fused), "recorded": peak_mib(case.recorded), "eager": peak_mib(case.eager)}
    captured = case.recorded()
    above = held["recorded"] - held["plain"]
    kept = sum(call.frames.weights.numel() for call in captured) * 4 / 1024
    lines = [
        f"VideoMAE-base from its configuration: {captured.calls[0].shape[2]} tokens, {len(captured)} layers x "
        f"{captured.calls[0].shape[1]} heads, reduced to 8 x 8 frames ({kept:.0f} KiB kept).",
        "",
        "| | plain (SDPA) | recorded | eager |",
        "|---|---|---|---|",
        f"| peak, MiB | {held['plain']:.0f} | {held['recorded']:.0f} | {held['eager']:.0f} |",
        f"| time of recorded by it | {against['plain']:.2f} | 1 | {against['eager']:.2f} |",
        "",
        f"Above the plain run: {above:.0f} MiB (goal: at most {MOST_ABOVE:.0f}). By an eager run that keeps no map: "
        f"{against['eager']:.2f} of its time (goal: at most {MOST_TIME}). max |P V - out|: {captured.difference:.1e}.",
    ]
    return lines, above <= MOST_ABOVE and against["eager"] <= MOST_TIME


def rewrite_rows(rows: dict[str, str], rounds: int) -> list[str]:
    """The lines of the table that is kept, some rows measured again."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines()
    lines = [rows.get(line.strip("| ").partition(" |")[0], line) for line in lines]
    note = f"Measured again by `--rounds {rounds} --rows {','.join(rows)}`:"
    return [*lines, "", note, machine()]


def main() -> None:
    """Print the tables; exit code 1 if a goal is missed; `--write` keeps them in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/capture.md")
    parser.add_argument("--rows", help="names of rows, separated by commas: measure these alone, and keep the others")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = {
        name: foreign_case(replace(FOREIGN[name], sizes=sizes, inputs=inputs))
        for name, (sizes, inputs) in SIZES.items()
    } | torch_cases()
    if arguments.rows:
        with torch.inference_mode():
            again = {name: row(name, cases[name], arguments.rounds) for name in arguments.rows.split(",")}
        report(rewrite_rows(again, arguments.rounds), RESULTS, arguments.write)
        return
    with torch.inference_mode():
        rows = [row(name, case, arguments.rounds) for name, case in cases.items()]
        lines, met = large(min(arguments.rounds, 3))
    head = [
        "# Attention captured from any module",
        "",
        f"`python benchmarks/capture.py --rounds {arguments.rounds} --write`: random weights, layers of the published",
        "base sizes (two each), a batch of 1; modules of torch and the GMSA: one clip of 300 frames of the paper's",
        "size (1024 wide, 8 heads), beside which fixed costs of a capture are small. From eager: largest difference",
        "of a weight from what `output_attentions=True` returns (of TimeSformer the spatial maps only, of Swin the",
        "last block of a stage). Time: processor seconds by those of the eager run that returns its maps. Peak memory:",
        "recorded / eager.",
        "",
        "| model | calls | recorded as | tokens → frames | from eager | P V - out | time | peak, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    report([*head, *rows, "", *lines, "", machine()], RESULTS, arguments.write)
    raise SystemExit(int(not met))


if __name__ == "__main__":
    main()
