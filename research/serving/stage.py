"""A model as a stage of a chain: values in, and of each what the model makes of it, or why it makes nothing.

Nothing is compiled before the first call.
"""

import functools
import queue
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from research.data import tokenizers
from research.data.text import chat
from research.generation.text_stream import TextStream, stop_sequences
from research.serving.batcher import joined
from research.serving.engine import Engine
from research.serving.jobs import FAILED, Finished, Request, Token
from research.serving.programs import Programs
from research.serving.servable import Language, Servable
from research.serving.web import values as web_values
from research.util.errors import UserError

MOST_ROWS = 32  # computed at once


class Output(NamedTuple):
    """What a model makes of a value: as `almanac predict` prints it, and as the next model of a chain takes it."""

    record: Mapping[str, Any]
    value: Any


class Predicting:
    """Prediction, by the programs that the server has: rows of one padded shape are computed together."""

    def __init__(self, servable: Servable):
        self.name, self.codec = servable.name, servable.predictor.codec
        self.takes, self.gives = self.codec.takes, self.codec.gives
        self._servable = servable

    @functools.cached_property
    def _programs(self) -> Programs:
        return Programs(self._servable.predictor, self._servable.variables, MOST_ROWS)

    def __call__(self, values: Sequence[Any]) -> list[Output | UserError]:
        """At most MOST_ROWS values -> an output of each, or why there is none."""
        outputs: list[Any] = [None] * len(values)
        groups: dict[tuple, list[tuple[int, Mapping]]] = {}
        for i, value in enumerate(values):
            try:
                inputs = web_values.encode_raw(self.codec, value)
                self._programs.check(inputs)
                groups.setdefault(self._programs.group(inputs), []).append((i, inputs))
            except UserError as error:
                outputs[i] = error
        for group in groups.values():
            for i, arrays in self._computed(group):
                record = self.codec.decode(arrays)
                outputs[i] = Output(record, self.codec.handed_on(values[i], record))
        return outputs

    def _computed(self, group: Sequence[tuple[int, Mapping]]) -> Iterator[tuple[int, Mapping]]:
        """Inputs of values by number, of one shape -> outputs by the same numbers. A value may have several rows."""
        while group:
            counts = np.cumsum([len(next(iter(inputs.values()))) for _, inputs in group])
            batch, group = group[: (n := int((counts <= MOST_ROWS).sum()))], group[n:]
            arrays = self._programs({name: joined([inputs[name] for _, inputs in batch]) for name in batch[0][1]})
            for (i, inputs), first, last in zip(batch, [0, *counts], counts[:n], strict=False):
                yield i, self._programs.cut({name: y[first:last] for name, y in arrays.items()}, inputs)


class Generating:
    """The greedy continuation of a text, or of a message the reply, by the engine that the server has."""

    takes, gives = "text", "text"

    def __init__(self, servable: Servable, language: Language, length: int):
        """`length` is the most tokens to generate."""
        self.name, self.codec = servable.name, servable.predictor.codec
        self._language, self._length = language, length

    @functools.cached_property
    def _engine(self) -> Engine:
        engine = Engine(self._language.decoder, queue=MOST_ROWS)
        engine.start()
        return engine

    def __call__(self, values: Sequence[str]) -> list[Output | UserError]:
        """As `Predicting`'s; the record is {"text"}."""
        outputs: list[Any] = [None] * len(values)
        waiting = []
        for i, value in enumerate(values):
            try:
                waiting.append((i, *self._submit(value)))
            except UserError as error:
                outputs[i] = error
        for i, text, tokens in waiting:
            outputs[i] = self._collected(text, tokens)
        return outputs

    def _submit(self, value: str) -> tuple[TextStream, queue.Queue]:
        """-> an empty text, and the tokens that will be its own, as they are generated."""
        tokenizer, template = self._language.tokenizer, self._language.template
        if not isinstance(value, str) or not value.strip():
            raise UserError("there is no text to continue")
        if template is None:
            prompt, stop = tokenizers.opened(tokenizer, value), []
        else:
            prompt = chat.prompt([{"role": "user", "content": value}], template, tokenizer)[1]
            stop = [chat.ENDS[template]] if template in chat.ENDS else []
        eos = tokenizer.special.get("eos")
        ends = [*map(list, stop_sequences(tokenizer, stop)), *([] if eos is None else [[eos]])]
        length = min(self._length, self._engine.length - len(prompt))
        if length < 1:
            raise UserError(f"the text has {len(prompt):,} tokens, of a context of {self._engine.length:,}; shorten it")
        delivered: queue.Queue[Token | Finished] = queue.Queue()
        request = Request(prompt.astype(np.int32), length, jax.random.key(0), {"temperature": 0.0}, ends)
        self._engine.submit(request, delivered.put)
        return TextStream(tokenizer, "", np.zeros(0, np.int32), stop), delivered

    def _collected(self, text: TextStream, delivered: queue.Queue) -> Output | UserError:
        pieces, eos = [], self._language.tokenizer.special.get("eos")
        while not isinstance(event := delivered.get(), Finished):
            if event.id != eos and not text.stopped:
                pieces.append(text.push(event.id))
        if event.reason == FAILED:
            return UserError("a step of the engine failed")
        written = "".join([*pieces, text.rest()])
        return Output({"text": written}, written)


Stage = Predicting | Generating


def of(servable: Servable, length: int) -> Stage:
    """A language model generates, at most `length` tokens; every other model predicts."""
    if servable.language is not None:
        return Generating(servable, servable.language, length)
    return Predicting(servable)
