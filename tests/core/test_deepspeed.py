"""DeepSpeed's steps against a loop written by hand, at every ZeRO stage, in one process and several.

With SGD: Adam hides a gradient that is wrong by a factor. DeepSpeed's defaults change in patch releases, so this is
also what guards a new one.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from plait.engine.settings import OURS, deepspeed_config
from plait.errors import EngineError, IntegrityError, RecipeError
from plait.options import EngineOptions
from plait.weights import load_tensors
from tests.core.engine_cases import Awkward, Deep, Rare, batches, make, part, several, step
from tests.figures import Figure
from tests.processes import run

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DeepSpeed is for Linux")

STAGES = [0, 1, 2, 3]
SEVERAL = "tests.core.engine_cases:several"


def leg(start: int, stop: int) -> tuple[str, dict[str, object]]:
    return "elastic", {"place": "elastic", "stages": STAGES, "start": start, "stop": stop}


def moved(start: int, stop: int, *, disk: bool) -> tuple[str, dict[str, object]]:
    return "elastic", {"place": "moved", "stages": STAGES[1:], "start": start, "stop": stop, "disk": disk}


def parity(place: str, stages: list[int | None]) -> tuple[str, dict[str, object]]:
    return "parity", {"place": place, "stages": stages}


def straight(start: int, stop: int) -> tuple[str, dict[str, object]]:
    return "elastic", {"place": "straight", "stages": [0], "start": start, "stop": stop}


def left(place: str, stages: list[int | None]) -> tuple[str, dict[str, object]]:
    return "left_alone", {"place": place, "stages": stages}


def said(place: str, stages: list[int | None]) -> tuple[str, dict[str, object]]:
    return "generated", {"place": place, "stages": stages}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything, on 2 -> 1 -> 2 processes; the one is this process, since a start costs more than what it runs."""
    folder = tmp_path_factory.mktemp("engines")
    two = [parity("2", STAGES), ("unequal", {"stages": STAGES}), leg(0, 10), left("2", STAGES), said("2", STAGES)]
    two.append(moved(0, 10, disk=True))
    run(SEVERAL, 2, folder, cases=two)
    one = [parity("1", [None, *STAGES]), straight(0, 30), leg(10, 20), left("1", [None, *STAGES]), said("1", [None])]
    several(folder, [*one, moved(10, 20, disk=False)])
    run(SEVERAL, 2, folder, cases=[leg(20, 30), moved(20, 30, disk=True)])
    return folder


