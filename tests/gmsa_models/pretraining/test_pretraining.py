"""Pretraining: it learns what time tells, reads no label, and resumes to the same bits."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from references.pretraining import RECIPE, run, tiny_encoders
from references.training import tiny_clip, tiny_model
from small_models import small_model

from gmsa_models import Clip, load, write_clips
from gmsa_models.data.lock import locked
from gmsa_models.errors import ArgumentError, ConfigError, OutputError, TrainingError
from gmsa_models.evaluation.scoring import evaluate
from gmsa_models.feeding import ClipShare
from gmsa_models.pretraining import PretrainingRecipe, pretrain
from gmsa_models.pretraining.start import start_from
from gmsa_models.training.loop import fit
from gmsa_models.training.recipe import Recipe

PROGRAM = Path(__file__).parents[2] / "references/pretraining.py"
ROOT = Path(__file__).parents[3]
SHORT = PretrainingRecipe(steps=3, batch_size=4, span=2, warmup=1)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Sums are bit-equal only where as many threads share them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def program(out_dir: Path, processes: int = 1, die_after: int = 0) -> int:
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(PROGRAM), str(out_dir), str(processes), str(die_after)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode


def scenes(number: int, moving: bool) -> Clip:
    """Twelve frames: two scenes of six, each bright or dark in all features; or noise that knows no time."""
    random = np.random.default_rng(number)
    features = {"visual": random.normal(0, 0.3, (12, 7)), "audio": random.normal(0, 0.3, (12, 5))}
    brightness = np.repeat(random.permutation([-1.0, 1.0]), 6)[:, None] if moving else 0.0
    return Clip(f"clip{number}", {name: (each + brightness).astype(np.float32) for name, each in features.items()})


def test_it_learns_what_time_tells_and_nothing_where_it_tells_nothing(tmp_path: Path) -> None:
    recipe = PretrainingRecipe(steps=80, batch_size=16, learning_rate=1e-2, warmup=10, span=2, validate_every=80)
    errors = {}
    for moving in (True, False):
        clips = [scenes(number, moving) for number in range(220)]
        held_out = [scenes(number, moving) for number in range(1000, 1100)]
        result = pretrain(tiny_encoders(), clips, held_out, recipe, tmp_path / str(moving), progress=False)
        errors[moving] = result.scores
        assert result.scores["variance_explained"] == pytest.approx(1 - result.scores["error"])
        assert (result.scores["videos"], result.scores["hidden_frames"]) == (100, 400)
    assert errors[True]["error"] < 0.5
    assert 1.0 < errors[False]["error"] < 1.3  # 12/11 is the least: the mean of a clip knows its own noise
    assert errors[True]["visual_visible_mean_error"] > 1.3


class TestLabels:
    def test_other_labels_or_none_give_the_same_file(self, tmp_path: Path) -> None:
        clips = [tiny_clip(number) for number in range(12)]
        others = {
            "given": clips,
            "removed": [replace(clip, labels=()) for clip in clips],
            "permuted": [replace(one, labels=other.labels) for one, other in zip(clips, clips[::-1], strict=True)],
            "foreign": [replace(clip, dataset="audioset") for clip in clips],
        }
        files = {
            name: pretrain(tiny_encoders(), some, some, SHORT, tmp_path / name, progress=False).path.read_bytes()
            for name, some in others.items()
        }
        assert len(set(files.values())) == 1
        assert (
            files["given"]
            != pretrain(
                tiny_encoders(), clips, clips, replace(SHORT, seed=1), tmp_path / "seed", progress=False
            ).path.read_bytes()
        )

    def test_the_file_has_no_classifier_and_says_so(self, tmp_path: Path) -> None:
        clips = [tiny_clip(number) for number in range(8)]
        path = pretrain(tiny_encoders(), clips, None, SHORT, tmp_path, progress=False, card={"name": "mine"}).path
        model = load(path)
        assert (model.config.classes, model.vocabulary, model.classifier.weight.numel()) == (0, None, 0)
        assert model.card["training"]["objective"] == "hidden frames"
        assert model.card["recipe"] == SHORT.to_dict()
        with pytest.raises(ArgumentError, match=r"has no classifier and predicts nothing.*gmsa train --from"):
            evaluate(model, clips)


class TestResume:
    def test_killed_and_resumed_equals_uninterrupted(self, tmp_path: Path) -> None:
        whole = run(str(tmp_path / "whole"))
        assert program(tmp_path / "killed", die_after=90) == -signal.SIGKILL
        assert (tmp_path / "killed" / "state.pt").exists()
        assert not (tmp_path / "killed" / "pretrained.safetensors").exists()
        resumed = run(str(tmp_path / "killed"))
        assert resumed.path.read_bytes() == whole.path.read_bytes()
        again = run(str(tmp_path / "killed"))
        assert (again.trained, again.scores) == (False, whole.scores)

    def test_validation_that_comes_later_scores_the_finished_encoders(self, tmp_path: Path) -> None:
        clips, held_out = ([tiny_clip(n) for n in range(first, first + 12)] for first in (0, 50))
        recipe = replace(SHORT, ema_decay=0.5)
        with_scores = pretrain(tiny_encoders(), clips, held_out, replace(recipe, validate_every=3), tmp_path / "one",
                               progress=False)  # fmt: skip
        recipe = replace(recipe, validate_every=3)
        without = pretrain(tiny_encoders(), clips, None, recipe, tmp_path / "two", progress=False)
        later = pretrain(tiny_encoders(), clips, held_out, recipe, tmp_path / "two", progress=False)
        assert (without.scores, later.trained) == ({}, False)
        assert later.scores == pytest.approx(with_scores.scores)

    def test_another_run_is_refused(self, tmp_path: Path) -> None:
        clips = [tiny_clip(number) for number in range(8)]
        pretrain(tiny_encoders(), clips, None, SHORT, tmp_path, progress=False)
        with pytest.raises(TrainingError, match=r"other recipe \(span 2, now 3\)"):
            pretrain(tiny_encoders(), clips, None, replace(SHORT, span=3), tmp_path, progress=False)
        with pytest.raises(TrainingError, match=r"other training data \(clips 8, now 7\)"):
            pretrain(tiny_encoders(), clips[:7], None, SHORT, tmp_path, progress=False)
        with pytest.raises(TrainingError, match="holds a run with other"):
            fit(tiny_model(), clips, None, Recipe(steps=3, batch_size=4), tmp_path, progress=False)
        with locked(tmp_path, "training"), pytest.raises(OutputError, match="in use by training"):
            pretrain(tiny_encoders(), clips, None, SHORT, tmp_path, progress=False)


def test_two_processes_share_the_batch(tmp_path: Path) -> None:
    """Each hides frames of its own, so the weights are not those of one process; but the same each time."""
    assert program(tmp_path / "first", processes=2) == program(tmp_path / "second", processes=2) == 0
    first, second = (load(tmp_path / name / "pretrained.safetensors") for name in ("first", "second"))
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert first.card["validation"] == second.card["validation"]
    assert first.card["validation"]["videos"] == 17
    assert first.card["training"]["processes"] == 2


def test_what_is_refused(tmp_path: Path) -> None:
    clips = [tiny_clip(number) for number in range(8)]
    with pytest.raises(ArgumentError, match="a model of 3 classes; expected one of none"):
        pretrain(tiny_model(), clips, None, SHORT, tmp_path)
    short = [clip.cut(1) for clip in clips]
    with pytest.raises(TrainingError, match="none of the validation clips has two frames"):
        pretrain(tiny_encoders(), clips, short, SHORT, tmp_path, progress=False)
    still = [
        replace(clip, features={name: values[:1].repeat(5, 0) for name, values in clip.features.items()})
        for clip in clips
    ]
    with pytest.raises(TrainingError, match="no hidden frame of 'visual' differs from the mean"):
        pretrain(tiny_encoders(), clips, still, SHORT, tmp_path / "still", progress=False)
    for field, value in (("hidden_share", 1.0), ("span", 0), ("monitor", "gap"), ("initial_probability", 0.1)):
        with pytest.raises(ConfigError, match=f"{field} is {value!r}; expected"):
            PretrainingRecipe(**{field: value})
    assert PretrainingRecipe.from_dict(RECIPE.to_dict()) == RECIPE


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = [tiny_clip(number) for number in range(8)]
    return pretrain(tiny_encoders(), clips, None, SHORT, tmp_path_factory.mktemp("pre"), progress=False).path


class TestStartFrom:
    def classifier(self, **changes):
        model = tiny_encoders(classes=3, **changes)
        model.vocabulary = tiny_model().vocabulary
        return model

    def test_the_encoders_are_taken_and_the_classifier_stays(self, pretrained: Path) -> None:
        model, weights = self.classifier(dropout=0.5), load(pretrained).state_dict()
        before = model.classifier.weight.clone()
        start_from(model, pretrained)
        assert torch.equal(model.classifier.weight, before)
        taken = {name: value for name, value in model.state_dict().items() if name.startswith("encoders.")}
        assert taken
        assert all(torch.equal(value, weights[name]) for name, value in taken.items())

    def test_the_card_says_from_which_file_and_a_resumed_run_keeps_it(self, pretrained: Path, tmp_path: Path) -> None:
        clips, recipe = [tiny_clip(number) for number in range(8)], Recipe(steps=2, batch_size=4, warmup=1)
        result = fit(start_from(self.classifier(), pretrained), clips, None, recipe, tmp_path, progress=False)
        sha256 = load(pretrained).origin["sha256"]
        assert result.model.card["pretrained"]["sha256"] == sha256
        again = fit(start_from(self.classifier(), pretrained), clips, None, recipe, tmp_path, progress=False)
        assert (again.trained, again.model.card["pretrained"]["sha256"]) == (False, sha256)
        with pytest.raises(TrainingError, match="pretrained encoders"):
            fit(self.classifier(), clips, None, recipe, tmp_path, progress=False)

    def test_another_model_is_refused_and_what_differs_is_said(self, pretrained: Path) -> None:
        with pytest.raises(ConfigError, match="attention 'gate-op', not 'share-att'; give the same variant"):
            start_from(self.classifier(attention="share-att"), pretrained)
        other = small_model("gate-op", neighbourhood=tiny_encoders().config.neighbourhood)
        with pytest.raises(ConfigError, match=r"modalities .*; widths .*; heads 2, not 4"):
            start_from(other, pretrained)


class TestLabelledShare:
    def test_a_smaller_share_lies_within_a_larger_one(self) -> None:
        one, ten, all_of_them = (set(ClipShare(share, 3).places(1000).tolist()) for share in (0.01, 0.1, 1.0))
        assert (len(one), len(ten), len(all_of_them)) == (10, 100, 1000)
        assert one < ten < all_of_them
        assert one != set(ClipShare(0.01, 4).places(1000).tolist())
        assert len(ClipShare(0.001).places(5)) == 1

    @pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
    def test_no_share_is_refused(self, share: float) -> None:
        with pytest.raises(ArgumentError, match="expected more than 0 and at most 1"):
            ClipShare(share)

    def test_only_the_share_is_read_from_files_and_in_hand(self, tmp_path: Path) -> None:
        from gmsa_models.feeding import TrainingClips

        clips, part = [tiny_clip(number) for number in range(30)], ClipShare(0.2, 5)
        write_clips(tmp_path / "clips.tfrecord", clips)
        expected = {clips[place].id for place in part.places(30)}
        for source in (clips, str(tmp_path / "clips.tfrecord")):
            some = TrainingClips(source, part=part)
            assert len(some) == 6
            for epoch in (0, 1):
                assert {clip.id for clip in some(epoch)} == expected
            shares = [{clip.id for clip in TrainingClips(source, 0, rank, 2, part=part)(0)} for rank in (0, 1)]
            assert shares[0] | shares[1] == expected
            assert not shares[0] & shares[1]

    def test_it_is_in_the_card_and_another_is_refused(self, tmp_path: Path) -> None:
        clips, recipe = [tiny_clip(number) for number in range(20)], Recipe(steps=2, batch_size=4, warmup=1)
        result = fit(tiny_model(), clips, None, recipe, tmp_path, progress=False, part=ClipShare(0.4, 2))
        assert result.model.card["training"]["labelled_share"] == {"share": 0.4, "seed": 2}
        assert result.model.card["training"]["clips"] == 8
        with pytest.raises(TrainingError, match=r"labelled share \(seed 2, now 3\)"):
            fit(tiny_model(), clips, None, recipe, tmp_path, progress=False, part=ClipShare(0.4, 3))
        with pytest.raises(TrainingError, match="labelled share"):
            fit(tiny_model(), clips, None, recipe, tmp_path, progress=False)
