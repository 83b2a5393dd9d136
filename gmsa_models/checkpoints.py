"""Checkpoints: safetensors that carry their config, class names and card. Never pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from gmsa_models import checkpoint_header as header_file
from gmsa_models.checkpoint_header import (
    FORMAT_VERSION,
    METADATA_KEY,
    CheckpointError,
    CorruptCheckpointError,
    Header,
    MissingTensorError,
    TensorShapeError,
    UnknownTensorError,
)
from gmsa_models.classifier import GMSAClassifier, ModelConfig
from gmsa_models.data.atomic import replaced_when_done
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.variants import VARIANTS

ZOO = Path(__file__).parent / "zoo"


class UnknownCheckpointError(CheckpointError, KeyError):
    """Neither a model of the zoo nor a file; the message lists the zoo."""

    def __str__(self) -> str:
        return str(self.args[0])


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
    card: dict
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
    """
    path = Path(path)
    vocabulary = model.vocabulary
    contents = {
        "format_version": FORMAT_VERSION,
        "config": model.config.to_dict(),
        "vocabulary": None
        if vocabulary is None
        else {"dataset": vocabulary.dataset, "indices": vocabulary.indices, "names": vocabulary.names},
        "card": model.card,
    }
    # One metadata entry only: safetensors keeps them in a hash map, whose order differs from run to run. Its keys are
    # not sorted, because the order of the config's modalities is the order of the classifier's inputs.
    metadata = {METADATA_KEY: json.dumps(contents, ensure_ascii=False)}
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_when_done(path) as temporary:
        temporary.write_bytes(save_tensors(tensors, metadata))
    return path


def load(name_or_path: str | Path, device: torch.device | str = "cpu") -> GMSAClassifier:
    """Load a model of the zoo by name, or any checkpoint by path.

    Everything in the file is checked before the weights are used: see the errors.

    Args:
        name_or_path: one of `available()`, or a `.safetensors` file written by `save`.
        device: where the weights go.

    Returns:
        The model in evaluation mode; `model.origin` holds `name`, `path` and the file's `sha256`.

    Raises:
        UnknownCheckpointError: neither in the zoo nor a file.
        PickleRefusedError: a pickle, by content or by suffix.
        NotACheckpointError: not safetensors, or safetensors that `save` did not write.
        TruncatedCheckpointError: the file ends before its header says.
        HeaderError: a header that is too long, not JSON, or describes impossible tensors.
        NewerFormatError: written by a later version of this package.
        MissingTensorError, UnknownTensorError, TensorShapeError: weights that do not fit the config.
    """
    path = find(name_or_path)
    described = _describe(path, header := header_file.read(path))
    _check_tensors(path, header, described.config)
    data = path.read_bytes()
    try:
        tensors = load_tensors(data)
    except SafetensorError as error:
        raise CorruptCheckpointError(f"{path}: safetensors cannot read it: {error}") from error
    with torch.random.fork_rng(devices=[]):
        model = GMSAClassifier(described.config, described.vocabulary)
    model.to(next(iter(tensors.values())).dtype)
    model.load_state_dict(tensors)
    model.card = described.card
    model.origin = {"name": described.name, "path": str(path), "sha256": hashlib.sha256(data).hexdigest()}
    return model.to(device).eval()


def available() -> list[str]:
    """Names of the trained models that ship with the package: the paper's order first, then the others by name."""
    order = {name: position for position, name in enumerate(VARIANTS)}
    names = (path.stem for path in ZOO.glob("*.safetensors"))
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def describe(name_or_path: str | Path) -> Description:
    """Config, class names and card of a checkpoint, without reading its weights. Raises as `load` does."""
    path = find(name_or_path)
    return _describe(path, header_file.read(path))


def find(name_or_path: str | Path) -> Path:
    """Path of a zoo model or of a file.

    Raises:
        UnknownCheckpointError: neither; the message lists the zoo.
    """
    if str(name_or_path) in available():
        return ZOO / f"{name_or_path}.safetensors"
    path = Path(name_or_path)
    if not path.is_file():
        known = ", ".join(available()) or "none (the zoo is empty)"
        raise UnknownCheckpointError(f"{str(name_or_path)!r} is neither a file nor a trained model; known: {known}")
    return path


def _describe(path: Path, header: Header) -> Description:
    contents = header.contents
    try:
        config = ModelConfig.from_dict(contents["config"])
        vocabulary = contents["vocabulary"]
        if vocabulary is not None:
            indices, names = tuple(vocabulary["indices"]), tuple(vocabulary["names"])
            vocabulary = Vocabulary(vocabulary["dataset"], indices, names)
            if len(vocabulary) != config.classes:
                raise ValueError(f"a vocabulary of {len(vocabulary)} for {config.classes} classes")
        card = dict(contents["card"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptCheckpointError(f"{path}: config, vocabulary or card cannot be used: {error}") from error
    return Description(
        name=str(card.get("name", path.stem)),
        path=path,
        config=config,
        vocabulary=vocabulary,
        card=card,
        format_version=contents["format_version"],
        parameters=sum(shape.numel() for shape in header.shapes.values()),
        bytes=path.stat().st_size,
    )


def _check_tensors(path: Path, header: Header, config: ModelConfig) -> None:
    """Compare names and shapes with what the config builds, on the meta device, which allocates nothing."""
    if config.layers > len(header.shapes):
        raise MissingTensorError(
            f"{path}: the config has {config.layers} layers, the file {len(header.shapes)} tensors"
        )
    try:
        with torch.device("meta"):
            expected = {name: value.shape for name, value in GMSAClassifier(config).state_dict().items()}
    except (ValueError, RuntimeError) as error:
        raise CorruptCheckpointError(f"{path}: the config makes no model: {error}") from error
    missing, unknown = sorted(expected.keys() - header.shapes.keys()), sorted(header.shapes.keys() - expected.keys())
    if missing:
        raise MissingTensorError(f"{path}: {len(missing)} tensors of the model are missing: {', '.join(missing[:5])}")
    if unknown:
        raise UnknownTensorError(f"{path}: {len(unknown)} tensors the model does not have: {', '.join(unknown[:5])}")
    for name, shape in expected.items():
        if shape != header.shapes[name]:
            raise TensorShapeError(
                f"{path}: tensor {name!r} has shape {tuple(header.shapes[name])}; the config makes it {tuple(shape)}"
            )
