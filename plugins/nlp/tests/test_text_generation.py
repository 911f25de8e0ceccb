"""Continuations: what is drawn depends on the prompt alone, caches change nothing, beams find the best."""

from __future__ import annotations

import io
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import plait
from plait.errors import DataError, InputError, RecipeError, RunError
from plait.libraries import transformers
from plait.readymade import ready_made
from plait_nlp.architectures.network import TransformersModel
from plait_nlp.architectures.options import TransformersOptions
from plait_nlp.generation.continuation import Continuation, Logits
from plait_nlp.generation.decoding import DecodingOptions, Drawing, Row, choose, log_softmax, search
from plait_nlp.generation.model import Generator, GeneratorOptions, continuation_of, tokens_of
from plait_nlp.generation.task import Prompt, Request, TextGeneration
from plait_nlp.language_modelling.corpus import Piece
from plait_nlp.language_modelling.model import GptModel, GptOptions
from plait_nlp.language_modelling.ngram import NgramModel, NgramOptions
from plait_registry.registry import Registry

TEXT = "the cat sat on the mat, and the dog sat on the cat; "
PROBLEM = {"objective": "causal-language-modelling", "piece": 64}
PROMPTS = ["the cat", "", "dog sat on the mat and", "s"]


def gpt(**options: Any) -> GptModel:
    """A tiny network whose weights are random, and large enough that it is sure of something."""
    made = GptOptions(name="nlp/gpt", **{"length": 12, "width": 16, "layers": 2, "heads": 2, **options})
    model = GptModel.create(options=made, problem=PROBLEM, train=[Piece(TEXT)], seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6)
    return model


def network(kind: str = "gpt2") -> TransformersModel:
    options = TransformersOptions(
        name=f"transformers/{kind}", hidden=16, layers=2, heads=2, intermediate=32, max_length=24, tokenizer="char"
    )
    model = TransformersModel.create(options=options, problem=PROBLEM, train=[Piece(TEXT)], seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)
    return model


def ngram() -> NgramModel:
    model = NgramModel(options=NgramOptions(name="nlp/ngram"), problem=PROBLEM)
    model.count([Piece(TEXT * 3)])
    return model


def answers(model: Any, prompts: Sequence[str], **options: Any) -> list[str]:
    made = Generator(
        options=GeneratorOptions(name="nlp/generator", **{"max_tokens": 14, **options}), problem={}, language=model,
        source=None,
    )  # fmt: skip
    return [each.text for each in made.predict([Prompt(each) for each in prompts])]


@pytest.mark.parametrize("make", [gpt, lambda: gpt(positions="learned"), network, lambda: network("llama"), ngram])
def test_a_cache_changes_nothing_even_where_the_text_outgrows_the_network(make: Any) -> None:
    model = make()
    source, plain = continuation_of(model), continuation_of(model)
    prompts = [tokens_of(each, source) for each in PROMPTS]
    options = [DecodingOptions(name="x", max_tokens=24, cache=cache) for cache in (True, False)]
    one, other = (Drawing(each, prompts, PROMPTS, how) for each, how in zip((source, plain), options, strict=True))
    for _ in range(24):
        assert np.allclose(one._logits, other._logits, atol=1e-4)
        assert one.step() == other.step()
    assert [each.tokens for each in one.rows] == [each.tokens for each in other.rows]
    assert all(each.reason for each in one.rows)


@pytest.mark.parametrize("make", [gpt, network, ngram])
@pytest.mark.parametrize("how", [{"temperature": 0}, {"temperature": 0.7, "top_k": 8, "top_p": 0.9}])
def test_an_answer_depends_on_its_prompt_and_the_seed_alone(make: Any, how: dict[str, Any]) -> None:
    model = make()
    together = answers(model, PROMPTS, **how)
    assert together == [answers(model, [each], **how)[0] for each in PROMPTS]
    assert together[::-1] == answers(model, PROMPTS[::-1], **how)
    if how["temperature"]:
        assert together != answers(model, PROMPTS, seed=1, **how)
    longer = answers(model, PROMPTS, **{**how, "max_tokens": 18})
    assert [each.startswith(short) for each, short in zip(longer, together, strict=True)] == [True] * len(PROMPTS)


def test_greedy_answers_are_those_of_transformers() -> None:
    model = network()
    source = continuation_of(model)
    prompt = tokens_of("the cat", source)
    found = Drawing(source, [prompt], ["the cat"], DecodingOptions(name="x", max_tokens=12, temperature=0))
    while found.step():
        pass
    theirs = model.network.generate(
        torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0,
        suppress_tokens=list(source.banned),
    )  # fmt: skip
    assert found.rows[0].tokens == theirs[0, len(prompt) : len(prompt) + len(found.rows[0].tokens)].tolist()
    assert len(found.rows[0].tokens) > 3


