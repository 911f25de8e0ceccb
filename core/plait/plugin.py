"""What does the core itself offer? The same kind of module as any plugin's."""

from __future__ import annotations

from plait_registry import AdapterSpec, EngineSpec, PortSpec, TrainerSpec, hookimpl

plait_api = 1


@hookimpl
def plait_trainers() -> list[TrainerSpec]:
    return [
        TrainerSpec(
            name="gradient",
            summary="Networks: optimizers, schedules, accumulation, averaging, early stopping.",
            target="plait.training.gradient:GradientTrainer",
        ),
        TrainerSpec(
            name="iterative",
            summary="EM, alternating least squares and closed forms, with the same events and checkpoints.",
            target="plait.training.iterative:IterativeTrainer",
        ),
    ]


@hookimpl
def plait_engines() -> list[EngineSpec]:
    return [
        EngineSpec(
            name="local",
            summary="One process on the CPU, a CUDA device or MPS, in plain torch.",
            target="plait.engine.local:LocalEngine",
        ),
        EngineSpec(
            name="deepspeed",
            summary="Several processes, ZeRO sharding and offload, on DeepSpeed.",
            target="plait.engine.deepspeed:DeepSpeedEngine",
        ),
    ]


@hookimpl
def plait_ports() -> list[PortSpec]:
    summaries = {
        "text": "A text.",
        "image": "An image: a path, a PIL image, or an array [height, width, channels].",
        "audio": "A recording: a path, or samples with their rate.",
        "video": "Frames in time.",
        "label": "The name of a class.",
        "entities": "Spans of a text with their types.",
        "boxes": "Rectangles in an image with their classes.",
        "mask": "A class for each pixel.",
        "embedding": "A vector.",
        "history": "What a user did, in order.",
        "ranking": "Items in order of preference.",
        "number": "A number.",
    }
    return [PortSpec(name=name, summary=summary) for name, summary in summaries.items()]


@hookimpl
def plait_adapters() -> list[AdapterSpec]:
    return [
        AdapterSpec(
            name="label-to-text",
            summary="The label's name as a text.",
            target="plait.composition:label_to_text",
            source="label",
            returns="text",
        )
    ]
