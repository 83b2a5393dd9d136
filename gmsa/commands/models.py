"""`gmsa models`: list the trained models with their sizes and scores."""

from __future__ import annotations

import json

from gmsa.common import show
from gmsa.options import AsJson

__all__ = ["models"]


def models(as_json: AsJson = False) -> None:
    """List the trained models with their sizes and scores."""
    from gmsa.screen_tables import models_tables
    from gmsa_models import available, describe

    described = [describe(name) for name in available()]
    if as_json:
        print(json.dumps({each.name: {"bytes": each.bytes, "parameters": each.parameters, "card": each.card}
                          for each in described}, indent=2))  # fmt: skip
    else:
        show(models_tables(described))
