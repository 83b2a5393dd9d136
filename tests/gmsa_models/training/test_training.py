"""Training: it learns, resumes to the same bits, and two processes do what one does."""

import csv
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from references.training import RECIPE, VOCABULARY, Clips, tiny_clip, tiny_model, train

from gmsa_models import Batch, Clip, load, write_clips
from gmsa_models.data.clip import ClipError
from gmsa_models.errors import ArgumentError, ConfigError, TrainingError
from gmsa_models.evaluation.metrics import classification_metrics
from gmsa_models.evaluation.scoring import collation_of, evaluate, predict
from gmsa_models.feeding import Collation, TrainingClips, planned_batches, prefetched
from gmsa_models.training import loop as training
from gmsa_models.training.log import TrainingLog
from gmsa_models.training.loop import fit
from gmsa_models.training.recipe import Recipe

PROGRAM = Path(__file__).parents[2] / "references/training.py"
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Sums are bit-equal only where as many threads share them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_program(out_dir: Path, processes: int = 1, die_after: int = 0) -> int:
    command = [sys.executable, str(PROGRAM), str(out_dir), str(processes), str(die_after)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment())
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode


def environment() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load(path).state_dict()


def logged(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class TestFit:
    def test_learns_and_keeps_the_best(self, tmp_path: Path) -> None:
        clips, held_out = [tiny_clip(n) for n in range(60)], [tiny_clip(n) for n in range(60, 90)]
        recipe = Recipe(steps=60, batch_size=8, learning_rate=2e-2, warmup=5, log_every=20)
        before = evaluate(tiny_model(), held_out)["gap"]
        result = fit(tiny_model(), clips, held_out, recipe, tmp_path, progress=False, card={"licence": "none"})
        assert result.scores["gap"] > max(0.9, before)
        assert evaluate(load(result.path), held_out) == pytest.approx(result.scores)
        card = load(result.path).card
        assert card["recipe"] == recipe.to_dict()
        assert (card["training"]["clips"], card["training"]["steps"], card["licence"]) == (60, 60, "none")
        best = max(float(line["validation_gap"]) for line in logged(tmp_path) if line["validation_gap"])
        assert result.scores["gap"] == best
        losses = [float(line["loss"]) for line in logged(tmp_path) if line["loss"]]
        assert losses[-1] < 0.5 * losses[0]
        assert list((tmp_path / "tensorboard").glob("events*"))

    def test_files_train_as_clips_in_hand(self, tmp_path: Path) -> None:
        clips = [tiny_clip(n) for n in range(8)]
        write_clips(tmp_path / "clips.tfrecord", clips)
        # One batch holds all the clips, so that their order does not matter.
        recipe = Recipe(steps=3, batch_size=8, precision="64-true")
        from_file = fit(tiny_model(), tmp_path / "clips.tfrecord", None, recipe, tmp_path / "file", progress=False)
        in_hand = fit(tiny_model(), clips, None, recipe, tmp_path / "hand", progress=False)
        assert from_file.scores == {}
        for name, value in from_file.model.state_dict().items():
            torch.testing.assert_close(value, in_hand.model.state_dict()[name], atol=1e-9, rtol=0)

    def test_early_stopping(self, tmp_path: Path) -> None:
        everything = [replace(tiny_clip(n), labels=VOCABULARY.indices) for n in range(8)]  # every score is 1
        recipe = Recipe(steps=100, batch_size=4, validate_every=2, patience=3)
        result = fit(tiny_model(), everything, everything, recipe, tmp_path, progress=False)
        steps = [int(line["step"]) for line in logged(tmp_path) if line["validation_gap"]]
        assert steps == [2, 4, 6, 8]
        assert result.step == 2

    def test_average_of_the_weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        held = []

        def recording(path, run, progress, tensors):
            assert list(tensors["average"]) == list(tensors["model"])  # as in states of earlier versions
            held.append([tensors[part]["classifier.weight"].clone() for part in ("model", "average")])

        monkeypatch.setattr(training, "save_state", recording)
        recipe = Recipe(steps=4, batch_size=4, warmup=0, ema_decay=0.75, precision="64-true", save_every=1)
        expected = tiny_model().double().classifier.weight.detach()
        result = fit(tiny_model(), [tiny_clip(n) for n in range(8)], None, recipe, tmp_path, progress=False)
        for weight, average in held:
            expected = 0.75 * expected + 0.25 * weight
            torch.testing.assert_close(average, expected, atol=1e-12, rtol=0)
        assert torch.equal(result.model.classifier.weight, held[-1][1])

    def test_classes_start_at_the_initial_probability(self, tmp_path: Path) -> None:
        clips, model = [tiny_clip(n) for n in range(4)], tiny_model()
        fit(model, clips, None, Recipe(steps=1, batch_size=4, learning_rate=1e-9), tmp_path, progress=False)
        torch.testing.assert_close(model.classifier.bias.sigmoid(), torch.full((3,), 0.01), atol=1e-6, rtol=0)

    @pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
    def test_lower_precision(self, precision: str, tmp_path: Path) -> None:
        clips = [tiny_clip(n) for n in range(8)]
        recipe = Recipe(steps=2, batch_size=4, precision=precision)
        result = fit(tiny_model(), clips, clips, recipe, tmp_path, progress=False)
        assert all(value.isfinite().all() for value in result.model.state_dict().values())

    def test_leaves_the_random_state_alone(self, tmp_path: Path) -> None:
        before = torch.random.get_rng_state()
        clips = [tiny_clip(n) for n in range(4)]
        fit(tiny_model(dropout=0.5), clips, clips, Recipe(steps=2, batch_size=4), tmp_path, progress=False)
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_progress_says_rate_and_time_left(self, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        clips = [tiny_clip(n) for n in range(8)]
        fit(tiny_model(), clips, clips, Recipe(steps=2, batch_size=4, log_every=1), tmp_path)
        assert "videos/s" in (said := capsys.readouterr().err)
        assert "min left" in said

    def test_a_loss_that_is_not_finite_stops_the_run(self, tmp_path: Path) -> None:
        recipe = Recipe(steps=2, batch_size=1, learning_rate=1e38, warmup=0, log_every=2)
        with pytest.raises(TrainingError, match="loss is nan by step 2"):
            fit(tiny_model(), [tiny_clip(0)], None, recipe, tmp_path, progress=False)
        assert not (tmp_path / "model.safetensors").exists()

    def test_refuses(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match="3 training clips do not fill one batch of 4"):
            fit(tiny_model(), [tiny_clip(n) for n in range(3)], None, Recipe(batch_size=4), tmp_path)
        model = tiny_model()
        model.vocabulary = None
        with pytest.raises(ArgumentError, match="no vocabulary"):
            fit(model, [tiny_clip(0)], None, Recipe(batch_size=1), tmp_path)


class TestResume:
    def test_killed_and_resumed_equals_uninterrupted(self, tmp_path: Path) -> None:
        whole = train(tmp_path / "whole")
        # Killed twice, each time while it was training: the feeding thread dies in the middle of an epoch.
        assert run_program(tmp_path / "killed", die_after=70) == -signal.SIGKILL
        assert (tmp_path / "killed" / "state.pt").exists()
        assert run_program(tmp_path / "killed", die_after=45) == -signal.SIGKILL
        assert not (tmp_path / "killed" / "model.safetensors").exists()
        resumed = train(tmp_path / "killed")
        assert resumed.step == whole.step
        for name, value in weights_of(whole.path).items():
            assert torch.equal(value, weights_of(resumed.path)[name]), name
        steps = [(line["step"], line["loss"], line["validation_gap"]) for line in logged(tmp_path / "killed")]
        assert steps == [(line["step"], line["loss"], line["validation_gap"]) for line in logged(tmp_path / "whole")]

    def test_every_step_is_a_place_to_resume(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        recipe = replace(RECIPE, save_every=1, ema_decay=0.9)
        whole = train(tmp_path / "whole", recipe=recipe)
        stop_after = 0

        class StopError(Exception):
            pass

        save_state = training.save_state

        def stopping(path, run, progress, tensors):
            save_state(path, run, progress, tensors)
            if progress.step == stop_after:
                raise StopError

        monkeypatch.setattr(training, "save_state", stopping)
        for stop_after in range(1, 23, 2):  # noqa: B007, read by `stopping`
            with pytest.raises(StopError):
                train(tmp_path / "parts", recipe=recipe)
        stop_after = 0
        parts = train(tmp_path / "parts", recipe=recipe)
        for name, value in weights_of(whole.path).items():
            assert torch.equal(value, weights_of(parts.path)[name]), name

    def test_the_scale_of_a_float16_loss_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # On a CPU Fabric takes bfloat16 instead, so its float16 precision is put in by hand; it doubles every 3 steps.
        scalers = []

        def with_float16(**_) -> Fabric:
            scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)
            scalers.append(scaler)
            return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])

        monkeypatch.setattr(training, "Fabric", with_float16)
        recipe = replace(RECIPE, steps=8, precision="16-mixed", save_every=1)
        whole = train(tmp_path / "whole", recipe=recipe)

        class StopError(Exception):
            pass

        save_state = training.save_state

        def stopping(path, run, progress, tensors):
            save_state(path, run, progress, tensors)
            if progress.step == 4:
                raise StopError

        with monkeypatch.context() as patch:
            patch.setattr(training, "save_state", stopping)
            with pytest.raises(StopError):
                train(tmp_path / "parts", recipe=recipe)
        parts = train(tmp_path / "parts", recipe=recipe)
        assert [scaler.get_scale() for scaler in scalers] == [256.0, 128.0, 256.0]
        for name, value in weights_of(whole.path).items():
            assert torch.equal(value, weights_of(parts.path)[name]), name

    def test_a_finished_run_returns_its_result(self, tmp_path: Path) -> None:
        first = train(tmp_path)
        before = first.path.read_bytes()
        again = train(tmp_path)
        assert (again.scores, again.step, again.path.read_bytes()) == (first.scores, first.step, before)

    def test_another_run_is_refused(self, tmp_path: Path) -> None:
        train(tmp_path)
        with pytest.raises(TrainingError, match=r"holds a run with other recipe \(learning_rate 0.003, now 0.0001\)"):
            train(tmp_path, recipe=replace(RECIPE, learning_rate=1e-4))

    def test_a_broken_state_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "state.pt").write_bytes(b"nonsense")
        with pytest.raises(TrainingError, match="cannot be read"):
            train(tmp_path)

    def test_a_half_written_line_of_the_log_is_dropped(self, tmp_path: Path) -> None:
        train(tmp_path)
        lines = logged(tmp_path)
        text = (tmp_path / "metrics.csv").read_text()
        (tmp_path / "metrics.csv").write_text(text + "24,1,9")
        with TrainingLog(tmp_path, steps=23, start=23, progress=False):
            pass
        assert logged(tmp_path) == lines


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    assert run_program(tmp_path / "two", processes=2) == 0
    one = train(tmp_path / "one", recipe=replace(RECIPE, length_window=1))
    two = weights_of(tmp_path / "two" / "model.safetensors")
    for name, value in weights_of(one.path).items():
        torch.testing.assert_close(two[name], value, atol=1e-6, rtol=0)
    assert load(tmp_path / "two" / "model.safetensors").card["validation"] == pytest.approx(one.scores, abs=1e-6)
    assert load(tmp_path / "two" / "model.safetensors").card["training"]["processes"] == 2
    with pytest.raises(TrainingError, match=r"other processes \(2, now 1\)"):  # it would take some clips twice
        train(tmp_path / "two", recipe=replace(RECIPE, length_window=1))


