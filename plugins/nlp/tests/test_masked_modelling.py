"""Hidden words: which are hidden, what a network makes of them, and how that is judged."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait.errors import DataError, InputError, RecipeError
from plait.libraries import transformers
from plait.model import Key
from plait.predictor import Predictor
from plait_nlp.architectures.network import TransformersModel
from plait_nlp.architectures.options import TransformersOptions
from plait_nlp.architectures.tokenizers import train_tokenizer
from plait_nlp.demo_data import synthetic_stories
from plait_nlp.documents import Document, DocumentOptions, Examples, read_documents, split_sentences
from plait_nlp.masked_modelling.evaluation import MaskedEvaluator
from plait_nlp.masked_modelling.packing import Spans, Template, pack
from plait_nlp.masked_modelling.passages import Passage, marked, passages_of
from plait_nlp.masked_modelling.task import MaskedLanguageModelling, MaskedOptions
from plait_nlp.masked_modelling.unigram import Unigram, UnigramOptions

TINY = {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 32, "max_length": 40, "vocabulary": 300}
STORIES = synthetic_stories()[:60]
DOCUMENTS = [Document(tuple(each), str(index)) for index, each in enumerate(STORIES)]
QUIET = {"baselines": False, "tensorboard": False, "report": False}


def examples() -> Examples:
    """Training documents."""
    return Examples(DOCUMENTS, (" ".join(each.sentences) for each in DOCUMENTS))


def problem(next_sentence: bool = False) -> dict[str, Any]:
    """As the task has it."""
    objective = "hidden-words-and-next-sentence" if next_sentence else "hidden-words"
    return {"objective": objective, "next_sentence": next_sentence}


def model(name: str = "transformers/bert", *, next_sentence: bool = False, **options: Any) -> TransformersModel:
    """A tiny model that is not fitted."""
    made = TransformersOptions(name=name, **{**TINY, **options})
    return TransformersModel.create(options=made, problem=problem(next_sentence), train=examples(), seed=0)


def batch_of(made: TransformersModel, count: int = 200, epoch: int = 0) -> Any:
    """A training batch of the first spans."""
    units = made.processor.units(examples())
    indices = [index % len(units) for index in range(count)]
    keys = [Key(0, epoch, index) for index in range(count)]
    return made.processor.collate([units[index] for index in indices], keys, training=True)


# Training rows


def test_spans_hold_every_token_once_and_fit_a_row() -> None:
    tokenizer = train_tokenizer([each for story in STORIES for each in story], size=300)
    spans = pack(examples(), tokenizer, budget=37, words=False)
    assert isinstance(spans, Spans)
    whole = [token for story in STORIES for row in tokenizer.encode(story, special=False) for token in row]
    assert np.concatenate([spans.ids[spans.whole(index)] for index in range(len(spans))]).tolist() == whole
    assert max(spans.lengths()) <= 37
    assert min(spans.lengths()) > 0
    for index in range(len(spans)):  # no span is of two documents
        own = tokenizer.encode([" ".join(STORIES[int(spans.documents[index])])], special=False)[0]
        row = spans.ids[spans.whole(index)].tolist()
        assert any(own[at : at + len(row)] == row for at in range(len(own)))


def test_a_sentence_longer_than_a_row_is_divided() -> None:
    tokenizer = train_tokenizer(["word " * 50], size=100)
    split = Examples([Document(("word " * 50,), "0")], ["word"])
    assert pack(split, tokenizer, budget=20, words=False).lengths() == [20, 20, 10]


def test_of_the_tokens_chosen_most_are_hidden_some_changed_some_kept() -> None:
    made = model(masking={"probability": 0.2})
    batch = batch_of(made, 600)
    chosen, target, ids = batch["masked"], batch["target"], batch["input_ids"]
    content = int((batch["attention_mask"].sum() - 2 * batch.size).item())
    assert batch.count == int(chosen.sum())
    assert batch.count / content == pytest.approx(0.2, abs=0.01)
    assert (target[~chosen] == -100).all()
    mask = made.processor.tokenizer.id("mask")
    hidden, kept = (ids == mask)[chosen].float().mean(), (ids == target)[chosen].float().mean()
    assert float(hidden) == pytest.approx(0.8, abs=0.03)
    assert float(kept) == pytest.approx(0.1, abs=0.03)
    assert not ((ids == mask) & ~chosen).any()
    special = [made.processor.tokenizer.id(role) for role in ("cls", "sep", "pad")]
    assert not torch.isin(target[chosen], torch.tensor(special)).any()


def test_each_epoch_hides_other_tokens_and_a_batch_does_not_matter() -> None:
    made = model(next_sentence=True)
    units = made.processor.units(examples())
    keys = [Key(0, 1, index) for index in range(12)]
    together = made.processor.collate([units[index] for index in range(12)], keys, training=True)
    assert not torch.equal(together["masked"], batch_of(made, 12, epoch=0)["masked"])
    for row, key in enumerate(keys):
        alone = made.processor.collate([units[key.index]], [key], training=True)
        size = int(alone["attention_mask"].sum())
        for name in ("input_ids", "target", "masked", "token_type_ids"):
            assert torch.equal(alone[name][0, :size], together[name][row, :size]), name
    copy = pickle.loads(pickle.dumps(made.processor))  # noqa: S301  # our own: as loader processes get it
    again = copy.collate([units[index] for index in range(12)], keys, training=True)
    assert torch.equal(again["input_ids"], together["input_ids"])


def test_whole_words_are_chosen_whole() -> None:
    made = model(vocabulary=60, masking={"whole_words": True})  # so few that most words are of several tokens
    units, tokenizer = made.processor.units(examples()), made.processor.tokenizer
    continues = {number for token, number in tokenizer.tokenizer.get_vocab().items() if token.startswith("##")}
    parts = 0
    batch = made.processor.collate(
        [units[index] for index in range(40)], [Key(0, 0, each) for each in range(40)], training=True
    )
    whole = torch.where(batch["masked"], batch["target"], batch["input_ids"])
    for ids, chosen in zip(whole.tolist(), batch["masked"].tolist(), strict=True):
        for place, token in enumerate(ids):
            if token in continues:
                parts += 1
                assert chosen[place] == chosen[place - 1]
    assert parts > 100


def test_half_of_the_pairs_go_on_and_the_others_are_of_another_document() -> None:
    made = model(next_sentence=True, max_length=80)
    batch = batch_of(made, 600)
    follows = batch["follows"]
    assert set(follows.tolist()) == {0, 1}
    assert float((follows == 1).float().mean()) == pytest.approx(0.5, abs=0.07)
    whole = torch.where(batch["masked"], batch["target"], batch["input_ids"])
    true = {" ".join(story).replace(" .", ".") for story in STORIES}
    for row in range(100):
        content = batch["attention_mask"][row].bool()
        parts = [whole[row][content & (batch["token_type_ids"][row] == kind)].tolist() for kind in (0, 1)]
        text = " ".join(made.processor.tokenizer.decode(part) for part in parts).replace(" .", ".")
        assert any(text in each for each in true) == (follows[row] == 0)
    lengths = [
        float((batch["token_type_ids"] * batch["attention_mask"])[follows == kind].sum(1).float().mean())
        for kind in (0, 1)
    ]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.15)  # else the length would tell


@pytest.mark.parametrize("style", ["bert", "gpt", "seq2seq"])
@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram", "char"])
def test_rows_are_made_as_the_tokenizer_makes_them(kind: Any, style: Any) -> None:
    texts = [each for story in STORIES for each in story]
    tokenizer = train_tokenizer(texts, kind=kind, style=style, size=300)
    template = Template.of(tokenizer)
    one, other = (np.array(tokenizer.encode([text], special=False)[0]) for text in texts[:2])
    pair = tokenizer.encodings([(texts[0], texts[1])])[0]
    assert template.row(one, None)[0] == tokenizer.encode(texts[:1])[0]
    assert template.row(one, other)[:2] == (pair.ids, pair.type_ids)


# The network


@pytest.mark.parametrize("next_sentence", [False, True])
def test_the_loss_is_that_of_transformers(next_sentence: bool) -> None:
    made = model(next_sentence=next_sentence, dropout=0.0)
    batch = batch_of(made, 16)
    found = made.eval()(batch)
    labels = {"labels": batch["target"]}
    with torch.no_grad():
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
        whole = made.network(**inputs, **labels, **({"next_sentence_label": batch["follows"]} if next_sentence else {}))
    if not next_sentence:
        torch.testing.assert_close(found.loss, whole.loss)
    else:  # theirs weighs every pair alike, ours by its hidden tokens
        logits = whole.prediction_logits.float()
        words = torch.nn.functional.cross_entropy(logits[batch["masked"]], batch["target"][batch["masked"]])
        pairs = torch.nn.functional.cross_entropy(whole.seq_relationship_logits, batch["follows"], reduction="none")
        torch.testing.assert_close(whole.loss, words + pairs.mean())
        weights = batch["masked"].sum(1) / batch["masked"].sum()
        torch.testing.assert_close(found.loss, words + (pairs * weights).sum())
    assert found.logits.shape == (batch.count, len(made.processor.tokenizer))


def test_micro_batches_add_up_to_the_batch() -> None:
    made = model(next_sentence=True, dropout=0.0).eval()
    units = made.processor.units(examples())
    keys = [Key(0, 0, index) for index in range(10)]
    whole = made.processor.collate([units[each.index] for each in keys], keys, training=True)
    parts = [
        made.processor.collate([units[each.index] for each in some], some, training=True)
        for some in (keys[:3], keys[3:])
    ]
    summed = sum(made(part).loss.item() * part.count / whole.count for part in parts)
    assert summed == pytest.approx(made(whole).loss.item(), rel=1e-5)


def test_architectures_that_cannot_are_refused_before_training() -> None:
    with pytest.raises(RecipeError, match="no output for whether a text goes on") as caught:
        model("transformers/roberta", next_sentence=True)
    assert "data.next_sentence=false" in str(caught.value.hint)
    with pytest.raises(RecipeError, match="told by an encoder"):
        model("transformers/bart")
    with pytest.raises(RecipeError, match="has no MaskedLM form"):
        model("transformers/gpt2")


# Judging


def test_the_same_words_are_hidden_for_everybody() -> None:
    one, other = (passages_of(DOCUMENTS, words=20, fraction=0.15, next_sentence=True) for _ in range(2))
    assert one == other
    for each in one:
        assert each.answers is not None
        assert [(each.text, each.pair or "")[which][start:end] for which, start, end in each.spans] == list(
            each.answers
        )
        assert len(f"{each.text} {each.pair or ''}".split()) <= 40
    told = [each.follows for each in one if each.pair is not None]
    assert 0.35 < sum(map(bool, told)) / len(told) < 0.65


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4), st.integers(4, 12))
def test_any_document_gives_sound_passages(sentences: Sequence[str], words: int) -> None:
    found = split_sentences(sentences)
    if isinstance(found, str):
        assert not any(each.strip() for each in sentences)
        return
    for each in passages_of([Document(found, "x")], words=words, fraction=0.3, next_sentence=False):
        assert each.answers
        assert [each.text[start:end] for _, start, end in each.spans] == list(each.answers)
        assert len(each.text.split()) <= words


def test_a_model_is_judged_by_the_words_as_slow_code_has_it() -> None:
    made = model(vocabulary=60, max_length=24).eval()
    passages = passages_of(DOCUMENTS[:8], words=20, fraction=0.2, next_sentence=False)
    predictions = made.predict(passages)
    judge = MaskedEvaluator()
    judge.update(predictions, passages)
    tokenizer, nats, size, tokens, right, spelled = made.processor.tokenizer, 0.0, 0, 0, 0, 0
    for passage in passages:
        assert passage.answers is not None
        size += len("".join(passage.answers).encode())
        encoding = tokenizer.encodings([passage.text], length=24)[0]
        places = [
            [at for at, (start, end) in enumerate(encoding.offsets) if start < last and end > first and start < end]
            for _, first, last in passage.spans
        ]
        ids = torch.tensor([encoding.ids])
        hidden = ids.clone()
        hidden[0, [at for each in places for at in each]] = int(tokenizer.id("mask") or 0)
        with torch.no_grad():
            scores = made.network(input_ids=hidden).logits[0].double().log_softmax(1)
        for at, word in zip(places, passage.answers, strict=True):
            spelled += not at
            nats += len(word.encode()) * 8 * math.log(2) if not at else -float(scores[at, ids[0, at]].sum())
            tokens += max(1, len(at))
            right += int((scores[at].argmax(1) == ids[0, at]).sum()) if at else 0
    metrics = judge.compute()
    assert spelled > 0  # some passages are longer than the model sees
    assert metrics["spelled"] == pytest.approx(spelled / sum(len(each.answers or ()) for each in passages))
    assert metrics["bits_per_byte"] == pytest.approx(nats / size / math.log(2), rel=1e-5)
    assert metrics["accuracy"] == pytest.approx(right / tokens)
    table = judge.table()
    assert judge.measure(table, np.ones((1, len(table))))[0] == pytest.approx(metrics["bits_per_byte"])
    assert judge.sections()


def test_predictions_for_other_passages_count_as_none() -> None:
    passages = passages_of(DOCUMENTS[:4], words=20, fraction=0.2, next_sentence=False)
    fitted = unigram()
    judge = MaskedEvaluator()
    judge.update(fitted.predict(passages[:1]), passages[1:2])
    assert judge.compute()["bits_per_byte"] == pytest.approx(8.0)
    with pytest.raises(ValueError, match="1 predictions for 2 examples"):
        judge.update(fitted.predict(passages[:1]), passages[:2])


def unigram() -> Unigram:
    """Fitted on the stories."""
    from plait.engine.local import LocalEngine
    from plait.options import EngineOptions

    made = Unigram.create(options=UnigramOptions(name="nlp/unigram"), problem=problem(), train=None, seed=0)
    made.finish(
        made.step(examples(), made.start(examples(), LocalEngine(EngineOptions())), LocalEngine(EngineOptions()))[0]
    )
    return made


def test_unigram_probabilities_are_those_of_all_words_there_are() -> None:
    made = unigram()
    known = sum(math.exp(made.log_probability(word)) for word in made.counts)
    spelled = [
        sum(float(made._letters[byte]) for byte in word.encode()) + float(made._letters[-1]) for word in made.counts
    ]
    different, total = len(made.counts), sum(made.counts.values())
    # what is left is what the spelling gives to words that were never seen
    unseen = different / (total + different) * (1 - sum(map(math.exp, spelled)))
    assert known + unseen == pytest.approx(1.0)
    assert float(made._letters.exp().sum()) == pytest.approx(1.0)
    assert made.log_probability("the") > made.log_probability("harbour") > made.log_probability("zzyzx")


# The task


def read(source: Any, **options: Any) -> Any:
    """The splits of a source."""
    return MaskedLanguageModelling(options=MaskedOptions(**options), seed=0).read(source)


def test_documents_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    stories = STORIES[:12]
    (tmp_path / "a.txt").write_text("\n\n".join("\n".join(each) for each in stories), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps({"body": each}) for each in stories), encoding="utf-8")
    lines = ["text", *(f'"{" ".join(each).replace(" .", ".").title()}"' for each in stories)]
    (tmp_path / "c.csv").write_text("\n".join(lines), encoding="utf-8")
    for source, options in (
        (str(tmp_path / "a.txt"), {}), (str(tmp_path / "b.jsonl"), {"fields": {"text": "body"}}),
        (str(tmp_path / "c.csv"), {}), (stories, {}),
    ):  # fmt: skip
        found = read_documents(source, options=DocumentOptions.model_validate(options), seed=0, fixed=False)
        assert sum(map(len, found.parts.values())) == 12
        assert all(len(each.sentences) == 6 for part in found.parts.values() for each in part), source
    (tmp_path / "d.txt").write_text("\n".join(each for story in stories for each in story), encoding="utf-8")
    found = read_documents(str(tmp_path / "d.txt"), options=DocumentOptions(), seed=0, fixed=False)
    assert sum(map(len, found.parts.values())) == 72  # without blank lines, a line is a document


def test_bad_documents_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": ["good.", "better."]}\n{"text": []}\n{"text": ["", " "]}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)bad\.jsonl:2 has no sentence.*bad\.jsonl:3 has no sentence"):
        read(str(path))
    with pytest.raises(DataError, match=r"data\[1\] has a sentence that is no text, but int: 3"):
        read([["good.", "better."], ["a", 3]])
    (tmp_path / "empty.txt").write_text("\n\n  \n", encoding="utf-8")
    with pytest.raises(DataError, match="no documents in"):
        read(str(tmp_path / "empty.txt"))
    (tmp_path / "broken.txt").write_bytes(b"fine\n\nnot \xff\xfe fine \x81\n")
    with pytest.raises(DataError, match=r"broken\.txt:3"):
        read(str(tmp_path / "broken.txt"), encoding="utf-8")
    (tmp_path / "names.csv").write_text("txet\nhello\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'text'") as caught:
        read(str(tmp_path / "names.csv"))
    assert "txet" in str(caught.value.hint)
    with pytest.raises(DataError, match="has two sentences"):
        read([["one"], ["two"], ["three"], ["four"]] * 3, next_sentence=True)
    with pytest.raises(DataError, match="no word that could be hidden"):
        read({"train": ["one two", "three"], "valid": ["..."]})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A fitted run, with pairs."""
    block = {"name": "transformers/bert", **TINY, "hidden": 32, "max_length": 80, "dropout": 0.0}
    return plait.train(
        "nlp/masked-language-modelling", block, {"source": "synthetic-stories", "next_sentence": True},
        out=tmp_path_factory.mktemp("runs") / "run", trainer={"epochs": 2, "learning_rate": 0.01, "batch_size": 16},
        output=QUIET | {"baselines": True},
    )  # fmt: skip


