"""`gmsa figures`: what is made again, what is kept, what fails, what is checked; with tiny models and videos."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from paper_tables import tiny_curves, tiny_masses
from registries import only
from small_models import small_clip, small_model

from analysis.explanations.registry import EXPLANATIONS
from figures.paper import lag, sensitivity
from figures.pipeline import build_item, pipeline
from figures.pipeline.catalogue import Item
from figures.pipeline.pipeline import DIFFERENT, DRAWN, FAILED, SAME, UNCHANGED, Request, check, render
from figures.pipeline.provenance import DiskCache, data_digest, find_checkpoints
from figures.pipeline.table_files import load_tables, save_tables
from gmsa.commands.figures import inches, words
from gmsa_models import save, write_clips
from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.data.lock import locked
from gmsa_models.errors import OutputError, UnknownNameError

KINDS = ("baseline", "share-att", "gate-att", "gate-op", "none")
# One explanation of a kind, and those that claims are about; the others take most of the time of a study.
EXPLAINED = ("saliency", "frame-occlusion", "rollout", "attention-global", "attention-local", "attention-combined")


@pytest.fixture(scope="module", autouse=True)
def fixed_code():
    """The code's digest is one word here: a file that someone edits meanwhile must not fail a test."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (pipeline, build_item):
            patch.setattr(module, "code_digest", lambda rooms: "code")
        with only(EXPLANATIONS, EXPLAINED):
            yield


@pytest.fixture(scope="module")
def tiny_world(tmp_path_factory) -> Request:
    """Five small models, seven small videos, and where to draw."""
    folder = tmp_path_factory.mktemp("world")
    for kind in KINDS:
        save(small_model(kind), folder / f"{kind}.safetensors")
    write_clips(folder / "clips.tfrecord", [small_clip(11 + seed, seed) for seed in range(7)])
    models = tuple(str(folder / f"{kind}.safetensors") for kind in KINDS)
    return Request(
        data=(str(folder / "clips.tfrecord"),),
        models=models,
        out=folder / "out",
        formats=("svg",),
        videos=3,
        neighbourhood="TP4",
    )


@pytest.fixture(scope="module")
def drawn(tiny_world) -> tuple[Request, pipeline.FiguresOutcome]:
    """Everything drawn once."""
    return tiny_world, render(tiny_world)


def changed(request: Request, **changes) -> Request:
    """The same request, some of it otherwise."""
    from dataclasses import replace

    return replace(request, **changes)


def test_a_second_run_into_one_folder_is_refused_and_draws_nothing(tiny_world, tmp_path):
    request = changed(tiny_world, out=tmp_path / "out")
    with locked(request.out, "figures"), pytest.raises(OutputError, match="in use by figures"):
        render(request)
    assert not list(request.out.iterdir())


def test_everything_is_drawn_with_its_numbers_and_provenance(drawn):
    request, outcome = drawn
    assert outcome.details == dict.fromkeys(outcome.states, "")
    assert set(outcome.states.values()) == {DRAWN}
    about = json.loads((request.out / "figure-4-sensitivity.json").read_text())
    assert about["models"].keys() == {f"small-{kind}" for kind in KINDS}
    assert all(len(digest) == 64 for digest in about["models"].values())
    assert {"command", "seed", "data", "settings", "computed_with", "software", "numbers_sha256"} <= about.keys()
    assert (request.out / about["numbers"]).is_file()
    assert about["reads"].startswith("A curve a model: S_i, mean over videos;")
    assert sorted(about["files"]) == ["figure-4-sensitivity.svg"]
    assert {path.suffix for path in request.out.glob("table-1-results*")} == {".csv", ".md", ".tex", ".npz", ".json"}
    assert "tfrecord" in (request.out / "claims.md").read_text()


def test_figures_of_real_records_show_the_records(drawn):
    request, _ = drawn
    record = load_tables(request.out / "figure-1-similarity-and-attention.npz")["record"]
    there = record["attention"].sel(branch="global").transpose("modality", "head", "query", "key").values
    rows = there[~np.isnan(there).any((-1, -2))].astype(np.float64).sum(-1)
    np.testing.assert_allclose(rows, 1.0, atol=2e-3)  # half precision
    curves = load_tables(request.out / "figure-4-sensitivity.npz")["curves"]
    assert curves["own"].sel(model="small-baseline").isnull().all()
    assert ((curves["shared"] > 0) & (curves["shared"] < 1)).all()
    masses = load_tables(request.out / "figure-6-lag.npz")["masses"]
    np.testing.assert_allclose(masses[["attention", "gradient"]].sum("lag").to_array(), 1.0)
    assert masses["model"].values.tolist() == [f"small-{kind}" for kind in KINDS[:-1]]


