"""Counterfactuals: the least that must be changed in a pass for another class to come first.

Seconds that are taken from the clip, edges that are knocked out of its attention, gates that are moved. Each answer was
passed through the model, as edits; what is not proven to be the least says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.gmsa_view import attention_block, model_vocabulary
from analysis.interventions.cells import windows_of
from analysis.interventions.edits import DropFrames, Edit, EditError, KnockOut, Number, Patch, Seconds
from analysis.interventions.fewest import FewestSet, fewest_set
from analysis.interventions.running import EditRun
from analysis.interventions.sites import Site
from gmsa_models.attention import Valid
from gmsa_models.attention.stages import BlockEdit
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluating import standard_contexts
from gmsa_models.trace import Stage

__all__ = ["Counterfactual", "counterfactuals", "fewest_edges", "fewest_seconds", "gate_shift", "gate_shift_by_frame"]

SECONDS = 10.0
BUDGET = 2000
MOST_NAMED = 6  # pieces in an answer's text; its edits hold all
FRAMES_TOGETHER = 4096  # that go through the model in one batch
SHIFTS = 40  # steps of a uniform shift of the gates that are tried on each side
BISECTIONS = 20
STEPS = 60  # of the gradient search
OVERSHOOT = 0.02  # how far beyond the boundary a step of it goes, as a share


@dataclass(frozen=True)
class Counterfactual:
    """An answer.

    Attributes:
        question: what was asked.
        answer: what must be changed, in words; empty where nothing was found.
        before, after: names of the class that comes first; `after` empty where nothing was found.
        margin: logit of the class that came first less that of the best other after the change; below 0.
        size: how much is changed, in `unit`; NaN where nothing was found.
        unit: "s", "edges", "of 1".
        proof: how sure it is that less would not do.
        edits: that change it.
    """

    question: str
    answer: str
    before: str
    after: str
    margin: float
    size: float
    unit: str
    proof: str
    edits: tuple[Edit, ...] = ()


def counterfactuals(
    model: GMSAClassifier,
    clip: Clip,
    *,
    seconds: Number = SECONDS,
    budget: int = BUDGET,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Counterfactual]:
    """All answers that a model has: seconds and edges, and gates where it has them.

    Args:
        model: with or without attention.
        clip: cut to the model's longest.
        seconds: length of the pieces that are taken.
        budget: how many sets of pieces are tried for a proof; see `fewest_set`.
        progress: called with the number of questions that are answered, and of all.
    """
    blocks = [layer.attention for encoder in model.encoders.values() for layer in encoder.layers]
    questions: list[Callable[[], Counterfactual]] = [
        lambda: fewest_seconds(model, clip, seconds=seconds, budget=budget)
    ]
    if all(block is not None for block in blocks):
        questions.append(lambda: fewest_edges(model, clip, seconds=seconds, budget=budget))
    if all(block is not None and block.gated for block in blocks):
        questions += [lambda: gate_shift(model, clip), lambda: gate_shift_by_frame(model, clip)]
    answers = []
    for number, question in enumerate(questions):
        progress(number, len(questions))
        answers.append(question())
    progress(len(questions), len(questions))
    return answers


def fewest_seconds(
    model: GMSAClassifier, clip: Clip, *, seconds: Number = SECONDS, budget: int = BUDGET
) -> Counterfactual:
    """The fewest pieces of some seconds whose frames must be dropped, of all streams, for another class to come first.

    Args:
        model, clip, seconds, budget: see `counterfactuals`.

    Raises:
        EditError: pieces shorter than a frame.
    """
    case = _Case(model, clip)
    windows = windows_of(case.clip, seconds)
    spans = [case.run.clock.span(window) for window in windows]

    def margins(sets: Sequence[tuple[int, ...]]) -> Float[np.ndarray, " sets"]:
        valid = torch.ones(len(sets), case.run.clock.frames, dtype=torch.bool, device=case.run.batch.valid.device)
        for row, pieces in enumerate(sets):
            for piece in pieces:
                valid[row, spans[piece]] = False
        whole = ~valid.any(1)
        valid[whole] = True
        result = case.margins(case.dropped_logits(valid))
        result[whole.cpu().numpy()] = np.inf  # with nothing left there is no answer
        return result

    result = fewest_set(len(windows), margins, budget)
    chosen = [windows[piece] for piece in result.pieces or ()]
    edits = tuple(DropFrames("*/input", span) for span in chosen)
    return case.answer("fewest seconds to take out", chosen, result, edits, f"pieces of {seconds:g} s")


def fewest_edges(
    model: GMSAClassifier, clip: Clip, *, seconds: Number = SECONDS, budget: int = BUDGET
) -> Counterfactual:
    """The fewest bundles of edges, from the queries of one window to the keys of another, that must be knocked out.

    A bundle is knocked out before the softmax in every head of every branch, layer and stream.

    Args:
        model, clip, seconds, budget: see `counterfactuals`.

    Raises:
        EditError: windows shorter than a frame.
        ArgumentError: the control, which has no attention.
    """
    case = _Case(model, clip)
    case.check_attention()
    windows = windows_of(case.clip, seconds)
    pairs = [(query, key) for query in windows for key in windows]

    def edits_of(pieces: Sequence[int]) -> tuple[Edit, ...]:
        return tuple(KnockOut("*/*/*/weights", *pairs[piece]) for piece in pieces)

    spans = [case.run.clock.span(window) for window in windows]

    def margins(sets: Sequence[tuple[int, ...]]) -> Float[np.ndarray, " sets"]:
        return np.array([case.margin_without(_edges(each, spans, case.run.clock.frames)) for each in sets])

    result = fewest_set(len(pairs), margins, budget)
    chosen = [pairs[piece] for piece in result.pieces or ()]
    texts = [f"{_span(query)} -> {_span(key)}" for query, key in chosen]
    edits = edits_of(result.pieces or ())
    return case.answer("fewest edges to knock out", texts, result, edits, f"bundles of {seconds:g} x {seconds:g} s")


def gate_shift(model: GMSAClassifier, clip: Clip) -> Counterfactual:
    """The smallest number that, added to every gate of the global branch and taken from the local ones', does it.

    Gates stay within 0 and 1. Shifts are tried in steps of 1 / `SHIFTS` on both sides, and the first that does it is
    narrowed by bisection.

    Args:
        model, clip: see `counterfactuals`.

    Raises:
        ArgumentError: a model without gates.
    """
    case = _Case(model, clip)
    case.check_gates()

    def margin(shift: float) -> float:
        return case.shifted_margin({stream: torch.tensor(shift) for stream in case.run.model.encoders})

    question = "smallest shift of all gates"
    steps = sorted((sign * step / SHIFTS for step in range(1, SHIFTS + 1) for sign in (1, -1)), key=abs)
    first = next((shift for shift in steps if margin(shift) < 0), None)
    if first is None:
        return case.nothing(question, "of 1", f"none of {2 * SHIFTS} shifts up to 1 does it")
    good, bad = first, first - np.sign(first) / SHIFTS
    for _ in range(BISECTIONS):
        middle = (good + bad) / 2
        good, bad = (middle, bad) if margin(middle) < 0 else (good, middle)
    edits = case.gate_edits({stream: torch.tensor(good) for stream in case.run.model.encoders})
    answer = f"global gates {good:+.3f}, local gates {-good:+.3f}"
    proof = f"steps of {1 / SHIFTS:g} tried, then bisection"
    return case.verified(question, answer, abs(good), "of 1", proof, edits)


def gate_shift_by_frame(model: GMSAClassifier, clip: Clip) -> Counterfactual:
    """The smallest change of the gates, frame by frame of each stream, in Euclidean norm, as far as gradients find it.

    Args:
        model, clip: see `counterfactuals`.

    Raises:
        ArgumentError: a model without gates.

    Source:
        Moosavi-Dezfooli et al., "DeepFool", 2016: steps to the nearest boundary of the linearised model.
    """
    case = _Case(model, clip)
    case.check_gates()
    question = "smallest shift of gates by frame"
    shifts = {stream: torch.zeros(case.run.clock.frames) for stream in case.run.model.encoders}
    for _ in range(STEPS):
        margin, slopes = case.margin_slopes(shifts)
        if margin < 0:
            break
        squared = sum(float(slope.square().sum()) for slope in slopes.values())
        if squared == 0:
            break
        step = (margin + 1e-4) * (1 + OVERSHOOT) / squared
        shifts = {stream: (shift - step * slopes[stream]).clamp(-1, 1) for stream, shift in shifts.items()}
    if case.shifted_margin(shifts) >= 0:
        return case.nothing(question, "of 1", f"none found in {STEPS} steps of a gradient search")
    good, bad = 1.0, 0.0
    for _ in range(BISECTIONS):
        middle = (good + bad) / 2
        less = {stream: middle * shift for stream, shift in shifts.items()}
        good, bad = (middle, bad) if case.shifted_margin(less) < 0 else (good, middle)
    shifts = {stream: good * shift for stream, shift in shifts.items()}
    whole = torch.cat(list(shifts.values()))
    place = int(whole.abs().argmax())
    stream = list(shifts)[place // case.run.clock.frames]
    second = place % case.run.clock.frames * case.run.clock.seconds
    most = f"{float(whole[place]):+.3f} ({stream}, {second:g} s)"
    answer = f"by {float(whole.abs().mean()):.3f} on average, at most {most}"
    size = float(whole.square().mean().sqrt())
    proof = "best found by gradients"
    return case.verified(question, answer, size, "of 1, root mean square", proof, case.gate_edits(shifts))


class _Case:
    """One clip in one model, and the class that comes first."""

    def __init__(self, model: GMSAClassifier, clip: Clip) -> None:
        self.run = EditRun(model, [clip])
        self.clip, self.names = self.run.clips[0], model_vocabulary(model).names
        if len(self.names) < 2:
            raise EditError(f"a model of {len(self.names)} class; another class can come first only among several")
        logits = self.run.clean.logits
        self.top = int(logits[0].argmax())
        self.before = self.names[self.top]

    def margins(self, logits: Float[Tensor, "rows classes"]) -> Float[np.ndarray, " rows"]:
        """Logit of the class that came first less that of the best other."""
        return self._margins(logits).detach().double().cpu().numpy()

    def dropped_logits(self, valid: Bool[Tensor, "rows frames"]) -> Float[Tensor, "rows classes"]:
        """Logits without the frames that are not valid."""
        batch, parts = self.run.batch, []
        with standard_contexts(), torch.no_grad():
            for some in valid.split(max(1, FRAMES_TOGETHER // valid.shape[1])):
                features = {name: each.expand(len(some), -1, -1) for name, each in batch.features.items()}
                parts.append(self.run.model(Batch(features, some)))
        return torch.cat(parts)

    def margin_without(self, edges: Bool[Tensor, "query key"]) -> float:
        """The margin without some edges of every map: all knock-outs in one pass."""
        with standard_contexts():
            logits = self.run.model.trace(self.run.batch, False, _Everywhere("mask", _without(edges))).logits
        return float(self._margins(logits)[0])

    def check_attention(self) -> None:
        for stream in self.run.model.encoders:
            attention_block(self.run.model, stream)

    def check_gates(self) -> None:
        for stream in self.run.model.encoders:
            block = attention_block(self.run.model, stream)
            if not block.gated:
                raise ArgumentError(f"{type(block).__name__} has no gates to shift; GateAtt and GateOp have")

    def shifted_margin(self, shifts: dict[str, Tensor]) -> float:
        return float(self._shifted(shifts, grad=False))

    def margin_slopes(self, shifts: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
        """The margin after some shifts, and its gradient by them."""
        leaves = {stream: shift.detach().clone().requires_grad_() for stream, shift in shifts.items()}
        with torch.enable_grad():
            margin = self._shifted(leaves, grad=True)
            slopes = torch.autograd.grad(margin, list(leaves.values()))
        return float(margin.detach()), dict(zip(leaves, slopes, strict=True))

    def gate_edits(self, shifts: dict[str, Tensor]) -> tuple[Edit, ...]:
        """Shifts as patches of the gates of every layer, in order: a gate's own value follows from those before it."""
        edits: list[Edit] = []
        for stream, encoder in self.run.model.encoders.items():
            for layer in range(len(encoder.layers)):
                site = Site(stream, "gate", layer)
                value = self.run.trace(edits, [site]).watched[site.stage]
                edits.append(Patch(site, _shift(value, shifts[stream])))
        return tuple(edits)

    def answer(
        self, question: str, chosen: Sequence[Seconds | str], result: FewestSet, edits: tuple[Edit, ...], pieces: str
    ) -> Counterfactual:
        """Of a search for the fewest pieces."""
        unit = "pieces"
        if result.pieces is None:
            tried = f"; every set of up to {result.proven} tried" if result.proven else ""
            return self.nothing(question, unit, f"none found among {result.tried} sets of {pieces}{tried}")
        texts = [each if isinstance(each, str) else _span(each) for each in chosen[:MOST_NAMED]]
        texts += [f"and {len(chosen) - MOST_NAMED} more"] if len(chosen) > MOST_NAMED else []
        sure = "proven the fewest" if result.minimal else f"best found; no {result.proven} or fewer do it"
        proof = f"{sure}, of {pieces}, {result.tried} sets tried"
        return self.verified(question, ", ".join(texts), float(len(chosen)), unit, proof, edits)

    def verified(
        self, question: str, answer: str, size: float, unit: str, proof: str, edits: tuple[Edit, ...]
    ) -> Counterfactual:
        """An answer whose edits were passed through the model once more."""
        logits = self.run.trace(edits).logits
        margin = float(self.margins(logits)[0])
        after = self.names[int(logits[0].argmax())]
        return Counterfactual(question, answer, self.before, after, margin, size, unit, proof, edits)

    def nothing(self, question: str, unit: str, proof: str) -> Counterfactual:
        return Counterfactual(question, "", self.before, "", float("nan"), float("nan"), unit, proof)

    def _margins(self, logits: Float[Tensor, "rows classes"]) -> Float[Tensor, " rows"]:
        others = logits.clone()
        others[:, self.top] = -torch.inf
        return logits[:, self.top] - others.amax(1)

    def _shifted(self, shifts: dict[str, Tensor], grad: bool) -> Float[Tensor, ""]:
        with standard_contexts():
            # Of more than two branches the others keep their parts of what the first leaves.
            shifted = lambda at, gate: gate if at.branch else _shift(gate, shifts[at.stream])  # noqa: E731
            change = _Everywhere("gate", shifted)
            trace = self.run.model.trace(self.run.batch, grad, change)
        return self._margins(trace.logits)[0]


