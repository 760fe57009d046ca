"""
Tools, the choice among them, and plugins of the gateway.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NotRequired, TypedDict

from ..rules import Between, Length, Tagged

__all__ = (
    "CustomTool",
    "CustomToolDefinition",
    "DatetimeParameters",
    "DatetimeTool",
    "DelegateParameters",
    "DelegateTool",
    "FunctionDefinition",
    "FunctionName",
    "FunctionTool",
    "FunctionToolChoice",
    "FusionParameters",
    "FusionTool",
    "NamedToolChoice",
    "OpenServerTool",
    "PluginParam",
    "SearchModelsParameters",
    "SearchModelsTool",
    "ToolChoice",
    "ToolParam",
    "WebFetchParameters",
    "WebFetchTool",
    "WebSearchParameters",
    "WebSearchTool",
)


class FunctionDefinition(TypedDict):
    """
    A function: what it does, and its parameters as a JSON schema.
    """

    name: str
    description: NotRequired[str]
    parameters: NotRequired[Mapping[str, object]]
    strict: NotRequired[bool | None]


class FunctionTool(TypedDict):
    """
    A function that the model may ask the caller to run.
    """

    type: Literal["function"]
    function: FunctionDefinition


class CustomToolDefinition(TypedDict):
    """
    A tool whose input is free text, or text of a given format.
    """

    name: str
    description: NotRequired[str]
    format: NotRequired[Mapping[str, object]]


class CustomTool(TypedDict):
    """
    A tool with free text as its input that the model may ask the caller to run.
    """

    type: Literal["custom"]
    custom: CustomToolDefinition


class DatetimeParameters(TypedDict, total=False):
    """
    IANA names of time zones.
    """

    timezone: str
    timezones: Annotated[Sequence[str], Length(0, 5)]


class DatetimeTool(TypedDict):
    """
    The time, told by the gateway.
    """

    type: Literal["phaseo:datetime", "gateway:datetime"]
    parameters: NotRequired[DatetimeParameters]


class WebSearchParameters(TypedDict, total=False):
    """
    Who searches, how much, and where.
    """

    engine: Literal["auto", "native", "exa", "firecrawl", "parallel", "perplexity"] | str
    max_results: Annotated[int, Between(1, 25)]
    max_total_results: Annotated[int, Between(1, 100)]
    search_context_size: Literal["low", "medium", "high"] | str
    max_characters: Annotated[int, Between(1)]
    max_uses: Annotated[int, Between(1)]
    allowed_domains: Sequence[str]
    excluded_domains: Sequence[str]
    include_text: bool
    include_highlights: bool
    user_location: Mapping[str, object]


class WebSearchTool(TypedDict):
    """
    A search of the web, done by the gateway.
    """

    type: Literal["phaseo:web_search", "gateway:web_search"]
    parameters: NotRequired[WebSearchParameters]


class WebFetchParameters(TypedDict, total=False):
    """
    Who fetches, how much, and where.
    """

    engine: Literal["auto", "native", "direct", "exa", "firecrawl", "parallel"] | str
    max_chars: Annotated[int, Between(1, 100_000)]
    max_content_tokens: Annotated[int, Between(1)]
    max_uses: Annotated[int, Between(1)]
    allowed_domains: Sequence[str]
    blocked_domains: Sequence[str]
    excluded_domains: Sequence[str]


class WebFetchTool(TypedDict):
    """
    A page of the web, fetched by the gateway.
    """

    type: Literal["phaseo:web_fetch", "gateway:web_fetch"]
    parameters: NotRequired[WebFetchParameters]


class DelegateParameters(TypedDict, total=False):
    """
    Which model is asked, and how.
    """

    name: str
    model: str
    instructions: str
    forward_transcript: bool
    max_uses: Annotated[int, Between(1)]
    max_tokens: Annotated[int, Between(1)]
    max_completion_tokens: Annotated[int, Between(1)]
    reasoning: Mapping[str, object]
    temperature: Annotated[float, Between(0, 2)]


class DelegateTool(TypedDict):
    """
    Another model, asked by the gateway for advice or to do a part of the work.
    """

    type: Literal["phaseo:advisor", "phaseo:subagent"]
    parameters: NotRequired[DelegateParameters]


class FusionParameters(TypedDict, total=False):
    """
    Which models are asked, and which makes one answer of theirs.
    """

    analysis_models: Annotated[Sequence[str], Length(2)]
    model: str
    instructions: str
    max_uses: Annotated[int, Between(1)]
    max_completion_tokens: Annotated[int, Between(1)]


class FusionTool(TypedDict):
    """
    Several models, asked by the gateway and made into one answer.
    """

    type: Literal["phaseo:fusion"]
    parameters: NotRequired[FusionParameters]


class SearchModelsParameters(TypedDict, total=False):
    """
    How many models to find.
    """

    max_results: Annotated[int, Between(1, 20)]


class SearchModelsTool(TypedDict):
    """
    A search among the gateway's models.
    """

    type: Literal["phaseo:search_models"]
    parameters: NotRequired[SearchModelsParameters]


class OpenServerTool(TypedDict):
    """
    Any other tool that the gateway or the provider runs.
    """

    type: Literal[
        "phaseo:image_generation",
        "phaseo:apply_patch",
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    ]
    parameters: NotRequired[Mapping[str, object]]


ToolParam = Annotated[
    FunctionTool
    | CustomTool
    | DatetimeTool
    | WebSearchTool
    | WebFetchTool
    | DelegateTool
    | FusionTool
    | SearchModelsTool
    | OpenServerTool
    | Mapping[str, object],
    Tagged("type", "tool"),
]


class FunctionName(TypedDict):
    """
    The name of a function.
    """

    name: str


class FunctionToolChoice(TypedDict):
    """
    The function that the model has to call.
    """

    type: Literal["function"]
    function: FunctionName


class NamedToolChoice(TypedDict):
    """
    The tool that the model has to call, by its name alone.
    """

    type: NotRequired[Literal["tool"]]
    name: str


ToolChoice = (
    Literal["auto", "none", "required", "any"]
    | str
    | Annotated[
        FunctionToolChoice | NamedToolChoice | Mapping[str, object],
        Tagged("type", "mapping"),
    ]
)


class PluginParam(TypedDict):
    """
    A plugin of the gateway, and its settings.
    """

    id: Literal["response-healing"] | str
