"""How do the texts for a batch of inputs come about, on one process or in step with others?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from plait.engine.base import Engine
from plait.model import Batch
from plait_nlp.architectures.tokenizers import TextTokenizer
from plait_nlp.sequence_to_sequence.examples import WrittenText
from plait_nlp.sequence_to_sequence.options import Decoding
from plait_nlp.sequence_to_sequence.search import Rules, Steps, search


def write_batch(
    begin: Callable[[dict[str, Tensor]], Steps], tensors: Mapping[str, Tensor], batch: Batch, *, rules: Rules,
    tokenizer: TextTokenizer, options: Decoding, engine: Engine | None,
) -> list[WrittenText]:  # fmt: skip
    """The best text that the search finds for each input of a batch.

    Args:
        begin: gives the decoder at work on input tensors.
        tensors: of the inputs, [batch, places] each.
        batch: with "sizes" (tokens of each input) and "cut" (tokens that were left out) in its `extra`.
        engine: None: this process alone.
    """
    given, sizes = dict(tensors), batch.extra["sizes"]
    sharded = engine is not None and engine.sharded
    if not batch.size:
        if not sharded:
            return []
        # processes that share their weights make the same steps: this one goes through them with a row nobody reads
        given = {name: tensor.new_ones((1, 1)) for name, tensor in given.items()}
        sizes = [1]

    def everywhere(here: bool) -> bool:
        return here if engine is None or not sharded else bool(engine.reduce(float(here), "min"))

    found = search(
        begin(given), limits=limits_of(sizes, options, rules.longest), rules=rules, options=options,
        device=next(iter(given.values())).device, agreed=everywhere,
    )  # fmt: skip
    return [
        WrittenText(
            text=tokenizer.decode(each.tokens).strip(), finished=each.finished, cut=cut,
            log_probability=each.log_probability / max(1, len(each.tokens) + each.finished),
        )
        for each, cut in zip(found[: batch.size], batch.extra["cut"], strict=True)
    ]  # fmt: skip


def limits_of(sizes: Sequence[int], options: Decoding, longest: int) -> list[int]:
    """How many tokens may be written for inputs of these sizes (tokens)."""
    if options.max_length is not None:
        return [options.max_length] * len(sizes)
    return [min(longest, 2 * size + 10) for size in sizes]