class TestFeeding:
    def test_raw_batch_is_the_batch(self) -> None:
        clips = [tiny_clip(n) for n in range(5)]
        raw, plain = collation_of(tiny_model())(clips).batch(), Batch.from_clips(clips, vocabulary=VOCABULARY)
        assert all(torch.equal(raw.features[name], plain.features[name]) for name in plain.features)
        assert torch.equal(raw.valid, plain.valid)
        assert torch.equal(raw.labels, plain.labels)
        assert raw.ids == plain.ids

    def test_floats_and_bytes_mix(self) -> None:
        clips = [tiny_clip(0), replace(tiny_clip(1), features={n: tiny_clip(1).floats(n) for n in ("visual", "audio")})]
        raw, plain = collation_of(tiny_model())(clips).batch(), Batch.from_clips(clips)
        assert all(torch.equal(raw.features[name], plain.features[name]) for name in plain.features)

    def test_long_clips_are_cut_and_odd_ones_named(self) -> None:
        collate = Collation(("visual",), VOCABULARY, max_frames=2)
        assert collate([tiny_clip(0)]).valid.shape == (1, 2)
        odd = Clip("odd", {"visual": np.zeros((3, 9), np.uint8)})
        with pytest.raises(ClipError, match="'odd': 'visual' is 9 wide; clip 'clip0' has 7"):
            collate([tiny_clip(0), odd])
        with pytest.raises(KeyError, match="no modality 'visual'"):
            collate([Clip("deaf", {"audio": np.zeros((3, 5), np.uint8)})])

    @pytest.mark.parametrize("window", [1, 3, 16])
    def test_a_plan_can_be_entered_anywhere(self, window: int) -> None:
        def names(start: int) -> list[list[str]]:
            stream = TrainingClips(Clips(47), seed=5)
            plan = planned_batches(stream, batch_size=4, window=window, seed=5, epoch=2, start=start)
            return [[clip.id for clip in clips] for clips in plan]

        whole = names(0)
        assert len(whole) == 47 // 4
        assert len({name for batch in whole for name in batch}) == 44
        assert all(names(start) == whole[start:] for start in range(12))

    def test_batches_hold_clips_of_like_length(self) -> None:
        def padding(window: int) -> int:
            plan = planned_batches(TrainingClips(Clips(128)), batch_size=8, window=window, seed=0, epoch=0)
            return sum(max(clip.frames for clip in clips) - clip.frames for clips in plan for clip in clips)

        assert padding(16) < 0.3 * padding(1)

    def test_shares_are_disjoint_and_equal(self) -> None:
        shares = [[clip.id for clip in TrainingClips(Clips(23), 1, rank, 3)(epoch=4)] for rank in range(3)]
        assert [len(share) for share in shares] == [7, 7, 7]
        assert len({name for share in shares for name in share}) == 21
        assert shares[0] != [clip.id for clip in TrainingClips(Clips(23), 1, 0, 3)(epoch=5)]

    def test_prefetched_raises_the_errors_of_its_source(self) -> None:
        def source():
            yield 1
            raise TrainingError("broken shard")

        items = prefetched(source())
        assert next(items) == 1
        with pytest.raises(TrainingError, match="broken shard"):
            next(items)

    def test_prefetched_can_be_left(self) -> None:
        items = prefetched(iter(range(1000)), depth=2)
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        items.close()


