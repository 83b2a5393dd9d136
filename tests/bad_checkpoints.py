"""Checkpoints that are wrong, made from a good one: one a fault, with the error that must come and words of it."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import struct
from collections.abc import Callable

from gmsa_models.checkpoints.header import METADATA_KEY, CheckpointError

Change = Callable[[dict], object]
Make = Callable[[bytes], bytes]
ZERO = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def framed(text: bytes, weights: bytes = b"") -> bytes:
    """A safetensors file of a header's text."""
    return struct.pack("<Q", len(text)) + text + weights


def split(good: bytes) -> tuple[dict, bytes]:
    """Header and weights of a good file."""
    length = int.from_bytes(good[:8], "little")
    return json.loads(good[8 : 8 + length]), good[8 + length :]


def header(change: Change) -> Make:
    """The header changed, its length right again."""

    def make(good: bytes) -> bytes:
        entries, weights = split(good)
        change(entries)
        return framed(json.dumps(entries).encode(), weights)

    return make


def contents(change: Change) -> Make:
    """What the file says of itself changed, without the checksum, as in a file from before there was one."""

    def changed(entries: dict) -> None:
        values = json.loads(entries["__metadata__"][METADATA_KEY])
        values.pop("checksum", None)
        change(values)
        entries["__metadata__"][METADATA_KEY] = json.dumps(values)

    return header(changed)


def config(**values: object) -> Make:
    return contents(lambda all_values: all_values["config"].update(values))


def vocabulary(**values: object) -> Make:
    return contents(lambda all_values: all_values["vocabulary"].update(values))


def card(**values: object) -> Make:
    return contents(lambda all_values: all_values["card"].update(values))


def bias(**values: object) -> Make:
    """The entry of one tensor changed."""
    return header(lambda entries: entries["classifier.bias"].update(values))


def instead(data: bytes) -> Make:
    return lambda good: data


def flipped(good: bytes) -> bytes:
    """One bit of the last weight turned over."""
    return good[:-2] + bytes([good[-2] ^ 16]) + good[-1:]


def with_nan(good: bytes) -> bytes:
    return contents(lambda values: None)(good)[:-4] + struct.pack("<f", float("nan"))


def twice(good: bytes) -> bytes:
    """A tensor described twice in one JSON object: which one counts is up to the reader."""
    entries, weights = split(good)
    text = json.dumps(entries)
    return framed(f"{text[:-1]}, {json.dumps('classifier.bias')}: {json.dumps(ZERO)}}}".encode(), weights)


def many_tensors(count: int, layers: int) -> Make:
    def make(good: bytes) -> bytes:
        return header(lambda entries: entries.update({f"z{n}": ZERO for n in range(count)}))(
            config(layers=layers)(good)
        )

    return make


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


LONG = {f"m{number}": 12 for number in range(33)}

