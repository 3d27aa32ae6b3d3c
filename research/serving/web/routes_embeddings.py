"""OpenAI's API for embeddings, of the models whose codec says that their output is one."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Request
from pydantic import ConfigDict, Field

from research.core.experiment import Embedding
from research.serving.web import access, problems, values
from research.serving.web.openai_schema import Strict, Tokens
from research.serving.web.served import Find, Models
from research.util.errors import UserError

MOST_VALUES = 256


class Image(Strict):
    """A picture, as /v1/predict takes it."""

    image: str


class EmbeddingRequest(Strict):
    """A text or its tokens, or several; of models of pictures, pictures."""

    model_config = ConfigDict(json_schema_extra={"example": {"model": "tiny", "input": ["What is a generator?"]}})
    model: str
    input: (
        str
        | Image
        | Tokens
        | Annotated[list[str] | list[Tokens] | list[Image], Field(min_length=1, max_length=MOST_VALUES)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    input_type: str | None = Field(None, description="not OpenAI's; one of the model's `embeds`, the first by default")

    @property
    def inputs(self) -> list[Any]:
        several = isinstance(self.input, list) and not isinstance(self.input[0], int)
        return self.input if several else [self.input]  # type: ignore[return-value]


def router(models: Models) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["embeddings"])

    @routes.post("/embeddings", summary="The vectors of texts or pictures")
    async def embeddings(
        body: EmbeddingRequest, request: Request, find: Annotated[Find, Depends(models.in_use)]
    ) -> dict:
        model = find(body.model)
        embedding = _embedding(model.servable.predictor.codec.embeddings, body)
        encoded, count = await asyncio.to_thread(_encode, embedding, body.inputs)
        outputs = await model.predict_all(encoded)
        access.spend(request, count)
        data = [
            {"object": "embedding", "index": i, "embedding": _written(each[embedding.output][0], body.encoding_format)}
            for i, each in enumerate(outputs)
        ]
        usage = {"prompt_tokens": count, "total_tokens": count}
        return {"object": "list", "model": model.id, "data": data, "usage": usage}

    return routes


def _embedding(kinds: Mapping[str, Embedding], body: EmbeddingRequest) -> Embedding:
    """Raises `Problem` if the model has none, or none of this kind."""
    if not kinds:
        message = f"{body.model} has no embedding of a value; /v1/models says which models embed, and what"
        raise problems.Problem(400, "no_embedding", message, "model")
    kind = next(iter(kinds)) if body.input_type is None else body.input_type
    if kind not in kinds:
        raise problems.Problem(422, "invalid_value", f"input_type: want one of {', '.join(kinds)}", "input_type")
    return kinds[kind]


def _encode(embedding: Embedding, inputs: list[Any]) -> tuple[list, int]:
    """-> the inputs of each value, and how many tokens they have. Every value is checked before any is embedded."""
    encoded, count = [], 0
    for number, value in enumerate(inputs):
        try:
            prepared = _picture(value) if embedding.tokenizer is None else _tokens(embedding, value)
        except UserError as error:
            raise problems.of_user(error, f"input.{number}") from None
        encoded.append(embedding.encode(prepared))
        count += 0 if embedding.tokenizer is None else len(prepared)
    return encoded, count


def _picture(value: Any) -> Any:
    if not isinstance(value, Image):
        raise UserError('this model embeds pictures: {"image": base64}')
    return values.image(value.image)


def _tokens(embedding: Embedding, value: Any) -> np.ndarray:
    """i32[n] of a text or of its tokens."""
    if isinstance(value, Image):
        raise UserError("this model embeds texts, and no pictures")
    size = embedding.tokenizer.size
    if isinstance(value, list) and max(value) >= size:
        raise UserError(f"want tokens, each in 0..{size - 1}")
    tokens = embedding.tokenizer.encode(value) if isinstance(value, str) else np.array(value, np.int32)
    if not len(tokens):
        raise UserError("there is no token in it")
    if len(tokens) > embedding.most:
        message = f"{len(tokens)} tokens are more than the {embedding.most} that this model reads"
        raise problems.Problem(400, "context_length_exceeded", message, "input")
    return tokens


def _written(vector: np.ndarray, form: str) -> Any:
    """A vector as numbers, or as base64 of its f32, little-endian."""
    return values.to_json(vector) if form == "float" else base64.b64encode(vector.astype("<f4").tobytes()).decode()