def test_a_second_run_changes_nothing_and_makes_nothing(drawn):
    request, _ = drawn
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in request.out.iterdir() if path.is_file()}
    assert set(render(request).states.values()) == {UNCHANGED}
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before


def test_check_finds_the_same_numbers_bit_for_bit(drawn):
    request, _ = drawn
    outcome = check(request)
    assert (set(outcome.states.values()), outcome.good) == ({SAME}, True)
    assert set(outcome.details.values()) == {"bit for bit"}


def test_check_tells_what_differs_and_writes_nothing(drawn, tmp_path):
    request, _ = drawn
    tables = load_tables(request.out / "figure-6-lag.npz")
    tables["masses"]["attention"].values[1, 2] += 1e-12
    save_tables(tmp_path / "figure-6-lag.npz", tables)
    rounded = check(changed(request, out=tmp_path, only=("6",)))
    assert rounded.states == {"figure-6-lag": SAME}
    assert "not bit for bit: masses/attention: 1 of" in rounded.details["figure-6-lag"]
    tables["masses"]["attention"].values[1, 2] += 1e-2
    save_tables(tmp_path / "figure-6-lag.npz", tables)
    outcome = check(changed(request, out=tmp_path, only=("6", "4")))
    assert outcome.states == {"figure-4-sensitivity": FAILED, "figure-6-lag": DIFFERENT}
    assert "masses/attention: 1 of" in outcome.details["figure-6-lag"]
    assert "no such file" in outcome.details["figure-4-sensitivity"]
    assert not outcome.good
    assert [path.name for path in tmp_path.iterdir()] == ["figure-6-lag.npz"]


def test_another_width_draws_again_from_the_same_numbers(drawn, tmp_path):
    request, _ = drawn
    other = changed(request, out=tmp_path, redraw_from=request.out, width=3.39, formats=("png", "pdf"), only=("2", "6"))
    assert set(render(other).states.values()) == {DRAWN}
    for path in tmp_path.glob("*.npz"):
        assert path.read_bytes() == (request.out / path.name).read_bytes()
    about = json.loads((tmp_path / "figure-6-lag.json").read_text())
    assert about["models"].keys() == {f"small-{kind}" for kind in KINDS}
    assert about["computed_by"] == request.command
    again = changed(other, out=tmp_path / "again", redraw_from=tmp_path, command="redrawn")
    render(again)
    twice = json.loads((again.out / "figure-6-lag.json").read_text())
    assert (twice["command"], twice["computed_by"]) == ("redrawn", request.command)
    pdf = (tmp_path / "figure-6-lag.pdf").read_bytes()
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf


def test_svg_keeps_text_as_text(drawn):
    request, _ = drawn
    assert ">GAP (%)</text>" in (request.out / "figure-5-score-and-sensitivity.svg").read_text()


def test_redrawing_needs_no_torch(drawn, tmp_path):
    request, _ = drawn
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['captum'] = None\n"
        "from pathlib import Path\n"
        "from figures.pipeline.pipeline import Request, render\n"
        f"there, here = Path({str(request.out)!r}), Path({str(tmp_path)!r})\n"
        "outcome = render(Request(redraw_from=there, out=here, formats=('svg',)))\n"
        "print(outcome.details); sys.exit(not outcome.good)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    fresh, first = ((folder / "figure-4-sensitivity.svg").read_bytes() for folder in (tmp_path, request.out))
    assert fresh == first


def fake_items(monkeypatch, make: dict) -> None:
    """Two figures whose numbers come from `make`, without study."""
    from analysis.study import tables

    items = (
        Item("sensitivity", "4", "four", sensitivity.draw, needs_study=False),
        Item("lag", "6", "six", lag.draw, needs_study=False),
    )
    monkeypatch.setattr(pipeline, "ITEMS", items)
    for key, function in make.items():
        monkeypatch.setitem(tables.TABLES, key, function)


def test_a_figure_that_fails_does_not_stop_the_rest(monkeypatch, tiny_world, tmp_path):
    def fail(study):
        raise RuntimeError("no such luck")

    fake_items(monkeypatch, {"sensitivity": fail, "lag": lambda study: {"masses": tiny_masses()}})
    told = []
    outcome = render(changed(tiny_world, out=tmp_path), lambda *line: told.append(line))
    assert told == [("four", FAILED, "RuntimeError: no such luck"), ("six", DRAWN, "")]
    assert not outcome.good
    assert (tmp_path / "six.svg").is_file()


