"""Where does a step run when one process is enough? On the CPU, one CUDA device or MPS, in plain torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from plait.engine.activations import checkpoint_activations
from plait.engine.base import ReduceOp, StepResult
from plait.engine.fusing import fuse
from plait.engine.peaks import find_peak
from plait.engine.shards import Shards, copy_shards, read_shards
from plait.engine.state import saved_buffers
from plait.errors import EngineError, IntegrityError
from plait.options import EngineOptions

if TYPE_CHECKING:
    from plait.model import NeuralModel, Output

Made = TypeVar("Made")


class LocalEngine:
    """One process, one device, plain torch. It never imports deepspeed and knows no schedule."""

    name = "local"
    rank = 0
    world_size = 1
    sharded = False

    def __init__(self, options: EngineOptions) -> None:
        if options.processes > 1 or options.zero_stage > 0 or options.offload or options.config:
            wanted = f"engine.processes={options.processes}, engine.zero_stage={options.zero_stage}"
            wanted += ", engine.offload" * bool(options.offload) + ", engine.config" * bool(options.config)
            raise EngineError(f"the local engine is one process without sharding, and {wanted} was asked for")
        self.options = options
        self.device = find_device(options.device)
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.precision = find_precision(options.precision, self.device)
        self.peak = find_peak(options, self.device, self.precision)
        self._model: NeuralModel | None = None
        self._run: Any = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._scaler: torch.amp.GradScaler | None = None
        self._clip: float | None = None
        self._average: float | None = None
        self._averages: dict[str, Tensor] = {}
        self._parameters: list[tuple[str, nn.Parameter]] = []
        self._channels_last = False
        self._losses: list[Tensor] = []

    def create(self, make: Callable[[], Made]) -> Made:
        return make()

    def setup(
        self, model: NeuralModel, optimizer: torch.optim.Optimizer | None, *, clip: float | None, average: float | None
    ) -> None:
        self._model, self._optimizer, self._clip, self._average = model, optimizer, clip, average
        if self.options.activation_checkpointing and optimizer is not None:
            checkpoint_activations(model)
        wanted = self.options.channels_last
        self._channels_last = model.prefers_channels_last if wanted == "auto" else wanted
        with MemoryExplained(self.device):
            model.to(device=self.device)
            if self._channels_last:
                model.to(memory_format=torch.channels_last)
        self._run = torch.compile(model) if self.options.compile else model
        self._parameters = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
        if optimizer is not None:
            fuse(optimizer, self.device, self.options.fused)
            self._scaler = torch.amp.GradScaler(self.device.type) if self.precision is torch.float16 else None
            if average is not None:
                self._averages = {name: each.detach().clone() for name, each in self._parameters}

    def train(self, mode: bool = True) -> None:
        train_modules(self._setup_model(), mode)

    def move(self, batch: Any) -> Any:
        moved = move(batch, self.device)
        if self._channels_last and hasattr(moved, "tensors"):
            for name, tensor in moved.tensors.items():
                if tensor.ndim == 4:
                    moved.tensors[name] = tensor.contiguous(memory_format=torch.channels_last)
        return moved

    def forward(self, batch: Any) -> Output:
        with MemoryExplained(self.device):
            if self.precision is torch.float32:
                output: Output = self._run(batch)
            else:
                with torch.autocast(self.device.type, dtype=self.precision):
                    output = self._run(batch)
        return output

    def backward(self, loss: Tensor, *, scale: float) -> None:
        self._losses.append(loss.detach())
        if scale != 1.0:
            loss = loss * scale
        if self._scaler is not None:
            loss = self._scaler.scale(loss)
        with MemoryExplained(self.device):
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature is untyped

    def step(self) -> StepResult:
        if self._optimizer is None:
            raise RuntimeError("setup() was given no optimizer")
        losses, self._losses = self._losses, []
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        # the list has no name: one that outlived them would free the gradients last to first, and glibc would give
        # their memory back to the system: 21,000 page faults a step of resnet18 on the CPU instead of 14,000
        norm = total_norm([each.grad for _, each in self._parameters if each.grad is not None])
        # a non-finite loss may have finite gradients (a constant added), so both are looked at
        *known, size = read([*losses, norm])
        loss_finite, norm_finite = all(map(math.isfinite, known)), math.isfinite(size)
        applied = loss_finite and norm_finite
        if applied:
            if self._clip is not None:
                parameters = [parameter for _, parameter in self._parameters]
                torch.nn.utils.clip_grads_with_norm_(parameters, self._clip, norm)
            with MemoryExplained(self.device):
                self._optimizer.step() if self._scaler is None else self._scaler.step(self._optimizer)
            self._update_average()
        if self._scaler is not None:
            self._scaler.update()
        for _, parameter in self._parameters:
            parameter.grad = None
        overflow = self._scaler is not None and loss_finite and not norm_finite
        return StepResult(applied, known, norm, scaler_overflow=overflow)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        if not self._averages:
            yield
            return
        self._swap_averages()
        try:
            yield
        finally:
            self._swap_averages()

    def reduce(self, value: Tensor | float, op: ReduceOp = "sum") -> Tensor:
        return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)

    def later(self, value: float) -> Callable[[], float]:
        return lambda: value

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def barrier(self) -> None:
        pass

    def full_state_dict(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self._setup_model().state_dict().items():
            yield name, tensor.detach().cpu()

    def channel(self) -> LocalEngine:
        return self  # nobody is on the other end

    def copy_shards(self) -> Shards:
        slots: dict[str, dict[str, Tensor]] = self._placed()
        if self._averages:
            slots["average"] = self._averages
        if self._optimizer is not None:
            for name, parameter in self._parameters:
                for key, value in self._optimizer.state.get(parameter, {}).items():
                    if isinstance(value, Tensor):
                        slots.setdefault(f"optimizer.{key}", {})[name] = value
        texts = {} if self._scaler is None else {"scaler.json": json.dumps(self._scaler.state_dict())}
        return copy_shards(self.rank, self.world_size, slots, texts=texts)

    def load_shards(self, directory: Path) -> None:
        slots = read_shards(directory)
        targets = {**self._placed(), "average": self._averages}
        with torch.no_grad():
            for slot, tensors in targets.items():
                saved = slots.get(slot, {})
                if set(saved) != set(tensors):
                    wrong = sorted(set(saved) ^ set(tensors))[:5]
                    raise IntegrityError(f"{directory}: {slot}s differ from the model's: {', '.join(wrong)}")
                for name, tensor in tensors.items():
                    tensor.copy_(saved[name].view(tensor.shape))
        if self._optimizer is not None:
            for name, parameter in self._parameters:
                state = {
                    slot.removeprefix("optimizer."): tensors[name].to(
                        # torch keeps step counters on the CPU, but for its fused kernels
                        "cpu"
                        if slot == "optimizer.step" and not self._optimizer.defaults.get("fused")
                        else parameter.device
                    )
                    for slot, tensors in slots.items()
                    if slot.startswith("optimizer.") and name in tensors
                }
                for key, value in state.items():
                    # the layout (channels_last) that torch would have made; a scalar parameter has a counter's shape
                    if key != "step" and value.shape == parameter.shape:
                        state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
                if state:
                    self._optimizer.state[parameter] = state
        if self._scaler is not None:
            self._scaler.load_state_dict(json.loads((directory / "scaler.json").read_text(encoding="utf-8")))

    def close(self) -> None:
        self._model = self._run = self._optimizer = None
        self._averages = {}
        self._parameters = []

    def _setup_model(self) -> NeuralModel:
        if self._model is None:
            raise RuntimeError("setup() comes first")
        return self._model

    def _placed(self) -> dict[str, dict[str, Tensor]]:
        """Parameters, frozen ones too, and the buffers that are part of the model's state."""
        model = self._setup_model()
        return {"parameter": dict(model.named_parameters()), "buffer": saved_buffers(model)}

    def _update_average(self) -> None:
        if self._averages and self._average is not None:
            with torch.no_grad():
                current = [parameter.detach() for _, parameter in self._parameters]
                torch._foreach_lerp_(list(self._averages.values()), current, 1.0 - self._average)

    def _swap_averages(self) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters:
                kept = parameter.detach().clone()
                parameter.copy_(self._averages[name])
                self._averages[name].copy_(kept)


