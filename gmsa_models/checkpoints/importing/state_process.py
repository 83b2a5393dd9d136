"""Read the tensors of a file that another program wrote, in a process of its own with limits of memory and time.

Run as a program by `gmsa_models.checkpoints.importing.state_file`: source, target, seconds of processor time, bytes of
memory, and the key of the weights or "". It writes the tensors as safetensors to the target and prints JSON: the
SHA-256 of what it read and the names in their order, or what is wrong. `torch.load(weights_only=True)` runs nothing
that a pickle asks for; what a damaged or hostile file makes it allocate, or how long it takes, is limited here.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save_file
from torch import Tensor

from gmsa_models.errors import ContentError
from gmsa_models.limits import limit_process

__all__ = ["dense_copies", "named_tensors", "read_tensors"]

# Under which of its keys a training loop keeps the weights, the likeliest first.
_NESTED = ("state_dict", "model_state_dict", "model_state", "model", "net", "module", "weights", "params")
# In the paths of tensors that go with weights, of which there is one each.
_BESIDE = re.compile(r"optim|moment|grad|exp_avg|schedul|scaler", re.IGNORECASE)
_PREFIXES = re.compile(r"^(?:(?:module|_orig_mod|model|ema|shadow|ema_model)\.)+")
_ADVICE = "write the weights alone: torch.save(model.state_dict(), 'weights.pt')"
_MOST_TENSORS, _DEEPEST = 100_000, 4


def read_tensors(data: bytes, key: str | None = None) -> dict[str, Tensor]:
    """Tensors by name from the bytes of a safetensors file or of one that `torch.save` wrote.

    Args:
        data: of the file.
        key: see `named_tensors`.

    Raises:
        ContentError: it is neither, or holds anything else than dense tensors by name, or several sets of weights.
    """
    return dense_copies(named_tensors(_contents(data), key), len(data))


def dense_copies(tensors: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Tensors that share no memory, row by row; `size`: bytes of what they were read from.

    Raises:
        ContentError: one that is not dense, or that repeats its numbers to be larger than the file.
    """
    for name, value in tensors.items():
        if what := _kind_of(value):
            raise ContentError(f"tensor {name!r:.200} is {what}; expected dense tensors: write it as one")
    if (needed := sum(value.numel() * value.element_size() for value in tensors.values())) > 2 * size + (1 << 20):
        raise ContentError(f"{size} bytes that claim tensors of {needed}; expected as many as are in the file")
    return {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}


def _contents(data: bytes) -> object:
    if data[8:9] == b"{":
        try:
            return load_safetensors(data)
        except (SafetensorError, ValueError) as error:
            raise ContentError(f"damaged safetensors: {error!s:.200}; fetch or write the file again") from None
    if not (data[:2] == b"PK" or data[:1] == b"\x80"):
        raise ContentError(f"begins with {data[:8]!r}: neither safetensors nor written by torch.save; {_ADVICE}")
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # what torch makes of damage is no closed list
        raise ContentError(_reason(str(error))) from None


def _reason(message: str) -> str:
    """What torch says of a file that it does not load, in a line."""
    if match := re.search(r"GLOBAL (\S+)", message):
        return f"asks for {match[1]:.100}, which is code and no tensor, and is not run; {_ADVICE}"
    if "jagged" in message:
        return "holds jagged (nested) tensors; expected dense tensors: write them as such"
    if "TorchScript" in message:
        return f"a TorchScript archive, which holds code; {_ADVICE}"
    lines = [line for line in message.splitlines() if line and not re.search("Weights only load|PyTorch 2.6", line)]
    first = (lines or [""])[0].strip()
    return f"torch.load(weights_only=True) refuses it ({first:.150}): damaged, or more than tensors; {_ADVICE}"


