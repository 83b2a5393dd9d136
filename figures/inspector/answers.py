"""What the kernel answers when a page asks for edited passes: one message for one question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from analysis.record.layers import record_layers
from figures.inspector.payload import pack_answer, pack_explanation
from figures.inspector.records import model_name
from gmsa_models.errors import ArgumentError

if TYPE_CHECKING:
    from analysis.inspect.engine import EditEngine

__all__ = ["Answers"]

# What an edit may fail with: texts that cannot be read, places that the model lacks, seconds that the clip lacks.
REFUSED = (ValueError, KeyError)


class Answers:
    """Answers of some engines, each of one of the models that are shown.

    Args:
        records: of `split_records`.
        engines: at most one a model.

    Raises:
        ArgumentError: an engine of a model or a clip that no record is of; two of one model.
    """

    def __init__(self, records: Sequence[xr.Dataset], engines: Sequence[EditEngine]) -> None:
        self.records = records
        self.engines = {engine.name: engine for engine in engines}
        if len(self.engines) < len(engines):
            raise ArgumentError(f"{len(engines)} engines of {', '.join(self.engines)}; expected one a model")
        by_name = {model_name(record): record for record in records}
        for name, engine in self.engines.items():
            if name not in by_name:
                raise ArgumentError(f"an engine of model {name!r}; the records are of {', '.join(by_name)}")
            _check_same(engine, by_name[name])

    @property
    def models(self) -> list[str]:
        """Names of the models that have an engine."""
        return list(self.engines)

    def answer(self, question: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """The message that answers a question, and its buffers.

        Args:
            question: `id`, `model`, `edits` (texts) and, of kind "edits", `shown` (names of maps), as
                `kernel_engine.js` asks; of kind "explanation" `class` (its label) and `methods` in their place.

        Returns:
            `id` and, where the edits cannot be made or the pass fails, `error`: one line. Else one buffer, of
            `pack_answer` or `pack_explanation`, or of kind "refusals" the list `refusals`, of `EditEngine.refusals`.
        """
        message = {"kind": "answer", "id": str(question["id"])}
        try:
            engine = self._engine(str(question["model"]))
            if question.get("kind") == "explanation":
                return message, [self._explained(engine, int(question["class"]), list(map(str, question["methods"])))]
            texts = [str(each) for each in question["edits"]]
            if question.get("kind") == "refusals":
                return message | {"refusals": engine.refusals(texts)}, []
            return message, [self._packed(engine, texts, question["shown"])]
        except Exception as error:  # whatever it is: the page waits for an answer, and shows it
            words = error.args[0] if isinstance(error, KeyError) and error.args else error
            name = "" if isinstance(error, REFUSED) else f"{type(error).__name__}: "
            return message | {"error": name + " ".join(str(words).split())}, []

    def _engine(self, name: str) -> EditEngine:
        if name not in self.engines:
            raise ArgumentError(f"no engine of model {name!r}; there are those of {', '.join(self.engines)}")
        return self.engines[name]

    def _explained(self, engine: EditEngine, label: int, methods: Sequence[str]) -> bytes:
        record = next(record for record in self.records if model_name(record) == engine.name)
        labels = [int(each) for each in record["class"].values] if "class" in record.coords else []
        if label not in labels:
            raise ArgumentError(f"model {engine.name!r} knows no class with label {label}")
        return pack_explanation(self.records, engine.name, engine.explanation(labels.index(label), methods))

    def _packed(self, engine: EditEngine, edits: Sequence[str], shown: Sequence[str]) -> bytes:
        record = next(record for record in self.records if model_name(record) == engine.name)
        edited = engine.record(edits, layers=record_layers(record))
        return pack_answer(self.records, engine.name, edited, [str(each) for each in shown])


def _check_same(engine: EditEngine, record: xr.Dataset) -> None:
    """Refuse an engine of other weights or another clip than the record says."""
    for what, attribute, actual in (
        ("weights", "checkpoint_sha256", engine.sha256),
        ("a clip", "features_sha256", engine.features_sha256),
    ):
        expected = str(record.attrs.get(attribute, ""))
        if expected and actual and expected != actual:
            raise ArgumentError(
                f"the engine of {engine.name!r} is of {what} with {attribute} {actual[:12]}…, the record of "
                f"{expected[:12]}…; make both of the same model and clip"
            )
