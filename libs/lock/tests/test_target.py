import ssl

import pytest

from fencelock import ConfigurationError
from fencelock._target import Target
from fencelock._topology import read


def context_of(url: str) -> ssl.SSLContext:
    tls = Target.from_url(url).tls
    assert tls is not None
    return tls.context()


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
    verified = context_of("rediss://host")
    assert verified.verify_mode is ssl.CERT_REQUIRED
    assert verified.check_hostname
    trusting = context_of("rediss://host?ssl_cert_reqs=none&ssl_check_hostname=false")
    assert trusting.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize("url", ["REDISS://h", "Rediss://h:6379/0", "red\niss://h"])
def test_tls_is_not_lost_on_how_the_scheme_is_written(url: str) -> None:
    assert context_of(url).verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("unix://", "comes the path"),
        ("unix:///", "comes the path"),
        ("unix:///run/a%00b", "comes the path"),
        ("unix://run/redis.sock", "third slash"),
        ("unix://:secret@run/redis.sock", "third slash"),
        (f"unix:///{'x' * 107}", "107 bytes"),
        ("unix:/run/redis.sock", "begins with redis://"),
        ("redis:/0", "begins with redis://"),
        ("redis:", "begins with redis://"),
    ],
)
def test_a_socket_or_a_host_is_never_guessed(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Target.from_url(url)


@pytest.mark.parametrize("host", ["a%20b", "a%00b", "a%40b", "a%2Fb", "a%2Cb", "a%0Ab", "a%5Cb"])
@pytest.mark.parametrize("mode", ["", "+sentinel", "+cluster"])
def test_a_host_is_one_also_when_its_characters_are_escaped(mode: str, host: str) -> None:
    path = "/locks" if mode == "+sentinel" else ""
    with pytest.raises(ConfigurationError, match="not a Redis URL") as caught:
        read(f"redis{mode}://{host}:6379{path}")
    assert host not in str(caught.value)


def test_a_user_and_a_password_may_be_options() -> None:
    target = Target.from_url("unix:///run/redis.sock?db=2&username=app&password=s%40cret")
    assert (target.username, target.password, target.db) == ("app", "s@cret", 2)


def test_another_scheme_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        Target.from_url("http://host")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://:s3cret@h",
        "redis://:12/s3cret@h:1/0",
        "redis://:se#s3cret@h:1/0",
        "redis://:s3cret@h:notaport/0",
        "redis://h:1/abc",
        "redis://h:99999/0",
        "redis://:s3cret@h1:1,h2:2/0",
        "rediss://h?ssl_ca_certs=/nope",
        "rediss://h?ssl_cert_reqs=bogus",
        "rediss://h?ssl_cert_regs=none",
        "redis://h?ssl_ca_certs=/etc/ca.crt",
        "unix:///s?ssl_cert_reqs=none",
        "redis://h?socket_timeout=1",
        "redis://h?s3cret",
        "redis://h?s3cret=1",
        "redis://h/1?db=2",
        "redis://h?db=1&db=2",
        "redis://h?db=",
        "redis://:s3cret@h?password=s3cret2",
        "redis://h?replicas=1",
    ],
)
def test_a_url_that_cannot_be_read_says_so_without_a_part_of_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Target.from_url(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize(
    "host", ["a" * 64, "a" * 70_000, "a..b", ".a", "\0", "a\0b", "\ud800", ":\ud800@h"]
)
def test_a_host_that_no_host_can_have_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="not a Redis URL"):
        Target.from_url(f"redis://{host}:6379/0")


@pytest.mark.parametrize(
    "host",
    ["h", "a-b.c_d.example.", "10.0.0.1", "[::1]", "[fe80::1%25eth0]", "b\u00fccher.example"],
)
def test_other_hosts_are_read(host: str) -> None:
    Target.from_url(f"redis://{host}:6379/0")
