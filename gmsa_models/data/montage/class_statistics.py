"""ClassStatistics: what video-level vectors of each class look like, small enough to ship; a source of montages.

A labelled video is drawn as mean + strength * the sum of its labels' effects + scale * residual; a background video as
one of many group means + scale * residual. Strength says how clearly a video shows its labels, scale how far it lies
from what is expected; both are drawn from their levels in real videos, together. Residuals are Gaussian, with a
covariance of some factors plus a diagonal, joint over the modalities. Label sets are drawn from those that occur. No
real vector is stored: every number is an average over many videos.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gmsa_models.data.arrays import arrays_digest
from gmsa_models.data.atomic import replaced_when_done
from gmsa_models.data.montage.recipe import FrameVariation
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.errors import ContentError

__all__ = ["SHIPPED", "ClassStatistics", "shipped_statistics"]

FORMAT, FORMAT_VERSION = "gmsa-class-statistics", 1
SHIPPED = Path(__file__).parents[1] / "demo" / "class_statistics.safetensors"
# tensor -> its axes; "dim" is all modalities' features side by side.
TENSORS: dict[str, tuple[str, ...]] = {
    "event_mean": ("dim",),
    "effects": ("class", "dim"),
    "event_scales": ("scale",),
    "event_strengths": ("scale", "strength"),
    "event_factors": ("event factor", "dim"),
    "event_deviation": ("dim",),
    "background_means": ("group", "dim"),
    "background_weights": ("group",),
    "background_scales": ("scale",),
    "background_factors": ("background factor", "dim"),
    "background_deviation": ("dim",),
    "between_variance": ("dim",),
    "label_set_positions": ("label of a set",),
    "label_set_sizes": ("label set",),
    "label_set_counts": ("label set",),
}


@dataclass(frozen=True)
class ClassStatistics:
    """Fitted statistics of video-level vectors.

    Attributes:
        modalities: modality -> width, in the order in which `dim` holds them.
        classes: the kept labels with their names, in the order of `effects`.
        tensors: the arrays named in `TENSORS`, in dequantised units; labels are positions in `classes`.
        variation: modality -> how single frames vary around a video's vector.
        provenance: what it was fitted from: source, sha256, split, licence ...
        name: what to call the source in a clip's `source`.
    """

    modalities: Mapping[str, int]
    classes: Vocabulary
    tensors: Mapping[str, np.ndarray] = field(repr=False)
    variation: Mapping[str, FrameVariation]
    provenance: Mapping[str, str]
    name: str = "class-statistics"

    def __post_init__(self) -> None:
        _check_shapes(self.tensors, sum(self.modalities.values()), len(self.classes))

    @cached_property
    def _floats(self) -> dict[str, np.ndarray]:
        """The tensors as float32; half precision is only for the file."""
        return {name: values.astype(np.float32) for name, values in self.tensors.items() if values.dtype.kind == "f"}

    @property
    def kept(self) -> tuple[int, ...]:
        """Labels that events may have."""
        return self.classes.indices

    @property
    def dataset(self) -> str:
        """Whose labels they are; "": not said."""
        return self.classes.dataset

    @cached_property
    def sha256(self) -> str:
        """Of all that montages are drawn from."""
        return arrays_digest({**self.tensors, "classes": np.array(self.kept, np.int64)})

    @cached_property
    def between_variance(self) -> dict[str, np.ndarray]:
        """Modality -> (dim,), variance of the real videos' vectors."""
        return self._by_modality(self._floats["between_variance"])

    @cached_property
    def label_sets(self) -> tuple[tuple[int, ...], ...]:
        """Label sets that occur, as positions in `classes`."""
        ends = np.cumsum(self.tensors["label_set_sizes"].astype(np.int64))
        parts = np.split(self.tensors["label_set_positions"].astype(np.int64), ends[:-1])
        return tuple(tuple(int(position) for position in part) for part in parts)

    @cached_property
    def _set_chances(self) -> np.ndarray:
        return _running_share(self.tensors["label_set_counts"])

    @cached_property
    def _group_chances(self) -> np.ndarray:
        return _running_share(self.tensors["background_weights"])

    @cached_property
    def _sets_by_class(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """For every class that occurs: the label sets with it, and the running share of their counts."""
        owners = np.repeat(np.arange(len(self.label_sets)), self.tensors["label_set_sizes"].astype(np.int64))
        positions = self.tensors["label_set_positions"]
        sets = [owners[positions == position] for position in np.unique(positions)]
        return tuple((rows, _running_share(self.tensors["label_set_counts"][rows])) for rows in sets)

    def sample_event(
        self, rng: np.random.Generator, balance: float = 0.0
    ) -> tuple[dict[str, np.ndarray], tuple[int, ...], str]:
        """Draw a labelled video.

        Args:
            rng: where the chance comes from.
            balance: in [0, 1]; how often a class is drawn first, all classes alike, and then a label set that has it.

        Returns:
            Vectors (modality -> (dim,) float32), labels of the data set (at least one), and "".
        """
        if rng.random() < balance:
            rows, probabilities = self._sets_by_class[rng.integers(len(self._sets_by_class))]
            chosen = int(rows[_pick(probabilities, rng)])
        else:
            chosen = _pick(self._set_chances, rng)
        positions = self.label_sets[chosen]
        level = int(rng.integers(len(self._floats["event_scales"])))
        strength = rng.choice(self._floats["event_strengths"][level])
        effect = self._floats["effects"][list(positions)].sum(axis=0)
        residual = self._residual("event", self._floats["event_scales"][level], rng)
        labels = tuple(self.classes.indices[position] for position in positions)
        return self._by_modality(self._floats["event_mean"] + strength * effect + residual), labels, ""

    def sample_background(self, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], tuple[int, ...], str]:
        """Draw a video that has none of the kept labels: vectors, no labels, ""."""
        group = _pick(self._group_chances, rng)
        residual = self._residual("background", rng.choice(self._floats["background_scales"]), rng)
        return self._by_modality(self._floats["background_means"][group] + residual), (), ""

    def _residual(self, kind: str, scale: np.float32, rng: np.random.Generator) -> np.ndarray:
        factors, deviation = self._floats[f"{kind}_factors"], self._floats[f"{kind}_deviation"]
        loads = rng.standard_normal(len(factors), dtype=np.float32)
        # Row by row rather than by a matrix product, whose order of additions differs from machine to machine.
        shared = (factors * loads[:, None]).sum(axis=0)
        return scale * (shared + deviation * rng.standard_normal(len(deviation), dtype=np.float32))

    def _by_modality(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        ends = np.cumsum(list(self.modalities.values()))
        return dict(zip(self.modalities, np.split(vector, ends[:-1]), strict=True))

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with everything inside; it appears whole or not at all."""
        metadata = {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "modalities": json.dumps(dict(self.modalities)),
            "dataset": self.classes.dataset,
            "indices": json.dumps(self.classes.indices),
            "names": json.dumps(self.classes.names),
            "variation": json.dumps({modality: vars(part) for modality, part in self.variation.items()}),
            "provenance": json.dumps(dict(self.provenance)),
        }
        with replaced_when_done(path) as temporary:
            save_file(
                {name: np.ascontiguousarray(values) for name, values in self.tensors.items()}, temporary, metadata
            )

    @classmethod
    def load(cls, path: str | Path) -> ClassStatistics:
        """Read a file that `save` wrote.

        Raises:
            ContentError: not such a file, truncated, of a newer format, or tensors missing or of a wrong shape.
            FileNotFoundError: no such file.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no statistics file {path}")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                _check_format(path, metadata)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, safe_open is no dict
        except SafetensorError as error:
            raise ContentError(f"{path}: damaged, or not a safetensors file ({error})") from None
        try:
            return cls._from_parts(metadata, tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise ContentError(f"{path}: {error}") from None

    @classmethod
    def _from_parts(cls, metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> ClassStatistics:
        return cls(
            modalities=json.loads(metadata["modalities"]),
            classes=Vocabulary(
                metadata["dataset"], tuple(json.loads(metadata["indices"])), tuple(json.loads(metadata["names"]))
            ),
            tensors=tensors,
            variation={key: FrameVariation(**part) for key, part in json.loads(metadata["variation"]).items()},
            provenance=json.loads(metadata["provenance"]),
        )


@lru_cache(maxsize=1)
def shipped_statistics() -> ClassStatistics:
    """The statistics that come with the package, fitted to YouTube-8M's training split (see `demo/README.md`)."""
    return ClassStatistics.load(SHIPPED)


def _check_format(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise ContentError(f"{path}: format is {metadata.get('format')!r}; expected {FORMAT!r}")
    version = metadata.get("format_version")
    if version != str(FORMAT_VERSION):
        raise ContentError(f"{path}: format version {version}; this software reads version {FORMAT_VERSION}")


def _check_shapes(tensors: Mapping[str, np.ndarray], dim: int, classes: int) -> None:
    if set(tensors) != set(TENSORS):
        missing, unknown = sorted(set(TENSORS) - set(tensors)), sorted(set(tensors) - set(TENSORS))
        raise ContentError(f"tensors missing: {missing}, unknown: {unknown}")
    sizes = {"dim": dim, "class": classes}
    for name, axes in TENSORS.items():
        values = tensors[name]
        expected = tuple(sizes.get(axis, size) for axis, size in zip(axes, values.shape, strict=False))
        if values.ndim != len(axes) or values.shape != expected or values.size == 0:
            raise ContentError(f"tensor {name!r} has shape {values.shape}; expected ({', '.join(axes)}) with {sizes}")
        sizes.update(zip(axes, values.shape, strict=True))
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ContentError(f"tensor {name!r} has a value that is not finite")
    _check_label_sets(tensors, classes)


def _check_label_sets(tensors: Mapping[str, np.ndarray], classes: int) -> None:
    positions, sizes = tensors["label_set_positions"], tensors["label_set_sizes"]
    if int(sizes.sum()) != len(positions) or sizes.min() < 1:
        raise ContentError(f"label sets of {int(sizes.sum())} labels in all, but {len(positions)} are stored")
    if positions.max() >= classes:
        raise ContentError(f"a label set holds class {int(positions.max())}; there are {classes}")


def _running_share(counts: np.ndarray) -> np.ndarray:
    running = np.cumsum(counts, dtype=np.float64)
    return running / running[-1]


def _pick(probabilities: np.ndarray, rng: np.random.Generator) -> int:
    """A row drawn by its running share."""
    return int(np.searchsorted(probabilities, rng.random(), side="right"))
