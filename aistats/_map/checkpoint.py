"""
The file that records what a run has done, so that a later run can resume from it.

Each line is a JSON object: first a header, then a record for each answer or failure. The file is
only appended to, and each line is written with one system call. So a process that is killed loses
no written line and leaves at most one incomplete line at the end, which is removed when the file is
opened again. Lines are not synced to the disk one by one: a power failure may lose the last
seconds, but never damages complete records.
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

# Errors of flock(2) on file systems without locks. There, two runs can use the same file.
_NO_LOCKS = {errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EBADF, errno.EINVAL}

_log = logging.getLogger("aistats")


def request_hash(body: bytes) -> str:
    """
    Return a hash of a request's JSON that does not depend on the order of keys.
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
    The answers in the checkpoint file at *path*, which is created if it does not exist.

    Memory holds only the position of each answer, about 200 bytes. The answer is read from the file
    when a caller asks for it. All methods can be called from any thread.

    Args:
        path: Path of the file.
        finds_own: Whether `find` also returns answers that were added after opening.
        is_wanted: Called before each line is read. When it returns `False`, reading stops, and the
            file can only be closed.

    Raises:
        ConfigurationError: The file can't be opened, another process writes to it, or it is not a
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
        Return the answer to a request under *key*; `None` if the file has no usable answer.
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
        Return the answer to a request under any key; `None` if the file has none.
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
        Append an answer or a failure. Failures are only for people who read the file: the next run
        asks again. After this returns, the record survives the end of the process.

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
        Close the file. A second call does nothing. Records that are added later are dropped.
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
                # Not cached: another program may have changed the file.
                end = self._file.seek(0, os.SEEK_END)
                self._write(line, end)
            except OSError as error:
                raise self._error(f"can't be written: {error.strerror}") from None
            return end, len(line)

    def _write(self, line: bytes, end: int) -> None:
        try:
            written = 0
            while written < len(line):  # a disk that is nearly full writes a part
                written += os.write(self._file.fileno(), line[written:])
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise

    def _read(self, is_wanted: Callable[[], bool]) -> None:
        # Find the answers, and remove the incomplete last line of a killed process.
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
            # For rows with the same request under other keys.
            self._places.setdefault(_place_of(request_hash, request_hash), place)

    def _lock(self) -> None:
        try:
            if sys.platform == "win32":
                import msvcrt

                # A position far behind the end, because others can't read locked bytes.
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
    # Reads through a second, buffered handle, because the one for writing is unbuffered.
    file: BinaryIO
    with open(path, "rb") as file:  # noqa: PTH123  # a path of bytes, too
        file.seek(start)
        yield from file


def _place_of(key: str, request_hash: str) -> bytes:
    # A short hash of both, so that a caller's key finds an answer only with the request that the
    # answer was recorded for.
    return hashlib.sha256(f"{request_hash} {key}".encode("utf-8", "surrogatepass")).digest()
