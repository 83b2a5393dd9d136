"""What processors of transformers do where the configuration that names them says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gmsa_models.data.errors import brief
from gmsa_models.errors import ConfigError

__all__ = ["BILINEAR", "configured"]

BILINEAR, BICUBIC = 2, 3
HALVES, IMAGENET_MEAN, IMAGENET_STD = [0.5] * 3, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
KINDS = ("image_processor_type", "video_processor_type", "feature_extractor_type")
ENDS = ("ImageProcessor", "VideoProcessor", "FeatureExtractor")
SETTINGS = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
    "image_mean", "image_std",
)  # fmt: skip
EMPTY = (
    "size",
    "crop_size",
    "image_mean",
    "image_std",
)  # of which null is the default in ViViT's; in others it is none


def _video(side: int, mean: list[float], deviation: list[float], scale: float = 1 / 255) -> dict[str, Any]:
    """Of a processor of videos, whose class itself needs torchvision."""
    return {
        "do_resize": True, "size": {"shortest_edge": side}, "resample": BILINEAR, "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224}, "do_rescale": True, "rescale_factor": scale, "do_normalize": True,
        "image_mean": mean, "image_std": deviation, "offset": False, "square": False,
    }  # fmt: skip


VIDEO: dict[str, dict[str, Any]] = {
    "VideoMAEVideoProcessor": _video(224, HALVES, HALVES),
    "TimesformerVideoProcessor": _video(224, IMAGENET_MEAN, IMAGENET_STD),
    "VivitVideoProcessor": _video(256, HALVES, HALVES, 1 / 127.5) | {"offset": True},
    "VJEPA2VideoProcessor": _video(292, IMAGENET_MEAN, IMAGENET_STD) | {"crop_size": {"height": 256, "width": 256}},
}


def _vjepa2(settings: dict[str, Any]) -> dict[str, Any]:
    """V-JEPA 2 resizes by its crop, whatever `size` says."""
    crop = settings["crop_size"]
    side = crop.get("height") if isinstance(crop, Mapping) else crop
    return settings | ({"size": {"shortest_edge": side * 256 // 224}} if isinstance(side, int) else {})


CHANGED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"VJEPA2VideoProcessor": _vjepa2}


def configured(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with what the class that it names takes where it says nothing, and without what that ignores.

    Args:
        path: of the configuration, for messages.
        config: its settings; of no class that transformers knows, or none at all, it is left as it is.

    Raises:
        ConfigError: a class that prepares pictures by steps of its own.
    """
    name = next((config[kind] for kind in KINDS if isinstance(config.get(kind), str)), "").removesuffix("Fast")
    defaults = VIDEO.get(name) or _of_class(path, name)
    if defaults is None:
        return dict(config)
    ignored = {"offset"} if name == "VivitVideoProcessor" or "offset" not in defaults else set()
    unset = EMPTY if name == "VivitImageProcessor" else ()
    stated = {
        key: value for key, value in config.items() if key not in ignored and not (value is None and key in unset)
    }
    settings = CHANGED.get(name, dict)(defaults | stated)
    if isinstance(settings["size"], int):
        side = settings["size"]
        settings["size"] = {"height": side, "width": side} if settings["square"] else {"shortest_edge": side}
    if settings.get("offset") and not settings["do_rescale"]:
        raise ConfigError(f"{path}: offset without do_rescale, which {name} does not take; expected both or neither")
    return settings


def _of_class(path: Path, name: str) -> dict[str, Any] | None:
    """Settings of a new processor of pictures; None: transformers has none of this name.

    Raises:
        ConfigError: one that prepares pictures by steps of its own.
    """
    import transformers
    from transformers.image_processing_backends import PilBackend

    stem = name
    for end in ENDS:
        stem = stem.removesuffix(end)
    kind: Any = getattr(transformers, f"{stem}ImageProcessorPil", None)
    if name == "VivitImageProcessor" or (kind is None and stem == "Vivit"):
        kind = transformers.VivitImageProcessor
    elif kind is None or not name:
        return None
    elif kind._preprocess is not PilBackend._preprocess and stem != "VideoMAE":
        raise ConfigError(
            f"{path} names {brief(name)}, which prepares pictures by steps of its own, that are not made here; in "
            "Python give analysis.inspect_module what that processor makes of them"
        )
    made = kind()
    settings = {key: _plain(getattr(made, key, None)) for key in SETTINGS}
    settings["square"] = stem != "Vivit" and bool(getattr(kind, "default_to_square", True))
    settings["do_center_crop"] = bool(settings["do_center_crop"])
    return settings | ({"offset": made.offset} if stem == "Vivit" else {})


def _plain(value: Any) -> Any:
    """Numbers, lists and dictionaries of them, as a configuration has them."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, bool) or value is None or isinstance(value, float | list):
        return value
    if isinstance(value, int):  # the filters are such
        return int(value)
    return {key: side for key, side in dict(value).items() if side is not None}
