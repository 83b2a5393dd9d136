"""The record: what it holds, that it saves whole, opens without torch, and joins along models."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import references.frames as slow
import torch
import xarray as xr
from small_models import KINDS, VOCABULARY, small_clip, small_model

import analysis.record.assemble as record_module
from analysis import DEFAULT_PARTS, RecordError, combine_models, inspect_clip, inspect_clips
from analysis.record.files import open_record, save_record
from analysis.record.variables import CLIP_PARTS, PARTS
from gmsa_models import Batch, read_clips
from gmsa_models.masks import Toeplitz, neighbourhood_mask

BRANCHES_OF = {
    "baseline": ["global"],
    "share-att": ["global", "local", "combined"],
    "gate-att": ["global", "local", "combined"],
    "gate-op": ["global", "local"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_has_its_own_branches_and_nothing_else(kind):
    record = inspect_clip(small_model(kind), small_clip())
    if kind == "none":
        assert {"attention", "profile", "gate", "neighbourhood"}.isdisjoint(record.data_vars)
        assert "branch" not in record.dims
    else:
        assert record["branch"].values.tolist() == BRANCHES_OF[kind]
        assert record["attention"].dims == ("modality", "branch", "head", "query", "key")
    assert ("gate" in record) == kind.startswith("gate")
    assert ("neighbourhood" in record) == (kind in ("share-att", "gate-att", "gate-op"))
    seconds = [name for name, array in record.data_vars.items() if array.dtype == np.float64]
    assert sorted(seconds) == ["segment_end", "segment_start"]
    floats = {
        array.dtype for name, array in record.data_vars.items() if array.dtype.kind == "f" and name not in seconds
    }
    assert floats == {np.dtype("float32")}


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_attention_is_the_trace_and_head_positions_are_kept(kind):
    model, clip = small_model(kind), small_clip()
    record = inspect_clip(model, clip)
    trace = model.trace(Batch.from_clips([clip]))
    for modality in ("visual", "audio"):
        for branch, weights in trace.layer(modality).weights.items():
            heads = {("share-att", "global"): [0, 1], ("share-att", "local"): [2, 3]}.get((kind, branch), [0, 1, 2, 3])
            shown = record["attention"].sel(modality=modality, branch=branch)
            np.testing.assert_array_equal(shown.sel(head=heads), weights[0].numpy())
            assert shown.drop_sel(head=heads).isnull().all()


def test_query_is_the_row_that_sums_to_one():
    record = inspect_clip(small_model("baseline"), small_clip())
    np.testing.assert_allclose(record["attention"].sum("key"), 1.0, rtol=1e-5)
    assert not np.allclose(record["attention"].sum("query"), 1.0, rtol=1e-2)


def test_profile_similarity_and_gates_equal_their_definitions():
    model, clip = small_model("gate-op"), small_clip()
    record = inspect_clip(model, clip)
    mask, valid = record["neighbourhood"].values, np.ones(13, bool)
    for modality in ("visual", "audio"):
        local = record["attention"].sel(modality=modality, branch="local").values
        np.testing.assert_allclose(
            record["profile"].sel(modality=modality, branch="local"),
            slow.attention_profile(local, mask, valid),
            rtol=1e-5,
        )
        np.testing.assert_allclose(
            record["similarity"].sel(modality=modality), slow.cosine_similarity(clip.floats(modality)), atol=1e-6
        )
    gate = model.trace(Batch.from_clips([clip])).layer("audio").gates["local"][0].mean(-1)
    np.testing.assert_allclose(record["gate"].sel(modality="audio", branch="local"), gate.numpy(), rtol=1e-6)
    np.testing.assert_allclose(record["gate"].sum("branch"), 1.0, rtol=1e-6)
    entropy = slow.entropy(record["profile"].sel(modality="audio", branch="global").values)
    assert record["profile_entropy"].sel(modality="audio", branch="global") == pytest.approx(entropy, rel=1e-5)


def test_share_att_combines_the_profiles_of_its_halves():
    record = inspect_clip(small_model("share-att"), small_clip())
    each = record["head_profile"]
    both = each.sel(branch="global").fillna(0) + each.sel(branch="local").fillna(0)
    np.testing.assert_array_equal(each.sel(branch="combined"), both)
    np.testing.assert_allclose(record["profile"].sel(branch="combined"), both.mean("head"), rtol=1e-6)


def test_scores_labels_and_names():
    model, clip = small_model(), small_clip()
    record = inspect_clip(model, clip)
    logits = model(Batch.from_clips([clip]))[0]
    torch.testing.assert_close(torch.from_numpy(record["logit"].values), logits.detach())
    torch.testing.assert_close(torch.from_numpy(record["score"].values), logits.detach().sigmoid())
    assert record["class"].values.tolist() == list(VOCABULARY.indices)
    assert record["class_name"].values.tolist() == list(VOCABULARY.names)
    assert record["class"].values[record["label"].values].tolist() == [11]
    assert json.loads(record.attrs["labels"]) == [11, 404]
    assert json.loads(record.attrs["label_names"]) == ["Food", "label 404"]
    assert (record.attrs["clip"], record.attrs["source"]) == ("clip0", "made0")


def test_times_are_seconds_of_the_video_and_segments_stand_on_them():
    record = inspect_clip(small_model(), small_clip(start_seconds=30.0, frame_seconds=0.5))
    for name in ("frame", "query", "key"):
        np.testing.assert_array_equal(record[name], 30 + 0.5 * np.arange(13))
    # The clip lasts 6.5 s; the event is cut there and the background after it is gone.
    np.testing.assert_array_equal(record["segment_start"], [30.0, 33.0])
    np.testing.assert_array_equal(record["segment_end"], [33.0, 36.5])
    assert record["segment_label"].values.tolist() == ["", "Food"]
    assert record["segment_kind"].values.tolist() == ["background", "event"]
    assert record["segment_origin"].values.tolist() == ["", "abcd"]
    assert float(record["segment_class"][1].sel({"class": 11})) == 1.0
    assert np.isnan(record["segment_class"].values).sum() == 2 * len(VOCABULARY) - 1


def test_a_clip_without_segments_has_no_segment_variables():
    assert "segment" not in inspect_clip(small_model(), small_clip(segments=())).dims


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 13])
def test_it_saves_whole_and_comes_back_identical(tmp_path, kind, frames):
    record = inspect_clip(small_model(kind), small_clip(frames, labels=() if frames == 2 else (11,)))
    record.to_netcdf(tmp_path / "record.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "record.nc") as opened:
        assert opened.load().identical(record)
    record.to_zarr(tmp_path / "record.zarr", consolidated=False)
    assert xr.open_zarr(tmp_path / "record.zarr", consolidated=False).load().identical(record)


def test_it_opens_without_torch_and_without_this_package(tmp_path):
    inspect_clip(small_model(), small_clip()).to_netcdf(tmp_path / "record.nc", engine="h5netcdf")
    script = (
        "import sys\nfor name in ('torch', 'captum'): sys.modules[name] = None\n"
        "import xarray\nrecord = xarray.open_dataset(sys.argv[1])\n"
        "print(float(record['attention'].sel(branch='global').sum('key').mean()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "record.nc"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == pytest.approx(1.0, rel=1e-5)


def test_what_was_cut_to_align_streams_is_said(tmp_path):
    clip = replace(small_clip(), alignment="shortest: cut to 11 frames, visual from 12")
    record = open_record(save_record(inspect_clip(small_model(), clip), tmp_path / "r.nc"))
    assert record.attrs["alignment"] == clip.alignment
    assert "alignment" not in inspect_clip(small_model(), small_clip()).attrs
    pair = combine_models([record, inspect_clip(small_model("baseline"), clip)])
    assert pair.attrs["alignment"] == clip.alignment


def test_a_batch_gives_the_records_of_its_clips():
    model = small_model("gate-att")
    clips = [small_clip(13), small_clip(7, seed=1), small_clip(23, seed=2)]
    made = []
    together = list(inspect_clips(model, iter(clips), batch_size=2, progress=made.append))
    assert made == [1, 1, 1]
    for record, clip in zip(together, clips, strict=True):
        assert record.sizes["frame"] == clip.frames
        xr.testing.assert_allclose(record, inspect_clip(model, clip), rtol=1e-4, atol=1e-6)


def test_records_are_made_one_batch_at_a_time():
    read = []

    def clips():
        for seed in range(5):
            read.append(seed)
            yield small_clip(5, seed)

    next(inspect_clips(small_model(), clips(), batch_size=2))
    assert read == [0, 1]


def test_long_clips_are_cut_and_the_record_says_so():
    record = inspect_clip(small_model(), small_clip(29))
    assert (record.sizes["frame"], record.attrs["clip_frames"]) == (23, 29)
    assert record["segment_end"].values.max() == 23


def test_one_modality_and_other_layers_and_types():
    audio = inspect_clip(small_model("gate-op", ("audio",)), small_clip())
    assert audio["modality"].values.tolist() == ["audio"]
    assert audio["similarity"].shape == (1, 13, 13)
    deep, clip = small_model("baseline", layers=2), small_clip()
    second = inspect_clip(deep, clip, layer=1)
    weights = deep.trace(Batch.from_clips([clip])).layer("visual", 1).weights["global"][0]
    np.testing.assert_array_equal(second["attention"].sel(modality="visual", branch="global"), weights.numpy())
    assert second.attrs["layer"] == 1
    with pytest.raises(RecordError, match=r"layer is 2; the model has layers 0 to 1"):
        inspect_clip(deep, clip, layer=2)
    half = inspect_clip(small_model().bfloat16(), clip)
    assert half["attention"].dtype == np.float32


def test_a_chosen_neighbourhood_and_chosen_parts():
    record = inspect_clip(
        small_model("baseline"), small_clip(), neighbourhood=Toeplitz(5), parts=("neighbourhood", "label")
    )
    assert set(record.data_vars) == {"neighbourhood", "label"}
    np.testing.assert_array_equal(record["neighbourhood"], neighbourhood_mask(Toeplitz(5), 13).numpy())
    assert json.loads(record.attrs["neighbourhood_config"])["size"] == 5
    with pytest.raises(KeyError, match=r"unknown part 'atention' of a record; known: attention, "):
        inspect_clip(small_model(), small_clip(), parts=("atention",))


def test_the_default_parts_are_parts_and_others_come_only_when_asked_for(monkeypatch):
    assert set(DEFAULT_PARTS) <= set(PARTS)
    extra = {"extra": lambda view: {"extra": xr.DataArray(np.float32(1.5))}}
    monkeypatch.setattr(record_module, "PARTS", (*PARTS, "extra"))
    monkeypatch.setattr(record_module, "CLIP_PARTS", CLIP_PARTS | extra)
    assert "extra" not in inspect_clip(small_model(), small_clip())
    assert inspect_clip(small_model(), small_clip(), parts=[*DEFAULT_PARTS, "extra"])["extra"] == 1.5


def test_a_frame_of_zeros_has_no_similarity_and_the_rest_has():
    features = {name: values.astype(np.float32) for name, values in small_clip().features.items()}
    features["audio"][4] = 0.0
    record = inspect_clip(small_model(), small_clip(features=features))
    similarity = record["similarity"].sel(modality="audio").values
    assert np.isnan(similarity[4]).all()
    assert np.isnan(similarity[:, 4]).all()
    assert np.isfinite(np.delete(np.delete(similarity, 4, 0), 4, 1)).all()
    assert np.isfinite(record["similarity"].sel(modality="visual")).all()


def test_the_model_is_left_in_its_mode():
    model = small_model(dropout=0.5).train()
    first, second = (inspect_clip(model, small_clip()) for _ in range(2))
    assert model.training
    assert first.identical(second)


def test_combining_models(tmp_path):
    clip = small_clip()
    records = [inspect_clip(small_model(kind), clip) for kind in KINDS]
    joined = combine_models(records)
    assert joined["model"].values.tolist() == [f"small-{kind}" for kind in KINDS]
    assert joined["branch"].values.tolist() == ["global", "local", "combined"]
    for record, kind in zip(records, KINDS, strict=True):
        one = joined.sel(model=f"small-{kind}")
        if "attention" in record:
            xr.testing.assert_equal(one["attention"].sel(branch=record["branch"]).drop_vars("model"),
                                    record["attention"].drop_vars("model"))  # fmt: skip
        np.testing.assert_array_equal(one["score"], record["score"])
    assert joined["attention"].sel(model="small-none").isnull().all()
    assert (joined["neighbourhood"].sel(model="small-baseline") == -1).all()
    np.testing.assert_array_equal(joined["neighbourhood"].sel(model="small-gate-op"), records[3]["neighbourhood"])
    for name in ("similarity", "label", "segment_start", "segment_origin"):
        assert "model" not in joined[name].dims
    assert joined["attention_kind"].values.tolist() == list(KINDS)
    joined.to_netcdf(tmp_path / "joined.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "joined.nc") as opened:
        assert opened.load().identical(joined)


def test_combining_models_of_other_modalities_and_a_single_one():
    both = inspect_clip(small_model(), small_clip())
    audio = inspect_clip(small_model("baseline", ("audio",)), small_clip())
    joined = combine_models([audio, both])
    np.testing.assert_array_equal(
        joined["similarity"].sel(modality="visual"), both["similarity"].sel(modality="visual")
    )
    assert joined["attention"].sel(model="small-baseline", modality="visual").isnull().all()
    assert combine_models([both])["score"].dims == ("model", "class")


def test_a_class_has_the_name_that_the_first_record_gives_it():
    one, two = (inspect_clip(small_model(kind), small_clip()) for kind in ("baseline", "gate-op"))
    names = [f"class {label}" for label in two["class"].values]
    two = two.assign_coords(class_name=("class", np.array(names, dtype=object)))
    assert combine_models([one, two])["class_name"].values.tolist() == one["class_name"].values.tolist()
    assert combine_models([two, one])["class_name"].values.tolist() == names


def test_what_cannot_be_combined_is_refused():
    record = inspect_clip(small_model(), small_clip())
    with pytest.raises(RecordError, match=r"no records"):
        combine_models([])
    with pytest.raises(RecordError, match=r"two records of model 'small-gate-op'"):
        combine_models([record, record])
    with pytest.raises(RecordError, match=r"clip differs, model 'small-baseline' has 'clip1'"):
        combine_models([record, inspect_clip(small_model("baseline"), small_clip(seed=1))])
    with pytest.raises(RecordError, match=r"layer differs, model 'small-baseline' has 1, 'small-gate-op' has 0"):
        combine_models([record, inspect_clip(small_model("baseline", layers=2), small_clip(), layer=1)])
    with pytest.raises(RecordError, match=r"frames differs"):
        combine_models([record, inspect_clip(small_model("baseline", max_frames=11), small_clip())])


@pytest.mark.shared_data
def test_the_real_video(shared_data):
    (clip,) = read_clips(shared_data / "yt8m_frame_SjJ3.tfrecord")
    wide = {"visual": 1024, "audio": 128}
    model = small_model(widths={"visual": 16, "audio": 8}, max_frames=300, input_widths=wide)
    record = inspect_clip(model, clip)
    assert record.sizes["frame"] == clip.frames
    # Claim C5: neighbouring frames are alike, more than frames a minute apart.
    similarity = record["similarity"].sel(modality="visual").values
    assert np.diagonal(similarity, 1).mean() > np.diagonal(similarity, 60).mean() + 0.1
