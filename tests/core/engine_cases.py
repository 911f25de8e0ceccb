"""What tests of the engines run in one process or several: a model with all that is awkward, and a short training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from plait.engine.base import Engine
from plait.engine.deepspeed import DeepSpeedEngine
from plait.engine.local import LocalEngine
from plait.evaluation import Evaluator
from plait.model import Batch, Key, NeuralModel, Output, ParameterGroup, Processor
from plait.options import EngineOptions
from plait.training.judge import judge
from plait.training.optimization import GradientOptions, make_optimizer
from plait.weights import save_tensors

SGD = {"optimizer": "sgd", "learning_rate": 0.5, "momentum": 0.0, "weight_decay": 0.0, "clip": None}
ADAMW = {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1, "clip": 1.0}


class Awkward(NeuralModel):
    """Tied weights, a frozen and an unused parameter, a scalar, an odd number of elements, a buffer, two groups."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.table = torch.nn.Embedding(11, 5)
            self.body = torch.nn.Linear(5, 5)
            self.fixed = torch.nn.Linear(5, 5)
            self.unused = torch.nn.Parameter(torch.ones(3))
            self.scale = torch.nn.Parameter(torch.tensor(1.5))
            self.out = torch.nn.Linear(5, 11, bias=True)
        self.out.weight = self.table.weight
        self.fixed.requires_grad_(False)
        self.register_buffer("seen", torch.zeros(()))

    fit_processor = decode = None  # type: ignore[assignment]  # never asked for

    def forward(self, batch: Batch) -> Output:
        if self.training:
            self.seen += batch.size
        hidden = torch.tanh(self.fixed(self.body(self.table(batch["x"]))) * self.scale)
        logits = self.out(hidden)
        loss = torch.nn.functional.cross_entropy(logits, batch["y"]) if batch.size else None
        return Output(loss, logits)

    def parameter_groups(self) -> list[ParameterGroup]:
        groups = super().parameter_groups()
        return [*groups[:-1], ParameterGroup(groups[-1].name, groups[-1].parameters, False, learning_rate_scale=2.0)]


class Deep(Awkward):
    """Repeated blocks with dropout before the awkward rest."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            layers = [torch.nn.Sequential(torch.nn.Linear(5, 5), torch.nn.Tanh(), torch.nn.Dropout(0.2)) for _ in "abc"]
        self.blocks = torch.nn.ModuleList(layers)

    def forward(self, batch: Batch) -> Output:
        hidden = self.table(batch["x"])
        for block in self.blocks:
            hidden = block(hidden)
        logits = self.out(torch.tanh(self.fixed(self.body(hidden)) * self.scale))
        return Output(torch.nn.functional.cross_entropy(logits.float(), batch["y"]), logits)


class Rare(Awkward):
    """A parameter that only every third forward uses."""

    def __init__(self) -> None:
        super().__init__()
        self.rare = torch.nn.Parameter(torch.ones(4))
        self.forwards = 0

    def uses(self, batch: Batch) -> torch.Tensor:
        self.forwards += 1
        return torch.full((batch.size,), self.forwards % 3 == 0)

    def forward(self, batch: Batch) -> Output:
        output, used = super().forward(batch), self.uses(batch)
        if not used.any():
            return output
        loss = torch.nn.functional.cross_entropy(output.logits * (1 + used[:, None] * self.rare.sum()), batch["y"])
        return Output(loss, output.logits)


class Uneven(Rare):
    """A parameter that only some examples use, and so only some ranks."""

    def uses(self, batch: Batch) -> torch.Tensor:
        return batch["x"] == 10


def batches(steps: int, size: int = 12) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The global batches: [size] tokens and what follows them."""
    made = torch.Generator().manual_seed(3)
    return [tuple(torch.randint(0, 11, (2, size), generator=made)) for _ in range(steps)]  # type: ignore[misc]


def part(x: torch.Tensor, y: torch.Tensor) -> Batch:
    return Batch({"x": x, "y": y}, len(x), len(x))