@pytest.fixture(scope="module")
def wide(ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with three: 2 -> 1 -> 3 -> 2."""
    folder = tmp_path_factory.mktemp("wide")
    shutil.copytree(ran, folder, dirs_exist_ok=True)
    for written in (folder / "elastic").glob("stage-*/at-30"):  # by two processes; three write theirs
        shutil.rmtree(written)
    several(folder, [straight(30, 40)])
    run(SEVERAL, 3, folder, cases=[parity("3", STAGES), leg(20, 30)])
    run(SEVERAL, 2, folder, cases=[leg(30, 40)])
    return folder


def by_hand(clip: float | None, micro: int) -> tuple[dict[str, torch.Tensor], list[tuple[float, float]]]:
    """The loop that a user would write; losses and gradient norms beside the weights."""
    model = Awkward()
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer, told = torch.optim.SGD(trained, 0.5), []
    for x, y in batches(5):
        total = 0.0
        for a, b in zip(torch.tensor_split(x, micro), torch.tensor_split(y, micro), strict=True):
            loss = model(part(a, b)).loss
            (loss * (len(a) / len(x))).backward()
            total += float(loss.detach()) * len(a) / len(x)
        norm = torch.nn.utils.clip_grad_norm_(trained, math.inf if clip is None else clip)
        optimizer.step()
        optimizer.zero_grad()
        told.append((total, float(norm)))
    return model.state_dict(), told


@pytest.mark.figures(minutes=2)
@pytest.mark.parametrize("micro", [1, 2])
@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("processes", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("stage", [None, *STAGES])
def test_a_step_is_the_step_that_is_written_by_hand(
    request: pytest.FixtureRequest, figure: Figure, stage: int | None, processes: int, clip: float | None, micro: int
) -> None:
    if stage is None and processes > 1:
        pytest.skip("the local engine is one process")
    expected, numbers = by_hand(clip, micro)
    folder: Path = request.getfixturevalue("wide" if processes == 3 else "ran")
    stem = folder / str(processes) / f"{stage}-{clip}-{micro}"
    found = load_tensors(stem.with_name(f"{stem.name}.safetensors"))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        if name == "seen":
            continue
        if processes == micro == 1 and (clip is None or not stage):
            assert torch.equal(found[name], tensor), name
        else:
            torch.testing.assert_close(found[name], tensor, rtol=1.3e-6, atol=1e-7)
    told = torch.tensor(json.loads(stem.with_name(f"{stem.name}.json").read_text()), dtype=torch.float64)
    difference = float((told / torch.tensor(numbers, dtype=torch.float64) - 1).abs().max())
    by, on = ("local engine", "") if stage is None else ("DeepSpeed", f", processes: {processes}")
    zero = "" if stage is None else f", ZeRO {stage}"
    figure(f"losses and gradient norms from those by hand, relative: {by}{on}{zero}", difference)
    figure(f"weights from those by hand, relative: {by}{on}", apart(found, expected))
    assert difference <= 1e-6


@pytest.mark.parametrize("kind", ["model", "average"])
@pytest.mark.parametrize("stage", STAGES)
def test_another_number_of_processes_goes_on_where_the_others_stopped(ran: Path, stage: int, kind: str) -> None:
    """AdamW in two groups with different decay and rates, tied, frozen and unused parameters, moments and averages."""
    assert_close(ran, stage, kind, step=30)


@pytest.mark.parametrize("kind", ["model", "average"])
@pytest.mark.parametrize("stage", STAGES[1:])
def test_state_moves_between_disk_and_memory(ran: Path, stage: int, kind: str) -> None:
    """On a disk with 2 processes, then in memory with 1, then on a disk again with 2: engine.offload=nvme."""
    assert_close(ran, stage, kind, step=30, place="moved")
    assert not [each for each in (ran / "moved").iterdir() if not each.name.startswith("stage-")]


@pytest.mark.parametrize("offload", [None, "cpu"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_gradient_of_an_earlier_step_is_forgotten(stage: int, offload: str | None) -> None:
    """A parameter that only every third micro-batch uses: what clipping sees, over 4 micro-batches a step."""
    if offload and not stage:
        pytest.skip("an option of sharding")

    def norms(stage: int | None, **options: Any) -> list[float]:
        engine, _, _ = make(stage, {"optimizer": "sgd", "learning_rate": 0.5, "clip": 1.0}, kind=Rare, **options)
        found = [float(step(engine, x, y, micro=4)[1].gradient_norm) for x, y in batches(6)]
        engine.close()
        return found

    assert norms(stage, offload=offload) == pytest.approx(norms(None), rel=1e-5)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", ["Rare", "Uneven"])
def test_what_no_gradient_reaches_does_not_decay(ran: Path, kind: str, stage: int, processes: int) -> None:
    """Alike on every engine: neither a parameter that is never used, nor one that a step may miss."""
    expected = load_tensors(ran / "1" / f"{kind}-None.safetensors")
    found = load_tensors(ran / str(processes) / f"{kind}-{stage}.safetensors")
    assert found["unused"].tolist() == [1.0, 1.0, 1.0]
    for name in expected.keys() - {"seen"}:
        torch.testing.assert_close(found[name], expected[name], rtol=1.3e-6, atol=1e-7)


@pytest.mark.slow
@pytest.mark.figures(minutes=2)
@pytest.mark.parametrize("kind", ["model", "average"])
@pytest.mark.parametrize("stage", STAGES)
def test_two_one_three_and_two_processes_are_one_training(wide: Path, stage: int, kind: str, figure: Figure) -> None:
    difference = assert_close(wide, stage, kind, step=40)
    figure(f"weights after 2, 1, 3 and 2 processes from those of one, relative: ZeRO {stage}", difference)


def assert_close(folder: Path, stage: int, kind: str, *, step: int, place: str = "elastic") -> float:
    """The training that changed hands against the one that did not, 1e-6 of a tensor's largest element."""
    expected = load_tensors(folder / "straight" / "stage-0" / f"{kind}-{step}.safetensors")
    found = load_tensors(folder / place / f"stage-{stage}" / f"{kind}-{step}.safetensors")
    for name, tensor in expected.items():
        if name != "seen":
            largest = float(tensor.abs().max())
            torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-6 * largest)
    return apart(found, expected)


def apart(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """The largest difference of two models, over the largest element of its tensor."""
    tensors = [(found[name], tensor) for name, tensor in expected.items() if name != "seen"]
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in tensors)


@pytest.mark.parametrize("stage", STAGES)
def test_an_infinite_loss_on_one_rank_leaves_the_weights_of_all(ran: Path, stage: int) -> None:
    told = json.loads((ran / "told-2.json").read_text())
    assert told[f"poison-{stage}"] == [False, True, True]


def test_the_local_engine_treats_an_infinite_loss_alike() -> None:
    engine, model, _ = make(None, {"optimizer": "sgd", "learning_rate": 0.5, "clip": None})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x, y = batches(1)[0]
    assert not step(engine, x, y, poison=True)[1].applied
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items() if name != "seen")
    assert step(engine, x, y)[1].applied


