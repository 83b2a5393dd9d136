"""Fixtures that several rooms use."""

from pathlib import Path

import pytest
from hypothesis import settings

# Machines differ and are shared: an example that takes long is no failure.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; skips the test where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data: ../shared/data is not beside the project")
    return SHARED_DATA
