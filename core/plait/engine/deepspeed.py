"""Where does a step run when it takes several processes, or sharding? On DeepSpeed. Nothing else imports it.

DeepSpeed runs the forward and backward, reduces gradients, shards and updates. What a step *is* stays Plait's: the
micro-batches, the finite check, clipping, precision, averages, the loss scale, and how state is written.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from plait.engine.activations import checkpoint_activations
from plait.engine.averages import Averages
from plait.engine.base import ReduceOp, StepResult
from plait.engine.deferred import give_buffers, give_memory, made_without_weights, stand_in
from plait.engine.fusing import fuse
from plait.engine.group import Channel, Group
from plait.engine.local import explain_memory, find_device, find_precision, move, train_modules
from plait.engine.partitions import Layout, stage_0, stage_1_or_2, stage_3
from plait.engine.peaks import find_peak
from plait.engine.reach import Reach
from plait.engine.scaling import LossScale
from plait.engine.settings import check, check_combinations, deepspeed_config
from plait.engine.shards import Shards
from plait.engine.state import copy_state, read_state
from plait.engine.untouched import Untouched, unreached
from plait.engine.world import World
from plait.errors import EngineError
from plait.options import EngineOptions

if TYPE_CHECKING:
    from plait.model import NeuralModel, Output

Made = TypeVar("Made")


class DeepSpeedEngine:
    """Any number of processes, with ZeRO sharding. It knows no schedule, task or metric, and of files its shards.

    At stage 3 rank 0 alone makes the whole model, in its host's memory, and deals it out (`deferred`): the same weights
    at every stage, and any model's `__init__`, given weights and frozen parts work. At the other stages each process
    makes it. A model that no host can hold cannot be trained.
    """

    name = "deepspeed"

    def __init__(self, options: EngineOptions) -> None:
        self.world = World.find()
        check_options(options, self.world)
        self.options = options
        self.rank, self.world_size = self.world.rank, self.world.size
        self.device = self.world.device(options.device)
        self.precision = find_precision(options.precision, self.device)
        self.peak = find_peak(options, self.device, self.precision)
        self.sharded = options.zero_stage == 3
        import_deepspeed(self.device)
        self._group = Group(self.world, device=self.device, timeout=options.timeout)
        self._model: NeuralModel | None = None
        self._engine: Any = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._layout: Layout | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._clip: float | None = None
        self._averages = Averages.none()
        self._scaler: LossScale | None = None
        self._untouched: Untouched | None = None
        self._added_variable = False

    def create(self, make: Callable[[], Made]) -> Made:
        return made_without_weights(make) if self.sharded and self.rank else make()

    def setup(
        self, model: NeuralModel, optimizer: torch.optim.Optimizer | None, *, clip: float | None, average: float | None
    ) -> None:
        self._model, self._optimizer, self._clip = model, optimizer, clip
        stand_in(model)
        self._shapes = {name: tuple(each.shape) for name, each in model.named_parameters()}
        if optimizer is None:
            self._place_all(model, sharded=False)
            self._engine = None
            self._layout = stage_0(dict(model.named_parameters()), rank=self.rank, world_size=self.world_size)
            return
        if self.options.sync_batch_norm:
            nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]  # torch's own
        if self.options.activation_checkpointing:
            checkpoint_activations(model)
        if self.precision is not torch.float32:
            # inside DeepSpeed's hooks: with its own autocast, gradients would be reduced in 16 bits, and every later
            # engine of this process would inherit that
            model.__dict__["forward"] = torch.autocast(self.device.type, dtype=self.precision)(model.forward)
        if self.precision is torch.float16:
            self._scaler = LossScale()
        fuse(optimizer, self.device, self.options.fused)
        self._engine = self._initialize(model, optimizer)
        self._layout = self._lay_out(dict(model.named_parameters()))
        if self.options.zero_stage:
            reach = Reach(
                dict(model.named_parameters()), self._engine.optimizer, stage=self.options.zero_stage,
                ranks=self.world_size, total=lambda flags: self._group.reduce(flags, "sum"),
            )  # fmt: skip
            self._untouched = Untouched(self._layout, optimizer, reach)
        if self.options.compile:
            self._engine.compile()
        self._averages = Averages(self._layout, average)

    def train(self, mode: bool = True) -> None:
        train_modules(self._setup_model(), mode)

    def move(self, batch: Any) -> Any:
        return move(batch, self.device)

    def forward(self, batch: Any) -> Output:
        with explain_memory(self.device):
            output: Output = self._setup_model()(batch) if self._engine is None else self._engine(batch)
        return output

    def backward(self, loss: Tensor, *, scale: float) -> None:
        # A loss that is not finite makes its gradients NaN even where they would not be (a constant was added). They
        # reach every rank when gradients are reduced, so all ranks skip, without a message of their own.
        factor = scale * (1.0 if self._scaler is None else self._scaler.scale)
        loss = loss * torch.where(torch.isfinite(loss.detach()), factor, torch.nan)
        if self._untouched is not None:
            self._untouched.watch(loss)
        with explain_memory(self.device):
            self._engine.backward(loss, scale_wrt_gas=False)

    def step(self) -> StepResult:
        with explain_memory(self.device):
            applied, norm = self._step_replicated() if self.options.zero_stage == 0 else self._step_sharded()
        if applied:
            self._averages.update()
        # batch-norm statistics: rank 0's count, as torch's DDP has it, so that all ranks evaluate and save one model
        self._group.spread(list(self._named_buffers().values()) if self.world_size > 1 else [])
        if self._scaler is not None:
            self._scaler.update(applied)
        return StepResult(applied, norm, scaler_overflow=self._scaler is not None and not applied)

    def averaged(self) -> AbstractContextManager[None]:
        return self._averages.shown()

    def reduce(self, value: Tensor | float, op: ReduceOp = "sum") -> Tensor:
        given = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        return self._group.reduce(given, op)

    def gather(self, value: Any) -> list[Any]:
        return self._group.gather(value)

    def barrier(self) -> None:
        self._group.barrier()

    def full_state_dict(self) -> Iterator[tuple[str, Tensor]]:
        state = self._setup_model().state_dict(keep_vars=True)
        if not self.sharded or self._engine is None:
            if self.rank == 0:
                for name, tensor in state.items():
                    yield name, tensor.detach().cpu()
            return
        import deepspeed

        counts = Counter(id(tensor) for tensor in state.values())
        kept: dict[int, Tensor | None] = {}
        for name, tensor in state.items():
            if id(tensor) in kept:  # the same tensor again, so that a writer sees that they are tied
                whole = kept[id(tensor)]
            else:
                with deepspeed.zero.GatheredParameters([tensor]) if hasattr(tensor, "ds_id") else nullcontext():
                    whole = tensor.detach().cpu().clone() if self.rank == 0 else None
                if counts[id(tensor)] > 1:
                    kept[id(tensor)] = whole
            if whole is not None:
                yield name, whole

    def channel(self) -> Channel:
        return self._group.channel()

    def copy_shards(self) -> Shards:
        first = self.rank == 0
        texts = {} if self._scaler is None or not first else {"scaler.json": json.dumps(self._scaler.as_json())}
        return copy_state(
            self._laid_out(), rank=self.rank, world_size=self.world_size, shapes=self._shapes,
            optimizer=self._optimizer, averages=self._averages.tensors,
            buffers=self._named_buffers() if first else {}, texts=texts,
        )  # fmt: skip

    def load_shards(self, directory: Path) -> None:
        read_state(
            directory, self._laid_out(), shapes=self._shapes, optimizer=self._optimizer,
            averages=self._averages.tensors, buffers=self._named_buffers(),
        )  # fmt: skip
        self._laid_out().publish()
        if self._scaler is not None and (directory / "scaler.json").is_file():
            self._scaler.restore(json.loads((directory / "scaler.json").read_text(encoding="utf-8")))

    def close(self) -> None:
        self._group.close()
        if self._untouched is not None:
            self._untouched.close()
        if self._engine is not None:
            self._engine.destroy()
        if self._added_variable:
            os.environ.pop("LOCAL_RANK", None)
            self._added_variable = False
        self._engine = self._optimizer = self._layout = self._model = self._untouched = None
        self._averages = Averages.none()

    def held_elements(self) -> int:
        """Elements of float32 master weights (and of each moment) that this rank updates, padding included."""
        return sum(holding.tensor.numel() for holding in self._laid_out().trained)

    def _initialize(self, model: NeuralModel, optimizer: torch.optim.Optimizer) -> Any:
        import deepspeed

        clip = self._clip if self.options.zero_stage else None  # at stage 0 the step below clips
        config = deepspeed_config(self.options, clip=clip, elements=sum(each.numel() for each in model.parameters()))
        if "LOCAL_RANK" not in os.environ:  # DeepSpeed asks for it at any time; left behind, others would read it
            self._added_variable = True
            os.environ["LOCAL_RANK"] = str(self.world.local_rank)
        with explain_memory(self.device), _own_placing(model, self._place):
            self._place_all(model, sharded=self.sharded)
            engine = deepspeed.initialize(model=model, optimizer=optimizer, config=config, dist_init_required=False)[0]
        if engine.gradient_clipping() != float(clip or 0.0) or engine.managed_gradient_accumulation():
            raise EngineError("deepspeed did not take its settings over", hint='pip install "deepspeed>=0.19.8,<0.20"')
        # stage 0 reduces once a step, in _step_replicated, before the finite check
        engine.enable_backward_allreduce = self.options.zero_stage > 0
        return engine

    def _place_all(self, model: nn.Module, *, sharded: bool) -> None:
        """Buffers, and the parameters that DeepSpeed is not to ask for one by one."""
        give_buffers(model, self.device)
        for buffer in model.buffers():
            self._group.spread([buffer])
        for parameter in () if sharded else model.parameters():
            self._place(parameter)

    def _place(self, parameter: nn.Parameter) -> None:
        """Put it on the device, with rank 0's numbers: one at a time, since a copy of the whole model would not fit."""
        give_memory(parameter, self.device)
        self._group.spread([parameter.data])

    def _lay_out(self, named: dict[str, nn.Parameter]) -> Layout:
        stage, rank, size = self.options.zero_stage, self.rank, self.world_size
        if stage == 0:
            return stage_0(named, rank=rank, world_size=size)
        if stage == 3:
            return stage_3(self._engine.optimizer, named, rank=rank)
        return stage_1_or_2(self._engine.optimizer, named, rank=rank, world_size=size)

    def _step_replicated(self) -> tuple[bool, Tensor]:
        """Reduce, look, clip and update as the local engine does: the same bits for one process."""
        if self.world_size > 1:
            trained = self._setup_model().parameters()
            alone = unreached(trained, largest=lambda flags: self._group.reduce(flags, "max"))
            self._engine.buffered_allreduce_fallback()
            for parameter in alone:
                parameter.grad = None  # DeepSpeed made a zero of it, and weight decay would follow
        parameters = [each for each in self._setup_model().parameters() if each.grad is not None]
        scale = 1.0 if self._scaler is None else self._scaler.scale
        if scale != 1.0:
            for each in parameters:
                each.grad.div_(scale)  # type: ignore[union-attr]  # as above
        norm = torch.nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
        if not bool(torch.isfinite(norm)):
            self._engine.zero_grad()
            return False, norm
        if self._clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self._clip, norm)
        self._engine.step()
        return True, norm

    def _step_sharded(self) -> tuple[bool, Tensor]:
        if self._scaler is not None:
            self._engine.optimizer.override_loss_scale(self._scaler.scale)
        assert self._untouched is not None
        self._untouched.keep()
        self._engine.step()
        norm = self._engine.get_global_grad_norm()
        return bool(self._engine.was_step_applied()), torch.as_tensor(norm)

    def _named_buffers(self) -> dict[str, Tensor]:
        model = self._setup_model()
        kept = model.state_dict(keep_vars=True).keys()
        return {name: buffer for name, buffer in model.named_buffers() if name in kept}

    def _laid_out(self) -> Layout:
        if self._layout is None:
            raise RuntimeError("setup() comes first")
        return self._layout

    def _setup_model(self) -> NeuralModel:
        if self._model is None:
            raise RuntimeError("setup() comes first")
        return self._model


