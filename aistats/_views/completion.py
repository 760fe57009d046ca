"""
Whole answers and chunks, with their choices.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._exchange import Attempt, Exchange, Headers, Timing
from .json import (
    Wire,
    WireObject,
    as_integer,
    as_object,
    as_objects,
    as_string,
    copy_json,
    is_list,
    is_object,
)
from .message import Delta, Message, ToolCall
from .older_gateway import is_itemised
from .text import is_thought, read_reasoning, read_text
from .usage import Meta, Usage, tokens_as_shown

if TYPE_CHECKING:
    from .._show.cards import Answer

__all__ = (
    "ChatCompletionChunk",
    "ChatCompletionsResponse",
    "Choice",
    "ChoiceLogprobs",
    "ChunkChoice",
    "TokenLogprob",
    "TopLogprob",
    "TranslatedChunk",
    "as_shown",
)


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
        Return a copy of the frame as it came.
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


def _as_code(call: ToolCall) -> str:
    return f"{call.name or '?'}({call.arguments})"
