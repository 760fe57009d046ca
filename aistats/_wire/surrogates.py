"""
Joins surrogate pairs that a server split between two frames of a stream.

A server in JavaScript that splits text by UTF-16 code units sends the escape of one half in one
frame and the escape of the other in the next. JSON allows this (RFC 8259, section 8.2). The first
half is held until the second arrives.
"""

from __future__ import annotations

from typing import Any, Final

from .._views.json import Wire, as_object, as_objects
from .._views.lenient import read_leniently, without_halves

__all__ = ("PairJoiner",)

_TEXTS: Final = ("content", "reasoning_content", "reasoning", "refusal")
_UNKNOWN: Final = "\ufffd"


class PairJoiner:
    """
    Joins split surrogate pairs across the frames of one stream.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[tuple[object, ...], str] = {}
        """First halves of characters, by choice and key of the text."""

    @property
    def is_holding(self) -> bool:
        """
        Whether a first half is held until the second arrives.
        """
        return bool(self._held)

    @staticmethod
    def may_be_cut(data: bytes) -> bool:
        """
        Return whether the frame *data* has an escape that may be half of a surrogate pair.
        """
        return b"\\ud" in data or b"\\uD" in data

    def read(self, data: bytes) -> Any:
        """
        Return the value of the frame *data*, without first halves at the end of its texts.

        Raises:
            ValueError: It isn't JSON.
        """
        frame = read_leniently(data, keeps_halves=True)
        self.join(as_object(frame))
        return without_halves(frame)

    def join(self, frame: Wire) -> None:
        """
        Add the held halves to the start of the texts of *frame*, and hold those at their ends.
        """
        for choice in as_objects(frame.get("choices")):
            index = choice.get("index")
            delta = as_object(choice.get("delta"))
            is_last = choice.get("finish_reason") is not None
            for name in _TEXTS:
                self._join_text(delta, name, (index, name), is_last)
            for call in as_objects(delta.get("tool_calls")):
                function = as_object(call.get("function"))
                path = (index, "tool_calls", call.get("index"))
                if call.get("id") and function.get("name"):
                    self._held.pop(path, None)  # cumulative: the arguments start over
                self._join_text(function, "arguments", path, is_last)
            if is_last:
                self._end(index, delta)

    def _join_text(self, holder: Wire, name: str, path: tuple[object, ...], is_last: bool) -> None:
        text = holder.get(name)
        if not isinstance(text, str) or not text:
            return
        text = self._held.pop(path, "") + text
        if "\ud800" <= text[-1] <= "\udbff" and not is_last:
            self._held[path] = text[-1]
            text = text[:-1]
        holder[name] = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _end(self, index: object, delta: Wire) -> None:
        # The choice has ended, so no second halves will arrive.
        for path in [path for path in self._held if path[0] == index]:
            del self._held[path]
            name = path[1]
            if isinstance(name, str) and name in _TEXTS:
                text = delta.get(name)
                delta[name] = _UNKNOWN + (text if isinstance(text, str) else "")
