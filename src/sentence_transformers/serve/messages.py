"""What requests and answers look like, and how requests are read.

The lists of texts are checked here by hand: a hostile list gets one error, and not one for each of its items.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from sentence_transformers.serve.errors import ApiError, too_large, wrong
from sentence_transformers.serve.settings import Settings

TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT, "minItems": 1}
TOKENS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
TEXT_OR_TEXTS = {"anyOf": [TEXT, TEXTS]}
INPUT = {"anyOf": [TEXT, TEXTS, TOKENS, {"type": "array", "items": TOKENS, "minItems": 1}]}
DOCUMENTS = {
    "type": "array",
    "minItems": 1,
    "items": {"anyOf": [TEXT, {"type": "object", "properties": {"text": TEXT}, "required": ["text"]}]},
}


class Wanted(BaseModel):
    """What requests have in common. Fields that are not known are ignored, as clients send many."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: str | None = Field(None, description="Name of the model; the first one without it.")


class WantedVectors(Wanted):
    """How texts are to become vectors."""

    dimensions: int | None = Field(
        None,
        ge=1,
        description="Leading dimensions to keep; scaled to length one again where they were before.",
    )
    normalize: bool = Field(False, description="Scale vectors to length one.")
    task: Literal["query", "document"] | None = Field(
        None, description="What the texts are, for models that tell them apart."
    )
    prompt_name: str | None = Field(None, description="Name of the model's prompt to put in front.")


class EmbeddingsRequest(WantedVectors):
    """`POST /v1/embeddings`, as of OpenAI; `normalize`, `task` and `prompt_name` are ours."""

    input: Annotated[Any, WithJsonSchema(INPUT)] = Field(
        description="A text, texts, or the model's own token ids of one or several."
    )
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Numbers, or the little-endian bytes of their float32 in base64."
    )
    user: str | None = Field(None, description="Ignored.")


class RerankRequest(Wanted):
    """`POST /rerank`, as of Cohere and Jina."""

    query: str
    documents: Annotated[Any, WithJsonSchema(DOCUMENTS)]
    top_n: int | None = Field(None, ge=1, description="How many of the best to return; all without it.")
    return_documents: bool = Field(False, description="Put the texts into the answer.")


class SimilarityRequest(WantedVectors):
    """`POST /similarity`: all of one list compared with all of another, or with itself."""

    sentences1: Annotated[Any, WithJsonSchema(TEXT_OR_TEXTS)]
    sentences2: Annotated[Any, WithJsonSchema({"anyOf": [TEXT, TEXTS, {"type": "null"}]})] = None


class Usage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(BaseModel):
    """Vectors in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class RankedDocument(BaseModel):
    """A document's number, how well it answers the query, and its text if asked for."""

    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class RerankAnswer(BaseModel):
    """Documents, the best first."""

    model: str
    results: list[RankedDocument]
    usage: Usage


class SimilarityAnswer(BaseModel):
    """A row for each of `sentences1`, a column for each of `sentences2`."""

    object: Literal["similarity"]
    model: str
    similarity_fn_name: str
    scores: list[list[float]]
    usage: Usage


class ModelEntry(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """The models that are served."""

    object: Literal["list"]
    data: list[ModelEntry]


class ErrorDetail(BaseModel):
    """What was wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """As OpenAI writes errors."""

    error: ErrorDetail


Kind = TypeVar("Kind", bound=Wanted)


def read(kind: type[Kind], body: bytes) -> Kind:
    """The request that a body holds.

    Raises:
        ApiError: If it holds none; says where, and never repeats what was sent.
    """
    try:
        return kind.model_validate_json(body)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        code = "invalid_json" if first["type"] == "json_invalid" else "invalid_value"
        message = f"{place}: {first['msg']}" if place else first["msg"]
        raise ApiError(400, f"{message}.", param=place or None, code=code) from None


def read_input(value: Any, settings: Settings) -> list[str] | list[list[int]]:
    """The texts, or the token ids of several, that `input` of `/v1/embeddings` holds."""
    if isinstance(value, list) and value:
        if is_tokens(value):
            return [value]
        if isinstance(value[0], list):
            check_number(value, "input", settings)
            for number, item in enumerate(value):
                if not is_tokens(item):
                    raise wrong(
                        "input", f"input[{number}] is no list of token ids, while input[0] is a list."
                    )
            return value
    return read_texts(value, "input", settings)


def read_texts(value: Any, name: str, settings: Settings) -> list[str]:
    """A text or texts, within the limits."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise wrong(name, f"{name} has to be a text, or a list with at least one.")
    check_number(texts, name, settings)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise wrong(name, f"{name}[{number}] is no text.")
    check_length(texts, name, settings)
    return texts


def read_documents(value: Any, settings: Settings) -> list[str]:
    """The texts of documents, each a text or an object with one."""
    if not isinstance(value, list):
        raise wrong("documents", "documents has to be a list of texts, or of objects with a text.")
    check_number(value, "documents", settings)
    return read_texts(
        [item.get("text") if isinstance(item, dict) else item for item in value], "documents", settings
    )


def is_tokens(value: Any) -> bool:
    """Whether this is a list of whole numbers, which JSON's true and false are not."""
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def check_number(items: list[Any], name: str, settings: Settings) -> None:
    if len(items) > settings.max_inputs:
        raise too_large(
            f"{name} has {len(items)} items, more than the {settings.max_inputs} of one request. Send several.",
            param=name,
        )


def check_length(texts: list[str], name: str, settings: Settings) -> None:
    longest = max(map(len, texts))
    if longest > settings.max_characters:
        raise too_large(
            f"A text in {name} has {longest} characters, more than the {settings.max_characters} that this server "
            "takes.",
            param=name,
        )
