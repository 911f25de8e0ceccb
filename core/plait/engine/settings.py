"""Which JSON does DeepSpeed get, and which of its own keys may a recipe set?

DeepSpeed ignores unknown keys at the top, so every key is looked at here, at every depth. What Plait decides itself
(batches, accumulation, clipping, schedule, optimizer, precision, checkpoints) is refused, naming the option that does.
So are Plait's own options where they do not go together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from plait.engine.mapped import MappedFiles
from plait.engine.world import World
from plait.errors import EngineError, RecipeError, did_you_mean
from plait.options import EngineOptions

Models = Mapping[str, type[BaseModel]]
"""DeepSpeed's own pydantic classes by the path of the block that they read."""

OURS: dict[str, str] = {
    "train_batch_size": "trainer.batch_size",
    "train_micro_batch_size_per_gpu": "trainer.micro_batch_size",
    "gradient_accumulation_steps": "trainer.micro_batch_size (smaller ones are accumulated)",
    "managed_gradient_accumulation": "trainer.micro_batch_size (smaller ones are accumulated)",
    "gradient_clipping": "trainer.clip",
    "optimizer": "trainer.optimizer",
    "scheduler": "trainer.schedule",
    "zero_allow_untested_optimizer": "trainer.optimizer",
    "zero_force_ds_cpu_optimizer": "trainer.optimizer",
    "fp16": "engine.precision=fp16",
    "bf16": "engine.precision=bf16",
    "amp": "engine.precision",
    "torch_autocast": "engine.precision",
    "data_types": "engine.precision",
    "checkpoint": "trainer.save_every and trainer.keep_last",
    "elasticity": "--resume with another engine.processes",
    "activation_checkpointing": "engine.activation_checkpointing",
    "compile": "engine.compile",
    "steps_per_print": "trainer.log_every",
    "dataloader_drop_last": "trainer.batch_size (no example is dropped)",
    "data_efficiency": "the task's reader",
    "curriculum_learning": "the task's reader",
    "tensorboard": "output.tensorboard",
    "wandb": "a tracker plugin",
    "csv_monitor": "metrics.jsonl, which every run has",
    "comet": "a tracker plugin",
    "aio": "engine.offload=nvme (its files are mapped by the system; DeepSpeed's async_io is not used)",
    "zero_optimization.stage": "engine.zero_stage",
    "zero_optimization.offload_optimizer": "engine.offload",
    "zero_optimization.offload_param": "engine.offload",
    "zero_optimization.cpu_offload": "engine.offload",
    "zero_optimization.cpu_offload_param": "engine.offload",
    "zero_optimization.cpu_offload_use_pin_memory": "engine.offload",
    "zero_optimization.overlap_comm": "engine.overlap",
    "zero_optimization.reduce_bucket_size": "engine.bucket_mb",
    "zero_optimization.allgather_bucket_size": "engine.bucket_mb",
    "zero_optimization.stage3_prefetch_bucket_size": "engine.bucket_mb",
    "zero_optimization.prefetch_bucket_size": "engine.bucket_mb",
    "zero_optimization.elastic_checkpoint": "--resume with another engine.processes",
    "zero_optimization.load_from_fp32_weights": "trainer.save_every and trainer.keep_last",
    "zero_optimization.stage3_gather_16bit_weights_on_model_save": "nothing: the model is always saved whole",
    "zero_optimization.gather_16bit_weights_on_model_save": "nothing: the model is always saved whole",
    "zero_optimization.stage3_gather_fp16_weights_on_model_save": "nothing: the model is always saved whole",
    "zero_optimization.compute_grad_norm": "nothing: every step looks whether its gradients are finite",
    "zero_optimization.legacy_stage1": "nothing: DeepSpeed no longer has it",
    "zero_optimization.zenflow": "nothing: its steps are not exact",
    "zero_optimization.zero_hpz_partition_size": "nothing: checkpoints do not know secondary partitions",
    "zero_optimization.zero_quantized_weights": "nothing: steps would not be exact",
    "zero_optimization.zero_quantized_nontrainable_weights": "nothing: steps would not be exact",
    "zero_optimization.zero_quantized_gradients": "nothing: steps would not be exact",
}
"""Keys that a recipe may not set -> what sets them, or why nothing does."""

PLAIN: dict[str, tuple[type, ...]] = {
    "communication_data_type": (str,),
    "seq_parallel_communication_data_type": (str,),
    "disable_allgather": (bool,),
    "dump_state": (bool,),
    "gradient_predivide_factor": (int, float),
    "memory_breakdown": (bool,),
    "prescale_gradients": (bool,),
    "sparse_gradients": (bool,),
    "wall_clock_breakdown": (bool,),
}
"""Keys at the top that pass through, with their types. Blocks that pass through are DeepSpeed's `Models`."""


def check(config: Mapping[str, Any], models: Models) -> None:
    """Refuse what DeepSpeed would ignore or what Plait decides.

    Raises:
        RecipeError: every bad key at once, each with its path, and a near name or the option to use.
    """
    details = list(_faults(config, models))
    if details:
        if len(details) == 1:
            only = details[0]
            raise RecipeError(f"{only['path']}: {only['message']}", hint=only.get("hint"), details=details)
        lines = (f"{e['path']}: {e['message']}" + (f"; {e['hint']}" if e.get("hint") else "") for e in details)
        raise RecipeError(f"{len(details)} errors in engine.config:\n  " + "\n  ".join(lines), details=details)


