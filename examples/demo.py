"""The demo: list what is installed, then train, evaluate, predict and compare two models on real handwritten digits.

Every step is a `plait` command that you can run yourself; each is printed before it runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

TASK = "vision/image-classification"
MODELS = ("vision/cnn", "vision/mlp")


def plait(*words: str, quiet: bool = False) -> str:
    """Run a plait command, show it and what it prints, and return its stdout."""
    print("\n$ plait " + " ".join(words), flush=True)
    command = [sys.executable, "-m", "plait", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603  # our own command
    if done.returncode:
        sys.exit(done.returncode)
    if not quiet:
        print(done.stdout.rstrip(), flush=True)
    return done.stdout


def save_digits(run: Path, folder: Path, count: int) -> list[str]:
    """Write digits of the test split, which the run never trained on, as PNG files with their label in the name."""
    import numpy as np
    import pyarrow.parquet as pq
    from PIL import Image
    from sklearn.datasets import load_digits

    folder.mkdir(parents=True)
    digits = load_digits()
    rows = pq.read_table(run / "splits.parquet").to_pylist()
    test = [int(row["id"].rsplit("/", 1)[-1]) for row in rows if row["split"] == "test"]
    paths = []
    for index in test[:: len(test) // count][:count]:
        path = folder / f"digit-{digits.target[index]}-{index:04d}.png"
        Image.fromarray((digits.images[index] * 255 / 16).round().astype(np.uint8)).save(path)
        paths.append(str(path))
    return paths


def main() -> None:
    begun = time.monotonic()
    root = Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S")
    plait("list", "--modality", "vision")
    rows = []
    for model in MODELS:
        out = str(root / model.rsplit("/", 1)[-1])
        plait("train", TASK, "--model", model, "--data", "digits", "--seed", "1", "--out", out, "--json", quiet=True)
        judged = json.loads(plait("evaluate", out, "--json"))
        run = json.loads((Path(out) / "run.json").read_text(encoding="utf-8"))
        interval = run["intervals"]["test"]
        rows.append((model, judged["metrics"]["accuracy"], interval, run["seconds"], out))
    baseline = run["baselines"]["vision/nearest-centroid"]["test"]["accuracy"]
    plait("predict", rows[0][-1], *save_digits(Path(rows[0][-1]), root / "digits", 5))
    plait("compare", *(row[-1] for row in rows))

    print(f"\nReal handwritten digits, 8x8 pixels (scikit-learn); test: {judged['examples']} images, seed 1\n")
    print(f"{'model':26}{'test accuracy':>14}   {'95 % interval':18}{'seconds':>8}   report")
    for model, accuracy, interval, seconds, out in rows:
        between = f"{interval['low']:.4f} to {interval['high']:.4f}"
        print(f"{model:26}{accuracy:14.4f}   {between:18}{seconds:8.1f}   {out}/report.html")
    print(f"{'vision/nearest-centroid':26}{baseline:14.4f}   (the baseline that every report prints)")
    print(f"\n{time.monotonic() - begun:.0f} seconds in all. Open {rows[0][-1]}/report.html in a browser.")


if __name__ == "__main__":
    main()
