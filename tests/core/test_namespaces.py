"""Two hosts, a wire between them, and a cut: two network namespaces of this machine train one recipe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import plait
from tests.core.test_hosts import PROGRAM
from tests.figures import Figure
from tests.processes import ROOT

HOSTS = ("10.77.13.1", "10.77.13.2")
NAMES = ("plait-one", "plait-two")


def ip(*words: str) -> bool:
    """Whether iproute2 did it."""
    tool = shutil.which("ip") or "/usr/sbin/ip"
    try:
        return subprocess.run([tool, *words], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture
def wire() -> Iterator[None]:
    """Two namespaces, each with one end of a virtual wire."""
    for name in NAMES:
        ip("netns", "del", name)
    if not all(ip("netns", "add", name) for name in NAMES):
        for name in NAMES:
            ip("netns", "del", name)
        pytest.skip("this user may not make network namespaces (iproute2, root)")
    try:
        assert ip(
            "link", "add", "plait0", "netns", NAMES[0], "type", "veth", "peer", "name", "plait0", "netns", NAMES[1]
        )
        for name, address in zip(NAMES, HOSTS, strict=True):
            assert ip("-n", name, "addr", "add", f"{address}/24", "dev", "plait0")
            assert ip("-n", name, "link", "set", "lo", "up")
            assert ip("-n", name, "link", "set", "plait0", "up")
        yield
    finally:
        for name in NAMES:
            ip("netns", "del", name)


def start(out: Path, **options: object) -> list[subprocess.Popen[str]]:
    """The same program in both namespaces."""
    engine = {"hosts": [f"{HOSTS[0]}:29477", HOSTS[1]], "timeout": 20}
    given = json.dumps({"engine": engine, "epochs": 6, "model": {"noise": 0.1, "slow": 0.2}, **options})
    environ = {**os.environ, "GLOO_SOCKET_IFNAME": "plait0"}
    command = [sys.executable, "-c", PROGRAM, str(out), given]
    return [
        subprocess.Popen(
            [shutil.which("ip") or "/usr/sbin/ip", "netns", "exec", name, *command],
            cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True,
        )
        for name in NAMES
    ]  # fmt: skip


def ended(running: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit codes and messages, once both have ended."""
    try:
        said = [process.communicate(timeout=180)[1] for process in running]
        return [(process.returncode, each) for process, each in zip(running, said, strict=True)]
    finally:
        for process in running:
            process.kill()


@pytest.mark.figures(minutes=2)
def test_a_cut_wire_ends_both_hosts_and_a_mended_one_goes_on(wire: None, tmp_path: Path, figure: Figure) -> None:
    out = tmp_path / "run"
    running = start(out)
    end = time.monotonic() + 180
    while not list(out.glob("checkpoints/step-*")) and time.monotonic() < end:
        assert all(process.poll() is None for process in running), ended(running)
        try:
            running[0].wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
    assert ip("-n", NAMES[0], "link", "set", "plait0", "down")
    begun = time.monotonic()
    cut = ended(running)
    took = time.monotonic() - begun
    assert [code for code, _ in cut] == [1, 1], cut
    for (_, said), other in zip(cut, reversed(HOSTS), strict=True):
        whom = (f"({other}) was not heard of for 20 s", f"{other}:29477, the first of engine.hosts, did not answer")
        assert any(each in said for each in whom), cut
    assert took < 90, took  # the timeout and the ends of processes on a busy machine; TCP alone gives up after 900 s
    figure("a cut wire between two hosts, engine.timeout=20", f"both ended {took:.1f} s later, and said why")
    assert plait.Run.open(out).status == "failed"
    assert ip("-n", NAMES[0], "link", "set", "plait0", "up")
    mended = ended(start(out, resume=True))
    assert [code for code, _ in mended] == [0, 0], mended
    assert plait.Run.open(out).status == "finished"
