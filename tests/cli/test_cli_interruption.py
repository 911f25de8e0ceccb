"""What Ctrl-C and SIGTERM do outside a fit."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from plait.cli.interruption import Interruption


def torch_is_imported(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a torch in the way whose import is interrupted."""
    (folder / "torch.py").write_text("import signal\n" + body)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "torch")


def test_an_import_comes_to_its_end_before_it_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_is_imported(tmp_path, monkeypatch, "signal.raise_signal(signal.SIGTERM)\nwhole = True\n")
    with Interruption() as interruption:
        assert importlib.import_module("torch").whole
        with pytest.raises(KeyboardInterrupt):
            threading.Event().wait(20)
    assert interruption.exit_code == 143


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """The handler of a process in the foreground; what a shell starts in the background ignores Ctrl-C."""
    own = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, own)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_a_second_signal_does_not_wait_for_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_is_imported(tmp_path, monkeypatch, "signal.raise_signal(signal.SIGINT)\n" * 2)
    with Interruption() as interruption, pytest.raises(KeyboardInterrupt):
        importlib.import_module("torch")
    assert interruption.exit_code == 130


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_a_signal_that_a_library_swallowed_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.cli.interruption._INSIST", 0.05)
    with Interruption() as interruption:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            threading.Event().wait(20)
    assert interruption.exit_code == 130


def test_handlers_are_given_back_and_what_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    own = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGINT)
        assert interruption.received is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGINT, own)
