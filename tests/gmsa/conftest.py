"""What tests of commands share."""

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def no_pages(monkeypatch):
    """An empty page in place of each: to lay one out takes longer than all else."""
    monkeypatch.setattr("figures.inspection.draw", lambda *given, **more: Figure(figsize=(1, 1)))
