"""Which sequence, factor, two-tower and content models does the plugin offer? It imports no implementation."""

from __future__ import annotations

from plait_registry import ModelSpec

RETRIEVAL = "recommendation/retrieval"

SEQUENCE_NAMES = ("recommendation/sasrec", "recommendation/gru4rec", "recommendation/bert4rec")
FACTOR_NAMES = ("recommendation/lightgcn", "recommendation/bpr-mf", "recommendation/content-based")
RETRIEVAL_NAMES = ("recommendation/two-tower", "recommendation/content-based")
"""What to try, in this order, on next-item, beside closed forms on top-n, and on retrieval."""

_TOP_N, _NEXT_ITEM = "recommendation/top-n", "recommendation/next-item"
_SEQUENCE = {
    "trainer.epochs": 36, "trainer.batch_size": 16, "trainer.learning_rate": 0.002,
    "trainer.evaluation_batch_size": 256, "trainer.log_every": 50,
}  # fmt: skip
_FACTORS = {
    "trainer.epochs": 20, "trainer.batch_size": 2048, "trainer.learning_rate": 0.01, "trainer.weight_decay": 0.0,
    "trainer.evaluation_batch_size": 256,
}  # fmt: skip
_TINY = {"model.width": 16, "model.length": 12, "trainer.learning_rate": 0.01}
_TINY_FACTORS = {"model.width": 8, "trainer.learning_rate": 0.05, "trainer.batch_size": 256}

LEARNED_MODELS = (
    ModelSpec(
        name="recommendation/sasrec",
        summary="Causal self-attention over the last items (SASRec), cross-entropy over all items, sampled, or gBCE",
        target="plait_recommendation.sequence.sasrec:Sasrec",
        tasks=(_NEXT_ITEM, _TOP_N), trainer="gradient",
        conformance=(
            {**_TINY, "model.blocks": 1}, {**_TINY, "model.blocks": 1, "model.loss": "gbce"},
            {**_TINY, "model.blocks": 1, "model.positions": "learned"},
        ),
        defaults={**_SEQUENCE, "trainer.epochs": 32},
    ),
    ModelSpec(
        name="recommendation/gru4rec",
        summary="A gated recurrent network over the last items (GRU4Rec)",
        target="plait_recommendation.sequence.gru4rec:Gru4rec",
        tasks=(_NEXT_ITEM, _TOP_N), trainer="gradient", conformance=(_TINY,), defaults=_SEQUENCE,
    ),
    ModelSpec(
        name="recommendation/bert4rec",
        summary="Attention in both directions that tells masked items (BERT4Rec)",
        target="plait_recommendation.sequence.bert4rec:Bert4rec",
        tasks=(_NEXT_ITEM, _TOP_N), trainer="gradient", conformance=({**_TINY, "model.blocks": 1},),
        defaults={**_SEQUENCE, "trainer.epochs": 60},
    ),
    ModelSpec(
        name="recommendation/bpr-mf",
        summary="A vector for each user and item, fitted pairwise (BPR-MF)",
        target="plait_recommendation.factors.bpr:BprMf",
        tasks=(_TOP_N,), trainer="gradient", conformance=({**_TINY_FACTORS, "model.penalty": 0.0},),
        defaults={**_FACTORS, "model.negatives": 8, "model.penalty": 0.05},
    ),
    ModelSpec(
        name="recommendation/lightgcn",
        summary="Vectors that spread over the graph of users and items (LightGCN)",
        target="plait_recommendation.factors.lightgcn:LightGcn",
        tasks=(_TOP_N,), trainer="gradient", conformance=({**_TINY_FACTORS, "model.layers": 2},),
        defaults={**_FACTORS, "model.negatives": 8, "model.penalty": 0.001},
    ),
    ModelSpec(
        name="recommendation/two-tower",
        summary="A network for users and one for items, in-batch softmax with logQ; exact or approximate search",
        target="plait_recommendation.retrieval.model:TwoTower",
        tasks=(RETRIEVAL,), trainer="gradient",
        conformance=(
            {**_TINY, "model.hidden": 16, "trainer.batch_size": 256},
            {**_TINY, "model.hidden": 0, "model.search": "ivf", "model.probes": 3, "trainer.batch_size": 256},
        ),
        defaults={**_FACTORS, "trainer.batch_size": 512, "trainer.learning_rate": 0.003, "trainer.epochs": 20},
    ),
    ModelSpec(
        name="recommendation/content-based",
        summary="Items like those of the history, by words, given vectors, or any registered embedding predictor",
        target="plait_recommendation.content.model:ContentBased",
        tasks=(_TOP_N, RETRIEVAL), trainer="iterative",
        conformance=({"model.columns": ["title", "tags"], "model.hashes": 64}, {"model.profile": "attention"}),
    ),
)  # fmt: skip
