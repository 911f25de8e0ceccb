"""Which tasks and models are there to check, and with which tiny recipes?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from plait.config import Recipe, resolve
from plait.demonstration import demonstrate
from plait.errors import AmbiguousNameError, PluginError, did_you_mean
from plait.fitting import fit_recipe
from plait.layers import Layer, options_layer
from plait.model import Model
from plait.options import TrainerOptions
from plait.predictor import Predictor
from plait.preparing import read_splits
from plait.run import Run
from plait.task import Problem, Split, Splits, Task
from plait.testing.verdicts import Failed, Skipped, require
from plait_registry.entry import normalised
from plait_registry.registry import Entry, Registry
from plait_registry.specs import ModelSpec, TaskSpec

TINY: Mapping[str, Any] = {
    "data.limit": 64,
    "trainer.epochs": 2,
    "trainer.iterations": 6,
    "trainer.batch_size": 16,
    "trainer.evaluation_batch_size": 256,
    "trainer.log_every": 1,
    "trainer.workers": 0,
    "engine.device": "cpu",
    "output.baselines": False,
    "output.tensorboard": False,
    "seed": 0,
}
"""What a case trains with where its variant says nothing else; options that its trainer lacks are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A task, a model that serves it, and one of the model's conformance variants.

    Args:
        number: of the variant, from 1; 0 where the model names none and its defaults are checked.
        settings: the variant: recipe keys and values.
    """

    task: Entry
    model: Entry
    number: int = 0
    settings: Mapping[str, Any]

    @property
    def model_name(self) -> str:
        """The model, or the family's variant, that is checked."""
        return str(self.settings.get("model.name", self.model.name))

    def __str__(self) -> str:
        return f"{self.task.name}+{self.model_name}" + (f"#{self.number}" if self.number > 1 else "")


def cases(registry: Registry, distribution: str | None = None) -> list[Case]:
    """Every task with every model that serves it, once for each of the model's variants.

    Args:
        distribution: only those whose task or model is from it; None: all.

    Raises:
        PluginError: there is none, because it is not installed, broken, or offers neither task nor model.
    """
    wanted = None if distribution is None else normalised(distribution)
    found = [
        Case(task=task, model=model, number=number, settings=settings)
        for task in registry.entries("task")
        for model in registry.models_for(task.qualified)
        if wanted is None or wanted in (normalised(task.distribution), normalised(model.distribution))
        for number, settings in _variants(model, task)
    ]
    if not found:
        raise _nothing(registry, distribution)
    return found


def _variants(model: Entry, task: Entry) -> list[tuple[int, Mapping[str, Any]]]:
    """The model's variants that are for this task, without the word that says so."""
    assert isinstance(model.spec, ModelSpec)
    own = [each for each in model.spec.conformance if each.get("task") in (None, task.name, task.qualified)]
    tiny = ({key: value for key, value in each.items() if key != "task"} for each in own)
    return [*enumerate(tiny, start=1)] or [(0, {})]


def _nothing(registry: Registry, distribution: str | None) -> PluginError:
    if distribution is None:
        return PluginError("no installed plugin offers a task and a model for it", hint="pip install plait-vision")
    plugins = {normalised(plugin.distribution): plugin for plugin in registry.plugins}
    plugin = plugins.get(normalised(distribution))
    if plugin is None:
        hint = did_you_mean(distribution, plugins)
        return PluginError(f"no plugin of a distribution {distribution!r} is installed", hint=hint)
    if plugin.status != "ok":
        return PluginError(str(plugin), hint=plugin.hint)
    offered = ", ".join(plugin.provides) or "nothing"
    return PluginError(f"{plugin} offers no task with a model that serves it, and no such model (it offers {offered})")


