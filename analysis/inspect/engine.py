"""EditEngine: one model and one clip, ready to answer lists of edits, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import xarray as xr

from analysis.gmsa_view import model_name, view_clips
from analysis.inspect.clips import inspect_clip
from analysis.inspect.edited import edited_view
from analysis.interventions.edit_texts import edit_text, edits_from_texts
from analysis.interventions.edits import Edit, EditError
from analysis.interventions.named_clips import clips_beside
from analysis.interventions.running import EditRun
from analysis.interventions.sites import SiteError
from analysis.record.assemble import record_of
from analysis.view import TraceView, features_sha256
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.masks import Neighbourhood

__all__ = ["ANSWERED", "EditEngine"]

# Parts of a record that an answer has: what a pass gives by itself. S and norms of gradients take much longer.
ANSWERED = ("attention", "neighbourhood", "profile", "gate", "contribution", "score")


class EditEngine:
    """Answers lists of edits of one model's pass over one clip with records.

    The pass of the last list is kept, so that more of it can be asked for without another one.

    Args:
        model: left as it is.
        clip: cut to the model's `max_frames`.
        neighbourhood: as of `inspect_clip`, of the record that is compared with.
    """

    def __init__(self, model: GMSAClassifier, clip: Clip, *, neighbourhood: Neighbourhood | None = None) -> None:
        self.model, self.clip, self.neighbourhood = model, clip, neighbourhood
        self.name = model_name(model)
        self.sha256 = str(model.origin.get("sha256", ""))
        self.features_sha256 = features_sha256(clip)
        self._last: tuple[tuple[str, ...], TraceView] | None = None

    def record(
        self, edits: Iterable[str], *, layers: Sequence[int] = (0,), parts: Sequence[str] = ANSWERED
    ) -> xr.Dataset:
        """The record of the pass with some edits, or without any.

        Args:
            edits: texts, each of which may hold several with `;` between them; made together.
            layers: numbers of encoder layers, rising.
            parts: of `ANSWERED`.

        Returns:
            As `inspect_clip`, with these parts only.

        Raises:
            EditError, SiteError (ValueErrors): a text that cannot be read, or edits that do not fit the model or clip.
        """
        made = edits_from_texts(edits, clips_beside(self.clip))
        return record_of(self._view(made), layers=list(layers), parts=parts)

    def explanation(self, target: int, methods: Sequence[str]) -> xr.Dataset:
        """Explanations of a class by the pass without edits: the record's part "explanation" alone.

        Args:
            target: position of the class.
            methods: keys of `EXPLANATIONS`, of which those that do not apply to the model are left out.

        Raises:
            KeyError: a method that is not in `EXPLANATIONS`.
            ArgumentError (a ValueError): none of the methods applies to the model.
        """
        return inspect_clip(
            self.model, self.clip, neighbourhood=self.neighbourhood, parts=["explanation"], target=target,
            methods=methods,
        )  # fmt: skip

    def refusals(self, edits: Iterable[str]) -> list[str]:
        """Why each of some edits cannot be made together with those before it that can; "" where it can.

        Args:
            edits: texts, as of `record`.
        """
        run, kept, messages = EditRun(self.model, [self.clip]), list[str](), list[str]()
        for text in edits:
            try:
                run.logits([edits_from_texts([*kept, text], clips_beside(self.clip))])
            except (EditError, SiteError) as error:
                messages.append(str(error))
            else:
                messages.append("")
                kept.append(text)
        return messages

    def _view(self, edits: tuple[Edit, ...]) -> TraceView:
        texts = tuple(map(edit_text, edits))
        if self._last is None or self._last[0] != texts:
            self._last = None  # of two passes only one is ever in memory
            view = (
                edited_view(self.model, self.clip, edits, chosen=self.neighbourhood)
                if edits
                else view_clips(self.model, [self.clip], chosen=self.neighbourhood)
            )
            self._last = texts, view
        return self._last[1]
