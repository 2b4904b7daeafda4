import ssl

import pytest

from fencelock import ConfigurationError
from fencelock._target import Target


def test_a_url_is_read_like_redis_py_reads_it() -> None:
    target = Target.from_url("redis://user:secret@host:1234/5")
    assert (target.host, target.port, target.db) == ("host", 1234, 5)
    assert (target.username, target.password, target.tls) == ("user", "secret", None)


def test_a_secret_is_not_shown() -> None:
    assert str(Target.from_url("redis://user:secret@host:1234/5")) == "host:1234"
    assert "secret" not in repr(Target.from_url("redis://user:secret@host:1234/5"))


def test_a_socket_path_is_read() -> None:
    target = Target.from_url("unix:///run/redis.sock?db=2")
    assert (target.path, target.db, str(target)) == ("/run/redis.sock", 2, "/run/redis.sock")


def test_tls_is_verified_unless_the_url_says_otherwise() -> None:
    verified = Target.from_url("rediss://host").tls
    assert verified is not None
    assert verified.verify_mode is ssl.CERT_REQUIRED
    assert verified.check_hostname
    trusting = Target.from_url("rediss://host?ssl_cert_reqs=none&ssl_check_hostname=false").tls
    assert trusting is not None
    assert trusting.verify_mode is ssl.CERT_NONE


def test_another_scheme_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        Target.from_url("http://host")