def check_combinations(options: EngineOptions, world: World) -> None:
    """Refuse options that are not to be had together, or not here.

    Raises:
        EngineError: says which, and what to use.
    """
    if options.processes not in (1, world.size):
        raise EngineError(
            f"engine.processes={options.processes}, and {world.launcher} started {world.size}",
            hint="leave engine.processes out where a launcher starts the processes",
        )
    if options.offload and options.zero_stage == 0:
        raise EngineError("engine.offload needs sharding", hint="use engine.zero_stage=2, or 3 for parameters too")
    if options.offload_directory is not None:
        MappedFiles(Path(options.offload_directory))
    if options.channels_last is True:
        raise EngineError("engine.channels_last=true: the deepspeed engine keeps parameters flat", hint="leave it out")
    if options.device == "mps":
        raise EngineError("engine.device=mps: DeepSpeed has no MPS", hint="use the local engine, or engine.device=cpu")


def deepspeed_config(options: EngineOptions, *, clip: float | None, elements: int) -> dict[str, Any]:
    """DeepSpeed's JSON for these options; the recipe's own block is merged in last.

    Every value whose default may change between DeepSpeed's patch releases and that would change a result is written:
    `gradient_clipping` left out has meant 1.0 since 0.19, and scales every gradient.

    Args:
        clip: the largest norm of the gradients that DeepSpeed is to leave alone; None: any.
        elements: how many the model has; no bucket needs more, and DeepSpeed's own would take 2 GB for a small one.
    """
    zero: dict[str, Any] = {"stage": options.zero_stage}
    if options.overlap is not None:
        zero["overlap_comm"] = options.overlap
    largest = 5e8 if options.bucket_mb is None else options.bucket_mb * 2**20 / 4
    bucket = max(2, -(-min(round(largest), elements) // 2) * 2)  # DeepSpeed's alignment wants an even number
    zero["reduce_bucket_size"] = bucket
    if options.zero_stage < 3:
        zero["allgather_bucket_size"] = bucket
    elif options.bucket_mb is not None:
        zero["stage3_prefetch_bucket_size"] = bucket
    if options.offload is not None:  # what nvme adds is Plait's (`mapped`): DeepSpeed sees the host's memory
        zero["offload_optimizer"] = {"device": "cpu"}
        if options.zero_stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    if options.offload == "nvme" and options.zero_stage == 3:
        zero["sub_group_size"] = 25_000_000  # elements updated at a time: what AdamW computes with is as large, twice
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,  # it wants one; batches are formed in the loop
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,  # else ZeRO 1 and 2 keep only the last micro-batch's gradient
        "gradient_clipping": float(clip or 0.0),
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": None,
    }
    for key, value in options.config.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), dict):
            config[key] = {**config[key], **value}
        else:
            config[key] = value
    return config


def _faults(config: Mapping[str, Any], models: Models) -> Iterator[dict[str, Any]]:
    tops = [*PLAIN, *(path for path in models if "." not in path), *(key for key in OURS if "." not in key)]
    for key, value in config.items():
        path = f"engine.config.{key}"
        if key in OURS:
            yield {"path": path, "message": f"set by {OURS[key]}", "hint": f"use {OURS[key]}"}
        elif key in PLAIN:
            if not isinstance(value, PLAIN[key]) or (isinstance(value, bool) and bool not in PLAIN[key]):
                expected = " or ".join(kind.__name__ for kind in PLAIN[key])
                yield {"path": path, "message": f"expected {expected}, not {value!r}"}
        elif key in models:
            yield from _block_faults(key, value, models)
        else:
            hint = did_you_mean(key, tops) or f"it passes on {', '.join(sorted({*PLAIN, *models}))}"
            yield {"path": path, "message": "DeepSpeed has no such key, or Plait does not pass it on", "hint": hint}


def _block_faults(path: str, block: Any, models: Models) -> Iterator[dict[str, Any]]:
    where = f"engine.config.{path}"
    if not isinstance(block, Mapping):
        yield {"path": where, "message": f"expected a mapping, not {block!r}"}
        return
    known = {info.alias or name for name, info in models[path].model_fields.items()} | set(models[path].model_fields)
    good = {}
    for key, value in block.items():
        inner = f"{path}.{key}"
        if inner in OURS:
            yield {"path": f"{where}.{key}", "message": f"set by {OURS[inner]}", "hint": f"use {OURS[inner]}"}
        elif key not in known:
            hint = did_you_mean(key, sorted(known)) or f"{path} has {', '.join(sorted(known))}"
            yield {"path": f"{where}.{key}", "message": "DeepSpeed has no such key", "hint": hint}
        elif inner in models:
            yield from _block_faults(inner, value, models)
        else:
            good[key] = value
    try:
        models[path](**good)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            deep = ".".join([where, *(str(part) for part in each["loc"])])
            yield {"path": deep, "message": f"{each['msg']} (got {each['input']!r})"}
