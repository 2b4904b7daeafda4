from typing import Any

import pytest

from fencelock import ConfigurationError
from fencelock._topology import Cluster, Quorum, Sentinels, Single, read


def test_one_url_is_one_server() -> None:
    where = read("redis://user:secret@host:1234/5?replicas=1")
    assert isinstance(where, Single)
    assert (where.server.host, where.server.port, where.server.db) == ("host", 1234, 5)
    assert where.replicas == 1


def test_an_ipv6_address_is_read() -> None:
    where = read("redis://[2001:db8::7]:6380")
    assert isinstance(where, Single)
    assert (where.server.host, where.server.port) == ("2001:db8::7", 6380)
    assert str(where) == "[2001:db8::7]:6380"


def test_sentinels_are_read_with_what_they_call_the_server() -> None:
    where = read(
        "redis+sentinel://app:secret@a:1,b,[::1]:3/locks/2"
        "?sentinel_username=watch&sentinel_password=p%40ss&replicas=1"
    )
    assert isinstance(where, Sentinels)
    assert [(each.host, each.port) for each in where.addresses] == [
        ("a", 1),
        ("b", 26379),
        ("::1", 3),
    ]
    assert {(each.username, each.password) for each in where.addresses} == {("watch", "p@ss")}
    assert (where.name, where.server.db, where.replicas) == ("locks", 2, 1)
    assert (where.server.username, where.server.password) == ("app", "secret")
    assert where.server.tls is None
    assert "secret" not in f"{where} {where!r}"
    assert "p@ss" not in f"{where} {where!r}"


def test_tls_counts_for_the_sentinels_too() -> None:
    where = read("rediss+sentinel://a,b/locks")
    assert isinstance(where, Sentinels)
    assert where.server.tls is not None
    assert all(each.tls is not None for each in where.addresses)


def test_some_nodes_of_a_cluster_are_read() -> None:
    where = read("redis+cluster://:secret@a:7000,b:7001,[::1]")
    assert isinstance(where, Cluster)
    assert [(each.host, each.port) for each in where.seeds] == [
        ("a", 7000),
        ("b", 7001),
        ("::1", 6379),
    ]
    assert {each.password for each in where.seeds} == {"secret"}


@pytest.mark.parametrize(
    "given",
    [
        ["redis://a", "redis://:secret@b:2", "unix:///run/c.sock"],
        "redis://a,redis://:secret@b:2,unix:///run/c.sock",
        "redis://a redis://:secret@b:2\nunix:///run/c.sock\n",
    ],
)
def test_several_urls_are_a_quorum(given: Any) -> None:
    where = read(given)
    assert isinstance(where, Quorum)
    assert [str(each) for each in where.servers] == ["a:6379", "b:2", "/run/c.sock"]
    assert where.majority == 2


@pytest.mark.parametrize(("count", "majority"), [(2, 2), (3, 2), (4, 3), (5, 3)])
def test_a_majority_is_more_than_half_also_of_an_even_number(count: int, majority: int) -> None:
    where = read([f"redis://host-{number}" for number in range(count)])
    assert isinstance(where, Quorum)
    assert where.majority == majority


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ([], "empty"),
        (7, "neither"),
        (["redis://a", 7], "neither"),
        (["redis://a", "redis://a:6379"], "twice"),
        (["redis://a", "redis+sentinel://b/locks"], "list"),
        ("redis+sentinel://a,b", "what they call"),
        ("redis+sentinel://a,b/lo cks", "what they call"),
        ("redis+sentinel:///locks", "HOST:PORT"),
        ("redis+sentinel://a,a/locks", "twice"),
        ("redis+sentinel://a:99999/locks", "HOST:PORT"),
        ("redis+sentinel://a:x/locks", "HOST:PORT"),
        ("redis+sentinel://a/locks/x", "number of a database"),
        ("redis+sentinel://:12/s3cret@h:1/locks", "%2F"),
        ("redis+sentinel://:se#s3cret@h:1/locks", "%2F"),
        ("redis+sentinel://:se?s3cret@h:1/locks?replicas=1", "%2F"),
        ("redis+sentinel://:s3cret@a/locks?replicas=-1", "replicas"),
        ("redis+sentinel://:s3cret@a/locks?replicas=many", "replicas"),
        ("redis+cluster://:s3cret@a,b/1", "database"),
        ("redis+cluster://:s3cret@", "HOST:PORT"),
        ("rediss+cluster://:s3cret@a?ssl_ca_certs=/nope", "TLS"),
        ("redis+other://:s3cret@a", "begins with"),
        ("redis://:s3cret@a,b", "one host"),
        ("redis://:s3cret@a?replicas=1.5", "replicas"),
        ("redis+cluster://:s3cret@a,b?replicas=1", "neither for a Cluster nor a quorum"),
        (["redis://:s3cret@a?replicas=1", "redis://b"], "neither for a Cluster nor a quorum"),
        ("redis+cluster://:s3cret@a?db=1", "no other database"),
        ("redis+cluster://:s3cret@a?sentinel_password=x", r"for redis\+sentinel"),
        ("redis://:s3cret@a?sentinel_username=x", r"for redis\+sentinel"),
        ("redis+sentinel://:s3cret@a/locks/1?db=2", "database twice"),
        ("redis+sentinel://:s3cret@a/locks?replicas=1&replicas=2", "twice"),
        ("redis+sentinel://:s3cret@a/locks?ssl_ca_certs=/ca.crt", "rediss"),
        ("redis+cluster://:s3cret@a?ssl_cert_reqs=required", "rediss"),
        ("redis+sentinel://:s3cret@a/locks?replica=1", "means nothing"),
        ("redis+cluster://:s3cret@a?socket_timeout=1", "means nothing"),
    ],
)
def test_what_makes_no_sense_is_said_without_a_part_of_the_password(url: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        read(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