def test_tokens_are_drawn_as_often_as_they_are_probable() -> None:
    shares = np.array([0.5, 0.25, 0.15, 0.1])
    numbers = (np.arange(1000) + 0.5) / 1000
    logits = np.tile(np.log(shares), (1000, 1))

    def drawn(**options: Any) -> list[float]:
        chosen = choose(logits, numbers, DecodingOptions(name="x", **options))
        return [Counter(chosen.tolist())[each] / 1000 for each in range(4)]

    assert drawn() == pytest.approx(shares.tolist())
    assert drawn(temperature=0) == [1, 0, 0, 0]
    assert drawn(top_k=2) == pytest.approx([2 / 3, 1 / 3, 0, 0], abs=1e-3)
    assert drawn(top_p=0.8) == pytest.approx([5 / 9, 2.5 / 9, 1.5 / 9, 0], abs=1e-3)
    assert drawn(top_p=1e-9) == [1, 0, 0, 0]
    assert drawn(temperature=0.5)[0] == pytest.approx(0.25 / 0.345, abs=1e-3)


class Three(Continuation):
    """Letters a, b and the end; what follows depends on all that was read, by a rule without any pattern."""

    limit, boundary, banned = None, 2, ()

    def __init__(self) -> None:
        self._rows: list[tuple[int, ...]] = []

    def encode(self, text: str) -> list[int]:
        return ["ab".index(each) for each in text]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join("ab"[each] for each in tokens)

    def begin(self, rows: Sequence[Sequence[int]]) -> Logits:
        self._rows = [tuple(each) for each in rows]
        codes = (int("1" + "".join(map(str, row)), 3) for row in self._rows)
        return np.stack([np.random.default_rng(code).normal(0, 2, 3) for code in codes])

    def extend(self, tokens: Sequence[int]) -> Logits:
        return self.begin([(*row, token) for row, token in zip(self._rows, tokens, strict=True)])

    def select(self, rows: Sequence[int]) -> None:
        self._rows = [self._rows[each] for each in rows]


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("prompt", [[2], [2, 0], [2, 1, 1]])
def test_a_wide_beam_finds_the_best_of_all_answers(penalty: float, prompt: list[int]) -> None:
    def worth(tokens: tuple[int, ...]) -> float:
        total, source = 0.0, Three()
        for place, token in enumerate(tokens):
            total += float(log_softmax(source.begin([[*prompt, *tokens[:place]]]))[0, token])
        return total / max(1, sum(each != 2 for each in tokens)) ** penalty

    every = [each for size in (1, 2, 3, 4) for each in itertools.product((0, 1, 2), repeat=size)]
    whole = [each for each in every if 2 not in each[:-1] and (each[-1] == 2 or len(each) == 4)]
    best = max(whole, key=worth)
    options = DecodingOptions(name="x", max_tokens=4, beam=64, length_penalty=penalty)
    found = search(Three(), prompt, options)
    assert tuple(found.tokens) == tuple(each for each in best if each != 2)
    assert found.log_probability / max(1, len(found.tokens)) ** penalty == pytest.approx(worth(best))


def test_a_beam_of_one_is_greedy_and_a_wider_one_is_no_worse() -> None:
    source = Three()
    options = {size: DecodingOptions(name="x", max_tokens=8, beam=size, temperature=0) for size in (1, 8)}
    greedy = Drawing(source, [[2]], ["x"], options[1])
    while greedy.step():
        pass
    narrow, wide = (search(source, [2], options[size]) for size in (1, 8))
    assert narrow.tokens == greedy.rows[0].tokens
    assert wide.log_probability / max(1, len(wide.tokens)) >= narrow.log_probability / max(1, len(narrow.tokens))


def test_beams_of_networks_survive_a_full_window() -> None:
    for make in (gpt, ngram):
        with_cache, without = (answers(make(), ["the cat"], beam=3, cache=each) for each in (True, False))
        assert with_cache == without


def test_stop_strings_end_an_answer_and_are_not_in_it() -> None:
    [whole] = answers(ngram(), ["the "], temperature=0, max_tokens=30)
    assert "sat on" in whole
    assert answers(ngram(), ["the "], temperature=0, max_tokens=30, stop=["sat on", "zebra"]) == [
        whole[: whole.index("sat on")]
    ]
    row = Row([0])
    for token in (0, 1, 1):
        row.append(token, Three(), DecodingOptions(name="x", stop=("bb",)))
    assert (row.text, row.reason) == ("a", "stop")


def test_an_answer_can_be_followed_while_it_grows() -> None:
    made = Generator(
        options=GeneratorOptions(name="nlp/generator", max_tokens=12, stop=["dog sat"]), problem={}, language=ngram(),
        source=None,
    )  # fmt: skip
    [whole] = made.predict([Prompt("and the ")])
    live, request = made.live(), Request(Prompt("and the "))
    seen = []
    while not request.answered:
        seen.append(live.accept(request).text)
    assert live.finish() == whole
    assert all(whole.text.startswith(each) for each in seen)  # not even the beginning of a stop string
    assert len(set(seen)) > 1 or whole.reason == "stop"
    with pytest.raises(InputError, match="beam"):
        Generator(
            options=GeneratorOptions(name="nlp/generator", beam=2), problem={}, language=ngram(), source=None
        ).live()


