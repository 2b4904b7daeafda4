"""What the URLs in the settings must be."""

import pytest

from servicekit.urls import redis_url


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@host:6379/0",
        "rediss://user:secret@[::1]:6380",
        "unix:///run/redis.sock",
        "redis+sentinel://:secret@a:26379,b:26379,[::1]:26379/locks/0?replicas=1",
        "rediss+sentinel://:secret@a/locks?sentinel_password=other",
        "redis+cluster://:secret@a:7000,b:7001",
        "redis://:secret@a:1,redis://:secret@b:2,redis://:secret@c:3",
    ],
)
def test_locks_may_be_kept_in_every_way_that_the_lock_knows(url: str) -> None:
    assert redis_url(url) == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+other://:s3cret@a", "must start with"),
        ("redis+sentinel://:s3cret@a:notaport,b/locks", "port"),
        ("redis+sentinel://:s3cret@a:99999/locks", "port"),
        ("redis+sentinel://:se#s3cret@a/locks", "%23"),
        ("redis://:s3cret@a,b", "several hosts"),
        ("redis://:s3cret@a,amqp://b", "must start with"),
        ("redis+cluster://:s3cret@a?ssl_ca_certs=/nope", "ssl_ca_certs"),
    ],
)
def test_what_it_does_not_know_is_refused_without_the_password(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        redis_url(url)
    assert "s3cret" not in str(caught.value)
