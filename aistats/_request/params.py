"""
What a request may say: each parameter, message, part and tool, with its type and its range.

This is the one declaration. Type checkers read it, and `_convert` holds values to it at run time,
where `Annotated` says what a type can't. A `Literal` beside `str` is for editors: such lists grow
at the gateway, and any string passes. `Mapping[str, object]` and `object` are free JSON. Keys that
a mapping doesn't declare pass, too, but for those at the top and in `documents`.

Beside a union of declared mappings stands `Mapping[str, object]`: to a type checker, the dict in a
variable is no `TypedDict`.
"""

# Without `from __future__ import annotations`: it would hide each `NotRequired` from `TypedDict`.

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NotRequired, TypedDict

from .._views.completion import Message, ToolCall
from .rules import Above, AnyOf, Between, Closed, Expected, Free, Length, Tagged

__all__ = (
    "AnthropicOptions",
    "AssistantMessageParam",
    "AudioURLPart",
    "CacheControl",
    "ChatCompletionsParams",
    "ContentPart",
    "ContextManagement",
    "CustomTool",
    "CustomToolDefinition",
    "DatetimeParameters",
    "DatetimeTool",
    "DebugParam",
    "DelegateParameters",
    "DelegateTool",
    "DeveloperMessageParam",
    "Document",
    "DocumentMetadata",
    "FontInput",
    "FunctionCallParam",
    "FunctionDefinition",
    "FunctionName",
    "FunctionTool",
    "FunctionToolChoice",
    "FusionParameters",
    "FusionTool",
    "GoogleOptions",
    "ImageConfig",
    "ImagePart",
    "ImageURLParam",
    "InputAudioParam",
    "InputAudioPart",
    "JSONSchemaFormat",
    "JSONSchemaParam",
    "MaxPrice",
    "MediaURLParam",
    "MessageParam",
    "NamedToolChoice",
    "OpenAIOptions",
    "OpenServerTool",
    "PlainFormat",
    "PluginParam",
    "ProviderOptions",
    "ReasoningParam",
    "ResponseFormat",
    "RoutingParam",
    "SearchModelsParameters",
    "SearchModelsTool",
    "StreamOptions",
    "SystemMessageParam",
    "TextPart",
    "ThinkingParam",
    "ToolCallParam",
    "ToolCallPart",
    "ToolChoice",
    "ToolMessageParam",
    "ToolParam",
    "UserMessageParam",
    "VideoPart",
    "WebFetchParameters",
    "WebFetchTool",
    "WebSearchParameters",
    "WebSearchTool",
)

# --- content parts ---


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

    url: Annotated[str, Length(1)]
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

    data: str
    url: str
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

    url: Annotated[str, Length(1)]


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
    Tagged("type", "part"),
]
Content = str | Sequence[ContentPart]

# --- messages ---


class SystemMessageParam(TypedDict):
    """
    What the model is told about its task.
    """

    role: Literal["system"]
    content: Content
    name: NotRequired[str]


class DeveloperMessageParam(TypedDict):
    """
    What newer models take in place of a system message.
    """

    role: Literal["developer"]
    content: Content
    name: NotRequired[str]


class UserMessageParam(TypedDict):
    """
    What the user says.
    """

    role: Literal["user"]
    content: Content
    name: NotRequired[str]


class ToolCallParam(TypedDict):
    """
    A call of a function that the model asked for earlier.
    """

    id: str
    type: Literal["function"]
    function: FunctionCallParam


class AssistantMessageParam(TypedDict):
    """
    What the model said earlier. A `Message` that came back can stand in its place.
    """

    role: Literal["assistant"]
    content: NotRequired[Content | None]
    name: NotRequired[str]
    tool_calls: NotRequired[
        Sequence[
            Annotated[
                ToolCallParam | ToolCall | Mapping[str, object],
                Tagged("type", "tool call"),
            ]
        ]
        | None
    ]
    reasoning_content: NotRequired[str | None]
    refusal: NotRequired[str | None]


