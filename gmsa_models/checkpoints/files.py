"""Checkpoints: safetensors that carry their config, class names and card. Never pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import google_crc32c
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from gmsa_models.checkpoints import header as header_file
from gmsa_models.checkpoints.header import (
    CORRUPT,
    FORMAT_VERSION,
    MAXIMUM_HEADER_BYTES,
    METADATA_KEY,
    OTHER_CONFIG,
    CheckpointError,
    Header,
)
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.config import ModelConfig
from gmsa_models.data.atomic import replaced_when_done
from gmsa_models.data.clip import LARGEST_LABEL
from gmsa_models.data.errors import brief, is_plain
from gmsa_models.data.spaces import spaces_from_dict
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.evaluating import standard_contexts
from gmsa_models.variants import VARIANTS

__all__ = ["LONGEST_NAME", "ZOO", "Description", "available", "check_savable", "describe", "find", "load", "save"]

ZOO = Path(__file__).parents[1] / "zoo"
LONGEST_NAME = 100  # characters of a card's name, which becomes part of file names


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of itself, read without its weights.

    Attributes:
        name: the card's name, or the file's.
        path: of the file.
        config: the model's configuration.
        vocabulary: what the outputs stand for, if the checkpoint says.
        card: recipe, seed, training data, scores and so on.
        format_version: of the checkpoint.
        parameters: number of weights.
        bytes: size of the file.
    """

    name: str
    path: Path
    config: ModelConfig
    vocabulary: Vocabulary | None
    card: dict[str, Any]
    format_version: int
    parameters: int
    bytes: int


