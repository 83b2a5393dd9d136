"""Vertical lines of models: records, sweeps and studies say the same; verdicts head by head; claim C4."""

import numpy as np
import pytest
import torch
import xarray as xr
from small_models import small_clip, small_model

from analysis.attention.of_view import branch_line_values, branch_lines, line_gate
from analysis.gmsa_view import view_clips
from analysis.inspect.clips import inspect_clip
from analysis.statistics.intervals import resample_counts
from analysis.statistics.line_verdicts import BROADCAST, NO_OP_SINK, SALIENT
from analysis.study.claims import CONFIRMED, NOT_CONFIRMED, vertical_lines
from analysis.study.lines import line_statistics, line_table, line_verdicts
from analysis.sweep.analyses import ANALYSES
from analysis.sweep.columns import column_name


def sharp_model(kind: str):
    """A small model whose maps have lines: larger queries make a softmax sharper."""
    model = small_model(kind)
    with torch.no_grad():
        for encoder in model.encoders.values():
            encoder.layers[0].attention.query.weight.mul_(8)
            encoder.layers[0].attention.query.bias.copy_(4 * torch.ones_like(encoder.layers[0].attention.query.bias))
    return model


@pytest.mark.parametrize("kind", ["baseline", "share-att", "gate-att", "gate-op"])
def test_records_sweeps_and_studies_say_the_same(kind):
    model, clips = sharp_model(kind), [small_clip(23, seed) for seed in range(3)]
    statistics = line_statistics(model, clips)
    together = view_clips(model, clips)
    swept = ANALYSES["lines"].compute(together)
    names = {column.name for column in ANALYSES["lines"].columns(together.modalities)}
    assert set(swept) <= names
    assert float(statistics["lines"].sum()) > 0
    for row, clip in enumerate(clips):
        record = inspect_clip(model, clip, parts=("line",))
        line = branch_lines(view_clips(model, [clip]), "visual", "global").line[0]
        shares = record["line"].sel(modality="visual", branch="global")
        np.testing.assert_allclose(shares, line.float().mean(0))
        heads = record["line_count"].sel(modality="visual", branch="global").dropna("head")
        np.testing.assert_array_equal(heads, statistics["lines"].sel(modality="visual")[row, : heads.size])
        assert float(heads.mean()) == pytest.approx(swept[column_name("line_count", "visual", "global")][row])
        ratio = record["line_norm_ratio"].sel(modality="visual", branch="global")
        if ratio.notnull().any():
            assert float(ratio.mean()) == pytest.approx(
                swept[column_name("line_norm_ratio", "visual", "global")][row], rel=1e-4
            )


@pytest.mark.parametrize("kind", ["gate-att", "gate-op"])
def test_gates_at_lines_equal_the_slow_definition(kind):
    model, clips = sharp_model(kind), [small_clip(23, 0), small_clip(17, 1)]
    view = view_clips(model, clips)
    layer, lines = view.layer("visual"), branch_lines(view, "visual", "global").line
    mine = line_gate(view, "visual")
    for row, clip in enumerate(clips):
        for head in range(lines.shape[1]):
            gates = []
            for key in range(clip.frames):
                if kind == "gate-op":
                    gates.append(float(layer.gates["local"][row, key].mean()))
                    continue
                queries = [query for query in range(clip.frames) if layer.neighbourhood[query, key]]
                gates.append(np.mean([float(layer.gates["local"][row, head, query, key]) for query in queries]))
            chosen = lines[row, head, : clip.frames].numpy()
            slow = np.mean(np.array(gates)[chosen]) - np.mean(np.array(gates)[~chosen]) if chosen.any() else np.nan
            assert float(mine[row, head]) == pytest.approx(slow, abs=1e-5, nan_ok=True)
    record = inspect_clip(model, clips[1], parts=("line",))
    np.testing.assert_allclose(record["line_gate"].sel(modality="visual"), mine[1], atol=1e-5)
    swept = ANALYSES["lines"].compute(view)[column_name("line_gate", "visual")]
    np.testing.assert_allclose(swept, mine.nanmean(-1), atol=1e-6)
    assert line_gate(view_clips(small_model("baseline"), clips), "visual") is None