class TestEvaluate:
    def test_is_the_metrics_of_the_scores_whatever_the_batch(self) -> None:
        model, clips = tiny_model(), [tiny_clip(n) for n in range(31)]
        batch = Batch.from_clips(clips, vocabulary=VOCABULARY)
        expected = {
            **classification_metrics(model.eval()(batch).sigmoid(), batch.labels),
            "unlabelled": int((~batch.labels.bool().any(1)).sum()),
        }
        expected["videos"] = 31 - expected["unlabelled"]
        for batch_size in (1, 7, 64):
            assert evaluate(model, clips, batch_size=batch_size) == pytest.approx(expected, abs=1e-6)

    def test_predictions_keep_the_order_of_the_source(self) -> None:
        model, clips = tiny_model(), [tiny_clip(n) for n in range(11)]
        found = predict(model, clips, batch_size=3)
        assert found.ids == tuple(clip.id for clip in clips)
        batch = Batch.from_clips(clips, vocabulary=VOCABULARY)
        np.testing.assert_allclose(found.scores, model.eval()(batch).sigmoid().detach().numpy(), atol=1e-6)
        assert (found.labels == batch.labels.numpy()).all()
        assert predict(model, clips, limit=4).ids == found.ids[:4]

    def test_training_mode_is_put_back(self) -> None:
        model = tiny_model(dropout=0.5).train()
        first, second = (predict(model, [tiny_clip(1)]).scores for _ in range(2))
        assert (first == second).all()
        assert model.training

    def test_nothing_to_evaluate(self) -> None:
        assert predict(tiny_model(), [tiny_clip(0)], limit=0).scores.shape == (0, 3)
        with pytest.raises(ArgumentError, match="no videos"):
            evaluate(tiny_model(), [tiny_clip(0)], limit=0)
        with pytest.raises(ArgumentError, match="empty list"):
            evaluate(tiny_model(), [])


