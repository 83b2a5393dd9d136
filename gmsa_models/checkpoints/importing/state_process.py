"""Read the tensors of a file that another program wrote, in a process of its own with limits of memory and time.

Run as a program by `gmsa_models.checkpoints.importing.state_file`: source, target, seconds of processor time and bytes
of memory. It writes the tensors as safetensors to the target and prints JSON: the SHA-256 of what it read and the names
in their order, or what is wrong. `torch.load(weights_only=True)` runs nothing that a pickle asks for; what a damaged or
hostile file makes it allocate, or how long it takes, is limited here.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save_file
from torch import Tensor

from gmsa_models.errors import ContentError

__all__ = ["dense_copies", "read_tensors"]

# Under which of its keys a training loop keeps the weights, the likeliest first.
_NESTED = ("state_dict", "model_state_dict", "model_state", "model", "net", "module", "weights", "params")
_ADVICE = "write the weights alone: torch.save(model.state_dict(), 'weights.pt')"
_MOST_TENSORS, _DEEPEST = 100_000, 4


def read_tensors(data: bytes) -> dict[str, Tensor]:
    """Tensors by name from the bytes of a safetensors file or of one that `torch.save` wrote.

    Raises:
        ContentError: it is neither, or holds anything else than dense tensors by name.
    """
    return dense_copies(_named_tensors(_contents(data)), len(data))


def dense_copies(tensors: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Tensors that share no memory, row by row; `size`: bytes of what they were read from.

    Raises:
        ContentError: one that is not dense, or that repeats its numbers to be larger than the file.
    """
    for name, value in tensors.items():
        if value.is_nested or value.layout != torch.strided or value.is_quantized:
            what = "jagged (nested)" if value.is_nested else "quantized" if value.is_quantized else "sparse"
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


def _named_tensors(contents: object) -> dict[str, Tensor]:
    """The one set of tensors by name in what was read, at its top or under a usual key."""
    dictionaries = dict(_state_dicts(contents, ""))
    if not dictionaries:
        raise ContentError(f"holds {type(contents).__name__:.60} without tensors by name; {_ADVICE}")
    known = [path for path in dictionaries if path == "" or path.split(".")[-1] in _NESTED]
    chosen = known or list(dictionaries)
    if len(chosen) > 1:
        raise ContentError(f"holds {len(chosen)} sets of tensors: {', '.join(chosen)[:200]}; {_ADVICE}")
    if len(dictionaries[chosen[0]]) > _MOST_TENSORS:
        raise ContentError(f"holds {len(dictionaries[chosen[0]])} tensors; at most {_MOST_TENSORS} are read")
    return dictionaries[chosen[0]]


def _state_dicts(value: object, path: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(value, Mapping) or path.count(".") >= _DEEPEST:
        return
    if value and all(isinstance(name, str) and isinstance(each, Tensor) for name, each in value.items()):
        yield path, dict(value)
        return
    for name, each in value.items():
        if isinstance(name, str):
            yield from _state_dicts(each, f"{path}.{name}" if path else name)


def _limit(seconds: int, memory: int) -> None:
    """So many seconds of processor time, so many bytes of memory beside those taken already."""
    try:
        import resource
    except ImportError:  # not on this system; the clock alone limits there
        return
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # where the system does not say how much is taken, or knows no such limit
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))


def _answer(source: str, target: str) -> dict[str, Any]:
    try:
        data = Path(source).read_bytes()
        tensors = read_tensors(data)
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
    source, target, seconds, memory = sys.argv[1:]
    warnings.simplefilter("ignore")
    _limit(int(seconds), int(memory))
    print(json.dumps(_answer(source, target)))


if __name__ == "__main__":
    main()
