import inspect

import fencelock
from fencelock import _errors


def test_every_error_has_the_one_root_and_a_line_that_explains_it() -> None:
    for name in _errors.__all__:
        error = getattr(_errors, name)
        assert issubclass(error, fencelock.FencelockError)
        assert inspect.getdoc(error)


def test_the_tree_in_the_docstrings_shows_every_error() -> None:
    for module in (_errors, fencelock):
        assert module.__doc__ is not None
        assert all(name in module.__doc__ for name in _errors.__all__)


def test_the_cases_can_be_told_apart() -> None:
    assert issubclass(fencelock.Contended, fencelock.LockNotAcquired)
    assert issubclass(fencelock.AcquireTimeout, fencelock.LockNotAcquired)
    assert not issubclass(fencelock.RedisUnavailable, fencelock.LockNotAcquired)
    assert not issubclass(fencelock.LeaseLost, fencelock.NotOwner)
