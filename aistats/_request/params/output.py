"""
What comes back: the answer's format, images, streams, and debugging data.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NotRequired, TypedDict

from ..rules import JSON_SCHEMA_TYPES, AnyOf, Tagged

__all__ = (
    "DebugParam",
    "FontInput",
    "ImageConfig",
    "JSONSchemaFormat",
    "JSONSchemaParam",
    "PlainFormat",
    "ResponseFormat",
    "StreamOptions",
)


class PlainFormat(TypedDict):
    """
    Text, or JSON of any shape.
    """

    type: Literal["text", "json", "json_object"]


class JSONSchemaParam(TypedDict, total=False):
    """
    A JSON schema and its name.
    """

    name: str
    description: str
    schema: Mapping[str, object]
    strict: bool | None


class JSONSchemaFormat(TypedDict):
    """
    JSON of a given schema, which stands in `json_schema` or directly in `schema`.
    """

    type: Literal["json_schema"]
    json_schema: NotRequired[JSONSchemaParam]
    schema: NotRequired[Mapping[str, object]]
    name: NotRequired[str]
    strict: NotRequired[bool | None]


ResponseFormat = (
    Literal["text", "json", "json_object"]
    | str
    | Annotated[
        PlainFormat
        | Annotated[JSONSchemaFormat, AnyOf(("json_schema.schema", "schema"), "a JSON schema")]
        | Mapping[str, object],
        Tagged("type", "mapping", never=JSON_SCHEMA_TYPES),
    ]
)


class StreamOptions(TypedDict, total=False):
    """
    What else a stream brings.
    """

    include_usage: bool


class FontInput(TypedDict):
    """
    A text, and the font to draw it in.
    """

    font_url: str
    text: str


class ImageConfig(TypedDict, total=False):
    """
    What an image that the model makes is like.
    """

    aspect_ratio: str
    image_size: Literal["0.5K", "1K", "2K", "4K"] | str
    font_inputs: Sequence[FontInput]
    super_resolution_references: Sequence[str]
    reference_images: Sequence[object]
    include_rai_reason: bool


class DebugParam(TypedDict, total=False):
    """
    What the gateway tells of its own work.
    """

    enabled: bool
    return_upstream_request: bool
    return_upstream_response: bool
    trace: bool
    trace_level: Literal["summary", "full"] | str


Modality = Literal["text", "image", "audio"] | str
