"""Several hosts train one recipe: which of them is this one, and do two agents find each other?"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import plait
from plait.engine.hosts import PORT, Place, read_hosts
from plait.errors import EngineError, RecipeError
from tests.core.launch_cases import fit
from tests.core.test_gradient import assert_equal
from tests.processes import ROOT, free_port

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DeepSpeed is for Linux")


def test_a_file_names_one_host_a_line(tmp_path: Path) -> None:
    file = tmp_path / "hosts.txt"
    file.write_text("# the cluster\ngpu1:29400\n\n gpu-2.local  # slow\n")
    assert read_hosts(file) == ("gpu1:29400", "gpu-2.local")
    file.write_text("gpu1\ngpu2 slots=8\n")
    with pytest.raises(RecipeError, match=r"hosts\.txt:2: 'gpu2 slots=8' is no host"):
        read_hosts(file)
    file.write_text("gpu1:29400\ngpu2\ngpu1\n")  # nobody would come as the third
    with pytest.raises(RecipeError, match=r"hosts\.txt:3: gpu1 is in line 1 already"):
        read_hosts(file)
    file.write_text("gpu1:65536\n")
    with pytest.raises(RecipeError, match=r"hosts\.txt:1: 'gpu1:65536' is no host; .* a port below 65536"):
        read_hosts(file)
    with pytest.raises(RecipeError, match=r"engine\.hosts: 'gpu 1' is no host"):
        Place.find(("gpu 1", "localhost"), 2)
    with pytest.raises(RecipeError, match="not a readable text file"):
        read_hosts(tmp_path / "absent")


def test_a_host_finds_itself_and_its_share() -> None:
    assert Place.find((), 3) == Place(processes=3)
    assert Place.find(("127.0.0.2:99", "gpu1.invalid"), 8) == Place("127.0.0.2", "127.0.0.2:99", 2, 4, True)
    own = socket.gethostname()
    assert Place.find(("gpu1.invalid", own), 2) == Place(own, f"gpu1.invalid:{PORT}", 2, 1, False)
    with pytest.raises(EngineError, match="3 cannot be dealt evenly to 2 hosts"):
        Place.find(("localhost", "gpu1.invalid"), 3)
    with pytest.raises(EngineError, match=rf"this host \({own}\) is none of gpu1\.invalid"):
        Place.find(("gpu1.invalid",), 1)


def test_several_hosts_need_one_run_directory() -> None:
    with pytest.raises(RecipeError, match="need one run directory"):
        fit(None, engine={"hosts": ["localhost", "localhost"]})  # type: ignore[arg-type]


PROGRAM = """
import json, sys
from pathlib import Path
from plait.errors import PlaitError
from tests.core.launch_cases import fit

try:
    fit(Path(sys.argv[1]), **json.loads(sys.argv[2]))
except PlaitError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def agents(out: Path, **options: object) -> list[tuple[int, str]]:
    """The same program twice, as on two hosts; exit codes and what each says."""
    hosts = [f"localhost:{free_port()}", "localhost"]
    given = json.dumps({"engine": {"hosts": hosts, "timeout": 60, **options.pop("engine", {})}, **options})  # type: ignore[dict-item]
    command = [sys.executable, "-c", PROGRAM, str(out), given]
    running = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in hosts]
    try:
        return [(process.wait(), said) for process in running for said in [process.communicate(timeout=240)[1]]]
    finally:
        for process in running:
            process.kill()


@pytest.mark.slow
def test_two_agents_train_what_one_trains_and_a_death_on_one_is_mended_on_both(tmp_path: Path) -> None:
    options = {"stage": 2, "model": {"noise": 0.1}}
    straight = fit(tmp_path / "straight", **options)
    ended = agents(tmp_path / "run", trouble="kill", **{**options, "engine": {"max_restarts": 1}})
    assert [code for code, _ in ended] == [0, 0], ended
    assert_equal(plait.Run.open(tmp_path / "run"), straight)


@pytest.mark.slow
def test_an_error_on_one_host_ends_the_other(tmp_path: Path) -> None:
    ended = agents(tmp_path / "run", trouble="raise")
    assert all(code for code, _ in ended), ended
    assert sum("a fault of rank 1 only" in said for _, said in ended) >= 1, ended