@pytest.mark.parametrize("stage", [None, *STAGES])
@pytest.mark.parametrize(
    "options",
    [
        {"activation_checkpointing": True},
        {"precision": "bf16"},
        {"offload": "cpu"},
        {"bucket_mb": 1e-5, "overlap": False},
    ],
)
def test_where_and_how_a_step_runs_changes_no_bit_of_it(stage: int | None, options: dict[str, Any]) -> None:
    """With dropout, AdamW and one process: against the local engine in the same precision."""
    if ("offload" in options and not stage) or ("bucket_mb" in options and stage is None):
        pytest.skip("an option of sharding")

    def fitted(stage: int | None, **options: Any) -> dict[str, torch.Tensor]:
        engine, _, _ = make(stage, {"optimizer": "adamw", "learning_rate": 0.01}, kind=Deep, **options)
        torch.manual_seed(0)
        for x, y in batches(4):
            step(engine, x, y)
        found = {name: tensor.clone() for name, tensor in engine.full_state_dict()}
        engine.close()
        return found

    expected = fitted(None, **({"precision": "bf16"} if "precision" in options else {}))
    for name, tensor in fitted(stage, **options).items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("stage", STAGES)
def test_ranks_that_finish_at_different_lengths_decode_together(ran: Path, stage: int) -> None:
    """In an evaluation whose last round leaves a rank without examples: what is said is what one process says."""
    expected, found = (json.loads((ran / each).read_text()) for each in ("1/said-None.json", f"2/said-{stage}.json"))
    assert [len(each) for each in expected] == [9, 2, 5, 11, 3]
    assert found == expected


def test_sharding_halves_what_two_ranks_hold(ran: Path) -> None:
    told = json.loads((ran / "told-2.json").read_text())
    whole = sum(each.numel() for each in Awkward().parameters() if each.requires_grad)
    assert told["held-0"] == [whole, whole]
    for stage in (1, 2, 3):
        assert all(whole / 2 <= held <= whole / 2 + 10 for held in told[f"held-{stage}"])  # and padding


def test_a_missing_shard_is_named(ran: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(ran / "elastic" / "stage-0" / "at-10", damaged)
    next(damaged.glob("shard-00001-*")).unlink()
    engine, _, _ = make(None, {"optimizer": "adamw", "average": 0.9})
    with pytest.raises(IntegrityError, match="a rank's shard is absent"):
        engine.load_shards(damaged)


def test_the_local_engine_reads_what_two_processes_wrote(ran: Path) -> None:
    for stage in STAGES:
        engine, model, _ = make(None, {"optimizer": "adamw", "average": 0.9})
        engine.load_shards(ran / "elastic" / f"stage-{stage}" / "at-10")
        saved = load_tensors(ran / "elastic" / f"stage-{stage}" / "model-10.safetensors")
        for name, tensor in model.state_dict().items():
            assert torch.equal(saved[name], tensor), name


def test_clipping_is_always_written_since_left_out_it_means_one() -> None:
    config = deepspeed_config(EngineOptions(zero_stage=2), clip=None, elements=100)
    assert (config["gradient_clipping"], config["managed_gradient_accumulation"]) == (0.0, False)
    assert config["zero_optimization"]["reduce_bucket_size"] == 100


def test_every_bad_key_of_the_block_is_told_with_its_path_and_what_to_use() -> None:
    block = {
        "aio": {"block_size": 1}, "gradient_cliping": 1, "gradient_clipping": 1.0, "train_batch_size": 8,
        "wall_clock_breakdown": "yes",
        "zero_optimization": {
            "stage": 3, "reduce_scater": True, "sub_group_size": "many", "leaf_module": {"clases": []},
        },
    }  # fmt: skip
    with pytest.raises(RecipeError) as raised:
        make(2, {"optimizer": "sgd"}, config=block)
    told = {each["path"].removeprefix("engine.config."): each for each in raised.value.details}
    assert set(told) == {
        "aio", "gradient_cliping", "gradient_clipping", "train_batch_size", "wall_clock_breakdown",
        "zero_optimization.stage",
        "zero_optimization.reduce_scater", "zero_optimization.sub_group_size", "zero_optimization.leaf_module.clases",
    }  # fmt: skip
    assert "trainer.clip" in told["gradient_clipping"]["hint"]
    assert "reduce_scatter" in told["zero_optimization.reduce_scater"]["hint"]
    assert "engine.zero_stage" in told["zero_optimization.stage"]["message"]
    assert set(OURS) > {"optimizer", "scheduler", "fp16", "checkpoint"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"offload": "cpu"}, "needs sharding"),
        ({"zero_stage": 2, "channels_last": True}, "keeps parameters flat"),
        ({"zero_stage": 2, "precision": "fp16"}, "not on a CPU"),
        ({"zero_stage": 2, "processes": 2}, "none started 1"),
    ],
)
def test_what_is_not_to_be_had_says_what_to_use(options: dict[str, object], said: str) -> None:
    stage = int(str(options.pop("zero_stage", 0)))
    with pytest.raises(EngineError, match=said) as raised:
        make(stage, {"optimizer": "sgd"}, **options)
    assert raised.value.hint
