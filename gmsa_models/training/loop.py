"""Training: fit() a model to clips, on one process or many, killed and resumed at will."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from gmsa_models.checkpoints.files import check_savable, load, save
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.atomic import replaced_when_done
from gmsa_models.data.errors import OnSkip
from gmsa_models.data.paths import skip_handler
from gmsa_models.errors import ArgumentError, TrainingError
from gmsa_models.feeding import ClipShare, ClipSource, RawBatch, TrainingClips, planned_batches, prefetched
from gmsa_models.training.average import exponential_average
from gmsa_models.training.card import card_of_run
from gmsa_models.training.divergence import divergence, first_not_finite
from gmsa_models.training.folder import alone_in, check_kept
from gmsa_models.training.identity import VALIDATION, identity_of
from gmsa_models.training.log import TrainingLog, Values
from gmsa_models.training.objective import parameter_groups
from gmsa_models.training.recipe import Recipe
from gmsa_models.training.result import TrainingResult
from gmsa_models.training.state import TrainingProgress, earlier_fingerprint, load_state, save_state
from gmsa_models.training.task import Classification, TrainingTask

__all__ = ["fit", "run_task"]


def fit(
    model: GMSAClassifier,
    train_source: ClipSource,
    validation_source: ClipSource | None,
    recipe: Recipe,
    out_dir: str | Path,
    *,
    devices: int | str = 1,
    accelerator: str = "cpu",
    num_nodes: int = 1,
    strategy: str = "auto",
    progress: bool = True,
    card: dict[str, Any] | None = None,
    on_error: str = "fail",
    on_skip: OnSkip | None = None,
    part: ClipShare | None = None,
) -> TrainingResult:
    """Train a model, and save it with its card to `out_dir/model.safetensors`.

    `out_dir` also gets `metrics.csv`, TensorBoard events, `best.safetensors` (at each better validation) and
    `state.pt`. The same call on the same `out_dir` goes on where a killed run was last saved and comes to the same
    weights; on a finished one it returns the result. The weights kept are those of the best validation, or the last
    ones where there are no validation clips. A finished `model.safetensors` is never written again: a run without
    validation that is given some later has its scores in `validation.json`. One call at a time works in `out_dir`.

    Args:
        model: with a vocabulary; its weights are where training starts, and are changed.
        train_source: TFRecord files or globs, or a sequence of clips in hand. Labels outside the model's vocabulary
            are dropped; a clip without any left is a negative of every class.
        validation_source: anything `read_clips` takes, or clips in hand, at least one of them with a label of the
            vocabulary; None: no validation.
        recipe: everything else that decides the weights.
        out_dir: made if it is not there.
        devices, accelerator, num_nodes, strategy: as Lightning Fabric has them. The batch is divided among processes.
        progress: show progress on the standard error.
        card: what to add to the model's card: name, command, licence of the data.
        on_error: "fail" raises the first error; "skip" reads another clip of the process's share in the place of one
            that cannot be read or does not fit the model, the same one in every run.
        on_skip: with "skip", called with each error, in every epoch again; default: a `SkippedWarning`.
        part: of the training clips, the others are not used; None: all are.

    Raises:
        TrainingError: too few clips for one batch, a batch that the processes cannot share evenly, or validation clips
            that define no score; `out_dir` holds another run: another model, recipe, number of processes, other data or
            classes; the loss or the weights are not finite any more; neither is saved.
        OutputError: another process is training there.
        CheckpointError: class names or a card that could be saved and not loaded.
        OSError: `out_dir` cannot be written.
        ArgumentError: the model has none.
        TFRecordError, UnfitClipError: a clip that cannot be read or does not fit the model.
    """
    return run_task(
        Classification(model), train_source, validation_source, recipe, out_dir, devices=devices,
        accelerator=accelerator, num_nodes=num_nodes, strategy=strategy, progress=progress, card=card,
        on_error=on_error, on_skip=on_skip, part=part,
    )  # fmt: skip


def run_task(
    task: TrainingTask,
    train_source: ClipSource,
    validation_source: ClipSource | None,
    recipe: Recipe,
    out_dir: str | Path,
    *,
    devices: int | str = 1,
    accelerator: str = "cpu",
    num_nodes: int = 1,
    strategy: str = "auto",
    progress: bool = True,
    card: dict[str, Any] | None = None,
    on_error: str = "fail",
    on_skip: OnSkip | None = None,
    part: ClipShare | None = None,
) -> TrainingResult:
    """Do any task as `fit` does its own; arguments, guarantees and errors are its."""
    handler = skip_handler(on_error, on_skip)
    precision: Any = recipe.precision  # one of the literals that Fabric takes, which `Recipe` has checked
    fabric = Fabric(
        accelerator=accelerator, devices=devices, num_nodes=num_nodes, strategy=strategy, precision=precision
    )
    fabric.launch()
    with alone_in(fabric, Path(out_dir)):
        run = _Run(
            fabric, task, train_source, validation_source, recipe, Path(out_dir), dict(card or {}), handler, part
        )
        if not run.progress.finished:
            with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
                run.train(progress)
        return run.result()


class _Run:
    """One run: its objects, its loop, and what it leaves behind."""

    def __init__(
        self,
        fabric: Fabric,
        task: TrainingTask,
        train_source: ClipSource,
        validation_source: ClipSource | None,
        recipe: Recipe,
        directory: Path,
        card: dict[str, Any],
        on_skip: OnSkip | None,
        part: ClipShare | None,
    ) -> None:
        self.fabric, self.task, self.recipe, self.directory, self.card = fabric, task, recipe, directory, card
        self.validation_source, self.on_skip = validation_source, on_skip
        self.clips = TrainingClips(
            train_source, recipe.seed, fabric.global_rank, fabric.world_size, task.inputs(), on_skip, part
        )
        self.local_batch = _share(recipe.batch_size, fabric.world_size, len(self.clips))
        self.steps = recipe.steps or max(1, round(recipe.epochs * (len(self.clips) // recipe.batch_size)))
        self.validate_every = recipe.validate_every or max(1, self.steps // 10)
        self.identity = identity_of(task.identity(), recipe, self.clips, validation_source, on_skip)
        self.progress, self.same_validation = TrainingProgress(), True
        self.losses: list[Tensor] = []  # of the steps since the last line of the log
        self._prepare()
        self.was_finished, self.saved_step = self.progress.finished, self.progress.step
        self._check()

    def _prepare(self) -> None:
        """Fabric's model and optimiser, and the state of the run that this one goes on from."""
        task = self.task
        earlier = earlier_fingerprint(task.model, self.recipe, len(self.clips))  # of the weights as they were given
        task.begin(self.recipe)
        # A fused optimiser takes float16's scale off the gradients itself, too late for them to be clipped.
        optimizer = torch.optim.AdamW(
            parameter_groups(task.trained, self.recipe.weight_decay),
            lr=self.recipe.learning_rate,
            fused=self.recipe.precision != "16-mixed",
        )
        self.objective, self.optimizer = self.fabric.setup(task.objective(), optimizer)
        self.average = (
            None if self.recipe.ema_decay is None else exponential_average(task.trained, self.recipe.ema_decay)
        )
        if state := load_state(self.directory / "state.pt", self.identity, earlier):
            self.progress, tensors, self.same_validation = state
            task.trained.load_state_dict(tensors["model"])
            self.optimizer.load_state_dict(tensors["optimizer"])
            if scale := tensors.get("precision"):
                self.fabric.strategy.precision.load_state_dict(scale)
            self.losses = list(tensors["losses"])
            if self.average is not None:
                self.average.module.load_state_dict(tensors["average"])

    def _check(self) -> None:
        """Refuse, before the first step, what would only show when the model is saved or scored."""
        if self.validation_source is not None:
            self.task.check(self.validation_source, self.on_skip)
        if self.was_finished:
            return
        check_kept(self.directory, self.task.file, self.progress.best is not None)
        model, card = self.task.model, self.task.model.card
        model.card = self._card({**dict.fromkeys(self.task.scores, 1 / 3), "videos": 10**9}, self.steps, 1e9)
        check_savable(model, self.directory / self.task.file)
        model.card = card

    @property
    def weights(self) -> dict[str, Tensor]:
        """The tensors that are trained, as they are now."""
        return self.task.trained.state_dict()

    @property
    def averages(self) -> dict[str, Tensor]:
        """Their averages; empty without averaging."""
        return {} if self.average is None else self.average.module.state_dict()

    def train(self, show: bool) -> None:
        """The loop: a step, then what is due after it."""
        at, recipe, first = self.progress, self.recipe, self.fabric.is_global_zero
        self.objective.train()
        begun, marked = time.monotonic() - at.seconds, (time.monotonic(), at.step)
        log = TrainingLog(self.directory, self.steps, at.step, show, self.task.scores) if first else None
        try:
            for batch in self._batches():
                loss, norm = self._step(batch)
                self.losses.append(loss)
                at.seconds = time.monotonic() - begun
                if at.step % recipe.log_every == 0 or at.step == self.steps:
                    if log:
                        log.write(self._line(norm, marked))
                        marked = (time.monotonic(), at.step)
                    self._check_finite()
                if at.step % recipe.log_every == 0:
                    self.losses = []
                if at.step % self.validate_every == 0 or at.step == self.steps:
                    self._validate(log)
                at.finished = at.step >= self.steps or at.stale >= (recipe.patience or self.steps + 1)
                if at.step % recipe.save_every == 0 or at.finished:
                    self._save_state()
                if log:
                    log.advance(at.step)
                if at.finished:
                    break
        finally:
            if log:
                log.__exit__()

    def _batches(self) -> Iterator[RawBatch]:
        """Batches from where the run stands, epoch after epoch; `progress` moves with them."""
        at, collate = self.progress, self.task.collation()
        while True:
            plan = planned_batches(
                self.clips, batch_size=self.local_batch, window=self.recipe.length_window, seed=self.recipe.seed,
                epoch=at.epoch, start=at.batch,
            )  # fmt: skip
            for batch in prefetched(collate(clips) for clips in plan):
                at.batch += 1
                yield batch
            at.epoch, at.batch = at.epoch + 1, 0

    def _step(self, batch: RawBatch) -> tuple[Tensor, Tensor | float]:
        recipe, at, device = self.recipe, self.progress, self.fabric.device
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(at.step, self.steps)
        if self.task.model.config.dropout > 0:
            # Dropout of a step depends on the seed, the step and the process only, so no random state is saved.
            torch.manual_seed((recipe.seed * 1_000_003 + at.step) * 4099 + self.fabric.global_rank)
        seed = (recipe.seed, at.step, self.fabric.global_rank)
        loss = self.objective(*self.task.arguments(batch, device, seed))
        self.fabric.backward(loss)
        norm = None
        if recipe.clip_norm is not None:
            # A gradient that is not finite is float16's scaler's business, or shows in the loss of the next log line.
            norm = self.fabric.clip_gradients(
                self.objective, self.optimizer, max_norm=recipe.clip_norm, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        at.step += 1
        if self.average is not None:
            self.average.update_parameters(self.task.trained)
        return loss.detach(), float("nan") if norm is None else norm

    def _line(self, norm: Tensor | float, marked: tuple[float, int]) -> Values:
        at, recipe = self.progress, self.recipe
        seconds, done, loss = time.monotonic() - marked[0], at.step - marked[1], float(torch.stack(self.losses).mean())
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss}")
        return {
            "step": at.step,
            "epoch": at.epoch,
            "videos": at.step * recipe.batch_size,
            "seconds": round(at.seconds, 3),
            "learning_rate": recipe.rate(at.step - 1, self.steps),
            "loss": loss,
            "gradient_norm": float(norm),
            "videos_per_second": round(done * recipe.batch_size / max(seconds, 1e-9), 2),
        }

    def _validate(self, log: TrainingLog | None) -> None:
        """Score the weights that would be kept, and keep them if they are the best so far."""
        if self.validation_source is None:
            return
        at = self.progress
        self._check_finite()
        kept = self._swap()
        try:
            scores = self.task.score(self.fabric, self.validation_source, self.recipe.batch_size, self.on_skip)
        except ArgumentError as error:  # finite weights, so large that the scores overflow
            raise self._diverged(f"the validation clips have no scores ({error})") from error
        at.stale += 1
        monitor = self.recipe.monitor
        if not math.isfinite(score := scores[monitor]):
            raise TrainingError(
                f"{monitor} is {score} on the validation clips, so it cannot choose the weights that are kept; give "
                "others, or another monitor"
            )
        if at.best is None or score > at.best:
            at.best, at.best_step, at.stale = score, at.step, 0
            self._save_model("best.safetensors", scores)
        if log:
            log.write({"step": at.step, **{f"validation_{name}": value for name, value in scores.items()}})
        self._swap(kept)

    def _swap(self, weights: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Put the averaged weights (or `weights`) into the model; return what was there."""
        if self.average is None:
            return {}
        replaced = {name: value.clone() for name, value in self.weights.items()}
        self.task.trained.load_state_dict(weights or self.averages)
        return replaced

    def _check_finite(self) -> None:
        """Refuse to go on, or to save, where training has diverged; every process finds the same."""
        if name := first_not_finite(self.weights, self.averages, self.optimizer.state_dict()["state"]):
            raise self._diverged(f"{name} is not finite")

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(divergence(what, self.progress, self.directory, self.saved_step))

    def _save_state(self) -> None:
        self._check_finite()
        if self.fabric.is_global_zero:
            tensors = {
                "model": self.weights,
                "optimizer": self.optimizer.state_dict(),
                "average": self.averages,
                "precision": self.fabric.strategy.precision.state_dict(),  # the scale of the loss, in float16
                "losses": [loss.cpu() for loss in self.losses],
            }
            save_state(self.directory / "state.pt", self.identity, self.progress, tensors)
        self.saved_step = self.progress.step

    def _save_model(self, name: str, scores: Values) -> None:
        if self.fabric.is_global_zero:
            self.task.model.card = self._card(scores, self.progress.step, self.progress.seconds)
            save(self.task.model, self.directory / name)

    def _card(self, scores: Values, step: int, seconds: float) -> dict[str, Any]:
        training = {"step": step, "steps": self.steps, **self.task.facts(seconds)}
        run = card_of_run(self.recipe, self.clips, self.task.model.config.modalities, training, scores)
        return {**self.task.model.card, **self.card, **run}

    def result(self) -> TrainingResult:
        """Write the finished model once, and load it."""
        path = self.directory / self.task.file
        if self.fabric.is_global_zero and not (self.was_finished and path.exists()):
            if self.progress.best is None:
                self._swap()
                self._save_model(path.name, {})
            else:
                save(load(self.directory / "best.safetensors"), path)
        self.fabric.barrier()
        model = load(path)
        scores = model.card["validation"]
        if self.validation_source is not None and self.was_finished and not self.same_validation:
            scores = self._score_later(model, self.validation_source)
        return TrainingResult(
            model=model,
            path=path,
            scores=scores,
            step=model.card["training"]["step"],
            seconds=self.progress.seconds,
            trained=not self.was_finished,
        )

    def _score_later(self, model: GMSAClassifier, source: ClipSource) -> Values:
        """Score a finished model on validation clips that its card does not know; its file stays as it is."""
        self._swap()
        self.task.model.load_state_dict(model.state_dict())
        scores = self.task.score(self.fabric, source, self.recipe.batch_size, self.on_skip)
        if self.fabric.is_global_zero:
            about = {"model_sha256": model.origin["sha256"], "data": self.identity[VALIDATION], "scores": scores}
            with replaced_when_done(self.directory / "validation.json") as temporary:
                temporary.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        return scores


def _share(batch_size: int, processes: int, clips: int) -> int:
    if batch_size % processes:
        raise TrainingError(f"a batch of {batch_size} clips cannot be divided evenly among {processes} processes")
    if clips < batch_size:
        raise TrainingError(f"{clips} training clips do not fill one batch of {batch_size}")
    return batch_size // processes
