"""
The checkpoint: what is written is found again, what is torn is mended, and nobody writes twice.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import completion, error_body, until

import aistats
from aistats._exchange import Attempt, Exchange, Timing
from aistats._map import checkpoint as _checkpoint
from aistats._map.checkpoint import Checkpoint, request_hash
from aistats._views.completion import ChatCompletionsResponse
from aistats._wire.status_error import status_error_from

HEADER = b'{"aistats_checkpoint":1}\n'


def answer(text: str = "Hello") -> ChatCompletionsResponse:
    """
    An answer as a call returns it.
    """
    exchange = Exchange(
        status=200, attempts=(Attempt("answered", 200),), timing=Timing(first_byte=0.1, total=0.2)
    )
    return ChatCompletionsResponse(completion(text), exchange)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """
    Where a checkpoint can be, and none is yet.
    """
    return tmp_path / "run.jsonl"


def lines(path: Path) -> list[dict[str, object]]:
    """
    The records of the file, each of which is whole.
    """
    assert path.read_bytes().endswith(b"\n")
    return [json.loads(line) for line in path.read_bytes().splitlines()][1:]


def write(path: Path, *texts: str) -> None:
    """
    A checkpoint with an answer for each of *texts*, whose key and hash it is, was written.
    """
    checkpoint = Checkpoint(path)
    for index, text in enumerate(texts):
        checkpoint.add(text, text, index, answer(text))
    checkpoint.close()


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (b'{"a":1,"b":2}', b'{"b":2, "a":1}', True),
        (b'{"a":{"c":1,"d":2}}', b'{"a":{"d":2,"c":1}}', True),
        (b'{"a":[1,2]}', b'{"a":[2,1]}', False),
        (b'{"a":1}', b'{"a":2}', False),
        (b'{"a":1}', b'{"a":1.0}', False),
    ],
)
def test_hash(one: bytes, other: bytes, is_same: bool):
    """
    The order of keys makes no other request; anything else does.
    """
    assert (request_hash(one) == request_hash(other)) is is_same


def test_an_answer_comes_back(path: Path):
    """
    What is noted is found after the file is opened again, with its id, its tries and its times.
    """
    checkpoint = Checkpoint(path)
    given = answer()
    checkpoint.add("k", "h", 7, given, given.attempts, given.timing)
    checkpoint.close()
    checkpoint = Checkpoint(path)
    found = checkpoint.find("k", "h")
    checkpoint.close()

    assert found == given
    assert found is not None
    assert found.text == "Hello"
    assert found.request_id == given.request_id
    assert (found.attempts, found.timing) == (given.attempts, given.timing)


def test_a_header_s_request_id_comes_back(path: Path):
    """
    An id that only the answer's headers had is found again, too.
    """
    wire = completion()
    del wire["id"]
    exchange = Exchange(status=200, raw_headers=((b"cf-ray", b"8f1-AMS"),))
    checkpoint = Checkpoint(path)
    checkpoint.add("k", "h", 0, ChatCompletionsResponse(wire, exchange))
    found = checkpoint.find("k", "h")
    checkpoint.close()

    assert found is not None
    assert found.request_id == "8f1-AMS"


def test_another_request_under_the_same_key(path: Path):
    """
    A caller's key finds nothing for another request than the one it was noted with.
    """
    checkpoint = Checkpoint(path)
    checkpoint.add("row 1", "hash of the old prompt", 0, answer("old"))

    assert checkpoint.find("row 1", "hash of the new prompt") is None
    checkpoint.add("row 1", "hash of the new prompt", 0, answer("new"))
    found = [checkpoint.find("row 1", f"hash of the {which} prompt") for which in ("old", "new")]
    checkpoint.close()
    assert [each and each.text for each in found] == ["old", "new"]


def test_a_later_record_wins(path: Path):
    """
    Of two answers to the same request the later one is found.
    """
    checkpoint = Checkpoint(path)
    for text in ("first", "second"):
        checkpoint.add("k", "k", 0, answer(text))
    checkpoint.close()
    checkpoint = Checkpoint(path)
    found = checkpoint.find("k", "k")
    checkpoint.close()

    assert found is not None
    assert (found.text, len(checkpoint)) == ("second", 1)


def test_failures_are_noted_and_not_found(path: Path):
    """
    A failure stands in the file, with what the gateway said, and its request counts as not done.
    """
    exchange = Exchange(status=502, attempts=(Attempt("answered", 502, "status 502"),))
    failure = status_error_from(json.dumps(error_body()).encode(), exchange)
    checkpoint = Checkpoint(path)
    checkpoint.add("k", "k", 3, failure, failure.attempts)
    checkpoint.add("l", "l", 4, KeyError("a secret of the row"))

    assert checkpoint.find("k", "k") is None
    checkpoint.close()
    first, second = lines(path)
    assert first["error"] == {
        "type": "InternalServerError",
        "message": "It went wrong upstream.",
        "status": 502,
        "code": "upstream_error",
    }
    assert first["request_id"] == "G-01K3TESTERROR000000000000"
    assert (first["index"], second["error"]) == (3, {"type": "KeyError"})


def test_every_torn_end_is_mended(path: Path):
    """
    Wherever the file was cut, all whole records are there, the rest is cut off, and it goes on.
    """
    write(path, "one", "two")
    whole = path.read_bytes()
    ends = [place for place in range(len(whole)) if whole[:place].endswith(b"\n")]
    for size in (*range(len(HEADER) + 1), *range(len(HEADER), len(whole), 13), len(whole) - 1):
        path.write_bytes(whole[:size])
        checkpoint = Checkpoint(path)
        assert len(checkpoint) == sum(end <= size for end in ends[1:]), size
        checkpoint.add("three", "three", 2, answer("three"))
        checkpoint.close()
        assert lines(path)[-1]["key"] == "three"
        checkpoint = Checkpoint(path)
        found = checkpoint.find("three", "three")
        checkpoint.close()
        assert found is not None


def test_a_line_that_is_no_record(path: Path, caplog: pytest.LogCaptureFixture):
    """
    A line that makes no sense is passed over, with a warning, and the others are found.
    """
    write(path, "one")
    with path.open("ab") as file:
        file.write(b"\0\0\0\n[1]\n{}\n" + b'{"key": "x", "response": 1}\n')
    write(path, "two")
    with caplog.at_level(logging.WARNING):
        checkpoint = Checkpoint(path)
    checkpoint.close()

    assert len(checkpoint) == 2
    assert "is no record" in caplog.text


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b'{"aistats_checkpoint":2}\n', b"text"])
def test_another_file_is_left_alone(path: Path, content: bytes):
    """
    A file that is no checkpoint of this version is refused, and not a byte of it is changed.
    """
    path.write_bytes(content)
    with pytest.raises(aistats.ConfigurationError, match=r"run\.jsonl.* is no checkpoint"):
        Checkpoint(path)

    assert path.read_bytes() == content


def test_a_second_writer(path: Path):
    """
    While one has the file open a second one is refused, and can have it afterwards.
    """
    first = Checkpoint(path)
    with pytest.raises(aistats.ConfigurationError, match=r"run\.jsonl.*another run"):
        Checkpoint(path)
    first.close()

    Checkpoint(path).close()


def test_a_writer_that_was_killed(path: Path):
    """
    Another process that has the file open keeps others out, and no longer once it was killed.
    """
    code = f"""