@dataclass(frozen=True)
class _Everywhere:
    """A change of one quantity in every stream, layer and branch."""

    quantity: str
    change: Callable[[Stage, Tensor], Tensor]

    def __call__(self, stage: Stage, value: Tensor) -> Tensor:
        return self.change(stage, value) if stage.quantity == self.quantity else value

    def of_layer(self, modality: str, layer: int) -> BlockEdit:
        return _LayerChange(self, modality, layer)

    def valid(self, modality: str, valid: Valid | None, frames: Float[Tensor, "batch frames _"]) -> Valid | None:
        return valid


@dataclass(frozen=True)
class _LayerChange:
    whole: _Everywhere
    modality: str
    layer: int

    def __call__(self, branch: str, quantity: str, value: Tensor) -> Tensor:
        return self.whole(Stage(self.modality, self.layer, branch, quantity), value)

    def touches(self, branch: str, quantities: Collection[str]) -> bool:
        return self.whole.quantity in quantities


def _without(edges: Bool[Tensor, "query key"]) -> Callable[[Stage, Tensor], Tensor]:
    return lambda stage, mask: mask & ~edges.to(mask.device)


def _edges(pieces: Sequence[int], spans: Sequence[slice], frames: int) -> Bool[Tensor, "query key"]:
    """The edges of some bundles: number q * windows + k is from the queries of window q to the keys of window k."""
    edges = torch.zeros(frames, frames, dtype=torch.bool)
    for piece in pieces:
        query, key = divmod(piece, len(spans))
        edges[spans[query], spans[key]] = True
    return edges


def _shift(gate: Tensor, shift: Tensor) -> Tensor:
    """Gates of pairs of frames, or of frames and features, with one shift, or one a query frame; within 0 and 1."""
    shift = shift.to(gate)
    if shift.ndim:
        shift = shift[:, None]  # frames are the last axis but one
    return (gate + shift).clamp(0, 1)


def _span(span: Seconds) -> str:
    return f"{span[0]:g}..{span[1]:g} s"
