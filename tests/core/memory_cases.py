"""What tests of memory run in one process or several: a model of a hundred million parameters."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from plait.api import layers, with_classes
from plait.config import resolve
from plait.engine.base import Engine
from plait.engine.deepspeed import DeepSpeedEngine, import_deepspeed
from plait.engine.local import LocalEngine
from plait.logs import Listeners
from plait.model import Batch, NeuralModel, Output, ParameterGroup
from plait.options import EngineOptions
from plait.planning import plan
from plait.preparing import Prepared
from plait.trainer import Fit
from plait.training.gradient import GradientTrainer
from plait.training.optimization import GradientOptions, make_optimizer
from plait_registry.registry import Registry
from tests.core.engine_cases import ADAMW, Awkward, batches, make, step
from tests.toys import Net, Points, points


class Large(Awkward):
    """A hundred million parameters in 24 square layers."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(2048, 2048) for _ in range(24)])

    def forward(self, batch: Batch) -> Output:
        hidden = torch.nn.functional.one_hot(batch["x"], 2048).float()
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden))
        return Output(torch.nn.functional.cross_entropy(hidden, batch["y"]), hidden)

    def parameter_groups(self) -> list[ParameterGroup]:
        return NeuralModel.parameter_groups(self)


Large.__abstractmethods__ = frozenset()


def large(folder: Path, stage: int, offload: str | None = None) -> None:
    """Three AdamW steps of a large model: what each rank holds, its first weights, and its resident memory between
    steps, MiB, also without what is in files."""
    import_deepspeed(torch.device("cpu"))
    before, own = resident(), resident("RssAnon")
    where = {"offload": offload, "offload_directory": str(folder) if offload == "nvme" else None}
    engine, model, _ = make(stage, {**ADAMW}, kind=Large, bucket_mb=20, **where)
    first = model_hash(engine)
    parameters = sum(getattr(each, "ds_numel", each.numel()) for each in model.parameters())
    for x, y in batches(3, size=4):
        step(engine, x, y)
    told = {
        "parameters": parameters, "held": engine.held_elements(), "first": first,  # type: ignore[attr-defined]
        "steady": resident() - before, "anonymous": resident("RssAnon") - own,
    }  # fmt: skip
    found = engine.gather(told)
    if engine.rank == 0:
        (folder / "told.json").write_text(json.dumps(found))
    engine.close()


def started(folder: Path, deferred: bool) -> None:
    """The start of a training of a large model at ZeRO 3: MiB of a rank's resident memory when the model is made, and
    the most until it is sharded."""
    import_deepspeed(torch.device("cpu"))
    engine = DeepSpeedEngine(EngineOptions(device="cpu", zero_stage=3, bucket_mb=20))
    before = resident()
    model = engine.create(Large) if deferred else Large()
    made = resident() - before
    settings = GradientOptions(**ADAMW)
    engine.setup(model, make_optimizer(model, settings), clip=None, average=None)
    most = peak() - before
    found = engine.gather({"made": made, "most": most})
    if engine.rank == 0:
        (folder / "told.json").write_text(json.dumps(found))
    engine.close()


def model_hash(engine: Engine) -> str:
    """Of all weights, on rank 0; a tensor at a time."""
    found = hashlib.sha256()
    for name, tensor in engine.full_state_dict():
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def planned(folder: Path, hidden: int) -> None:
    """What `plan` says of a training in one process, and what it holds between its steps, bytes."""
    registry = with_classes(Registry.discover(), [Points, Net])
    data = {"train": points(4)}
    named = {"model.name": "toy/net", "model.hidden": hidden, "trainer.batch_size": 2, "trainer.epochs": 1}
    named |= {"output.directory": str(folder / "run"), "output.tensorboard": False, "output.baselines": False}
    recipe = resolve(layers("toy/points", named, environ={}), registry)
    told = plan(recipe, registry, data=data).memory[0].as_json()
    before, stepped, held = resident(), Listeners.stepped, []

    def look(self: Listeners, step: int) -> None:
        held.append((resident() - before) * 2**20)
        stepped(self, step)

    Listeners.stepped = look  # type: ignore[method-assign]  # this process has nothing else to do
    engine = LocalEngine(EngineOptions(device="cpu"))
    made = Prepared.make(recipe, registry, data, engine)
    assert isinstance(made.model, Net)
    events = Listeners(folder, registry, display=None, tensorboard=False)
    store: Any = Unsaved()
    options = recipe.trainer
    GradientTrainer(options).fit(
        Fit(
            model=made.model, engine=engine, train=data["train"], evaluate=None, primary=None, seed=0,
            checkpoints=store, events=events, stop=lambda: None,
        )
    )  # fmt: skip
    (folder / "told.json").write_text(json.dumps({**told, "held": held}))


class Unsaved:
    """A store of checkpoints that has none and keeps none: they would be in the page cache."""

    def newest(self) -> None:
        return None

    def save(self, *_: Any, **__: Any) -> Path:
        return Path()


def resident(kind: str = "VmRSS") -> int:
    """This process's resident memory, MiB; RssAnon: without files."""
    (line,) = (each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(f"{kind}:"))
    return int(line.split()[1]) // 2**10


def peak() -> int:
    """The most that was resident of this program, MiB; `ru_maxrss` would count that of the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))