def read(numbers: list[Tensor]) -> list[float]:
    """The values of 0-dimensional tensors of one device; one transfer from it, and one wait."""
    if all(each.device.type == "cpu" for each in numbers):  # where reading a number costs nothing, and a kernel would
        return [each.item() for each in numbers]
    found: list[float] = torch.stack(numbers).tolist()  # of several types, in the widest
    return found


def find_device(name: str) -> torch.device:
    """The device asked for; auto is CUDA, then MPS, then CPU, as found. No context is made on it: a launcher asks too.

    Raises:
        EngineError: it is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise EngineError(f"engine.device={name}: torch finds {count} CUDA devices", hint="use engine.device=auto")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise EngineError("engine.device=mps: torch finds no MPS device", hint="use engine.device=auto")
    return device


def find_precision(name: str, device: torch.device) -> torch.dtype:
    """The autocast type asked for; auto is bf16 on CUDA devices that compute in it, fp32 elsewhere (a V100 or T4 takes
    bf16 and only pretends).

    Raises:
        EngineError: the device does not have it.
    """
    if name == "auto":
        own = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if own else torch.float32
    if name == "fp32":
        return torch.float32
    dtype = torch.bfloat16 if name == "bf16" else torch.float16
    if dtype is torch.float16 and device.type == "cpu":
        raise EngineError("engine.precision=fp16: not on a CPU", hint="use engine.precision=bf16 or fp32")
    try:
        with torch.autocast(device.type, dtype=dtype):
            probe = torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)
    except RuntimeError as error:
        raise EngineError(f"engine.precision={name}: {device} refuses it ({error})", hint="use fp32") from error
    if probe.dtype is not dtype:
        raise EngineError(f"engine.precision={name}: {device} computes in {probe.dtype} instead", hint="use fp32")
    return dtype


class MemoryExplained:
    """Inside, running out of device memory says which options would help. Entered three times a step, so it is a class:
    a generator's context costs four times as much."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, torch.OutOfMemoryError):
            raise EngineError(
                f"{self._device} is out of memory: {str(error).splitlines()[0]}",
                hint="lower trainer.micro_batch_size (the global batch and the result stay the same), "
                "or use engine.precision=bf16, or a smaller model",
            ) from error


def total_norm(gradients: list[Tensor]) -> Tensor:
    """The 2-norm of all gradients together, a 0-dimensional tensor.

    Torch's `get_total_norm`, bit for bit where all are of one type; that sorts them by device and type first, which
    costs 0.07 ms a step.
    """
    if not gradients:
        return torch.zeros(())
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return norm


def train_modules(model: nn.Module, mode: bool) -> None:
    """Switch all modules; those that are frozen whole stay in evaluation mode (frozen batch norm keeps its
    statistics)."""
    model.train(mode)
    if mode:
        for module in model.modules():
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                module.train(False)


def move(value: Any, device: torch.device) -> Any:
    """Tensors, batches and mappings of them on a device; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if hasattr(value, "to"):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: move(each, device) for key, each in value.items()}
    return value