import sys, time
from aistats._map.checkpoint import Checkpoint
checkpoint = Checkpoint({os.fspath(path)!r})
print("open", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(aistats.ConfigurationError, match="another run"):
            Checkpoint(path)
        process.kill()
        until(lambda: process.poll() is not None)

    Checkpoint(path).close()


def test_a_place_that_can_t_be_written(tmp_path: Path):
    """
    A path that leads nowhere is a fault that names it.
    """
    with pytest.raises(aistats.ConfigurationError, match=r"nowhere.*can't be opened"):
        Checkpoint(tmp_path / "nowhere" / "run.jsonl")


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    Where a record can't be written whole, its part is taken back, and the error names the file.
    """
    checkpoint = Checkpoint(path)
    real = os.write

    def write_a_part(file: int, data: bytes) -> int:
        if len(data) < 50:
            raise OSError(28, "No space left on device")
        return real(file, data[:-40])

    with monkeypatch.context() as patch:
        patch.setattr(_checkpoint.os, "write", write_a_part)
        with pytest.raises(aistats.ConfigurationError, match=r"run\.jsonl.*No space left"):
            checkpoint.add("k", "k", 0, answer())

    assert path.read_bytes() == HEADER
    assert checkpoint.find("k", "k") is None
    checkpoint.add("k", "k", 0, answer())
    assert checkpoint.find("k", "k") is not None
    checkpoint.close()


def test_after_the_end(path: Path):
    """
    A closed checkpoint notes and finds nothing any more, and can be closed again.
    """
    checkpoint = Checkpoint(path)
    checkpoint.close()
    checkpoint.close()
    checkpoint.add("k", "k", 0, answer())

    assert checkpoint.find("k", "k") is None
    assert path.read_bytes() == HEADER


def test_what_a_later_version_notes(path: Path):
    """
    Keys that this version does not know are passed over.
    """
    record = {
        "key": "k",
        "index": 0,
        "response": completion("Hello"),
        "attempts": [{"outcome": "answered", "region": "eu"}],
        "timing": {"total": 1.5, "dns": 0.1},
        "colour": "blue",
    }
    path.write_bytes(HEADER + json.dumps(record).encode() + b"\n")
    checkpoint = Checkpoint(path)
    found = checkpoint.find("k", "k")
    checkpoint.close()

    assert found is not None
    assert (found.text, found.attempts, found.timing.total) == (
        "Hello",
        (Attempt("answered"),),
        1.5,
    )


# -- what others make of the file ---------------------------------------------------------------


def test_saved_by_an_editor(path: Path):
    """
    A byte order mark, and a CR before each LF, change nothing.
    """
    write(path, "one", "two")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    checkpoint = Checkpoint(path)
    checkpoint.add("three", "three", 2, answer("three"))

    found = [checkpoint.find(key, key) for key in ("one", "two", "three")]
    checkpoint.close()

    assert [response and response.text for response in found] == ["one", "two", "three"]


@pytest.mark.parametrize("change", [b"", HEADER, HEADER + b"x" * 5000], ids=["", "head", "other"])
def test_changed_while_open(path: Path, change: bytes):
    """
    An answer that somebody took out of the open file is not found; what is added then is.
    """
    write(path, "one")
    checkpoint = Checkpoint(path)
    path.write_bytes(change)

    assert checkpoint.find("one", "one") is None
    checkpoint.add("two", "two", 1, answer("two"))
    assert checkpoint.find("two", "two") is not None
    checkpoint.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock()")
@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EBADF])
def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    """
    Where files can't be locked, a checkpoint works without a lock.
    """
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    write(path, "one")

    assert [line["key"] for line in lines(path)] == ["one"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_for_the_header(path: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    """
    A new file that can't be written is a fault that names it.
    """

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_checkpoint.os, "write", refuse)
    with pytest.raises(aistats.ConfigurationError, match=r"run\.jsonl.*can't be used"):
        Checkpoint(path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/null and named pipes")
def test_no_regular_file(tmp_path: Path):
    """
    A device is no checkpoint, since nothing can be read back from it.
    """
    with pytest.raises(aistats.ConfigurationError, match="not a regular file"):
        Checkpoint("/dev/null")


# -- whatever a line contains -------------------------------------------------------------------

RESPONSES: list[Any] = [
    None,
    *({}, [], "text", 5, {"choices": 5}, {"choices": []}, {"choices": [5]}, {"choices": {}}),
    {"error": {"message": "no"}},
]
ATTEMPTS: list[Any] = [
    *([{}], [5], {}, "x", None, [{"outcome": "lost"}], [{"outcome": ["answered"]}]),
    *([{"outcome": "answered", "status": "200", "wait": "soon", "reason": 5}],),
    *([{"outcome": "answered", "wait": -1}], [{"outcome": "answered", "wait": None}]),
]


@pytest.mark.parametrize("response", RESPONSES, ids=repr)
def test_records_without_a_usable_answer(path: Path, response: Any):
    """
    A record whose response has no choice is no answer.
    """
    path.write_bytes(HEADER + json.dumps({"key": "k", "response": response}).encode() + b"\n")
    checkpoint = Checkpoint(path)

    assert checkpoint.find("k", "k") is None
    assert len(checkpoint) == 0
    checkpoint.close()


@pytest.mark.parametrize("attempts", ATTEMPTS, ids=repr)
@pytest.mark.parametrize("timing", [None, 5, {"total": "long", "queued": -1, "new": []}])
def test_records_with_odd_details(path: Path, attempts: Any, timing: Any):
    """
    An answer is found whatever else its record has; what can't be read of that is left out.
    """
    record = {"key": "k", "response": completion("Hi"), "attempts": attempts, "timing": timing}
    path.write_bytes(HEADER + json.dumps(record).encode() + b"\n")
    checkpoint = Checkpoint(path)
    found = checkpoint.find("k", "k")
    checkpoint.close()

    assert found is not None
    assert found.text == "Hi"
    assert all(attempt == Attempt("answered") for attempt in found.attempts)
    assert found.timing == Timing()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
records = st.fixed_dictionaries(
    {},
    optional={
        "key": st.just("k") | values,
        "hash": st.just("k") | values,
        "response": st.just(completion("Hi")) | values,
        "attempts": st.lists(st.fixed_dictionaries({}, optional={"outcome": values})) | values,
        "timing": st.fixed_dictionaries({}, optional={"total": values}) | values,
        "request_id": values,
    },
)


@given(st.lists(records.map(lambda record: json.dumps(record).encode()) | st.binary(), max_size=4))
def test_any_line(tmp_path_factory: pytest.TempPathFactory, damaged: list[bytes]):
    """
    Whatever lines there are, answers of others are found, and new ones can be added.
    """
    path = tmp_path_factory.mktemp("any") / "run.jsonl"
    write(path, "good")
    with path.open("ab") as file:
        file.writelines(line + b"\n" for line in damaged)
    checkpoint = Checkpoint(path)
    found = checkpoint.find("k", "k")
    assert found is None or isinstance(found.text, str)
    checkpoint.add("new", "new", 1, answer("new"))

    assert [checkpoint.find(key, key) is not None for key in ("good", "new")] == [True, True]
    checkpoint.close()
