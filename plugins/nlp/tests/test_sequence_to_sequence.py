"""Networks that write texts for texts: search, incremental decoding, batches, and the baselines."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import plait
from plait.errors import RecipeError
from plait.libraries import transformers
from plait.model import Key
from plait_nlp.architectures.network import TransformersModel
from plait_nlp.architectures.options import TransformersOptions
from plait_nlp.examples import TextSplit
from plait_nlp.sequence_to_sequence.baselines import Copy, Lead, LeadOptions
from plait_nlp.sequence_to_sequence.examples import SequenceExample
from plait_nlp.sequence_to_sequence.models import GruSequence, SequenceModel, TransformerSequence
from plait_nlp.sequence_to_sequence.options import Decoding, GruOptions, NetworkOptions, TransformerOptions
from plait_nlp.sequence_to_sequence.search import Found, Rules, search

START, END = 0, 1
NUMBERS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf"}
PAIRS = [
    SequenceExample(" ".join(words), None, (" ".join(NUMBERS[word] for word in reversed(words)),), f"{index}")
    for index, words in enumerate(itertools.permutations(NUMBERS, 3))
]
PROBLEM = {"objective": "sequence-to-sequence", "kind": "translation", "bleu_tokens": "13a"}
SMALL: dict[str, Any] = {"width": 32, "vocabulary": 300, "dropout": 0.0}
OPTIONS: list[tuple[type[SequenceModel], NetworkOptions]] = [
    (GruSequence, GruOptions(name="nlp/seq2seq-gru", **SMALL)),
    (GruSequence, GruOptions(name="nlp/seq2seq-gru", layers=2, attention="additive", **SMALL)),
    (TransformerSequence, TransformerOptions(name="nlp/seq2seq-transformer", heads=2, layers=2, **SMALL)),
]


class Chain:
    """Steps whose next token depends on the newest one and on the row's own table [tokens, tokens]."""

    def __init__(self, tables: Tensor) -> None:
        self._tables = tables.log_softmax(-1)
        self.calls = 0

    def next(self, tokens: Tensor) -> Tensor:
        self.calls += 1
        return self._tables[torch.arange(len(tokens)), tokens]

    def select(self, rows: Tensor) -> None:
        self._tables = self._tables[rows]


def found(tables: Tensor, *, limits: Sequence[int], forced: int | None = None, **options: Any) -> list[Found]:
    """What a search finds on chains."""
    rules = Rules(start=START, ends=(END,), banned=(START,), longest=99, forced=forced)
    device = torch.device("cpu")
    return search(Chain(tables), limits=limits, rules=rules, options=Decoding(**options), device=device)


def best_of_all(table: Tensor, *, longest: int, penalty: float) -> tuple[float, tuple[int, ...]]:
    """The best finished text among all, by brute force."""
    probable = table.log_softmax(-1)
    scored = []
    for length in range(longest):
        for text in itertools.product(range(2, len(table)), repeat=length):
            steps = itertools.pairwise((START, *text, END))
            total = sum(float(probable[one, other]) for one, other in steps)
            scored.append((total / (length + 1) ** penalty, text))
    return max(scored)


