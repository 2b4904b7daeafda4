"""Servers that are reached by TLS alone, and only by whom they know: certificates and a way in.

The servers of these tests were built without TLS, so that it ends in front of them. What Postgres
does itself with a client's certificate is tried with its own image, in tests/e2e.
"""

import contextlib
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
# What a client of Postgres asks before anything else: for TLS, or for Kerberos instead.
SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
CHUNK = 65_536
CONNECT_SECONDS = 10.0


class Authority:
    """A private authority, and what it has signed; each in a folder as Kubernetes mounts it."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir()
        self._folder = folder
        self.certificate = folder / "ca.crt"
        # Python 3.13 wants an authority as RFC 5280 does: it says what its key is for.
        may = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        files = ("-keyout", "ca.key", "-out", "ca.crt")
        self._openssl("req", "-x509", *KEY, *files, *may, subject=name)

    def sign(self, folder: Path, name: str, *, alternative: str) -> Path:
        """Fill a folder with ca.crt, tls.crt and tls.key of a server or a client."""
        folder.mkdir(parents=True)
        told = {
            "subjectAltName": alternative,
            "subjectKeyIdentifier": "hash",
            "authorityKeyIdentifier": "keyid",
        }
        (self._folder / "names").write_text("".join(f"{k}={v}\n" for k, v in told.items()))
        key, request = str(folder / "tls.key"), f"{name}.csr"
        self._openssl("req", *KEY, "-keyout", key, "-out", request, subject=name)
        self._openssl(
            *("x509", "-req", "-in", request, "-CA", "ca.crt", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-extfile", "names", "-out", str(folder / "tls.crt")),
        )
        (folder / "ca.crt").write_bytes(self.certificate.read_bytes())
        return folder

    def _openssl(self, *words: str, subject: str = "") -> None:
        named = ("-subj", f"/CN={subject}") if subject else ()
        lasting = () if words[0] == "req" and "-x509" not in words else ("-days", "2")
        subprocess.run(
            ["openssl", *words, *named, *lasting],
            cwd=self._folder,
            check=True,
            capture_output=True,
            timeout=60,
        )


@dataclass
class Entrance:
    """A port of 127.0.0.1 that leads to a server for whoever shows a certificate."""

    port: int
    known: int = 0
    """How many have shown one and were let through."""


@contextmanager
def only_by_tls(
    target: tuple[str, int], certificates: Path, *, postgres: bool
) -> Iterator[Entrance]:
    """Let clients in by TLS, with a certificate of the authority in ``certificates``.

    Args:
        target: Where the server itself is.
        certificates: A folder that an authority has filled for the server.
        postgres: Whether its clients ask for TLS first, as those of Postgres do.
    """
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.crt")
    )
    context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
    context.verify_mode = ssl.CERT_REQUIRED
    open_sockets: set[socket.socket] = set()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        entrance = Entrance(listener.getsockname()[1])

        def serve(client: socket.socket) -> None:
            with contextlib.suppress(OSError, ssl.SSLError):
                if postgres and not asks_for_tls(client):
                    client.close()
                    return
                inside = context.wrap_socket(client, server_side=True)
                server = socket.create_connection(target, timeout=CONNECT_SECONDS)
                server.settimeout(None)
                entrance.known += 1
                open_sockets.update({inside, server})
                threading.Thread(target=pump, args=(inside, server), daemon=True).start()
                pump(server, inside)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield entrance
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for each in list(open_sockets):
                end(each)


def asks_for_tls(client: socket.socket) -> bool:
    """Answer what a client of Postgres asks first; false when it wants to go on in the open."""
    while len(head := client.recv(8, socket.MSG_WAITALL)) == 8:
        _, code = struct.unpack("!ii", head)
        if code == SSL_REQUEST:
            client.sendall(b"S")
            return True
        if code != GSS_REQUEST:
            return False
        client.sendall(b"N")
    return False


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until either ends, then end both."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    end(source)
    end(sink)


def end(connection: socket.socket) -> None:
    """Break a connection."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
