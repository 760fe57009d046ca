"""
Merges the frames of a stream into one completion. No I/O.

The gateway passes frames on as the provider sends them, so a stream has one of several shapes.
These rules apply to all of them:

* A frame whose `object` is `chat.completion` is a snapshot: the final answer. It replaces
  everything that was streamed, except the log probabilities, which snapshots lack. A `message` in a
  chunk is not a snapshot; it only adds what was not streamed.
* Tool calls are identified by their id, otherwise by their index. Their arguments come in pieces,
  or cumulatively, or all at once: see `tool_calls`.
* The last `usage` that is not null wins, in any frame. `meta` is merged. For other keys the last
  value that is not null wins; lists are concatenated.
* Reasoning has several keys. Each frame's is read from one of them only.
* A stream is complete if each requested choice has a `finish_reason`, or if there was a snapshot.
"""

from __future__ import annotations

import io
from typing import Any

from .._views.completion import ChatCompletionsResponse
from .._views.json import (
    Wire,
    as_object,
    as_objects,
    as_string,
    copy_json,
    is_list,
    is_object,
)
from .._views.text import is_thought, read_reasoning, read_text
from .deltas import needs_delta, with_deltas, with_deltas_of_snapshot
from .tool_calls import ToolCalls, index_of, join_into

__all__ = ("PADDING", "CompletionAssembler", "Text")

PADDING = "obfuscation"
"""Key of the random padding that hides the length of the text in OpenAI's chunks."""

# Keys of a frame, a choice and a delta with a rule of their own. Padding is ignored.
_FRAME_KEYS = frozenset({"object", "choices", "usage", "meta", PADDING})
_CHOICE_KEYS = frozenset({"index", "delta", "message", "finish_reason", "logprobs", "reasoning"})
_DELTA_KEYS = frozenset(
    {"role", "content", "refusal", "reasoning", "reasoning_content", "tool_calls"}
)
_TEXT_KEYS = frozenset({"content", "reasoning", "reasoning_content"})


