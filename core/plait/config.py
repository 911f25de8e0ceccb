"""What exactly will be run, and where does each value come from?

A recipe is one tree: task, model, data, trainer, engine, output, seed. Its sources, later ones winning: defaults, the
model's own defaults, a recipe file, the environment (PLAIT_TRAINER__EPOCHS=3), and options (`--set trainer.epochs=3`,
keyword arguments). Unknown keys are errors at every depth; all errors are reported at once. Nothing is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from plait.errors import PlaitError, RecipeError, did_you_mean
from plait.layers import BLOCKS, TOP, Layer, nested, update
from plait.options import DataOptions, EngineOptions, ModelOptions, Options, OutputOptions, TrainerOptions
from plait_registry.registry import Entry, Registry
from plait_registry.specs import ModelSpec, TaskSpec

if TYPE_CHECKING:
    from plait.model import Model
    from plait.task import Task
    from plait.trainer import Trainer

SCHEMA = 1
_ABBREVIATIONS = {
    "lr": "learning_rate", "bs": "batch_size", "batch": "batch_size", "wd": "weight_decay", "num_epochs": "epochs",
    "max_epochs": "epochs", "n_epochs": "epochs", "grad_clip": "clip", "gradient_clip": "clip", "ema": "average",
    "num_workers": "workers", "path": "source", "out": "directory", "amp": "precision", "dtype": "precision",
    "early_stopping": "patience", "nproc": "processes", "pretrained_path": "weights", "lr_scheduler": "schedule",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole, valid recipe with everything that it names resolved.

    Args:
        task, model: what is learned and fitted, with their provenance.
        task_type, model_type, trainer_type: the classes that carry them out; no trainer for a predict-only model.
        model_options, data, trainer, engine, output: the blocks.
        seed: of everything random.
        origins: where each value that is not a default comes from, by dotted path.
    """

    task: Entry
    model: Entry
    task_type: type[Task]
    model_type: type[Model]
    trainer_type: type[Trainer] | None
    model_options: ModelOptions
    data: DataOptions
    trainer: TrainerOptions
    engine: EngineOptions
    output: OutputOptions
    seed: int
    origins: Mapping[str, str]

    @property
    def task_spec(self) -> TaskSpec:
        spec = self.task.spec
        assert isinstance(spec, TaskSpec)
        return spec

    @property
    def model_spec(self) -> ModelSpec:
        spec = self.model.spec
        assert isinstance(spec, ModelSpec)
        return spec

    def blocks(self) -> dict[str, Options]:
        """The typed blocks by name."""
        return {
            "model": self.model_options,
            "data": self.data,
            "trainer": self.trainer,
            "engine": self.engine,
            "output": self.output,
        }

    def as_json(self) -> dict[str, Any]:
        """The tree as JSON values; written to a file, it runs the same again."""
        blocks = {name: block.as_json() for name, block in self.blocks().items()}
        return {"task": self.task.name, **blocks, "seed": self.seed}

    def portable(self, registry: Registry) -> dict[str, Any]:
        """The tree with the paths of today's working directory made absolute, so that it runs the same from any."""
        tree = self.as_json()
        datasets = {name for each in registry.entries("dataset") for name in (each.name, each.qualified)}
        for block, options in self.blocks().items():
            for key, value in tree[block].items():
                named = block == "data" and key == "source" and value in datasets  # and a run may be called "digits"
                if isinstance(value, str) and not named and _marked(type(options), key, "is_path"):
                    tree[block][key] = str(Path(value).resolve()) if Path(value).exists() else value
        return tree

    def refuse_changes(self, earlier: Mapping[str, Any]) -> None:
        """Compare with the recipe of a run that is to be resumed.

        Raises:
            RecipeError: a value differs that must not change on resume.
        """
        details = []
        for path, now, before in _differences(self.as_json(), self._completed(earlier)):
            block, _, key = path.partition(".")
            options = self.blocks().get(block)
            if options is not None and _marked(type(options), key, "may_change_on_resume"):
                continue
            if options is not None and _marked(type(options), key, "is_path") and _same_path(now, before):
                continue
            details.append({"path": path, "message": f"the run has {before!r}, now {now!r} is asked for"})
        if details:
            listed = "; ".join(f"{each['path']}: {each['message']}" for each in details)
            raise RecipeError(
                f"a run is resumed with the recipe it was started with: {listed}",
                hint="leave the option out, or train from this run's weights with model.from=RUN and another --out",
                details=details,
            )

    def _completed(self, earlier: Mapping[str, Any]) -> dict[str, Any]:
        """An earlier recipe with today's defaults where it has no value: the options are newer than the run."""
        tree = dict(earlier)
        for name, block in self.blocks().items():
            with suppress(ValidationError):  # values that are no longer understood are compared as they are
                tree[name] = type(block).model_validate(earlier.get(name, {})).as_json()
        return tree


