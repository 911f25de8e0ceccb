"""How are a few small matrices trained in place of a whole network (LoRA, Hu et al. 2021)?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from plait.errors import RecipeError
from plait_nlp.architectures.options import LoraOptions


def add_lora(network: Any, options: LoraOptions, *, head: Sequence[str]) -> None:
    """Put low-rank matrices beside a network's layers, in place, and freeze all but them and the head.

    Args:
        head: names of the modules that are trained whole.

    Raises:
        RecipeError: peft is not installed, or no layer has such a name.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise RecipeError(f"model.lora needs peft: {error}", hint="pip install 'plait-nlp[lora]'") from error
    targets = list(options.targets) if options.targets else _linear_layers(network, head)
    config = LoraConfig(r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=targets)
    try:
        inject_adapter_in_model(config, network)
    except ValueError as error:
        names = sorted(
            {name.rsplit(".", 1)[-1] for name, each in network.named_modules() if isinstance(each, nn.Linear)}
        )
        raise RecipeError(f"model.lora.targets: {error}", hint=f"linear layers end in {', '.join(names)}") from error
    whole = tuple(f"{name}." for name in head)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(whole) or "lora_" in name)


def _linear_layers(network: Any, head: Sequence[str]) -> list[str]:
    """Ends of the names of a trunk's attention layers, else of all its linear ones."""
    inside = [
        name for name, each in network.named_modules()
        if (isinstance(each, nn.Linear) or type(each).__name__ == "Conv1D") and name.split(".", 1)[0] not in head
    ]  # fmt: skip
    ends = {name.rsplit(".", 1)[-1] for name in inside}
    attention = ends & {
        "query",
        "value",
        "q_lin",
        "v_lin",
        "q_proj",
        "v_proj",
        "c_attn",
        "q",
        "v",
        "query_proj",
        "value_proj",
    }
    return sorted(attention or ends)