# Runs, directories, and what is wrong with them


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small language model."""
    path = tmp_path_factory.mktemp("language") / "run"
    plait.train(
        "nlp/causal-language-modelling", {"name": "nlp/gpt", "length": 32, "width": 32, "layers": 1, "heads": 2},
        [TEXT * 30], out=path, trainer={"epochs": 6, "batch_size": 4, "learning_rate": 0.01},
        output={"report": False, "baselines": False},
    )  # fmt: skip
    return path


def test_a_run_generates_and_is_saved_whole(run: Path, tmp_path: Path) -> None:
    options = {"from": str(run), "max_tokens": 20, "temperature": 0}
    generator = ready_made("nlp/generator", Registry.discover(), options=options)
    answer = generator("the cat sat ")
    assert "on the" in answer.prediction
    assert len(answer.prediction) == 20
    assert answer.scores["log_probability"] < 0
    assert [each.prediction for each in generator.live(["the cat ", "sat "])][-1] == answer.prediction
    assert [each.prediction for each in generator.live(io.BytesIO(b"the cat sat \n"))][-1] == answer.prediction
    copy = tmp_path / "copy"
    generator.artifact.save(copy)
    assert plait.load(copy)("the cat sat ") == answer
    other = plait.load(copy, options={"max_tokens": 5})("the cat sat ")
    assert other.prediction == answer.prediction[:5]
    with pytest.raises(InputError, match="not a text"):
        generator(3)
    with pytest.raises(InputError, match="no such file"):
        next(generator.live(str(tmp_path / "nowhere.txt")))
    with pytest.raises(InputError, match="not UTF-8"):
        next(generator.live(io.BytesIO(b"\xff")))


def test_a_directory_of_transformers_generates(tmp_path: Path) -> None:
    model = network()
    model.save(tmp_path)
    made = ready_made(
        "nlp/generator", Registry.discover(), options={"directory": str(tmp_path), "max_tokens": 6, "temperature": 0}
    )
    assert made("the cat").prediction == answers(model, ["the cat"], max_tokens=6, temperature=0)[0]
    assert transformers().AutoModelForCausalLM.from_pretrained(str(tmp_path)).config.model_type == "gpt2"


def test_what_cannot_generate_is_refused(run: Path, tmp_path: Path) -> None:
    registry = Registry.discover()
    with pytest.raises(RunError, match="no such file"):
        ready_made("nlp/generator", registry, options={"from": str(run.parent / "rnu")})
    with pytest.raises(RunError, match="no fitted model"):
        ready_made("nlp/generator", registry, options={"from": str(tmp_path)})
    with pytest.raises(DataError, match=r"config\.json"):
        ready_made("nlp/generator", registry, options={"directory": str(tmp_path)})
    network().save(tmp_path)
    with pytest.raises(RecipeError, match="both"):
        ready_made("nlp/generator", registry, options={"from": str(run), "directory": str(tmp_path)})
    other = tmp_path / "classes"
    rows = [{"text": f"{word} {number}", "label": word} for word in ("cat", "dog") for number in range(6)]
    plait.train("nlp/text-classification", "nlp/linear", rows, out=other, output={"report": False})
    with pytest.raises(RecipeError, match="cannot generate"):
        ready_made("nlp/generator", registry, options={"from": str(other)})


def test_prompts_are_read_from_lines_and_tables(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("first prompt\n\nsecond\n")
    task = TextGeneration(options=TextGeneration.Options(), seed=0)
    splits = task.read(tmp_path / "prompts.txt")
    assert splits.test is not None
    assert [each.text for each in splits.test] == ["first prompt", "second"]  # type: ignore[attr-defined]  # a list
    (tmp_path / "prompts.jsonl").write_text('{"prompt": 3}\n')
    with pytest.raises(DataError, match=r"prompts\.jsonl:1 has a prompt that is no text, but int"):
        task.read(tmp_path / "prompts.jsonl")
    with pytest.raises(RunError, match="no metric"):
        task.evaluator({}, [])


def test_logs_of_an_answer_are_the_models_own() -> None:
    model = ngram()
    made = Generator(
        options=GeneratorOptions(name="nlp/generator", max_tokens=9, temperature=0.5, top_k=3), problem={},
        language=model, source=None,
    )  # fmt: skip
    [answer] = made.predict([Prompt("the cat ")])
    [score] = model.predict([Piece(answer.text, "the cat ")])
    ban = len(model.alphabet)
    assert model.counts is not None
    lost, history = 0.0, "the cat "
    for each in answer.text:  # the unknown symbol is never chosen: its share goes to the others
        lost += math.log1p(-model.counts.following(model.numbers(history).tolist())[ban])
        history += each
    assert answer.log_probability == pytest.approx(-score.nats - lost)