def test_stopping_keeps_what_is_done(monkeypatch, tiny_world, tmp_path):
    def stop(study):
        raise KeyboardInterrupt

    fake_items(monkeypatch, {"sensitivity": lambda study: {"curves": tiny_curves()}, "lag": stop})
    with pytest.raises(KeyboardInterrupt):
        render(changed(tiny_world, out=tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {".cache", "four.svg", "four.npz", "four.json"}
    fake_items(monkeypatch, {"lag": lambda study: {"masses": tiny_masses()}})
    assert render(changed(tiny_world, out=tmp_path)).states == {"four": UNCHANGED, "six": DRAWN}


def test_drawing_beside_gives_the_same_files(drawn, tmp_path):
    request, _ = drawn
    some = changed(request, out=tmp_path, redraw_from=request.out, only=("2", "4", "table"))
    assert set(render(some, beside=True).states.values()) == {DRAWN}
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert {".svg", ".csv", ".md", ".tex", ".npz", ".json"} == {Path(name).suffix for name in files}
    assert len(files) == 3 + 3 + 5
    for name in files:
        assert name.endswith(".json") or files[name] == (request.out / name).read_bytes()


def test_stopping_beside_finishes_what_is_being_drawn(monkeypatch, tiny_world, tmp_path):
    def stop(study):
        raise KeyboardInterrupt

    fake_items(monkeypatch, {"sensitivity": lambda study: {"curves": tiny_curves()}, "lag": stop})
    with pytest.raises(KeyboardInterrupt):
        render(changed(tiny_world, out=tmp_path), beside=True)
    there = {path.name for path in tmp_path.iterdir()}
    # Called off before it began, or finished: never half.
    assert there in ({".cache", "four.svg", "four.npz", "four.json"}, {".cache", "four.npz"}, {"four.npz"})


def test_a_drawing_that_was_called_off_is_not_ready():
    futures = [Future() for _ in range(3)]
    futures[1].cancel()
    futures[2].set_result(["four.svg"])
    ready = [build_item.Made(None, {}, None, each).ready for each in [*futures, None]]
    assert ready == [False, False, True, True]


def draw_here_only(masses: xr.Dataset) -> Figure:
    """Figure 6, but the end of any process that is another's child."""
    if multiprocessing.parent_process() is not None:
        os._exit(9)
    return lag.draw(masses)


def test_a_figure_is_drawn_here_if_the_other_process_dies(monkeypatch, tiny_world, tmp_path):
    from analysis.study import tables

    items = tuple(Item("lag", number, f"lag-{number}", draw_here_only, needs_study=False) for number in "67")
    monkeypatch.setattr(pipeline, "ITEMS", items)
    monkeypatch.setitem(tables.TABLES, "lag", lambda study: {"masses": tiny_masses()})
    outcome = render(changed(tiny_world, out=tmp_path), beside=True)
    assert outcome.states == {"lag-6": DRAWN, "lag-7": DRAWN}
    assert {path.name for path in tmp_path.glob("*.svg")} == {"lag-6.svg", "lag-7.svg"}


def test_a_failure_beside_is_told_like_one_here(monkeypatch, tiny_world, tmp_path):
    fake_items(monkeypatch, {"sensitivity": lambda study: {"masses": tiny_masses()}})
    told = [
        render(changed(tiny_world, out=tmp_path / str(beside), only=("4",)), beside=beside).details["four"]
        for beside in (False, True)
    ]
    assert told[0] == told[1]
    assert told[0].startswith("TypeError: draw() got an unexpected keyword argument 'masses'")


def test_files_that_came_with_a_checkout_are_made_anew(monkeypatch, tiny_world, tmp_path):
    tables = {"sensitivity": lambda study: {"curves": tiny_curves()}, "lag": lambda study: {"masses": tiny_masses()}}
    fake_items(monkeypatch, tables)
    request = changed(tiny_world, out=tmp_path / "here")
    render(request)
    before = {path.name: path.read_bytes() for path in request.out.glob("*.*") if path.is_file()}
    shutil.rmtree(request.out / ".cache")
    assert set(render(request).states.values()) == {DRAWN}
    assert {path.name: path.read_bytes() for path in request.out.glob("*.*") if path.is_file()} == before


def test_only_what_changed_is_made_again(monkeypatch, tiny_world, tmp_path):
    calls = []

    def count(study):
        calls.append(1)
        return {"masses": tiny_masses()}

    fake_items(monkeypatch, {"sensitivity": lambda study: {"curves": tiny_curves()}, "lag": count})
    request = changed(tiny_world, out=tmp_path, only=("6",))
    states = [render(request).states["six"]]
    (tmp_path / "six.svg").unlink()
    states.append(render(request).states["six"])
    states.append(render(changed(request, formats=("svg", "png"))).states["six"])
    states.append(render(changed(request, formats=("svg", "png"))).states["six"])
    assert (states, len(calls)) == ([DRAWN, DRAWN, DRAWN, UNCHANGED], 1)
    (tmp_path / "six.npz").write_bytes(b"broken")
    assert render(changed(request, formats=("svg", "png"))).states["six"] == DRAWN
    assert render(changed(request, seed=7)).states["six"] == DRAWN
    assert render(changed(request, seed=7, force=True)).states["six"] == DRAWN
    assert len(calls) == 4


def test_a_style_file_goes_on_top(monkeypatch, tiny_world, tmp_path):
    fake_items(monkeypatch, {"sensitivity": lambda study: {"curves": tiny_curves()}})
    style = tmp_path / "thick.mplstyle"
    style.write_text("axes.linewidth: 3.25\n")
    seen = []

    def draw(curves, width=7.0) -> Figure:
        figure = sensitivity.draw(curves, width)
        seen.append(figure.axes[0].spines["left"].get_linewidth())
        return figure

    items = (Item("sensitivity", "4", "four", draw, needs_study=False),)
    monkeypatch.setattr(pipeline, "ITEMS", items)
    for file in (None, style):
        outcome = render(changed(tiny_world, out=tmp_path / "out", style=file))
        assert outcome.details == {"four": ""}
        assert outcome.states["four"] == DRAWN
    assert seen == [0.6, 3.25]


def test_unknown_figures_and_models_are_told_before_anything_is_made(tiny_world, tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown figure '12'; known: 1 \(similarity_and_attention\)"):
        render(changed(tiny_world, out=tmp_path, only=("12",)))
    with pytest.raises(CheckpointError, match="'nobody' is neither a file nor a trained model; known: baseline"):
        render(changed(tiny_world, out=tmp_path, models=("nobody",)))
    with pytest.raises(CheckpointError, match="given twice"):
        find_checkpoints([tiny_world.models[0]] * 2)
    assert not list(tmp_path.iterdir())


def test_a_study_without_baseline_fails_where_it_needs_one(tiny_world, tmp_path):
    request = changed(tiny_world, out=tmp_path, models=tiny_world.models[3:], only=("1", "2"))
    outcome = render(request)
    assert outcome.states == {"figure-1-similarity-and-attention": FAILED, "figure-2-masks": DRAWN}
    assert "no Baseline among the models" in outcome.details["figure-1-similarity-and-attention"]


def test_the_cache_goes_by_content_and_forgets_what_no_longer_is(tmp_path):
    table = xr.Dataset({"x": ("y", [1.0, 2.0])})
    first = DiskCache(tmp_path, {"code": "1"})
    first.put({"stage": "scores", "model": "a"}, table)
    assert first.get({"model": "a", "stage": "scores"}).identical(table)
    assert first.get({"stage": "scores", "model": "b"}) is None
    other = DiskCache(tmp_path, {"code": "2"})
    assert other.get({"stage": "scores", "model": "a"}) is None
    other.put({"stage": "scores", "model": "a"}, table)
    other.prune()
    assert len(list(tmp_path.iterdir())) == 1


def test_data_are_told_by_their_bytes(tmp_path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"one")
    first = data_digest([str(path)])
    assert data_digest([str(tmp_path / "*.tfrecord")]) == first
    assert data_digest([f"{path}#id"]) != first
    path.write_bytes(b"two")
    assert data_digest([str(path)]) != first
    assert data_digest(["demo:0-3"]) != data_digest(["demo:0-5"])


def test_a_list_of_sources_is_read_from_a_text_file(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("# two videos\ndemo:1\n\ndemo:2\n")
    assert pipeline.expand_lists([str(path), "demo:5"]) == ["demo:1", "demo:2", "demo:5"]


def test_options_in_words():
    assert (inches(None), inches("column"), inches("page"), inches("5.5")) == (None, 3.39, 7.0, 5.5)
    for bad in ("wide", "0.5", "nan", "100"):
        with pytest.raises(Exception, match="expected column, page, or 2 to 20 inches"):
            inches(bad)
    assert words(["1,2", "table"]) == ("1", "2", "table")
    assert words(None) == ()
