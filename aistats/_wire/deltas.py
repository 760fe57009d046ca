"""
Adds deltas to frames whose content is in whole messages.

Some frames of a stream have a `message` instead of a `delta`, or both: snapshots of the whole
answer, a JSON answer to a stream request, last chunks. Code that reads `chunk.choices[0].delta`
would miss their content. These functions put the content that has not been streamed before into the
delta of each choice.

The older gateway sends reasoning as a choice of its own, with the text in `content`. In the delta,
that text is in `reasoning_content`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from .._views.completion import ChatCompletionsResponse
from .._views.json import Wire, as_object, as_objects, as_string, is_object
from .._views.older_gateway import is_itemised
from .._views.text import is_thought, read_reasoning, read_text
from .tool_calls import index_of

__all__ = ("needs_delta", "with_deltas", "with_deltas_of_snapshot")


def needs_delta(choice: Wire) -> bool:
    """
    Return whether *choice* has content outside of its delta, or reasoning in `content`.
    """
    return is_object(choice.get("message")) or is_thought(choice)


def with_deltas(
    frame: Wire, text: str, shown: int | None, streamed: Mapping[int, Set[str]]
) -> Wire:
    """
    Return *frame*, a chunk, with a delta in each choice.

    Args:
        frame: The chunk, as it arrived.
        text: New text of the choice that is shown.
        shown: The index of that choice.
        streamed: The kinds of content that have been streamed before, by the choice's index.
    """
    choices: list[Wire] = []
    for position, choice in enumerate(as_objects(frame.get("choices"))):
        index = index_of(choice)
        index = position if index is None else index
        delta = {**as_object(choice.get("delta"))}
        message = as_object(choice.get("message"))
        before = streamed.get(index, frozenset())
        new = _new(message, {*before, *(name for name in delta if delta[name])})
        delta = {**new, **{name: value for name, value in delta.items() if value is not None}}
        if index == shown:
            delta["content"] = text
        elif is_thought(choice):
            delta = _as_thought(delta)
        rest = {name: value for name, value in choice.items() if name != "message"}
        choices.append({**rest, "index": index, "delta": delta})
    return {**frame, "object": "chat.completion.chunk", "choices": choices}


def with_deltas_of_snapshot(frame: Wire, text: str, streamed: Set[str]) -> Wire:
    """
    Return *frame*, a whole answer, as a chunk. The choice that is shown comes first.

    Args:
        frame: The answer, as it arrived.
        text: Its text; `""` if that has been streamed before.
        streamed: The kinds of content that have been streamed before, in any choice.
    """
    answer = ChatCompletionsResponse(frame)
    shown = answer.shown_choice()
    delta: Wire = {"role": answer.message.role or "assistant", "content": text}
    calls = [call.to_dict() for call in answer.all_calls()]
    whole = {
        "reasoning_content": answer.reasoning,
        "refusal": answer.message.refusal,
        "tool_calls": [{"index": at, **call} for at, call in enumerate(calls)],
    }
    delta |= {name: value for name, value in whole.items() if value and name not in streamed}
    choices = [_without_message(shown, delta)]
    if not is_itemised(frame):  # otherwise, the other choices are parts of this one
        choices += [
            _without_message(choice, _new(as_object(choice.get("message")), streamed))
            for choice in as_objects(frame.get("choices"))
            if choice is not shown and not is_thought(choice)
        ]
    return {**frame, "object": "chat.completion.chunk", "choices": choices}


def _without_message(choice: Wire, delta: Wire) -> Wire:
    rest = {name: value for name, value in choice.items() if name != "message"}
    return {"index": 0, **rest, "delta": delta}


def _new(message: Wire, streamed: Set[str]) -> Wire:
    # Content of *message*, without the kinds that have been streamed.
    found: dict[str, Any] = {
        "role": message.get("role"),
        "content": read_text(message.get("content")),
        "reasoning_content": read_reasoning(message),
        "refusal": as_string(message.get("refusal")),
        "tool_calls": [
            {"index": at, **call} for at, call in enumerate(as_objects(message.get("tool_calls")))
        ],
    }
    return {name: value for name, value in found.items() if value and name not in streamed}


def _as_thought(delta: Wire) -> Wire:
    text = read_text(delta.get("content"))
    rest = {name: value for name, value in delta.items() if name != "content"}
    return {"reasoning_content": text, **rest} if text else rest
