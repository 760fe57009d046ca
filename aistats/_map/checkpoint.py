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
import errno
import hashlib
import logging
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import orjson

from .._errors import ConfigurationError
from .._exchange import Attempt, Timing
from .._views.completion import ChatCompletionsResponse
from .record import answer_from, name_of, record_of

__all__ = ("Checkpoint", "canonical", "hash_of", "request_hash")

_VERSION = 1
_HEADER = b'{"aistats_checkpoint":%d}\n' % _VERSION
_BOM = b"\xef\xbb\xbf"

# What flock(2) says where the file system knows no locks. Then nothing keeps a second run away.
_NO_LOCKS = {errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EBADF, errno.EINVAL}

_log = logging.getLogger("aistats")


def request_hash(body: bytes) -> str:
    """
    Return a hash that is the same for all requests with the same JSON, whatever the order of keys.
    """
    return hash_of(canonical(body))


def canonical(body: bytes) -> bytes:
    """
    Return the JSON *body* with its keys in order.
    """
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)


def hash_of(text: bytes) -> str:
    """
    Return the hash of a request whose canonical JSON is *text*.
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
            if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                raise self._error("is not a regular file; name one that can be read again")
            self._lock()
            self._read(is_wanted)
        except OSError as error:
            self._file.close()
            raise self._error(f"can't be used: {error.strerror}") from None
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._places)

    def find(self, key: str, request_hash: str) -> ChatCompletionsResponse | None:
        """
        Return the answer that the file has to a request under *key*; `None` if it has none, or no
        usable one any more.
        """
        return self._at(self._places.get(_place_of(key, request_hash)), key, request_hash)

    def _at(
        self, place: tuple[int, int] | None, key: str | None, request_hash: str
    ) -> ChatCompletionsResponse | None:
        if place is None:
            return None
        with self._guard:
            if self._file.closed:
                return None
            try:
                self._file.seek(place[0])
                line = self._file.read(place[1])
            except OSError as error:
                _log.warning("%s can't be read: %s", self.path, error.strerror)
                return None
        return answer_from(line, key, request_hash)

    def find_same(self, request_hash: str) -> ChatCompletionsResponse | None:
        """
        Return the answer that the file has to a request, whatever its key; `None` if it has none.
        """
        return self._at(self._places.get(_place_of(request_hash, request_hash)), None, request_hash)

    def add(
        self,
        key: str,
        request_hash: str,
        index: int,
        result: ChatCompletionsResponse | Exception,
        attempts: Iterable[Attempt] = (),
        timing: Timing | None = None,
    ) -> None:
        """
        Append an answer, or a failure for people who read the file: a failure is tried again when
        the file is used again. Once this returns, the end of the process can't lose it.

        Raises:
            ConfigurationError: The file can't be written.
        """
        try:
            line = record_of(key, request_hash, index, result, attempts, timing)
        except ValueError:
            _log.warning("an answer is nested too deeply to be written to %s", self.path)
            return
        place = self._append(line)
        if place is not None and self._finds_own and isinstance(result, ChatCompletionsResponse):
            self._remember(key, request_hash, place)

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
                # Not remembered: somebody else may have changed the file.
                end = self._file.seek(0, os.SEEK_END)
                self._write(line, end)
            except OSError as error:
                raise self._error(f"can't be written: {error.strerror}") from None
            return end, len(line)

    def _write(self, line: bytes, end: int) -> None:
        try:
            written = 0
            while written < len(line):  # a disk that is nearly full takes a part
                written += os.write(self._file.fileno(), line[written:])
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise

    def _read(self, is_wanted: Callable[[], bool]) -> None:
        # Find the answers, and cut off what a killed process left of its last line.
        self._file.seek(0)
        start = self._file.read(len(_BOM) + len(_HEADER) + 1)
        if not start.endswith(b"\n") and _HEADER.startswith(start):
            self._file.truncate(0)
            self._write(_HEADER, 0)
            return
        # An editor may have put a byte order mark before the header, and CR before each LF.
        first = start.partition(b"\n")[0]
        if first.removeprefix(_BOM).rstrip(b"\r") != _HEADER.rstrip(b"\n"):
            raise self._error(
                "is no checkpoint of this version of the package, and was left as it is; "
                "name another file"
            )
        at = len(first) + 1
        for line in _lines(self.path, at):
            if not is_wanted():
                break
            if not line.endswith(b"\n"):
                _log.warning("the last line of %s was torn, and is cut off", self.path)
                self._file.truncate(at)
                break
            self._note(line, at)
            at += len(line)

    def _note(self, line: bytes, at: int) -> None:
        try:
            name = name_of(line)
        except ValueError:
            _log.warning("a line of %s is no record, and is passed over", self.path)
        else:
            if name is not None:
                self._remember(*name, (at, len(line)))

    def _remember(self, key: str, request_hash: str, place: tuple[int, int]) -> None:
        self._places[_place_of(key, request_hash)] = place
        if key != request_hash and self._finds_own:
            # For rows with the same request and other keys.
            self._places.setdefault(_place_of(request_hash, request_hash), place)

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
        except OSError as error:
            if error.errno in _NO_LOCKS:
                _log.info("%s can't be locked: %s", self.path, error.strerror)
                return
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


def _place_of(key: str, request_hash: str) -> bytes:
    # Shorter than the two, and never the same for others: a caller's key with another request than
    # the one it was noted with finds nothing.
    return hashlib.sha256(f"{request_hash} {key}".encode("utf-8", "surrogatepass")).digest()
