"""A training given again on its folder, with other inputs or beside another one; and what is never saved."""

import io
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from references.training import RECIPE, VOCABULARY, tiny_clip, tiny_model
from small_models import small_model

from gmsa_models import Clip, Vocabulary, load, write_clips
from gmsa_models.checkpoints.files import save
from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.data import fingerprint
from gmsa_models.data.catalog.catalog import build_catalog
from gmsa_models.data.lock import LOCK, locked
from gmsa_models.data.tfrecord.files import ClipRecords
from gmsa_models.errors import ArgumentError, OutputError, TrainingError
from gmsa_models.evaluation.scoring import evaluate
from gmsa_models.training import loop as training
from gmsa_models.training import task
from gmsa_models.training.loop import fit
from gmsa_models.training.objective import parameter_groups
from gmsa_models.training.recipe import PRECISIONS
from gmsa_models.training.result import TrainingResult
from gmsa_models.training.state import TrainingProgress, save_state
from gmsa_models.training.state import fingerprint as earlier_fingerprint
from tests.gmsa_models.training.test_training import PROGRAM, ROOT, environment, logged

SHORT = replace(RECIPE, steps=8, validate_every=3, save_every=2, precision="32-true")
TRAINING, HELD_OUT, OTHERS = ([tiny_clip(n) for n in range(first, first + 16)] for first in (0, 100, 200))


# What the state of an optimiser counts its tensors by, in the files of runs that go on: these may not change places.
PROJECTIONS = ["query", "key", "value"]
MATRICES = {
    "baseline": [*PROJECTIONS, "output"],
    "share-att": [*PROJECTIONS, "output"],
    "gate-att": ["gate_global", "gate_local", *PROJECTIONS, "output"],
    "gate-op": [*PROJECTIONS, "output_global", "output_local", "gate_global", "gate_local"],
    "none": [],
}
VECTORS = {
    "baseline": [*PROJECTIONS, "output", "norm_attention", "norm_attention"],
    "share-att": [*PROJECTIONS, "output", "norm_attention", "norm_attention"],
    "gate-att": [*PROJECTIONS, "output", "norm_attention", "norm_attention"],
    "gate-op": ["output_bias", *PROJECTIONS, "norm_attention", "norm_attention"],
    "none": [],
}