class ToolMessageParam(TypedDict):
    """
    What a tool that the model called has answered.
    """

    role: Literal["tool"]
    tool_call_id: str
    content: Content
    name: NotRequired[str]


MessageParam = Annotated[
    SystemMessageParam
    | DeveloperMessageParam
    | UserMessageParam
    | AssistantMessageParam
    | ToolMessageParam
    | Message
    | Mapping[str, object],
    Tagged("role", "message", closed=True, note="; a function's answer has the role 'tool'"),
]

# --- tools ---


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

# --- the answer's form ---


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
        Tagged("type", "mapping"),
    ]
)

# --- thought ---

Effort = Literal["none", "instant", "minimal", "low", "medium", "high", "xhigh", "max"] | str


class ReasoningParam(TypedDict, total=False):
    """
    How much the model thinks before it answers, and how much of that is shown.
    """

    effort: Effort
    summary: Literal["auto", "concise", "detailed"] | str
    mode: Literal["standard", "pro"] | str
    enabled: bool
    max_tokens: Annotated[int, Between(0)]


class ThinkingParam(TypedDict, total=False):
    """
    The same in Anthropic's words.
    """

    type: Literal["enabled", "adaptive", "disabled"] | str
    budget_tokens: Annotated[int, Between(0)]
    effort: Effort


# --- providers ---


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

# --- the rest ---


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


class PluginParam(TypedDict):
    """
    A plugin of the gateway, and its settings.
    """

    id: Literal["response-healing"] | str


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
TokenLimit = Annotated[int, Between(1)]
Penalty = Annotated[float, Between(-2, 2)]
Share = Annotated[float, Between(0, 1)]


