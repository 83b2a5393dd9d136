"""A transformers model from a folder on this machine: weights in safetensors only, every one of them in its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from analysis.capture.errors import CaptureError

__all__ = ["load_pretrained"]

_MOST_NAMED = 5  # weights in an error
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")


def load_pretrained(folder: str | Path) -> nn.Module:
    """A model as `save_pretrained` of transformers wrote it, in evaluation mode. Nothing is downloaded.

    Args:
        folder: with `config.json`, whose `architectures` names a class of transformers, and weights in safetensors.

    Raises:
        CaptureError: no such folder; no configuration, or one whose class transformers lacks or that asks for code of
            its own; no weights, or pickled ones; weights that did not load, loaded as other numbers, are missing or are
            not finite.
        ImportError: transformers is not installed.
    """
    if not isinstance(folder, str | Path):
        raise CaptureError(f"folder is {folder!r:.60}; expected the path of a folder")
    folder = Path(folder)
    if not folder.is_dir():
        raise CaptureError(f"{folder} is no folder; expected one with config.json and weights in safetensors")
    name = _class_name(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
        instead = f"only {pickled[0]}, which may run code when it is opened and is refused" if pickled else "none"
        raise CaptureError(
            f"{folder} has no weights in safetensors: {instead}. Write them with model.save_pretrained(folder)"
        )
    import transformers

    kind: Any = getattr(transformers, name, None)
    known = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if not known or kind.config_class is None:
        raise CaptureError(
            f"{folder / 'config.json'}: transformers {transformers.__version__} has no model {name!r:.100}"
        )
    try:
        model, report = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True,
            dtype="auto", ignore_mismatched_sizes=True,  # which are refused below, by name
        )  # fmt: skip
        _check_loaded(folder, files, model, report)
    except (CaptureError, torch.OutOfMemoryError, MemoryError):
        raise
    except (SafetensorError, RuntimeError, OSError, KeyError) as error:
        raise CaptureError(f"{folder}: the weights cannot be read: {_first_line(error)}") from error
    except Exception as error:  # whatever transformers raises of a configuration, and of an index of weights
        raise CaptureError(
            f"{folder}: transformers makes no {name} of config.json and the weights beside it "
            f"({type(error).__name__}: {_first_line(error)}); write the folder again with model.save_pretrained"
        ) from error
    return model.eval()


def _first_line(error: Exception) -> str:
    """Of what an error says, with the second where the first only introduces it."""
    return f"{' '.join(str(error).split()):.300}"


def _class_name(folder: Path) -> str:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise CaptureError(f"{folder} has no config.json that can be read; expected one of transformers") from None
    except ValueError:
        raise CaptureError(f"{path} is no JSON; expected a configuration of transformers") from None
    if not isinstance(config, dict) or "auto_map" in config:
        what = "asks for code of its own (auto_map), which is not run" if isinstance(config, dict) else "is no object"
        raise CaptureError(f"{path} {what}; expected the configuration of a model that transformers has")
    names = config.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise CaptureError(f"{path}: architectures is {names!s:.100}; expected a list of one class name")
    return names[0]


def _check_loaded(folder: Path, files: list[Path], model: nn.Module, report: dict[str, Any]) -> None:
    """Every weight of the model came from the files, and every tensor of the files is in the model, number by number.

    A loader that renames weights may lose some without a word: biases of queries and values have loaded as zeros.
    Where the configuration names another type of floats than the files have, the numbers are those of that type.
    """
    state = model.state_dict().values()
    present = {_digest(values) for values in state}
    types = sorted({values.dtype for values in state if values.is_floating_point()}, key=str)
    lost = [
        f"{name} {tuple(values.shape)}"
        for name, values in _tensors(files)
        if not any(_digest(each) in present for each in (values, *_cast(values, types)))
    ]
    faults = {
        "weights of the model are missing in the files": report.get("missing_keys"),
        "weights have other shapes in the files": report.get("mismatched_keys"),
        "errors while loading": report.get("error_msgs"),
        "tensors of the files did not load, since nothing in the model has their numbers": lost,
        "weights have values that are not finite": [
            name for name, values in model.named_parameters() if not bool(values.isfinite().all())
        ],
    }
    texts = [f"{len(each)} {what}: {_listed(each)}" for what, each in faults.items() if each]
    if texts:
        raise CaptureError(
            f"{folder}: {'; '.join(texts)}. Save the model again with save_pretrained, by the class in config.json"
        )


def _listed(names: Iterable[object]) -> str:
    shown = [f"{name!s:.150}" for name in sorted(names, key=str)]
    return ", ".join(shown[:_MOST_NAMED]) + (f" and {len(shown) - _MOST_NAMED} more" * (len(shown) > _MOST_NAMED))


def _tensors(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    for path in files:
        with safe_open(path, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118  # no mapping
                yield name, opened.get_tensor(name)


def _cast(values: Tensor, types: list[torch.dtype]) -> Iterator[Tensor]:
    """A tensor of a file as a model of other types of floats has it."""
    return (values.to(each) for each in types if values.is_floating_point() and each != values.dtype)


def _digest(values: Tensor) -> tuple[str, bytes]:
    data = values.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return str(values.dtype), hashlib.sha256(data.numpy().tobytes()).digest()
