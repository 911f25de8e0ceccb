"""Do predictors chain by their ports, in batches, and survive as one directory?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import plait
from plait.composition import Adapter, Composition, compose
from plait.errors import CompositionError, InputError, IntegrityError, RunError, UnknownNameError
from plait.task import Prediction
from plait_registry import AdapterSpec, Entry, Plugin, PortSpec, Registry
from tests import toys


class Stage:
    """A predictor without a model: a function with ports."""

    def __init__(
        self, name: str, accepts: Mapping[str, str], returns: Mapping[str, str], answer: Callable[..., Any]
    ) -> None:
        self.name, self.accepts, self.returns, self.answer = name, accepts, returns, answer
        self.optional: tuple[str, ...] = ()
        self.batches: list[int] = []
        self.ahead = 1

    def stream(self, inputs: Sequence[Mapping[str, Any]], *, batch_size: int = 64) -> Iterator[Prediction]:
        self.batches.append(len(inputs))
        for value in inputs:
            try:
                outputs = self.answer(**value)
            except InputError as error:
                yield Prediction(error=error.message)
            else:
                yield Prediction(prediction=next(iter(outputs.values())), outputs=outputs)

    def __or__(self, other: Any) -> Composition:
        return compose(self, other)  # type: ignore[arg-type]  # it has all that a composition asks of a predictor


def hear(audio: str) -> dict[str, str]:
    if not audio:
        raise InputError("silence")
    return {"transcript": audio.lower()}


def translate(source: str, language: str) -> dict[str, str]:
    return {"translation": f"{language}({source})"}


def answer(question: str, context: str) -> dict[str, str]:
    return {"answer": f"{question} in {context}", "evidence": context}


@pytest.fixture
def asr() -> Stage:
    return Stage("asr", {"audio": "audio"}, {"transcript": "text"}, hear)


@pytest.fixture
def translator() -> Stage:
    return Stage("translation", {"source": "text", "language": "label"}, {"translation": "text"}, translate)


@pytest.fixture
def reader() -> Stage:
    return Stage("qa", {"question": "text", "context": "text"}, {"answer": "text", "evidence": "text"}, answer)


@pytest.fixture
def tagger() -> Stage:
    return Stage("tagging", {"text": "text"}, {"label": "label"}, lambda text: {"label": text[:1]})


def one_hot(label: str) -> tuple[float, ...]:
    """The adapter of this file: where a class lies on the plane of the toy task."""
    return {"a": (0.0, -9.0, 0.0, 0.0), "b": (0.0, 9.0, 0.0, 0.0), "c": (9.0, -1.0, 0.0, 0.0)}[label]


@pytest.fixture(scope="module")
def registry() -> Registry:
    adapter = AdapterSpec(
        name="label-to-vector", summary="A point.", target=f"{__name__}:one_hot", source="label", returns="vector"
    )
    specs = (toys.Points.spec, toys.Means.spec, adapter, PortSpec(name="vector", summary="Numbers."))
    entries = tuple(Entry(spec, "toy", "toy", "1.0") for spec in specs if spec is not None)
    core = [plugin for plugin in Registry.discover().plugins if plugin.distribution == "plait"]
    return Registry([*core, Plugin(name="toy", distribution="toy", version="1.0", entries=entries)])


# Ports


def test_ports_match_by_type_and_their_names_may_differ(asr: Stage, tagger: Stage) -> None:
    chain = asr | tagger
    assert (chain.accepts, chain.returns, chain.name) == ({"audio": "audio"}, {"label": "label"}, "asr | tagging")
    assert chain("HELLO").prediction == "h"
    assert [each.prediction for each in chain(["HELLO", "World"])] == ["h", "w"]


def test_a_mismatch_names_both_ports_and_the_adapter_that_fits(tagger: Stage, asr: Stage, registry: Registry) -> None:
    with pytest.raises(CompositionError) as caught:
        compose(tagger, tagger, registry=registry)
    assert caught.value.message == "tagging returns 'label' of type label, and tagging accepts 'text' of type text"
    assert caught.value.hint == "a registered adapter fits: compose(a, plait.adapter('label-to-text'), b)"
    with pytest.raises(CompositionError) as caught:
        compose(tagger, asr, registry=registry)
    assert caught.value.hint == "no registered adapter turns label into audio"


def test_the_named_adapter_mends_it(tagger: Stage, registry: Registry) -> None:
    chain = compose(tagger, plait.adapter("label-to-text", registry), tagger, registry=registry)
    assert chain("Abc").prediction == "A"
    with pytest.raises(UnknownNameError, match="no adapter is named 'label-to-txt'") as caught:
        plait.adapter("label-to-txt", registry)
    assert "label-to-text" in str(caught.value.hint)


def test_two_ports_of_one_type_need_connect(asr: Stage, reader: Stage) -> None:
    with pytest.raises(CompositionError, match="types alone do not say which port feeds 'question'") as caught:
        asr | reader
    assert caught.value.hint == "compose(a, b, connect={'question': 'transcript'})"
    chain = compose(asr, reader, connect={"question": "transcript"})
    assert chain.accepts == {"audio": "audio", "context": "text"}
    assert chain({"audio": "WHO", "context": "a book"}).prediction == "who in a book"


def test_two_sources_of_one_type_need_connect(reader: Stage, tagger: Stage) -> None:
    with pytest.raises(CompositionError, match="types alone do not say"):
        reader | tagger
    chain = compose(reader, tagger, connect={"text": "evidence"})
    assert chain({"question": "who", "context": "book"}).prediction == "b"


def test_connect_names_ports_that_exist_and_fit(asr: Stage, tagger: Stage, translator: Stage) -> None:
    with pytest.raises(CompositionError, match=r"tagging accepts text \(text\), asr returns transcript \(text\)"):
        compose(asr, tagger, connect={"txt": "transcript"})
    with pytest.raises(
        CompositionError, match="'transcript' of type text, and translation accepts 'language' of type label"
    ):
        compose(asr, translator, connect={"language": "transcript"})
    with pytest.raises(CompositionError, match="two at a time"):
        compose(asr, tagger, tagger, connect={"text": "transcript"})
    with pytest.raises(CompositionError, match="two stages at least"):
        compose(asr)


def test_a_port_that_no_stage_feeds_is_asked_for_from_outside(asr: Stage, translator: Stage) -> None:
    chain = asr | translator
    assert chain.accepts == {"audio": "audio", "language": "label"}
    assert chain({"audio": "HI", "language": "fr"}).prediction == "fr(hi)"
    (missing,) = chain.predict([{"audio": "HI"}])
    assert missing.error is not None
    assert "missing language" in missing.error
    with pytest.raises(CompositionError, match="two stages take a port called 'language' from outside"):
        chain | translator


def test_compositions_compose(asr: Stage, translator: Stage, tagger: Stage) -> None:
    left, right = (asr | translator) | tagger, compose(asr, compose(translator, tagger))
    for chain in (left, right):
        assert [stage.name for stage in chain.stages] == ["asr", "translation", "tagging"]
        assert chain({"audio": "HI", "language": "fr"}).prediction == "f"


# Batches and errors


def test_stages_see_whole_batches(asr: Stage, tagger: Stage) -> None:
    answers = (asr | tagger).predict([f"WORD{index}" for index in range(10)], batch_size=4)
    assert len(answers) == 10
    assert asr.batches == tagger.batches == [4, 4, 2]
    tagger.ahead = 2  # it sorts eight by length
    assert len((asr | tagger).predict([f"WORD{index}" for index in range(10)], batch_size=4)) == 10
    assert asr.batches[3:] == tagger.batches[3:] == [8, 2]


def test_an_input_that_fails_keeps_its_place_and_its_error(asr: Stage, tagger: Stage) -> None:
    chain = asr | tagger
    answers = chain.predict(["One", "", "Two", {"video": 1}])
    assert [each.prediction for each in answers] == ["o", None, "t", None]
    assert answers[1].error == "asr: silence"
    assert answers[3].error == "ports: unknown video; missing audio; expected audio"
    assert tagger.batches == [2]  # nothing that failed before reaches a later stage
    with pytest.raises(InputError, match="input 1: asr: silence"):
        chain(["One", ""])
    assert chain.predict([""])[0].error == "asr: silence"


def test_an_adapter_that_cannot_convert_a_value_says_so(tagger: Stage) -> None:
    adapter = Adapter("label-to-number", source="label", returns="number", convert=float)
    twice = Stage("double", {"number": "number"}, {"label": "label"}, lambda number: {"label": 2 * number})
    answers = compose(tagger, adapter, twice).predict(["7 days", "many"])  # type: ignore[arg-type]  # as above
    assert answers[0].prediction == 14
    assert answers[1].error == "label-to-number: could not convert string to float: 'm'"


# Saved whole: real models


def inputs() -> list[list[float]]:
    return [list(point.x) for point in toys.points(20, seed=1)]


@pytest.fixture(scope="module")
def saved(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Prediction]]:
    """Two trained models with an adapter between, saved; their run is deleted. And what they predicted before."""
    directory = tmp_path_factory.mktemp("composition")
    run = plait.train(
        toys.Points, toys.Means, toys.points(), out=directory / "run", registry=registry,
        output={"report": False, "tensorboard": False},
    )  # fmt: skip
    first, second = plait.load(run.path, registry), plait.load(run.path / "model", registry)
    chain = plait.compose(first, plait.adapter("label-to-vector", registry), second, registry=registry)
    before = chain.predict(inputs())
    assert {each.prediction for each in before} == {"a", "b", "c"}
    path = chain.save(directory / "chain")
    shutil.rmtree(run.path)
    return path, before


def test_a_saved_composition_needs_none_of_its_originals(
    saved: tuple[Path, list[Prediction]], registry: Registry
) -> None:
    path, before = saved
    loaded = plait.load(path, registry)
    assert isinstance(loaded, Composition)
    assert loaded.predict(inputs()) == before
    assert loaded.name == "toy/points | label-to-vector | toy/points"
    assert (loaded.accepts, loaded.returns) == ({"point": "vector"}, {"label": "label"})
    good, bad = loaded.predict([inputs()[0], "nonsense"])
    assert good == before[0]
    assert bad.error == "toy/points: a point is four numbers, not 'nonsense'"


def test_a_loaded_composition_is_saved_and_composed_again(
    saved: tuple[Path, list[Prediction]], registry: Registry, tmp_path: Path
) -> None:
    path, before = saved
    again = plait.load(path, registry).save(tmp_path / "again")  # type: ignore[union-attr]  # a Composition
    assert plait.load(again, registry).predict(inputs()) == before
    assert (again / "composition.json").read_bytes() == (path / "composition.json").read_bytes()
    with pytest.raises(CompositionError, match="exists already"):
        plait.load(path, registry).save(again)  # type: ignore[union-attr]  # a Composition
    adapter = plait.adapter("label-to-vector", registry)
    longer = plait.load(path, registry) | adapter | plait.load(path, registry)
    assert len(longer.stages) == 7
    assert [each.prediction for each in longer.predict(inputs())] == [each.prediction for each in before]


def test_a_flipped_byte_in_any_file_is_found_and_named(
    saved: tuple[Path, list[Prediction]], registry: Registry, tmp_path: Path
) -> None:
    files = sorted(path.relative_to(saved[0]) for path in saved[0].rglob("*") if path.is_file())
    assert {"composition.json", "part-0/model.safetensors", "part-2/plait.json"} <= {each.as_posix() for each in files}
    for name in files:
        copy = tmp_path / "copy"
        shutil.copytree(saved[0], copy)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(IntegrityError) as caught:
            plait.load(copy, registry)
        assert name.name in caught.value.message
        shutil.rmtree(copy)


def test_a_part_that_is_missing_is_named(
    saved: tuple[Path, list[Prediction]], registry: Registry, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(saved[0], copy)
    (copy / "part-0" / "model.safetensors").unlink()
    with pytest.raises(IntegrityError, match=r"model\.safetensors: missing"):
        plait.load(copy, registry)


def test_a_composition_is_no_run_and_names_what_it_needs(saved: tuple[Path, list[Prediction]]) -> None:
    with pytest.raises(RunError, match="not a run directory") as caught:
        plait.evaluate(saved[0])
    assert "it is a composition" in str(caught.value.hint)
    with pytest.raises(plait.PlaitError, match="toy/points"):
        plait.load(saved[0])  # in a program that does not have the plugin
    assert "toy" in json.loads((saved[0] / "part-0" / "plait.json").read_text(encoding="utf-8"))["plugins"]
