"""What does the tabular plugin offer? Specs only: this module imports no implementation."""

from __future__ import annotations

from plait_registry import AdapterSpec, DatasetSpec, Metric, ModelSpec, PortSpec, TaskSpec, hookimpl

plait_api = 1

_TASK = "tabular/classification"


@hookimpl
def plait_ports() -> list[PortSpec]:
    return [PortSpec(name="row", summary="A row of a table: a mapping from column names to numbers and texts.")]


@hookimpl
def plait_tasks() -> list[TaskSpec]:
    return [
        TaskSpec(
            name=_TASK,
            summary="Sort rows of a table into classes",
            target="plait_tabular.task:TabularClassification",
            accepts={"row": "row"},
            returns={"label": "label"},
            primary_metric=Metric("accuracy", True),
            models=("tabular/mlp", "tabular/mixture", "tabular/naive-bayes"),
            default_model="tabular/mlp",
            baselines=("tabular/naive-bayes",),
            demo_data="wine",
        )
    ]


@hookimpl
def plait_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            name="tabular/mlp",
            summary="Multi-layer perceptron on standardised numbers and one-hot texts",
            target="plait_tabular.mlp:Mlp",
            tasks=(_TASK,),
            trainer="gradient",
            defaults={"trainer.epochs": 40, "trainer.learning_rate": 0.01},
            conformance=({"model.hidden": [16]}, {"model.hidden": [], "data.source": "passengers"}),
        ),
        ModelSpec(
            name="tabular/naive-bayes",
            summary="Naive Bayes, Gaussian for numbers and categorical for texts, in closed form",
            target="plait_tabular.mixture:Mixture",
            tasks=(_TASK,),
            trainer="iterative",
            defaults={"model.components": 1},
            conformance=({}, {"data.source": "passengers"}),
        ),
        ModelSpec(
            name="tabular/mixture",
            summary="A mixture of naive Bayes components for each class, fitted by EM",
            target="plait_tabular.mixture:Mixture",
            tasks=(_TASK,),
            trainer="iterative",
            conformance=({"model.components": 2}, {"model.components": 3, "data.source": "passengers"}),
        ),
    ]


@hookimpl
def plait_datasets() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="wine",
            summary="178 wines of three growers, 13 measurements (UCI wine, as scikit-learn ships it)",
            target="plait_tabular.demo_data:wine",
            tasks=(_TASK,),
            license="CC BY 4.0 (S. Aeberhard, M. Forina, UCI Machine Learning Repository)",
        ),
        DatasetSpec(
            name="passengers",
            summary="240 made-up passengers with numbers and texts, in two classes",
            target="plait_tabular.demo_data:passengers",
            tasks=(_TASK,),
            synthetic=True,
        ),
    ]


@hookimpl
def plait_adapters() -> list[AdapterSpec]:
    return [
        AdapterSpec(
            name="row-to-text",
            summary='A sentence for each column: "age is 31. class is second."',
            target="plait_tabular.adapters:row_to_text",
            source="row",
            returns="text",
        ),
        AdapterSpec(
            name="label-to-row",
            summary="A row with one column, `label`, for a task that was trained on such rows",
            target="plait_tabular.adapters:label_to_row",
            source="label",
            returns="row",
        ),
    ]