def make(
    stage: int | None, trainer: dict[str, Any], *, kind: type[Awkward] = Awkward, **options: Any
) -> tuple[Engine, Awkward, torch.optim.Optimizer]:
    """An engine that is ready to train; stage None: the local one."""
    average = trainer.pop("average", None)
    settings = GradientOptions(**trainer)
    engine: Engine
    if stage is None:
        engine = LocalEngine(EngineOptions(device="cpu", **options))
    else:
        engine = DeepSpeedEngine(EngineOptions(device="cpu", zero_stage=stage, **options))
    model = engine.create(kind)
    optimizer = make_optimizer(model, settings)
    engine.setup(model, optimizer, clip=settings.clip, average=average)
    return engine, model, optimizer


def step(engine: Engine, x: torch.Tensor, y: torch.Tensor, *, micro: int = 1, poison: bool = False) -> Any:
    """One global batch, dealt to ranks unevenly as it comes, then to `micro` micro-batches."""
    engine.train()
    xs, ys = (torch.tensor_split(each, engine.world_size)[engine.rank] for each in (x, y))
    total = len(x)
    loss_sum = 0.0
    for a, b in zip(torch.tensor_split(xs, micro), torch.tensor_split(ys, micro), strict=True):
        output = engine.forward(engine.move(part(a, b)))
        loss = output.loss if len(a) else output.logits.sum() * 0.0
        assert loss is not None
        if poison:
            loss = loss + float("inf")  # its gradients are finite
        engine.backward(loss, scale=len(a) / total * engine.world_size)
        loss_sum += float(loss.detach()) * len(a) / total
    result = engine.step()
    return float(engine.reduce(loss_sum)), result


def state(engine: Engine, path: Path) -> None:
    """Write the whole model, as `model/` would hold it."""
    found = dict(engine.full_state_dict())
    if engine.rank == 0:
        save_tensors(found, path)


def parity(folder: Path, stages: list[int | None]) -> None:
    """SGD without and with clipping, one and two micro-batches, at each stage."""
    for stage in stages:
        for clip in (None, 0.05):
            for micro in (1, 2):
                engine, _, _ = make(stage, {**SGD, "clip": clip})
                losses = [step(engine, x, y, micro=micro) for x, y in batches(5)]
                state(engine, folder / f"{stage}-{clip}-{micro}.safetensors")
                if engine.rank == 0:
                    numbers = [[loss, float(result.gradient_norm)] for loss, result in losses]
                    (folder / f"{stage}-{clip}-{micro}.json").write_text(json.dumps(numbers))
                engine.close()


def elastic(folder: Path, stages: list[int], start: int, stop: int, disk: bool = False) -> None:
    """Train from step `start` to `stop`, from the shards of whatever world wrote them at `start`; with `disk` the
    optimizer's state is in files."""
    for stage in stages:
        options = {"offload": "nvme", "offload_directory": str(folder)} if disk else {}
        engine, _, optimizer = make(stage, {**ADAMW, "average": 0.9}, **options)
        place = folder / f"stage-{stage}"
        if start:
            engine.load_shards(place / f"at-{start}")
        for number, (x, y) in enumerate(batches(40)[start:stop], start=start):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * group["scale"] / (1 + number / 10)
            step(engine, x, y)
        shards = place / f"at-{stop}"
        if engine.rank == 0:
            shards.mkdir(parents=True, exist_ok=True)
        engine.barrier()
        engine.copy_shards().write(shards)
        state(engine, place / f"model-{stop}.safetensors")
        with engine.averaged():
            state(engine, place / f"average-{stop}.safetensors")
        engine.close()


