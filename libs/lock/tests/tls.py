"""Certificates, and a way to a server that speaks TLS: the server of the tests may not."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from devkit.servers import RedisServer

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
# Of the client's locked key.
PASSWORD = "of-the-key"


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def authority(folder: Path, name: str) -> None:
    """Make one that signs for itself."""
    files = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
    openssl(
        folder, "req", "-x509", *_NEW_KEY, "-nodes", *files, "-days", "2", "-subj", f"/CN={name}"
    )


def certificate(folder: Path, name: str, by: str, alternative: str, *, strict: bool = True) -> None:
    """Make one that an authority has signed, by the letter of RFC 5280 unless it says not to."""
    extensions = f"subjectAltName={alternative}\n"
    if strict:
        extensions += "authorityKeyIdentifier=keyid\n"
    (folder / f"{name}.ext").write_text(extensions)
    files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
    openssl(folder, "req", *_NEW_KEY, "-nodes", *files, "-subj", f"/CN={name}")
    openssl(
        folder,
        *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{by}.crt", "-CAcreateserial"),
        *("-CAkey", f"{by}.key", "-out", f"{name}.crt", "-days", "2", "-extfile", f"{name}.ext"),
    )


def make_keys(folder: Path) -> Path:
    """A private authority with a server and a client, and another one with the same."""
    for name, prefix in (("ca", ""), ("other", "other-")):
        authority(folder, name)
        certificate(folder, f"{prefix}server", name, "IP:127.0.0.1")
        certificate(folder, f"{prefix}client", name, "DNS:client")
    certificate(folder, "loose-server", "ca", "IP:127.0.0.1", strict=False)
    openssl(
        folder,
        *("pkey", "-in", "client.key", "-aes256", "-passout", f"pass:{PASSWORD}"),
        *("-out", "locked.key"),
    )
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    return folder


def served_by(keys: Path, *, prefix: str = "", clients: bool = False) -> ssl.SSLContext:
    """What a server speaks, and whether it wants certificates of its clients."""
    ca = "other" if prefix.startswith("other") else "ca"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(keys / f"{ca}.crt"))
    context.load_cert_chain(keys / f"{prefix}server.crt", keys / f"{prefix}server.key")
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Gate:
    """A port that leads to a server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.refusing = False
        # How many have come, those that are gone included.
        self.accepted = 0
        # Who has vouched for the client that came last.
        self.vouched: object = None
        self.writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Break every connection."""
        for writer in self.writers:
            writer.transport.abort()


@asynccontextmanager
async def in_front_of(
    server: RedisServer,
    *,
    host: str = "127.0.0.1",
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[Gate]:
    """A port that leads to the server, with TLS if a context is given."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gate.accepted += 1
        if gate.refusing:
            writer.transport.abort()
            return
        gate.vouched = (writer.get_extra_info("peercert") or {}).get("issuer")
        gate.writers.add(writer)
        upstream = await asyncio.open_connection(server.host, server.port)
        await asyncio.gather(pump(reader, upstream[1]), pump(upstream[0], writer))
        gate.writers.discard(writer)

    listening = await asyncio.start_server(serve, host, 0, ssl=context)
    async with listening:
        gate = Gate(listening.sockets[0].getsockname()[1])
        yield gate
        gate.cut()


def url_of(
    server: RedisServer,
    port: int,
    options: Mapping[str, object],
    host: str = "127.0.0.1",
    scheme: str = "rediss",
) -> str:
    query = "&".join(f"{name}={quote(str(value))}" for name, value in options.items())
    return f"{scheme}://:{server.password}@{host}:{port}/0?{query}"