class ChatCompletionsParams(TypedDict, total=False):
    """
    Parameters of a chat completion. `None` means not given.

    Only `model` and `messages` are required. Each parameter that is given narrows the gateway's
    choice of providers, so nothing else is sent. Ranges are checked before anything is sent.

    Keys:
        model (a string, not empty): Id of the model, such as `openai/gpt-4o-mini`.
        messages (a string or a non-empty list of messages): The conversation so far, in order. A
            string is one user message.
        system (a string): Becomes the first system message.
        temperature (a number from 0 to 2): Randomness of sampling. The gateway's default is 1.
        top_p (a number from 0 to 1): Sample from the most likely tokens that have this share of
            the probability.
        top_k (a whole number of at least 1): Sample from this many most likely tokens.
        seed (a whole number from -9223372036854775808 to 9223372036854775807): Makes sampling
            repeatable, where the provider supports it.
        presence_penalty (a number from -2 to 2): Makes tokens that occurred less likely.
        frequency_penalty (a number from -2 to 2): Makes tokens less likely the more they occurred.
        logit_bias (a mapping): Added to the likelihood of tokens, by token id.
        logprobs (true or false): Return the log probabilities of the tokens.
        top_logprobs (a whole number from 0 to 20): How many alternatives of each token to return.
        n (a whole number from 1 to 16): Number of choices. Few providers support more than 1.
        max_output_tokens (a whole number of at least 1): Most tokens of the answer.
        max_completion_tokens (a whole number of at least 1): The same, by OpenAI's name. Give one.
        max_tokens (a whole number of at least 1): The same, by its older name. Give one.
        stop (a string or a list of strings): Generation stops before this text.
        reasoning (a mapping): How the model reasons: `{"effort": "low"}`, `{"enabled": False}`.
        reasoning_effort (a string): Overrides `reasoning["effort"]`.
        reasoning_split (a JSON value): Passed on to the provider.
        thinking (a mapping): The same as `reasoning`, in Anthropic's form.
        tools (a list of tools): Functions that the model may call, and tools that the gateway runs.
        tool_choice (a string or a mapping): "auto", "none", "required", or a function's name.
        parallel_tool_calls (true or false): Allow several tool calls in one answer. The gateway's
            default is true.
        max_tool_calls (a whole number of at least 1): Most calls of tools that the gateway runs.
        max_tools_calls (a whole number of at least 1): The same as `max_tool_calls`.
        web_search_options (a mapping): Options of the model's own web search.
        webSearchOptions (a mapping): The same as `web_search_options`.
        mcp_servers (a list of mappings): MCP servers that the provider may use.
        plugins (a list of strings or mappings): Plugins of the gateway: "response-healing".
        response_format (a string or a mapping): "json", "text", or a JSON schema:
            `{"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}`.
        modalities (a list of strings): What the answer may consist of: "text", "image", "audio".
        response_modalities (a list of strings): The same as `modalities`.
        responseModalities (a list of strings): The same as `modalities`.
        image_config (a mapping): Size and form of images that the model generates.
        imageConfig (a mapping): The same as `image_config`.
        documents (a list of mappings): Texts to answer from, each `{"content": ...}`.
        usage (true or false): Ask for usage. Newer gateways always return it.
        meta (true or false): Include the `meta` block: throughput, latency, routing.
        stream (true or false): Set by the method that is called.
        stream_options (a mapping): Options of a stream. The gateway sends usage regardless.
        debug (a mapping): What the gateway reports about its own work.
        echo_upstream_request (true or false): Return the request that the provider received.
        trace (a mapping): Tracing data, passed on.
        provider (a mapping such as {"order": ["openai"]}): Which providers to use, and in what
            order.
        routing (a mapping such as {"order": ["openai"]}): The same as `provider`, and wins over it.
        provider_options (a mapping): Options of single providers, by provider.
        providerOptions (a mapping): The same as `provider_options`.
        service_tier (a string): "standard", "fast", "priority" or "flex".
        models (a list of strings): Other models to fall back to.
        route (a string): How to choose among `models`.
        user (a string): Id of your end user.
        user_id (a string): The same as `user`, and wins over it.
        session_id (a string, 1 to 256 characters): Keeps requests of a session at one provider.
        metadata (a mapping): Strings to find the request by in the gateway's log.
        store (true or false): Whether the provider may store the answer.
        safety_identifier (a string): Id of your end user for the provider's abuse checks.
        prompt_cache_key (a string): Requests with the same key share the provider's prompt cache.
        prompt_cache_retention (a string): How long prompts stay cached: "in-memory" or "24h".
        min_p (a number from 0 to 1): Drop tokens less likely than this share of the likeliest.
            This and all that follow are for servers of open models.
        top_a (a number): Like `min_p`, relative to the square of the likeliest.
        typical_p (a number): Keep tokens of typical information content, up to this share.
        tfs (a number): Tail-free sampling.
        epsilon_cutoff (a number): Drop tokens below this probability.
        eta_cutoff (a number): Drop tokens below a probability that depends on the entropy.
        repetition_penalty (a number above 0): Above 1 it makes repetition less likely.
        min_tokens (a whole number): Fewest tokens of the answer.
        dynatemp_mode (a JSON value): Dynamic temperature: its mode.
        dynatemp_min (a number): Dynamic temperature: its lowest value.
        dynatemp_max (a number): Dynamic temperature: its highest value.
        dynatemp_exponent (a number): Dynamic temperature: its exponent.
        smoothing_factor (a number): Quadratic sampling: its factor.
        smoothing_curve (a number): Quadratic sampling: its curve.
        xtc_probability (a number): Exclude top choices: how often.
        xtc_threshold (a number): Exclude top choices: above which probability.
        dry_multiplier (a number): DRY repetition penalty: its strength.
        dry_base (a number): DRY repetition penalty: its growth with the length of a repetition.
        dry_allowed_length (a whole number): DRY repetition penalty: length that is not penalized.
        dry_range (a whole number): DRY repetition penalty: how many tokens to look back.
        dry_sequence_breakers (a JSON value): DRY repetition penalty: tokens that end a repetition.
        custom_token_bans (a JSON value): Tokens that are never generated.
        ignore_eos (true or false): Go on after the end-of-sequence token.
        custom_timeout (a JSON value): Passed on to the server.
        allow_logging (a JSON value): Passed on to the server.
        respond_as (a JSON value): Passed on to the server.
    """

    # Required. `messages` may be one string: what the user says.
    model: Annotated[str, Length(1)] | None
    messages: str | Annotated[Sequence[MessageParam], Length(1)] | None
    system: str | None

    # How the next token is chosen.
    temperature: Annotated[float, Between(0, 2)] | None
    top_p: Share | None
    top_k: Annotated[int, Between(1)] | None
    seed: Annotated[int, Between(-(2**63), 2**63 - 1)] | None
    presence_penalty: Penalty | None
    frequency_penalty: Penalty | None
    logit_bias: Mapping[str, float] | None
    logprobs: bool | None
    top_logprobs: Annotated[int, Between(0, 20)] | None
    n: Annotated[int, Between(1, 16)] | None

    # Where the answer ends. One of the three limits: they are three names of one thing.
    max_output_tokens: TokenLimit | None
    max_completion_tokens: TokenLimit | None
    max_tokens: TokenLimit | None
    stop: str | Sequence[str] | None

    # Thought.
    reasoning: ReasoningParam | None
    reasoning_effort: Effort | None
    reasoning_split: object
    thinking: ThinkingParam | None

    # Tools.
    tools: Sequence[ToolParam] | None
    tool_choice: ToolChoice | None
    parallel_tool_calls: bool | None
    max_tool_calls: Annotated[int, Between(1)] | None
    max_tools_calls: Annotated[int, Between(1)] | None
    web_search_options: Mapping[str, object] | None
    webSearchOptions: Mapping[str, object] | None
    mcp_servers: Sequence[Mapping[str, object]] | None
    plugins: Sequence[str | PluginParam | Mapping[str, object]] | None

    # The answer's form.
    response_format: ResponseFormat | None
    modalities: Sequence[Modality] | None
    response_modalities: Sequence[Modality] | None
    responseModalities: Sequence[Modality] | None
    image_config: ImageConfig | None
    imageConfig: ImageConfig | None
    documents: Sequence[Annotated[Document, Closed(("content", "metadata"))]] | None

    # What the gateway sends beside it. `stream` belongs to the method that is called.
    usage: bool | None
    meta: bool | None
    stream: bool | None
    stream_options: StreamOptions | Mapping[str, object] | None
    debug: DebugParam | None
    echo_upstream_request: bool | None
    trace: Mapping[str, object] | None

    # Who answers, and at what price.
    provider: ProviderRouting | None
    routing: ProviderRouting | None
    provider_options: FreeProviderOptions | None
    providerOptions: FreeProviderOptions | None
    service_tier: Literal["standard", "fast", "priority", "flex"] | str | None
    models: Sequence[str] | None
    route: str | None

    # Who asks, and what is remembered.
    user: str | None
    user_id: str | None
    session_id: Annotated[str, Length(1, 256)] | None
    metadata: Mapping[str, str] | None
    store: bool | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    prompt_cache_retention: Literal["in-memory", "24h"] | str | None

    # Sampling that only servers of open models know.
    min_p: Share | None
    top_a: float | None
    typical_p: float | None
    tfs: float | None
    epsilon_cutoff: float | None
    eta_cutoff: float | None
    repetition_penalty: Annotated[float, Above(0)] | None
    min_tokens: int | None
    dynatemp_mode: object
    dynatemp_min: float | None
    dynatemp_max: float | None
    dynatemp_exponent: float | None
    smoothing_factor: float | None
    smoothing_curve: float | None
    xtc_probability: float | None
    xtc_threshold: float | None
    dry_multiplier: float | None
    dry_base: float | None
    dry_allowed_length: int | None
    dry_range: int | None
    dry_sequence_breakers: object
    custom_token_bans: object
    ignore_eos: bool | None
    custom_timeout: object
    allow_logging: object
    respond_as: object
