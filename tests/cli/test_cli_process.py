"""What only a process of its own can show: a clean stdout, signals, exit codes, what is imported and what it costs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plait.run import Run
from tests.registry.throwaway import HEADER, install

TASK = "meadow/row-classification"
SLOW = ("train", TASK, "--model", "extras/slow", "--data", "meadow/demo", "--set", "output.tensorboard=false", "-q")

WATCHED = """
import json, os, resource, sys
from plait.cli import main
code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
report = {"seconds": used.ru_utime + used.ru_stime, "modules": [*sys.modules], "omp": os.environ["OMP_WAIT_POLICY"]}
print(json.dumps(report), file=sys.stderr)
sys.exit(code)
"""


def test_list_imports_nothing_heavy_and_costs_a_quarter_of_a_second(process: Any) -> None:
    answers = [process("list", "--json", source=WATCHED) for _ in range(3)]
    reports = [json.loads(answer.err.splitlines()[-1]) for answer in answers]
    assert TASK in [row["name"] for row in answers[0].json]
    heavy = {"torch", "timm", "transformers", "pydantic", "numpy", "pyarrow", "yaml", "rich", "datasets"}
    assert not heavy & set(reports[0]["modules"])
    assert reports[0]["omp"] == "PASSIVE"
    assert min(report["seconds"] for report in reports) <= 0.25  # CPU-seconds: another job's share does not count


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["plugins", "--json"], ["doctor", "--json"]])
def test_a_look_around_does_not_import_torch(process: Any, words: list[str]) -> None:
    answer = process(*words, source=WATCHED)
    assert answer.code == 0
    modules = set(json.loads(answer.err.splitlines()[-1])["modules"])
    assert not {"torch", "numpy", "rich"} & modules


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_a_fit_leaves_a_checkpoint_that_resumes_to_the_same_end(
    process: Any, plait: Any, environment: Path, number: int, code: int
) -> None:
    stopped = process(*SLOW, "--out", "run", "--json", SEND_SIGNAL=str(number))
    assert stopped.code == code
    assert stopped.error["type"] == "Interrupted"  # and stdout holds this one document, whatever plugins printed
    assert "noise from Python" in stopped.err
    assert "noise from C" in stopped.err
    assert "plait train --out run --resume" in stopped.error["hint"]
    assert Run.open(environment / "run").status == "interrupted"
    assert [*(environment / "run" / "checkpoints").glob("step-*/COMPLETE")]

    resumed = plait("train", "--out", "run", "--resume", "--json", "-q")
    assert resumed.code == 0
    assert Run.open(environment / "run").info["steps"] == 4
    whole = plait(*SLOW, "--out", "whole", "--json")
    assert resumed.json["metrics"] == whole.json["metrics"]


def test_sigterm_outside_a_fit_exits_143_even_inside_a_plugin(process: Any, tmp_path: Path) -> None:
    source = HEADER + "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n"
    install(tmp_path / "killer", "killer", source=source)
    answer = process("list", "--json", PYTHONPATH=str(tmp_path / "killer"))
    assert (answer.code, answer.error["type"]) == (143, "Interrupted")


def test_a_reader_that_leaves_is_told_nothing(environment: Path) -> None:
    head = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    head.wait()
    done = subprocess.run(
        [sys.executable, "-m", "plait", "list"], stdout=head.stdin, stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (1, "")


def test_the_shell_completes_names(process: Any) -> None:
    def complete(line: str) -> list[str]:
        words = line.split(" ")
        answer = process(
            _PLAIT_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1),
            source="import sys; from plait.cli import main; sys.exit(main())",
        )  # fmt: skip
        return [item.partition(",")[2] for item in answer.out.splitlines() if item.startswith("plain,")]

    assert complete("plait tr") == ["train"]
    assert complete("plait train mea") == [TASK]
    assert complete(f"plait train {TASK} --model ") == ["meadow/nearest-mean", "extras/oracle", "extras/slow"]
    assert "timm/" in complete("plait show t")
