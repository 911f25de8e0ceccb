"""Which options does every task, model, trainer and engine share, and which of them may change on resume?"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

RESUME: dict[str, JsonValue] = {"may_change_on_resume": True}
"""Put into a field's `json_schema_extra` where a run may be resumed with another value of it."""
PATH: dict[str, JsonValue] = {"is_path": True}
"""For a field whose text may be a path: a run's recipe keeps it absolute, so that it holds in any working directory."""
AFTERWARDS: dict[str, JsonValue] = {"may_change_afterwards": True}
"""For a field of a model's block that only says how answers are found: `plait predict RUN --set` may change it."""


class Options(BaseModel):
    """A block of a recipe: typed, frozen, unknown keys refused at every depth."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True, protected_namespaces=(),
        use_attribute_docstrings=True, allow_inf_nan=False,
    )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """The block as JSON values, keys as a recipe writes them."""
        return self.model_dump(mode="json", by_alias=True)


class DataOptions(Options):
    """The recipe's `data` block. A task adds its own fields by subclassing."""

    source: str | None = Field(default=None, json_schema_extra=RESUME | PATH)  # a fingerprint guards what is in it
    """A path, a registered data set's name, or None for data passed from Python."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Column names of a table, by the task's field: {"image": "file_name", "label": "species"}."""
    on_error: Literal["stop", "skip"] = "stop"
    """What a broken example does: stop before training, or be skipped and counted."""
    limit: int | None = Field(default=None, ge=1)
    """Keep at most this many examples of each split, drawn by the seed (the task does it, keeping its classes)."""


class ModelOptions(Options):
    """The recipe's `model` block. A model adds its own fields by subclassing."""

    name: str
    """A registered model, or a variant of a registered family: "timm/resnet18"."""
    from_: str | None = Field(default=None, alias="from", json_schema_extra=PATH)
    """A run to start from: its weights and preprocessing (fine-tuning)."""
    weights: str | None = Field(default=None, json_schema_extra=PATH)
    """A file or directory of weights to start from: .safetensors, or .bin/.pth read without executing anything."""
    freeze: tuple[str, ...] = ()
    """Names or patterns of parameters that are not trained: "backbone.*"."""


class TrainerOptions(Options):
    """The recipe's `trainer` block, as far as every trainer has it."""

    max_time: float | None = Field(default=None, gt=0, json_schema_extra=RESUME)
    """Stop after this many seconds of this process, with a checkpoint; `--max-time` also reads 90s, 10m, 2h."""
    save_every: int | None = Field(default=None, ge=1, json_schema_extra=RESUME)
    """Steps (iterations) between checkpoints; None: at every evaluation."""
    keep_last: int = Field(default=2, ge=2, json_schema_extra=RESUME)
    """Checkpoints to keep beside the best one; at least two, so that a damaged one has a predecessor."""
    save_in_background: bool = Field(default=False, json_schema_extra=RESUME)
    """Write checkpoints while training goes on, from a copy of the state in memory; the next one waits for the last."""
    evaluate_every: int | None = Field(default=None, ge=1)
    """Steps (iterations) between evaluations on `valid`; None: at the end of every epoch."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many evaluations without a better primary metric; None: never."""
    workers: int | None = Field(default=None, ge=0, json_schema_extra=RESUME)
    """Loader processes; None: none where the data are in memory, else one for each core up to four."""


