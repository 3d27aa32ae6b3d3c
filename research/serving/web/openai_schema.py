"""The requests of OpenAI's API that are served: their fields, bounds and defaults. An unknown field is an error."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

Stop = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)]
Tokens = Annotated[list[Annotated[StrictInt, Field(ge=0, lt=2**31)]], Field(min_length=1)]  # ids


class Strict(BaseModel):
    """No unknown field, no number that is not finite; where a field is a `Strict...`, neither `true` nor "1" is a number."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class StreamOptions(Strict):
    include_usage: StrictBool = False


class JsonSchema(Strict):
    name: str = "answer"
    description: str | None = None
    json_schema: dict[str, Any] = Field(alias="schema")
    strict: Literal[True, None] = True


class ResponseFormat(Strict):
    """Text without a form, or JSON that a schema describes; a schema that could not be enforced is refused."""

    type: Literal["text", "json_schema"]
    json_schema: JsonSchema | None = None


class Generation(Strict):
    """What both kinds of requests have."""

    model: str
    temperature: StrictFloat = Field(1.0, ge=0, le=100)
    top_p: StrictFloat = Field(1.0, gt=0, le=1)
    top_k: StrictInt | None = Field(None, ge=1, lt=2**31, description="not OpenAI's")
    min_p: StrictFloat | None = Field(None, gt=0, le=1, description="not OpenAI's")
    repetition_penalty: StrictFloat | None = Field(None, gt=0, le=100, description="not OpenAI's; over the prompt too")
    seed: StrictInt | None = Field(
        None, ge=0, lt=2**63, description="the same seed gives the same answer, whatever the load"
    )
    stop: Annotated[str, Field(min_length=1)] | Stop | None = None
    stream: StrictBool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    n: Literal[1] = 1

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class CompletionRequest(Generation):
    """The continuation of a text, or of token ids."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "tiny", "prompt": "The ", "max_tokens": 16, "temperature": 0}}
    )
    prompt: str | Tokens
    max_tokens: StrictInt = Field(16, ge=1)
    logprobs: StrictInt | None = Field(None, ge=0, le=20)


class ChatMessage(Strict):
    role: str = Field(max_length=64)
    content: str


class ChatRequest(Generation):
    """The reply to a conversation."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}
        }
    )
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: StrictInt | None = Field(None, ge=1, description="None: what the context has room for")
    max_completion_tokens: StrictInt | None = Field(None, ge=1)
    logprobs: StrictBool = False
    top_logprobs: StrictInt | None = Field(None, ge=0, le=20)
