"""
Frames of a stream in, one completion out: the merging rules, no I/O.

The gateway passes on what the provider sends, so a stream has one of several shapes. These rules
hold for all:

* A frame whose `object` is `chat.completion` is a snapshot: it is the final answer, and what was
  streamed is dropped, all but the log probabilities, which a snapshot lacks. A `message` in a chunk
  is no snapshot; it only fills in what was not streamed.
* Tool calls are told apart by their id, else by their index, and their arguments come in pieces, or
  each time all over again, or whole: see `_ToolCalls`.
* The last `usage` that is not null wins, wherever it comes. `meta` is merged. Of other keys the
  last value that is not null wins; lists are joined.
* Thought has several spellings; one of them is taken from each frame, never their sum.
* A stream is complete if all choices that were asked for came, each with a `finish_reason`, or
  there was a snapshot.
"""

from __future__ import annotations

import io
import re
from typing import Any

from .._views.completion import ChatCompletionsResponse, is_thought, read_reasoning, read_text
from .._views.json import (
    Wire,
    as_object,
    as_objects,
    as_string,
    copy_json,
    is_list,
    is_object,
    json_text,
)
from .shortcut import PADDING

__all__ = ("CompletionAssembler", "Text")

# Keys of a frame, a choice and a delta that have a rule of their own. Padding says nothing.
_FRAME_KEYS = frozenset({"object", "choices", "usage", "meta", PADDING})
_CHOICE_KEYS = frozenset({"index", "delta", "message", "finish_reason", "logprobs", "reasoning"})
_DELTA_KEYS = frozenset(
    {"role", "content", "refusal", "reasoning", "reasoning_content", "tool_calls"}
)
_TEXT_KEYS = frozenset({"content", "reasoning", "reasoning_content"})


class CompletionAssembler:
    """
    Puts the frames of one stream together.

    Args:
        choices: How many were asked for.
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
        # The choice that `text` of the result will show, once that is known.
        self._shown: _Choice | None = None
        self.is_failed = False
        """Whether a choice ended with the `finish_reason` "error"."""

    @property
    def is_empty(self) -> bool:
        """
        Whether nothing of an answer has come yet.
        """
        return not self._choices and self._snapshot is None

    @property
    def is_complete(self) -> bool:
        """
        Whether the answer is whole, as far as its frames can tell.
        """
        if self._snapshot is not None:
            return True
        choices = self._choices.values()
        # The older gateway counts items in place of choices.
        came = len(choices) >= self._asked or any(choice.is_item for choice in choices)
        return came and all(choice.finish_reason is not None for choice in choices)

    @property
    def answer_id(self) -> str | None:
        """
        The answer's id, once a frame had it.
        """
        head = self._head if self._snapshot is None else self._snapshot
        return as_string(head.get("id")) or None

    def add(self, frame: Wire) -> str:
        """
        Take the next frame, and return the new text of the choice that the result's `text` will
        show.
        """
        self._add_totals(frame)
        if _is_snapshot(frame):
            return self._add_snapshot(frame)
        self._add_head(frame)
        fresh = ""
        if self._snapshot is not None:  # nothing can be added to the final answer
            return fresh
        for position, choice in enumerate(as_objects(frame.get("choices"))):
            index = _index(choice)
            state = self._choice(position if index is None else index)
            text = state.add(choice)
            self.is_failed = self.is_failed or state.finish_reason == "error"
            if text and self._is_shown(state):
                fresh += text
        return fresh

    def only_text(self, frame: Wire) -> tuple[str, Text] | None:
        """
        Where *frame*, the last that was taken, has its text, as a key of its one delta, and the
        text that a next one has to be added to; `None` if it says more than that, so that to
        take it again with another text would change something else, too.
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
        state = self._choice(_index(choice) or 0)
        if key != "content":
            return key, state.reasoning
        return None if state.is_thought or not self._is_shown(state) else (key, state.text)

    def result(self) -> Wire:
        """
        All that has come so far, in the shape of a whole answer. It shares nothing with the frames.
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
        streamed = any(choice.text for choice in self._choices.values() if not choice.is_thought)
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
        state = self._choices.get(_index(choice) or 0)
        if choice.get("logprobs") or state is None or not state.logprobs:
            return choice
        return {**choice, "logprobs": state.logprobs}

    def _choice(self, index: int) -> _Choice:
        if index not in self._choices:
            self._choices[index] = _Choice()
        return self._choices[index]

    def _is_shown(self, state: _Choice) -> bool:
        # The first choice, unless that is thought. The older gateway counts items in place of
        # choices, and says of each whether it is thought: there it is the first that has text and
        # is not.
        if self._shown is None:
            first = self._choices.get(0)
            if state is first or state.is_item or (first is not None and first.is_thought):
                self._shown = state
        return state is self._shown


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _is_snapshot(frame: Wire) -> bool:
    # Some servers call a chunk a completion, too.
    return frame.get("object") == "chat.completion" and not any(
        is_object(choice.get("delta")) for choice in as_objects(frame.get("choices"))
    )


class Text(io.StringIO):
    """
    Text that comes in pieces. It soon holds little more than the characters, where a list of a
    million pieces would take 60 MB.
    """

    def __bool__(self) -> bool:
        return self.tell() > 0


class _Choice:
    """
    What has come of one choice.
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
        self._calls = _ToolCalls()
        self._extras: Wire = {}
        self._message_extras: Wire = {}

    def add(self, choice: Wire) -> str:
        """
        Take what a frame says of the choice, and return its new text; `""` if the choice is
        thought.
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
        _join(self._extras, choice, _CHOICE_KEYS)
        return "" if self.is_thought else text

    def result(self, index: int) -> Wire:
        """
        The choice as a whole answer has it.
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
        _join(self._message_extras, delta, _DELTA_KEYS)
        return text

    def _add_text(self, message: Wire) -> str:
        text = read_text(message.get("content")) or ""
        if text:
            self.text.write(text)
        return text

    def _fill_in(self, message: Wire) -> str:
        # A message beside the delta, on the last chunk: often the thought alone. What is there
        # already stays.
        if not self.reasoning and (reasoning := read_reasoning(message)):
            self.reasoning.write(reasoning)
        if not self._refusal and (refusal := as_string(message.get("refusal"))):
            self._refusal.write(refusal)
        if not self._calls:
            self._calls.add(message.get("tool_calls"))
        _join(self._message_extras, message, _DELTA_KEYS | self._message_extras.keys())
        return "" if self.text else self._add_text(message)

    def _add_logprobs(self, logprobs: Any) -> None:
        # An object of lists, or from some providers the list of the text's tokens by itself.
        parts = {"content": logprobs} if is_list(logprobs) else as_object(logprobs)
        if parts:
            self.logprobs = self.logprobs or {}
            _join(self.logprobs, parts)


