"""What a record says of the edits of its pass. Without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["EDITED", "record_edits", "without_edited"]

EDITED = "@edited"  # behind the model's name


def record_edits(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """The edits of the pass that a record is of, as texts of `analysis.interventions.edit_texts`; none of a plain pass.

    Args:
        attributes: of the record.
    """
    return tuple(str(each) for each in json.loads(str(attributes.get("edits", "[]"))))


def without_edited(name: str) -> str:
    """The name of the model whose pass was edited."""
    return name.removesuffix(EDITED)
