"""What a run tells: a CSV file, TensorBoard events and a line of progress."""

from __future__ import annotations

import csv
import io
import time
from contextlib import ExitStack
from pathlib import Path

from gmsa_models.data.atomic import cannot_write, replaced_when_done
from gmsa_models.progress import progress_bar

__all__ = ["SCORES", "TrainingLog", "Values"]

COLUMNS = (
    "step", "epoch", "videos", "seconds", "learning_rate", "loss", "gradient_norm", "videos_per_second",
)  # fmt: skip
SCORES = ("gap", "map", "perr", "hit_at_1", "videos", "unlabelled")
_WRITTEN = {"gap": "GAP", "map": "MAP"}  # in the line of progress; of other scores the first, under its name

Values = dict[str, int | float]


class TrainingLog:
    """One line of `metrics.csv` and one set of TensorBoard scalars a call; a progress bar in a terminal.

    A run that is taken up again at a step first drops what it had logged after that step.
    """

    def __init__(
        self, directory: Path, steps: int, start: int, progress: bool, scores: tuple[str, ...] = SCORES
    ) -> None:
        self.path = directory / "metrics.csv"
        self.columns = (*COLUMNS, *(f"validation_{name}" for name in scores))
        self._drop_after(start)
        self._stack = ExitStack()
        self._file = self._stack.enter_context(self.path.open("a", newline="", encoding="utf-8"))
        self._writer = csv.DictWriter(self._file, self.columns)
        from tensorboardX import SummaryWriter

        self._board = SummaryWriter(str(directory / "tensorboard"), purge_step=start + 1 if start else None)
        self._stack.callback(self._board.close)
        self._bar = self._stack.enter_context(_Bar(steps, start)) if progress else None

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def write(self, values: Values) -> None:
        """Log some of `columns`, `step` among them."""
        try:
            self._writer.writerow(values)
            self._file.flush()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        for name, value in values.items():
            if name not in ("step", "epoch", "videos", "seconds"):
                group = "validation" if name.startswith("validation_") else "training"
                self._board.add_scalar(f"{group}/{name.removeprefix('validation_')}", value, values["step"])
        self._board.flush()
        if self._bar is not None:
            self._bar.show(values)

    def advance(self, step: int) -> None:
        """Move the progress bar."""
        if self._bar is not None:
            self._bar.advance(step)

    def _drop_after(self, step: int) -> None:
        before = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        lines, text = csv.DictReader(io.StringIO(before)), io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        # A line that a kill cut short has no step, or lacks its last columns.
        writer.writerows(line for line in lines if None not in line.values() and int(line["step"]) <= step)
        with replaced_when_done(self.path) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


class _Bar:
    """The progress bar with rate and time left; in a pipe or a file, a plain line for every log line."""

    def __init__(self, steps: int, start: int) -> None:
        self._steps, self._started, self._first = steps, time.monotonic(), start
        self._progress = progress_bar(note="{task.fields[note]}")
        self._console = self._progress.console
        self._task = self._progress.add_task("train", total=steps, completed=start, note="")
        self._scores = ""

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def advance(self, step: int) -> None:
        self._progress.update(self._task, completed=step)

    def show(self, values: Values) -> None:
        scores = {name.removeprefix("validation_"): value for name, value in values.items() if "validation_" in name}
        shown = [name for name in _WRITTEN if name in scores] or list(scores)[:1]
        self._scores = "".join(f"  {_WRITTEN.get(name, name)} {scores[name]:.4f}" for name in shown) or self._scores
        if "loss" not in values:
            return
        note = f"loss {values['loss']:.3f}  {values['videos_per_second']:.0f} videos/s{self._scores}"
        self._progress.update(self._task, note=note)
        if not self._console.is_terminal:
            step = int(values["step"])
            left = (time.monotonic() - self._started) / max(1, step - self._first) * (self._steps - step)
            self._console.print(f"step {step}/{self._steps}  {note}  {left / 60:.1f} min left", highlight=False)
