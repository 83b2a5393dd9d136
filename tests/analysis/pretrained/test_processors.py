"""What a processor that a configuration names does where it says nothing, beside the processor itself."""

import ast
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers", reason="transformers, of the extra models, is not installed")

import transformers

from analysis.pretrained.preparation import PicturePreparation
from analysis.pretrained.processors import VIDEO
from gmsa_models.errors import ConfigError

PICTURES = [np.random.default_rng(0).integers(0, 255, (300, 340, 3), dtype=np.uint8)]
CLASSES = {
    "VideoMAEImageProcessorPil": "VideoMAEImageProcessor", "VivitImageProcessor": "VivitImageProcessor",
    "ViTImageProcessorPil": "ViTImageProcessorFast", "BitImageProcessorPil": "BitImageProcessor",
    "CLIPImageProcessorPil": "CLIPFeatureExtractor",
}  # fmt: skip
SMALL = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 18}}
CHANGES = [
    {"offset": True}, {"offset": False}, {"rescale_factor": 1 / 100}, {"do_rescale": False, "offset": False},
    {"do_normalize": False}, {"do_center_crop": False}, {"do_center_crop": True}, {"image_mean": [0.1, 0.2, 0.3]},
    {"image_std": [0.3, 0.2, 0.1]}, {"resample": 0}, {"size": 20}, {"size": {"height": 18, "width": 20}},
    {"size": None}, {"image_mean": None}, {"do_resize": False}, {"offset": None, "crop_size": 12},
]  # fmt: skip
KEYS = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "offset",
    "do_normalize", "image_mean", "image_std",
)  # fmt: skip


def pixels_here(name, config, folder):
    (folder / "preprocessor_config.json").write_text(json.dumps(config | {"image_processor_type": name}))
    return PicturePreparation.read(folder)(PICTURES).numpy()


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_not_said_or_not_known_is_as_in_the_class_that_is_named(kind, tmp_path):
    saved = json.loads(json.dumps(getattr(transformers, kind)(**SMALL).to_dict()))
    saved = {key: value for key, value in saved.items() if key in KEYS}
    configs = [saved, {}, *({name: value for name, value in saved.items() if name != key} for key in KEYS)]
    refused = 0
    for config in [*configs, *(saved | change for change in CHANGES), *({**SMALL, **change} for change in CHANGES)]:
        try:
            own = getattr(transformers, kind).from_dict(config)(PICTURES, return_tensors="np")["pixel_values"]
        except ValueError:
            refused += 1
            with pytest.raises(ConfigError):
                pixels_here(CLASSES[kind], config, tmp_path)
            continue
        pixels = pixels_here(CLASSES[kind], config, tmp_path)
        np.testing.assert_allclose(pixels, np.reshape(own, pixels.shape), atol=1e-5, err_msg=str(config))
    assert refused < len(CHANGES)


@pytest.mark.parametrize("name", VIDEO)
def test_settings_of_processors_of_videos_are_those_of_their_classes(name):
    stem = name.removesuffix("VideoProcessor").lower()
    file = Path(find_spec("transformers").origin).parent / "models" / stem / f"video_processing_{stem}.py"
    if not file.is_file():
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    (own,) = (node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef))
    names = {
        **vars(transformers.image_utils), "int": int,
        "PILImageResampling": transformers.image_utils.PILImageResampling,
    }  # fmt: skip
    stated = {
        node.targets[0].id: eval(compile(ast.Expression(node.value), name, "eval"), names)
        for node in own.body
        if isinstance(node, ast.Assign)
    }
    known = dict(VIDEO[name])
    for key in KEYS:
        if key == "crop_size" and isinstance(stated[key], int):
            stated[key] = {"height": stated[key], "width": stated[key]}
        if key in stated:
            assert known[key] == pytest.approx(stated[key]), key
    moved = ast.unparse(own).count("rescale_factor - 1")
    assert known["offset"] == bool(moved)


def test_a_processor_of_v_jepa_2_resizes_by_its_crop(tmp_path):
    config = {"video_processor_type": "VJEPA2VideoProcessor", "size": {"shortest_edge": 500}, "crop_size": 112}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    values = PicturePreparation.read(tmp_path).values
    assert values["size"] == {"shortest_edge": 128}
    assert PicturePreparation.read(tmp_path)(PICTURES).shape[-2:] == (112, 112)


@pytest.mark.parametrize(
    ("config", "message"),
    [({"image_processor_type": "ConvNextImageProcessor"}, "'ConvNextImageProcessor', which prepares pictures by steps"),
     ({"image_processor_type": "VivitImageProcessor", "do_rescale": False}, "offset without do_rescale")],
)  # fmt: skip
def test_what_a_processor_does_in_another_way_is_refused(tmp_path, config, message):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message):
        PicturePreparation.read(tmp_path)
