"""SIGKILL in the middle of EM, resuming each time: the models equal those of an uninterrupted run, byte for byte."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ITERATIONS = 40


def start(out: Path, *, resume: bool) -> subprocess.Popen[bytes]:
    sets = ["model.states=5", "model.mixtures=4", "model.split_every=8", "model.tolerance=0", "model.step=0.02"]
    sets += [f"trainer.iterations={ITERATIONS}", "output.report=false", "output.tensorboard=false"]
    command = [sys.executable, "-m", "plait", "train", "speech/word-recognition", "--model", "speech/gmm-hmm"]
    command += ["--data", "synthetic-words", "--out", str(out), *(part for each in sets for part in ("--set", each))]
    with out.with_suffix(".stderr").open("a") as stderr:
        return subprocess.Popen([*command, *(["--resume"] if resume else [])], stdout=stderr, stderr=stderr)


def iterations(out: Path) -> int:
    log = out / "metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.is_file() else 0


def finish(process: subprocess.Popen[bytes], out: Path) -> None:
    assert process.wait(timeout=600) == 0, out.with_suffix(".stderr").read_text()


def kill_and_resume(folder: Path, *, kills: int, seed: int) -> None:
    """Kill a training `kills` times, each time when EM has come to an iteration that is drawn at random."""
    drawn = random.Random(seed)
    straight, killed = folder / "straight", folder / "killed"
    finish(start(straight, resume=False), straight)
    done = 0
    while done < kills:
        at = drawn.randrange(1, ITERATIONS)
        process = start(killed, resume=done > 0)
        while process.poll() is None and iterations(killed) < at:
            try:
                process.wait(timeout=0.01)
            except subprocess.TimeoutExpired:
                continue
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
        else:
            finish(process, killed)
            break
    finish(start(killed, resume=True), killed)
    assert done
    for name in ("model.safetensors", "hmm.json"):
        assert (killed / "model" / name).read_bytes() == (straight / "model" / name).read_bytes()


def test_em_killed_twice_ends_with_the_same_bytes(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, kills=2, seed=1)


@pytest.mark.slow
def test_em_killed_twenty_times_ends_with_the_same_bytes(tmp_path: Path) -> None:
    for seed in range(4):
        (tmp_path / str(seed)).mkdir()
        kill_and_resume(tmp_path / str(seed), kills=5, seed=seed)