class CompletionAssembler:
    """
    Merges the frames of one stream.

    Args:
        choices: Number of choices that the request asks for.
    """

    __slots__ = (
        "_asked",
        "_choices",
        "_head",
        "_meta",
        "_shown",
        "_snapshot",
        "_usage",
        "is_failed",
    )

    def __init__(self, choices: int = 1) -> None:
        self._asked = choices
        self._head: Wire = {}
        self._choices: dict[int, _Choice] = {}
        self._usage: Wire | None = None
        self._meta: Wire | None = None
        self._snapshot: Wire | None = None
        # The choice that `text` of the result shows; `None` until it is known.
        self._shown: _Choice | None = None
        self.is_failed = False
        """Whether a choice ended with the `finish_reason` "error"."""

    @property
    def is_empty(self) -> bool:
        """
        Whether no choice has arrived yet.
        """
        return not self._choices and self._snapshot is None

    @property
    def is_complete(self) -> bool:
        """
        Whether the frames make a complete answer.
        """
        if self._snapshot is not None:
            return True
        choices = self._choices.values()
        # In the older gateway's format, each item of the answer is a choice.
        came = len(choices) >= self._asked or any(choice.is_item for choice in choices)
        return came and all(choice.finish_reason is not None for choice in choices)

    @property
    def answer_id(self) -> str | None:
        """
        The answer's id; `None` before a frame has it.
        """
        head = self._head if self._snapshot is None else self._snapshot
        return as_string(head.get("id")) or None

    def add(self, frame: Wire) -> str:
        """
        Add the next frame. Return the new text of the choice that the result's `text` shows.
        """
        self._add_totals(frame)
        if _is_snapshot(frame):
            return self._add_snapshot(frame)
        self._add_head(frame)
        fresh = ""
        if self._snapshot is not None:  # the snapshot is final
            return fresh
        for position, choice in enumerate(as_objects(frame.get("choices"))):
            index = index_of(choice)
            state = self._choice(position if index is None else index)
            text = state.add(choice)
            self.is_failed = self.is_failed or state.finish_reason == "error"
            if text and self._is_shown(state):
                fresh += text
        return fresh

    def add_with_deltas(self, frame: Wire) -> tuple[Wire, str]:
        """
        Add the next frame. Return the frame with all new content in its deltas, and the new text of
        the choice that the result's `text` shows. A frame whose deltas are complete is returned
        unchanged.
        """
        if not any(map(needs_delta, as_objects(frame.get("choices")))):
            return frame, self.add(frame)
        streamed = {index: state.kinds() for index, state in self._choices.items()}
        is_repeated = self._snapshot is not None
        text = self.add(frame)
        if is_repeated:
            return {**frame, "object": "chat.completion.chunk", "choices": []}, text
        if _is_snapshot(frame):
            kinds = {kind for each in streamed.values() for kind in each}
            return with_deltas_of_snapshot(frame, text, kinds), text
        shown = next((at for at, each in self._choices.items() if each is self._shown), None)
        return with_deltas(frame, text, shown, streamed), text

    def only_text(self, frame: Wire) -> tuple[str, Text] | None:
        """
        Return the key of the text in the delta of *frame*, and the `Text` that the next one is
        added to. *frame* is the last that was added.

        Return `None` if adding *frame* again, with another text, would change more than that text.
        """
        choices = frame.get("choices")
        if not is_list(choices) or len(choices) != 1 or self._snapshot is not None:
            return None
        choice = as_object(choices[0])
        delta = as_object(choice.get("delta"))
        others = [frame[key] for key in frame if key != "choices"]
        others += [choice[key] for key in choice if key != "delta"]
        texts = [key for key in delta if delta[key] and key != "role"]
        if len(texts) != 1 or texts[0] not in _TEXT_KEYS or not all(map(_is_scalar, others)):
            return None
        (key,) = texts
        if not isinstance(delta[key], str):
            return None
        state = self._choice(index_of(choice) or 0)
        if key != "content":
            return key, state.reasoning
        return None if state.is_thought or not self._is_shown(state) else (key, state.text)

    def result(self) -> Wire:
        """
        Return everything so far, in the format of a whole answer. It shares no objects with the
        frames.
        """
        head = {**self._head, "object": "chat.completion"}
        if self._snapshot is not None:
            head.update(self._snapshot)
            head["choices"] = self._snapshot_choices(self._snapshot)
        else:
            head["choices"] = [
                self._choices[index].result(index) for index in sorted(self._choices)
            ]
        if self._usage is not None:
            head["usage"] = self._usage
        if self._meta is not None:
            head["meta"] = self._meta
        return copy_json(head)

    def _add_head(self, frame: Wire) -> None:
        for key, value in frame.items():
            if value is not None and key not in _FRAME_KEYS:
                self._head[key] = value

    def _add_totals(self, frame: Wire) -> None:
        usage, meta = frame.get("usage"), frame.get("meta")
        if is_object(usage):
            self._usage = usage
        if is_object(meta):
            self._meta = {
                **(self._meta or {}),
                **{key: value for key, value in meta.items() if value is not None},
            }

    def _add_snapshot(self, frame: Wire) -> str:
        streamed = self._snapshot is not None or any(
            choice.text for choice in self._choices.values() if not choice.is_thought
        )
        self._snapshot = frame
        whole = ChatCompletionsResponse(frame)
        self.is_failed = self.is_failed or any(
            choice.finish_reason == "error" for choice in whole.choices
        )
        return "" if streamed else whole.text

    def _snapshot_choices(self, snapshot: Wire) -> Any:
        choices = snapshot.get("choices")
        if not is_list(choices):
            return choices
        return [self._with_logprobs(choice) if is_object(choice) else choice for choice in choices]

    def _with_logprobs(self, choice: Wire) -> Wire:
        state = self._choices.get(index_of(choice) or 0)
        if choice.get("logprobs") or state is None or not state.logprobs:
            return choice
        return {**choice, "logprobs": state.logprobs}

    def _choice(self, index: int) -> _Choice:
        if index not in self._choices:
            self._choices[index] = _Choice()
        return self._choices[index]

    def _is_shown(self, state: _Choice) -> bool:
        # The first choice, unless it is reasoning. In the older gateway's format, each item of the
        # answer is a choice: there it is the first with text that is not reasoning.
        if self._shown is None:
            first = self._choices.get(0)
            if state is first or state.is_item or (first is not None and first.is_thought):
                self._shown = state
        return state is self._shown


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _is_snapshot(frame: Wire) -> bool:
    # Some servers send this `object` in chunks, too.
    return frame.get("object") == "chat.completion" and not any(
        is_object(choice.get("delta")) for choice in as_objects(frame.get("choices"))
    )