def test_stories_are_learned_and_frequencies_printed_beside_them(run: Any) -> None:
    metrics, baseline = run.metrics["test"], run.info["baselines"]["nlp/unigram"]["test"]
    loaded = plait.load(run.path)
    assert isinstance(loaded, Predictor)
    tokens = len(loaded.artifact.model.processor.tokenizer)  # type: ignore[attr-defined]  # of this model
    assert metrics["perplexity"] < tokens / 2  # of a network that knows nothing it is the number of tokens
    assert metrics["bits_per_byte"] < 1.3 * baseline["bits_per_byte"]
    assert set(baseline) >= {"bits_per_byte", "perplexity", "word_accuracy", "next_sentence_accuracy"}


def test_hidden_words_are_filled_in(run: Any) -> None:
    predictor = plait.load(run.path)
    assert isinstance(predictor, Predictor)
    answer = predictor("the sailor comes to the [MASK] in the morning .")
    assert answer.scores is not None
    assert len(answer.scores) == 5
    assert list(answer.scores.values()) == sorted(answer.scores.values(), reverse=True)
    best = next(iter(answer.scores))
    assert answer.prediction == f"the sailor comes to the {best} in the morning ." == answer.outputs["text"]
    two = predictor({"text": "the <mask> waits .", "pair": "there is [MASK] for the king ."})
    assert two.scores is not None
    assert 0 <= two.scores["follows"] <= 1
    assert {name[:3] for name in two.scores if name != "follows"} == {"1: ", "2: "}
    assert "[MASK]" not in two.prediction
    assert "<mask>" not in two.prediction
    wrong = predictor.predict(
        ["nothing is hidden", " ", 3, {"text": "a [MASK]", "pear": "b"}, "[MASK] " * 200, "😀 [MASK] مرحبا \x07"]
    )
    for each, words in zip(
        wrong, ["write [MASK]", "empty", "not a text", "unknown pear", "beyond what the model sees"], strict=False
    ):
        assert words in str(each.error)
    assert wrong[-1].error is None