@pytest.mark.parametrize("kind", MATRICES)
def test_the_optimiser_has_its_parameters_in_the_order_of_earlier_versions(kind):
    model = small_model(kind)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    matrices, vectors = ([names[id(one)] for one in group["params"]] for group in parameter_groups(model, 0.1))

    def short(name: str) -> str:
        return name.removesuffix(".weight").removesuffix(".bias").replace("layers.0.", "").replace("attention.", "")

    feed_forward = ["feed_forward.0", "feed_forward.2"]
    stream = [*MATRICES[kind], *feed_forward]
    encoders = [f"encoders.{stream_name}." for stream_name in ("visual", "audio")]
    assert [short(name) for name in matrices] == [f"{e}{name}" for e in encoders for name in stream] + ["classifier"]
    stream = [*VECTORS[kind], *feed_forward, "norm_feed_forward", "norm_feed_forward", "norm", "norm"]
    assert [short(name) for name in vectors] == [f"{e}{name}" for e in encoders for name in stream] + ["classifier"]
    ends = [name.rpartition(".")[2] for name in vectors if "norm" in name]
    assert ends == ["weight", "bias"] * (len(ends) // 2)


class StopError(Exception):
    """A kill, as far as a test in one process can have one."""


def run(folder: Path, clips=TRAINING, validation=HELD_OUT, names=VOCABULARY.names, **changes) -> TrainingResult:
    model = tiny_model()
    model.vocabulary = Vocabulary(VOCABULARY.dataset, VOCABULARY.indices, tuple(names))
    return fit(model, clips, validation, replace(SHORT, **changes), folder, progress=False)


def stopped_at(folder: Path, step: int, monkeypatch: pytest.MonkeyPatch, **given) -> None:
    save_state = training.save_state

    def stopping(path, run, progress, tensors):
        save_state(path, run, progress, tensors)
        if progress.step == step:
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_state", stopping)
        with pytest.raises(StopError):
            run(folder, **given)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


OTHER_INPUTS = [
    ({"clips": OTHERS}, r"other training data \(of other contents\)"),
    ({"clips": TRAINING[::-1]}, r"other training data \(of other contents\)"),
    ({"clips": [replace(clip, labels=(2,)) for clip in TRAINING]}, r"other training data \(of other contents\)"),
    ({"clips": TRAINING[:15]}, r"other training data \(clips 16, now 15\)"),
    ({"names": ("Cat", "Dog", "Cow")}, r"other classes \(of other contents\)"),
    ({"validation": OTHERS}, r"other validation data \(of other contents\)"),
    ({"validation": None}, r"other validation data \(clips in hand, now none\)"),
    ({"seed": 3, "warmup": 1}, r"other recipe \(warmup 3, now 1; seed 0, now 3\)"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("finished")).path.parent


class TestOtherInputs:
    @pytest.mark.parametrize(("given", "says"), OTHER_INPUTS)
    def test_a_finished_run_is_refused_and_left_as_it_is(self, finished: Path, given: dict, says: str) -> None:
        before = contents(finished)
        with pytest.raises(TrainingError, match=says):
            run(finished, **given)
        assert contents(finished) == before

    @pytest.mark.parametrize(("given", "says"), OTHER_INPUTS)
    def test_a_killed_run_is_refused(
        self, given: dict, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stopped_at(tmp_path, 4, monkeypatch)
        with pytest.raises(TrainingError, match=f"{tmp_path} holds a run with {says}; give what it was begun with"):
            run(tmp_path, **given)
        assert run(tmp_path).step == 8

    def test_other_validation_of_a_finished_run_names_the_command_that_scores(self, finished: Path) -> None:
        with pytest.raises(TrainingError, match=f"gmsa evaluate --model {finished / 'model.safetensors'}"):
            run(finished, validation=OTHERS)

    def test_other_initial_weights(self, finished: Path) -> None:
        model = tiny_model()
        with torch.no_grad():
            model.classifier.weight.copy_(model.classifier.weight.flip(0))  # the same sum
        with pytest.raises(TrainingError, match=r"other initial weights \(of other contents\)"):
            fit(model, TRAINING, HELD_OUT, SHORT, finished, progress=False)

    def test_files_of_equal_number_and_sizes(self, tmp_path: Path) -> None:
        for folder, label in (("a", 2), ("b", 3)):
            (tmp_path / folder).mkdir()
            write_clips(tmp_path / folder / "x.tfrecord", [replace(clip, labels=(label,)) for clip in TRAINING])
        a, b = (tmp_path / folder / "x.tfrecord" for folder in "ab")
        assert a.stat().st_size == b.stat().st_size
        run(tmp_path / "run", clips=str(a), validation=str(a))
        with pytest.raises(
            TrainingError, match=r"other training data \(source '.*/a/x.tfrecord', now '.*/b/x.tfrecord'\)"
        ):
            run(tmp_path / "run", clips=str(b), validation=str(a))
        a.rename(tmp_path / "moved.tfrecord")
        moved = run(tmp_path / "run", clips=str(tmp_path / "moved.tfrecord"), validation=[tmp_path / "moved.tfrecord"])
        assert moved.step in (3, 6, 8)

    def test_validation_added_to_a_finished_run_scores_it(self, tmp_path: Path) -> None:
        first = run(tmp_path, validation=None)
        before = contents(tmp_path)
        assert first.scores == {}
        assert first.trained
        for clips in (HELD_OUT, OTHERS):
            result = run(tmp_path, validation=clips)
            assert not result.trained
            assert result.scores == pytest.approx(evaluate(load(first.path), clips))
            after = contents(tmp_path)
            assert str(result.scores["gap"]) in after.pop("validation.json").decode()
            assert after == before
        assert run(tmp_path, validation=None).scores == {}

    def test_validation_added_to_a_killed_run_is_refused(self, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
        stopped_at(tmp_path, 4, monkeypatch, validation=None)
        with pytest.raises(TrainingError, match=r"other validation data \(none, now clips in hand\)"):
            run(tmp_path)

    def test_a_finished_model_is_not_written_over(self, tmp_path: Path) -> None:
        path = run(tmp_path).path
        before = path.read_bytes()
        (tmp_path / "state.pt").unlink()
        with pytest.raises(TrainingError, match="it is not written over"):
            run(tmp_path)
        assert path.read_bytes() == before

    def test_the_best_weights_are_missed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stopped_at(tmp_path, 4, monkeypatch)
        (tmp_path / "best.safetensors").unlink()
        with pytest.raises(TrainingError, match=r"best\.safetensors: gone"):
            run(tmp_path)


class TestEarlierStates:
    """States that say of their run only the digest of recipe, config, number of clips and sum of the weights."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        stopped_at(tmp_path, 4, monkeypatch)
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        model = tiny_model()
        start = sum(float(parameter.detach().double().abs().sum()) for parameter in model.parameters())
        state["run"] = earlier_fingerprint(
            recipe=SHORT.to_dict(), config=model.config.to_dict(), clips=len(TRAINING), start=start
        )
        torch.save(state, tmp_path / "state.pt")
        return tmp_path

    def test_go_on_where_what_they_recorded_matches(self, folder: Path, tmp_path_factory) -> None:
        whole, resumed = run(tmp_path_factory.mktemp("whole")), run(folder)
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, resumed.model.state_dict()[name]), name
        with pytest.raises(TrainingError, match="other training data"):  # what it saved since says more
            run(folder, clips=OTHERS)

    def test_a_finished_one_is_scored_on_what_is_given(self, folder: Path) -> None:
        old = (folder / "state.pt").read_bytes()
        first = run(folder)
        state, earlier = (
            torch.load(io.BytesIO(data), weights_only=True) for data in (contents(folder)["state.pt"], old)
        )
        torch.save(state | {"run": earlier["run"]}, folder / "state.pt")
        before = first.path.read_bytes()
        assert run(folder, validation=OTHERS).scores == pytest.approx(evaluate(load(first.path), OTHERS))
        assert first.path.read_bytes() == before

    @pytest.mark.parametrize("given", [{"clips": TRAINING[:15]}, {"seed": 3}])
    def test_are_refused_where_it_does_not(self, folder: Path, given: dict) -> None:
        with pytest.raises(TrainingError, match=r"another model, initial weights, recipe or number of training clips"):
            run(folder, **given)


def test_a_state_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_text("as it was")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*state\.pt: File too large; the file system or this user's"):
            save_state(tmp_path / "state.pt", {}, TrainingProgress(), {"model": torch.zeros(1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["as it was"]


class TestFingerprint:
    def test_is_of_the_records_and_not_of_their_names(self, tmp_path: Path) -> None:
        clips = [replace(tiny_clip(n, equal=True), id=f"clip{n:03}") for n in range(300)]
        write_clips(tmp_path / "a.tfrecord", clips[:160])
        write_clips(tmp_path / "b.tfrecord", clips[160:])
        build_catalog([tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"], tmp_path / "all.parquet")
        whole = fingerprint.fingerprint_source(str(tmp_path / "?.tfrecord"))
        assert fingerprint.fingerprint_source([tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"]) != ""
        assert fingerprint.fingerprint_source(tmp_path / "all.parquet") == whole
        assert fingerprint.fingerprint_source([tmp_path / "b.tfrecord", tmp_path / "a.tfrecord"]) != whole
        assert fingerprint.fingerprint_source(tmp_path / "a.tfrecord") != whole
        write_clips(tmp_path / "b.tfrecord", [*clips[160:-1], replace(clips[-1], labels=(4,))])
        assert fingerprint.fingerprint_source(str(tmp_path / "?.tfrecord")) != whole

    def test_of_one_clip_and_of_the_demo(self, tmp_path: Path) -> None:
        write_clips(tmp_path / "a.tfrecord", TRAINING)
        one, other = (fingerprint.fingerprint_source(f"{tmp_path / 'a.tfrecord'}#clip{n}") for n in (1, 2))
        assert one != other
        assert fingerprint.fingerprint_source("demo:0-2") != fingerprint.fingerprint_source("demo:0-3")

    def test_looks_at_no_more_than_it_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fingerprint, "MOST_CHECKSUMS", 3)
        looked = []
        monkeypatch.setattr(ClipRecords, "checksum", lambda file, place: looked.append(place.number) or 7)
        write_clips(tmp_path / "a.tfrecord", TRAINING)
        fingerprint.fingerprint_source(tmp_path / "a.tfrecord")
        assert looked == [0, 7, 15]

    @pytest.mark.parametrize(
        "change",
        [
            lambda clip: replace(clip, id="other"),
            lambda clip: replace(clip, labels=(7, 9)),
            lambda clip: Clip(clip.id, {**clip.features, "audio": clip.features["audio"] ^ np.uint8(1)}, clip.labels),
            lambda clip: Clip(clip.id, {name: clip.floats(name) for name in clip.features}, clip.labels),
        ],
    )
    def test_of_clips_in_hand(self, change: Callable[[Clip], Clip]) -> None:
        same = fingerprint.fingerprint_clips([tiny_clip(n) for n in range(16)])
        assert fingerprint.fingerprint_clips(TRAINING) == same
        assert fingerprint.fingerprint_clips([*TRAINING[:9], change(TRAINING[9]), *TRAINING[10:]]) != same


class TestTwoTrainings:
    def test_the_second_is_refused_and_touches_nothing(self, tmp_path: Path, monkeypatch) -> None:
        stopped_at(tmp_path, 4, monkeypatch)
        with locked(tmp_path, "training"):
            before = contents(tmp_path)
            with pytest.raises(OutputError, match=r"in use by training \(process \d+ on"):
                run(tmp_path)
            assert contents(tmp_path) == before
        assert run(tmp_path).step == 8
        assert not (tmp_path / LOCK).exists()

    def test_all_processes_of_the_second_end(self, tmp_path: Path) -> None:
        with locked(tmp_path, "training"):
            done = subprocess.run(
                [sys.executable, str(PROGRAM), str(tmp_path), "2", "0"], cwd=ROOT, env=environment(),
                capture_output=True, text=True, timeout=600, check=False,
            )  # fmt: skip
        assert done.returncode != 0
        assert done.stderr.count("OutputError: ") >= 1
        assert list(tmp_path.iterdir()) == []


class TestNotToBeLoaded:
    @pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\0b", "\x1b[31mred", "half\ud800"])
    def test_a_class_name_with_a_control_character(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match="expected text without control characters"):
            Vocabulary("youtube-8m", (2, 3, 5), ("Game", name, "Food"))
        with pytest.raises(ArgumentError, match="expected text without control characters"):
            Vocabulary(name, (2,), ("Game",))

    @pytest.mark.parametrize("name", ['"a\tb"', '"a\nb"', "\x1b[31mred"])
    def test_a_class_table_names_the_line(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "classes.csv").write_text(f"Index,Name\n2,Game\n3,{name}\n5,Food\n", newline="")
        with pytest.raises(ArgumentError, match=r"classes.csv, line [34]: Name is .*without control characters"):
            Vocabulary.read_csv(tmp_path / "classes.csv")

    def test_too_long_class_names_are_refused_before_the_first_step(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"need a header of \d+ bytes; at most 2097152 are read: shorten"):
            run(tmp_path, names=[letter * 800_000 for letter in "abc"])
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("card", "says"),
        [
            ({"name": "a\tb"}, r"the card's name is 'a\\tb'"),
            ({"name": "x" * 101}, "expected 1 to 100 plain characters"),
            ({"seed": {1, 2}}, "not JSON serializable"),
            ({"note": "half\ud800"}, "surrogates not allowed"),
        ],
    )
    def test_a_card_that_could_not_be_read_back(self, card: dict, says: str, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=f"{says}.*; it would not be read back, so it is not saved"):
            fit(tiny_model(), TRAINING, None, SHORT, tmp_path, progress=False, card=card)
        assert list(tmp_path.iterdir()) == []

    def test_save_refuses_it_too(self, tmp_path: Path) -> None:
        model = tiny_model()
        torch.nn.init.constant_(model.classifier.weight, float("inf"))
        with pytest.raises(CheckpointError, match=r"'classifier\.weight' has a value that is not finite"):
            save(model, tmp_path / "x.safetensors")
        with pytest.raises(CheckpointError, match="the card's name is"):
            save(tiny_model(), tmp_path / "a\tb.safetensors")
        assert list(tmp_path.iterdir()) == []


class TestDiverged:
    RECIPE = replace(SHORT, learning_rate=1e30, warmup=0, save_every=1, log_every=50)

    def test_the_last_good_state_stays(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError) as caught:
            fit(tiny_model(), TRAINING, None, self.RECIPE, tmp_path, progress=False)
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        assert state["progress"]["step"] == 1
        assert all(value.isfinite().all() for value in state["tensors"]["model"].values())
        assert "is not finite by step 2" in str(caught.value)
        assert f"finite and stays ({tmp_path / 'state.pt'} of step 1): the same command goes on" in str(caught.value)
        assert "with a lower learning_rate or a longer warmup" in str(caught.value)

    def test_the_best_model_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        step = training._Run._step

        def breaking(run, batch):
            found = step(run, batch)
            if run.progress.step == 5:
                torch.nn.init.constant_(run.task.model.classifier.bias, float("nan"))
            return found

        monkeypatch.setattr(training._Run, "_step", breaking)
        with pytest.raises(TrainingError) as caught:
            run(tmp_path, save_every=50)
        best = tmp_path / "best.safetensors"
        assert load(best).card["training"]["step"] == 3
        assert f"No state had been saved before; {best} of step 3 stays." in str(caught.value)
        assert f"may start from fit(load({str(best)!r}), ...)" in str(caught.value)
        assert not (tmp_path / "state.pt").exists()

    def test_a_state_of_the_optimiser_that_is_not_finite(self, tmp_path: Path, monkeypatch) -> None:
        step = training._Run._step

        def breaking(run, batch):
            found = step(run, batch)
            if run.progress.step == 2:
                next(iter(run.optimizer.state_dict()["state"].values()))["exp_avg_sq"].fill_(float("inf"))
            return found

        monkeypatch.setattr(training._Run, "_step", breaking)
        with pytest.raises(TrainingError, match="the optimiser's exp_avg_sq of parameter 0 is not finite by step 2"):
            run(tmp_path)
        assert not (tmp_path / "state.pt").exists()

    def test_scores_that_overflow(self, tmp_path: Path) -> None:
        recipe = replace(self.RECIPE, validate_every=1)
        with pytest.raises(TrainingError, match="the validation clips have no scores"):
            fit(tiny_model(), TRAINING, HELD_OUT, recipe, tmp_path, progress=False)
        assert not (tmp_path / "best.safetensors").exists()


class TestValidationWithoutPositives:
    @pytest.mark.parametrize("labels", [(), (11,)])
    def test_is_refused_before_the_first_step(self, labels: tuple[int, ...], tmp_path: Path) -> None:
        nothing = [replace(clip, labels=labels) for clip in HELD_OUT]
        with pytest.raises(TrainingError, match="none of the 16 validation clips has a label of the model's 3"):
            run(tmp_path, validation=nothing)
        assert list(tmp_path.iterdir()) == []
        assert run(tmp_path, validation=[*nothing, HELD_OUT[0]]).scores["gap"] > 0

    def test_a_score_that_is_not_defined(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(task, "validate", lambda *_: {"gap": float("nan"), "videos": 1})
        with pytest.raises(TrainingError, match="gap is nan on the validation clips"):
            run(tmp_path)
        assert not (tmp_path / "best.safetensors").exists()


@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")  # Fabric takes bf16-mixed, and says so
@pytest.mark.parametrize("precision", PRECISIONS)
class TestPrecisions:
    def test_a_run_goes_on_to_the_same_weights(self, precision: str, tmp_path: Path, monkeypatch) -> None:
        whole = run(tmp_path / "whole", precision=precision, ema_decay=0.9)
        stopped_at(tmp_path / "parts", 4, monkeypatch, precision=precision, ema_decay=0.9)
        parts = run(tmp_path / "parts", precision=precision, ema_decay=0.9)
        assert parts.scores == whole.scores
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, parts.model.state_dict()[name]), name

    def test_scores_are_those_of_the_saved_model(self, precision: str, tmp_path: Path) -> None:
        result = run(tmp_path, precision=precision)
        dtype = {"64-true": torch.float64, "bf16-true": torch.bfloat16}.get(precision, torch.float32)
        assert {value.dtype for value in load(result.path).state_dict().values()} == {dtype}
        assert evaluate(load(result.path), HELD_OUT, batch_size=4) == pytest.approx(result.scores)
        assert logged(tmp_path)[-1]["validation_gap"]


def test_validation_leaves_the_mode_of_every_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes, validate = [], task.validate

    def watched(fabric, model, *given):
        for module in model.modules():
            module.train()
        model.encoders["audio"].eval()  # as a caller freezes a part of it
        before = [module.training for module in model.modules()]
        scores = validate(fabric, model, *given)
        modes.append((before, [module.training for module in model.modules()]))
        return scores

    step = training._Run._step

    def stepping(run, batch):
        if modes:
            assert [module.training for module in run.task.model.modules()] == modes[-1][0]
        return step(run, batch)

    monkeypatch.setattr(task, "validate", watched)
    monkeypatch.setattr(training._Run, "_step", stepping)
    run(tmp_path)
    assert len(modes) == 3
    assert all(before == after and len(set(before)) == 2 for before, after in modes)
