"""One attempt to reach a server, and how to say why it failed: how far did it come?"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final, Literal

from fencelock._dialing import dial
from fencelock._errors import ConfigurationError, FencelockError, RedisUnavailable
from fencelock._link import Link
from fencelock._target import Target

# X509_V_ERR_ of <openssl/x509_vfy.h>: not valid yet, or any more; of another name, or address; and
# by an issuer that is not known, or that nobody trusts.
_DATES: Final = (9, 10)
_NAMES: Final = (62, 64)
_ISSUERS: Final = (2, 18, 19, 20, 21, 27)
# What OpenSSL calls an answer that is not TLS.
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL")
# Alerts with which a server says no to who we are, or to how we want to talk.
_REFUSALS: Final = (
    "CERTIFICATE",
    "ALERT_UNKNOWN_CA",
    "ALERT_HANDSHAKE_FAILURE",
    "ALERT_ACCESS_DENIED",
    "ALERT_INSUFFICIENT_SECURITY",
    "ALERT_PROTOCOL_VERSION",
)


class Attempt:
    """An attempt to connect to one server."""

    def __init__(
        self, target: Target, make: Callable[[], Link], *, name: str = "", stranger: bool = True
    ) -> None:
        """Do nothing yet.

        Args:
            target: where the server is.
            make: makes what the connection is given to.
            name: what to call it, if not by its address.
            stranger: no attempt to reach it has succeeded so far, so the URL may be wrong.
        """
        self._target = target
        self._stranger = stranger
        self._name = name or str(target)
        self._make = make
        self._step: Literal["connection", "TLS handshake", "greeting"] = "connection"
        self._link: Link | None = None

    async def connect(self) -> Link:
        """Connect, with TLS if the URL says so. The caller limits the time.

        What it raises is for :meth:`failed` to explain.
        """
        target = self._target
        if target.path is not None:
            loop = asyncio.get_running_loop()
            _, link = await loop.create_unix_connection(self._make, target.path)
        elif target.tls is None:
            transport, link = await dial(self._make, target.host, target.port)
            _keep_alive(transport)
        else:
            link = await self._secured(target.tls.context())
        self._step, self._link = "greeting", link
        return link

    async def _secured(self, context: ssl.SSLContext) -> Link:
        # In two steps: of one that failed nobody could say how far it came.
        loop, target = asyncio.get_running_loop(), self._target
        plain, _ = await dial(asyncio.Protocol, target.host, target.port)
        self._step = "TLS handshake"
        # Already what is told when the server hangs up right after it.
        link = self._make()
        try:
            _keep_alive(plain)
            secured = await loop.start_tls(plain, link, context, server_hostname=target.host)
        except BaseException:
            plain.abort()
            raise
        if secured is None:
            raise ConnectionResetError("the connection broke at once")
        link.connection_made(secured)
        return link

    def failed(self, error: Exception, seconds: float) -> FencelockError:
        """What to raise from the error that ended it, a :class:`TimeoutError` after ``seconds``."""
        cause = error.__cause__ if isinstance(error, RedisUnavailable) else error
        if isinstance(cause, ssl.SSLError):
            refusal = self._refusal(cause)
            if refusal is not None:
                # Certificates are renewed on one side after the other: with who let us in before
                # it passes.
                return refusal if self._stranger else RedisUnavailable(str(refusal))
        return RedisUnavailable(self._where(error, seconds))

    def _where(self, error: Exception, seconds: float) -> str:
        """How far it came."""
        # One that the system reports has a number.
        if isinstance(error, TimeoutError) and error.errno is None:
            return self.silent(f"within {seconds:g} s")
        said = str(error) or type(error).__name__
        if self._step == "connection":
            return f"cannot reach {self._name}: {said}"
        return f"reached {self._name}, but the {self._step} failed: {said}{self._hint()}"

    def silent(self, until: str) -> str:
        """What to say of a server that has not answered so far."""
        if self._step == "connection":
            return f"cannot reach {self._name}: no connection {until}"
        return f"reached {self._name}, but it did not answer the {self._step} {until}{self._hint()}"

    def _hint(self) -> str:
        """What may be wrong with the URL of a server that accepts us and says nothing."""
        known = not self._stranger or (self._link is not None and self._link.heard)
        if known or self._target.path is not None:
            return ""
        if self._step == "TLS handshake":
            return ". If it does not speak TLS on that port, the URL must begin with redis"
        if self._target.tls is None:
            return ". If it speaks TLS on that port, the URL must begin with rediss"
        return f". {self._wanted().capitalize()}"

    def _refusal(self, error: ssl.SSLError) -> ConfigurationError | None:
        """What to say of a TLS error that does not pass."""
        if isinstance(error, ssl.SSLCertVerificationError):
            why = (error.verify_message or str(error)).rstrip(".")
            return ConfigurationError(
                f"{self._name}: the server's certificate is not one to trust: {why}. "
                f"{self._advice(error.verify_code)}"
            )
        reason = error.reason or ""
        if reason in _NO_TLS:
            return ConfigurationError(
                f"{self._name} does not speak TLS on that port ({reason}): the URL must begin with "
                "redis, or name the port on which it does"
            )
        if "ALERT" in reason and any(each in reason for each in _REFUSALS):
            said = reason.lower().replace("_", " ")
            return ConfigurationError(f"{self._name} refuses our TLS ({said}): {self._wanted()}")
        return None

    def _advice(self, verify_code: int) -> str:
        """What to do about a certificate that OpenSSL does not trust."""
        if verify_code in _DATES:
            return "Look at its dates, and at the clock of this machine"
        if verify_code in _NAMES:
            return "Check the host name in the URL"
        tls = self._target.tls
        strict = tls is not None and ssl.VERIFY_X509_STRICT in tls.context().verify_flags
        if verify_code not in _ISSUERS and strict:
            return (
                "Python 3.13 and newer are strict about how certificates are made; "
                "ssl_exclude_verify_flags=VERIFY_X509_STRICT in the URL takes it all the same"
            )
        return "Check ssl_ca_certs in the URL"

    def _wanted(self) -> str:
        """What a server may want that says no."""
        if self._target.tls is not None and self._target.tls.shows_certificate:
            return "it may not trust the certificate in ssl_certfile, or want another version"
        return "it may want a certificate of ours (ssl_certfile, ssl_keyfile), or another version"


def _keep_alive(transport: asyncio.BaseTransport) -> None:
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