class EngineOptions(Options):
    """The recipe's `engine` block."""

    name: str = Field(default="auto", json_schema_extra=RESUME)
    """auto, or a registered engine."""
    processes: int = Field(default=1, ge=1, json_schema_extra=RESUME)
    """Processes that train together, on all hosts; `--nproc`."""
    hosts: tuple[str, ...] = Field(default=(), json_schema_extra=RESUME)
    """Hosts that share the processes evenly, each a name, the first also with a port ("gpu1:29400"): the same command
    runs on each, and sees the same run directory and data; `--hosts FILE`, one a line. None: this one."""
    device: str = Field(default="auto", json_schema_extra=RESUME)
    """auto (CUDA, then MPS, then CPU, as found), or a torch device."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Autocast type; auto is bf16 on CUDA devices that have it, fp32 elsewhere."""
    zero_stage: Literal[0, 1, 2, 3] = Field(default=0, json_schema_extra=RESUME)
    """What DeepSpeed shards: 1 optimizer state, 2 and gradients, 3 and parameters."""
    offload: Literal["cpu", "nvme"] | None = Field(default=None, json_schema_extra=RESUME)
    """Where DeepSpeed keeps the optimizer's state (stage 3: parameters too) between steps; None: on the device. cpu: in
    the host's memory; nvme: float32 master weights, moments and averages on a disk, in files of `offload_directory`,
    the rest as with cpu."""
    offload_directory: str | None = Field(default=None, json_schema_extra=RESUME | PATH)
    """For offload=nvme: a directory on a fast disk of each host. Nothing is left in it."""
    activation_checkpointing: bool = Field(default=False, json_schema_extra=RESUME)
    """Compute the activations of repeated blocks twice instead of keeping them: less memory, about a third slower."""
    overlap: bool | None = Field(default=None, json_schema_extra=RESUME)
    """DeepSpeed reduces gradients while the backward goes on; None: as DeepSpeed finds best for the stage."""
    bucket_mb: float | None = Field(default=None, gt=0, json_schema_extra=RESUME)
    """Megabytes that DeepSpeed reduces or gathers at a time (float32); None: DeepSpeed's own, about 2000."""
    sync_batch_norm: bool = False
    """Batch norm over the examples of all processes, as one process would see them; else each normalises its own share.
    Every micro-batch has statistics of its own."""
    timeout: float = Field(default=600.0, gt=0, json_schema_extra=RESUME)
    """Seconds that a process may be silent, do nothing, or make the others wait inside a step, before the run ends. One
    that works outside a step (reads, fits a tokenizer, evaluates, saves) has no limit."""
    max_restarts: int = Field(default=0, ge=0, json_schema_extra=RESUME)
    """How often a run whose process died is started again from its last good checkpoint; `--max-restarts`."""
    config: dict[str, JsonValue] = Field(default_factory=dict, json_schema_extra=RESUME)
    """Further settings of DeepSpeed's own JSON, as its documentation has them; checked at every depth."""
    fused: bool | Literal["auto"] = "auto"
    """Make the update of adamw, adam or sgd by one kernel; auto: on CUDA. On the CPU adamw's is six times as fast, and
    rounds otherwise."""
    peak_tflops: float | None = Field(default=None, gt=0, json_schema_extra=RESUME)
    """What a process's device is made for, where its name is not known: the logged utilisation is a part of it."""
    compile: bool = False
    """Compile the model with torch.compile: slow to start, then faster at larger batches."""
    channels_last: bool | Literal["auto"] = "auto"
    """Memory layout of 4-dimensional weights and images; auto: yes where the model asks for it."""
    threads: int | None = Field(default=None, ge=1, json_schema_extra=RESUME)
    """CPU threads of torch; None: as torch finds them."""

    @field_validator("device")
    @classmethod
    def _known(cls, device: str) -> str:
        if device not in ("auto", "cpu", "mps", "cuda") and not device.removeprefix("cuda:").isdecimal():
            raise ValueError("expected auto, cpu, mps, cuda or cuda:N")
        return device

    @model_validator(mode="after")
    def _offloaded(self) -> Self:
        if self.offload == "nvme" and self.offload_directory is None:
            raise ValueError("engine.offload=nvme needs engine.offload_directory, a directory on a fast disk")
        if self.offload != "nvme" and self.offload_directory is not None:
            raise ValueError("engine.offload_directory is for engine.offload=nvme alone")
        return self


class OutputOptions(Options):
    """The recipe's `output` block."""

    directory: str | None = Field(default=None, json_schema_extra=RESUME)
    """The run directory, `--out`; None: runs/<task>-<model>-<date>."""
    baselines: bool = True
    """Fit the task's baselines too and print them in the report."""
    report: bool = Field(default=True, json_schema_extra=RESUME)
    """Write report.html."""
    tensorboard: bool = Field(default=True, json_schema_extra=RESUME)
    """Write TensorBoard events."""
