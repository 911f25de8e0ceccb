"""Processes that cannot find each other say so, soon."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest

from plait.engine.group import _connect
from plait.engine.world import World
from plait.errors import EngineError


def world(rank: int, port: int) -> World:
    return World(rank=rank, size=2, address="127.0.0.1", port=port, launcher="torchrun")


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=rf"port {port} on 127\.0\.0\.1 is in use") as raised:
            _connect(world(0, port), "gloo", timedelta(seconds=2))
    assert "MASTER_PORT" in str(raised.value.hint)


def test_a_host_that_does_not_answer_ends_the_wait() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # nobody listens on it
        with pytest.raises(EngineError, match=rf"rank 1 of 2 could not reach the others through 127\.0\.0\.1:{port}"):
            _connect(world(1, port), "gloo", timedelta(seconds=1))
