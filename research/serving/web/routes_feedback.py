"""What came back of an answer: what it should have been, and what was thought of it. Only with `--monitor FOLDER`."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AfterValidator, ConfigDict, Field, StrictInt, WithJsonSchema

from research.serving.monitor.observer import Observer
from research.serving.monitor.tables import Feedback
from research.serving.web import problems
from research.serving.web.openai_schema import Strict

SUBJECTS = ("label", "rating", "correction")


def _rating(value: int) -> int:
    if value not in (-1, 1):
        raise ValueError("want -1 or 1")
    return value


Rating = Annotated[StrictInt, AfterValidator(_rating), WithJsonSchema({"type": "integer", "enum": [-1, 1]})]


class FeedbackRequest(Strict):
    """On one row of an answer; one of label, rating and correction or more. It replaces what was said of the row before."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"request_id": "5f3c9a0e8b1d4c7fa2e6", "row": 0, "label": "cat", "rating": -1}}
    )
    request_id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="the answer's x-request-id")
    row: StrictInt = Field(0, ge=0, lt=2**31, description="of the values in the request")
    label: str | None = Field(None, min_length=1, max_length=256, description="a class of the model, by name")
    rating: Rating | None = None
    correction: str | None = Field(
        None, min_length=1, max_length=20_000, description="what the answer should have been"
    )
    subgroup: str | None = Field(None, min_length=1, max_length=64, description="that the row is counted with")


def router(observer: Observer) -> APIRouter:
    routes = APIRouter(tags=["feedback"])

    @routes.post("/v1/feedback", status_code=202, summary="What an answer should have been, or whether it was good")
    async def feedback(request: FeedbackRequest) -> dict[str, Any]:
        if all(getattr(request, name) is None for name in SUBJECTS):
            raise problems.Problem(422, "missing_field", f"want one of {', '.join(SUBJECTS)}, or more")
        classes = await asyncio.to_thread(observer.classes_of, request.request_id, request.row)
        if classes is None:
            message = f"no answer with this request_id has a row {request.row} in the store"
            raise problems.Problem(404, "request_not_found", message, "request_id")
        if request.label is not None and request.label not in classes:
            raise problems.unknown_class(request.label, classes, "label")
        said = request.model_dump(exclude={"request_id"})
        if not observer.put_feedback(Feedback(request.request_id, **said)):
            raise problems.busy()
        return {"request_id": request.request_id, "row": request.row}

    return routes