CHECKPOINTS: dict[str, tuple[Make, type[Exception], str]] = {
    "a pickle that runs code": (instead(pickle.dumps(Bomb())), CheckpointError, "can run any code"),
    "a pickle of the oldest protocol": (instead(pickle.dumps(Bomb(), 0)), CheckpointError, "not a safetensors"),
    "a gzip": (lambda good: gzip.compress(good, mtime=0), CheckpointError, "starts with b'.x1f"),
    "text": (instead(b"hello, this is a letter"), CheckpointError, "starts with b'hello, t'"),
    "an empty file": (instead(b""), CheckpointError, "0 bytes"),
    "cut in the weights": (lambda good: good[:-9], CheckpointError, "its header says"),
    "a header of 10 GB": (lambda good: struct.pack("<Q", 10 << 30) + good[8:], CheckpointError, "a header of 10737418"),
    "a header longer than the file": (
        lambda good: struct.pack("<Q", 1 << 20) + good[8:], CheckpointError, "its header alone claims 1048576"
    ),
    "a million empty lists": (
        instead(framed(b'{"a":[' + b"[]," * 10**6 + b"[]]}")), CheckpointError, "header of 3000010"
    ),
    "JSON that nests deeply": (instead(framed(b'{"a":' + b"[" * 500_000)), CheckpointError, "header is not JSON"),
    "a number of 5,000 digits": (instead(framed(b'{"a":' + b"9" * 5000 + b"}")), CheckpointError, "header is not JSON"),
    "a tensor described twice": (twice, CheckpointError, "a name comes twice"),
    "a shape that overflows": (bias(shape=[10**30]), CheckpointError, r"'classifier\.bias' is described as"),
    "a type of a megabyte": (bias(dtype="x" * 10**6), CheckpointError, r"'classifier\.bias' is described as"),
    "whole numbers as weights": (bias(dtype="I32"), CheckpointError, "KeyError.'I32'"),
    "overlapping tensors": (bias(data_offsets=[4, 24]), CheckpointError, "overlap or leave a hole"),
    "offsets that are no whole numbers": (bias(data_offsets=[0.0, 20.0]), CheckpointError, "does not hold"),
    "a name that is a path": (
        header(lambda entries: entries.update({"../../etc/passwd": entries.pop("classifier.bias")})),
        CheckpointError, r"classifier\.bias",
    ),
    "one more name that is a path": (
        header(lambda entries: entries.update({"/etc/passwd": ZERO})), CheckpointError, "'/etc/passwd'"
    ),
    "a name of a megabyte": (header(lambda entries: entries.update({"n" * 10**6: ZERO})), CheckpointError, "nn"),
    "very many tensors": (many_tensors(5000, 1), CheckpointError, r"50\d\d tensors; at most 2048"),
    "layers without tensors": (many_tensors(1500, 1500), CheckpointError, "tensors of the model are missing"),
    "a flipped bit in the weights": (flipped, CheckpointError, "do not match their checksum"),
    "a changed score in the card": (
        header(lambda entries: entries["__metadata__"].update(
            {METADATA_KEY: entries["__metadata__"][METADATA_KEY].replace("small-", "large-")}
        )), CheckpointError, "do not match their checksum",
    ),
    "NaN in the weights": (with_nan, CheckpointError, "has a value that is not finite"),
    "metadata that is a number": (
        header(lambda entries: entries["__metadata__"].update({METADATA_KEY: 5})),
        CheckpointError, "metadata is not JSON"
    ),
    "metadata that is a list": (
        header(lambda entries: entries.update(__metadata__=[METADATA_KEY])), CheckpointError, "without the"
    ),
    "a later version": (contents(lambda all_values: all_values.update(format_version=2)), CheckpointError, "Upgrade"),
    "a version that is True": (
        contents(lambda all_values: all_values.update(format_version=True)), CheckpointError, "format version True"
    ),
    "no card": (contents(lambda all_values: all_values.pop("card")), CheckpointError, "'card'"),
    "a modality that torch needs": (config(modalities={"keys": 12, "audio": 8}), CheckpointError, "name 'keys'"),
    "a modality that is a path": (config(modalities={"../x": 12, "audio": 8}), CheckpointError, "name '../x'"),
    "modalities in a list": (config(modalities=[["audio", 8]]), CheckpointError, "modalities is .*audio"),
    "very many modalities": (config(modalities=LONG), CheckpointError, "modalities has 33 entries"),
    "a neighbourhood that is text": (config(neighbourhood="toeplitz"), CheckpointError, "neighbourhood is 'toe"),
    "an endless neighbourhood": (
        config(neighbourhood={"kind": "toeplitz", "size": 10**30}), CheckpointError, "Toeplitz: size is 1000"
    ),
    "a width of 2^62": (config(feed_forward=2**62), CheckpointError, "feed_forward is 4611686018427387904"),
    "a width of 2^30": (config(feed_forward=2**30), CheckpointError, "the config makes it"),
    "frames without end": (config(max_frames=10**12), CheckpointError, "max_frames is 1000000000000"),
    "a bias that is text": (config(bias="no"), CheckpointError, "config, vocabulary or card cannot be used"),
    "a dropout that is NaN": (config(dropout=float("nan")), CheckpointError, "dropout is nan"),
    "a name that is markup a terminal obeys": (card(name="[/red]\x1b[31m"), CheckpointError, "plain characters"),
    "a name too long for a file": (card(name="x" * 300), CheckpointError, "1 to 100 plain characters"),
    "a name that is half a character": (card(name="\ud800"), CheckpointError, "plain characters"),
    "class names that are numbers": (vocabulary(names=[1, 2, 3, 4, 5]), CheckpointError, "vocabulary has 1;"),
    "labels that are text": (vocabulary(indices=list("abcde")), CheckpointError, "has the label 'a'"),
    "a data set that is an object": (vocabulary(dataset={"a": 1}), CheckpointError, "has {'a': 1}"),
}  # fmt: skip