class Text(io.StringIO):
    """
    Text that arrives in pieces. It needs little more memory than the characters; a list of a
    million pieces would need 60 MB.
    """

    def __bool__(self) -> bool:
        return self.tell() > 0


class _Choice:
    """
    State of one choice: everything of it that has arrived.
    """

    __slots__ = (
        "_calls",
        "_extras",
        "_message_extras",
        "_refusal",
        "_role",
        "finish_reason",
        "is_item",
        "is_thought",
        "logprobs",
        "reasoning",
        "text",
    )

    def __init__(self) -> None:
        self.text = Text()
        self.finish_reason: str | None = None
        self.logprobs: Wire | None = None
        self.is_item = False
        self.is_thought = False
        self._role = "assistant"
        self.reasoning = Text()
        self._refusal = Text()
        self._calls = ToolCalls()
        self._extras: Wire = {}
        self._message_extras: Wire = {}

    def add(self, choice: Wire) -> str:
        """
        Add *choice* of a frame. Return its new text; `""` if it is reasoning.
        """
        self.is_item = self.is_item or isinstance(choice.get("reasoning"), bool)
        self.is_thought = self.is_thought or is_thought(choice)
        text = self._add_delta(as_object(choice.get("delta")))
        if message := as_object(choice.get("message")):
            text += self._fill_in(message)
        finish_reason = choice.get("finish_reason")
        if isinstance(finish_reason, str) and finish_reason:
            self.finish_reason = finish_reason
        self._add_logprobs(choice.get("logprobs"))
        join_into(self._extras, choice, _CHOICE_KEYS)
        return "" if self.is_thought else text

    def kinds(self) -> set[str]:
        """
        Return the keys of a delta for which content has arrived.
        """
        has = {
            "content": bool(self.text) and not self.is_thought,
            "reasoning_content": bool(self.reasoning) or (bool(self.text) and self.is_thought),
            "refusal": bool(self._refusal),
            "tool_calls": bool(self._calls),
        }
        return {key for key, has_come in has.items() if has_come}

    def result(self, index: int) -> Wire:
        """
        Return the choice in the format of a whole answer.
        """
        message: Wire = {"role": self._role, "content": self.text.getvalue()}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning.getvalue()
        if self._refusal:
            message["refusal"] = self._refusal.getvalue()
        if self._calls:
            message["tool_calls"] = self._calls.result()
        choice: Wire = {
            "index": index,
            "message": {**self._message_extras, **message},
            "finish_reason": self.finish_reason,
            "logprobs": self.logprobs,
            **self._extras,
        }
        if self.is_thought:
            choice["reasoning"] = True
        return choice

    def _add_delta(self, delta: Wire) -> str:
        text = self._add_text(delta)
        if reasoning := read_reasoning(delta):
            self.reasoning.write(reasoning)
        if refusal := as_string(delta.get("refusal")):
            self._refusal.write(refusal)
        self._role = as_string(delta.get("role")) or self._role
        self._calls.add(delta.get("tool_calls"))
        join_into(self._message_extras, delta, _DELTA_KEYS)
        return text

    def _add_text(self, message: Wire) -> str:
        text = read_text(message.get("content")) or ""
        if text:
            self.text.write(text)
        return text

    def _fill_in(self, message: Wire) -> str:
        # Last chunks may have a message beside the delta, often with the reasoning alone. It only
        # adds what was not streamed.
        if not self.reasoning and (reasoning := read_reasoning(message)):
            self.reasoning.write(reasoning)
        if not self._refusal and (refusal := as_string(message.get("refusal"))):
            self._refusal.write(refusal)
        if not self._calls:
            self._calls.add(message.get("tool_calls"))
        join_into(self._message_extras, message, _DELTA_KEYS | self._message_extras.keys())
        return "" if self.text else self._add_text(message)

    def _add_logprobs(self, logprobs: Any) -> None:
        # An object of lists; some providers send only the list of the text's tokens.
        parts = {"content": logprobs} if is_list(logprobs) else as_object(logprobs)
        if parts:
            self.logprobs = self.logprobs or {}
            join_into(self.logprobs, parts)