def save(model: GMSAClassifier, path: str | Path) -> Path:
    """Write a model with its config, vocabulary and card to one safetensors file.

    The file appears whole or not at all, and the same model gives the same bytes.

    Args:
        model: on any device.
        path: where to; parent directories are made.

    Returns:
        The path.

    Raises:
        CheckpointError: weights, class names or a card that `load` would refuse.
        OSError: the file cannot be written.
    """
    path = Path(path)
    data = _to_bytes(model, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_when_done(path) as temporary:
        temporary.write_bytes(data)
    return path


def check_savable(model: GMSAClassifier, path: str | Path) -> None:
    """Check that `save` would write a file that `load` reads, without writing it.

    Raises:
        CheckpointError: as `save` does.
    """
    _to_bytes(model, Path(path))


def _to_bytes(model: GMSAClassifier, path: Path) -> bytes:
    """The file of a model, checked as `load` checks it."""
    vocabulary = model.vocabulary
    contents = {
        "format_version": FORMAT_VERSION,
        "config": model.config.to_dict(),
        "vocabulary": None
        if vocabulary is None
        else {"dataset": vocabulary.dataset, "indices": vocabulary.indices, "names": vocabulary.names},
        "card": model.card,
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    try:
        contents["checksum"] = checksum(contents, tensors)
        # One metadata entry only: safetensors keeps them in a hash map, whose order differs from run to run. Its keys
        # are not sorted, because the order of the config's modalities is the order of the classifier's inputs.
        data = save_tensors(tensors, {METADATA_KEY: json.dumps(contents, ensure_ascii=False)})
        if (length := int.from_bytes(data[:8], "little")) > MAXIMUM_HEADER_BYTES:
            raise CheckpointError(
                f"{path}: class names and card need a header of {length} bytes; at most {MAXIMUM_HEADER_BYTES} are "
                "read: shorten the names"
            )
        header = header_file.parse(path, data)
        _check_tensors(path, header, _describe(path, header, len(data)).config)
        _check_finite(path, tensors)
    except (CheckpointError, TypeError, ValueError) as error:  # a card that is not JSON, a name that is not UTF-8
        reason = error.args[0] if isinstance(error, CheckpointError) else f"{path}: {_first_line(error)}"
        raise CheckpointError(f"{reason}; it would not be read back, so it is not saved") from error
    return data


@standard_contexts()
def load(
    name_or_path: str | Path, device: torch.device | str = "cpu", *, name: str | None = None, sha256: str | None = None
) -> GMSAClassifier:
    """Load a model of the zoo by name, or any checkpoint by path.

    Everything in the file is checked before the weights are used: see the errors. The caller's settings of torch
    (default type and device, inference mode) change nothing.

    Args:
        name_or_path: one of `available()`, or a `.safetensors` file written by `save`.
        device: where the weights go.
        name: what the model is called in records and figures; default: as its card says, or its file.
        sha256: of the file that is wanted, as hex; default: whichever it is.

    Returns:
        The model in evaluation mode; `model.origin` holds `name`, `path` and the file's `sha256`.

    Raises:
        CheckpointError: neither in the zoo nor a file; not the file of that SHA-256; a pickle, by content or by suffix;
            a directory, a pipe, or a file that the system does not give; not safetensors, or safetensors that `save`
            did not write; cut short; a header that is too long, not JSON, or describes impossible tensors; written by
            a later version of this package; weights that do not fit the config, do not match their checksum or are
            not finite; a config, class names or a card that cannot be used.
    """
    path = find(name_or_path)
    described = _describe(path, header := header_file.read(path), path.stat().st_size)
    _check_tensors(path, header, described.config)
    data, tensors = _read_tensors(path)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise CheckpointError(f"{path}: its SHA-256 is {digest}, not {sha256}: another model, or trained anew")
    _check_values(path, header, tensors)
    with torch.random.fork_rng(devices=[]):
        model = GMSAClassifier(described.config, described.vocabulary)
    model.to(next(iter(tensors.values())).dtype)
    model.load_state_dict(tensors)
    model.card = described.card
    model.origin = {"name": name or described.name, "path": str(path), "sha256": digest}
    return model.to(device).eval()


def available() -> list[str]:
    """Names of the trained models that ship with the package: the paper's order first, then the others by name."""
    order = {name: position for position, name in enumerate(VARIANTS)}
    names = (path.stem for path in ZOO.glob("*.safetensors"))
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def describe(name_or_path: str | Path) -> Description:
    """Config, class names and card of a checkpoint, without reading its weights. Raises as `load` does."""
    path = find(name_or_path)
    return _describe(path, header_file.read(path), path.stat().st_size)


def find(name_or_path: str | Path) -> Path:
    """Path of a zoo model or of a file.

    Raises:
        CheckpointError: neither; the message lists the zoo; a directory, or a pipe, which would wait for a writer.
    """
    if str(name_or_path) in available():
        return ZOO / f"{name_or_path}.safetensors"
    path = Path(name_or_path)
    if not os.path.isfile(path):  # False for names that no file can have
        raise CheckpointError(_no_model(str(name_or_path)))
    return path


def _no_model(name: str) -> str:
    """Why a name that is of no file is none of a model, and what may be meant."""
    if os.path.exists(name):
        inside = sorted(Path(name).glob("*.safetensors"))[:1] if os.path.isdir(name) else []
        example = f", as {inside[0]}" if inside else ""
        return f"{name}: a directory, pipe or device; expected a .safetensors file{example}"
    known = available()
    if "," in name and set(map(str.strip, name.split(","))) <= set(known):
        return f"{brief(name)} is several models; expected one"
    return (
        f"{brief(name)} is neither a file nor a trained model; known: {', '.join(known) or 'none (the zoo is empty)'}"
    )


def _describe(path: Path, header: Header, size: int) -> Description:
    contents = header.contents
    try:
        config = ModelConfig.from_dict(contents["config"])
        vocabulary = None if contents["vocabulary"] is None else _vocabulary(contents["vocabulary"], config.classes)
        card = dict(contents["card"])
        name = card.get("name", path.stem)
        if not is_plain(name) or not 0 < len(name) <= LONGEST_NAME:
            raise ValueError(f"the card's name is {brief(name)}; expected 1 to {LONGEST_NAME} plain characters")
        spaces_from_dict(card.get("feature_spaces", {}))
    except (KeyError, TypeError, ValueError) as error:
        reason = _first_line(error)
        raise CheckpointError(f"{path}: config, vocabulary or card cannot be used: {reason}", advice=CORRUPT) from error
    return Description(
        name=name,
        path=path,
        config=config,
        vocabulary=vocabulary,
        card=card,
        format_version=contents["format_version"],
        parameters=sum(shape.numel() for shape in header.shapes.values()),
        bytes=size,
    )


def _vocabulary(values: Mapping[str, Any], classes: int) -> Vocabulary:
    """Class names as they were saved; a ValueError, KeyError or TypeError where they are anything else."""
    dataset, indices, names = values["dataset"], tuple(values["indices"]), tuple(values["names"])
    if unexpected := [name for name in (dataset, *names) if not is_plain(name)]:
        raise ValueError(f"the vocabulary has {brief(unexpected[0])}; expected plain text")
    if unexpected := [index for index in indices if type(index) is not int or not 0 <= index <= LARGEST_LABEL]:
        raise ValueError(
            f"the vocabulary has the label {brief(unexpected[0])}; expected whole numbers, 0 to {LARGEST_LABEL}"
        )
    if len(indices) != classes:
        raise ValueError(f"a vocabulary of {len(indices)} for {classes} classes")
    return Vocabulary(dataset, indices, names)


def _check_tensors(path: Path, header: Header, config: ModelConfig) -> None:
    """Compare names and shapes with what the config builds."""
    if config.layers > len(header.shapes):
        raise CheckpointError(
            f"{path}: the config has {config.layers} layers, the file {len(header.shapes)} tensors", advice=OTHER_CONFIG
        )
    try:
        expected = _expected_shapes(config)
    except (ValueError, RuntimeError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path}: the config makes no model: {_first_line(error)}", advice=CORRUPT) from error
    missing, unknown = sorted(expected.keys() - header.shapes.keys()), sorted(header.shapes.keys() - expected.keys())
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} tensors of the model are missing: {', '.join(missing[:5])}", advice=OTHER_CONFIG
        )
    if unknown:
        raise CheckpointError(
            f"{path}: {len(unknown)} tensors the model does not have: {brief(unknown)}", advice=OTHER_CONFIG
        )
    for name, shape in expected.items():
        if shape != header.shapes[name]:
            raise CheckpointError(
                f"{path}: tensor {name!r} has shape {tuple(header.shapes[name])}; the config makes it {tuple(shape)}",
                advice=OTHER_CONFIG,
            )


