"""
Parts of a message's content, and documents to answer from.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NotRequired, TypedDict

from ..rules import URL, AnyOf, Base64, Closed, Expected, Tagged

__all__ = (
    "AudioURLPart",
    "ContentPart",
    "Document",
    "DocumentMetadata",
    "FunctionCallParam",
    "ImagePart",
    "ImageURLParam",
    "InputAudioParam",
    "InputAudioPart",
    "MediaURLParam",
    "TextPart",
    "ToolCallPart",
    "VideoPart",
)


class TextPart(TypedDict):
    """
    Text.
    """

    type: Literal["text"]
    text: str


class ImageURLParam(TypedDict):
    """
    An image's address, which may be a `data:` URL.
    """

    url: Annotated[str, URL()]
    detail: NotRequired[Literal["auto", "low", "high", "original"] | str]


class ImagePart(TypedDict):
    """
    An image to look at.
    """

    type: Literal["image_url"]
    image_url: Annotated[ImageURLParam, Expected('a mapping such as {"url": "https://..."}')]


class InputAudioParam(TypedDict, total=False):
    """
    Sound, as base64 in `data` or at a `url`.
    """

    data: Annotated[str, Base64()]
    url: Annotated[str, URL()]
    format: Literal["wav", "mp3", "flac", "m4a", "ogg", "pcm16", "pcm24"] | str


class InputAudioPart(TypedDict):
    """
    Sound to listen to.
    """

    type: Literal["input_audio"]
    input_audio: Annotated[InputAudioParam, AnyOf(("data", "url"), "a string")]


class MediaURLParam(TypedDict):
    """
    The address of a sound or a video, which may be a `data:` URL.
    """

    url: Annotated[str, URL()]


MediaURL = Annotated[MediaURLParam, Expected('a mapping such as {"url": "https://..."}')]


class AudioURLPart(TypedDict):
    """
    Sound to listen to, by its address.
    """

    type: Literal["audio_url"]
    audio_url: MediaURL


class VideoPart(TypedDict):
    """
    A video to watch.
    """

    type: Literal["video_url", "input_video"]
    video_url: MediaURL


class FunctionCallParam(TypedDict):
    """
    The function that the model called.
    """

    name: str
    arguments: Annotated[str, Expected("a string of JSON, as the model wrote it")]


class ToolCallPart(TypedDict):
    """
    A tool call in a message's content: an older spelling of `tool_calls`.
    """

    type: Literal["tool_call"]
    id: str
    function: FunctionCallParam


ContentPart = Annotated[
    TextPart
    | ImagePart
    | InputAudioPart
    | AudioURLPart
    | VideoPart
    | ToolCallPart
    | Mapping[str, object],
    Tagged("type", "part", never=("input_text", "input_image", "image")),
]
Content = str | Sequence[ContentPart]


class DocumentMetadata(TypedDict):
    """
    Something known of a document.
    """

    key: str
    value: str


class Document(TypedDict):
    """
    A text to answer from.
    """

    content: str
    metadata: NotRequired[Sequence[Annotated[DocumentMetadata, Closed(("key", "value"))]]]
