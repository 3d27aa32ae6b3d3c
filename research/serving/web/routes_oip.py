"""The Open Inference Protocol, version 2: named tensors in and out (github.com/kserve/open-inference-protocol)."""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends
from pydantic import ConfigDict, Field, StrictInt

from research.serving.programs import Specs
from research.serving.web import problems
from research.serving.web.openai_schema import Strict
from research.serving.web.served import Find, Models
from research.serving.web.values import to_json

DATATYPES = {"FP32": "float32", "FP64": "float64", "INT32": "int32", "INT64": "int64", "UINT8": "uint8", "BOOL": "bool"}
NAMES = {dtype: name for name, dtype in DATATYPES.items()}
EXAMPLE: Any = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0.1, 0.2, 0.3]}]}


class Tensor(Strict):
    name: str
    shape: list[Annotated[StrictInt, Field(ge=0)]] = Field(max_length=8)
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] | None = None


class InferRequest(Strict):
    """A tensor for each of the model's inputs, all of as many rows; `data` is flat or nested, row by row."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})
    inputs: list[Tensor]
    id: str | None = Field(None, max_length=256)


def router(models: Models) -> APIRouter:
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @routes.get("", summary="The server")
    async def server() -> dict:
        return {"name": "almanac", "version": "2", "extensions": []}

    @routes.get("/health/live", summary="Whether the process answers")
    async def live() -> dict:
        return {"live": True}

    @routes.get("/health/ready", summary="Whether every model can answer")
    async def ready() -> dict:
        if not models.are_ready:
            raise problems.closing()
        return {"ready": True}

    @routes.get("/models/{name}", summary="A model's inputs and outputs")
    async def metadata(name: str) -> dict:
        model = models[name]
        programs, versions = model.batcher.programs, models.versions[model.servable.name].loaded
        tensors = [_described(specs) for specs in (programs.specs, programs.outputs)]
        about = {"name": model.servable.name, "versions": list(map(str, versions)), "platform": "jax"}
        return {**about, "inputs": tensors[0], "outputs": tensors[1]}

    @routes.get("/models/{name}/ready", summary="Whether a model can answer")
    async def model_ready(name: str) -> dict:
        if not models[name].is_ready:
            raise problems.closing()
        return {"name": models[name].servable.name, "ready": True}

    @routes.post("/models/{name}/infer", summary="A model's outputs for named tensors")
    async def infer(name: str, request: InferRequest, find: Annotated[Find, Depends(models.in_use)]) -> dict:
        model = find(name)
        outputs = await model.predict({tensor.name: _array(tensor) for tensor in request.inputs})
        tensors = [
            {"name": k, "shape": list(y.shape), "datatype": NAMES[str(y.dtype)], "data": to_json(y.ravel())}
            for k, y in outputs.items()
        ]
        answer = {"model_name": model.servable.name, "model_version": str(model.number), "outputs": tensors}
        return answer if request.id is None else {**answer, "id": request.id}

    @routes.get("/models/{name}/versions/{version}", summary="The inputs and outputs of a version")
    async def version_metadata(name: str, version: str) -> dict:
        return await metadata(f"{name}@{version}")

    @routes.get("/models/{name}/versions/{version}/ready", summary="Whether a version can answer")
    async def version_ready(name: str, version: str) -> dict:
        return await model_ready(f"{name}@{version}")

    @routes.post("/models/{name}/versions/{version}/infer", summary="A version's outputs for named tensors")
    async def version_infer(
        name: str, version: str, request: InferRequest, find: Annotated[Find, Depends(models.in_use)]
    ) -> dict:
        return await infer(f"{name}@{version}", request, find)

    return routes


def _described(specs: Specs) -> list[dict[str, Any]]:
    """Names, datatypes and shapes, with -1 for an open size."""
    return [
        {"name": name, "datatype": NAMES[dtype], "shape": [d if isinstance(d, int) else -1 for d in shape]}
        for name, (shape, dtype) in specs.items()
    ]


def _array(tensor: Tensor) -> np.ndarray:
    param = f"inputs.{tensor.name}"
    if tensor.datatype not in DATATYPES:
        raise problems.Problem(422, "invalid_value", f"datatype: want one of {', '.join(DATATYPES)}", param)
    dtype = np.dtype(DATATYPES[tensor.datatype])
    try:
        data = np.array(tensor.data)
        whole = data.dtype.kind in ("iu" if dtype.kind in "iu" else "b" if dtype.kind == "b" else "iuf")
        limits = np.iinfo(dtype) if dtype.kind in "iu" else None
        if not whole or (limits and data.size and not limits.min <= data.min() <= data.max() <= limits.max):
            raise ValueError
        return data.reshape(tensor.shape).astype(dtype)
    except (TypeError, ValueError, OverflowError):
        message = f"the data are not {tensor.datatype}{tensor.shape}"
        raise problems.Problem(422, "invalid_value", message, param) from None