def test_the_table_of_several_models_has_each_model_as_it_is_alone():
    clips, counts = [small_clip(23, seed) for seed in range(5)], resample_counts(5, 200)
    tables = {kind: line_statistics(sharp_model(kind), clips) for kind in ("baseline", "share-att", "gate-op")}
    table = line_table(tables, counts)
    assert table["model"].values.tolist() == list(tables)
    assert (
        table["verdict"].sel(model="share-att").isel(head=slice(2, None)) == ""
    ).all()  # half of its heads are local
    for kind, statistics in tables.items():
        alone = line_verdicts(statistics, counts)
        heads = statistics["head"].values
        xr.testing.assert_equal(table.sel(model=kind, head=heads)["shared_low"].drop_vars("model"), alone["shared_low"])
        assert (table.sel(model=kind, head=heads)["verdict"].values == alone["verdict"].values).all()
    assert table["gate"].sel(model=["baseline", "share-att"]).isnull().all()
    gates = np.stack([line_gate(view_clips(sharp_model("gate-op"), [clip]), "visual")[0].numpy() for clip in clips])
    of_videos = np.nanmean(gates[~np.isnan(gates).all(1)], 1)
    assert float(table["gate"].sel(model="gate-op", modality="visual")) == pytest.approx(of_videos.mean(), abs=1e-6)


def test_values_are_those_whose_product_with_the_maps_is_the_context():
    model, clip = small_model("share-att"), small_clip(13)
    view = view_clips(model, [clip])
    traced = view.layer("visual")
    for branch in ("global", "local"):
        values = view.capabilities.values(view, "visual", 0)[branch]
        torch.testing.assert_close(traced.weights[branch] @ values, traced.contexts[branch])
    assert branch_line_values(view, "visual", "global").lines.shape == (1, traced.weights["global"].shape[1])


def test_the_control_has_no_lines():
    record = inspect_clip(small_model("none"), small_clip(13), parts=("line", "score"))
    assert "line" not in record


def statistics_of(norm_ratio: float, shared: float) -> xr.Dataset:
    random = np.random.default_rng(0)
    shape = (13, 2, 3)
    return xr.Dataset(
        {
            "norm_ratio": (("video", "modality", "head"), norm_ratio + 0.02 * random.normal(size=shape)),
            "shared": (("video", "modality", "head"), shared + 0.02 * random.normal(size=shape)),
        },
        {"modality": ["visual", "audio"]},
    )


@pytest.mark.parametrize(
    ("norm_ratio", "shared", "verdict", "claim"),
    [(1.0, 0.1, SALIENT, CONFIRMED), (0.1, 0.1, NO_OP_SINK, NOT_CONFIRMED), (2.0, 0.9, BROADCAST, NOT_CONFIRMED)],
)
def test_verdicts_of_heads_and_of_claim_c4(norm_ratio, shared, verdict, claim):
    statistics = statistics_of(norm_ratio, shared)
    verdicts = line_verdicts(statistics, resample_counts(13, 200))
    assert set(verdicts["verdict"].values.ravel()) == {verdict}
    assert (verdicts["norm_ratio_low"] < verdicts["norm_ratio"]).all()
    assert (verdicts["videos"] == 13).all()
    random = np.random.default_rng(1)
    lines = 0.3 + 0.01 * random.normal(size=(13, 2, 3))
    maps = xr.Dataset(
        {"verticality_adjusted": (("video", "modality", "head"), lines)}, {"modality": ["visual", "audio"]}
    )
    assert vertical_lines(maps, 0, 200, statistics).verdict == claim
    assert vertical_lines(maps, 0, 200).verdict == CONFIRMED
