"""What does this plugin offer? Specs only: their targets are imported when they are used."""

from __future__ import annotations

from plait_registry import DatasetSpec, Metric, ModelSpec, PortSpec, TaskSpec, hookimpl

plait_api = 1


@hookimpl
def plait_ports() -> list[PortSpec]:
    return [PortSpec(name="sprout-row", summary="A row: a mapping from column names to numbers, or its JSON text.")]


@hookimpl
def plait_tasks() -> list[TaskSpec]:
    return [
        TaskSpec(
            name="sprout/row-classification",
            summary="Sort rows of numbers into classes",
            target="plait_sprout.task:RowClassification",
            accepts={"row": "sprout-row"},
            returns={"label": "label"},
            primary_metric=Metric("accuracy", True),
            models=("sprout/nearest-mean",),
            default_model="sprout/nearest-mean",
            demo_data="sprout/demo",
        )
    ]


@hookimpl
def plait_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            name="sprout/nearest-mean",
            summary="The class whose mean is nearest, in closed form",
            target="plait_sprout.model:NearestMean",
            tasks=("sprout/row-classification",),
            trainer="iterative",
        )
    ]


@hookimpl
def plait_datasets() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="sprout/demo",
            summary="180 generated rows around three points",
            target="plait_sprout.task:demo",
            tasks=("sprout/row-classification",),
            synthetic=True,
        )
    ]
