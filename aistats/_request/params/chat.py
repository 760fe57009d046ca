"""
Every parameter of a chat completion.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypedDict

from ..rules import Above, Between, Closed, Length
from .content import Document
from .messages import GivenMessage
from .output import DebugParam, ImageConfig, Modality, ResponseFormat, StreamOptions
from .providers import FreeProviderOptions, ProviderRouting
from .reasoning import Effort, ReasoningParam, ThinkingParam
from .tools import PluginParam, ToolChoice, ToolParam

__all__ = ("ChatCompletionsParams",)

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
    messages: str | Annotated[Sequence[GivenMessage], Length(1)] | None
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

    # What the gateway sends beside it.
    usage: bool | None
    meta: bool | None
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


class GivenParams(ChatCompletionsParams, total=False):
    """
    Parameters as they may be given at run time: with `stream`, which belongs to the method that is
    called. Type checkers report it.
    """

    stream: bool | None