def _join(held: Wire, new: Wire, but: frozenset[str] = frozenset()) -> None:
    for key, value in new.items():
        if value is None or key in but:
            continue
        before = held.get(key)
        if is_list(before) and is_list(value):
            before.extend(value)
        else:
            # The list is ours from here on; the one that came belongs to its frame.
            held[key] = value.copy() if is_list(value) else value


class _ToolCalls:
    """
    The tool calls of one choice.

    An entry of a frame belongs to the call with its id, else to the newest on its index, else to
    the newest. It opens a new one if its id is new and it has a name, if it has another name than
    that call, if it repeats id and name on an index of its own, or if it has more to add to
    arguments that are whole. Two calls can thus have the same id and index, as they do on the wire.

    Another name that comes before any arguments, on the same index, is the rest of the name.

    Arguments that repeat, with the id and name, what is held and go on from there take its place;
    others are appended.
    """

    __slots__ = ("_by_id", "_by_index", "_calls")

    def __init__(self) -> None:
        self._calls: list[_ToolCall] = []
        # The newest call of each.
        self._by_id: dict[str, _ToolCall] = {}
        self._by_index: dict[int | None, _ToolCall] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, entries: Any) -> None:
        for entry in map(_Entry, as_objects(entries)):
            call = self._find(entry)
            if call is None or self._is_beside(call, entry) or call.is_another(entry):
                call = _ToolCall(entry.index, like=call if call and not entry.name else None)
                self._calls.append(call)
                self._by_index[entry.index] = call
            call.add(entry)
            self._by_id[call.id] = call

    def result(self) -> list[Wire]:
        return [call.result() for call in self._calls]

    def _find(self, entry: _Entry) -> _ToolCall | None:
        if entry.id and (entry.name or entry.id in self._by_id):
            on_index = self._by_index.get(entry.index)
            if on_index is not None and on_index.id == entry.id:
                return on_index  # of several calls with this id
            return self._by_id.get(entry.id)
        if entry.index is None:
            return self._calls[-1] if self._calls else None
        return self._by_index.get(entry.index)

    def _is_beside(self, call: _ToolCall, entry: _Entry) -> bool:
        # Whether *entry*, which has the id of *call*, opens a call on an index of its own. Its
        # arguments may follow by that index alone.
        has_own_index = None not in (call.index, entry.index) and entry.index not in self._by_index
        return bool(entry.name) and has_own_index and not call.needs(entry.arguments)