def resolve(layers: Iterable[Layer], registry: Registry) -> Recipe:
    """Merge the layers, resolve what they name, check every value.

    Raises:
        RecipeError: every unknown key and wrong value at once, each with path, origin and near name.
        UnknownNameError: of a task, model, trainer or engine; nothing was imported by then.
    """
    tree = _Tree([_normal(layer) for layer in layers])
    misplaced = tree.check_top()
    try:
        task, model = _names(tree, registry)
    except PlaitError:
        if misplaced:  # "taks: ..." is why there is no task
            raise _recipe_error(misplaced) from None
        raise
    spec = model.spec
    assert isinstance(spec, ModelSpec)
    engine_name = tree.get("engine.name", "auto")
    if engine_name != "auto":
        registry.engine(str(engine_name))
    model.check_early(tree.get("model", {}))
    trainer_type = None if spec.trainer is None else registry.trainer(spec.trainer).resolve()
    task_type, model_type = task.resolve(), model.resolve()
    _check_variant(model, str(tree.get("model.name")), model_type)
    earlier = tree.get("model.from")
    # a run's own recipe has every option already, and the run that it started from may be gone
    if earlier is not None and set(_keys(model_type.Options)) - set(tree.get("model", {})):
        tree.add_first(_earlier_layer(Path(str(earlier)), model, registry))
    tree.add_first(Layer(f"default of {model.name}", _normal_values(nested(spec.defaults))))
    types: dict[str, tuple[type[Options], str]] = {
        "model": (model_type.Options, _owner(model)),
        "data": (task_type.Options, _owner(task)),
        "trainer": (trainer_type.Options if trainer_type else TrainerOptions, f"the {spec.trainer} trainer"),
        "engine": (EngineOptions, "the engine"),
        "output": (OutputOptions, "the output"),
    }
    blocks, details = tree.validate(types)
    details = [*misplaced, *details]
    seed = tree.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:  # what torch's generators take
        details.append({"path": "seed", "message": f"expected a whole number from 0 to 2**63 - 1, not {seed!r}"})
    if details:
        raise _recipe_error(details)
    return Recipe(
        task=task, model=model, task_type=task_type, model_type=model_type, trainer_type=trainer_type,
        model_options=blocks["model"], data=blocks["data"], trainer=blocks["trainer"], engine=blocks["engine"],
        output=blocks["output"], seed=seed, origins=tree.origins(),
    )  # fmt: skip