def _expected_shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """What a config builds, on the meta device, which allocates nothing; layers of one block have one's shapes."""
    one = replace(config, layers=len(config.kinds))
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in GMSAClassifier(one).state_dict().items()}
    first = [name for name in shapes if ".layers.0." in name]
    for layer in range(one.layers, config.layers):
        shapes |= {name.replace(".layers.0.", f".layers.{layer}.", 1): shapes[name] for name in first}
    return shapes


def _read_tensors(path: Path) -> tuple[bytes, dict[str, Tensor]]:
    """The file's bytes and the tensors in them."""
    try:
        data = path.read_bytes()
        return data, load_tensors(data)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}; check it and its disk") from None
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: safetensors cannot read it: {error}", advice=CORRUPT) from error


def _check_values(path: Path, header: Header, tensors: dict[str, Tensor]) -> None:
    if {name: value.shape for name, value in tensors.items()} != header.shapes:
        raise CheckpointError(
            f"{path}: its header changed while it was read, or can be read in two ways", advice=CORRUPT
        )
    if header.checksum is not None and header.checksum != checksum(header.contents, tensors):
        raise CheckpointError(f"{path}: weights, config or card do not match their checksum: damaged", advice=CORRUPT)
    _check_finite(path, tensors)


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise CheckpointError(
                f"{path}: tensor {name!r} has a value that is not finite: damaged, or the training diverged",
                advice=CORRUPT,
            )


def checksum(contents: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """CRC-32C of what a checkpoint says of itself and of its tensors with their names, types and shapes, as hex."""
    crc = google_crc32c.value(json.dumps(contents).encode())
    for name in sorted(tensors):
        value = tensors[name]
        crc = google_crc32c.extend(crc, f"{name} {value.dtype} {tuple(value.shape)}".encode())
        crc = google_crc32c.extend(crc, value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"{crc:08x}"


def _first_line(error: Exception) -> str:
    """An error's message without the stack that torch adds, and no longer than a line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
