"""Edits as texts, as `knock-out visual/0/local/weights[head 3] keys 60..70`: for commands, records and notes.

A text is a verb, a site, and words with their values in any order; see `GRAMMAR`. `parse_edit(edit_text(edit))` is the
edit again, for all but a patch of a tensor, whose values no text holds.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from torch import Tensor

from analysis.interventions.edits import (
    OWN_SOURCES,
    DropFrames,
    Edit,
    EditError,
    ForceGate,
    KnockOut,
    MoveFrames,
    Patch,
    ReplaceNeighbourhood,
    ScaleHead,
)
from analysis.interventions.sites import Site, SiteError
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import neighbourhood_from_text, neighbourhood_text

__all__ = ["GRAMMAR", "ClipOf", "checked_edits", "edit_text", "edits_from_texts", "parse_edit"]

# The clip of a name, for patches.
ClipOf = Callable[[str], Clip]

TENSOR = "tensor:"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"]+')
_SITE = re.compile(r"\S+?(?:\[[^\]]*\]|(?=\s|$))")
_BRANCH = re.compile(r"global|local|(?:BD|TP|TD)\d+(?:x\d+)?")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class _Word:
    """A word of a form.

    Attributes:
        field: of the edit.
        kind: of `_KINDS`; "flag": it has no value, and sets the field to False.
        needed: whether the text must have it.
    """

    field: str
    kind: str
    needed: bool = False


@dataclass(frozen=True)
class _Form:
    edit: type[Any]
    words: dict[str, _Word]


_AT = _Word("at", "span")
_FORMS: dict[str, _Form] = {
    "knock-out": _Form(
        KnockOut,
        {
            "queries": _Word("queries", "span"),
            "keys": _Word("keys", "span"),
            "after-softmax": _Word("renormalise", "flag"),
        },
    ),
    "patch": _Form(Patch, {"from": _Word("source", "source", True), "at": _AT, "start": _Word("start", "number")}),
    "force-gate": _Form(
        ForceGate, {"to": _Word("value", "number", True), "branch": _Word("branch", "branch"), "at": _AT}
    ),
    "neighbourhood": _Form(ReplaceNeighbourhood, {"as": _Word("neighbourhood", "neighbourhood", True)}),
    "scale": _Form(ScaleHead, {"by": _Word("factor", "number", True), "at": _AT}),
    "drop": _Form(DropFrames, {"at": _Word("at", "span", True)}),
    "move": _Form(MoveFrames, {"at": _Word("at", "span", True), "to": _Word("to", "number", True)}),
}
_VERBS = {form.edit: verb for verb, form in _FORMS.items()}

# How edits are written, for help texts; seconds are A..B.
GRAMMAR = (
    "knock-out SITE [queries A..B] [keys A..B] [after-softmax]",
    "patch SITE from mean|zero|own|CLIP [at A..B] [start S]",
    "force-gate SITE to VALUE [branch global|local|TP5] [at A..B]",
    "neighbourhood SITE as TP30",
    "scale SITE by FACTOR [at A..B]",
    "drop SITE at A..B",
    "move SITE at A..B to S",
)


def edit_text(edit: Edit) -> str:
    """An edit as a text that `parse_edit` reads. A patch of a tensor names its values by a hash alone."""
    verb = _VERBS[type(edit)]
    parts = [verb, str(edit.place)]
    for name, word in _FORMS[verb].words.items():
        value = getattr(edit, word.field)
        if word.kind == "flag":
            parts += [] if value else [name]
        elif word.needed or value != getattr(type(edit), word.field, None):
            parts += [name, _written(value)]
    return " ".join(parts)


def edits_text(edits: Iterable[Edit]) -> str:
    """Edits in one line, for titles."""
    return "; ".join(map(edit_text, edits))


def parse_edit(text: str, clip_of: ClipOf | None = None) -> Edit:
    """The edit of a text.

    Args:
        text: see `GRAMMAR`.
        clip_of: the clip of a name, for patches from clips.

    Raises:
        EditError: a text of another form, with the place and the words that are known there; of several edits; a site
            or a value that the edit does not take.
    """
    if (count := len(list(_split(text)))) > 1:
        raise EditError(f"edit {text!r}: got {count} edits with ';' between them; expected one, or a list of edits")
    tokens = _Tokens(text)
    verb = tokens.take("a verb", _FORMS)
    form, site = _FORMS[verb], tokens.site()
    options: dict[str, Any] = {}
    while tokens.more:
        at = tokens.place
        name = tokens.take(f"a word of {verb}", form.words)
        word = form.words[name]
        if word.field in options:
            raise tokens.error(at, f"{name!r} a second time", "each word once")
        options[word.field] = False if word.kind == "flag" else tokens.value(name, word.kind, clip_of)
    if missing := [name for name, word in form.words.items() if word.needed and word.field not in options]:
        raise tokens.error(len(text), "the end", f"{missing[0]!r}, as in {_example(verb)!r}")
    try:
        edit: Edit = form.edit(site, **options)
    except EditError as error:
        raise EditError(f"edit {text!r}: {error}") from None
    return edit


def checked_edits(edits: Iterable[Edit | str], clip_of: ClipOf | None = None) -> list[Edit]:
    """Edits of a list of edits and of their texts.

    Args:
        edits: the list; a text may hold several edits with `;` between them.
        clip_of: see `parse_edit`.

    Raises:
        EditError: no list, or something else in it; see `parse_edit`; nothing between two `;`.
    """
    if isinstance(edits, str | Edit) or not isinstance(edits, Iterable):
        raise EditError(f"edits is {edits!r:.80}; expected a list, as in edits=[{GRAMMAR[0]!r}]")
    made = [edit for each in edits for edit in (_parsed(each, clip_of) if isinstance(each, str) else [each])]
    if wrong := [each for each in made if not isinstance(each, Edit)]:
        kinds = ", ".join(kind.__name__ for kind in get_args(Edit))
        raise EditError(f"{wrong[0]!r:.80} is no edit; expected one of {kinds}, or a text such as {GRAMMAR[0]!r}")
    return made


def edits_from_texts(texts: Iterable[str], clip_of: ClipOf | None = None) -> tuple[Edit, ...]:
    """The edits of some texts, each of which may hold several with `;` between them.

    Raises:
        EditError: see `parse_edit`; nothing between two `;`.
    """
    return tuple(edit for text in texts for edit in _parsed(text, clip_of))


def _parsed(text: str, clip_of: ClipOf | None) -> list[Edit]:
    return [parse_edit(each, clip_of) for each in _split(text)]


class _Tokens:
    """The words of a text, one after another, with their places."""

    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0
        self._skip()

    @property
    def more(self) -> bool:
        return self.place < len(self.text)

    def take(self, what: str, known: Iterable[str]) -> str:
        """A word of those that are known."""
        at, token = self._next(what, known)
        if token not in set(known):
            raise self.error(at, repr(token), f"{what}: {', '.join(known)}")
        return token

    def site(self) -> Site:
        """A site, whose heads may have spaces between them."""
        match = _SITE.match(self.text, self.place)
        if match is None:
            raise self.error(self.place, "the end", "a site, as visual/0/local/weights[head 3]")
        at, self.place = self.place, match.end()
        self._skip()
        try:
            return Site.parse(match[0])
        except SiteError as error:
            raise EditError(f"edit {self.text!r}, character {at + 1}: {error}") from None

    def value(self, name: str, kind: str, clip_of: ClipOf | None) -> Any:
        """The value after a word."""
        expected, read = _KINDS[kind]
        at, token = self._next(f"the value of {name}", (expected,))
        try:
            return read(token, clip_of)
        except ArgumentError as error:
            raise EditError(f"edit {self.text!r}, character {at + 1}: {error}") from None
        except _UnreadError as error:
            raise self.error(at, repr(token), str(error) or f"{expected} after {name!r}") from None

    def error(self, at: int, received: str, expected: str) -> EditError:
        return EditError(f"edit {self.text!r}, character {at + 1}: got {received}; expected {expected}")

    def _next(self, what: str, known: Iterable[str]) -> tuple[int, str]:
        match = _TOKEN.match(self.text, self.place)
        if match is None:
            received = "the end" if not self.more else repr(self.text[self.place :])
            raise self.error(self.place, received, f"{what}: {', '.join(known)}")
        at, self.place = self.place, match.end()
        self._skip()
        return at, match[0]

    def _skip(self) -> None:
        while self.place < len(self.text) and self.text[self.place].isspace():
            self.place += 1


class _UnreadError(Exception):
    """A value that cannot be read; with a text where more than its form is wrong."""


def _number(token: str, clip_of: ClipOf | None = None) -> int | float:
    if not _NUMBER.fullmatch(token) or not math.isfinite(value := float(token)):
        raise _UnreadError
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _span(token: str, clip_of: ClipOf | None) -> tuple[int | float, int | float]:
    start, dots, end = token.partition("..")
    if not dots:
        raise _UnreadError
    return _number(start), _number(end)


def _branch(token: str, clip_of: ClipOf | None) -> str:
    if not _BRANCH.fullmatch(token):
        raise _UnreadError
    return token


def _source(token: str, clip_of: ClipOf | None) -> str | Clip:
    if token in OWN_SOURCES:
        return token
    if token.startswith(TENSOR):
        raise _UnreadError("a source that can be found again: the values of this tensor are not in the text")
    try:
        name = json.loads(token) if token.startswith('"') else token
    except ValueError:
        raise _UnreadError("a clip's name, between quotes as JSON writes them") from None
    if clip_of is None:
        raise _UnreadError(f"mean, zero or own: no clip {name!r} is given here")
    return clip_of(name)


_KINDS: dict[str, tuple[str, Callable[[str, ClipOf | None], Any]]] = {
    "span": ("seconds A..B", _span),
    "number": ("a number", _number),
    "branch": ("global or local, or a local branch by its name, as TP5", _branch),
    "source": ("mean, zero, own or a clip", _source),
    "neighbourhood": ("a neighbourhood, as TP30", lambda token, clip_of: neighbourhood_from_text(token)),
}


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return "..".join(map(_number_text, value))
    if isinstance(value, int | float):
        return _number_text(value)
    if isinstance(value, str):
        return value
    if isinstance(value, Clip):
        plain = _TOKEN.fullmatch(value.id) and value.id not in OWN_SOURCES and not value.id.startswith((TENSOR, '"'))
        return value.id if plain and ";" not in value.id else json.dumps(value.id)
    if isinstance(value, Tensor):
        numbers = value.detach().cpu().double().contiguous().numpy()
        return f"{TENSOR}{hashlib.sha256(repr(numbers.shape).encode() + numbers.tobytes()).hexdigest()[:12]}"
    return neighbourhood_text(value).replace("×", "x")


def _number_text(value: int | float) -> str:
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


def _example(verb: str) -> str:
    return next(each for each in GRAMMAR if each.startswith(f"{verb} "))


def _split(text: str) -> Iterator[str]:
    """At each `;` outside quotes."""
    start = 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|;', text):
        if match[0] == ";":
            yield text[start : match.start()].strip()
            start = match.end()
    yield text[start:].strip()
