"""Which examples see each other in a step, where a layer or the loss looks across them?"""

from __future__ import annotations

from collections.abc import Iterator

from plait.engine.base import Engine
from plait.engine.batch_norm import batch_norms
from plait.model import NeuralModel
from plait.training.batches import Order


def seen_together(model: NeuralModel, order: Order, engine: Engine) -> Iterator[str]:
    """A line for what sees fewer examples than a batch has, so that micro-batches or processes change the result."""
    share = -(-order.batch_size // order.world_size)
    micro = min(order.micro_batch_size or share, share)
    joined = min(order.batch_size, micro * order.world_size)
    if batch_norms(model):
        apart = order.world_size > 1 and not engine.options.sync_batch_norm
        seen = micro if apart else joined
        if seen < order.batch_size:
            whose = "one process's micro-batch" if apart else "a micro-batch"
            remedies = ["engine.sync_batch_norm=true is for those of all processes"] if apart else []
            remedies += ["trainer.micro_batch_size parts them"] if micro < share else []
            yield (
                f"batch norm sees the {seen} examples of {whose}, not the {order.batch_size} of the batch "
                f"({'; '.join(remedies)})"
            )
    if model.compares_examples and joined < order.batch_size:
        yield (
            f"the loss compares the {joined} examples of a micro-batch, not the {order.batch_size} of the batch "
            "(trainer.micro_batch_size parts them)"
        )
