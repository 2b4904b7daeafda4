"""What every test of the service kit wants."""

import pytest

from servicekit.testing.logs import route_to_stdlib


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Let pytest collect what is logged."""
    route_to_stdlib()
