"""What must hold for every task with every model that serves it?"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import numpy as np

from plait.artifact import load_model
from plait.errors import DataError, IntegrityError, Interrupted
from plait.fitting import fit_recipe
from plait.judging import evaluate_run
from plait.model import IterativeModel, Model, NeuralModel
from plait.options import DataOptions, ModelOptions, Options
from plait.predictor import Predictor
from plait.preparing import read_splits
from plait.sealed import COMPLETE, EXECUTABLE_FORMATS, MANIFEST
from plait.task import Prediction, Task
from plait.testing.cases import Trial
from plait.testing.learning import learns
from plait.testing.pausing import pausing
from plait.testing.sampling import batches
from plait.testing.verdicts import Failed, Skipped, require

Check = Callable[[Trial], None]


def resolves(trial: Trial) -> None:
    """Targets import, they are a task and a model of the kind that the trainer fits, and their options print."""
    task, model = trial.case.task.resolve(), trial.case.model.resolve()
    trainer = trial.model_spec.trainer
    kinds: dict[str | None, type] = {"gradient": NeuralModel, "iterative": IterativeModel}
    for target, found, kind, options in (
        (trial.task_spec.target, task, Task, DataOptions),
        (trial.model_spec.target, model, kinds.get(trainer, Model), ModelOptions),
    ):
        require(
            isinstance(found, type) and issubclass(found, kind),
            f"{target} is {found!r}",
            expected=f"a subclass of plait's {kind.__name__}, to go with the spec's trainer={trainer!r}",
        )
        missing = sorted(getattr(found, "__abstractmethods__", ()))
        require(not missing, f"{target} leaves {', '.join(missing)} unwritten", expected="a body of each")
        _options_print(target, found.Options, options)
    trial.recipe(trial.directory)


def _options_print(target: str, options: Any, base: type[Options]) -> None:
    require(
        isinstance(options, type) and issubclass(options, base),
        f"{target}.Options is {options!r}",
        expected=f"a subclass of plait.options.{base.__name__}, so that unknown keys are refused",
    )
    schema = json.loads(json.dumps(options.model_json_schema()))
    mute = [name for name, entry in schema["properties"].items() if "description" not in entry]
    require(
        not mute,
        f"{target}.Options has fields without a word on them: {', '.join(mute)}",
        expected='a docstring under each field ("""Units of the hidden layer."""), which `plait show` prints',
    )


def ports(trial: Trial) -> None:
    """Every port type of the task is registered."""
    known = [entry.name for entry in trial.registry.entries("port")]
    for port, kind in (*trial.task_spec.accepts.items(), *trial.task_spec.returns.items()):
        require(
            kind in known,
            f"{trial.task_spec.name}: port {port!r} is of type {kind!r}, which nobody registered",
            expected=f"one of {', '.join(known)}, or a PortSpec(name={kind!r}, ...) from the hook plait_ports",
        )


def trains(trial: Trial) -> None:
    """A tiny training on the demo data runs to its end, and gives numbers.

    A model that only predicts is asked for the first examples, as `plait run` does.
    """
    run = trial.run
    require(run.status == "finished", f"the run's status is {run.status!r}", expected="'finished'")
    primary = trial.task_spec.primary_metric
    judged = [name for name in ("valid", "test") if (part := trial.splits[name]) is not None and len(part)]
    if not trial.fitted and primary is None:
        return
    require(bool(judged), "the demo data have neither valid nor test", expected="Task.read carves or reads one")
    for split in judged:
        metrics = run.metrics.get(split, {})
        if primary is not None:
            require(
                math.isfinite(metrics.get(primary.name, math.nan)),
                f"{split}: {primary.name!r} is {metrics.get(primary.name)}; there are {', '.join(metrics)}",
                expected="Evaluator.compute gives a finite number under the name of TaskSpec.primary_metric",
            )


def saves(trial: Trial) -> None:
    """What was saved predicts what the fitted model predicted, bit for bit, and so does what is saved again."""
    run, model = trial.run, trial.model
    task, problem = trial.predictor.artifact.task, trial.predictor.artifact.problem
    # as the run has it: other batches may round the last bit of a sum otherwise
    batch_size = getattr(trial.recipe(trial.directory).trainer, "evaluation_batch_size", None) or 256
    for split, fitted in run.metrics.items():
        if split == "valid" and run.info.get("refit"):
            continue  # judged before the model was fitted once more, with valid
        loaded = evaluate_run(run, None, split=split, batch_size=batch_size, registry=trial.registry).metrics
        wrong = _unequal(fitted, loaded)
        require(
            not wrong,
            f"{split}: the loaded model has other metrics than the fitted one had: {wrong}",
            expected="`save` writes everything that `predict` uses, and `load` puts it back",
        )
    examples = _some(trial)
    again = trial.directory / "saved-again"
    again.mkdir()
    model.save(again)
    copy = type(model).load(again, options=model.options, problem=problem)
    first, second = ([task.present(each, problem) for each in one.predict(examples)] for one in (model, copy))
    require(
        len(first) == len(examples), f"predict gave {len(first)} predictions for {len(examples)} examples",
        expected="one for each, in order",
    )  # fmt: skip
    different = [index for index, pair in enumerate(zip(first, second, strict=True)) if not _equal(*pair)]
    require(
        not different,
        f"saved and loaded again, {len(different)} of {len(examples)} predictions differ; the first: "
        f"{first[different[0]] if different else ''} became {second[different[0]] if different else ''}",
        expected="bit for bit the same predictions",
    )
    for answer in first:
        _presentable(answer, trial)


def _presentable(answer: Prediction, trial: Trial) -> None:
    require(
        isinstance(answer, Prediction) and set(answer.outputs) == set(trial.task_spec.returns),
        f"present gave outputs {sorted(getattr(answer, 'outputs', ()))}",
        expected=f"Prediction(outputs=...) has the task's output ports: {sorted(trial.task_spec.returns)}",
    )
    try:
        json.dumps([answer.prediction, answer.scores], allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Failed(
            f"present gave {answer.prediction!r} with scores {answer.scores!r}: {error}; expected: JSON values, so "
            "float(x) of a NumPy number"
        ) from error


def resumes(trial: Trial) -> None:
    """Stopped in its middle and resumed, a training ends with the same weights and logs, bit for bit."""
    if not trial.fitted:
        raise Skipped("the model only predicts (trainer=None in its spec): there is no training to interrupt")
    steps = int(trial.run.info["steps"])
    if steps < 2:
        raise Skipped("fitted in one step: there is nothing to interrupt")
    after = min(steps - 1, steps // 2 + 1)
    recipe = trial.recipe(trial.directory / "interrupted", report=False)
    assert recipe.trainer_type is not None
    try:
        fit_recipe(replace(recipe, trainer_type=pausing(recipe.trainer_type, after=after)), trial.registry)
    except Interrupted:
        pass
    else:
        raise Failed(f"asked to stop after step {after} of {steps}, the fit went on; expected: it heeds `fit.stop()`")
    resumed = fit_recipe(recipe, trial.registry, resume=True).path
    whole = trial.run.path
    names = sorted({*_files(whole / "model"), *_files(resumed / "model")})
    differing = [name for name in names if _bytes(whole / "model" / name) != _bytes(resumed / "model" / name)]
    require(
        not differing,
        f"stopped after step {after} of {steps} and resumed, these files of model/ differ: {', '.join(differing)}",
        expected="the same bytes: everything that a step uses is in the checkpoint (parameters, buffers, State), and "
        "randomness comes from keys, seeds or the global generators only",
    )
    one, other = _log(whole), _log(resumed)
    pairs = enumerate(zip_longest(one, other, fillvalue="nothing"), start=1)
    line, before, after_resume = next(((line, *pair) for line, pair in pairs if pair[0] != pair[1]), (0, "", ""))
    require(
        not line,
        f"stopped after step {after} of {steps} and resumed, line {line} of metrics.jsonl is {after_resume} instead of "
        f"{before}",
        expected="the same lines, apart from `seconds`",
    )


def refuses(trial: Trial) -> None:
    """Broken input gets the documented error, and spoils nothing else."""
    recipe = trial.recipe(trial.directory)
    nowhere = trial.directory / "there-is-no-such-file"
    try:
        read_splits(trial.task, recipe, trial.registry, nowhere)
    except DataError as error:
        named = nowhere.name in error.message
        require(named, f"a missing path gave {error.message!r}", expected="a message that names it")
    else:
        raise Failed(f"Task.read({str(nowhere)!r}) raised nothing; expected: DataError, which names the path")
    artifact = trial.predictor.artifact
    predictor = Predictor(replace(artifact, task=cast(Task, _Given(artifact.task))), path=trial.run.path)
    accepts = trial.task_spec.accepts
    good = [dict.fromkeys(accepts, _Example(each)) for each in _some(trial)[:2]]
    bad = [dict.fromkeys(accepts, object()), {"there-is-no-such-port": 1}]
    alone = predictor.predict(good)
    answers = predictor.predict([good[0], *bad, *good[1:]])
    for wrong, answer in zip(("object()", "an unknown port"), answers[1:3], strict=True):
        require(
            bool(answer.error) and answer.prediction is None,
            f"{wrong} as input gave {answer.prediction!r}",
            expected="Task.parse raises plait.errors.InputError, and the prediction's `error` says what is wrong",
        )
    kept = [answers[0], *answers[3:]]
    require(
        all(map(_equal, kept, alone)) and not any(each.error for each in kept),
        f"beside broken inputs, good ones gave {kept}",
        expected="what they give without them",
    )


class _Example:
    """A value of an input port that stands for an example that is read already."""

    def __init__(self, example: Any) -> None:
        self.example = example


class _Given:
    """A task that also takes examples as they are: only it knows which raw inputs are good ones."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def parse(self, inputs: Mapping[str, Any], problem: Any) -> Any:
        value = next(iter(inputs.values()), None)
        return value.example if isinstance(value, _Example) else self._task.parse(inputs, problem)


