"""Ports and URLs that people choose, checked before anything starts."""

from __future__ import annotations

import socket

import pytest

from devkit.errors import DevkitError, PortInUse, Unreachable
from devkit.layout import Layout
from devkit.ports import HOST, free_port
from devkit.servers import PostgresServer, RedisServer


def test_without_variables_the_services_take_their_usual_ports() -> None:
    layout = Layout.from_environment({})
    assert layout.order_url == "http://127.0.0.1:3000"
    assert layout.invoice_url == "http://127.0.0.1:3001"
    assert (layout.ports["ORDER_METRICS_PORT"], layout.ports["INVOICE_METRICS_PORT"]) == (
        9100,
        9101,
    )


def test_variables_choose_ports_and_servers() -> None:
    layout = Layout.from_environment(
        {
            "ORDER_PORT": "4000",
            "ORDER_DATABASE_URL": "postgresql+psycopg://somewhere/orders",
            "INVOICE_DATABASE_URL": "postgres://somewhere/invoices",
            "REDIS_URL": "redis://somewhere",
        }
    )
    assert layout.order_url == "http://127.0.0.1:4000"
    assert layout.order_database_url == "postgresql://somewhere/orders"
    assert layout.invoice_database_url == "postgresql://somewhere/invoices"
    assert layout.redis_url == "redis://somewhere"


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "3e3"])
def test_a_port_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(DevkitError, match="INVOICE_PORT must be a port number"):
        Layout.from_environment({"INVOICE_PORT": text})


def test_free_ports_are_different_ones() -> None:
    assert len(set(Layout.on_free_ports().ports.values())) == 4


def test_a_port_in_use_is_named_with_the_way_out() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        layout = Layout(ports={"ORDER_PORT": port})
        with pytest.raises(PortInUse, match=f"Port {port} .* is in use.* make up ORDER_PORT="):
            layout.check()


def test_servers_that_answer_are_accepted(
    postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    url = postgres_server.url()
    Layout(
        ports={}, order_database_url=url, invoice_database_url=url, redis_url=redis_server.url
    ).check()


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("order_database_url", "postgresql"),
        ("invoice_database_url", "postgresql"),
        ("redis_url", "redis"),
    ],
)
def test_a_server_that_does_not_answer_is_named_without_its_password(
    name: str, scheme: str
) -> None:
    url = f"{scheme}://:secret@{HOST}:{free_port()}/0"
    with pytest.raises(Unreachable, match=f"{name.upper()} is set, but no ") as caught:
        Layout(ports={}, **{name: url}).check()
    assert "secret" not in str(caught.value)
