"""How pictures and sound are prepared: as the configuration beside the weights says, by hand; what is refused."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="transformers, of the extra models, is not installed")

from analysis.pretrained.preparation import (
    PicturePreparation,
    SoundPreparation,
    read_preparation,
)
from gmsa_models.errors import ConfigError

MEAN, DEVIATION = [0.5, 0.25, 0.125], [0.5, 0.25, 0.2]
WHOLE = {
    "size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}, "image_mean": MEAN, "image_std": DEVIATION,
}  # fmt: skip


def write(folder, values, name="preprocessor_config.json"):
    (folder / name).write_text(json.dumps(values))
    return folder


def picture(height, width, level=100):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 2 :] = level
    return pixels


def test_pictures_are_resized_cropped_in_the_middle_scaled_and_normalised(tmp_path):
    prepare = PicturePreparation.read(write(tmp_path, WHOLE))
    pixels = prepare([picture(16, 40), picture(16, 40, 200)])
    assert pixels.shape == (2, 3, 8, 8)
    expected = (torch.tensor([100 / 255] * 3) - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    torch.testing.assert_close(pixels[0, :, 4, -1], expected, rtol=1e-4, atol=1e-4)  # right of the middle
    torch.testing.assert_close(pixels[0, :, 4, 0], -torch.tensor(MEAN) / torch.tensor(DEVIATION), rtol=1e-4, atol=1e-4)
    assert (pixels[1, :, 4, -1] > pixels[0, :, 4, -1]).all()


@pytest.mark.parametrize(
    ("size", "crop", "shape"),
    [(6, {"crop_size": 5}, (5, 5)), (6, {"do_center_crop": False}, (6, 6)),
     ({"height": 4, "width": 7}, {"do_center_crop": False}, (4, 7))],
)  # fmt: skip
def test_a_size_of_one_number_is_the_shorter_side_of_what_is_cropped(tmp_path, size, crop, shape):
    values = {"size": size, "image_mean": MEAN, "image_std": DEVIATION} | crop
    assert PicturePreparation.read(write(tmp_path, values))([picture(12, 30)]).shape[-2:] == shape


def test_an_offset_scales_to_minus_one_to_one_before_the_mean(tmp_path):
    values = WHOLE | {"offset": True, "rescale_factor": 1 / 127.5}
    pixels = PicturePreparation.read(write(tmp_path, values))([picture(16, 40)])
    expected = (torch.tensor([100 / 127.5 - 1] * 3) - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    torch.testing.assert_close(pixels[0, :, 4, -1], expected, rtol=1e-4, atol=1e-4)


def test_the_number_of_pictures_and_the_section_of_a_processor(tmp_path):
    write(tmp_path, {"video_processor": WHOLE | {"num_frames": 12}}, "processor_config.json")
    assert PicturePreparation.read(tmp_path).frames == 12
    write(tmp_path, WHOLE | {"num_frames": 12, "do_sample_frames": False}, "preprocessor_config.json")
    assert PicturePreparation.read(tmp_path).frames is None
    write(tmp_path, WHOLE | {"num_frames": 4}, "video_preprocessor_config.json")
    assert PicturePreparation.read(tmp_path).frames == 4


def test_the_pictures_are_those_of_the_librarys_own_processor(tmp_path):
    transformers = pytest.importorskip("transformers")
    own = transformers.VideoMAEImageProcessorPil(size={"shortest_edge": 9}, crop_size={"height": 8, "width": 7})
    own.save_pretrained(tmp_path)
    random = np.random.default_rng(0)
    video = [random.integers(0, 255, (20, 31, 3), dtype=np.uint8) for _ in range(3)]
    expected = own(video, return_tensors="pt")["pixel_values"][0]
    assert torch.equal(PicturePreparation.read(tmp_path)(video), expected)


def test_sound_goes_through_the_feature_extractor(tmp_path):
    import transformers

    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    prepare = read_preparation(tmp_path, "wav2vec2")
    assert isinstance(prepare, SoundPreparation)
    windows = [np.arange(5, dtype=np.float32), np.ones(5, np.float32)]
    values = prepare(windows)
    assert values.shape == (2, 5)
    torch.testing.assert_close(values[0], (torch.arange(5.0) - 2) / 2**0.5, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 8}, r"preprocessor_config\.json has no 'image_mean', which do_normalize needs"),
        (WHOLE | {"size": None}, "has no 'size', which do_resize needs"),
        (WHOLE | {"size": {"tall": 3}}, "pictures cannot be prepared by it"),
        (WHOLE | {"auto_map": {"AutoImageProcessor": "mine.P"}}, r"asks for code of its own \(auto_map\)"),
        (
            WHOLE | {"image_std": [0.5, 0, 0.5]},
            r"image_std is \[0\.5, 0, 0\.5\]; expected finite .* deviations above 0",
        ),
        (WHOLE | {"image_std": 0}, "image_std is 0; expected"),
        (WHOLE | {"image_mean": "x"}, "image_mean is 'x'; expected finite numbers"),
        (WHOLE | {"image_mean": [0.5, float("nan"), 0.5]}, "image_mean is .*; expected finite numbers"),
        ([1], "expected an object of settings"),
    ],
)
def test_configurations_that_cannot_be_used(tmp_path, values, message):
    with pytest.raises(ConfigError, match=message):
        PicturePreparation.read(write(tmp_path, values))([picture(9, 9)])


def test_no_configuration_or_one_of_another_rate(tmp_path):
    with pytest.raises(ConfigError, match=r"has none of video_preprocessor_config.*processor\.save_pretrained"):
        PicturePreparation.read(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ConfigError, match="is no JSON"):
        PicturePreparation.read(tmp_path)
    write(tmp_path, {"sampling_rate": 8000})
    with pytest.raises(ConfigError, match="sampling_rate is 8000; expected 16000"):
        SoundPreparation.read(tmp_path, "wav2vec2")


@pytest.mark.parametrize(
    ("kind", "filter_number"),
    [({"image_processor_type": "CLIPImageProcessorFast"}, 3), ({"feature_extractor_type": "CLIPFeatureExtractor"}, 3),
     ({"image_processor_type": "ViTImageProcessor"}, 2), ({"image_processor_type": "Nobody's"}, 2), ({}, 2)],
)  # fmt: skip
def test_a_filter_that_is_not_said_is_that_of_the_processor(tmp_path, kind, filter_number):
    pixels = [np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)]
    kind = kind | {"do_center_crop": True}
    silent, said = (
        PicturePreparation.read(write(tmp_path, WHOLE | kind | each)) for each in ({}, {"resample": filter_number})
    )
    assert silent.values == said.values
    assert PicturePreparation.read(write(tmp_path, WHOLE | kind | {"resample": 0})).values["resample"] == 0
    assert torch.equal(
        silent(pixels), PicturePreparation.read(write(tmp_path, WHOLE | {"resample": filter_number}))(pixels)
    )


def test_a_crop_by_a_share_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"asks for a crop by crop_pct \(0\.875\), which is not made"):
        PicturePreparation.read(write(tmp_path, WHOLE | {"crop_pct": 0.875}))
