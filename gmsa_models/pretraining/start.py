"""Starting a classifier from the encoders of a checkpoint."""

from __future__ import annotations

from pathlib import Path

from gmsa_models.checkpoints.files import load
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.errors import brief
from gmsa_models.errors import ConfigError

__all__ = ["start_from"]

_MAY_DIFFER = ("classes", "dropout", "max_frames")  # no encoder's weights depend on them, but for GateAtt's on the last


def start_from(model: GMSAClassifier, checkpoint: str | Path) -> GMSAClassifier:
    """Give a model the encoders of a checkpoint; its classifier stays as it is.

    Its card says from which file, under `pretrained`; clips are to be of the feature spaces of that checkpoint.

    Args:
        model: that is to be trained; its weights are changed.
        checkpoint: as `load` takes it: a pretrained file, or any other model of the same variant and sizes.

    Returns:
        The same model.

    Raises:
        ConfigError: the checkpoint is of another variant, other sizes or other features; says what differs.
        CheckpointError: as `load`.
    """
    source = load(checkpoint)
    wanted, known = model.config.to_dict(), source.config.to_dict()
    differing = [name for name in wanted if name not in _MAY_DIFFER and wanted[name] != known[name]]
    weights = {name: value for name, value in source.state_dict().items() if name.startswith("encoders.")}
    own = model.state_dict()
    if not differing and any(own[name].shape != value.shape for name, value in weights.items()):
        differing = ["max_frames"]
    if differing:
        changes = "; ".join(f"{name} {brief(known[name])}, not {brief(wanted[name])}" for name in differing)
        raise ConfigError(
            f"{source.origin['path']} is of another model: {changes}; give the same variant, size, modalities and "
            "frames as it was trained with"
        )
    _check_spaces(model, source)
    model.load_state_dict({**own, **weights})
    model.card["pretrained"] = {"name": source.origin["name"], "sha256": source.origin["sha256"]}
    if spaces := source.card.get("feature_spaces"):
        model.card.setdefault("feature_spaces", spaces)
    return model


def _check_spaces(model: GMSAClassifier, source: GMSAClassifier) -> None:
    known = model.spaces
    for name, space in source.spaces.items():
        if name in known and not known[name].is_same(space):
            raise ConfigError(
                f"{source.origin['path']} was trained on {name!r} in the feature space {space}, not {known[name]}: "
                "their numbers mean different things; give one that was trained on the same features"
            )
