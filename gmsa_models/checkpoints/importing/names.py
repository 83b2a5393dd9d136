"""What the name of a tensor says of it: stream, layer, and which part of a model it may be.

Names are taken apart into words ("attn.q_proj.weight": attn q proj weight), so that a part is known under the usual
names, whatever the modules around it are called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["FRONT_NORM", "PACKED", "ReadName", "read_name", "streams_of"]

FRONT_NORM = "front_norm"  # before the layers, which no model here has
PACKED = "packed"  # Q, K and V one after another, as `torch.nn.MultiheadAttention` keeps them
STREAM_WORDS = {
    "visual": frozenset({"visual", "video", "vision", "rgb", "image", "images", "img", "frame", "frames"}),
    "audio": frozenset({"audio", "sound", "vggish", "acoustic"}),
}
_WORDS = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")
_KINDS = {"weight": False, "gamma": False, "kernel": False, "scale": False, "bias": True, "beta": True}
_LAYER = re.compile(r"\b(?:layers?|blocks?|h|encoders?|transformers?|resblocks|stack|body) ?(\d+)\b")
_ATTENTION = re.compile(r"\b(attn|attention|attend|self|mha|msa|gmsa|sa)\b")
_FEED_FORWARD = re.compile(
    r"\b(mlp|ffn?|feed|feedforward|positionwise|fc[12]|linear[12]|lin[12]|dense[12]|w[12]|intermediate|c fc)\b"
)
_SECOND = re.compile(r"\b(fc2|linear2|lin2|dense2|w2|c proj|down|out|output|second|[2-9])\b")
_FIRST = re.compile(r"\b(fc1|linear1|lin1|dense1|w1|c fc|up|in|input|first|intermediate|[01])\b")
_NORM = re.compile(r"\b(norm\w*|ln\w*|layernorm\w*)\b")
_OF_ATTENTION = re.compile(r"\b(attn|attention|attend|self|sa|mha|msa|norm1|ln1|layernorm1|1|input|before|first)\b")
_OF_FEED_FORWARD = re.compile(r"\b(ffn?|mlp|feed|norm2|ln2|layernorm2|2|post|after|second|output|final)\b")
_OF_END = re.compile(r"\b(final|post|last|out|output|end|top|f)\b")
_OF_FRONT = re.compile(r"\b(pre|embed\w*|stem|patch|inp|in|input|front|begin|start)\b")
_PACKED = re.compile(r"\b(in proj|w?qkv|w qkv|query key value|c attn|qkv proj)\b")
_GATE = re.compile(r"\b(gates?|gating|wg|w?gg|w?gl|w?lg|w g [gl]|w l g)\b|\bw g\b")
_PROJECTIONS = {
    "query": re.compile(r"\b(w?q|query|queries|qproj|toq|wquery)\b"),
    "key": re.compile(r"\b(w?k|keys?|kproj|tok|wkey)\b"),
    "value": re.compile(r"\b(w?v|values?|vproj|tov|wvalue)\b"),
}
_OUTPUT = re.compile(r"\b(w?o|w?og|w?ol|out|output|outproj|proj|projection|dense|fc|merge|combine)\b")
_CLASSIFIER = re.compile(r"\b(classif\w+|heads?|cls|clf|logits?|predict\w*|fc|out|output|readout)\b")
_PROJECT = re.compile(r"\b(embed\w*|project\w*|proj|inp|input|in|stem)\b")
_LOCAL = re.compile(r"\b(local|loc|l|w?o?l|w?gl|w?lg|near\w*|neigh\w*)\b")
_GLOBAL = re.compile(r"\b(global|glob|g|w?og|w?gg|everywhere|all)\b")


@dataclass(frozen=True)
class ReadName:
    """What a name says.

    Attributes:
        stream: which of the model's streams it is of; None: not said.
        layer: the number in it; None: not said.
        parts: which parts of a model it may be; empty: not said.
        bias: whether it is a bias; None: not said.
    """

    stream: str | None
    layer: int | None
    parts: frozenset[str]
    bias: bool | None


def words(name: str) -> list[str]:
    """The words of a name, in lower case."""
    return [word.lower() for word in _WORDS.findall(name)]


def streams_of(names: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """The streams that names speak of, in the order in which they come.

    Args:
        names: of tensors.
        known: part of a name -> what the stream is called; empty: by usual words, and by names of this package.
    """
    return list(dict.fromkeys(stream for stream in (_stream(name, known)[0] for name in names) if stream))


def read_name(name: str, shape: Sequence[int], known: Mapping[str, str]) -> ReadName:
    """What a name says of its tensor.

    Args:
        name: of the tensor.
        shape: of the tensor: a vector is no projection, a matrix no norm.
        known: see `streams_of`.
    """
    stream, rest = _stream(name, known)
    listed = words(rest)
    bias = _KINDS.get(listed[-1]) if listed else None
    if bias is not None:
        listed.pop()
    elif listed and listed[0] == "b" and len(shape) == 1:  # b_q
        bias, listed[0] = True, "w"
    text = " ".join(listed)
    place = _FEED_FORWARD.search(text)
    number = _LAYER.search(text[: place.start()] if place else text)
    layer = None if number is None else int(number[1])
    if number is not None:
        text = f"{text[: number.start()]} {text[number.end() :]}".strip()
    return ReadName(stream, layer, frozenset(_parts(text, layer, shape)), bias)


def _stream(name: str, known: Mapping[str, str]) -> tuple[str | None, str]:
    """The stream of a name, and the name without what says it."""
    own = re.match(r"encoders\.(\D[^.]*)\.(?=layers\.\d|norm\.|project\.)", name)
    for key, stream in known.items():
        place = re.search(rf"(?:^|[._]){re.escape(key)}(?=[._]|$)", name)
        if place:
            return stream, name[: place.start()] + "." + name[place.end() :]
    if own:
        return own[1], name[own.end() :]
    if not known:
        for stream, usual in STREAM_WORDS.items():
            for match in _WORDS.finditer(name):
                if match[0].lower() in usual:
                    return stream, name[: match.start()] + "." + name[match.end() :]
    return None, name


def _parts(text: str, layer: int | None, shape: Sequence[int]) -> set[str]:
    if _NORM.search(text):
        return _norms(text, layer) if len(shape) == 1 else set()
    if _PACKED.search(text) and (len(shape) == 1 or shape[0] == 3 * shape[1]):
        return {PACKED}
    if _GATE.search(text):
        return _branches(text, "gate")
    if projections := {part for part, pattern in _PROJECTIONS.items() if pattern.search(text)}:
        return projections
    if _FEED_FORWARD.search(text) and not _ATTENTION.search(text):
        return _feed_forwards(text)
    parts = set()
    if _OUTPUT.search(text):
        parts |= _branches(text, "output") | {"output"}
    if not _ATTENTION.search(text):
        if layer is None and _CLASSIFIER.search(text):
            parts.add("classifier")
        if layer is None and _PROJECT.search(text):
            parts.add("project")
        if layer is not None and parts and "output" in text:  # as BERT calls the second matrix of its feed-forward
            parts.add("feed_second")
    return parts


def _norms(text: str, layer: int | None) -> set[str]:
    if layer is None and _OF_FRONT.search(text):  # of a layer only where layers have no numbers
        return {FRONT_NORM, "norm_attention"}
    parts = set()
    if _OF_ATTENTION.search(text):
        parts.add("norm_attention")
    elif _OF_FEED_FORWARD.search(text):
        parts.add("norm_feed_forward")
    if layer is None and (not parts or _OF_END.search(text)):
        parts.add("norm")
    return parts or {"norm_attention", "norm_feed_forward"}


def _branches(text: str, part: str) -> set[str]:
    if _LOCAL.search(text):
        return {f"{part}_local"}
    if _GLOBAL.search(text):
        return {f"{part}_global"}
    return {f"{part}_global", f"{part}_local"}


def _feed_forwards(text: str) -> set[str]:
    if _SECOND.search(text):
        return {"feed_second"}
    return {"feed_first"} if _FIRST.search(text) else {"feed_first", "feed_second"}
