"""The payload and the HTML file, read back without a browser."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import traitlets
import xarray as xr

from figures.inspector import Inspector, write_html
from figures.inspector.header import describe_clip, web_address
from figures.inspector.media import ClipMedia, clip_media
from figures.inspector.payload import pack, pack_in_parts
from figures.inspector.records import split_records
from figures.inspector.still import scaled
from figures.inspector.strip import strip_colours
from figures.style import DIFFERENCE, WEIGHTS
from gmsa_models.data.video.proxy import Proxy
from gmsa_models.data.video.thumbnails import Thumbnails
from gmsa_models.errors import ArgumentError
from tests.inspector_records import explained_record, layered_record, made_record
from tests.unpacked import Unpacked


def test_float32_is_the_record():
    record = made_record()
    unpacked = Unpacked(pack(record))
    for branch in ("global", "local"):
        expected = record["attention"].sel(modality="audio", branch=branch, head=2).values
        np.testing.assert_array_equal(unpacked[f"0/attention/audio/{branch}/2"], expected)
    np.testing.assert_array_equal(unpacked["0/gradient/visual"], record["gradient_norm"].sel(modality="visual"))
    similarity = record["similarity"].sel(modality="audio").values
    symmetric = np.array_equal(similarity, similarity.T)
    assert unpacked.header["arrays"]["similarity/audio"].get("symmetric", False) == symmetric
    np.testing.assert_array_equal(unpacked["similarity/audio"], similarity)
    np.testing.assert_array_equal(unpacked["0/lane/sensitivity/audio"], record["sensitivity"].sel(modality="audio"))
    assert unpacked.header["clip"]["python"] == "clip = next(iter(gmsa_models.read_clips('demo:7')))"


@pytest.mark.parametrize("largest", [1.0, 3e-4, 7e3])
def test_float16_keeps_eleven_bits_of_small_weights_too(largest):
    record = made_record()
    record["attention"] = record["attention"] * np.float32(largest)
    record["attention"][0, 0, 0, 0, :3] = np.float32(largest) * np.array([1.0, 3e-9, 2e-6], np.float32)
    found = Unpacked(pack(record, "float16"))["0/attention/visual/global/0"]
    expected = record["attention"].values[0, 0, 0]
    kept = expected > 1.5e-9 * expected.max()
    np.testing.assert_allclose(found[kept], expected[kept], rtol=2**-11)


def test_a_local_branch_is_stored_inside_its_mask_only():
    record = made_record()
    arrays = Unpacked(pack(record)).header["arrays"]
    assert arrays["0/attention/visual/local/0"]["bytes"] == 4 * int(record["neighbourhood"].sum())


def test_a_combined_map_of_shared_heads_is_stored_once():
    record = made_record(branches=("global", "local", "combined"), heads=4)
    values = record["attention"].values
    values[:, 0, 2:], values[:, 1, :2] = np.nan, np.nan
    values[:, 2, :2], values[:, 2, 2:] = values[:, 0, :2], values[:, 1, 2:]
    unpacked = Unpacked(pack(record))
    assert "0/attention/visual/global/3" not in unpacked.header["arrays"]
    assert unpacked.header["arrays"]["0/attention/visual/combined/3"] == {"same": "0/attention/visual/local/3"}
    np.testing.assert_array_equal(unpacked["0/attention/visual/combined/3"], values[0, 2, 3])


def test_what_a_record_lacks_is_absent():
    absent = ["gate", "gate_map", "gradient_norm", "sensitivity", "segment_start", "neighbourhood"]
    record = made_record().drop_vars(absent)
    header = Unpacked(pack(record)).header
    assert not [name for name in header["arrays"] if "gate" in name or "gradient" in name or "sensitivity" in name]
    assert header["clip"]["segments"] == []


def test_joined_records_come_apart_again():
    from analysis import combine_models

    records = [made_record(vocabulary="v"), made_record(name="baseline", branches=("global",), vocabulary="v", seed=1)]
    records[1] = records[1].drop_vars(["gate", "neighbourhood"])
    split = split_records(combine_models(records))
    for found, expected in zip(split, records, strict=True):
        assert set(found.data_vars) == set(expected.data_vars)
        xr.testing.assert_equal(found["attention"].drop_vars("model"), expected["attention"].drop_vars("model"))
        assert found.attrs["attention_kind"] == expected.attrs["attention_kind"]
    assert pack(split) == pack(records)


def test_records_that_cannot_stand_together_are_refused():
    with pytest.raises(ArgumentError, match="two records of model 'gate-op-tp30'"):
        pack([made_record(), made_record()])
    with pytest.raises(ArgumentError, match="clip is 'other'"):
        pack([made_record(), made_record(name="baseline", clip="other")])
    with pytest.raises(ArgumentError, match="has 13 frames, the first has 29"):
        pack([made_record(), made_record(13, name="baseline")])
    with pytest.raises(ArgumentError, match="no records"):
        pack([])
    with pytest.raises(ArgumentError, match=r"float8.*known: float32, float16"):
        pack(made_record(), "float8")


def test_strip_colours_frames_that_are_alike_alike():
    shots = np.repeat([0, 1, 2, 0], [7, 9, 5, 4])  # no two alike in size, so no axis has a choice of sign
    similarity = (shots[:, None] == shots[None]).astype(float)
    colours = strip_colours(similarity).astype(int)
    assert np.abs(colours[shots == 0] - colours[0]).max() <= 1
    assert min(np.abs(colours[0] - colours[at]).max() for at in (7, 16)) > 40
    order = np.random.default_rng(0).permutation(25)
    assert np.abs(strip_colours(similarity[np.ix_(order, order)]) - colours[order]).max() <= 1
    assert (strip_colours(np.full((3, 3), np.nan)) == 128).all()


def test_pictures_of_a_record_are_a_sheet_in_the_payload():
    from io import BytesIO

    from PIL import Image

    pictures = np.zeros((29, 88, 160, 3), np.uint8)
    pictures[21, ..., 0] = 255
    unpacked = Unpacked(pack(made_record().assign(thumbnail=(("frame", "y", "x", "colour"), pictures))))
    sheet = np.asarray(Image.open(BytesIO(unpacked["thumbnails"].tobytes()))).astype(int)
    about = {"columns": 20, "width": 160, "height": 88, "type": "image/webp"}
    assert unpacked.header["clip"]["thumbnails"] == about
    assert sheet[88 + 44, 160 + 80, 0] > 240
    assert sheet[44, 160 + 80, 0] < 16


@pytest.mark.parametrize("media", ["thumbnails", "proxy"])
def test_pictures_and_sound_of_a_video_are_in_the_payload(media):
    sheet, copy = Thumbnails(b"RIFFsheet", 29, 20, 160, 90), Proxy(b"webm" * 99, 2.0, 31.0, 426, 240, True)
    made = ClipMedia(sheet, copy if media == "proxy" else None, "talk's.mp4")
    first, rest = pack_in_parts(made_record(), "float16", {"model": "gate-op-tp30", "modality": "visual"}, made)
    unpacked = Unpacked(first + rest)
    assert unpacked["thumbnails"].tobytes() == b"RIFFsheet"
    assert b"RIFFsheet" in first
    path = str(Path("talk's.mp4").absolute())
    assert unpacked.header["clip"]["video"] == [f"video={path!r}", f"media={media!r}"]
    assert ("proxy" in unpacked.header["arrays"]) == (media == "proxy")
    if media == "proxy":  # what plays comes after what the first view needs
        assert unpacked["proxy"].tobytes() == b"webm" * 99
        assert b"webmwebm" in rest
        about = {"first": 2.0, "width": 426, "height": 240, "sound": True, "type": "video/webm"}
        assert unpacked.header["clip"]["proxy"] == about


def test_pictures_that_cannot_be_had_are_one_error(tmp_path):
    with pytest.raises(ArgumentError, match="media is 'sound'; expected one of none, thumbnails, proxy"):
        write_html(made_record(), tmp_path / "a.html", media="sound")
    with pytest.raises(ArgumentError, match="media is 'proxy' and no video was given"):
        Inspector(made_record(), media="proxy")
    early = made_record().assign_coords(frame=np.arange(29.0) - 3)
    with pytest.raises(ArgumentError, match=r"frames begin 3 s before the video 'a\.mp4'"):
        write_html(early, tmp_path / "a.html", video="a.mp4")
    assert clip_media([made_record(0)], "a.mp4") is None  # no frame, no picture
    assert clip_media([made_record()], "a.mp4", "none") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "kept"), [("https://a.org/v", True), ("javascript:alert(1)", False), ("x", False), ("http://[x", False)]
)
def test_only_addresses_of_the_web_become_links(address, kept):
    assert web_address(address) == (address if kept else "")


@pytest.mark.parametrize(
    ("clip", "dataset", "url"),
    [
        ("--aE2O5G5WE", "audioset", "https://www.youtube.com/watch?v=--aE2O5G5WE"),
        ("--aE2O5G5WE", "youtube-8m", ""),
        ("abcd", "audioset", ""),  # a made clip
        ("a&b=c#d/e?f", "audioset", ""),
        ("аудиосет123", "audioset", ""),
    ],
)
def test_clips_of_audioset_are_linked_and_those_of_anonymised_ids_are_not(clip, dataset, url):
    assert describe_clip([made_record(clip=clip, dataset=dataset)])["url"] == url
    own = made_record(clip=clip, dataset=dataset, source_url="https://a.org/v")
    assert describe_clip([own])["url"] == "https://a.org/v"


def test_page_is_one_file_that_asks_for_nothing(tmp_path):
    record = made_record(
        clip="</script><script>alert(1)</script>", source_url="https://a.org/v", modalities=("</script>", "audio")
    )
    path = write_html(record, tmp_path / "deep" / "view.html", {"frame": 3, "modality": "</script>"})
    text = path.read_text(encoding="utf-8")
    assert "default-src &#x27;none&#x27;" in text
    assert not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)\b", text)
    assert text.count("</script>") == 4  # of the page itself
    assert "alert(1)" not in text
    packed = re.search(r'id="payload" type="text/plain">([^<]*)<', text)[1]
    assert Unpacked(zlib.decompress(base64.b64decode(packed))).header["clip"]["url"] == "https://a.org/v"
    assert list(path.parent.iterdir()) == [path]


def test_traits_say_what_they_know():
    inspector = Inspector([made_record(), made_record(name="baseline", seed=1)], frame=3, against="baseline")
    assert (inspector.modality, inspector.branch, inspector.model) == ("visual", "global", "gate-op-tp30")
    with pytest.raises(traitlets.TraitError, match="modality is 'smell'; these records have 'visual', 'audio'"):
        inspector.modality = "smell"
    with pytest.raises(traitlets.TraitError, match="class_ is 4"):
        inspector.class_ = 4
    with pytest.raises(ArgumentError, match=r"unknown trait 'heads'.*known: frame, modality"):
        Inspector(made_record(), heads=3)


def test_figure_shows_the_current_view():
    records = [made_record(), made_record(name="baseline", seed=1)]
    inspector = Inspector(records, frame=4, head=2, span=[2, 20], scale="row")
    maps = [axes for axes in inspector.figure().axes if axes.images]
    weights = records[0]["attention"].sel(modality="visual", branch="global", head=2).values
    np.testing.assert_allclose(maps[1].images[0].get_array(), weights / weights.max(axis=1, keepdims=True))
    assert maps[1].get_xlim() == (2.0, 20.0)
    assert maps[1].lines[0].get_ydata()[0] == 4.5
    inspector.set_trait("against", "baseline")
    inspector.set_trait("view", "difference")
    inspector.set_trait("scale", "linear")
    difference = next(axes for axes in inspector.figure().axes if "−" in axes.get_title()).images[0].get_array()
    other = records[1]["attention"].sel(modality="visual", branch="global", head=2).values
    np.testing.assert_allclose(difference, weights - other)


def test_seconds_of_a_clock_are_sent_whole():
    record = made_record()
    start = 1.8e9 + 0.1
    seconds = start + np.arange(29)
    sent = Unpacked(pack(record.assign_coords(frame=seconds)))["seconds"]
    np.testing.assert_array_equal(sent, seconds)


def shared_heads(name: str, local: range) -> xr.Dataset:
    """A record whose local branch has some of five heads."""
    record = made_record(13, 5, name=name, seed=len(name))
    others = [head for head in range(5) if head not in local]
    record["attention"].values[:, 0, list(local)] = np.nan
    record["attention"].values[:, 1, others] = np.nan
    return record


def test_a_difference_is_of_one_head_and_one_branch():
    first, second = shared_heads("first", range(2, 5)), shared_heads("second", range(3, 5))
    view = Inspector([first, second], against="second", view="difference", branch="local", head=-1)
    maps = [axes.images[0] for axes in view.figure().axes if axes.get_title().startswith("head ")]
    assert len(maps) == 2  # heads 4 and 5, which both have
    excluded = first["neighbourhood"].values
    for index, head in enumerate((3, 4)):
        one, other = (record["attention"].values[0, 1, head] for record in (first, second))
        np.testing.assert_allclose(maps[index].get_array().compressed(), (one - other)[excluded], atol=1e-7)


def test_no_difference_of_unlike_branches():
    other = made_record(name="baseline", branches=("global",), seed=1).drop_vars(["gate", "gate_map"])
    view = Inspector([made_record(), other], against="baseline", view="difference", branch="local")
    titles = [axes.get_title() for axes in view.figure().axes]
    assert "GateOp TP30 − Baseline\nno difference of local and global" in titles
    assert not any("head" in title for title in titles)
    view.branch = "global"
    assert "GateOp TP30 − Baseline, global, head 0" in [axes.get_title() for axes in view.figure().axes]


def test_explanations_are_sent_told_and_drawn():
    record = explained_record()
    sent = Unpacked(pack(record))
    np.testing.assert_array_equal(sent["0/lane/explanation/audio/saliency"], record["explanation"].values[0, 1])
    assert "0/lane/explanation/audio/rollout" not in sent.header["arrays"]
    model = sent.header["models"][0]
    assert model["explained"] == "Food"
    assert model["explanations"]["saliency"] == "deletion 0.25 · insertion 0.75"
    inspector = Inspector(record, explanation="rollout")
    lane = next(axes for axes in inspector.figure().axes if axes.get_ylabel() == "visual\nexplanation")
    np.testing.assert_allclose(lane.patches[-1].get_data().values, record["explanation"].values[1, 0])
    assert lane.get_title(loc="left") == "rollout of Food"
    with pytest.raises(traitlets.TraitError, match="explanation is 'lime'; these records have 'saliency', 'rollout'"):
        inspector.explanation = "lime"
    assert Inspector(made_record()).explanation == ""


def test_figure_of_all_heads_and_of_nothing():
    inspector = Inspector(made_record(), head=-1)
    assert sum("head" in axes.get_title() for axes in inspector.figure().axes) == 4
    assert Inspector(made_record(0)).figure().texts[0].get_text() == "no frames"
    assert Inspector(made_record(1)).figure().axes


def test_scales_of_the_figure():
    values = np.array([[0.0, 0.5], [0.25, 0.25]], np.float32)
    rows, norm = scaled(values, WEIGHTS, "row")
    np.testing.assert_array_equal(rows, [[0, 1], [1, 1]])
    assert norm(1.0) == 1
    _, norm = scaled(values, WEIGHTS, "log")
    assert norm(0.5) == pytest.approx(1.0, abs=0.01)
    _, norm = scaled(values - 0.25, DIFFERENCE, "linear")
    assert norm(0.0) == 0.5


def test_drawing_needs_no_torch():
    code = (
        "import sys; from tests.inspector_records import made_record; from figures.inspector import Inspector;"
        "Inspector(made_record()).figure(); assert 'torch' not in sys.modules"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("pages_left_empty")
def test_gmsa_inspect_writes_one_page_for_all_models(tmp_path):
    from analysis import inspect_clip
    from figures.inspection import write_inspection
    from tests.small_models import small_clip, small_model

    records = [inspect_clip(small_model(kind), small_clip()) for kind in ("gate-op", "baseline")]
    written = write_inspection(records, tmp_path, 3, "gmsa inspect", html=True)
    assert written[-1] == tmp_path / "clip0-small-gate-op-against-small-baseline.html"
    text = written[-1].read_text(encoding="utf-8")
    assert json.loads(re.search(r'id="view" type="application/json">([^<]*)<', text)[1]) == {
        "against": "small-baseline"
    }
    packed = re.search(r'id="payload" type="text/plain">([^<]*)<', text)[1]
    header = Unpacked(zlib.decompress(base64.b64decode(packed))).header
    assert [model["name"] for model in header["models"]] == ["small-gate-op", "small-baseline"]
    assert header["models"][0]["patterns"]["visual/local/0"].startswith("verticality ")


def test_each_layer_is_a_model_of_the_payload_and_what_is_of_the_clip_is_there_once():
    record = layered_record(3)
    payload = Unpacked(pack([record, made_record(name="other", seed=7)]))
    models = [(each["name"], each["layer"]) for each in payload.header["models"]]
    assert models == [("gate-op-tp30", 0), ("gate-op-tp30", 1), ("gate-op-tp30", 2), ("other", 0)]
    for layer in range(3):
        expected = record["attention"].sel(layer=layer, modality="audio", branch="local", head=3)
        np.testing.assert_array_equal(payload[f"{layer}/attention/audio/local/3"], expected)
        profile = record["profile"].sel(layer=layer, modality="audio", branch="local")
        np.testing.assert_array_equal(payload[f"{layer}/lane/profile/audio/local"], profile)
    assert payload.header["arrays"]["2/neighbourhood"] == {"same": "0/neighbourhood"}
    assert "layers=[0, 1, 2]" in payload.header["models"][1]["python"]
    assert "layer" not in payload.header["models"][3]["python"]
