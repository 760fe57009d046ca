"""
What an answer used and cost, and what the gateway says about it: usage, price, routing, meta.
"""

from decimal import Decimal
from typing import Any

from .json import WireObject, as_decimal, as_integer, is_object

__all__ = (
    "CompletionTokensDetails",
    "Meta",
    "Pricing",
    "PricingLine",
    "PromptTokensDetails",
    "Routing",
    "ServerToolUse",
    "Usage",
    "tokens_as_shown",
)


class PromptTokensDetails(WireObject):
    """
    What the prompt's tokens were.
    """

    __slots__ = ()

    cached_tokens: int | None
    audio_tokens: int | None
    input_images: int | None
    input_audio: int | None
    input_videos: int | None


class CompletionTokensDetails(WireObject):
    """
    What the answer's tokens were. The gateway's `cached_tokens` are those *written* to a cache.
    """

    __slots__ = ()

    reasoning_tokens: int | None
    cached_tokens: int | None
    audio_tokens: int | None
    accepted_prediction_tokens: int | None
    rejected_prediction_tokens: int | None
    output_images: int | None
    output_audio: int | None
    output_videos: int | None


class ServerToolUse(WireObject):
    """
    How often the gateway's own tools were used.
    """

    __slots__ = ()

    datetime_requests: int | None
    web_search_requests: int | None
    web_search_results: int | None
    web_search_extra_results: int | None
    web_fetch_requests: int | None
    advisor_requests: int | None
    image_generation_requests: int | None
    apply_patch_requests: int | None
    subagent_requests: int | None
    fusion_requests: int | None
    search_models_requests: int | None


class PricingLine(WireObject):
    """
    A line of the bill: a quantity of something, its unit, its price in USD.
    """

    __slots__ = ()

    dimension: str | None
    quantity: float | None
    billable_units: float | None
    unit_size: int | None
    unit_price_usd: Decimal | None
    line_cost_usd: Decimal | None
    line_nanos: int | None


class Pricing(WireObject):
    """
    The bill. `total_nanos` are billionths of a USD.
    """

    __slots__ = ()

    total_nanos: int | None
    total_usd_str: str | None
    total_cents: float | None
    currency: str | None
    lines: list[PricingLine]


class Usage(WireObject):
    """
    The tokens that the gateway counted for one call; in a stream it comes late, and not from every
    provider.
    """

    __slots__ = ()

    server_tool_use: ServerToolUse | None

    @property
    def prompt_tokens(self) -> int | None:
        """
        Tokens of the request; `input_tokens` in the gateway's other spelling.
        """
        return as_integer(self._either("prompt_tokens", "input_tokens"))

    @property
    def completion_tokens(self) -> int | None:
        """
        Tokens of the answer, thought included; `output_tokens` in the gateway's other spelling.
        """
        return as_integer(self._either("completion_tokens", "output_tokens"))

    @property
    def total_tokens(self) -> int | None:
        """
        Both together; added up where the gateway did not.
        """
        if (total := as_integer(self._wire.get("total_tokens"))) is not None:
            return total
        prompt, completion = self.prompt_tokens, self.completion_tokens
        return None if prompt is None or completion is None else prompt + completion

    @property
    def prompt_tokens_details(self) -> PromptTokensDetails | None:
        """
        What the prompt's tokens were, where the provider said so.
        """
        details = self._either("prompt_tokens_details", "input_tokens_details")
        return PromptTokensDetails(details) if is_object(details) else None

    @property
    def completion_tokens_details(self) -> CompletionTokensDetails | None:
        """
        What the answer's tokens were, where the provider said so.
        """
        details = self._either("completion_tokens_details", "output_tokens_details")
        return CompletionTokensDetails(details) if is_object(details) else None

    @property
    def pricing(self) -> Pricing | None:
        """
        The bill; `pricing_breakdown` in the gateway's other spelling.
        """
        pricing = self._either("pricing", "pricing_breakdown")
        return Pricing(pricing) if is_object(pricing) else None

    @property
    def cost(self) -> Decimal | None:
        """
        The price of the call in USD; `None` where the gateway sent none.
        """
        pricing = self.pricing
        if pricing is None:
            return as_decimal(self._wire.get("cost"))
        if (
            pricing.total_usd_str is not None
            and (cost := as_decimal(pricing.total_usd_str)) is not None
        ):
            return cost
        nanos = pricing.total_nanos
        return None if nanos is None else Decimal(nanos) / 1_000_000_000

    def _either(self, name: str, other: str) -> Any:
        value = self._wire.get(name)
        return self._wire.get(other) if value is None else value


class Routing(WireObject):
    """
    How the gateway chose a provider.
    """

    __slots__ = ()

    selected_provider: str | None
    requested_params: list[str]
    param_provider_count_before: int | None
    param_provider_count_after: int | None
    param_dropped_providers: Any


class Meta(WireObject):
    """
    What the gateway measured, if the request said `meta=True`: milliseconds, tokens a second, the
    routing.
    """

    __slots__ = ()

    throughput_tps: float | None
    output_speed_tps: float | None
    generation_ms: float | None
    latency_ms: float | None
    provider_ttft_ms: float | None
    gateway_ttft_ms: float | None
    tpot_ms: float | None
    itl_ms: float | None
    phaseo_overhead_ms: float | None
    end_to_end_ms: float | None
    routing: Routing | None


def tokens_as_shown(usage: Usage) -> str:
    """
    Return what a notebook shows of the tokens of *usage*.
    """
    from .._show.cards import tokens

    details = usage.completion_tokens_details
    reasoning = details.reasoning_tokens if details is not None else None
    return tokens(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, reasoning)
