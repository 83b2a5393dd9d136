"""The inspector's payload as the browser reads it; written from docs/inspector_payload.md."""

from __future__ import annotations

import json
import struct

import numpy as np


class Unpacked:
    """Arrays of a payload, by name."""

    def __init__(self, payload: bytes) -> None:
        (length,) = struct.unpack("<I", payload[:4])
        self.header = json.loads(payload[4 : 4 + length])
        self.body = payload[4 + length :]

    def __getitem__(self, name: str) -> np.ndarray:
        about = self.header["arrays"][name]
        if "same" in about:
            return self[about["same"]]
        block = self.body[about["offset"] : about["offset"] + about["bytes"]]
        if about["type"] == "float16":
            low, high = np.frombuffer(block, np.uint8).reshape(2, -1)
            halves = (low | high.astype(np.uint16) << 8).view(np.float16)
            values = np.ldexp(halves.astype(np.float32), -about["exponent"])
        elif about["type"] == "int16":
            low, high = np.frombuffer(block, np.uint8).reshape(2, -1)
            whole = (low | high.astype(np.uint16) << 8).view(np.int16).reshape(about["shape"])
            values = whole * self[about["steps"]][:, None]
        else:
            values = np.frombuffer(block, about["type"])
        if "support" not in about:
            return values.reshape(about["shape"])
        full = np.zeros(about["shape"], np.float32)
        full[self[about["support"]] > 0] = values
        return np.tril(full) + np.tril(full, -1).T if about.get("symmetric") else full