class TestRecipe:
    def test_schedule(self) -> None:
        recipe = Recipe(learning_rate=0.5, warmup=4)
        assert [recipe.rate(step, 12) for step in (0, 1, 3, 4)] == [0.125, 0.25, 0.5, 0.5]
        assert recipe.rate(8, 12) == pytest.approx(0.25)
        assert recipe.rate(12, 12) == pytest.approx(0.0)

    def test_epochs_become_steps(self, tmp_path: Path) -> None:
        clips = [tiny_clip(n) for n in range(9)]
        result = fit(tiny_model(), clips, None, Recipe(epochs=2.5, batch_size=4), tmp_path, progress=False)
        assert result.step == 5

    def test_round_trip(self) -> None:
        assert Recipe.from_dict(RECIPE.to_dict()) == RECIPE
        with pytest.raises(ConfigError, match="unknown rate; known: steps, epochs"):
            Recipe.from_dict({"rate": 1.0})

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("batch_size", 0), ("steps", 0), ("epochs", 0.0), ("learning_rate", float("nan")), ("warmup", -1),
            ("weight_decay", -0.1), ("clip_norm", 0.0), ("precision", "8-true"), ("initial_probability", 1.0),
            ("ema_decay", 0.0), ("patience", 0), ("monitor", "loss"), ("length_window", 0), ("save_every", 0),
        ],
    )  # fmt: skip
    def test_refuses(self, field: str, value: object) -> None:
        with pytest.raises(ConfigError, match=f"{field} is {value!r}; expected"):
            Recipe(**{field: value})
