"""The fixtures that the run takes from its neighbours."""

from tests.together.fixtures import nursery, templates

__all__ = ["nursery", "templates"]