class _Tree:
    """Layers merged, each value with its layer."""

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers

    def add_first(self, layer: Layer) -> None:
        self._layers.insert(0, layer)

    def merged(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for layer in self._layers:
            update(values, layer.values)
        return values

    def get(self, path: str, default: Any = None) -> Any:
        value: Any = self.merged()
        for part in path.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return default
            value = value[part]
        return default if value is None else value

    def origin(self, path: str) -> str:
        for layer in reversed(self._layers):
            value: Any = layer.values
            for part in path.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is not None:
                return layer.where(path)
        return "default"

    def origins(self) -> dict[str, str]:
        return {path: self.origin(path) for path in _paths(self.merged())}

    def check_top(self) -> list[dict[str, Any]]:
        """What is wrong with the keys of the tree itself.

        Raises:
            RecipeError: a block is no mapping, so that nothing in it can be looked up.
        """
        unknown, shapeless = [], []
        for key, value in self.merged().items():
            if key not in TOP:
                unknown.append(self._unknown(key, [*TOP], "the recipe"))
            elif key in BLOCKS and not isinstance(value, Mapping):
                shapeless.append({"path": key, "message": f"expected a mapping of options, not {value!r}"})
        if shapeless:
            raise _recipe_error([*unknown, *shapeless])
        return unknown

    def validate(self, types: Mapping[str, tuple[type[Options], str]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        merged, blocks, details = self.merged(), {}, []
        keys = {name: set(_keys(options)) for name, (options, _) in types.items()}
        for name, (options, owner) in types.items():
            try:
                blocks[name] = options.model_validate(merged.get(name, {}))
            except ValidationError as error:
                for each in error.errors(include_url=False):
                    location = [str(part) for part in each["loc"]]
                    path = ".".join([name, *location])
                    if each["type"] == "extra_forbidden":
                        known = [*_keys(_nested_type(options, location[:-1]))]
                        elsewhere = [f"{other}.{location[-1]}" for other in keys if location[-1] in keys[other]]
                        details.append(self._unknown(path, known, owner, elsewhere))
                    else:
                        said = each["msg"].removeprefix("Value error, ")
                        said += f" (got {each['input']!r})" if location else ""  # else it is the whole block
                        details.append({"path": path, "message": said, "origin": self.origin(path), "owner": owner})
                        if each["type"] in ("tuple_type", "list_type") and isinstance(each["input"], str):
                            details[-1]["hint"] = """write a list as JSON: '["a", "b"]'"""
        return blocks, details

    def _unknown(self, path: str, known: list[str], owner: str, elsewhere: Iterable[str] = ()) -> dict[str, Any]:
        prefix, _, key = path.rpartition(".")
        better = [_ABBREVIATIONS[key]] if _ABBREVIATIONS.get(key) in known else []
        hint = did_you_mean(key, better or known) if not better else f"did you mean {better[0]!r}?"
        if places := list(elsewhere):
            hint = f"did you mean {' or '.join(map(repr, places))}?"
        hint = hint or f"{prefix or 'the recipe'} has {', '.join(sorted(known)) or 'no options'}"
        return {"path": path, "message": f"{owner} has no such option", "hint": hint, "origin": self.origin(path)}


def _names(tree: _Tree, registry: Registry) -> tuple[Entry, Entry]:
    """The task and model that the tree names, found without importing them."""
    task_name, model_name = tree.get("task"), tree.get("model.name")
    earlier = tree.get("model.from")
    if earlier is not None and (task_name is None or model_name is None):
        from plait.run import Run

        names = Run.open(Path(str(earlier))).names()
        task_name, model_name = task_name or names[0], model_name or names[1]
    if task_name is None:
        raise RecipeError("the recipe names no task", hint="`plait list --kind task` prints what is installed")
    task = registry.task(str(task_name))
    assert isinstance(task.spec, TaskSpec)
    choices = [entry.name for entry in registry.models_for(task.qualified)]
    model_name = model_name or task.spec.default_model or next(iter(choices), None)
    if model_name is None:
        raise RecipeError(f"no installed model serves {task.name}")
    model = registry.model(str(model_name))
    if model.name not in choices:
        served = ", ".join(model.spec.tasks) if isinstance(model.spec, ModelSpec) else ""
        raise RecipeError(
            f"model {model.name} does not serve {task.name}; it serves {served}",
            hint=f"models of {task.name}: {', '.join(choices)}",
        )
    tree.add_first(Layer("default", {"model": {"name": str(model_name)}}))
    return task, model


def _earlier_layer(path: Path, model: Entry, registry: Registry) -> Layer:
    """The model options of the run that `model.from` names: what has its weights has its shape. Those of another model
    mean nothing here; whether its weights fit is for the model to say."""
    from plait.run import Run

    run = Run.open(path)
    block = dict(run.recipe()["model"]) if registry.model(run.model).qualified == model.qualified else {}
    for key in ("from", "weights", "freeze"):
        block.pop(key, None)
    return Layer(f"model.from {path}", {"model": block})


def _check_variant(model: Entry, name: str, model_type: type[Model]) -> None:
    assert isinstance(model.spec, ModelSpec)
    if not model.spec.is_family:
        return
    prefix, bare = model.name[:-1], name.rsplit(":", 1)[-1] if name.startswith(f"{model.distribution}:") else name
    variants = model_type.variants()
    if variants and bare.removeprefix(prefix) not in variants:
        from plait.errors import UnknownNameError

        hint = did_you_mean(bare, [prefix + variant for variant in variants])
        raise UnknownNameError(
            f"{bare!r} is not a member of the family {model.name} ({len(variants)} members)",
            hint=hint or f"`plait show {prefix}` lists them",
        )


def _owner(entry: Entry) -> str:
    return f"{entry.name} ({entry.distribution} {entry.version})".replace(" )", ")")


def _recipe_error(details: list[dict[str, Any]]) -> PlaitError:
    lines = []
    for each in details:
        origin = f" [{each['origin']}]" if each.get("origin") not in (None, "default") else ""
        lines.append(f"{each['path']}: {each['message']}{origin}" + (f"; {each['hint']}" if each.get("hint") else ""))
    if len(lines) == 1:
        return RecipeError(
            lines[0].removesuffix(f"; {details[0].get('hint')}"), hint=details[0].get("hint"), details=details
        )
    return RecipeError(f"{len(lines)} errors in the recipe:\n  " + "\n  ".join(lines), details=details)


def _normal(layer: Layer) -> Layer:
    return Layer(layer.origin, _normal_values(layer.values), layer.lines)


def _normal_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """`model: vision/cnn` is short for its name, `data: DIR` for its source."""
    short = {"model": "name", "data": "source", "output": "directory", "engine": "name"}
    return {
        key: {short[key]: value} if key in short and isinstance(value, str) else value for key, value in values.items()
    }


def _paths(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _paths(value, f"{path}.")
        else:
            yield path


def _differences(now: Mapping[str, Any], before: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key in [*now, *(key for key in before if key not in now)]:
        one, other = now.get(key), before.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differences(one, other, f"{prefix}{key}.")
        elif one != other:
            yield f"{prefix}{key}", one, other


def _marked(options: type[Options], key: str, mark: str) -> bool:
    for name, info in options.model_fields.items():
        if (info.alias or name) == key.split(".", 1)[0]:
            extra = info.json_schema_extra
            return isinstance(extra, dict) and bool(extra.get(mark))
    return False


def _same_path(one: Any, other: Any) -> bool:
    return isinstance(one, str) and isinstance(other, str) and Path(one).resolve() == Path(other).resolve()


def _keys(options: type[BaseModel] | None) -> list[str]:
    return [] if options is None else [info.alias or name for name, info in options.model_fields.items()]


def _nested_type(options: type[BaseModel], location: list[str]) -> type[BaseModel] | None:
    """The options class at a location inside another: through dicts and optionals, as far as types tell."""
    found: type[BaseModel] | None = options
    for part in location:
        if found is None or not (isinstance(found, type) and issubclass(found, BaseModel)):
            return None
        for name, info in found.model_fields.items():
            if (info.alias or name) == part:
                found = _options_in(info.annotation)
                break
    return found


def _options_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_options_in, getattr(annotation, "__args__", ()))), None)
