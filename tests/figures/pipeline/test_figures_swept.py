"""`gmsa figures --sweep`: the numbers of the usual way, what a sweep lacks, half-finished and wrong folders."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
from small_models import VOCABULARY, small_clip, small_model
from typer.testing import CliRunner

import gmsa
from analysis.errors import SweepError
from analysis.sweep import SweepSettings, read_sweep, run_sweep, sweep_contents
from figures.pipeline.pipeline import DRAWN, FAILED, SAME, SKIPPED, UNCHANGED, Request, check, render
from figures.pipeline.request import DATA
from figures.pipeline.table_files import load_tables
from gmsa_models import Vocabulary, read_clips, save, write_clips
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import Toeplitz

ANALYSES = ("scores", "unevenness", "patterns", "sensitivity", "frame-sensitivity")
MODELS = ("baseline", "gate-op-tp30")
FRAMES = 29
FROM_SWEEP = ("figure-4-sensitivity", "figure-5-score-and-sensitivity", "table-1-results", "claims")
runner = CliRunner()
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", autouse=True)
def fixed_code():
    """The code's digest is one word here: a file that someone edits meanwhile must not fail a test."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("figures.pipeline.pipeline", "figures.pipeline.from_sweep"):
            patch.setattr(f"{module}.code_digest", lambda rooms: "code")
        yield


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two shards of demo videos cut to one length, swept with two models, and drawn: the request and its outcome."""
    folder = tmp_path_factory.mktemp("swept")
    clips = [clip.cut(FRAMES) for clip in read_clips("demo:0-5")]
    write_clips(folder / "part0.tfrecord", clips[:3])
    write_clips(folder / "part1.tfrecord", clips[3:])
    settings = SweepSettings(ANALYSES, Toeplitz(10))
    run_sweep(MODELS, [str(folder / "*.tfrecord")], folder / "sweep", settings)
    request = Request(sweep=folder / "sweep", out=folder / "out", formats=("png",))
    return request, render(request)


@pytest.fixture(scope="module")
def usual(swept, tmp_path_factory) -> Request:
    """The same figures from models and videos."""
    request = Request(
        data=(str(swept[0].sweep.parent / "*.tfrecord"),), models=MODELS, out=tmp_path_factory.mktemp("usual"),
        neighbourhood="TP10", formats=("png",), only=("4", "5", "table", "claims"),
    )  # fmt: skip
    assert set(render(request).states.values()) == {DRAWN}
    return request


def small_sweep(folder, analyses=("scores",), kinds=("baseline", "gate-op"), size=4):
    """A sweep of three clips with small models."""
    models = [str(save(small_model(kind), folder / f"{kind}.safetensors")) for kind in kinds]
    write_clips(folder / "clips.tfrecord", [small_clip(11 + seed, seed) for seed in range(3)])
    run_sweep(models, [str(folder / "clips.tfrecord")], folder / "sweep", SweepSettings(analyses, Toeplitz(size)))
    return Request(sweep=folder / "sweep", models=tuple(models), out=folder / "out", formats=("png",))


class TestNumbers:
    @pytest.mark.parametrize("name", FROM_SWEEP[:3])
    def test_figures_and_table_are_those_of_the_usual_way(self, swept, usual, name):
        ours, theirs = (load_tables(request.out / f"{name}.npz") for request in (swept[0], usual))
        assert ours.keys() == theirs.keys()
        for key, table in theirs.items():
            assert ours[key].attrs.keys() == table.attrs.keys()
            for variable in set(table.variables) - {"time"}:
                if table[variable].dtype.kind == "f":
                    np.testing.assert_allclose(ours[key][variable], table[variable], rtol=2e-4, err_msg=variable)
                else:
                    assert ours[key][variable].equals(table[variable]), variable
            numbers = {name: value for name, value in table.attrs.items() if name != "of"}
            assert {name: ours[key].attrs[name] for name in numbers} == pytest.approx(numbers, nan_ok=True)

    def test_the_time_of_training_is_not_in_a_sweep(self, swept):
        table = load_tables(swept[0].out / "table-1-results.npz")["table"]
        assert np.isnan(table["time"]).all()
        assert not np.isnan(table["size"]).any()

    def test_claims_are_those_of_the_usual_way_and_what_is_left_out_is_said(self, swept, usual):
        ours, theirs = (load_tables(request.out / "claims.npz")["claims"] for request in (swept[0], usual))
        theirs = theirs.isel(part=[what in ours["what"].values for what in theirs["what"].values])
        assert list(dict.fromkeys(ours["claim"].values)) == ["C1", "C2", "C3", "C4"]
        for name in ("claim", "what", "sample", "sign"):
            assert ours[name].values.tolist() == theirs[name].values.tolist()
        # A sweep does not say what the lines of C4 are.
        asked = ours["claim"].values != "C4"
        assert ours["verdict"].values[asked].tolist() == theirs["verdict"].values[asked].tolist()
        for name in ("estimate", "low", "high", "p_value"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-5, err_msg=name)
        text = (swept[0].out / "claims.md").read_text()
        assert "2 models on 5 whole videos of the sweep of 2 shards. Left out: C5 (frames against frames)" in text
        assert "of C4 whether lines are salient frames or sinks" in text

    def test_videos_of_several_lengths(self, tmp_path):
        """Figure 4: of all that are as long as the shortest wanted; Figure 5: of all."""
        request = small_sweep(tmp_path, ("scores", "sensitivity", "frame-sensitivity"))
        request = replace(request, only=("4",))
        render(request)
        frames = load_tables(request.out / "figure-4-sensitivity.npz")["curves"]
        assert (frames.sizes["frame"], frames.attrs["videos"]) == (11, 3)
        rows = read_sweep(request.sweep, ["own_sensitivity_visual", "frames_own_sensitivity_visual"], ["small-gate-op"])
        expected = np.stack([values[:11] for values in rows["frames_own_sensitivity_visual"]]).astype(float).mean(0)
        np.testing.assert_allclose(frames["own"].sel(model="small-gate-op"), expected)
        render(replace(request, videos=1, force=True))
        frames = load_tables(request.out / "figure-4-sensitivity.npz")["curves"]
        assert (frames.sizes["frame"], frames.attrs["videos"]) == (13, 1)


class TestWhatIsDrawn:
    def test_what_a_sweep_lacks_is_skipped_with_a_line(self, swept):
        _, outcome = swept
        assert outcome.good
        drawn = {name for name, state in outcome.states.items() if state == DRAWN}
        assert drawn == {*FROM_SWEEP, "figure-2-masks", "figure-11-local-attention", "claims-by-task"}
        assert {outcome.states[name] for name in outcome.states.keys() - drawn} == {SKIPPED}
        assert outcome.details["figure-6-lag"] == (
            "no analysis of a sweep holds what it shows; give --data to compute it"
        )

    def test_the_json_names_the_sweep_its_models_and_its_data(self, swept):
        request, _ = swept
        about = json.loads((request.out / "figure-5-score-and-sensitivity.json").read_text())
        contents = sweep_contents(request.sweep)
        assert about["models"] == dict(contents.models)
        assert all(len(sha256) == 64 for sha256 in about["models"].values())
        assert about["sweep"]["folder"] == str(request.sweep)
        assert about["sweep"]["settings"]["neighbourhood"] == {"kind": "toeplitz", "size": 10}
        shards = sorted(request.sweep.parent.glob("*.tfrecord"))
        assert about["data"]["bytes"] == sum(shard.stat().st_size for shard in shards)
        assert (about["data"]["first"], about["data"]["last"]) == ("part0.tfrecord", "part1.tfrecord")
        assert about["settings"] == {"limit": 2000, "videos": "all", "seed": 0}

    def test_a_second_run_draws_nothing_and_the_numbers_are_the_same(self, swept):
        request, _ = swept
        assert {state for state in render(request).states.values() if state != SKIPPED} == {UNCHANGED}
        assert {state for state in check(request).states.values() if state != SKIPPED} == {SAME}

    def test_an_analysis_that_is_missing_is_named(self, tmp_path):
        request = small_sweep(tmp_path)
        outcome = render(request)
        assert outcome.details["figure-4-sensitivity"] == (
            "the sweep lacks frame-sensitivity; sweep with --again --analyses scores,frame-sensitivity"
        )
        assert outcome.details["figure-5-score-and-sensitivity"].startswith("the sweep lacks sensitivity; ")
        assert outcome.states["table-1-results"] == DRAWN
        assert "C3: the sweep lacks unevenness" in (request.out / "claims.md").read_text()
        asked = render(replace(request, only=("4", "6")))
        assert set(asked.states.values()) == {FAILED}

    def test_with_data_the_rest_is_computed_as_usual(self, tmp_path):
        request = small_sweep(tmp_path)
        request = replace(request, data=(str(tmp_path / "clips.tfrecord"),), only=("6", "table"), videos=2)
        assert set(render(request).states.values()) == {DRAWN}
        about = [json.loads((request.out / f"{name}.json").read_text()) for name in ("figure-6-lag", "table-1-results")]
        assert ["sweep" in each for each in about] == [False, True]
        assert about[0]["data"]["source"] == list(request.data)

    def test_models_whose_files_are_not_known(self, tmp_path):
        request = replace(small_sweep(tmp_path, ("scores", "sensitivity", "frame-sensitivity")), models=())
        outcome = render(replace(request, only=("4", "5")))
        assert outcome.states == {"figure-4-sensitivity": FAILED, "figure-5-score-and-sensitivity": DRAWN}
        assert "small-baseline, small-gate-op but no file" in outcome.details["figure-4-sensitivity"]
        with pytest.raises(ArgumentError, match=r"small-baseline, small-gate-op of the sweep are neither in the zoo"):
            render(replace(request, data=("demo:0",)))

    def test_some_of_the_models(self, tmp_path):
        request = small_sweep(tmp_path)
        render(replace(request, models=request.models[1:], only=("table",)))
        assert load_tables(request.out / "table-1-results.npz")["table"]["model"].values.tolist() == ["small-gate-op"]


class TestWrong:
    def test_folders_without_a_sweep(self, tmp_path):
        for folder in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(SweepError, match=r"no finished shard in .*; expected the --out of `gmsa sweep`"):
                render(Request(sweep=folder, out=tmp_path / "out"))
        (tmp_path / "other.parquet").write_bytes(b"PAR1 and no more")
        done = runner.invoke(gmsa.app, ["figures", "--sweep", str(tmp_path), "--out", str(tmp_path / "out")])
        assert done.exit_code == 2
        assert "other.parquet was not written by a sweep" in done.stderr
        assert not (tmp_path / "out").exists()

    def test_a_half_finished_sweep_is_drawn_and_told_of(self, swept, tmp_path):
        shutil.copytree(swept[0].sweep, tmp_path / "sweep")
        (tmp_path / "sweep" / "part1.parquet").unlink()
        told = []
        request = Request(sweep=tmp_path / "sweep", out=tmp_path / "out", only=("5",), formats=("png",), limit=2)
        render(request, lambda *line: told.append(line))
        assert told[0] == (
            "sweep", "not all of it", "1 of 2 shards are missing; the first 2 of 3 videos are drawn, see --limit"
        )  # fmt: skip
        about = json.loads((tmp_path / "out" / "figure-5-score-and-sensitivity.json").read_text())
        assert (about["sweep"]["shards_missing"], about["data"]["shards"]) == (1, 1)
        assert load_tables(tmp_path / "out" / "figure-5-score-and-sensitivity.npz")["table"].attrs["scored"] == 2

    def test_models_that_were_not_swept_and_another_neighbourhood(self, swept, tmp_path):
        request = replace(swept[0], out=tmp_path)
        with pytest.raises(ArgumentError, match="'control' was not swept; the sweep has baseline, gate-op-tp30"):
            render(replace(request, models=("control",)))
        with pytest.raises(ValueError, match="neighbourhood 'TP30', but the sweep measured by TP10"):
            render(replace(request, neighbourhood="TP30"))

    def test_models_that_know_other_labels_are_not_compared(self, tmp_path):
        request = small_sweep(tmp_path, kinds=("baseline",))
        other = small_model("gate-op")
        other.vocabulary = Vocabulary("youtube-8m", (3, 5, 12, 17, 19), VOCABULARY.names)
        models = [*request.models, str(save(other, tmp_path / "other.safetensors"))]
        run_sweep(models, [str(tmp_path / "clips.tfrecord")], tmp_path / "both", SweepSettings(("scores",)))
        outcome = render(replace(request, sweep=tmp_path / "both", models=tuple(models), only=("table",)))
        assert "know different labels of the same videos" in outcome.details["table-1-results"]
        assert ArgumentError.__name__ in outcome.details["table-1-results"]

    def test_a_neighbourhood_that_holds_every_frame(self, tmp_path):
        request = small_sweep(tmp_path, ("scores", "sensitivity", "frame-sensitivity"), size=30)
        outcome = render(replace(request, only=("4", "5")))
        assert set(outcome.states.values()) == {FAILED}
        assert "no video has an S_i by TP30: no model attends, or N_i holds" in outcome.details["figure-4-sensitivity"]

    def test_one_place_for_the_numbers(self, swept):
        done = runner.invoke(gmsa.app, ["figures", "--sweep", str(swept[0].sweep), "--from", str(swept[0].out)])
        assert done.exit_code == 2
        assert "--sweep and --from: numbers come from one place" in done.stderr


def test_the_notebook_takes_a_sweep(swept):
    notebook = nbformat.read(ROOT / "notebooks" / "04_paper_figures.ipynb", as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert sum("SWEEP = None" in source for source in code) == 1
    found = {}
    for source in code[:3]:  # up to the drawing; what follows shows pictures
        exec(source.replace("SWEEP = None", f"SWEEP = {str(swept[0].sweep)!r}"), found)
    states = {"figure-4-sensitivity": DRAWN, "figure-5-score-and-sensitivity": DRAWN}
    assert found["outcome"].states == states
    shutil.rmtree(found["folder"])


def test_the_first_videos_of_a_sweep(swept):
    whole, first = read_sweep(swept[0].sweep, ["frames"]), read_sweep(swept[0].sweep, ["frames"], limit=4)
    for name in MODELS:
        expected = whole[whole["model"] == name]["video"].tolist()[:4]
        assert first[first["model"] == name]["video"].tolist() == expected
    one = read_sweep(swept[0].sweep, ["frames"], limit=3)
    assert one["shard"].unique().tolist() == ["part0.tfrecord"]


def test_defaults_of_a_request():
    assert Request().data == DATA
    assert Request().settings["videos"] == 32
    assert Request().settings["explained"] == 16
    assert Request().settings["neighbourhood"] == "TP30"
    assert Request(sweep="somewhere").data == ()
