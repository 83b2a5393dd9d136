"""Several models side by side: each has a name of its own, in tables, files, sweeps and figures."""

import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from small_models import small_clip, small_model
from sweep_shards import SETTINGS

from analysis.study.study import NoCache, Settings, Study
from analysis.study.tables import tables_of
from analysis.sweep import read_sweep, run_sweep
from figures.pipeline.catalogue import Item
from figures.pipeline.pipeline import DRAWN, Request, render
from figures.pipeline.provenance import find_checkpoints
from figures.pipeline.table_files import load_tables
from figures.style import MODELS, model_style, use_variants
from gmsa_models import ModelConfig, load, save, write_clips
from gmsa_models.checkpoints.files import ZOO
from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.checkpoints.model_file import ModelFile
from gmsa_models.checkpoints.names import name_checkpoints, renamed
from gmsa_models.masks import BlockDiagonal, Toeplitz
from gmsa_models.variants import VARIANTS, nearest_variant, variant_config


def trained(path: Path, seed: int, name: str = "small-gate-op", kind: str = "gate-op") -> Path:
    """A checkpoint with this name on its card; another seed, other weights."""
    model = small_model(kind)
    model.card.update(name=name, seed=seed)
    return save(model, path)


@pytest.fixture
def seeds(tmp_path) -> list[Path]:
    """Two trainings of one variant."""
    return [trained(tmp_path / f"runs/{seed}/model.safetensors", seed) for seed in (7, 8)]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a/model": "one", "b/model": "two"}, ["one", "two"]),
        ({"a/model": "one", "b/model": "one"}, ["one@a", "one@b"]),
        ({"a/model": "one", "b/model": "ONE", "c/model": "three"}, ["one@a", "ONE@b", "three"]),
        ({"a/first": "one", "a/second": "one"}, ["one@first", "one@second"]),
        ({"a/x/model": "one", "b/x/model": "one"}, ["one@HASH", "one@HASH"]),
        ({"a/model": "one", "b/model": "one", "c/model": "one@a"}, ["one@HASH", "one@HASH", "one@a"]),
        ({"a\n/model": "one", "b/model": "one", "c/other": "two"}, ["one@HASH", "one@HASH", "two"]),
        ({"a/model": "control", "ZOO": "control"}, ["control@a", "control"]),
    ],
)
def test_names_that_are_alike_are_told_apart_by_folder_file_or_hash(tmp_path, files, expected):
    paths = [
        "control" if place == "ZOO" else trained(tmp_path / f"{place}.safetensors", seed, name)
        for seed, (place, name) in enumerate(files.items())
    ]
    found = name_checkpoints(paths)
    wanted = [name.replace("HASH", each.sha256[:8]) for name, each in zip(expected, found, strict=True)]
    assert [each.name for each in found] == wanted
    assert len(renamed(found)) == sum("@" in each.name and each.name != each.described.name for each in found)
    for each in found:
        model = load(each.path, name=each.name, sha256=each.sha256)
        assert model.origin["name"] == each.name
        assert model.card["name"] == each.described.name


def test_one_model_twice_is_refused(tmp_path):
    first = trained(tmp_path / "a/model.safetensors", 1)
    (tmp_path / "b").mkdir()
    copy = shutil.copy(first, tmp_path / "b/other.safetensors")
    with pytest.raises(CheckpointError, match=r"b/other\.safetensors is the same model as .*a/model\.safetensors"):
        name_checkpoints([first, copy])
    with pytest.raises(CheckpointError, match="given twice"):
        name_checkpoints(["control", "control"])


def test_load_takes_only_the_file_that_is_wanted(seeds):
    digests = [load(each).origin["sha256"] for each in seeds]
    assert load(seeds[0], sha256=digests[0]).origin["sha256"] == digests[0]
    with pytest.raises(CheckpointError, match=f"its SHA-256 is {digests[0]}, not {digests[1]}"):
        load(seeds[0], sha256=digests[1])


def test_a_sweep_takes_two_seeds_of_one_variant(tmp_path, seeds):
    write_clips(tmp_path / "clips.tfrecord", [small_clip(9), small_clip(7, seed=1)])
    run_sweep([str(each) for each in seeds], [str(tmp_path / "clips.tfrecord")], tmp_path / "out", SETTINGS)
    table = read_sweep(tmp_path / "out")
    assert table["model"].tolist() == ["small-gate-op@7"] * 2 + ["small-gate-op@8"] * 2


