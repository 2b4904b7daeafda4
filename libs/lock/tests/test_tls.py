"""What the TLS options of a URL may be, and what is said of files that cannot be used."""

import logging
import shutil
import ssl
from pathlib import Path

import pytest
from libs.lock.tests.tls import PASSWORD, make_keys

from fencelock import ConfigurationError
from fencelock._target import Target
from fencelock._tls import Tls

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the keys")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("ssl_ca_cert=/x", "is ssl_ca_certs meant"),
        ("ssl_validate_ocsp=true", "those are ssl_ca_certs"),
        ("ssl_cert_reqs=sometimes", "ssl_cert_reqs is required, or none"),
        ("ssl_check_hostname=off", "ssl_check_hostname is true or false"),
        ("ssl_min_version=TLSv1.3", "771 for TLS 1.2"),
        ("ssl_ca_path=/nope", "ssl_ca_path is no folder"),
        ("ssl_cert_reqs=none&ssl_check_hostname=true", "ssl_check_hostname would do nothing"),
        ("ssl_cert_reqs=none&ssl_ca_certs=/x", "ssl_ca_certs would do nothing"),
        ("ssl_keyfile=/x", "ssl_keyfile is for the certificate that ssl_certfile names"),
        ("ssl_password=x", "ssl_password is for the certificate that ssl_certfile names"),
    ],
)
def test_an_option_that_does_not_do_what_it_seems_to_is_refused(options: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Target.from_url(f"rediss://h?{options}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ca_certs": "nope"}, "ssl_ca_certs={}/nope: No such file"),
        ({"ca_certs": "folder"}, "ssl_ca_certs={}/folder: Is a directory"),
        ({"ca_certs": "empty"}, "ssl_ca_certs={}/empty: there is no certificate in it"),
        ({"ca_certs": "ca.key"}, "ssl_ca_certs={}/ca.key: there is no certificate in it"),
        ({"certfile": "nope"}, "ssl_certfile={}/nope: No such file"),
        ({"certfile": "client.key"}, "ssl_certfile={}/client.key: there is no certificate in it"),
        ({"certfile": "client.crt"}, "ssl_certfile={}/client.crt: there is no private key in it"),
        (
            {"certfile": "client.crt", "keyfile": "empty"},
            "ssl_keyfile={}/empty: there is no private key in it",
        ),
        (
            {"certfile": "client.crt", "keyfile": "server.key"},
            "ssl_keyfile={}/server.key: the key is not that of the certificate",
        ),
    ],
)
def test_a_file_that_is_not_what_it_must_be_is_named(
    keys: Path, options: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Tls({f"ssl_{name}": str(keys / file) for name, file in options.items()})
    assert said.format(keys) in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(("password", "said"), [(None, "missing"), ("wrong", "not the right one")])
def test_nobody_is_asked_for_the_password_of_a_key(
    keys: Path, password: str | None, said: str
) -> None:
    options = {"ssl_certfile": str(keys / "client.crt"), "ssl_keyfile": str(keys / "locked.key")}
    if password is not None:
        options["ssl_password"] = password
    with pytest.raises(ConfigurationError, match=f"ssl_password is {said}") as caught:
        Tls(options)
    assert "wrong" not in str(caught.value)
    assert Tls({**options, "ssl_password": PASSWORD}).shows_certificate


def test_files_are_read_anew_when_they_have_changed_and_only_then(
    keys: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    shutil.copy(keys / "client.crt", file)
    shutil.copy(keys / "client.key", key)
    tls = Tls({"ssl_certfile": str(file), "ssl_keyfile": str(key)})
    first = tls.context()
    assert tls.context() is first

    shutil.copy(keys / "other-client.crt", file)
    with caplog.at_level(logging.WARNING, "fencelock"):
        # One of two: they do not belong together.
        assert tls.context() is first
        assert tls.context() is first
    assert [each.message.partition(":")[0] for each in caplog.records] == [
        "renewed certificates are not used yet"
    ]

    shutil.copy(keys / "other-client.key", key)
    second = tls.context()
    assert second is not first
    assert tls.context() is second


def test_an_authority_that_is_gone_from_the_disk_is_trusted_until_there_is_another(
    keys: Path, tmp_path: Path
) -> None:
    file = tmp_path / "ca.crt"
    shutil.copy(keys / "ca.crt", file)
    tls = Tls({"ssl_ca_certs": str(file)})
    first = tls.context()
    file.unlink()
    assert tls.context() is first
    shutil.copy(keys / "other.crt", file)
    names = [each["subject"][-1] for each in tls.context().get_ca_certs()]
    assert (("commonName", "other"),) in names
    assert (("commonName", "ca"),) not in names


def test_certificates_are_asked_for_unless_the_url_says_otherwise() -> None:
    assert Tls({}).context().verify_mode is ssl.CERT_REQUIRED
    assert Tls({"ssl_cert_reqs": "none"}).context().verify_mode is ssl.CERT_NONE
