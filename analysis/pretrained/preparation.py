"""What a transformers model is given: pictures or sound, prepared as the configuration beside its weights says."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from analysis.pretrained.processors import BILINEAR, configured
from gmsa_models.data.errors import brief
from gmsa_models.data.video.decode import SAMPLE_RATE
from gmsa_models.errors import ConfigError

__all__ = ["EXTRACTORS", "PicturePreparation", "SoundPreparation", "read_preparation"]

PICTURE_FILES = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
SOUND_FILES = ("preprocessor_config.json", "processor_config.json")
# Where a configuration of several processors has the one that is meant.
SECTIONS = ("video_processor", "image_processor", "feature_extractor")
# Model type -> class of transformers that turns sound into its input.
EXTRACTORS = {
    "audio-spectrogram-transformer": "ASTFeatureExtractor",
    "whisper": "WhisperFeatureExtractor",
    "wav2vec2": "Wav2Vec2FeatureExtractor",
}


@dataclass(frozen=True)
class PicturePreparation:
    """Pictures are resized, cropped in the middle, scaled and normalised, in this order.

    Attributes:
        path: the configuration file.
        frames: pictures that the model takes at once, where the file says it.
        values: arguments of the library's own preparation.
    """

    path: Path
    frames: int | None
    values: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> PicturePreparation:
        """From the configuration in a folder.

        What is not said is as in the processor of the library that is named. Where none is: numbers are scaled by
        1 / 255, pictures are cropped only if a `crop_size` is given, and resized bilinearly; a `size` of one number is
        the shorter side of pictures that are cropped, else both sides.

        Raises:
            ConfigError: none, or a size, mean or deviation is missing, or a crop by `crop_pct`.
        """
        path, config = _read(folder, PICTURE_FILES)
        config = configured(path, config)
        crop = bool(config.get("do_center_crop", "crop_size" in config))
        values = {
            "do_resize": bool(config.get("do_resize", True)),
            "do_center_crop": crop,
            "do_rescale": bool(config.get("do_rescale", True)),
            "rescale_factor": config.get("rescale_factor", 1 / 255),
            "do_normalize": bool(config.get("do_normalize", True)),
            "resample": config.get("resample", BILINEAR),
        }
        if config.get("crop_pct") is not None and values["do_resize"]:
            raise ConfigError(
                f"{path} asks for a crop by crop_pct ({brief(config['crop_pct'])}), which is not made here; expected "
                "size and crop_size"
            )
        for step, names in (("do_resize", ["size"]), ("do_center_crop", ["crop_size"]),
                            ("do_normalize", ["image_mean", "image_std"])):  # fmt: skip
            for name in names if values[step] else []:
                if config.get(name) is None:
                    raise ConfigError(f"{path} has no {name!r}, which {step} needs; expected it there")
                values[name] = config[name]
        _check_normalisation(path, values)
        if isinstance(values.get("size"), int):
            side = values["size"]
            values["size"] = {"shortest_edge": side} if crop else {"height": side, "width": side}
        if config.get("offset") and values["do_rescale"]:  # ViViT: scaled to [-1, 1], and then normalised
            values["image_mean"] = [1 + mean for mean in values.get("image_mean", [0.0] * 3)]
            values.setdefault("image_std", [1.0] * 3)
            values["do_normalize"] = True
        frames = config.get("num_frames")
        return cls(path, frames if isinstance(frames, int) and config.get("do_sample_frames", True) else None, values)

    def __call__(
        self, pictures: Sequence[UInt8[ndarray, "height width 3"]]
    ) -> Float[Tensor, "pictures 3 rows columns"]:
        """Pictures as the model takes them.

        Raises:
            ConfigError: values that the library does not take.
        """
        from transformers.image_processing_backends import PilBackend

        try:
            prepare: Any = PilBackend(**self.values)
            return prepare(list(pictures), return_tensors="pt", input_data_format="channels_last")["pixel_values"]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{self.path}: pictures cannot be prepared by it: {brief(str(error))}") from error


@dataclass(frozen=True)
class SoundPreparation:
    """Sound of 16 kHz goes through the model's feature extractor.

    Attributes:
        path: the configuration file.
        extractor: of transformers.
    """

    path: Path
    extractor: Any

    @classmethod
    def read(cls, folder: Path, model_type: str) -> SoundPreparation:
        """From the configuration in a folder.

        Raises:
            ConfigError: none, or one of another rate.
        """
        import transformers

        path, config = _read(folder, SOUND_FILES)
        kind = getattr(transformers, EXTRACTORS[model_type])
        values = {key: value for key, value in config.items() if not key.endswith("_type")}
        try:
            with warnings.catch_warnings():
                # AST's published filter bank is so: some of its 128 filters lie between two frequencies.
                warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
                extractor = kind.from_dict(values)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path}: {kind.__name__} cannot be made of it: {brief(str(error))}") from error
        if extractor.sampling_rate != SAMPLE_RATE:
            raise ConfigError(
                f"{path}: sampling_rate is {extractor.sampling_rate}; expected {SAMPLE_RATE}, the rate of decoded sound"
            )
        return cls(path, extractor)

    def __call__(self, windows: Sequence[Float[ndarray, " samples"]]) -> Float[Tensor, "windows ..."]:
        """Some windows of equally many samples as the model takes them."""
        name = self.extractor.model_input_names[0]
        prepared = [self.extractor(each, sampling_rate=SAMPLE_RATE, return_tensors="pt")[name] for each in windows]
        return torch.cat(prepared)


def _check_normalisation(path: Path, values: Mapping[str, Any]) -> None:
    """Refuse a mean or deviation that makes no numbers of pictures."""
    for name in ("image_mean", "image_std"):
        value = values.get(name, [])
        numbers = value if isinstance(value, list | tuple) else [value]
        least = 0.0 if name == "image_std" else -math.inf
        if not all(isinstance(each, int | float) and least < each < math.inf for each in numbers):
            raise ConfigError(f"{path}: {name} is {brief(value)}; expected finite numbers, and deviations above 0")


def read_preparation(folder: Path, model_type: str) -> PicturePreparation | SoundPreparation:
    """How a model of a type is given a video: as pictures, or as sound."""
    if model_type in EXTRACTORS:
        return SoundPreparation.read(folder, model_type)
    return PicturePreparation.read(folder)


def _read(folder: Path, names: Sequence[str]) -> tuple[Path, dict[str, Any]]:
    """The first of some configuration files that is in a folder, and what it says."""
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise ConfigError(
            f"{folder} has none of {', '.join(names)}; expected one, which says how the model's input is prepared: "
            "save the processor beside the model with processor.save_pretrained(folder)"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigError(f"{path} is no JSON that can be read; expected a configuration") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} is {brief(config)}; expected an object of settings")
    section = next((config[name] for name in SECTIONS if isinstance(config.get(name), dict)), config)
    if "auto_map" in config or "auto_map" in section:
        raise ConfigError(f"{path} asks for code of its own (auto_map), which is not run")
    return path, section
