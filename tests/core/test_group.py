"""Processes that cannot find each other say so, soon; and what they tell each other is told in few messages."""

from __future__ import annotations

import json
import socket
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from plait.engine.group import _connect
from plait.engine.world import World
from plait.errors import EngineError
from tests.processes import run


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


def test_numbers_that_can_wait_travel_with_the_next(tmp_path: Path) -> None:
    run("tests.core.group_cases:numbers", 3, tmp_path)
    for rank in range(3):
        carried, asked, alone, kinds, nan = json.loads((tmp_path / f"{rank}.json").read_text())
        assert carried == [3.0, 1]
        assert asked == [6.0, 0.1 + 0.2 + 0.1 * 3, 1]  # in rank order, and no further message
        assert alone == [60.0, 60.0, 2]
        assert kinds == [6.0, 2.0, 1.0, 3.0]
        assert nan == [True, True, True]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DeepSpeed is for Linux")
def test_a_step_takes_one_message_beside_its_gradients(tmp_path: Path) -> None:
    run("tests.core.group_cases:training", 2, tmp_path, steps=8)
    for rank in range(2):
        after = json.loads((tmp_path / f"{rank}.json").read_text())
        assert {later - sooner for sooner, later in pairwise(after[1:])} == {1}
