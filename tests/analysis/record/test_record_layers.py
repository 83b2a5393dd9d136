"""Records of several layers: each layer is the record of that layer, in memory, saved, joined and drawn."""

import numpy as np
import pytest
import xarray as xr
from small_models import KINDS, moved, small_clip, small_model

from analysis import combine_models, inspect_clip, inspect_clips, open_record, save_record
from analysis.errors import RecordError
from analysis.record.contents import LAYERED
from analysis.record.layers import of_layer, record_layers
from figures.inspector.records import split_records
from figures.overview import draw


@pytest.fixture(scope="module")
def three():
    """A record of three layers and the model."""
    model = moved(small_model("gate-att", layers=3))
    return model, inspect_clip(model, small_clip(), layers="all")


@pytest.mark.parametrize("kind", KINDS)
def test_each_layer_is_the_record_of_that_layer(kind):
    model, clip = moved(small_model(kind, layers=2)), small_clip()
    several = inspect_clip(model, clip, layers="all")
    assert record_layers(several) == (0, 1)
    for layer in (0, 1):
        xr.testing.assert_identical(of_layer(several, layer), inspect_clip(model, clip, layer=layer))
    with_layers = {name for name, array in several.data_vars.items() if "layer" in array.dims}
    assert with_layers >= LAYERED & set(several.data_vars)
    assert not with_layers & {"similarity", "neighbourhood", "score", "label", "segment_start"}


def test_one_layer_adds_no_dimension(three):
    model, _ = three
    clip = small_clip()
    xr.testing.assert_identical(inspect_clip(model, clip, layers=[1]), inspect_clip(model, clip, layer=1))
    plain = small_model()
    xr.testing.assert_identical(inspect_clip(plain, clip, layers="all"), inspect_clip(plain, clip))
    (some,) = inspect_clips(model, [clip], layers=(0, 2), parts=["profile", "sensitivity"])
    assert some["profile"].dims[0] == some["sensitivity"].dims[0] == "layer"
    assert some["layer"].values.tolist() == [0, 2]


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_it_saves_and_opens(three, tmp_path, suffix):
    path = save_record(three[1], tmp_path / f"record.{suffix}")
    xr.testing.assert_identical(open_record(path), three[1])


def test_models_of_the_same_layers_are_joined_and_come_apart(three):
    records = [three[1], inspect_clip(small_model("none", layers=3), small_clip(), layers="all")]
    joined = combine_models(records)
    assert joined["attention"].dims[:3] == ("model", "layer", "modality")
    first, control = split_records(joined)
    np.testing.assert_array_equal(of_layer(first, 2)["attention"], of_layer(three[1], 2)["attention"])
    assert "attention" not in control
    other = inspect_clip(small_model("baseline", layers=3), small_clip(), layers=[0, 1])
    with pytest.raises(RecordError, match=r"layers differs, model 'small-baseline' has \[0, 1\], .* \[0, 1, 2\]"):
        combine_models([three[1], other])


def test_a_layer_that_is_not_there_is_refused(three):
    with pytest.raises(RecordError, match="no layer 3 in this record; it has 0, 1, 2"):
        of_layer(three[1], 3)
    with pytest.raises(RecordError, match="no layer 1 in this record; it has 0"):
        draw(inspect_clip(small_model(), small_clip(), parts=["score", "label", "similarity"]), layer=1)
    with pytest.raises(RecordError, match="layer is 3; the model has layers 0 to 2"):
        inspect_clip(three[0], small_clip(), layers=[0, 3])


def test_the_overview_draws_the_layer_and_says_which(three):
    several = three[1]
    for layer in (0, 2):
        figure = draw(several, layer=layer)
        assert figure.get_suptitle().splitlines()[0].endswith(f", layer {layer} of 0, 1, 2")
        alone = draw(inspect_clip(three[0], small_clip(), layer=layer))
        for one, other in zip(figure.axes, alone.axes, strict=True):
            for drawn, expected in zip(one.images, other.images, strict=True):
                np.testing.assert_array_equal(drawn.get_array(), expected.get_array())
    assert draw(several).get_suptitle() == draw(several, layer=0).get_suptitle()
    assert alone.get_suptitle().splitlines()[0].endswith(", layer 2")
    assert "layer" not in draw(inspect_clip(small_model(), small_clip())).get_suptitle()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.drop_vars("layer"), "coordinate 'layer' is missing"),
        (lambda one: one.assign_coords(layer=[0, 0, 1]), "coordinate 'layer' has a value twice"),
        (lambda one: one.assign_coords(layer=[-1, 0, 1]), "expected whole numbers of at least 0"),
        (lambda one: one.assign_coords(layer=[0.5, 1.0, 2.0]), "expected whole numbers of at least 0"),
        (lambda one: one.assign(score=one["score"].expand_dims(layer=3)), "variable 'score' has dimensions"),
        (lambda one: one.assign(profile=one["profile"].transpose("modality", ...)), "variable 'profile' has dim"),
    ],
)
def test_layers_that_are_none_are_refused(three, tmp_path, change, message):
    path = tmp_path / "record.nc"
    change(three[1]).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(RecordError, match=message):
        open_record(path)


def test_more_layers_than_the_files_bytes_can_hold_are_refused(three, tmp_path):
    empty = three[1][["head_profile"]].isel(layer=[0]).drop_vars("layer")
    many = xr.Dataset(
        {"head_profile": (("layer", *empty["head_profile"].dims[1:]), np.zeros((60000, 2, 3, 4, 13), np.float32))},
        {**empty.drop_vars("head_profile").coords, "layer": np.arange(60000)},
        three[1].attrs,
    )
    path = tmp_path / "record.nc"
    packed = {name: {"zlib": True, "complevel": 9} for name in ("head_profile", "layer")}
    many.to_netcdf(path, engine="h5netcdf", encoding=packed)
    with pytest.raises(RecordError, match=r"bytes that claim .* are read"):
        open_record(path)
