"""What clients may send. A parameter that is not here is refused, since it would change the answer unnoticed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MaskFormat = Literal["rle", "png"]
Stops = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=4)]
Language = Annotated[str, Field(max_length=64)]
DataUrl = Annotated[str, Field(description="data:image/png;base64,..., or a URL of an allowed host")]


def _several(value: Any) -> Any:
    """A form has a name once for one value."""
    return [value] if isinstance(value, str) else value


Texts = Annotated[list[str], BeforeValidator(_several)]
DataUrls = Annotated[list[DataUrl], BeforeValidator(_several)]


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid", strict=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: Any) -> Any:
        """In OpenAI's API, null is as good as nothing."""
        return {k: v for k, v in fields.items() if v is not None} if isinstance(fields, dict) else fields

    model: str | None = None
    user: str | None = Field(None, description="Accepted and not used")


class Generating(Body):
    """Parameters of generation. Where OpenAI samples by default, this is greedy: temperature 0."""

    max_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    n: int = Field(1, ge=1, le=32)
    beams: int = Field(1, ge=1, le=32, description="Beam search; takes as many slots")
    seed: int = Field(0, ge=0, lt=2**63)
    stop: str | Stops | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    # what OpenAI's clients may send without effect
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logit_bias: dict[str, float] | None = Field(None, max_length=0)

    @property
    def stops(self) -> list[str]:
        """The texts before which an answer ends."""
        return [self.stop] if isinstance(self.stop, str) and self.stop else list(self.stop or ())


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False


class ImageUrl(BaseModel):
    """The image of a part."""

    model_config = ConfigDict(extra="forbid")

    url: DataUrl
    detail: Literal["auto", "low", "high", "original"] | None = Field(
        None, description="Accepted and not used: the model has one resolution"
    )


class TextPart(BaseModel):
    """Text of a message."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    """Image of a message; several are the frames of a video, in order."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class UserMessage(BaseModel):
    """A message of the user."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["user"]
    content: str | list[Part] | None = None
    name: str | None = Field(None, description="Accepted and not used")

    @property
    def parts(self) -> Sequence[Part]:
        """The parts of its content."""
        return [TextPart(type="text", text=self.content)] if isinstance(self.content, str) else self.content or ()


class OtherMessage(BaseModel):
    """A message that is ignored, whatever it holds."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "assistant", "tool", "function"]


Message = Annotated[UserMessage | OtherMessage, Field(discriminator="role")]


PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSu"
    "QmCC"
)
CHAT_EXAMPLE: dict[str, Any] = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is in the image?"},
                {"type": "image_url", "image_url": {"url": PIXEL}},
            ],
        }
    ],
    "max_tokens": 16,
}


class ChatRequest(Generating):
    """A question about images."""

    model_config = ConfigDict(json_schema_extra={"examples": [CHAT_EXAMPLE]})

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20, description="Likeliest tokens at each place; needs logprobs")
    response_format: dict[Literal["type"], Literal["text"]] | None = None
    task: str = Field(
        "", max_length=64, description="Write this task's prompt around the text: caption, vqa, ocr, detect, ..."
    )
    lang: Language = Field("", description="Language of the answer to a task or a question; default: en")
    raw: bool = Field(False, description="Send the text as a whole prompt, even if it reads like a question")
    # what OpenAI's clients may send without effect
    store: Literal[False] | None = None
    metadata: dict[str, str] | None = Field(None, description="Accepted and not used")
    tools: list[Any] | None = Field(None, max_length=0)
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = Field(None, description="Accepted and not used")
    service_tier: Literal["auto", "default"] | None = None


class CompletionRequest(Generating):
    """A prompt, as the model was trained on."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "Answer in en: what? <extra_id_0>", "max_tokens": 8}]}
    )

    prompt: str
    images: DataUrls = []
    logprobs: int | None = Field(None, ge=0, le=5, description="Likeliest tokens at each place")


class EmbeddingRequest(Body):
    """Texts, images or both; the texts come first in the answer."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"input": ["a red cat"]}]})

    input: str | list[str] = []
    images: DataUrls = []
    encoding_format: Literal["float", "base64"] = "float"


class SimilarityRequest(Body):
    """Every image is compared with every text."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"images": [PIXEL], "texts": ["a red cat"]}]})

    images: DataUrls = Field(min_length=1)
    texts: Texts = Field(min_length=1)


class ImageRequest(Body):
    """One image."""

    image: DataUrl
    beams: int = Field(1, ge=1, le=32)


class CaptionRequest(ImageRequest):
    """Describe an image, or read it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"image": PIXEL, "lang": "en"}]})

    lang: Language = ""


class DetectRequest(ImageRequest):
    """Find all instances of a name, or of several joined by " and "."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"image": PIXEL, "name": "cat"}]})

    name: str
    fast: bool = Field(False, description="By the image encoder alone, which must have been trained with sides")


class SegmentRequest(ImageRequest):
    """Find what an expression refers to."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"image": PIXEL, "expression": "the red cat"}]})

    expression: str
    mask_format: MaskFormat = "rle"