def named_tensors(contents: object, key: str | None = None) -> dict[str, Tensor]:
    """The one set of tensors by name in what was read, at its top or under a usual key.

    Args:
        contents: a `state_dict`, or dictionaries around several.
        key: under which the weights lie, with dots between keys; or what stands before their names. None: there is one
            set of weights.

    Raises:
        ContentError: none, several, or none of that key; lists what there is.
    """
    dictionaries = dict(_state_dicts(contents, ""))
    if not dictionaries:
        raise ContentError(f"holds {type(contents).__name__:.60} without tensors by name; {_ADVICE}")
    chosen = _only_one(dictionaries) if key is None else _under_key(dictionaries, key)
    if len(chosen) > _MOST_TENSORS:
        raise ContentError(f"holds {len(chosen)} tensors; at most {_MOST_TENSORS} are read")
    return chosen


def _only_one(dictionaries: Mapping[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    known = [path for path in dictionaries if path == "" or path.split(".")[-1] in _NESTED]
    chosen = known or list(dictionaries)
    candidates = [
        path
        for path, tensors in dictionaries.items()
        if path in chosen or (not _BESIDE.search(path) and _alike(tensors, dictionaries[chosen[0]]))
    ]
    if len(candidates) > 1:
        raise ContentError(
            f"holds {len(candidates)} sets of weights: {', '.join(candidates)[:200]}; --key says which, "
            f"as --key {candidates[-1]}"
        )
    return dictionaries[chosen[0]]


def _under_key(dictionaries: Mapping[str, dict[str, Tensor]], key: str) -> dict[str, Tensor]:
    if key in dictionaries:
        return dictionaries[key]
    for tensors in dictionaries.values():
        if named := {name[len(key) + 1 :]: each for name, each in tensors.items() if name.startswith(f"{key}.")}:
            return named
    below = [path for path in dictionaries if path.startswith(f"{key}.")]
    if len(below) == 1:
        return dictionaries[below[0]]
    begins = dict.fromkeys(name.partition(".")[0] for tensors in dictionaries.values() for name in tensors)
    keys = ", ".join([path for path in dictionaries if path] or begins)
    raise ContentError(f"--key {key!r:.100}: no such set of tensors; there are {keys:.200}")


def _alike(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two sets may be weights of the same model: most of the smaller one's names and shapes are in both."""
    first, second = (
        {(_PREFIXES.sub("", name), each.shape) for name, each in tensors.items()} for tensors in (one, other)
    )
    return 2 * len(first & second) > min(len(first), len(second))


def _state_dicts(value: object, path: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(value, Mapping) or path.count(".") >= _DEEPEST:
        return
    if value and all(isinstance(name, str) and isinstance(each, Tensor) for name, each in value.items()):
        yield path, dict(value)
        return
    for name, each in value.items():
        if isinstance(name, str):
            yield from _state_dicts(each, f"{path}.{name}" if path else name)


def _kind_of(value: Tensor) -> str:
    """What a tensor is that is not dense; empty of one that is."""
    if value.is_nested:
        return "jagged (nested)"
    if value.is_quantized:
        return "quantized"
    if value.is_meta:
        return "on the device meta, without numbers"
    return "" if value.layout == torch.strided else "sparse"


def _answer(source: str, target: str, key: str) -> dict[str, Any]:
    try:
        data = Path(source).read_bytes()
        tensors = read_tensors(data, key or None)
        save_file(tensors, target)
    except MemoryError:
        return {"wrong": "its tensors take more memory than its bytes can hold: damaged, or made by hand"}
    except RuntimeError as error:  # torch's own way to say so
        return {"wrong": f"its tensors cannot be read: {(str(error).splitlines() or [''])[0]:.200}"}
    except ContentError as error:
        return {"wrong": str(error)}
    except OSError as error:
        return {"wrong": f"cannot be read: {error.strerror}"}
    return {"sha256": hashlib.sha256(data).hexdigest(), "names": list(tensors)}  # safetensors sorts them


def main() -> None:
    """The program."""
    source, target, seconds, memory, key = sys.argv[1:]
    warnings.simplefilter("ignore")
    limit_process(int(seconds), int(memory))
    print(json.dumps(_answer(source, target, key)))


if __name__ == "__main__":
    main()
