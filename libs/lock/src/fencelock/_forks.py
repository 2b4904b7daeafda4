"""Whether this process is still the one that made something.

A child of ``fork`` inherits its parent's objects, but must not use its connections or its name.
"""

import os

_generation = 0


def generation() -> int:
    """A number that differs in every child."""
    return _generation


def _forked() -> None:
    global _generation  # noqa: PLW0603 (the one thing a fork changes)
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
