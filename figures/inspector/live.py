"""What a live page holds beside its records: the arrays of a model, and the modules that make its passes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from analysis.record.layers import record_layers
from figures.inspector.payload import Arrays, joined_parts
from figures.inspector.records import model_name
from gmsa_models.errors import ArgumentError

if TYPE_CHECKING:
    from analysis.inspect.live import LiveModel

__all__ = ["pack_live"]

VERSION = 1
# What a gate may move by with its weights in 16 bits. In half precision the shipped models miss what is asked
# of maps (1e-5) or of logits (1e-4): by a factor of 10 with these weights alone in it, of 20 and more with all.
GATE_ERROR = 1e-5
# Largest difference of logits between a model and a record of it: more than machines differ by, less than training.
SAME_LOGITS = 1e-3


def pack_live(live: LiveModel, records: Sequence[xr.Dataset]) -> bytes:
    """A model and a clip's frames as one block of bytes, in the payload's layout.

    Args:
        live: of `analysis.inspect.live.live_model`.
        records: of one model each, as `split_records` gives them; one is of this model's pass without edits.

    Raises:
        ArgumentError: no record is of this model, or the records are of another clip.
    """
    record, indices = _record_of(live, records)
    arrays = Arrays("float32")
    fixed = _fixed(live)
    for name, values in live.weights.items():
        (arrays.add_fixed if name in fixed else arrays.add)(name, values)
    for modality, frames in live.frames.items():
        arrays.add(f"frames.{modality}", frames)
        arrays.add(f"zero.{modality}", live.zero[modality])
    return b"".join(joined_parts(_header(live, record, indices), arrays, set()))


def _fixed(live: LiveModel) -> set[str]:
    """Weights of gates over pairs of frames that 16 bits hold: no gate, 1 / (1 + exp(l - g)), moves by too much.

    Rows of maps add up to 1 at most, so g and l are off by no more than the weights, and a gate by a quarter of both.
    """
    from analysis.inspect.live import PAIR_WEIGHTS

    pairs: dict[str, float] = {}
    for name, values in live.weights.items():
        if name.endswith(PAIR_WEIGHTS):
            block = name.rpartition("gate_")[0]
            pairs[block] = pairs.get(block, 0.0) + float(np.abs(values).max()) / 65534 / 4
    return {
        f"{block}{branch}"
        for block, error in pairs.items()
        if error <= GATE_ERROR
        for branch in ("gate_global", "gate_local")
    }


def _header(live: LiveModel, record: xr.Dataset, indices: Sequence[int | None]) -> dict[str, Any]:
    frames = len(next(iter(live.frames.values())))
    own = json.loads(record.attrs.get("model_config", "{}")).get("neighbourhood")
    return {
        "version": VERSION,
        "model": live.name,
        "sha256": live.sha256,
        "attention": live.attention,
        "heads": live.heads,
        "layers": live.layers,
        "modalities": list(live.frames),
        "norm_first": live.norm_first,
        "eps": live.eps,
        "neighbourhood": live.neighbourhood,
        "own_neighbourhood": json.loads(record.attrs.get("neighbourhood_config", "null")) == own,
        "clock": {"frames": frames, "seconds": live.frame_seconds},
        "indices": list(indices),
    }


def _record_of(live: LiveModel, records: Sequence[xr.Dataset]) -> tuple[xr.Dataset, list[int | None]]:
    """The record of a model, and which of the payload's models each layer is; None: not in the record."""
    names = [model_name(record) for record in records]
    if live.name not in names:
        raise ArgumentError(f"no record of model {live.name!r}, which is to be live; these are of {', '.join(names)}")
    place = names.index(live.name)
    _check_same(live, records[place])
    before = sum(len(record_layers(record)) for record in records[:place])
    layers = list(record_layers(records[place]))
    return records[place], [before + layers.index(layer) if layer in layers else None for layer in range(live.layers)]


def _check_same(live: LiveModel, record: xr.Dataset) -> None:
    for what, expected in (("checkpoint_sha256", live.sha256), ("features_sha256", live.features_sha256)):
        if (value := str(record.attrs.get(what, ""))) != expected:
            raise ArgumentError(
                f"the record of {live.name!r} is of {what} {value or 'none'}, the model and clip that are to be live "
                f"of {expected or 'none'}; make the record with them"
            )
    if "logit" in record and not np.allclose(record["logit"].values, live.logits, rtol=0, atol=SAME_LOGITS):
        raise ArgumentError(
            f"the record of {live.name!r} has other logits than the model that is to be live: its weights have changed "
            "since; make the record again"
        )
