"""inspect_video: records of made and real videos by small transformers models with random weights."""

import json
import warnings

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="transformers, of the extra models, is not installed")
pytest.importorskip("av", reason="PyAV, of the extra video, is not installed")

from made_videos import tone, write_video

from analysis import open_record, save_record
from analysis.errors import RecordError
from analysis.inspect.video import inspect_video
from analysis.module_sites import Probes
from analysis.pretrained.model import open_pretrained
from analysis.pretrained.video import prepare_video
from analysis.record.contents import check_drawable
from benchmarks.random_model import CLASSES, write_model
from figures.inspector.header import describe_model
from gmsa_models.data.errors import ClipFileError
from gmsa_models.errors import ArgumentError, ConfigError
from gmsa_models.masks import Toeplitz

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 26}
SOUND = {
    "ast": SMALL | {"patch_size": 16, "frequency_stride": 16},
    "wav2vec2": SMALL | {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2},
    "whisper": {
        "d_model": 24, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 26, "decoder_layers": 1,
        "decoder_attention_heads": 2, "decoder_ffn_dim": 26,
    },
}  # fmt: skip
PICTURE_KINDS = ("videomae", "vivit", "timesformer", "vjepa2", "vit", "dinov2", "clip", "swin")
HALVES = ((0.0, 3.5), (3.5, 7.0))
STEPS = {"videomae": 8, "vivit": 8, "timesformer": 8, "vjepa2": 8}  # 16 for models of single pictures


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Kind -> folder of a model, made when it is asked for."""
    made = {}

    def folder(kind):
        if kind not in made:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "At least one mel filter")  # of transformers, as a model is written
                made[kind] = write_model(kind, tmp_path_factory.mktemp(kind), **SOUND.get(kind, {}))
        return made[kind]

    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Sixteen pictures in eight seconds, each brighter than the last, and a tone in seconds 2 to 5."""
    times = [number / 2 for number in range(16)]
    return write_video(tmp_path_factory.mktemp("video") / "lights.mkv", times, (2.0, tone(3.0)), size=(64, 96))


@pytest.mark.parametrize("kind", PICTURE_KINDS)
def test_models_of_pictures(kind, folders, video, tmp_path):
    record = inspect_video(video, folders(kind), layers="all")
    assert record.sizes["frame"] == STEPS.get(kind, 16)
    assert record.attrs["source"] == str(video)
    assert record["model"].item() == f"{folders(kind).name} (weights: random)"
    assert record.attrs["weights"] == "random"
    assert len(json.loads(record.attrs["frame_times"])) == (8 if kind == "timesformer" else 16)
    assert "gradient_norm" not in record  # without a neighbourhood
    if kind == "clip":
        assert record.attrs["no_predictions"] == "CLIPVisionModel has no classifier"
        assert not {"score", "logit", "label", "class"} & set(record.variables)
    else:
        assert list(record["class_name"].values) == list(CLASSES)
        assert float(record["score"].sum()) == pytest.approx(1, abs=1e-5)
    maps = record["attention"].sum("key", skipna=False)  # NaN for heads that a layer lacks
    total = maps + record["attention_outside"].fillna(0) if "attention_outside" in record else maps
    np.testing.assert_allclose(total.values[np.isfinite(total.values)], 1, atol=1e-5)
    again = open_record(save_record(record, tmp_path / "record.nc"))
    assert again.identical(record)
    check_drawable(again, kind)


def test_pictures_are_those_on_the_screen_at_the_start_of_equal_parts(folders, video):
    opened = open_pretrained(folders("videomae"), torch.device("cpu"))
    prepared = prepare_video(video, opened.folder, opened.module)
    shown = np.asarray(prepared.times)
    parts = np.arange(16) * prepared.frame_seconds / 2
    assert (shown <= parts + 1e-3).all()
    assert (shown > parts - 0.51).all()
    brightness = prepared.values[0].mean((1, 2, 3))
    assert (brightness.diff() > -0.02).all()
    assert brightness[-1] - brightness[0] > 2
    later = prepare_video(video, opened.folder, opened.module, span=(4.0, 6.0))
    assert later.span == (4.0, 6.0)
    assert later.frame_seconds == pytest.approx(0.25)
    assert min(later.times) == pytest.approx(4.0, abs=0.01)
    assert later.sampling == "16 pictures, evenly over 4 to 6 s"