def test_figures_take_two_seeds_of_one_variant_and_draw_both_alike(tmp_path, seeds):
    write_clips(tmp_path / "clips.tfrecord", [small_clip(11 + seed, seed) for seed in range(4)])
    request = Request(
        data=(str(tmp_path / "clips.tfrecord"),), models=tuple(map(str, seeds)), out=tmp_path / "out",
        formats=("svg",), videos=2, neighbourhood="TP4", only=("4", "5"),
    )  # fmt: skip
    assert set(render(request).states.values()) == {DRAWN}
    table = load_tables(tmp_path / "out/figure-5-score-and-sensitivity.npz")["table"]
    assert table["model"].values.tolist() == ["small-gate-op@7", "small-gate-op@8"]
    drawn = (tmp_path / "out/figure-4-sensitivity.svg").read_text()
    assert "small-gate-op@7" in drawn
    assert MODELS["gate-op-bd20"].colour in drawn
    assert "#6f6f6f" not in drawn  # of a model whose kind is not known


def test_tables_say_in_whose_style_models_are_drawn_and_only_where_names_do_not(tmp_path):
    mine = trained(tmp_path / "mine.safetensors", 3, "mine", "baseline")
    write_clips(tmp_path / "clips.tfrecord", [small_clip(11, seed) for seed in range(2)])
    files = [ModelFile(each.name, each.path, each.sha256) for each in find_checkpoints([str(mine)])]
    study = Study(files, [str(tmp_path / "clips.tfrecord")], "data", Settings(videos=2), NoCache())
    tables = tables_of("lag", study)
    assert tables["masses"].attrs["variants"] == '{"mine": "baseline"}'
    seen = []

    def draw(masses):
        seen.append(model_style("mine"))
        return Figure()

    Item("lag", "6", "six", draw).output(tables, None)
    Item("lag", "6", "six", draw).output({"masses": tables["masses"].drop_attrs()}, None)
    assert [style.colour for style in seen] == [MODELS["baseline"].colour, "#6f6f6f"]
    assert {style.label for style in seen} == {"mine"}


def test_a_style_is_of_the_variant_and_a_label_of_the_name():
    assert model_style("gate-op-tp30").label == "GateOp TP30"
    other = model_style("gate-op-tp30@seed8")
    assert (other.label, other.colour) == ("GateOp TP30@seed8", MODELS["gate-op-tp30"].colour)
    with use_variants({"mine": "share-att-td", "gate-op-tp30": "baseline"}):
        mine, misnamed = model_style("mine"), model_style("gate-op-tp30")
    expected = MODELS["share-att-td"]
    assert (mine.label, mine.colour, mine.line, mine.marker) == (
        "mine", expected.colour, expected.line, expected.marker,
    )  # fmt: skip
    assert (misnamed.label, misnamed.colour) == ("GateOp TP30", MODELS["baseline"].colour)


def test_every_configuration_is_most_like_a_column_of_its_block_and_pattern():
    for name in VARIANTS:
        assert nearest_variant(variant_config(name, "demo")) == name
    like = {"attention": "gate-op", "modalities": {"audio": 8}, "classes": 3, "heads": 2}
    assert nearest_variant(ModelConfig(**like, neighbourhood=Toeplitz(4))) == "gate-op-tp30"
    assert nearest_variant(ModelConfig(**like, neighbourhood=BlockDiagonal(3))) == "gate-op-bd20"
    assert nearest_variant(ModelConfig(**like | {"attention": "gate-att"}, neighbourhood=Toeplitz(30))) == (
        "gate-att-tp10"
    )
    assert MODELS.keys() == VARIANTS.keys()


def test_the_zoo_is_called_by_its_files(tmp_path):
    assert [each.name for each in find_checkpoints(["control", "baseline"])] == ["control", "baseline"]
    copied = shutil.copy(ZOO / "control.safetensors", tmp_path / "mine.safetensors")
    assert [each.name for each in find_checkpoints([str(copied)])] == ["control"]
