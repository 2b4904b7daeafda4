"""HTTP/1.1 with clients that offer another protocol: the offer is passed over (RFC 9110, 7.8).

The client of Java's standard library offers HTTP/2 with its first request, whatever its method. The
parser takes all that follows the head of such a request for the other protocol, its body too.
"""

from typing import Final, Protocol

import httptools

_OF_THE_OFFER: Final = frozenset({b"upgrade", b"http2-settings"})
_CONNECTION: Final = b"connection"


class Offered(Protocol):
    """What has the callbacks of the parser."""

    def take_offer(self) -> bytes | None:
        """Return the head that came with an offer, without the offer; None if that is no request.

        It is parsed again as any other.
        """
        ...


class PlainParser:
    """httptools' parser, to which a request that comes with an offer is one like all others.

    Args:
        protocol: has the callbacks. Told of a head for which ``should_upgrade`` is true it must do
            nothing, if ``take_offer`` will return it.
    """

    def __init__(self, protocol: Offered) -> None:
        self._protocol = protocol
        self._parser = self._another()

    def _another(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self._protocol)
        # As uvicorn has it: pipelined requests may follow one that says "close".
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def feed_data(self, data: bytes) -> None:
        """Parse what came.

        Raises:
            httptools.HttpParserError: it is not HTTP.
            httptools.HttpParserUpgrade: a tunnel is asked for.
        """
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                head = self._protocol.take_offer()
                if head is None:
                    raise
                self._parser = self._another()
                data = head + data[offer.args[0] :]
            else:
                return

    def should_upgrade(self) -> bool:
        """Tell whether the head comes with an offer."""
        return bool(self._parser.should_upgrade())

    def should_keep_alive(self) -> bool:
        """Tell whether the connection stays open."""
        return bool(self._parser.should_keep_alive())

    def get_method(self) -> bytes:
        """Return the method in the head."""
        return bytes(self._parser.get_method())

    def get_http_version(self) -> str:
        """Return the version in the head, such as ``1.1``."""
        return str(self._parser.get_http_version())


def head_without_offer(
    method: bytes, target: bytes, version: str, fields: list[tuple[bytes, bytes]]
) -> bytes:
    """Return a request's head, as it would have been sent without an offer.

    Args:
        method: in capitals.
        target: as it was sent.
        version: such as ``1.1``.
        fields: by names in lower case.
    """
    kept = [(name, _kept(name, value)) for name, value in fields if name not in _OF_THE_OFFER]
    lines = [b"%s %s HTTP/%s\r\n" % (method, target, version.encode())]
    lines += [b"%s: %s\r\n" % field for field in kept if field != (_CONNECTION, b"")]
    return b"".join([*lines, b"\r\n"])


def _kept(name: bytes, value: bytes) -> bytes:
    """Return a field's value; ``Connection`` names the fields of the offer, and they are gone."""
    if name != _CONNECTION:
        return value
    options = [option.strip() for option in value.split(b",")]
    return b", ".join(option for option in options if option.lower() not in _OF_THE_OFFER)
