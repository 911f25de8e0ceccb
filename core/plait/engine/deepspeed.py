"""Where does a step run when it takes several processes, or sharding? On DeepSpeed. Nothing else imports it.

DeepSpeed runs the forward and backward, reduces gradients, shards and updates. What a step *is* stays Plait's: the
micro-batches, the finite check, clipping, precision, averages, the loss scale, and how state is written.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from plait.engine.activations import checkpoint_activations
from plait.engine.averages import Averages
from plait.engine.base import ReduceOp, StepResult
from plait.engine.batch_norm import share_batch_norm
from plait.engine.deferred import give_buffers, give_memory, made_without_weights, stand_in
from plait.engine.fusing import fuse
from plait.engine.group import Channel, Group
from plait.engine.local import MemoryExplained, find_device, find_precision, move, read, total_norm, train_modules
from plait.engine.mapped import MappedFiles, give_back, move_to_files
from plait.engine.partitions import Layout, stage_0, stage_1_or_2, stage_3
from plait.engine.peaks import find_peak
from plait.engine.reach import Reach
from plait.engine.replaced import own_placing, uncompiled
from plait.engine.scaling import LossScale
from plait.engine.settings import check, check_combinations, deepspeed_config
from plait.engine.shards import Shards, in_memory
from plait.engine.state import copy_state, read_state, saved_buffers
from plait.engine.untouched import Untouched, unreached
from plait.engine.world import World
from plait.errors import EngineError
from plait.options import EngineOptions

if TYPE_CHECKING:
    from plait.model import NeuralModel, Output

logger = logging.getLogger("plait")

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
        self._files = None if options.offload_directory is None else MappedFiles(Path(options.offload_directory))
        if options.offload == "cpu" and self.device.type == "cpu" and self.rank == 0:
            logger.warning("engine.offload=cpu: the device is the CPU already; no memory is saved")
        import_deepspeed(self.device)
        self._group = Group(self.world, device=self.device, timeout=options.timeout)
        self._model: NeuralModel | None = None
        self._engine: Any = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._layout: Layout | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._clip: float | None = None
        self._losses: list[Tensor] = []
        self._spreads = False  # whether the model has buffers that other ranks have to hear of
        self._averages = Averages.none()
        self._scaler: LossScale | None = None
        self._untouched: Untouched | None = None
        self._variables: dict[str, str | None] = {}

    def create(self, make: Callable[[], Made]) -> Made:
        return made_without_weights(make) if self.sharded and self.rank else make()

    def setup(
        self, model: NeuralModel, optimizer: torch.optim.Optimizer | None, *, clip: float | None, average: float | None
    ) -> None:
        self._model, self._optimizer, self._clip = model, optimizer, clip
        stand_in(model)
        self._shapes = {name: tuple(each.shape) for name, each in model.named_parameters()}
        if self.precision is not torch.float32:
            # inside DeepSpeed's hooks: with its own autocast, gradients would be reduced in 16 bits, and every later
            # engine of this process would inherit that. At stage 3 no copies in 16 bits are kept for a second use: they
            # would be whole weights, of all layers at once.
            again = torch.autocast(self.device.type, dtype=self.precision, cache_enabled=not self.sharded)
            model.__dict__["forward"] = again(model.forward)
        if optimizer is None:
            self._place_all(model, sharded=False)
            self._engine = None
            self._layout = stage_0(dict(model.named_parameters()), rank=self.rank, world_size=self.world_size)
            return
        if self.options.sync_batch_norm and self.world_size > 1:
            share_batch_norm(model, self._group.peers, compiled=self.options.compile)
        if self.options.activation_checkpointing:
            checkpoint_activations(model)
        if self.precision is torch.float16:
            self._scaler = LossScale()
        fuse(optimizer, self.device, self.options.fused)
        self._engine = self._initialize(model, optimizer)
        self._layout = self._lay_out(dict(model.named_parameters()))
        self._spreads = self.world_size > 1 and bool(saved_buffers(model))
        if self._files is not None:
            move_to_files(self._layout, optimizer, self._files)
            self._engine.optimizer._link_all_hp_params()  # its views of the weights would keep their old memory
        if self.options.zero_stage:
            reach = Reach(
                dict(model.named_parameters()), self._engine.optimizer, stage=self.options.zero_stage,
                ranks=self.world_size, total=lambda flags: self._group.reduce(flags, "sum"),
            )  # fmt: skip
            self._untouched = Untouched(self._layout, optimizer, reach)
        if self.options.compile:
            self._engine.compile()
        self._averages = Averages(self._layout, average, copy=self._files.copy if self._files else torch.clone)

    def train(self, mode: bool = True) -> None:
        train_modules(self._setup_model(), mode)

    def move(self, batch: Any) -> Any:
        return move(batch, self.device)

    def forward(self, batch: Any) -> Output:
        if self.world_size > 1 and self._engine is not None and self._setup_model().training:
            batch = self._group.peers.join(batch)
        with MemoryExplained(self.device):
            output: Output = self._setup_model()(batch) if self._engine is None else self._engine(batch)
        return output

    def backward(self, loss: Tensor, *, scale: float) -> None:
        # A loss that is not finite makes its gradients NaN even where they would not be (a constant was added). They
        # reach every rank when gradients are reduced, so all ranks skip, without a message of their own.
        self._losses.append(loss.detach())
        factor = scale * (1.0 if self._scaler is None else self._scaler.scale)
        loss = loss * torch.where(torch.isfinite(loss.detach()), factor, torch.nan)
        if self._untouched is not None:
            self._untouched.watch(loss)
        with MemoryExplained(self.device):
            self._engine.backward(loss, scale_wrt_gas=False)

    def step(self) -> StepResult:
        with MemoryExplained(self.device):
            applied, losses, norm = self._step_replicated() if self.options.zero_stage == 0 else self._step_sharded()
        self._losses = []
        if applied:
            self._averages.update()
        # batch-norm statistics: rank 0's count, as torch's DDP has it, so that all ranks evaluate and save one model
        if self._spreads:
            self._group.spread(list(saved_buffers(self._setup_model()).values()))
        if self._scaler is not None:
            self._scaler.update(applied)
        return StepResult(applied, losses, norm, scaler_overflow=self._scaler is not None and not applied)

    def averaged(self) -> AbstractContextManager[None]:
        return self._averages.shown()

    def reduce(self, value: Tensor | float, op: ReduceOp = "sum") -> Tensor:
        if isinstance(value, Tensor):
            return self._group.reduce(value, op)
        return torch.tensor(self._group.number(value, op), dtype=torch.float64)

    def later(self, value: float) -> Callable[[], float]:
        return self._group.later(value)

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
            buffers=saved_buffers(self._setup_model()) if first else {}, texts=texts,
            copy=self._files.copy if self._files else in_memory,
        )  # fmt: skip

    def load_shards(self, directory: Path) -> None:
        read_state(
            directory, self._laid_out(), shapes=self._shapes, optimizer=self._optimizer,
            averages=self._averages.tensors, buffers=saved_buffers(self._setup_model()),
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
        if self._files is not None and self._layout is not None and self._optimizer is not None:
            give_back(self._layout, self._optimizer)
        for name, value in self._variables.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        self._variables = {}
        self._engine = self._optimizer = self._layout = self._model = self._untouched = None
        self._averages = Averages.none()

    def held_elements(self) -> int:
        """Elements of float32 master weights (and of each moment) that this rank updates, padding included."""
        return sum(holding.tensor.numel() for holding in self._laid_out().trained)

    def _initialize(self, model: NeuralModel, optimizer: torch.optim.Optimizer) -> Any:
        import deepspeed
        from deepspeed.runtime.engine import DeepSpeedEngine as Theirs
        from deepspeed.runtime.zero.partition_parameters import Init

        clip = self._clip if self.options.zero_stage else None  # at stage 0 the step below clips
        config = deepspeed_config(self.options, clip=clip, elements=sum(each.numel() for each in model.parameters()))
        # DeepSpeed takes the device of this number, at any time; left behind, others would read it
        self._variables = {name: os.environ.pop(name, None) for name in ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")}
        os.environ["LOCAL_RANK"] = str(self.world.local_rank if self.device.index is None else self.device.index)
        with MemoryExplained(self.device), own_placing(model, self._place, theirs=Theirs, init=Init):
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

    def _step_replicated(self) -> tuple[bool, list[float], Tensor]:
        """Reduce, look, clip and update as the local engine does: the same bits for one process."""
        trained = [each for each in self._setup_model().parameters() if each.requires_grad]
        if self.world_size > 1:
            alone = unreached(trained, largest=self._group.begin_max)
            self._engine.buffered_allreduce_fallback()
            for parameter in alone():
                parameter.grad = None  # DeepSpeed made a zero of it, and weight decay would follow
        parameters = [each for each in trained if each.grad is not None]
        scale = 1.0 if self._scaler is None else self._scaler.scale
        if scale != 1.0:
            for each in parameters:
                each.grad.div_(scale)  # type: ignore[union-attr]  # as above
        norm = total_norm([each.grad for each in parameters if each.grad is not None])
        *losses, size = read([*self._losses, norm])
        if not math.isfinite(size):
            self._engine.zero_grad()
            return False, losses, norm
        if self._clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self._clip, norm)
        self._engine.step()
        return True, losses, norm

    def _step_sharded(self) -> tuple[bool, list[float], Tensor]:
        if self._scaler is not None:
            self._engine.optimizer.override_loss_scale(self._scaler.scale)
        assert self._untouched is not None
        self._untouched.keep()
        losses = read(self._losses)
        self._engine.step()
        norm = self._engine.get_global_grad_norm()
        return bool(self._engine.was_step_applied()), losses, torch.as_tensor(norm)

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
    device = find_device(options.device)
    if device.type == "cpu":  # the launcher asks too, and a look at a GPU would take half a gigabyte of it
        find_precision(options.precision, device)
    if options.config:
        import_deepspeed(device)
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
        with uncompiled():
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
    theirs = logging.getLogger("DeepSpeed")
    theirs.setLevel(logging.ERROR)
    for handler in theirs.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    module: ModuleType = deepspeed
    return module