def test_a_model_without_pairs_refuses_one() -> None:
    task = MaskedLanguageModelling(options=MaskedOptions(), seed=0)
    with pytest.raises(InputError, match="fitted without pairs"):
        task.parse({"text": "a [MASK]", "pair": "b"}, problem())
    assert task.parse({"text": marked("a [MASK]")}, problem()) == Passage("a [MASK]", None, ((0, 2, 8),))


def test_what_was_pretrained_is_fine_tuned_here_and_loads_with_transformers(run: Any, tmp_path: Path) -> None:
    library = transformers()
    theirs = library.AutoModel.from_pretrained(str(run.path / "model"), local_files_only=True)
    loaded = plait.load(run.path)
    assert isinstance(loaded, Predictor)
    trunk = loaded.artifact.model.network.bert  # type: ignore[attr-defined]  # of this architecture
    torch.testing.assert_close(theirs.state_dict(), trunk.state_dict(), rtol=0, atol=0)
    whole = library.AutoModelForMaskedLM.from_pretrained(str(run.path / "model"), local_files_only=True)
    assert torch.equal(whole.cls.predictions.decoder.weight, trunk.embeddings.word_embeddings.weight)
    whole.save_pretrained(str(tmp_path / "theirs"))
    library.AutoTokenizer.from_pretrained(str(run.path / "model"), local_files_only=True).save_pretrained(
        str(tmp_path / "theirs")
    )
    rows = [(story[0], "sea" if "harbour" in story[0] else "land") for story in STORIES]
    for block in (
        {"from": str(run.path)},
        {"name": "transformers/bert", "directory": str(run.path / "model")},
        {"name": "transformers/auto", "directory": str(tmp_path / "theirs")},
    ):
        made = plait.train(
            "nlp/text-classification", block, rows, out=tmp_path / str(len(list(tmp_path.iterdir()))),
            trainer={"epochs": 0}, output=QUIET,
        )  # fmt: skip
        fine = plait.load(made.path)
        assert isinstance(fine, Predictor)
        network = fine.artifact.model.network  # type: ignore[attr-defined]  # of this architecture
        torch.testing.assert_close(network.bert.encoder.state_dict(), trunk.encoder.state_dict(), rtol=0, atol=0)
        torch.testing.assert_close(network.bert.embeddings.state_dict(), trunk.embeddings.state_dict(), rtol=0, atol=0)
