"""Segments of clips: are they found, how long does it take, and what does attention inside them cost.

Found: boundaries of demo videos, which know their events and backgrounds, within 2 s, by the change points of the
`-seg` variants and by a threshold on the distance of neighbouring frames, in units of the clip's median. Threshold and
penalty are the best of demo:0-128; scores are of demo:256-512, with 95 % bootstrap intervals over videos. Time: change
points beside one forward pass of the model. Kernels: local attention of a batch whose clips have segments of their own
beside softmax(Q K^T / sqrt(d) + mask) V with their masks, and GateAtt's forward beside its plain form.

    python benchmarks/segments.py [--rounds 9] [--write]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from measuring import interleaved, machine, ratio, report
from torch import Tensor

from gmsa_models import Batch, Clip
from gmsa_models.allocator import keep_freed_memory
from gmsa_models.attention import GateAtt
from gmsa_models.attention.kernels.local_attention import local_attention
from gmsa_models.change_points import change_points, frame_kernel, segmentation
from gmsa_models.data.montage.make import demo_clip
from gmsa_models.masks import ChangePoints, Spans, batch_mask
from gmsa_models.variants import build

RESULTS = Path(__file__).parent / "results" / "segments.md"
CHOSEN_ON, SCORED_ON = range(128), range(256, 512)
PENALTIES = (2.0, 3.0, 4.0, 5.0, 6.0)
THRESHOLDS = (1.1, 1.15, 1.2, 1.25, 1.3, 1.35, 1.4, 1.5)
WITHIN = 2  # seconds, of one frame each
RESAMPLES = 2000
SHORTEST, LONGEST = 8, 30  # frames of the segments that kernels are timed with
CALLS, CLIPS = {300: 4, 4096: 1}, {300: 4, 4096: 2}

Counts = tuple[int, int, int]  # boundaries that are right, that were found, that there are


def naive_boundaries(kernel: np.ndarray, threshold: float) -> list[int]:
    """Frames whose distance from the one before is more than so many times the clip's median."""
    squares = np.diagonal(kernel)
    distances = np.sqrt(np.maximum(squares[1:] + squares[:-1] - 2 * np.diagonal(kernel, 1), 0))
    return [int(frame) + 1 for frame in np.flatnonzero(distances > threshold * np.median(distances))]


def counted(boundaries: Sequence[int], known: Sequence[int]) -> Counts:
    """Each known boundary is found once at most, by the nearest that is left."""
    left, right = list(known), 0
    for boundary in boundaries:
        nearest = min(left, key=lambda each: abs(each - boundary), default=None)
        if nearest is not None and abs(nearest - boundary) <= WITHIN:
            left.remove(nearest)
            right += 1
    return right, len(boundaries), len(known)


def scores(counts: np.ndarray) -> tuple[float, float, float]:
    """F1, precision and recall of (videos, 3) counts, over all boundaries."""
    right, found, known = counts.sum(0)
    return 2 * right / max(1, found + known), right / max(1, found), right / max(1, known)


def kernels_of(numbers: range) -> list[tuple[np.ndarray, list[int]]]:
    """Of each demo video: the products of its frames, and its known boundaries."""
    clips = map(demo_clip, numbers)
    return [(frame_kernel(floats(clip)), [int(each.start) for each in clip.segments[1:]]) for clip in clips]


def floats(clip: Clip) -> dict[str, np.ndarray]:
    """Features as the models take them."""
    return {name: clip.floats(name) for name in clip.features}


def found_rows() -> Iterator[str]:
    """A line for each way, with what was chosen for it."""
    ways: dict[str, tuple[Sequence[float], Callable[[np.ndarray, float], Sequence[int]]]] = {
        "change points, penalty": (PENALTIES, lambda kernel, value: segmentation(kernel, value)[1:]),
        "threshold, × median": (THRESHOLDS, naive_boundaries),
    }
    chosen_on, scored_on = kernels_of(CHOSEN_ON), kernels_of(SCORED_ON)
    random = np.random.default_rng(0).integers(0, len(scored_on), (RESAMPLES, len(scored_on)))
    for name, (values, way) in ways.items():

        def counts(videos: list[tuple[np.ndarray, list[int]]], value: float, way=way) -> np.ndarray:
            return np.array([counted(way(kernel, value), known) for kernel, known in videos])

        best = max(values, key=lambda value: scores(counts(chosen_on, value))[0])
        result = counts(scored_on, best)
        low, high = np.percentile([scores(result[rows])[0] for rows in random], (2.5, 97.5))
        f1, precision, recall = scores(result)
        yield f"| {name} {best:g} | {f1:.3f} | {low:.3f} to {high:.3f} | {precision:.3f} | {recall:.3f} |"


