"""Compare two models: is one better than the other, or were the test images only lucky?

python examples/compare_two_models.py
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import plait

MODELS = ("vision/cnn", "vision/mlp")


def main(directory: Path) -> None:
    runs = [
        plait.train(
            "vision/image-classification", model, "digits", seed=0,
            out=directory / model.replace("/", "-"), trainer={"epochs": 6}, output={"baselines": False},
        )
        for model in MODELS
    ]  # fmt: skip
    for run in runs:
        interval = run.info["intervals"]["test"]
        print(
            f"{run.model:12} {run.metrics['test']['accuracy']:.3f}"
            f"  [{interval['low']:.3f}, {interval['high']:.3f}]  {run.info['seconds']:.1f} s"
        )

    # both judged the same images, so a paired bootstrap sees finer differences than the two intervals do
    found = plait.compare(*runs)
    print(
        f"difference   {found['difference']:+.3f}  [{found['low']:+.3f}, {found['high']:+.3f}]"
        f"  p = {found['p_value']:.3f} on {found['examples']} images"
    )


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(Path(temporary))