@pytest.mark.parametrize("kind", ["videomae", "timesformer", "vivit"])
def test_windows_are_what_each_is_alone(kind, folders, video):
    """Maps of a clip of two windows are those of the two halves, nothing between; logits are their mean."""
    each = {"timesformer": 8}.get(kind, 16)
    whole = inspect_video(video, folders(kind), frames=2 * each, span=(0.0, 7.0))
    halves = [inspect_video(video, folders(kind), span=span) for span in HALVES]
    steps = halves[0].sizes["frame"]
    maps = whole["attention"].values
    for half, place in zip(halves, (slice(0, steps), slice(steps, None)), strict=True):
        np.testing.assert_allclose(maps[..., place, place], half["attention"].values, atol=1e-5)
        np.testing.assert_allclose(whole["frame"].values[place], half["frame"].values, atol=1e-6)
        np.testing.assert_allclose(whole["profile"].values[..., place], half["profile"].values, rtol=1e-3, atol=1e-5)
    assert (maps[..., :steps, steps:] == 0).all()
    model = open_pretrained(folders(kind), torch.device("cpu"))
    with torch.no_grad():
        logits = [
            model.module.model(prepare_video(video, model.folder, model.module, span=span).values).logits[0]
            for span in HALVES
        ]
    expected = torch.stack(logits).mean(0).softmax(0)
    np.testing.assert_allclose(whole["score"], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "swin", "dinov2"])
def test_models_of_single_pictures_attend_within_each(kind, folders, video):
    record = inspect_video(video, folders(kind), frames=5)
    maps = record["attention"].values
    assert record.sizes["frame"] == 5
    maps = maps[np.isfinite(maps).all((-2, -1))]  # heads that the layer has
    own = np.eye(5, dtype=bool)
    assert (maps[..., ~own] == 0).all()
    assert (maps[..., own] > 0).all()
    assert record["similarity"].values[0, 0, 4] < 0.999


@pytest.mark.parametrize(
    ("kind", "steps", "seconds"), [("ast", 101, 0.1), ("whisper", 300, 0.1), ("wav2vec2", 100, 0.1)]
)
def test_models_of_sound(kind, steps, seconds, folders, video):
    record = inspect_video(video, folders(kind), parts=["attention", "profile", "similarity", "score", "label"])
    assert record.sizes["frame"] == steps
    assert record.attrs["frame_seconds"] == pytest.approx(seconds)
    assert ("no_predictions" in record.attrs) == (kind == "whisper")
    assert "frame_times" not in record.attrs
    alike = record["similarity"].sel(query=3.5, method="nearest").isel(modality=0)
    tone_like, silence_like = (float(alike.sel(key=slice(*span)).mean()) for span in ((2.5, 4.5), (6.0, 7.5)))
    assert tone_like > silence_like  # the tone lies in seconds 2 to 5


def test_sound_in_windows_and_spans(folders, video):
    record = inspect_video(video, folders("ast"), span=(2.0, 7.5), parts=["attention"])
    assert float(record["frame"][0]) == 2.0
    assert record.attrs["sampling"] == "sound from 2 to 7.5 s, in 1 windows of 10.1 s"


def test_g_s_and_layers_of_a_clip_in_windows(folders, video):
    record = inspect_video(
        video, folders("timesformer"), frames=16, neighbourhood=Toeplitz(2), layer=1, probes=Probes(2)
    )
    norms = record["gradient_norm"].sel(modality="temporal").values
    assert (norms[:8, 8:] == 0).all()
    assert (norms[:8, :8] > 0).all()
    assert record["sensitivity"].notnull().all()
    assert record.attrs["layer"] == 1


def test_a_class_is_explained(folders, video):
    steps = []
    record = inspect_video(
        video, folders("videomae"), target="Dog", progress=lambda done, total: steps.append((done, total))
    )
    assert record["explanation"].attrs["class_name"] == "Dog"
    assert record["faithfulness"].notnull().sel(measure="deletion").all()
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1]


@pytest.mark.parametrize(
    ("kind", "arguments", "error", "message"),
    [
        ("videomae", {"frames": 15}, ArgumentError, "frames is 15; this videomae model takes 16 at once"),
        ("videomae", {"span": (9.0, 12.0)}, ArgumentError, r"the span is 9 to 12 s; the video has 0 to 7\.54 s"),
        ("videomae", {"span": (2.0, 2.0)}, ArgumentError, "the span is 2 to 2 s"),
        ("videomae", {"span": (2.0, 2.0 + 1e-9)}, ArgumentError, r"the span of 2 to 2 s holds less than 1 / 1000 s"),
        ("videomae", {"span": (2.0, 2.1)}, ArgumentError, r"the span of 2 to 2\.1 s holds the same picture 16 times"),
        ("vit", {"span": (2.0, 2.1)}, ArgumentError, "holds the same picture 16 times; give a longer one"),
        ("ast", {"span": (2.0, 2.05)}, ArgumentError, r"holds less sound than a time step of 0\.1 s"),
        ("videomae", {"target": "Unicorn"}, ValueError, "Unicorn"),
        ("videomae", {"target": True}, RecordError, "target is True; expected the position of a class or its name"),
        ("videomae", {"target": 7}, RecordError, "target is 7; the module has classes 0 to 6"),
        ("videomae", {"layer": 3}, RecordError, "layer is 3; the model has layers 0 to 2"),
        ("clip", {"explain": True}, RecordError, "has no classifier: there is no class to explain"),
        ("vit", {"frames": 2001}, ArgumentError, "the clip has 2001 time steps; at most 2000 are shown"),
        ("ast", {"frames": 16}, ArgumentError, "hears the sound and takes no pictures"),
    ],
)  # fmt: skip
def test_what_is_refused(kind, arguments, error, message, folders, video):
    with pytest.raises(error, match=message):
        inspect_video(video, folders(kind), **arguments)


