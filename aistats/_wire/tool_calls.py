"""
Merges the pieces of the tool calls of one choice.
"""

from __future__ import annotations

import re
from typing import Any

from .._views.json import Wire, as_object, as_objects, as_string, is_list, is_object, json_text

__all__ = ("ToolCalls", "index_of", "join_into")


def join_into(held: Wire, new: Wire, but: frozenset[str] = frozenset()) -> None:
    """
    Add the keys of *new*, except those in *but*, to *held*. Lists are concatenated; otherwise the
    last value that is not null wins.
    """
    for key, value in new.items():
        if value is None or key in but:
            continue
        before = held.get(key)
        if is_list(before) and is_list(value):
            before.extend(value)
        else:
            # Copy the list, because later ones are appended to it.
            held[key] = value.copy() if is_list(value) else value


def index_of(wire: Wire) -> int | None:
    """
    Return the `index` of a choice or a tool call; `None` if it has none.
    """
    index = wire.get("index")
    return index if type(index) is int else None


class ToolCalls:
    """
    The tool calls of one choice.

    An entry of a frame belongs to the call with the same id, otherwise to the newest call with the
    same index, otherwise to the newest call. It starts a new call in these cases:

    * its id is new, and it has a name;
    * its name differs from the name of that call;
    * it repeats id and name, but has an index of its own;
    * it has arguments, but those of that call are complete JSON already.

    So two calls can have the same id and index, as some providers send them.

    If another name arrives on the same index before any arguments, it is the rest of the name.

    If an entry repeats the id, the name and the arguments so far, its arguments replace them
    (cumulative streams). Otherwise they are appended.
    """

    __slots__ = ("_by_id", "_by_index", "_calls")

    def __init__(self) -> None:
        self._calls: list[_ToolCall] = []
        # The newest call with each id, and with each index.
        self._by_id: dict[str, _ToolCall] = {}
        self._by_index: dict[int | None, _ToolCall] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, entries: Any) -> None:
        """
        Add the `tool_calls` of a frame.
        """
        for entry in map(_Entry, as_objects(entries)):
            call = self._find(entry)
            if call is None or self._is_beside(call, entry) or call.is_another(entry):
                call = _ToolCall(entry.index, like=call if call and not entry.name else None)
                self._calls.append(call)
                self._by_index[entry.index] = call
            call.add(entry)
            self._by_id[call.id] = call

    def result(self) -> list[Wire]:
        """
        Return the calls in the format of a whole answer.
        """
        return [call.result() for call in self._calls]

    def _find(self, entry: _Entry) -> _ToolCall | None:
        if entry.id and (entry.name or entry.id in self._by_id):
            on_index = self._by_index.get(entry.index)
            if on_index is not None and on_index.id == entry.id:
                return on_index  # several calls can have this id
            return self._by_id.get(entry.id)
        if entry.index is None:
            return self._calls[-1] if self._calls else None
        return self._by_index.get(entry.index)

    def _is_beside(self, call: _ToolCall, entry: _Entry) -> bool:
        # Return whether *entry*, which has the id of *call*, starts a call with an index of its
        # own. The entries that follow may have only that index.
        has_own_index = None not in (call.index, entry.index) and entry.index not in self._by_index
        return bool(entry.name) and has_own_index and not call.needs(entry.arguments)


class _Entry:
    """
    One entry of a frame's `tool_calls`.
    """

    __slots__ = ("arguments", "id", "index", "is_custom", "name", "wire")

    def __init__(self, wire: Wire) -> None:
        custom = wire.get("custom")
        self.wire = wire
        self.is_custom = is_object(custom)
        called = custom if is_object(custom) else as_object(wire.get("function"))
        self.index = index_of(wire)
        self.id = as_string(wire.get("id"))
        self.name = as_string(called.get("name"))
        self.arguments = json_text(called.get("input" if self.is_custom else "arguments")) or ""


class _ToolCall:
    """
    One call, with the arguments that have arrived.
    """

    __slots__ = ("_arguments", "_extras", "_is_custom", "_json", "_name", "id", "index")

    def __init__(self, index: int | None, *, like: _ToolCall | None) -> None:
        self.index = index
        # A second call of the same function may have no id and name of its own.
        self.id: str = like.id if like else ""
        self._name: str = like._name if like else ""
        self._is_custom: bool = like._is_custom if like else False
        self._arguments: list[str] = []
        self._json = _JSONEnd()
        self._extras: Wire = {}

    def is_another(self, entry: _Entry) -> bool:
        """
        Return whether *entry* starts another call, although its id or index is that of this one.
        """
        if entry.name and self._name and entry.name != self._name:
            return not self._continues_name(entry)
        if not entry.arguments.strip() or self._repeats(entry):
            return False
        return self._json.is_reached and not self._is_custom

    def add(self, entry: _Entry) -> None:
        """
        Add *entry*, a part of this call.
        """
        if self._repeats(entry):
            self._arguments.clear()
            self._json = _JSONEnd()
        self.id = self.id or entry.id
        self._name = self._name_with(entry)
        self._is_custom = self._is_custom or entry.is_custom
        if entry.arguments:
            self._arguments.append(entry.arguments)
            self._json.read(entry.arguments)
        join_into(self._extras, entry.wire, frozenset({"id", "index", "function", "custom"}))

    def result(self) -> Wire:
        """
        Return the call in the format of a whole answer.
        """
        kind, text = ("custom", "input") if self._is_custom else ("function", "arguments")
        called = {"name": self._name, text: "".join(self._arguments)}
        return {"id": self.id, "type": kind, **self._extras, kind: called}

    def needs(self, arguments: str) -> bool:
        """
        Return whether *arguments* can continue those of this call.
        """
        return bool(arguments.strip()) and not self._json.is_reached

    def _continues_name(self, entry: _Entry) -> bool:
        return not self._arguments and entry.index == self.index

    def _name_with(self, entry: _Entry) -> str:
        # A name arrives in pieces, or is repeated in each entry.
        if self._name and self._continues_name(entry) and not entry.name.startswith(self._name):
            return self._name + entry.name
        return entry.name or self._name

    def _repeats(self, entry: _Entry) -> bool:
        # A piece may happen to start like the arguments so far; only an entry with the name repeats
        # them. The older gateway always repeats them, and sends no index, and the name at the end.
        if not entry.id or entry.id != self.id or not (entry.name or entry.index is None):
            return False
        return bool(entry.arguments) and entry.arguments.startswith("".join(self._arguments))


class _JSONEnd:
    """
    Detects the end of a JSON object or array that arrives in pieces. Each is read once.
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