def time_rows(rounds: int) -> Iterator[str]:
    """A line for each size of model."""
    clip = max(map(demo_clip, range(64)), key=lambda each: each.frames)
    batch, features = Batch.from_clips([clip], ("visual", "audio")), floats(clip)
    for size in ("demo", "paper"):
        model = build("gate-op-tp30", size).eval()
        ways = {"found": lambda: change_points(features, 4.0), "forward": lambda model=model: model(batch)}
        times = interleaved(ways, rounds, 4)
        part = ratio(times["found"].processor, times["forward"].processor)
        middle = [1000 * statistics.median(times[way].processor) for way in ways]
        yield f"| {size} | {clip.frames} | {middle[0]:.1f} | {middle[1]:.1f} | {part:.2f} |"


def drawn_spans(clips: int, frames: int) -> tuple[Spans, ...]:
    """Segments of each clip, of the lengths that backgrounds of montages have."""
    random = np.random.default_rng(0)
    lengths = random.integers(SHORTEST, LONGEST + 1, (clips, frames // SHORTEST + 1))
    return tuple(Spans((0, *(int(each) for each in np.cumsum(row) if each < frames))) for row in lengths)


def attention_ways(frames: int, width: int, heads: int) -> dict[str, Callable[[], Tensor]]:
    """Local attention in segments, and the dense form with the masks of the clips."""
    clips, generator = CLIPS[frames], torch.Generator().manual_seed(0)
    spans = drawn_spans(clips, frames)
    projected = (torch.randn(clips, frames, width, generator=generator) for _ in range(3))
    query, key, value = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in projected)
    bias = torch.zeros(clips, 1, frames, frames).masked_fill(~batch_mask(spans, frames)[:, None], float("-inf"))
    return {
        "segments": lambda: local_attention(query, key, value, spans),
        "dense": lambda: torch.softmax(query @ key.mT * query.shape[-1] ** -0.5 + bias, -1) @ value,
    }


def gate_att_ways(frames: int, width: int, heads: int) -> dict[str, Callable[[], Tensor]]:
    """GateAtt's forward pass, and its plain form."""
    torch.manual_seed(0)
    block = GateAtt(width, heads, ChangePoints(), frames).bound_to(drawn_spans(1, frames))
    inputs = torch.randn(1, frames, width)
    return {"segments": lambda: block(inputs), "dense": lambda: block.trace(inputs).output}


def kernel_rows(rounds: int) -> Iterator[str]:
    """A line for each kernel and length; the forms are compared before they are timed."""
    for name, ways, width, heads in (
        ("local attention", attention_ways, 512, 4), ("GateAtt, one clip", gate_att_ways, 128, 2)
    ):  # fmt: skip
        for frames, calls in CALLS.items():
            forms = ways(frames, width, heads)
            torch.testing.assert_close(forms["segments"](), forms["dense"](), rtol=0, atol=1e-5)
            times = interleaved(forms, rounds if frames == 300 else max(3, rounds // 3), calls)
            middle = [f"{1000 * statistics.median(times[form].wall):,.1f}" for form in forms]
            ratios = [f"{ratio(getattr(times['dense'], of), getattr(times['segments'], of)):.1f}" for of in
                      ("wall", "processor")]  # fmt: skip
            yield f"| {name} | {frames} | {width}, {heads} | {' | '.join([*middle, *ratios])} |"


def main() -> None:
    """Print the tables; `--write` keeps them in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="at T = 300; at T = 4096 a third of that")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/segments.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # of two, one waits for the other where a machine is busy
    keep_freed_memory()
    with torch.no_grad():
        lines = [
            "# Segments of clips: found, timed, attended to",
            "",
            f"`python benchmarks/segments.py --rounds {arguments.rounds} --write`. Boundaries of demo:256-512 within "
            f"{WITHIN} s; penalty and",
            "threshold are the best of demo:0-128; 95 % bootstrap intervals over videos.",
            "",
            "| boundaries | F1 | interval | precision | recall |",
            "|---|---|---|---|---|",
            *found_rows(),
            "",
            "Change points of one clip beside a forward pass of GateOp TP30, processor time in ms.",
            "",
            "| size of the model | T | change points | forward pass | change points / forward |",
            "|---|---|---|---|---|",
            *time_rows(arguments.rounds),
            "",
            f"Segments of {SHORTEST} to {LONGEST} frames, others in each clip of a batch of {CLIPS[300]} (T = 300) or "
            f"{CLIPS[4096]}; forward, float32, ms. Dense: the",
            "masked form written out.",
            "",
            "| kernel | T | D, heads | segments | dense | dense / segments | processor time |",
            "|---|---|---|---|---|---|---|",
            *kernel_rows(arguments.rounds),
            "",
            machine(),
        ]
    report(lines, RESULTS, arguments.write)


if __name__ == "__main__":
    main()
