"""What do the judges of written texts share: their table, the worst examples, and what went wrong in writing?"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from plait.engine.base import Engine
from plait.errors import DataError
from plait.evaluation import Evaluator, gather_table
from plait.report import Section, Table
from plait_nlp.sequence_to_sequence.examples import SequenceExample, WrittenText

_SHOWN, _WIDTH = 15, 300  # rows, and characters of a text, in a report


class WritingEvaluator(Evaluator):
    """Keeps what was written for which text, with numbers for each. It knows no model; a subclass has the numbers.

    Its table has `id`, `source` (its beginning), `target` (all references), `prediction`, `finished`, `cut` and the
    numbers.
    """

    numbers: ClassVar[Mapping[str, pa.DataType]]
    """The columns that a subclass adds."""
    worst: ClassVar[str]
    """The column whose smallest values are the worst examples."""

    def __init__(self) -> None:
        schema = [("id", pa.string()), ("source", pa.string()), ("target", pa.list_(pa.string()))]
        schema += [("prediction", pa.string()), ("finished", pa.bool_()), ("cut", pa.int64()), *self.numbers.items()]
        self._schema = pa.schema(schema)
        self._rows: list[pa.Table] = [self._schema.empty_table()]

    @abstractmethod
    def score(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> Mapping[str, Sequence[Any]]:
        """The numbers of each example, by column."""

    def update(self, predictions: Sequence[WrittenText], examples: Sequence[SequenceExample]) -> None:
        """Take in predictions and the examples that they are for.

        Raises:
            DataError: an example has no reference.
            ValueError: lengths differ.
        """
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        for each in examples:
            if not each.references:
                raise DataError(
                    f"{each.id}: has no target to judge a prediction by", hint="evaluate on data with targets"
                )
        if not examples:
            return
        written, references = [_sound(each.text) for each in predictions], [each.references for each in examples]
        columns: dict[str, Any] = {
            "id": [each.id for each in examples], "source": [_sound(each.text[:_WIDTH]) for each in examples],
            "target": [[_sound(text) for text in each] for each in references], "prediction": written,
            "finished": [each.finished for each in predictions], "cut": [each.cut for each in predictions],
        }  # fmt: skip
        self._rows.append(pa.table(columns | dict(self.score(written, columns["target"])), self._schema))

    def reduce(self, engine: Engine) -> None:
        self._rows = [gather_table(self.table(), engine)]

    def table(self) -> pa.Table:
        """See the class."""
        self._rows = [pa.concat_tables(self._rows).combine_chunks()]
        return self._rows[0]

    def writing(self) -> dict[str, int]:
        """How many texts were empty, did not end by themselves, or had an input that was cut."""
        table = self.table()
        return {
            "examples": len(table),
            "empty": sum(not text.strip() for text in table["prediction"].to_pylist()),
            "unfinished": len(table) - int(np.count_nonzero(table["finished"].to_numpy(zero_copy_only=False))),
            "cut_inputs": int(np.count_nonzero(table["cut"].to_numpy())),
        }

    def worst_examples(self) -> Section:
        """The examples with the smallest value of `worst`, whole."""
        table = self.table()
        order = np.argsort(table[self.worst].to_numpy(), kind="stable")[:_SHOWN].tolist()
        names = ("id", self.worst, "source", "target", "prediction")
        rows = []
        for row in table.select(names).take(order).to_pylist():
            rows.append(
                (row["id"], row[self.worst], row["source"], _short(row["target"][0]), _short(row["prediction"]))
            )
        return Section("Worst examples", "", Table(names, tuple(rows)))

    def told(self) -> str:
        """What a reader must know of the writing, in a sentence; "" where nothing was amiss."""
        found = self.writing()
        said = [
            f"{found['empty']} are empty" if found["empty"] else "",
            f"{found['unfinished']} were ended by the longest length that is allowed" if found["unfinished"] else "",
            f"{found['cut_inputs']} had an input whose end was cut" if found["cut_inputs"] else "",
        ]
        said = [each for each in said if each]
        return f"Of {found['examples']} texts {', '.join(said)}." if said else ""


def _sound(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate is no UTF-8


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