def artefact(trial: Trial) -> None:
    """The run holds nothing that could be executed, and a byte that changed in its model is found and named."""
    run = trial.run.path
    pickles = [
        name
        for name in _files(run)
        if Path(name).suffix in EXECUTABLE_FORMATS
        or ((start := _bytes(run / name) or b"").startswith(_PICKLES) and not _holds_tensors(start))
    ]
    require(
        not pickles,
        f"the run holds {', '.join(pickles)}",
        expected="no pickle and no code: tensors by plait.weights.save_tensors, everything else as JSON",
    )
    for name in _files(run / "model"):
        copy = trial.directory / "flipped"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run / "model", copy)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        try:
            load_model(copy, trial.registry)
        except IntegrityError as error:
            named = name in error.message or name in (COMPLETE, MANIFEST)
            require(named, f"a changed byte of {name} gave {error.message!r}", expected="a message that names the file")
        else:
            raise Failed(f"a changed byte of {name} went unnoticed; expected: IntegrityError")


def _holds_tensors(content: bytes) -> bool:
    """Whether it is safetensors: eight bytes for the size of a header (640 begins as a pickle does), and JSON."""
    try:
        return isinstance(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]), dict)
    except ValueError:
        return False


_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK")


def _some(trial: Trial, count: int = 8) -> Sequence[Any]:
    """A few examples of the split that is judged last."""
    split = next(part for name in ("test", "valid", "train") if (part := trial.splits[name]) is not None and len(part))
    return [split[index] for index in range(min(count, len(split)))]


def _equal(one: Any, other: Any) -> bool:
    """Whether two answers are the same; they may hold arrays, which have no truth of their own."""
    if isinstance(one, Prediction) and isinstance(other, Prediction):
        return all(_equal(getattr(one, name), getattr(other, name)) for name in Prediction.__dataclass_fields__)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if hasattr(one, "shape") and hasattr(other, "shape"):
        return bool(np.array_equal(np.asarray(one), np.asarray(other)))
    return bool(one == other)


def _unequal(one: Mapping[str, float], other: Mapping[str, float]) -> str:
    """The metrics that differ, as text; two NaN are equal."""
    names = [name for name in {**one, **other} if not _same(one.get(name), other.get(name))]
    return ", ".join(f"{name} {one.get(name)} became {other.get(name)}" for name in names)


def _same(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and math.isnan(one) and math.isnan(other))


def _files(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _log(run: Path) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [{key: value for key, value in line.items() if key not in ("seconds", "speed")} for line in lines]


CHECKS: Mapping[str, Check] = {
    each.__name__: each for each in (resolves, ports, trains, batches, learns, saves, resumes, refuses, artefact)
}
"""The checks by name, in the order that they are run; each one's docstring is what it promises."""
