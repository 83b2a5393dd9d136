"""Lanes: what a variable says of how it is drawn over time, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from small_models import small_clip, small_model

from analysis import DEFAULT_PARTS, combine_models, inspect_clip
from analysis.errors import RecordError
from analysis.record.contents import check_contents
from analysis.record.files import open_record, save_record
from analysis.record.lanes import EARLIER, MOST_LINES, Lane, lane_values, record_lanes
from tests.inspector_records import made_record

FRAMES = 7


def record_of(kind="gate-op", **changes):
    return inspect_clip(small_model(kind), small_clip(FRAMES), parts=[*DEFAULT_PARTS, "explanation"], **changes)


def with_lane(attributes: dict, dims=("modality", "frame"), sizes=(2, FRAMES), values=None) -> xr.Dataset:
    record = inspect_clip(small_model("none"), small_clip(FRAMES))
    values = np.linspace(0, 1, int(np.prod(sizes)), dtype=np.float32).reshape(sizes) if values is None else values
    return record.assign(novelty=xr.DataArray(values, dims=dims, attrs=attributes))


def test_what_variables_say_is_what_earlier_records_mean():
    record = record_of("gate-att")
    assert set(EARLIER) <= set(record.data_vars)
    bare = record.copy()
    for variable in bare.data_vars.values():
        variable.attrs = {name: value for name, value in variable.attrs.items() if not name.startswith("lane")}
    assert list(record_lanes(record)) == list(record_lanes(bare)) == list(EARLIER)
    assert record_lanes(record) == record_lanes(bare)


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_every_field_survives_its_file(tmp_path, suffix):
    lane = Lane("line", "how new", "bit", "new", 0.25, -1.0, 2.5, 91, 15.0, overview=False)
    record = with_lane(lane.attributes())
    if suffix == "nc":
        save_record(record, tmp_path / "a.nc")
    else:
        record.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    assert record_lanes(open_record(tmp_path / f"a.{suffix}"))["novelty"] == lane


def test_what_is_not_said_is_the_variables_own():
    record = with_lane({"lane": "line", "long_name": "surprise", "units": "nat"})
    assert record_lanes(record)["novelty"] == Lane(name="surprise", units="nat")
    assert record_lanes(with_lane({"lane": "line"}))["novelty"] == Lane(name="novelty", units="")


def test_lanes_stand_by_their_order_and_outlive_the_joining_of_models():
    record = record_of(target=0)
    record["novelty"] = xr.DataArray(
        np.ones((2, FRAMES), np.float32), dims=("modality", "frame"), attrs={"lane": "line"}
    )
    record["first"] = record["novelty"].assign_attrs(lane_order=1)
    names = ["first", *(name for name in EARLIER if name in record), "novelty"]
    assert list(record_lanes(record)) == names
    joined = combine_models([record, record_of("baseline", target=0)])
    assert list(record_lanes(joined)) == names
    assert record_lanes(joined) == record_lanes(record)


def test_received_is_the_share_of_each_key_by_hand():
    values = np.array([[[1.0, 3.0, np.nan], [0.0, 4.0, 2.0], [5.0, 0.0, 0.0]], np.zeros((3, 3))], np.float32)
    pairs = xr.DataArray(values, {"key": [0.0, 1.0, 2.0]}, ("modality", "query", "key"))
    received = lane_values(pairs, Lane("received"))
    assert received.dims == ("modality", "frame")
    np.testing.assert_allclose(received[0], np.array([6.0, 7.0, 2.0]) * 3 / 15)
    assert np.isnan(received[1]).all()  # nothing is given to any frame


def test_dimensions_of_which_one_is_chosen_come_first():
    record = record_of()
    names = lane_values(record["explanation"].transpose("frame", "explainer", "modality"), Lane()).dims
    assert names == ("modality", "explainer", "frame")
    assert lane_values(record["head_profile"], Lane()).dims == ("modality", "head", "branch", "frame")


HOSTILE = [
    ({"lane": "pie"}, "'lane' is 'pie'; known: line, received"),
    ({"lane": 3}, "'lane' is 3; known"),
    ({"lane": "line", "lane_colour": "red"}, "unknown attribute 'lane_colour'; known: lane_name"),
    ({"lane": "line", "lane_name": "a\x1b[2Jb"}, r"'lane_name' is 'a\\x1b.2Jb'; expected text"),
    ({"lane": "line", "lane_units": "x" * 121}, "'lane_units' is .*; expected text of at most 120"),
    ({"lane": "line", "long_name": "a\nb"}, r"'long_name' is 'a\\nb'; expected text"),
    ({"lane": "line", "lane_reference": np.inf}, "'lane_reference' is inf; expected a number in"),
    ({"lane": "line", "lane_reference": np.nan}, "'lane_reference' is nan; expected a number in"),
    ({"lane": "line", "lane_least": "0"}, "'lane_least' is '0'; expected a number in"),
    ({"lane": "line", "lane_most": 1e31}, "'lane_most' is 1e.31; expected a number in"),
    ({"lane": "line", "lane_least": 2.0, "lane_most": 2.0}, "'lane_least' is 2; expected less than 2"),
    ({"lane": "line", "lane_height": 1_000_000}, "'lane_height' is 1000000; expected a number in .20, 400"),
    ({"lane": "line", "lane_order": 10**400}, "'lane_order' is 1000"),
    ({"lane": "line", "lane_overview": 2}, "'lane_overview' is 2; expected a number in .0, 1"),
    ({"lane": "received"}, "a lane of kind 'received' is of query and key"),
]


@pytest.mark.parametrize(("attributes", "message"), HOSTILE)
def test_hostile_attributes_are_refused_by_name(tmp_path, attributes, message):
    with pytest.raises(RecordError, match=f"variable 'novelty'.*{message}"):
        check_contents(tmp_path / "a.nc", with_lane(attributes))


def test_a_file_with_a_hostile_lane_does_not_open(tmp_path):
    save_record(with_lane({"lane": "line", "lane_least": 5.0, "lane_most": -5.0}), tmp_path / "a.nc")
    with pytest.raises(RecordError, match=r"a\.nc: variable 'novelty': 'lane_least' is 5; expected less than -5; wri"):
        open_record(tmp_path / "a.nc")


def test_shapes_that_cannot_be_drawn_are_refused(tmp_path):
    line = {"lane": "line"}
    with pytest.raises(RecordError, match=r"'novelty'.*a lane of kind 'line' is of frame"):
        record_lanes(with_lane(line, ("modality",), (2,)))
    with pytest.raises(RecordError, match="'novelty': dimension 'way' has no coordinate"):
        record_lanes(with_lane(line, ("way", "frame"), (3, FRAMES)))
    many = MOST_LINES + 1
    wide = with_lane(line, ("way", "frame"), (many, FRAMES)).assign_coords(way=[f"{n}" for n in range(many)])
    with pytest.raises(RecordError, match="'novelty': 13 lines in one lane; at most 12"):
        record_lanes(wide)
    assert "novelty" in record_lanes(wide.isel(way=slice(1, None)))
    with pytest.raises(RecordError, match=r"'novelty' is object; expected numbers"):
        record_lanes(with_lane(line, values=np.full((2, FRAMES), "x", dtype=object)))
    with pytest.raises(RecordError, match="'novelty' has inf; expected values in"):
        check_contents(tmp_path / "a.nc", with_lane(line, values=np.full((2, FRAMES), np.inf, np.float32)))
    crowd = made_record().assign({f"v{n}": ("frame", np.zeros(29), line) for n in range(32)})
    with pytest.raises(RecordError, match="36 variables have the attribute 'lane'; at most 32"):
        record_lanes(crowd)


def test_infinite_values_of_what_has_no_upper_end_are_refused(tmp_path):
    record = inspect_clip(small_model(), small_clip(FRAMES))
    record["profile"].values[0, 0, 3] = np.inf
    with pytest.raises(RecordError, match=r"variable 'profile' has inf; expected values in \[0, "):
        check_contents(tmp_path / "a.nc", record)