def chains(count: int, size: int = 5) -> Tensor:
    return 2 * torch.randn(count, size, size, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_text(penalty: float) -> None:
    tables = chains(6)
    for each, answer in zip(tables, found(tables, limits=[5] * 6, beam=150, length_penalty=penalty), strict=True):
        score, text = best_of_all(each, longest=5, penalty=penalty)
        assert answer.tokens == text
        assert answer.score(penalty) == pytest.approx(score, rel=1e-5)


def test_a_beam_of_one_takes_the_most_probable_token_each_time() -> None:
    tables = chains(5)
    for table, answer in zip(tables, found(tables, limits=[6] * 5, beam=1), strict=True):
        tokens = [START]
        while tokens[-1] != END and len(tokens) <= 6:
            row = table[tokens[-1]].clone()
            row[START] = -torch.inf
            tokens.append(int(row.argmax()))
        assert [*answer.tokens, *([END] if answer.finished else [])] == tokens[1:]


def test_what_is_found_for_one_does_not_depend_on_the_others() -> None:
    tables, limits = chains(7), [1, 2, 3, 4, 5, 6, 7]
    together = found(tables, limits=limits, beam=3)
    alone = [found(tables[index : index + 1], limits=[limit], beam=3)[0] for index, limit in enumerate(limits)]
    assert together == alone
    assert found(tables[:0], limits=[]) == []


def test_lengths_repeats_and_first_tokens_can_be_ruled() -> None:
    endless = torch.zeros(1, 5, 5)
    endless[:, :, 2], endless[:, :, END] = 5.0, -5.0
    short = found(endless, limits=[4], beam=1)[0]
    assert (short.tokens, short.finished) == ((2, 2, 2, 2), False)
    assert len(set(itertools.pairwise(found(endless, limits=[9], beam=2, no_repeat=2)[0].tokens))) >= 4
    eager = torch.zeros(1, 5, 5)
    eager[:, :, END] = 9.0
    assert found(eager, limits=[9], beam=2)[0].tokens == ()
    assert len(found(eager, limits=[9], beam=2, min_length=3)[0].tokens) == 3
    assert found(eager, limits=[9], beam=2, forced=4)[0].tokens == (4,)


def test_rows_of_sentences_that_are_done_cost_nothing() -> None:
    eager = torch.zeros(2, 5, 5)
    eager[:, :, END] = 9.0
    steps = Chain(eager)
    rules = Rules(start=START, ends=(END,), banned=(START,), longest=50)
    search(steps, limits=[50, 50], rules=rules, options=Decoding(beam=1), device=torch.device("cpu"))
    assert steps.calls == 1


def create(cls: type[SequenceModel], options: NetworkOptions, examples: Sequence[SequenceExample] = PAIRS) -> Any:
    return cls.create(options=options, problem=PROBLEM, train=TextSplit(examples), seed=0)


@pytest.mark.parametrize(("cls", "options"), OPTIONS)
def test_token_by_token_a_network_gives_what_it_gives_for_the_whole(cls: Any, options: Any) -> None:
    model = create(cls, options).eval()
    batch = model.processor.collate(PAIRS[:4], [Key(0, 0, index) for index in range(4)], training=False)
    with torch.no_grad():
        whole = model.network.vectors(model.network(batch["source"], batch["mask"], batch["written"])).log_softmax(-1)
        steps = model.network.steps(batch["source"], batch["mask"])
        for place in range(batch["written"].shape[1]):
            torch.testing.assert_close(steps.next(batch["written"][:, place]), whole[:, place], atol=1e-5, rtol=1e-4)
            order = torch.tensor([3, 2, 1, 0])
            steps.select(order)
            batch.tensors["written"], whole = batch["written"][order], whole[order]


@pytest.mark.parametrize(("cls", "options"), OPTIONS)
def test_fillers_change_nothing(cls: Any, options: Any) -> None:
    model = create(cls, options).eval()
    short, long = PAIRS[0], SequenceExample(" ".join([each.text for each in PAIRS[:9]]), None, ("drei " * 20,), "long")
    with torch.no_grad():
        alone = [model.forward(model.processor.collate([each], [], training=False)) for each in (short, long)]
        both = model.forward(model.processor.collate([short, long], [], training=False))
    torch.testing.assert_close(both.logits, torch.cat([each.logits for each in alone]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("cls", "options"), OPTIONS[::2])
def test_a_few_pairs_learnt_by_heart_are_written_to_the_letter(cls: Any, options: Any) -> None:
    model = create(cls, options.model_copy(update={"label_smoothing": 0.0}))
    optimizer = torch.optim.Adam(model.parameters(), 0.01 if cls is GruSequence else 0.003)
    batch = model.processor.collate(PAIRS[:6], [Key(0, 0, index) for index in range(6)], training=True)
    for _ in range(120):
        optimizer.zero_grad()
        model(batch).loss.backward()
        optimizer.step()
    for decoding in (Decoding(beam=1), Decoding(beam=4)):
        model.options = options.model_copy(update={"decoding": decoding})
        answers = model.predict([SequenceExample(each.text) for each in PAIRS[:6]])
        assert [each.text for each in answers] == [each.references[0] for each in PAIRS[:6]]
        assert all(each.finished and each.log_probability > -0.2 for each in answers)


def test_any_text_at_all_is_answered() -> None:
    odd = ["😀" * 300, "שלום עולם", "\x00\x07\u200f\u2028", "\ud800", "한국어 日本語", "x" * 1_000_000]
    model = create(GruSequence, GruOptions(name="nlp/seq2seq-gru", max_target=5, **SMALL))
    answers = model.predict_all([SequenceExample(each) for each in odd], batch_size=2)
    assert [isinstance(each.text, str) for each in answers] == [True] * len(odd)
    alone = [model.predict([SequenceExample(each)])[0] for each in odd]
    assert [each.text for each in answers] == [each.text for each in alone]


def test_an_input_that_is_too_long_is_cut_and_says_so() -> None:
    options = GruOptions(name="nlp/seq2seq-gru", max_source=6, max_target=4, **SMALL)
    model = create(GruSequence, options, [SequenceExample("a b c d e f g h", None, ("x y z w v",), "0"), *PAIRS[:3]])
    assert [note.split(";")[1] for note in model.notes] == [
        " model.max_source changes it",
        " model.max_target changes it",
    ]
    answers = model.predict([SequenceExample("one"), SequenceExample("one two " * 100_000)])
    assert answers[0].cut == 0
    assert answers[1].cut > 100_000


def test_each_visit_draws_one_of_several_references_by_its_key() -> None:
    example = SequenceExample("one", None, ("eins", "ein", "eine"), "0")
    model = create(GruSequence, GruOptions(name="nlp/seq2seq-gru", **SMALL), [example, *PAIRS[:4]])

    def target(epoch: int, *, training: bool = True) -> str:
        batch = model.processor.collate([example], [Key(0, epoch, 0)], training=training)
        return str(model.processor.tokenizer.decode(batch["target"][0].tolist()))

    assert {target(epoch) for epoch in range(20)} == {"eins", "ein", "eine"}
    assert target(7) == target(7)
    assert target(3, training=False) == "eins"


@pytest.mark.parametrize("kind", ["t5", "bart", "marian"])
def test_the_search_finds_what_generate_of_transformers_finds(kind: str) -> None:
    options = TransformersOptions(
        name=f"transformers/{kind}", hidden=32, layers=1, heads=2, intermediate=64, vocabulary=300, dropout=0.0,
        sequence={"max_target": 12, "label_smoothing": 0.0},
    )  # fmt: skip
    model: Any = TransformersModel.create(options=options, problem=PROBLEM, train=TextSplit(PAIRS), seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 0.005)
    batch = model.processor.collate(PAIRS, [Key(0, 0, index) for index in range(len(PAIRS))], training=True)
    for _ in range(25):  # enough for texts that differ and end
        optimizer.zero_grad()
        model(batch).loss.backward()
        optimizer.step()
    model.eval()
    given = model.processor.collate(PAIRS[:8], [Key(0, 0, index) for index in range(8)], training=False)
    inputs = {name: given[name] for name in ("input_ids", "attention_mask")}
    network, tokenizer = model.network, model.processor.tokenizer
    start = network.config.decoder_start_token_id
    for beam in (1, 3):
        block = {"beam": beam, "max_length": 11}
        model.processor.head.options = options.model_copy(
            update={"sequence": options.sequence.model_copy(update={"decoding": Decoding(**block)})}
        )
        ours = model.predict([SequenceExample(each.text) for each in PAIRS[:8]])
        with torch.no_grad():
            rows = network.generate(
                **inputs, num_beams=beam, do_sample=False, max_new_tokens=11, early_stopping=beam > 1,
                length_penalty=1.0, bad_words_ids=[[each] for each in {tokenizer.pad, start} - {tokenizer.id("eos")}],
            )  # fmt: skip
        theirs = [tokenizer.decode(row).strip() for row in rows.tolist()]
        finished = [each.finished for each in ours]
        assert any(finished)
        assert [each.text for each, done in zip(ours, finished, strict=True) if done] == [
            text for text, done in zip(theirs, finished, strict=True) if done
        ]


def test_low_rank_matrices_are_all_that_t5_learns() -> None:
    transformers()  # before peft, which would import it beside a torchaudio that does not fit
    pytest.importorskip("peft")
    options = TransformersOptions(
        name="transformers/t5", hidden=32, layers=1, heads=2, intermediate=64, vocabulary=300, lora={}
    )
    model: Any = TransformersModel.create(options=options, problem=PROBLEM, train=TextSplit(PAIRS), seed=0)
    learnt = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert learnt
    assert all("lora_" in name or ".lm_head." in name for name in learnt)


def test_baselines_copy_and_take_the_first_sentences() -> None:
    text = SequenceExample("A fire broke out. Nobody was hurt! Nobody knew why.", sentences=())
    listed = SequenceExample("A. b. c.", sentences=("A. b.", "c."))
    problem = {**PROBLEM, "kind": "summarization"}
    assert Copy.create(options=None, problem=problem, train=None, seed=0).predict([text])[0].text == text.text
    lead = Lead.create(options=LeadOptions(name="nlp/lead-1"), problem=problem, train=None, seed=0)
    assert [each.text for each in lead.predict([listed, text])] == ["A. b.", "A fire broke out."]
    three = Lead.create(options=LeadOptions(name="nlp/lead-3", sentences=3), problem=problem, train=None, seed=0)
    assert three.predict([text])[0].text == text.text


def test_a_dictionary_learns_words_of_any_order(tmp_path: Path) -> None:
    rows = [{"source": each.text, "target": each.references[0]} for each in PAIRS]
    run = plait.train(
        "nlp/translation", "nlp/word-dictionary", {"train": rows[:40], "test": rows[40:]}, out=tmp_path / "run",
        output={"baselines": False, "tensorboard": False, "report": False},
    )  # fmt: skip
    answer = plait.load(run.path)
    assert answer("five, one!").prediction == "fünf, eins!"
    assert answer("one two three four five nobody").prediction == "eins zwei drei vier fünf nobody"
    lines = map(json.loads, (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    values = [line["metrics"]["log_likelihood"] for line in lines if line["split"] == "train"]
    assert len(values) > 2
    assert values == sorted(values)


def test_how_texts_are_found_may_be_changed_afterwards(tmp_path: Path) -> None:
    rows = [{"source": each.text, "target": each.references[0]} for each in PAIRS]
    run = plait.train(
        "nlp/translation", {"name": "nlp/seq2seq-gru", **SMALL, "decoding": {"beam": 2}},
        {"train": rows[:40], "valid": rows[40:50], "test": rows[50:]}, out=tmp_path / "run",
        trainer={"epochs": 2, "batch_size": 8, "learning_rate": 0.01}, engine={"device": "cpu"},
        output={"baselines": False, "tensorboard": False},
    )  # fmt: skip
    greedy: Any = plait.load(run.path, options={"decoding": {"beam": 1, "max_length": 1}})
    assert greedy.artifact.model.options.decoding.beam == 1
    texts = [row["source"] for row in rows[:9]]
    answers = greedy.predict(texts)
    assert all(each.scores["log_probability"] < 0 for each in answers)
    assert {len(greedy.artifact.model.processor.tokenizer.encode([each.prediction])[0]) for each in answers} <= {1, 2}
    assert (run.path / "report.html").read_text(encoding="utf-8").count("tok:13a") >= 1


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"model\.width=32 is odd, or no multiple of model\.heads=3"):
        create(TransformerSequence, TransformerOptions(name="x", **{**SMALL, "heads": 3}))
