"""TLS to a server: what the options of a URL ask for, in files that change while a client lives.

Certificates are renewed on disk every few days or hours, and a client lives for longer. So whoever
connects takes the files as they are then.
"""

import difflib
import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from redis.asyncio.connection import SSLConnection
from redis.exceptions import RedisError

from fencelock._errors import ConfigurationError

logger = logging.getLogger("fencelock")

PREFIX: Final = "ssl_"
ONLY: Final = "the ssl_ options are for rediss://; without TLS they would protect nothing"
_CA: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data")
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS: Final = (
    *_CA,
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
    "ssl_cert_reqs",
    "ssl_check_hostname",
    "ssl_min_version",
    "ssl_ciphers",
    "ssl_include_verify_flags",
    "ssl_exclude_verify_flags",
)
# As redis-py reads them.
FALSE: Final = ("0", "f", "false", "n", "no")
_TRUE: Final = ("1", "t", "true", "y", "yes")
_VERSIONS: Final = ("771", "772")

_Stamp = tuple[int, int, int] | None


def why_not(options: Mapping[str, str]) -> str | None:
    """What is wrong with the options of a URL that are for TLS, as they are written there."""
    return _unknown(options) or _wrong_value(options) or _without_effect(options)


def _unknown(options: Mapping[str, str]) -> str | None:
    for name in options:
        if name.startswith(PREFIX) and name not in _OPTIONS:
            # Not by its name, which may be a part of a password.
            meant = difflib.get_close_matches(name, _OPTIONS, 1)
            hint = f"; is {meant[0]} meant?" if meant else f": those are {', '.join(_OPTIONS)}"
            return f"it has an ssl_ option that there is not{hint}"
    return None


def _wrong_value(options: Mapping[str, str]) -> str | None:
    if options.get("ssl_cert_reqs", "none") not in ("none", "optional", "required"):
        return "ssl_cert_reqs is required, or none to trust anybody"
    if options.get("ssl_check_hostname", "1").lower() not in (*_TRUE, *FALSE):
        return "ssl_check_hostname is true or false"
    if options.get("ssl_min_version", _VERSIONS[0]) not in _VERSIONS:
        return "ssl_min_version is 771 for TLS 1.2, or 772 for TLS 1.3"
    if "ssl_ca_path" in options and not Path(options["ssl_ca_path"]).is_dir():
        return "ssl_ca_path is no folder that is there"
    return None


def _without_effect(options: Mapping[str, str]) -> str | None:
    """Refuse what would do nothing: who wrote it relies on it."""
    if options.get("ssl_cert_reqs") == "none":
        checked = [each for each in _CA if each in options]
        if options.get("ssl_check_hostname", "0").lower() in _TRUE:
            checked.append("ssl_check_hostname")
        if checked:
            return f"with ssl_cert_reqs=none nothing is checked, so {checked[0]} would do nothing"
    if "ssl_certfile" not in options:
        for name in ("ssl_keyfile", "ssl_password"):
            if name in options:
                return f"{name} is for the certificate that ssl_certfile names, and there is none"
    return None


class Tls:
    """How a connection to a server is secured."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Read the files that the options name.

        Args:
            options: as redis-py takes them; all begin with ``ssl_``.

        Raises:
            ConfigurationError: they cannot be used.
        """
        self._options = dict(options)
        self._files = [str(options[name]) for name in _FILES if name in options]
        self.shows_certificate = "ssl_certfile" in options
        """Whether the server is shown who we are."""
        self._seen = self._tried = self._look()
        self._context = _load(self._options)

    def context(self) -> ssl.SSLContext:
        """What the next connection is made with: files that have changed are read anew.

        If they cannot be read, as when only one of two was replaced so far, those read before are
        good for one more connection.
        """
        found = self._look()
        if found != self._seen:
            try:
                self._context = _load(self._options)
                self._seen = found
            except ConfigurationError as error:
                if found != self._tried:
                    logger.warning("renewed certificates are not used yet: %s", error)
            self._tried = found
        return self._context

    def _look(self) -> list[_Stamp]:
        return [_stamp(each) for each in self._files]


def _stamp(path: str) -> _Stamp:
    """What changes when a file is replaced or written to; None if it cannot be found."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class _Password:
    """Unlocks a private key. Without one OpenSSL would ask whoever sits at the terminal."""

    def __init__(self, given: str | None) -> None:
        self._given = given
        self.asked = False

    def __call__(self) -> str:
        self.asked = True
        return self._given or ""


def _load(options: Mapping[str, Any]) -> ssl.SSLContext:
    password = _Password(options.get("ssl_password"))
    try:
        made = SSLConnection(**{**options, "ssl_password": password})
        context: ssl.SSLContext = made.ssl_context.get()
    except (OSError, ValueError, TypeError, RedisError) as error:
        why = _unreadable(options) or _useless(options, error, password) or error
        raise ConfigurationError(f"the TLS options of the URL cannot be used: {why}") from error
    return context


def _unreadable(options: Mapping[str, Any]) -> str | None:
    """Which file cannot be read, which OpenSSL does not say."""
    for name in _FILES:
        if name in options:
            try:
                Path(options[name]).read_bytes()
            except (OSError, ValueError) as error:
                said = error.strerror if isinstance(error, OSError) else None
                return f"{name}={options[name]}: {said or error}"
    return None


def _useless(options: Mapping[str, Any], error: Exception, password: _Password) -> str | None:
    """What is wrong with a file that can be read; OpenSSL says ``PEM lib`` of most of it."""
    for name in ("ssl_ca_certs", "ssl_certfile"):
        if name in options and not _has_certificate(options[name]):
            return f"{name}={options[name]}: there is no certificate in it, in the form PEM"
    if "ssl_certfile" not in options or not isinstance(error, ssl.SSLError):
        return None
    file = next(name for name in ("ssl_keyfile", "ssl_certfile") if name in options)
    if password.asked:
        missing = "not the right one" if "ssl_password" in options else "missing"
        return f"{file}={options[file]}: the key is encrypted, and ssl_password is {missing}"
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{file}={options[file]}: the key is not that of the certificate in ssl_certfile"
    if not _has_key(options[file]):
        return f"{file}={options[file]}: there is no private key in it, in the form PEM"
    return None


def _has_certificate(path: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (OSError, ValueError):
        return False
    return True


def _has_key(path: str) -> bool:
    return b"PRIVATE KEY-----" in Path(path).read_bytes()
