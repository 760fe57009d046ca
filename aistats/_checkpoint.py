"""
The file in which a run notes what is done, so that it can be taken up again.

It has one JSON object a line: first a header, then a record for each answer or failure. Each line
is written whole, by one call of the operating system on a file that is only ever appended to. So a
process that is killed loses no line that was written, and leaves at most one that is torn, the
last, which is cut off when the file is opened again. Nothing is synced to the disk line by line: a
machine that loses power may lose the last seconds, and the records that are whole are good.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import attrs
import orjson

from ._errors import AIStatsError, APIStatusError, ConfigurationError
from ._exchange import Attempt, Exchange, Timing
from ._models import ChatCompletionsResponse
from ._wire import Wire, as_object, as_objects, is_object, parse_json

__all__ = ("Checkpoint", "canonical", "hash_of", "request_hash")

_VERSION = 1
_HEADER = b'{"aistats_checkpoint":%d}\n' % _VERSION

_log = logging.getLogger("aistats")


def request_hash(body: bytes) -> str:
    """
    The same for each request that sends the same JSON, in whatever order its keys are.
    """
    return hash_of(canonical(body))


def canonical(body: bytes) -> bytes:
    """
    The JSON *body* with its keys in order.
    """
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)


def hash_of(text: bytes) -> str:
    """
    The hash of a request whose canonical JSON is *text*.
    """
    return hashlib.sha256(text).hexdigest()


class Checkpoint:
    """
    The answers that are noted in the file at *path*, which is made if it is not there.

    Only where an answer stands is kept in memory, about 200 bytes for each; the answer is read when
    it is asked for. It can be used from any thread.

    Args:
        path: Where it is.
        finds_own: Whether `find` knows what is added, too, and not only what was there before.
        is_wanted: Asked before each line that is read; once it says no, the rest is not read, and
            the file is only to be closed.

    Raises:
        ConfigurationError: The file can't be opened, somebody else writes to it, or it is no
            checkpoint.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        finds_own: bool = True,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self.path = os.fspath(path)
        self._finds_own = finds_own
        self._guard = threading.Lock()
        self._places: dict[bytes, tuple[int, int]] = {}
        try:
            # Unbuffered, so that each write is one call of the operating system.
            self._file = open(self.path, "a+b", buffering=0)  # noqa: PTH123, SIM115  # kept open
        except OSError as error:
            raise self._error(f"can't be opened: {error.strerror}") from None
        try:
            self._lock()
            self._size = self._read(is_wanted)
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._places)

    def find(self, key: str, hashed: str) -> ChatCompletionsResponse | None:
        """
        The answer that is noted for the request with the hash *hashed* under *key*, or `None`.
        """
        place = self._places.get(_place_of(key, hashed))
        if place is None:
            return None
        with self._guard:
            if self._file.closed:
                return None
            self._file.seek(place[0])
            line = self._file.read(place[1])
        record = parse_json(line)
        return ChatCompletionsResponse(record["response"], _exchange_of(record))

    def add(
        self,
        key: str,
        hashed: str,
        index: int,
        result: ChatCompletionsResponse | Exception,
        attempts: Iterable[Attempt] = (),
        timing: Timing | None = None,
    ) -> None:
        """
        Note an answer, or a failure for who reads the file: a failure is tried again when the file
        is used again. Once this returns, the end of the process can't lose it.

        Raises:
            ConfigurationError: The file can't be written.
        """
        record: Wire = {"key": key} if hashed == key else {"key": key, "hash": hashed}
        record["index"] = index
        if isinstance(result, ChatCompletionsResponse):
            record["response"] = result.to_dict()
        else:
            record["error"] = _told(result)
        if isinstance(result, ChatCompletionsResponse | AIStatsError):
            record["request_id"] = result.request_id
        record["attempts"] = [attrs.asdict(attempt) for attempt in attempts]
        record["timing"] = attrs.asdict(timing or Timing())
        try:
            line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        except orjson.JSONEncodeError:
            _log.warning("an answer is nested too deeply to be noted in %s", self.path)
            return
        place = self._append(line)
        if place is not None and "response" in record and self._finds_own:
            self._places[_place_of(key, hashed)] = place

    def close(self) -> None:
        """
        Close the file. A second time does nothing, and what is added after it is not noted.
        """
        with self._guard:
            if not self._file.closed:
                with contextlib.suppress(OSError):  # a file that can't be synced: a pipe
                    os.fsync(self._file.fileno())
                self._file.close()

    def _append(self, line: bytes) -> tuple[int, int] | None:
        with self._guard:
            if self._file.closed:
                return None
            try:
                written = 0
                while written < len(line):  # a disk that is nearly full takes a part
                    written += os.write(self._file.fileno(), line[written:])
            except OSError as error:
                with contextlib.suppress(OSError):
                    self._file.truncate(self._size)
                raise self._error(f"can't be written: {error.strerror}") from None
            place = self._size, len(line)
            self._size += len(line)
            return place

    def _read(self, is_wanted: Callable[[], bool]) -> int:
        # Find the records, and cut off what a killed process left of its last line.
        self._file.seek(0)
        first = self._file.read(len(_HEADER))
        if not first.endswith(b"\n") and _HEADER.startswith(first):
            self._file.truncate(0)
            os.write(self._file.fileno(), _HEADER)
            return len(_HEADER)
        if first != _HEADER:
            raise self._error(
                "is no checkpoint of this version of the package, and was left as it is; "
                "name another file"
            )
        at = len(_HEADER)
        for line in _lines(self.path, at):
            if not is_wanted():
                break
            if not line.endswith(b"\n"):
                _log.warning("the last line of %s was torn, and is cut off", self.path)
                self._file.truncate(at)
                break
            self._note(line, at)
            at += len(line)
        return at

    def _note(self, line: bytes, at: int) -> None:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            record = None
        if not is_object(record) or not isinstance(key := record.get("key"), str):
            _log.warning("a line of %s is no record, and is passed over", self.path)
        elif is_object(record.get("response")):
            hashed = record.get("hash", key)
            self._places[_place_of(key, str(hashed))] = at, len(line)

    def _lock(self) -> None:
        try:
            if sys.platform == "win32":
                import msvcrt

                # A place far behind the end, since what is locked can't be read by others.
                self._file.seek(1 << 60)
                msvcrt.locking(self._file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise self._error(
                "is being written by another run, here or in another process; "
                "wait for its end, or name another file"
            ) from None

    def _error(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"The checkpoint {self.path!r} {what}.")


def _lines(path: str, start: int) -> Iterator[bytes]:
    # Through a second, buffered handle: the one for writing has no buffer.
    file: BinaryIO
    with open(path, "rb") as file:  # noqa: PTH123  # a path of bytes, too
        file.seek(start)
        yield from file


def _told(error: Exception) -> Wire:
    told: Wire = {"type": type(error).__name__}
    if isinstance(error, AIStatsError):  # what others say may hold anything
        told |= {"message": error.message, "status": error.status}
    if isinstance(error, APIStatusError):
        told["code"] = error.code
    return told


def _place_of(key: str, hashed: str) -> bytes:
    # Shorter than the two, and never the same for others: a caller's key with another request than
    # the one it was noted with finds nothing.
    return hashlib.sha256(f"{hashed} {key}".encode("utf-8", "surrogatepass")).digest()


def _exchange_of(record: Mapping[str, Any]) -> Exchange:
    request_id = record.get("request_id")
    headers = ((b"x-request-id", request_id.encode()),) if isinstance(request_id, str) else ()
    return Exchange(
        status=200,
        raw_headers=headers,
        attempts=tuple(
            Attempt(**_only(Attempt, each)) for each in as_objects(record.get("attempts"))
        ),
        timing=Timing(**_only(Timing, as_object(record.get("timing")))),
    )


def _only(kind: type[attrs.AttrsInstance], wire: Wire) -> dict[str, Any]:
    # What a later version notes besides is passed over.
    return {field.name: wire[field.name] for field in attrs.fields(kind) if field.name in wire}
