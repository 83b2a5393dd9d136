"""What several tests of captured modules use."""

import jaxtyping
import pytest


@pytest.fixture
def without_checks():
    """Types of arguments are not checked, as where no test runs."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
