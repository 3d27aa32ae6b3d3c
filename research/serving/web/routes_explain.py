"""What pixels a picture's class hangs on, by occlusion: a bundle's program has no gradients, and answers fast.

A black square, a quarter of the shorter side, covers one place after another, half of itself apart (Zeiler and Fergus 2014,
1311.2901). The monitor sees the request and none of these pictures.
"""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends
from pydantic import ConfigDict, Field

from research.interpret.pictures import squares
from research.serving.web import problems, trace, values
from research.serving.web.openai_schema import Strict
from research.serving.web.served import Find, Models, Served
from research.util.errors import UserError

Arrays = Mapping[str, np.ndarray]


class ExplainRequest(Strict):
    """A picture, as /v1/predict takes it, and the class to explain; by default the most probable one."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "digits", "input": {"image": "iVBORw0KGgo..."}, "class": "7"}}
    )
    model: str
    input: Any
    class_name: str | None = Field(None, alias="class")


def router(models: Models) -> APIRouter:
    routes = APIRouter(tags=["prediction"])

    @routes.post("/v1/explain", summary="By how much each pixel's absence lowers the probability of a picture's class")
    async def explain(request: ExplainRequest, find: Annotated[Find, Depends(models.in_use)]) -> dict:
        model = find(request.model)
        if not explains(model):
            message = f"{request.model} is no classifier of pictures; /v1/models says which models are explained"
            raise problems.Problem(400, "not_explained", message, "model")
        classes = _classes(model)
        if request.class_name is not None and request.class_name not in classes:
            raise problems.unknown_class(request.class_name, classes, "class")
        with trace.apart():
            return await _explained(
                model, await asyncio.to_thread(_encode, model, request.input), classes, request.class_name
            )

    return routes


def explains(model: Served) -> bool:
    """Whether a model's values are single pictures, of which it gives a class."""
    programs = model.batcher.programs
    shapes = {name: shape for specs in (programs.specs, programs.outputs) for name, (shape, _) in specs.items()}
    of_pictures = list(programs.specs) == ["image"] and len(shapes["image"]) == 4
    return of_pictures and len(shapes.get("probabilities", ())) == 2 and _classes(model) != []


def _classes(model: Served) -> list[str]:
    return [str(name) for name in getattr(model.servable.predictor.codec, "classes", None) or ()]


def _encode(model: Served, value: Any) -> Arrays:
    try:
        encoded = values.encode(model.servable.predictor, value)
        model.batcher.programs.check(encoded)
    except UserError as error:
        raise problems.of_user(error, "input") from None
    return encoded


async def _explained(model: Served, encoded: Arrays, classes: list[str], name: str | None) -> dict:
    whole = (await model.predict(encoded))["probabilities"][0]
    k = int(whole.argmax()) if name is None else classes.index(name)
    rows, columns = encoded["image"].shape[1:3]
    size = max(1, min(rows, columns) // 4)
    places = squares(rows, columns, size, max(1, size // 2))
    answers = await model.predict_all([_without(encoded["image"], place) for place in places])
    total, count = np.zeros((rows, columns)), np.zeros((rows, columns))
    for place, answer in zip(places, answers, strict=True):
        total[place] += whole[k] - answer["probabilities"][0, k]
        count[place] += 1
    return {
        "model": model.id,
        "class": classes[k],
        "probability": float(whole[k]),
        "square": size,
        "pixels": np.round(total / count, 4).tolist(),
    }


def _without(image: np.ndarray, place: tuple[slice, slice]) -> Arrays:
    covered = image.copy()
    covered[(slice(None), *place)] = 0
    return {"image": covered}
