"""
What comes back, as typed views over the wire's JSON.

A view holds the object as it came and reads a field when it is asked for. So `to_dict()` is the
wire's JSON exactly, a field that this version does not know is never lost, an odd or missing one
costs nothing but itself (it reads as `None`, or as an empty list), and an answer of which only the
text is read costs no more than that.

A class declares its fields by annotation, and `WireObject` turns each into a property that reads
the key of that name. A field that reads more than one key is a property that is written out.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from .._exchange import Attempt, Exchange, Headers, Timing
from .json import (
    Wire,
    WireObject,
    as_decimal,
    as_integer,
    as_object,
    as_objects,
    as_string,
    copy_json,
    is_list,
    is_object,
    json_text,
)

if TYPE_CHECKING:
    from .._show.cards import Answer

__all__ = (
    "Annotation",
    "AudioURL",
    "ChatCompletionChunk",
    "ChatCompletionsResponse",
    "Choice",
    "ChoiceLogprobs",
    "ChunkChoice",
    "CompletionTokensDetails",
    "CustomCall",
    "Delta",
    "FunctionCall",
    "ImageURL",
    "Message",
    "MessageAudio",
    "MessageImage",
    "Meta",
    "Pricing",
    "PricingLine",
    "PromptTokensDetails",
    "ReasoningDetail",
    "Routing",
    "ServerToolUse",
    "TokenLogprob",
    "ToolCall",
    "ToolCallDelta",
    "TopLogprob",
    "TranslatedChunk",
    "URLCitation",
    "Usage",
    "as_shown",
    "is_itemised",
    "is_server_tool",
    "is_thought",
    "read_reasoning",
    "read_text",
    "tokens_as_shown",
)

# --- text, thought, tools: what several classes and the assembling of a stream read alike ---

_SERVER_TOOLS = frozenset(
    {
        "gateway_datetime",
        "phaseo_web_search",
        "phaseo_web_fetch",
        "phaseo_advisor",
        "phaseo_image_generation",
        "phaseo_apply_patch",
        "phaseo_subagent",
        "phaseo_fusion",
        "phaseo_search_models",
    }
)


# Anthropic's blocks for what it ran itself, or had an MCP server run.
_RECORDS = ("server_tool_use", "mcp_tool_use")


def is_server_tool(name: str | None) -> bool:
    """
    Whether the gateway itself runs the function *name*, so that a call of it is a record, not a
    request.
    """
    return name is not None and (name in _SERVER_TOOLS or name.startswith("phaseo_advisor_"))


def is_thought(choice: Wire) -> bool:
    """
    Whether *choice* is marked as the model's thought, as the older gateway does.
    """
    return choice.get("reasoning") is True


def read_text(content: object) -> str | None:
    """
    The text of a message's or a delta's *content*, which some providers send as a list of parts.
    """
    if not is_list(content):
        return content if isinstance(content, str) else None
    return "".join(
        as_string(part.get("text"))
        for part in as_objects(content)
        if part.get("type") in ("text", "output_text")
    )


def read_reasoning(message: Wire) -> str:
    """
    The thought in a message or a delta: one of its spellings, since a provider may send the same
    text in two.
    """
    return (
        as_string(message.get("reasoning_content"))
        or as_string(message.get("reasoning"))
        or "".join(
            as_string(detail.get("text")) for detail in as_objects(message.get("reasoning_details"))
        )
        or "".join(
            read_text(part.get("thinking")) or ""
            for part in as_objects(message.get("content"))
            if part.get("type") == "thinking"
        )
    )


# --- tool calls ---


class FunctionCall(WireObject):
    """
    The function that a tool call names.
    """

    __slots__ = ()

    name: str | None

    @property
    def arguments(self) -> str | None:
        """
        The arguments as the JSON text that the model wrote; made of the object where a provider
        sends one in place of its text.
        """
        return json_text(self._wire.get("arguments"))


class CustomCall(WireObject):
    """
    A call of a custom tool: `name`, and `input` as free text.
    """

    __slots__ = ()

    name: str | None
    input: str | None


class ToolCall(WireObject):
    """
    A call that the model asks for, or the record of one that the gateway ran itself
    (`is_server_tool`).
    """

    __slots__ = ()

    id: str | None
    type: str | None
    function: FunctionCall | None
    custom: CustomCall | None

    @property
    def name(self) -> str | None:
        """
        The name of the function or custom tool.
        """
        called = self.function or self.custom
        return called.name if called else None

    @property
    def arguments(self) -> str:
        """
        The function's arguments as JSON text, or the custom tool's input; `""` where there are
        none.
        """
        if self.function:
            return self.function.arguments or ""
        return (self.custom.input if self.custom else None) or ""

    @property
    def is_server_tool(self) -> bool:
        """
        Whether this is the record of what the gateway or the provider itself ran, not a call for
        the caller to run. Such a record of Anthropic's has the `type` of its block, as
        `server_tool_use`.
        """
        return self.type in _RECORDS or is_server_tool(self.name)

    def to_param(self) -> Wire:
        """
        The call as a request's message takes it.
        """
        wire = _without_none(self._wire)
        wire.setdefault("type", "custom" if "custom" in wire else "function")
        wire.pop("index", None)
        return wire


class ToolCallDelta(ToolCall):
    """
    A piece of a tool call, as it was streamed. `final_response()` has the calls put together.
    """

    __slots__ = ()

    index: int | None


def _without_none(wire: Wire) -> Wire:
    return {key: value for key, value in copy_json(wire).items() if value is not None}


# --- messages ---


class URLCitation(WireObject):
    """
    A source on the web, and the characters of the text that it backs.
    """

    __slots__ = ()

    url: str | None
    title: str | None
    content: str | None
    start_index: int | None
    end_index: int | None


class Annotation(WireObject):
    """
    A note on the text, such as a citation.
    """

    __slots__ = ()

    type: str | None
    url_citation: URLCitation | None


class ImageURL(WireObject):
    """
    An image's address, often a `data:` URL.
    """

    __slots__ = ()

    url: str | None
    detail: str | None


class MessageImage(WireObject):
    """
    An image that the model made.
    """

    __slots__ = ()

    type: str | None
    image_url: ImageURL | None
    mime_type: str | None


class AudioURL(WireObject):
    """
    A sound's address, often a `data:` URL.
    """

    __slots__ = ()

    url: str | None


class MessageAudio(WireObject):
    """
    A sound that the model made.
    """

    __slots__ = ()

    type: str | None
    audio_url: AudioURL | None
    format: str | None


class ReasoningDetail(WireObject):
    """
    A piece of the model's thought, with what the provider says of it.
    """

    __slots__ = ()

    id: str | None
    index: int | None
    type: str | None
    text: str | None
    summary: str | None
    data: str | None
    signature: str | None
    format: str | None


class Delta(WireObject):
    """
    What a chunk adds to a choice's message.
    """

    __slots__ = ()

    role: str | None
    refusal: str | None
    tool_calls: list[ToolCallDelta]
    annotations: list[Annotation]
    images: list[MessageImage]
    audios: list[MessageAudio]
    reasoning_content: str | None
    reasoning_details: list[ReasoningDetail]

    @property
    def content(self) -> str | None:
        """
        The new text; of a list of parts, the text of its text parts.
        """
        content = self._wire.get("content")
        return content if isinstance(content, str) else read_text(content)

    @property
    def reasoning(self) -> str | None:
        """
        The new thought, whichever way the provider spells it; `None` where there is none.
        """
        return read_reasoning(self._wire) or None


class Message(WireObject):
    """
    A message of the model. It can go into the next request's `messages` as it is.
    """

    __slots__ = ()

    role: str | None
    refusal: str | None
    annotations: list[Annotation]
    images: list[MessageImage]
    audios: list[MessageAudio]
    reasoning_content: str | None
    reasoning_details: list[ReasoningDetail]
    tool_calls: list[ToolCall]
    """All calls in their order, the records of what the gateway ran itself among them."""

    @property
    def content(self) -> str | None:
        """
        The text; of a list of parts, the text of its text parts. `None` where there is none at all.
        """
        return read_text(self._wire.get("content"))

    @property
    def reasoning(self) -> str | None:
        """
        The model's thought, whichever way the provider spells it; `None` where there is none.
        """
        return read_reasoning(self._wire) or None

    def to_param(self) -> Wire:
        """
        The message as a request takes it.

        What is null is left out, since the gateway refuses `content: null`; content that came as a
        list of parts is its text; and the records of tools that the gateway ran itself stay out: a
        provider would ask for their answers, which the caller does not have.
        """
        wire = _without_none(self._wire)
        wire.setdefault("role", "assistant")
        if is_list(wire.get("content")):
            wire["content"] = self.content or ""
        calls = [call.to_param() for call in self.tool_calls if not call.is_server_tool]
        wire.pop("tool_calls", None)
        if calls:
            wire["tool_calls"] = calls
        return wire


# --- choices ---


class TopLogprob(WireObject):
    """
    A token that might have stood there, and the logarithm of its probability.
    """

    __slots__ = ()

    token: str | None
    logprob: float | None
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """
    A token of the answer, the logarithm of its probability, and the likeliest tokens at its place.
    """

    __slots__ = ()

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(WireObject):
    """
    The tokens of a choice's text, and those of its refusal.
    """

    __slots__ = ()

    content: list[TokenLogprob]
    refusal: list[TokenLogprob]


class _AnyChoice(WireObject):
    """
    What a choice of a whole answer and one of a chunk have in common.
    """

    __slots__ = ()

    finish_reason: str | None

    @property
    def index(self) -> int:
        """
        The choice's number; 0 where it has none.
        """
        return as_integer(self._wire.get("index")) or 0

    @property
    def logprobs(self) -> ChoiceLogprobs | None:
        """
        The tokens' log probabilities, if they were asked for. Some providers send them as a bare
        list.
        """
        value = self._wire.get("logprobs")
        if is_list(value):
            return ChoiceLogprobs({"content": value}) if value else None
        return ChoiceLogprobs(value) if is_object(value) else None

    @property
    def is_thought(self) -> bool:
        """
        Whether the older gateway marks this choice as the model's thought.
        """
        return is_thought(self._wire)


class Choice(_AnyChoice):
    """
    One of the answers. `finish_reason` is an open list: `stop`, `length`, `tool_calls`,
    `content_filter` and more.
    """

    __slots__ = ()

    message: Message


class ChunkChoice(_AnyChoice):
    """
    What a chunk says of one choice.
    """

    __slots__ = ()

    delta: Delta
    message: Message | None


# --- usage, price, meta ---


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


# --- whole answers and chunks ---


class _Answer(WireObject):
    """
    What a whole answer and a chunk have in common.
    """

    __slots__ = ()

    id: str | None
    object: str | None
    created: int | None
    model: str | None
    provider: str | None
    service_tier: str | None
    system_fingerprint: str | None
    usage: Usage | None
    meta: Meta | None


class ChatCompletionChunk(_Answer):
    """
    A chunk of a stream. `str(chunk)` is its line of the event stream as it came.
    """

    __slots__ = ("_json", "_line", "_parse", "text")

    choices: list[ChunkChoice]

    text: str
    """
    The new text of the choice that the final response's `text` will show. `""` where there is none:
    thought, a tool call, a choice beside it, a snapshot of what was streamed already.
    """

    def __init__(
        self,
        wire: Wire | None,
        text: str = "",
        line: bytes = b"",
        parse: Callable[[bytes, str], Wire] | None = None,
    ) -> None:
        self._json = wire
        self.text = text
        self._line = line
        self._parse = parse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._wire, self.text, self._line)

    @property
    def _wire(self) -> Wire:
        # Most readers want the text alone; the rest is parsed when it is asked for first.
        if self._json is None:
            assert self._parse is not None
            self._json = self._parse(self._line, self.text)
        return self._json

    @_wire.setter  # An attribute that can be read and set is what it is in the base, too.
    def _wire(self, wire: Wire) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._json = wire

    def __str__(self) -> str:
        return self._line.decode("utf-8", "replace")


class TranslatedChunk(ChatCompletionChunk):
    """
    A chunk whose frame came in another provider's shape; `to_dict()` is the frame as it came.
    """

    __slots__ = ("_frame",)

    def __init__(self, wire: Wire, text: str, line: bytes, frame: Wire) -> None:
        super().__init__(wire, text, line)
        self._frame = frame

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._wire, self.text, self._line, self._frame)

    def to_dict(self) -> Wire:
        """
        A copy of the frame as it came.
        """
        return copy_json(self._frame)


class ChatCompletionsResponse(_Answer):
    """
    A whole answer, or what was put together of a stream.
    """

    __slots__ = ("_exchange",)

    choices: list[Choice]

    def __init__(self, wire: Wire, exchange: Exchange | None = None) -> None:
        self._wire = wire
        self._exchange = exchange or Exchange()

    @property
    def text(self) -> str:
        """
        The text of the first choice that is not thought; `""` where it has none.
        """
        return _text(self._shown())

    @property
    def message(self) -> Message:
        """
        The message of the choice that `text` shows. It can go into the next request's `messages` as
        it is.
        """
        return Message(self._shown_message())

    @property
    def reasoning(self) -> str | None:
        """
        The model's thought, whichever way the provider spells it; `None` where there is none.
        """
        marked = "".join(_text(choice) for choice in self._choices() if is_thought(choice))
        return read_reasoning(self._shown_message()) or marked or None

    @property
    def tool_calls(self) -> list[ToolCall]:
        """
        The calls that the caller is to run and to answer with messages of role `tool`.
        """
        return [call for call in self._calls() if not call.is_server_tool]

    @property
    def server_tool_calls(self) -> list[ToolCall]:
        """
        The records of what the gateway ran itself.

        Where the model asked for one of the gateway's tools and one of the caller's in the same
        turn, the gateway runs neither: then `usage.server_tool_use` does not count it.
        """
        return [call for call in self._calls() if call.is_server_tool]

    @property
    def finish_reason(self) -> str | None:
        """
        Why the choice that `text` shows ended.
        """
        return as_string(self._shown().get("finish_reason")) or None

    @property
    def request_id(self) -> str | None:
        """
        The id to give to the gateway's support: the answer's `id`, else one from its headers.
        """
        return self.id or self._exchange.header_request_id

    @property
    def headers(self) -> Headers:
        """
        The answer's headers, by name in any case.
        """
        return self._exchange.headers

    @property
    def status(self) -> int | None:
        """
        The answer's HTTP status.
        """
        return self._exchange.status

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """
        Each try of the call, the one that went well last.
        """
        return self._exchange.attempts

    @property
    def timing(self) -> Timing:
        """
        Where the time of the call went, in seconds.
        """
        return self._exchange.timing

    def _repr_html_(self) -> str:
        from .._show.cards import answer_html

        return answer_html(as_shown(self))

    def shown_choice(self) -> Wire:
        """
        Return the JSON of the choice that `text` shows; an empty object if there is none.
        """
        return self._shown()

    def all_calls(self) -> list[ToolCall]:
        """
        Return all tool calls in their order, the records of the gateway's own tools among them.
        """
        return self._calls()

    def _shown(self) -> Wire:
        answers = [choice for choice in self._choices() if not is_thought(choice)]
        if is_itemised(self._wire):
            # Calls are items by themselves, and may come before the text.
            answers = [item for item in answers if _text(item) or not _calls(item)] or answers
        return answers[0] if answers else {}

    def _shown_message(self) -> Wire:
        return as_object(self._shown().get("message"))

    def _calls(self) -> list[ToolCall]:
        shown, items = self._shown(), self._choices() if is_itemised(self._wire) else []
        beside = (item for item in items if item is not shown and not _text(item))
        return [call for choice in (shown, *beside) for call in _calls(choice)]

    def _choices(self) -> list[Wire]:
        return as_objects(self._wire.get("choices"))


def _text(choice: Wire) -> str:
    return read_text(as_object(choice.get("message")).get("content")) or ""


def _calls(choice: Wire) -> list[ToolCall]:
    return Choice(choice).message.tool_calls


def is_itemised(wire: Wire) -> bool:
    """
    Whether the choices of an answer are the items of one answer, as the older gateway lists them.

    It gives the thought, the text and every tool call a choice of its own. Nothing says so on the
    wire; but it sends none of the keys looked for here, which the newer gateway and other servers
    send. `nativeResponseId` says nothing: both gateways send it.
    """
    newer = ("provider", "system_fingerprint")
    return not any(wire.get(key) for key in newer) and "prompt_tokens" not in as_object(
        wire.get("usage")
    )


# --- how it is shown ---


def as_shown(response: ChatCompletionsResponse) -> "Answer":
    """
    Return what a notebook shows of *response*.
    """
    from .._show.cards import Answer, call_facts, money

    choices = sum(not choice.is_thought for choice in response.choices)
    usage = response.usage
    return Answer(
        text=response.text,
        reasoning=response.reasoning or "",
        refusal=response.message.refusal or "",
        calls=[_as_code(call) for call in response.tool_calls],
        server_calls=[_as_code(call) for call in response.server_tool_calls],
        facts=[
            response.model or "",
            f"{choices} choices, one is shown" if choices > 1 else "",
            f"finish: {response.finish_reason}" if response.finish_reason else "",
            tokens_as_shown(usage) if usage is not None else "",
            money(usage.cost) if usage is not None else "",
            *call_facts(response.timing, response.attempts, response.request_id),
        ],
    )


def tokens_as_shown(usage: Usage) -> str:
    """
    Return what a notebook shows of the tokens of *usage*.
    """
    from .._show.cards import tokens

    details = usage.completion_tokens_details
    reasoning = details.reasoning_tokens if details is not None else None
    return tokens(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, reasoning)


def _as_code(call: ToolCall) -> str:
    return f"{call.name or '?'}({call.arguments})"