class Trial:
    """A case being checked. What several checks need (data, a trained run) is made once, when first asked for.

    Args:
        directory: an empty one that exists; runs are written into it.
    """

    def __init__(self, case: Case, registry: Registry, directory: Path) -> None:
        self.case = case
        self.registry = registry
        self.directory = directory
        self._training_failed = False

    @property
    def task_spec(self) -> TaskSpec:
        assert isinstance(self.case.task.spec, TaskSpec)
        return self.case.task.spec

    @property
    def model_spec(self) -> ModelSpec:
        assert isinstance(self.case.model.spec, ModelSpec)
        return self.case.model.spec

    @property
    def fitted(self) -> bool:
        """Whether the model is fitted to data; else it only predicts."""
        return self.model_spec.trainer is not None

    @property
    def module(self) -> str:
        """The module of the model, where an unexpected error is most likely from."""
        return self.model_spec.target.partition(":")[0]

    def recipe(self, directory: Path, *, report: bool = True) -> Recipe:
        """The case's recipe, with `directory` as its run; nothing of the environment counts.

        Raises:
            Failed: the task and the variant name no data, or a family names no variant.
        """
        require(
            not self.case.model_name.endswith("/*"),
            f"the family {self.case.model.name} has no conformance variant to train",
            expected="ModelSpec.conformance names small members: ({'model.name': 'timm/test_resnet'},)",
        )
        name = _spelt(self.registry, self.case.model, self.case.model_name)
        settings = {"data.source": self.task_spec.demo_data, **self._tiny(), **self.case.settings, "model.name": name}
        require(
            settings["data.source"] is not None,
            f"there are no data to {'train on' if self.fitted else 'predict for'}",
            expected="TaskSpec.demo_data (or 'data.source' in the variant) names a small registered data set",
        )
        first = Layer("conformance", {"task": _spelt(self.registry, self.case.task, self.case.task.name)})
        settings |= {"output.directory": str(directory), "output.report": report}
        return resolve([first, options_layer((), settings)], self.registry)

    def _tiny(self) -> dict[str, Any]:
        options: Any = TrainerOptions
        if self.fitted:
            options = self.registry.trainer(str(self.model_spec.trainer)).resolve().Options
        known = {f"trainer.{name}" for name in options.model_fields}
        return {key: value for key, value in TINY.items() if not key.startswith("trainer.") or key in known}

    @cached_property
    def splits(self) -> Splits:
        """The demo data, as the task reads them, limited."""
        return read_splits(self.task, self.recipe(self.directory), self.registry)[0]

    @cached_property
    def task(self) -> Task:
        recipe = self.recipe(self.directory)
        return recipe.task_type(options=recipe.data, seed=recipe.seed)

    @cached_property
    def problem(self) -> Problem:
        """What the model learns of the data."""
        return self.task.problem(self.splits)

    @property
    def train(self) -> Split:
        """The training examples.

        Raises:
            Failed: there are none.
        """
        split = self.splits.train
        if split is None or not len(split):
            raise Failed("the demo data have no training examples; expected: Splits.train holds some")
        return split

    @cached_property
    def run(self) -> Run:
        """The case's uninterrupted run; of a model that only predicts, what `plait run` makes.

        Raises:
            Skipped: it failed before; the check that asked first has said why.
        """
        if self._training_failed:
            raise Skipped("needs the run; the check `trains` says why there is none")
        self._training_failed = True
        recipe = self.recipe(self.directory / "whole")
        run = fit_recipe(recipe, self.registry) if self.fitted else demonstrate(recipe, self.registry).run
        self._training_failed = False
        return run

    @cached_property
    def predictor(self) -> Predictor:
        """The run, loaded."""
        from plait.predictor import load

        loaded = load(self.run.path, self.registry)
        assert isinstance(loaded, Predictor)
        return loaded

    @property
    def model(self) -> Model:
        """The loaded model."""
        return self.predictor.artifact.model


def _spelt(registry: Registry, entry: Entry, name: str) -> str:
    """A name that means this entry, also where another distribution offers the same one."""
    try:
        registry.find(entry.kind, name)
    except AmbiguousNameError:
        return f"{entry.distribution}:{name}"
    return name
