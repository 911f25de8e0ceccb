"""Train, evaluate, predict: handwritten digits, from nothing to answers.

python examples/train.py [RUN_DIRECTORY]
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from sklearn.datasets import load_digits

import plait


def main(directory: Path) -> None:
    run = plait.train(
        "vision/image-classification", "vision/cnn", "digits", seed=0, out=directory, trainer={"epochs": 8}
    )
    print(f"trained in {run.info['seconds']:.1f} s, best after step {run.info['best_step']} of {run.info['steps']}")

    judged = plait.evaluate(run, split="test")
    print(f"test accuracy {judged.metrics['accuracy']:.3f} on {judged.examples} images")
    for name, splits in run.info["baselines"].items():
        print(f"     baseline {splits['test']['accuracy']:.3f} ({name})")

    predict = plait.load(run.path)  # anywhere, any time later; preprocessing comes with the weights
    images = (load_digits().images[:3] * (255 / 16)).astype("uint8")  # [3, 8, 8]; a path or a PIL image does as well
    for answer in predict(list(images)):
        assert answer.scores is not None
        print(f"predicted {answer.prediction} with probability {answer.scores[answer.prediction]:.3f}")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary, "digits"))