def check_options(options: EngineOptions, world: World) -> None:
    """Refuse what cannot run, before anything is read.

    Raises:
        EngineError: the number of processes, the device or an option's combination is not to be had.
        RecipeError: `engine.config` has keys that nobody would read, or that Plait decides.
    """
    check_combinations(options, world)
    find_precision(options.precision, find_device("cpu" if options.device == "cpu" else options.device))
    if options.config:
        import_deepspeed(find_device(options.device))
        from deepspeed.comm.config import CommsLoggerConfig
        from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
        from deepspeed.runtime.zero.leaf_module_config import DeepSpeedZeroLeafModuleConfig

        check(
            options.config,
            {
                "zero_optimization": DeepSpeedZeroConfig,
                "zero_optimization.leaf_module": DeepSpeedZeroLeafModuleConfig,
                "comms_logger": CommsLoggerConfig,
            },
        )


def import_deepspeed(device: torch.device) -> ModuleType:
    """DeepSpeed, silent on stdout, and without the C++ kernel that it would compile on a CPU (31 s, or fatal without a
    compiler) for tensor-parallel inference.

    Raises:
        EngineError: it is not installed; says what to install.
    """
    added = "DS_ACCELERATOR" not in os.environ
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if device.type == "cuda" else "cpu")
    try:
        with _uncompiled():
            import deepspeed
            import deepspeed.ops
            import deepspeed.runtime.zero.muon.original_muon
    except ImportError as error:
        raise EngineError(
            f"the deepspeed engine needs deepspeed, which cannot be imported: {error}",
            hint='pip install "deepspeed>=0.19.8,<0.20" (Linux); or use engine.processes=1 and engine.zero_stage=0',
        ) from error
    finally:
        if added:
            os.environ.pop("DS_ACCELERATOR", None)
    kernels = getattr(deepspeed.ops, "__compatible_ops__", {})
    if "deepspeed_shm_comm" in kernels:
        kernels["deepspeed_shm_comm"] = False
    logger = logging.getLogger("DeepSpeed")
    logger.setLevel(logging.ERROR)
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    module: ModuleType = deepspeed
    return module


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Inside, torch.compile leaves functions as they are. DeepSpeed decorates its Muon optimizer with it, which Plait
    does not offer, and the decorator alone loads torch's compiler: 1.4 s of each process's start."""
    original = torch.compile
    torch.compile = lambda function=None, **options: function or (lambda given: given)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = original


@contextmanager
def _own_placing(model: nn.Module, place: Callable[[nn.Parameter], None]) -> Iterator[None]:
    """Inside, DeepSpeed leaves it to the engine to put parameters on the device and to send rank 0's round. It would
    move the whole model before it shards, and fails on parameters without dimensions (CLIP's logit scale), which it
    views as bytes. At stage 3, where it asks for them one by one, each is placed right before it is sharded."""
    from deepspeed.runtime.engine import DeepSpeedEngine as Theirs
    from deepspeed.runtime.zero.partition_parameters import Init

    def shard(init: Any, parameters: Iterable[Any]) -> None:
        for parameter in parameters:
            place(parameter)
            init._convert_to_deepspeed_param(parameter)
            parameter.partition()

    originals = Theirs._broadcast_model, Init._convert_to_zero_parameters
    Theirs._broadcast_model, Init._convert_to_zero_parameters = (lambda engine: None), shard
    vars(model)["to"] = lambda *_, **__: model
    try:
        yield
    finally:
        del vars(model)["to"]
        Theirs._broadcast_model, Init._convert_to_zero_parameters = originals
