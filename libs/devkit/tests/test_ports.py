"""Ports on the loopback interface."""

from __future__ import annotations

import socket

from devkit.ports import HOST, RANGE, free_port, is_free


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port()
    assert port in RANGE
    with socket.create_server((HOST, port)):
        assert not is_free(port)
    assert is_free(port)


def test_a_listener_on_every_interface_takes_the_port_too() -> None:
    with socket.create_server(("", free_port())) as listener:
        assert not is_free(listener.getsockname()[1])
