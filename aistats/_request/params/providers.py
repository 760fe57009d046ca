"""
Which providers may answer, and options of single providers.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypedDict

from ..rules import Expected, Free

__all__ = (
    "AnthropicOptions",
    "CacheControl",
    "ContextManagement",
    "GoogleOptions",
    "MaxPrice",
    "OpenAIOptions",
    "ProviderOptions",
    "RoutingParam",
)


class MaxPrice(TypedDict, total=False):
    """
    The highest price, in USD, that a provider may take.
    """

    prompt: float | str
    completion: float | str
    image: float | str
    audio: float | str
    request: float | str


class RoutingParam(TypedDict, total=False):
    """
    Which providers the gateway may choose from, and how it chooses.
    """

    order: Sequence[str]
    only: Sequence[str]
    ignore: Sequence[str]
    allow_fallbacks: bool | None
    require_parameters: bool | None
    include_alpha: bool
    require_zero_data_retention: bool | None
    zdr: bool | None
    cache_aware_routing: bool | None
    session_affinity: bool | None
    diagnostics: bool | None
    return_diagnostics: bool | None
    required_execution_region: str | None
    required_data_region: str | None
    mode: str | None
    sort: Literal["price", "latency", "throughput"] | str | Mapping[str, object] | None
    max_price: MaxPrice
    preferred_min_throughput: float | Mapping[str, float]
    preferred_max_latency: float | Mapping[str, float]


ProviderRouting = Annotated[RoutingParam, Expected('a mapping such as {"order": ["openai"]}')]


class CacheControl(TypedDict, total=False):
    """
    What a provider may keep of a prompt, and for how long.
    """

    type: Literal["ephemeral"] | str
    ttl: str
    scope: str


class ContextManagement(TypedDict, total=False):
    """
    When OpenAI shortens the context.
    """

    type: Literal["compaction"] | str
    compact_threshold: float


class OpenAIOptions(TypedDict, total=False):
    """
    What only OpenAI understands.
    """

    context_management: ContextManagement
    prompt_cache_retention: str
    prompt_cache_options: Mapping[str, object]


class AnthropicOptions(TypedDict, total=False):
    """
    What only Anthropic understands.
    """

    cache_control: CacheControl


class GoogleOptions(TypedDict, total=False):
    """
    What only Google understands.
    """

    cache_control: CacheControl
    cached_content: str
    cache_ttl: str


class ProviderOptions(TypedDict, total=False):
    """
    What only one provider understands. Any other provider's name can be a key, too.
    """

    openai: OpenAIOptions | Mapping[str, object]
    anthropic: AnthropicOptions | Mapping[str, object]
    google: GoogleOptions | Mapping[str, object]
    deepinfra: Mapping[str, object]
    fireworks: Mapping[str, object]
    gmicloud: Mapping[str, object]


FreeProviderOptions = Annotated[ProviderOptions | Mapping[str, object], Free()]