def unequal(folder: Path, stages: list[int]) -> None:
    """What a non-finite loss on one rank does."""
    told: dict[str, Any] = {}
    for stage in stages:
        engine, _, _ = make(stage, {**SGD})
        x, y = batches(1)[0]
        before = {name: tensor.clone() for name, tensor in engine.full_state_dict() if name != "seen"}
        _, result = step(engine, x, y, poison=engine.rank == engine.world_size - 1)
        after = {name: tensor for name, tensor in engine.full_state_dict() if name != "seen"}
        same = all(torch.equal(before[name], after[name]) for name in before)
        _, good = step(engine, x, y)
        told[f"poison-{stage}"] = [result.applied, same, good.applied]
        told[f"held-{stage}"] = engine.gather(engine.held_elements())
        engine.close()
    if engine.rank == 0:
        (folder / f"told-{engine.world_size}.json").write_text(json.dumps(told))


def left_alone(folder: Path, stages: list[int | None]) -> None:
    """Decay and momentum, where one parameter is never reached by a gradient, and another one now and then."""
    for stage in stages:
        for kind in (Rare, Uneven):
            rule = {**SGD, "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.1, "clip": 0.5}
            engine, _, _ = make(stage, rule, kind=kind)
            for x, y in batches(8, size=6):
                step(engine, x, y)
            state(engine, folder / f"{kind.__name__}-{stage}.safetensors")
            engine.close()


class Speaker(Awkward):
    """Goes on from a token until it says its last word, which takes one step or many."""

    def predict_batch(self, batch: Batch, engine: Engine, output: Output | None = None) -> list[list[int]]:
        said: list[list[int]] = [[token] for token in batch["x"].tolist()]

        def over() -> bool:
            here = all(len(each) > 1 + each[0] for each in said)  # as many words as the first one's number
            return bool(engine.reduce(float(here), "min"))

        while not over():
            last = torch.tensor([each[-1] for each in said], dtype=torch.int64)
            logits = engine.forward(part(last, last)).logits
            for each, token in zip(said, logits.argmax(-1).tolist(), strict=True):
                if len(each) <= 1 + each[0]:
                    each.append(token)
        return said


class Tokens(Processor):
    """Examples are tokens."""

    def collate(self, examples: Sequence[int], keys: Sequence[Key], *, training: bool) -> Batch:
        x = torch.tensor(list(examples), dtype=torch.int64)
        return part(x, x)

    def as_json(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Tokens:
        return cls()


class Listener(Evaluator):
    """Keeps what was said."""

    primary = table = measure = None  # type: ignore[assignment]  # never asked for

    def __init__(self) -> None:
        self.heard: list[list[int]] = []

    def update(self, predictions: Sequence[Any], examples: Sequence[Any]) -> None:
        self.heard += predictions

    def reduce(self, engine: Engine) -> None:
        self.heard = [each for part in engine.gather(self.heard) for each in part]

    def compute(self) -> dict[str, float]:
        return {"words": float(sum(len(each) for each in self.heard))}


def generated(folder: Path, stages: list[int | None]) -> None:
    """A step of training, then an evaluation that generates: batches of one example, which end at different lengths,
    and one rank more than there are batches in the last round."""
    for stage in stages:
        engine, model, _ = make(stage, {**SGD}, kind=Speaker)
        model.processor = Tokens()
        step(engine, *batches(1)[0])
        listener = Listener()
        judge(model, engine, [7, 0, 3, 9, 1], listener, batch_size=1)
        if engine.rank == 0:
            (folder / f"said-{stage}.json").write_text(json.dumps(listener.heard))
        step(engine, *batches(1)[0])  # and training goes on
        engine.close()


for each in (Awkward, Deep, Rare, Uneven, Speaker):
    each.__abstractmethods__ = frozenset()


def several(folder: Path, cases: list[tuple[str, dict[str, Any]]]) -> None:
    """Several of the above in one start of the processes, which costs more than they do."""
    for name, options in cases:
        place = folder / str(options.pop("place", "."))
        place.mkdir(parents=True, exist_ok=True)
        cases: dict[str, Callable[..., None]] = {
            "parity": parity, "elastic": elastic, "unequal": unequal, "left_alone": left_alone, "generated": generated,
        }  # fmt: skip
        cases[name](place, **options)