def test_one_picture_of_a_short_span_is_no_error(folders, video):
    record = inspect_video(video, folders("vit"), frames=1, span=(2.0, 2.1), parts=["attention"])
    assert record.sizes["frame"] == 1


def test_a_video_without_sound_or_none_at_all(folders, tmp_path):
    silent = write_video(tmp_path / "silent.mkv", [0.0, 1.0, 2.0])
    with pytest.raises(ClipFileError, match="has no sound"):
        inspect_video(silent, folders("ast"))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ClipFileError, match="is not a video"):
        inspect_video(tmp_path / "text.mp4", folders("videomae"))


def test_models_and_processors_that_do_not_belong_together(folders, video, tmp_path):
    import transformers

    folder = write_model("videomae", tmp_path / "a")
    path = folder / "preprocessor_config.json"
    plain = json.loads(path.read_text())
    path.write_text(json.dumps(plain | {"num_frames": 8}))
    with pytest.raises(ConfigError, match=r"has num_frames 8; the model's config\.json expects 16: the two do not"):
        inspect_video(video, folder)
    path.write_text(json.dumps(plain | {"crop_size": {"height": 48, "width": 48}}))
    with pytest.raises(ConfigError, match=r"prepares pictures of 48 x 48 pixels; .* expects 64 x 64"):
        inspect_video(video, folder)
    path.unlink()
    with pytest.raises(ConfigError, match="has none of video_preprocessor_config"):
        inspect_video(video, folder)
    config = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="of type 'bert' is given of a video is not known; known: videomae"):
        inspect_video(video, tmp_path / "bert")


def test_weights_in_half_precision_are_computed_in_float32(video, tmp_path):
    import transformers

    folder = write_model("videomae", tmp_path)
    transformers.VideoMAEForVideoClassification.from_pretrained(folder).bfloat16().save_pretrained(folder)
    record = inspect_video(video, folder, parts=["attention", "score"])
    assert (record.attrs["weights_type"], record.attrs["computed_in"]) == ("bfloat16", "float32")


def test_the_spatial_map_of_a_pinned_time_step(folders, video):
    record = inspect_video(video, folders("timesformer"), pinned=3, layers="all")
    spatial = record["spatial_attention"]
    assert spatial.dims == ("layer", "modality", "head", "key", "patch")
    assert spatial.shape == (3, 2, 4, 8, 16)
    assert spatial.attrs["query"] == pytest.approx(float(record["frame"][3]))
    rows = record["attention"].isel(query=3, branch=0)
    np.testing.assert_allclose(spatial.sum("patch"), rows, atol=1e-5)
    one = inspect_video(video, folders("timesformer"), pinned=3, layer=1, parts=["attention"])["spatial_attention"]
    np.testing.assert_allclose(one, spatial.isel(layer=1), atol=1e-6)
    with pytest.raises(RecordError, match="no query frame 8; the clip has time steps 0 to 7"):
        inspect_video(video, folders("timesformer"), pinned=8)


def test_the_inspector_gives_python_that_makes_the_record_again(folders, video):
    import gmsa_models

    record = inspect_video(
        video, folders("timesformer"), frames=16, span=(1.0, 6.0), neighbourhood=Toeplitz(2), layer=1, target=3
    )
    text = describe_model(record, (1,))["python"]
    again = eval(text, {"inspect_video": inspect_video, "gmsa_models": gmsa_models})
    assert again.drop_vars("gradient_norm").equals(record.drop_vars("gradient_norm"))
    assert again.attrs == record.attrs


@pytest.mark.parametrize("attributes", [{"video_span": "[1]"}, {"video_span": "x"}, {"frame_times": '["a"]'}])
def test_a_saved_record_with_damaged_times_is_refused(attributes, folders, video, tmp_path):
    record = inspect_video(video, folders("clip"), parts=["attention"]).assign_attrs(attributes)
    with pytest.raises(RecordError, match=f"attribute {next(iter(attributes))!r} is .*expected a list of"):
        open_record(save_record(record, tmp_path / "record.nc"))


@pytest.mark.parametrize("name", ["mdn_frog.mp4", "intel_asl_book.mkv", "moviepy_bbb_0_30.webm"])
def test_real_clips(name, folders, shared_data):
    clip = shared_data / "video" / name
    if not clip.is_file():
        pytest.skip("real data: no video folder in ../shared/data")
    record = inspect_video(clip, folders("timesformer"))
    similarity = record["similarity"].sel(modality="temporal").values
    assert (similarity[np.eye(8, dtype=bool)] > 0.999).all()
    times = json.loads(record.attrs["frame_times"])
    assert times == sorted(times)
    assert record.attrs["frame_seconds"] * 8 > times[-1]