class _Entry:
    """
    One entry of a frame's `tool_calls`, read.
    """

    __slots__ = ("arguments", "id", "index", "is_custom", "name", "wire")

    def __init__(self, wire: Wire) -> None:
        custom = wire.get("custom")
        self.wire = wire
        self.is_custom = is_object(custom)
        called = custom if is_object(custom) else as_object(wire.get("function"))
        self.index = _index(wire)
        self.id = as_string(wire.get("id"))
        self.name = as_string(called.get("name"))
        self.arguments = json_text(called.get("input" if self.is_custom else "arguments")) or ""


def _index(wire: Wire) -> int | None:
    index = wire.get("index")
    return index if type(index) is int else None


class _ToolCall:
    """
    One call, with the arguments that have come so far.
    """

    __slots__ = ("_arguments", "_extras", "_is_custom", "_json", "_name", "id", "index")

    def __init__(self, index: int | None, *, like: _ToolCall | None) -> None:
        self.index = index
        # A second call of the same function may come without id and name of its own.
        self.id: str = like.id if like else ""
        self._name: str = like._name if like else ""
        self._is_custom: bool = like._is_custom if like else False
        self._arguments: list[str] = []
        self._json = _JSONEnd()
        self._extras: Wire = {}

    def is_another(self, entry: _Entry) -> bool:
        """
        Whether *entry*, by its id or index a part of this call, can't be one.
        """
        if entry.name and self._name and entry.name != self._name:
            return not self._continues_name(entry)
        if not entry.arguments.strip() or self._repeats(entry):
            return False
        return self._json.is_reached and not self._is_custom

    def add(self, entry: _Entry) -> None:
        if self._repeats(entry):
            self._arguments.clear()
            self._json = _JSONEnd()
        self.id = self.id or entry.id
        self._name = self._name_with(entry)
        self._is_custom = self._is_custom or entry.is_custom
        if entry.arguments:
            self._arguments.append(entry.arguments)
            self._json.read(entry.arguments)
        _join(self._extras, entry.wire, frozenset({"id", "index", "function", "custom"}))

    def result(self) -> Wire:
        kind, text = ("custom", "input") if self._is_custom else ("function", "arguments")
        called = {"name": self._name, text: "".join(self._arguments)}
        return {"id": self.id, "type": kind, **self._extras, kind: called}

    def needs(self, arguments: str) -> bool:
        """
        Whether *arguments* can be a part of those that this call still lacks.
        """
        return bool(arguments.strip()) and not self._json.is_reached

    def _continues_name(self, entry: _Entry) -> bool:
        return not self._arguments and entry.index == self.index

    def _name_with(self, entry: _Entry) -> str:
        # A name comes in pieces, or each time all over again.
        if self._name and self._continues_name(entry) and not entry.name.startswith(self._name):
            return self._name + entry.name
        return entry.name or self._name

    def _repeats(self, entry: _Entry) -> bool:
        # The name tells a repetition from a piece that happens to begin like the whole. The older
        # gateway, which always repeats, sends no index, and no name until the end.
        if not entry.id or entry.id != self.id or not (entry.name or entry.index is None):
            return False
        return bool(entry.arguments) and entry.arguments.startswith("".join(self._arguments))


class _JSONEnd:
    """
    Tells when the end of a JSON object or array is reached, piece by piece, each looked at once.
    """

    __slots__ = ("_depth", "_escaped", "_in_string", "is_reached")

    _MARKS = re.compile(r'[\\"{}\[\]]')

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.is_reached = False

    def read(self, piece: str) -> None:
        position = 0
        if self._escaped:
            position, self._escaped = 1, False
        while mark := self._MARKS.search(piece, position):
            position = mark.end()
            character = mark.group()
            if self._in_string:
                if character == "\\":
                    self._escaped = position == len(piece)
                    position += 1
                elif character == '"':
                    self._in_string = False
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                self.is_reached = self._depth == 0
