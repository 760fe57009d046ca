"""
Decodes server-sent events. No I/O.

Follows the WHATWG rules for event streams (HTML standard, section 9.2.6): lines end at LF, CRLF or
CR only; a BOM at the very start is dropped; a blank line ends an event; `data` lines are joined by
LF; a line that starts with a colon is a comment. There are two deliberate differences:

* An event without a `data` line is returned, too, with `data=None`, because callers may want to see
  its lines.
* At the end of the input, a last event without its blank line is returned with `whole=False`,
  because some servers omit that line. The reader of the data decides whether it is truncated.

The cost is linear in the number of bytes. Each read is split once at its blank lines. The bytes of
an incomplete event are kept unchanged and joined when its end arrives.
"""

from __future__ import annotations

import re

import attrs

__all__ = ("Event", "EventTooLongError", "SSEDecoder", "event_of")

_BOM = b"\xef\xbb\xbf"
_SAYS_SOMETHING = re.compile(rb"^data:.*[^ \n]", re.MULTILINE)


class EventTooLongError(ValueError):
    """
    An event is longer than the decoder's limit.
    """


@attrs.define
class Event:
    """
    One event: the lines between two blank lines.
    """

    block: bytes
    """The lines, unchanged, with LF between them and none after the last."""
    data: bytes | None
    """The data; `None` if there is no `data` line, as in a block of comments."""
    type: bytes = b"message"
    whole: bool = True
    """Whether a blank line ended the event; `False` only for the last event of the input."""

    def lines(self) -> list[bytes]:
        """
        Return the lines, comments included, without their line ends.
        """
        return self.block.split(b"\n")


class SSEDecoder:
    """
    Decodes the events of a stream whose bytes arrive in any pieces.

    Args:
        longest_event: Limit for one event, in bytes.
    """

    __slots__ = (
        "_after_cr",
        "_dataless",
        "_ended",
        "_held",
        "_held_size",
        "_longest",
        "_started",
        "_tail_lf",
        "blocks",
    )

    def __init__(self, *, longest_event: int = 32 * 1024 * 1024) -> None:
        self._longest = longest_event
        self.blocks: list[bytes] = []
        """
        Waiting events, as they arrived. The next one is last, so that `pop` returns it. After more
        than one blank line, a block starts with LFs or is empty.
        """
        # Number of blocks, counted from the next one, that are known to have no data.
        self._dataless = 0
        # Pieces of the incomplete event. `_tail_lf` is a LF at the very end, which is the first
        # half of a blank line if the next byte is a LF, too.
        self._held: list[bytes] = []
        self._held_size = 0
        self._tail_lf = False
        self._after_cr = False
        self._started = False
        self._ended = False

    def receive_data(self, data: bytes) -> None:
        """
        Add the next bytes of the stream; `b""` is the end.

        Raises:
            EventTooLongError: An event exceeds the limit.
        """
        if not data:
            self._ended = True
            return
        if not self._started:
            data = self._without_bom(data)
        # Replace line ends by LF. A CR at the end of a read may be half of a CRLF. It ends the line
        # at once, and a LF that follows is skipped: waiting for it would delay a finished event
        # until the next one arrives.
        if self._after_cr:
            self._after_cr = False
            if data.startswith(b"\n"):
                data = data[1:]
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if data:
            self._receive_lines(data)

    def next_event(self) -> Event | None:
        """
        Return the next event; `None` if more data is needed, or if the input has ended.
        """
        while self.blocks:
            self._dataless = max(0, self._dataless - 1)
            if block := self.blocks.pop().lstrip(b"\n"):
                return event_of(block)
        if self._ended and self._held:
            block = b"".join(self._held)
            self._held.clear()
            return event_of(block, whole=False)
        return None

    def put_back(self, blocks: list[bytes], *, is_whole: bool) -> None:
        """
        Return *blocks*, the parts of the event that `next_event` returned last, as the next events.
        *is_whole* is whether a blank line ended the last one.
        """
        if not is_whole:
            self._held = [blocks.pop()]
        self.blocks += reversed(blocks)
        self._dataless = 0

    def first_block(self) -> bytes:
        """
        Return the block of the first waiting event that has data; `b""` if there is none.
        """
        waiting = [*self.blocks, b"".join(self._held)] if self._ended else self.blocks
        found = filter(
            _SAYS_SOMETHING.search, [*reversed(self.blocks), *waiting[len(self.blocks) :]]
        )
        return next(found, b"").lstrip(b"\n")

    def has_event(self) -> bool:
        """
        Return whether a waiting event has data that is not blank.
        """
        # Blocks that were searched before are at the end of the list. New ones are at the start.
        new = self.blocks[: len(self.blocks) - self._dataless]
        if any(map(_SAYS_SOMETHING.search, new)):
            return True
        self._dataless = len(self.blocks)
        return self._ended and _SAYS_SOMETHING.search(b"".join(self._held)) is not None

    def _without_bom(self, data: bytes) -> bytes:
        data = b"".join(self._held) + data
        self._held.clear()
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._held.append(data)
            return b""
        self._started = True
        return data.removeprefix(_BOM)

    def _receive_lines(self, data: bytes) -> None:
        if self._tail_lf:
            data = b"\n" + data
        blocks = data.split(b"\n\n")
        rest = blocks.pop()
        if blocks:
            held = self._held_size
            blocks[0] = b"".join([*self._held, blocks[0]])
            self._held.clear()
            self._held_size = 0
            blocks.reverse()
            self.blocks[:0] = blocks
            if len(data) + held > self._longest:
                # A blank line before an event is not part of it.
                self._check_length(max(len(block.lstrip(b"\n")) for block in blocks))
        self._tail_lf = rest.endswith(b"\n")
        if self._tail_lf:
            rest = rest[:-1]
        if not self._held:
            rest = rest.lstrip(b"\n")
            # A LF with nothing before it is a blank line, but there is no event that it ends.
            self._tail_lf = self._tail_lf and bool(rest)
        if rest:
            self._held.append(rest)
            self._held_size += len(rest)
            self._check_length(self._held_size)

    def _check_length(self, length: int) -> None:
        if length > self._longest:
            raise EventTooLongError(f"an event of the stream is longer than {self._longest} bytes")


def event_of(block: bytes, *, whole: bool = True) -> Event:
    """
    Return the event whose lines are *block*.
    """
    # Nearly every event is one line of data.
    if block.startswith(b"data: ") and b"\n" not in block:
        return Event(block, block[6:], b"message", whole)
    data: list[bytes] = []
    kind = b""
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value
    return Event(block, b"\n".join(data) if data else None, kind or b"message", whole)
