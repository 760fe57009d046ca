"""
Every shape of stream comes out as the answer in it, however it is cut into reads, and nothing cut
off ever looks finished.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import groupby, pairwise
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from reading import Reading, read
from shapes import (
    CITATIONS,
    CITY,
    DONE,
    FAILURES,
    HELLO,
    HI_TOKENS,
    IMAGES,
    META,
    SHAPES,
    STREAMS,
    THINK,
    Answer,
    Call,
    Frame,
    Shape,
    block,
    body_of,
    calling,
    choice,
    chunk,
    compact,
    fragment,
    frame,
    lines,
    message,
    opened,
    raw,
    seed_chunk,
    seed_tokens,
    snapshot,
    tokens,
    whole_call,
    wire,
)

from aistats import (
    ChatCompletionChunk,
    ChatCompletionsResponse,
    StreamError,
    StreamErrorEvent,
    StreamInterruptedError,
)
from aistats._views.json import WireObject
from aistats._views.message import Message, ToolCall
from aistats._wire.decoder import NEED_DATA, StreamDecoder

quick = settings(
    deadline=None,
    max_examples=100,
    # The fixtures that every test of the suite has do nothing to a decoder.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read_frames(*frames: Frame) -> Reading:
    """
    The stream of these frames.
    """
    return read(body_of(*frames))


def assemble(*frames: Frame) -> ChatCompletionsResponse:
    """
    The response of a stream that ends properly.
    """
    return read_frames(*frames).whole


def calls(them: Iterable[ToolCall]) -> tuple[Call, ...]:
    """
    Id, name and arguments of each call.
    """
    return tuple((call.id or "", call.name or "", call.arguments) for call in them)


def answer_of(response: ChatCompletionsResponse) -> Answer:
    """
    What a caller reads in *response*.
    """
    return Answer(
        text=response.text,
        reasoning=response.reasoning or "",
        tool_calls=calls(response.tool_calls),
        server_tool_calls=calls(response.server_tool_calls),
        refusal=response.message.refusal,
        finish_reason=response.finish_reason,
    )


def usage_of(response: ChatCompletionsResponse) -> tuple[int | None, int | None, int | None] | None:
    """
    Prompt, completion and total tokens.
    """
    usage = response.usage
    if usage is None:
        return None
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens


def json_frames(frames: Iterable[Frame]) -> list[dict[str, Any]]:
    """
    The frames that are chunks: all but `[DONE]` and errors.
    """
    return [each for each in frames if isinstance(each, dict) and not is_error(each)]


def shapes(them: Iterable[Shape]) -> pytest.MarkDecorator:
    """
    The test is run with each of these shapes.
    """
    return pytest.mark.parametrize("shape", [pytest.param(each, id=each.name) for each in them])


# -- an oracle: what frames say, by the gateway's rules and in the fewest words ------------------


def is_error(frame: Frame) -> bool:
    """
    The frame reports an error.
    """
    if isinstance(frame, str):
        return frame.startswith("event: error")
    return (
        frame.get("error") is not None
        or "error" in (frame.get("object"), frame.get("type"))
        or any(choice.get("finish_reason") == "error" for choice in choices_of(frame))
    )


def choices_of(frame: dict[str, Any]) -> list[dict[str, Any]]:
    """
    The frame's choices; those that Anthropic's own frames speak of have number 0.
    """
    if str(frame.get("type")).startswith("content_block"):
        return [{"delta": {"content": frame.get("delta", {}).get("text", "")}}]
    if frame.get("type") == "message_delta":
        return [{"finish_reason": frame["delta"]["stop_reason"]}]
    return frame.get("choices") or []


def is_complete(frames: list[Frame]) -> bool:
    """
    The frames, none of which is an error, are a whole answer.
    """
    chunks = json_frames(frames)
    if chunks and (
        DONE in frames or any(each.get("object") == "chat.completion" for each in chunks)
    ):
        return True
    entries = [choice for each in chunks for choice in choices_of(each)]
    seen = {choice.get("index", 0) for choice in entries}
    finished = {choice.get("index", 0) for choice in entries if choice.get("finish_reason")}
    return bool(seen) and seen == finished


def text_of(frames: list[Frame]) -> str:
    """
    The text that the frames carry, for the first choice that is not thought.
    """
    texts: dict[int, str] = {}
    messages: dict[int, str] = {}
    for each in json_frames(frames):
        for entry in choices_of(each):
            index = entry.get("index", 0)
            if entry.get("reasoning"):
                continue
            if each.get("object") == "chat.completion":
                return said(entry["message"])
            texts[index] = texts.get(index, "") + said(entry.get("delta"))
            messages[index] = said(entry.get("message"))
    shown = min(texts, default=0)
    return texts.get(shown) or messages.get(shown, "")


def said(message: dict[str, Any] | None) -> str:
    """
    The text in a message or delta.
    """
    content = (message or {}).get("content") or ""
    return content if isinstance(content, str) else "".join(p.get("text", "") for p in content)


def test_the_oracle_agrees_with_what_was_written_by_hand() -> None:
    """
    The oracle calls each whole stream complete, and finds the text that stands beside it.
    """
    for shape in STREAMS:
        assert (shape.name, is_complete(list(shape.frames))) == (shape.name, True)
        assert (shape.name, text_of(list(shape.frames))) == (shape.name, shape.answer.text)


# -- whole streams ------------------------------------------------------------------------------


@shapes(STREAMS)
def test_a_stream_comes_out_as_the_answer_in_it(shape: Shape) -> None:
    """
    The response has the answer, its usage and all of its choices, and the chunks have its text.
    """
    reading = read(shape.body())
    response = reading.response

    assert reading.error is None
    assert response is not None
    assert answer_of(response) == shape.answer
    assert reading.text == shape.delivered
    assert usage_of(response) == shape.usage
    if shape.texts is not None:
        assert tuple(choice.message.content for choice in response.choices) == shape.texts


@shapes(STREAMS)
def test_the_response_of_a_stream_reads_like_a_whole_answer(shape: Shape) -> None:
    """
    The response's JSON is a whole answer's, and read as one it says the same.
    """
    response = read(shape.body()).response
    assert response is not None
    answer = response.to_dict()

    assert answer["object"] == "chat.completion"
    assert answer["id"] == "G-1"
    assert all("delta" not in choice for choice in answer["choices"])
    assert answer_of(ChatCompletionsResponse.from_dict(json.loads(compact(answer)))) == shape.answer


@shapes(STREAMS)
def test_a_chunk_keeps_its_frame(shape: Shape) -> None:
    """
    Each chunk's JSON is that of its frame, and its string is the frame's line.
    """
    frames = json_frames(shape.frames)
    chunks = read(shape.body()).chunks

    assert [each.to_dict() for each in chunks] == frames
    assert [str(each) for each in chunks] == [lines(each)[0] for each in frames]


@shapes(FAILURES)
def test_a_failed_stream_raises(shape: Shape) -> None:
    """
    A stream that was cut off or reports an error raises, and the error has what had arrived.
    """
    reading = read(shape.body())
    error, partial, failure = reading.error, reading.response, shape.failure

    assert failure is not None
    if failure.reported:
        assert type(error) is StreamErrorEvent
        assert failure.message in (None, error.message)
        assert failure.code in (None, error.code)
    else:
        assert type(error) is StreamInterruptedError
    if partial is None:
        # Only where there is nothing to have.
        assert json_frames(shape.frames) == []
        assert shape.answer == Answer(finish_reason=None)
    else:
        assert answer_of(partial) == shape.answer
        assert usage_of(partial) == shape.usage
    assert reading.text == shape.delivered
    if partial is not None and shape.texts is not None:
        assert tuple(choice.message.content for choice in partial.choices) == shape.texts


def same_answers() -> list[Any]:
    """
    Lists of shapes that say the same thing.
    """
    ordered = sorted(STREAMS, key=lambda shape: repr(shape.answer))
    groups = [list(group) for _, group in groupby(ordered, key=lambda shape: shape.answer)]
    return [
        pytest.param(same, id=f"{same[0].name} and {len(same) - 1} more")
        for same in groups
        if len(same) > 1
    ]


@pytest.mark.parametrize("same", same_answers())
def test_streams_that_say_the_same_give_the_same(same: list[Shape]) -> None:
    """
    Text, thought, calls and finish_reason do not depend on the shape in which they came.
    """
    responses = [read(shape.body()).response for shape in same]

    assert len({answer_of(response) for response in responses if response is not None}) == 1
    assert None not in responses


# -- cut into reads -----------------------------------------------------------------------------


def in_bytes(body: bytes) -> list[bytes]:
    """
    The reads of a stream that arrives one byte at a time.
    """
    return [body[at : at + 1] for at in range(len(body))]


def meaning_of(reading: Reading) -> tuple[object, ...]:
    """
    What a caller can see in *reading* but for its lines as they came.
    """
    response = reading.response
    return (
        [(each.text, each.to_dict()) for each in reading.chunks],
        response and response.to_dict(),
        type(reading.error),
        str(reading.error),
    )


def seen_in(reading: Reading) -> tuple[object, ...]:
    """
    All that a caller can see in *reading*.
    """
    return (*meaning_of(reading), [str(each) for each in reading.chunks])


def test_byte_by_byte() -> None:
    """
    A stream that arrives one byte at a time gives the same chunks, response and error.
    """
    for shape in SHAPES.values():
        body = shape.body()

        assert (shape.name, seen_in(read(*in_bytes(body)))) == (shape.name, seen_in(read(body)))


@given(data=st.data(), shape=st.sampled_from(tuple(SHAPES.values())))
@quick
def test_any_cut_into_reads(data: st.DataObject, shape: Shape) -> None:
    """
    However a stream is cut into reads, it gives the same chunks, response and error.
    """
    body = shape.body()
    places = data.draw(st.sets(st.integers(1, max(1, len(body) - 1)), max_size=12))
    edges = [0, *sorted(places), len(body)]
    reads = [body[start:end] for start, end in pairwise(edges) if start < end]

    assert seen_in(read(*reads)) == seen_in(read(body))


@shapes(SHAPES.values())
def test_a_chunk_is_there_as_soon_as_its_frame_is(shape: Shape) -> None:
    """
    When a frame's blank line has arrived, its chunk can be had, before anything else comes.
    """
    decoder = StreamDecoder()
    for each in shape.frames:
        if each == DONE or is_error(each) or str(each).startswith(":"):
            break
        decoder.receive_data(wire(each))
        item = decoder.next_chunk()

        assert isinstance(item, ChatCompletionChunk)
        assert item.to_dict() == each
        # Anthropic's own stream has its last word, as others have their [DONE].
        ends = isinstance(each, dict) and each.get("type") == "message_stop"
        assert decoder.next_chunk() is (None if ends else NEED_DATA)


def with_comments(shape: Shape) -> bytes:
    """
    The stream with comments before, between and inside its frames.
    """
    return b": hello\n\n" + b"".join(
        b": OPENROUTER PROCESSING\n\n:\n" + wire(each) for each in shape.frames
    )


def without_spaces(shape: Shape) -> bytes:
    """
    The stream with no space behind its colons.
    """
    edited = [[line.replace(": ", ":", 1) for line in lines(each)] for each in shape.frames]
    return b"".join(("\n".join(each) + "\n\n").encode() for each in edited)


def with_all_fields(shape: Shape) -> bytes:
    """
    The stream with the other fields that an event may have.
    """
    return b"".join(b"id: 7\nretry: 100\nkind: odd\n" + wire(each) for each in shape.frames)


def in_many_lines(shape: Shape) -> bytes:
    """
    The stream with its JSON spread over many data lines.
    """
    blocks = [
        "\n".join(f"data: {line}" for line in json.dumps(each, indent=1).split("\n"))
        if isinstance(each, dict)
        else each
        for each in shape.frames
    ]
    return "".join(f"{each}\n\n" for each in blocks).encode()


FRAMINGS = {
    "CRLF": lambda shape: shape.body("\r\n"),
    "CR": lambda shape: shape.body("\r"),
    "a BOM": lambda shape: b"\xef\xbb\xbf" + shape.body(),
    "more blank lines": lambda shape: b"\n\n" + shape.body().replace(b"\n\n", b"\n\n\n\n"),
    "no last blank line": lambda shape: shape.body().rstrip(b"\n"),
    "comments": with_comments,
    "no spaces": without_spaces,
    "all fields": with_all_fields,
    "many lines": in_many_lines,
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_framings(framing: str) -> None:
    """
    The same frames in another framing give the same chunks and the same end, whole or in bytes.
    """
    for shape in SHAPES.values():
        body = FRAMINGS[framing](shape)
        plain = meaning_of(read(shape.body()))

        assert (shape.name, meaning_of(read(body))) == (shape.name, plain)
        assert (shape.name, meaning_of(read(*in_bytes(body)))) == (shape.name, plain)


# -- cut off ------------------------------------------------------------------------------------


SHORT = 600  # bytes; every path has streams that are no longer
EDGE = 8


def cuts(shape: Shape) -> Iterator[tuple[int, int]]:
    """
    Where to cut the stream, and how many frames are whole by then: JSON is, without its line's end.

    A short stream is cut after every byte. A long one, to save time, is cut at each byte near the
    edges of its frames, and at every fifth between them.
    """
    start = 0
    every = len(shape.body()) <= SHORT
    for number, each in enumerate(shape.frames):
        data = wire(each)
        whole = len(data.rstrip(b"\n"))
        for at in range(len(data)):
            if every or at < EDGE or at > whole - EDGE or (start + at) % 5 == 0:
                yield start + at, number + (at >= whole)
        start += len(data)
    yield start, len(shape.frames)


@shapes(SHAPES.values())
def test_cut_off_anywhere(shape: Shape) -> None:
    """
    A stream that is cut off ends as its whole frames say, and fails if they are not complete.
    """
    body = shape.body()
    expected = [expect(list(shape.frames[:count])) for count in range(len(shape.frames) + 1)]
    for length, count in cuts(shape):
        reading = read(body[:length])
        outcome = expected[count]

        assert type(reading.error) is outcome.error
        assert len(reading.chunks) == outcome.chunks
        assert (reading.response.text if reading.response else "") == outcome.text
        assert shape.delivered.startswith(reading.text)


@attrs.frozen
class Expected:
    """
    What whole frames must come out as: the class of the error, the number of chunks, the text.
    """

    error: type
    chunks: int
    text: str


def expect(frames: list[Frame]) -> Expected:
    """
    What the oracle says of *frames*, behind which the stream was cut off.
    """
    for count, each in enumerate(frames):
        if is_error(each):
            before = frames[:count]
            return Expected(StreamErrorEvent, len(json_frames(before)), text_of(before))
    error = type(None) if is_complete(frames) else StreamInterruptedError
    return Expected(error, len(json_frames(frames)), text_of(frames))


def test_a_cut_frame_behind_a_finish_reason_is_no_interruption() -> None:
    """
    A connection lost between finish_reason and usage leaves whole text, and usage unknown.
    """
    body = body_of(chunk({"content": "Hi"}), chunk({}, "stop"))
    reading = read(body + wire(frame(usage=tokens(1, 1)))[:-20])

    assert reading.error is None
    assert reading.response is not None
    assert reading.response.text == "Hi"
    assert reading.response.usage is None


@shapes(STREAMS)
def test_a_response_taken_on_the_way_stays_as_it_is(shape: Shape) -> None:
    """
    What had been put together when it was asked for does not change when more arrives.
    """
    decoder = StreamDecoder()
    decoder.receive_data(shape.body())
    taken = []
    while isinstance(decoder.next_chunk(), ChatCompletionChunk):
        response = decoder.response()
        taken.append((response, response.to_dict()))

    for response, before in taken:
        assert response.to_dict() == before


def test_nothing_is_read_behind_done() -> None:
    """
    `[DONE]` is the end, whatever follows it, and without waiting for the end of the input.
    """
    decoder = StreamDecoder()
    decoder.receive_data(body_of(chunk({"content": "Hi"}), DONE, chunk({"content": "!"})))
    first, end = decoder.next_chunk(), decoder.next_chunk()

    assert isinstance(first, ChatCompletionChunk)
    assert end is None
    assert decoder.response().text == "Hi"


@pytest.mark.parametrize("data", ["{bad}", "nonsense", "42", '"text"', "[1]"])
def test_a_whole_frame_that_is_no_object_is_reported(data: str) -> None:
    """
    A frame that came whole and is not a JSON object is an error, and never passed over in silence.
    """
    reading = read_frames(chunk({"content": "Hi"}), f"data: {data}", chunk({}, "stop"))

    assert isinstance(reading.error, StreamError)
    assert reading.response is not None
    assert reading.response.text == "Hi"


@pytest.mark.parametrize(
    "line", ["data: null", "data:  ", "data:\ndata:", "data:\t", "data: null "]
)
def test_an_event_that_says_nothing_is_passed_over(line: str) -> None:
    """
    An event that is blank or `null` ends no stream.
    """
    reading = read_frames(chunk({"content": "Hi"}), line, chunk({"content": "!"}, "stop"))

    assert reading.error is None
    assert reading.response is not None
    assert reading.response.text == "Hi!"


def test_a_quoted_end() -> None:
    """
    `"[DONE]"` in quotes, as JSON writers put it, is the end.
    """
    reading = read_frames(chunk({"content": "Hi"}), 'data: "[DONE]"')

    assert reading.error is None
    assert reading.response is not None
    assert reading.response.text == "Hi"


# -- the merging rules, one at a time -----------------------------------------------------------


def test_rule_1_a_snapshot_is_the_answer() -> None:
    """
    A snapshot stands in place of all that was streamed: text, thought, refusal, calls, reason.
    """
    response = assemble(
        chunk({"content": "Hel", "reasoning_content": "h", "refusal": "No"}),
        calling(fragment("{}", id="t9", name="gone", index=0)),
        snapshot(message(HELLO, reasoning_content=THINK, tool_calls=[]), finish="length"),
    )

    assert answer_of(response) == Answer(text=HELLO, reasoning=THINK, finish_reason="length")


def test_rule_1_a_snapshot_has_all_choices() -> None:
    """
    A choice that was streamed and is not in the snapshot is gone.
    """
    response = assemble(
        chunk({"content": "a"}),
        chunk({"content": "b"}, index=1),
        chunk({"content": "c"}, index=2),
        snapshot(message("A"), message("B")),
    )

    assert [each.message.content for each in response.choices] == ["A", "B"]


def test_rule_1_the_text_of_a_snapshot_is_new_only_if_none_was_streamed() -> None:
    """
    A snapshot's chunk has no new text, unless no text at all was streamed.
    """
    whole = snapshot(message("Hello"))

    assert [each.text for each in read_frames(chunk({"content": "Hel"}), whole).chunks] == [
        "Hel",
        "",
    ]
    assert [each.text for each in read_frames(chunk({"content": ""}), whole).chunks] == [
        "",
        "Hello",
    ]
    assert [each.text for each in read_frames(whole).chunks] == ["Hello"]


def test_rule_1_logprobs_stay_as_streamed() -> None:
    """
    A snapshot has no logprobs, and takes none away.
    """
    response = assemble(
        frame(choice({"content": "Hi"}, logprobs=HI_TOKENS[:2])),
        frame(choice({"content": "!"}, logprobs=HI_TOKENS[2:])),
        snapshot(message("Hi!")),
    )

    assert tokens_of(response) == HI_TOKENS


def tokens_of(response: ChatCompletionsResponse) -> list[dict[str, Any]]:
    """
    The tokens whose probabilities *response* has.
    """
    logprobs = response.choices[0].logprobs
    return [each.to_dict() for each in logprobs.content] if logprobs else []


@pytest.mark.parametrize("name", ["A logprobs", "B logprobs as a list"])
def test_logprobs_are_joined(name: str) -> None:
    """
    The tokens of all chunks are in the response, whether they came in an object or in a list.
    """
    response = read(SHAPES[name].body()).response
    assert response is not None

    assert tokens_of(response) == HI_TOKENS


def test_rule_1_a_message_in_a_chunk_is_no_snapshot() -> None:
    """
    A message beside a delta takes nothing away, and gives what is missing.
    """
    beside = {"role": "assistant", "content": "", "reasoning_content": THINK}
    response = assemble(
        chunk({"content": HELLO}), frame(choice({"content": ""}, "stop", message=beside))
    )

    assert answer_of(response) == Answer(text=HELLO, reasoning=THINK)


def called(*fragments: dict[str, Any]) -> tuple[Call, ...]:
    """
    The calls that come of *fragments*, each in a chunk of its own.
    """
    return calls(assemble(*map(calling, fragments), chunk({}, "tool_calls")).tool_calls)


RULE_2 = {
    "an id and a name open a call on a used index": (
        [
            fragment('{"a":1}', id="t1", name="f", index=0),
            fragment('{"b":2}', id="t2", name="g", index=0),
        ],
        [("t1", "f", '{"a":1}'), ("t2", "g", '{"b":2}')],
    ),
    "an id and a name open a call on a used index in the middle of another": (
        [
            fragment('{"a"', id="t1", name="f", index=0),
            fragment('{"b"', id="t2", name="f", index=0),
            fragment(":2}", index=0),
        ],
        [("t1", "f", '{"a"'), ("t2", "f", '{"b":2}')],
    ),
    "no id: the newest call on the index": (
        [
            fragment("", id="t1", name="f", index=0),
            fragment("", id="t2", name="g", index=1),
            fragment('{"a":1}', index=0),
            fragment('{"b":2}', index=1),
        ],
        [("t1", "f", '{"a":1}'), ("t2", "g", '{"b":2}')],
    ),
    "no id and no index: the newest call": (
        [
            fragment("", id="t1", name="f", index=0),
            fragment("", id="t2", name="g", index=1),
            fragment('{"b":2}'),
        ],
        [("t1", "f", ""), ("t2", "g", '{"b":2}')],
    ),
    "an unknown id and no name: the newest call on the index": (
        [
            fragment('{"a":', id="t1", name="f", index=0),
            fragment("1}", id="t1-2", index=0),
        ],
        [("t1", "f", '{"a":1}')],
    ),
    "an unknown id, no name and no index: the newest call": (
        [fragment('{"a":', id="t1", name="f"), fragment("1}", id="t1-2")],
        [("t1", "f", '{"a":1}')],
    ),
    "a known id goes before the index": (
        [
            fragment('{"a":', id="t1", name="f", index=0),
            fragment('{"b":', id="t2", name="g", index=1),
            fragment("1}", id="t1", index=1),
            fragment("2}", id="t2", index=0),
        ],
        [("t1", "f", '{"a":1}'), ("t2", "g", '{"b":2}')],
    ),
    "a known id with another name opens a call": (
        [
            fragment('{"a"', id="t1", name="f", index=0),
            fragment('{"b":', id="t1", name="g", index=0),
            fragment("2}", id="t1", index=0),
        ],
        [("t1", "f", '{"a"'), ("t1", "g", '{"b":2}')],
    ),
    "arguments for a call that has all of them open a call": (
        [
            fragment('{"a":1}', id="t1", name="f", index=0),
            fragment('{"a":', id="t1", index=0),
            fragment("2}", id="t1", index=0),
        ],
        [("t1", "f", '{"a":1}'), ("t1", "f", '{"a":2}')],
    ),
    "and so do those of a third": (
        [
            fragment('{"a":1}', id="t1", name="f", index=0),
            fragment('{"a":2}', id="t1", index=0),
            fragment('{"a":3}', id="t1", index=0),
        ],
        [("t1", "f", '{"a":1}'), ("t1", "f", '{"a":2}'), ("t1", "f", '{"a":3}')],
    ),
    "and so do those with the same name": (
        [
            fragment('{"a":1}', id="t1", name="f", index=0),
            fragment('{"b":2}', id="t1", name="f", index=0),
        ],
        [("t1", "f", '{"a":1}'), ("t1", "f", '{"b":2}')],
    ),
    "a name in two pieces": (
        [
            fragment("", id="t1", name="get_", index=0),
            fragment("", name="weather", index=0),
            fragment('{"a":1}', index=0),
        ],
        [("t1", "get_weather", '{"a":1}')],
    ),
    "a name in three pieces, with the id each time": (
        [
            fragment("", id="t1", name="get_", index=0),
            fragment(None, id="t1", name="wea", index=0),
            fragment('{"a":1}', id="t1", name="ther", index=0),
        ],
        [("t1", "get_weather", '{"a":1}')],
    ),
    "a name in two pieces, without indexes": (
        [fragment("", id="t1", name="get_"), fragment('{"a":1}', name="weather")],
        [("t1", "get_weather", '{"a":1}')],
    ),
    "a name that comes each time all over again": (
        [
            fragment("", id="t1", name="get_", index=0),
            fragment("", id="t1", name="get_weather", index=0),
            fragment('{"a":1}', id="t1", name="get_weather", index=0),
        ],
        [("t1", "get_weather", '{"a":1}')],
    ),
    "names in pieces, of two calls at once": (
        [
            fragment("", id="t1", name="get_", index=0),
            fragment("", id="t2", name="set_", index=1),
            fragment("", name="weather", index=0),
            fragment("", name="time", index=1),
        ],
        [("t1", "get_weather", ""), ("t2", "set_time", "")],
    ),
    "another name behind arguments is no piece of a name": (
        [fragment("{}", id="", name="f", index=0), fragment("{}", id="", name="g", index=0)],
        [("", "f", "{}"), ("", "g", "{}")],
    ),
    "an id and a name repeated on an index of its own open a call": (
        [
            fragment("", id="t1", name="f", index=0),
            fragment("", id="t1", name="f", index=1),
            fragment('{"a":', index=0),
            fragment('{"b":', index=1),
            fragment("1}", index=0),
            fragment("2}", index=1),
        ],
        [("t1", "f", '{"a":1}'), ("t1", "f", '{"b":2}')],
    ),
    "and so behind a call that is whole": (
        [
            fragment('{"a":1}', id="t1", name="f", index=0),
            fragment("", id="t1", name="f", index=1),
            fragment('{"b":2}', index=1),
        ],
        [("t1", "f", '{"a":1}'), ("t1", "f", '{"b":2}')],
    ),
    "and so with the same arguments": (
        [
            fragment("{}", id="t1", name="f", index=0),
            fragment("{}", id="t1", name="f", index=1),
        ],
        [("t1", "f", "{}"), ("t1", "f", "{}")],
    ),
    "and id and index tell their pieces apart": (
        [
            fragment("", id="t1", name="f", index=0),
            fragment("", id="t1", name="f", index=1),
            fragment('{"a":1}', id="t1", index=0),
            fragment('{"b":2}', id="t1", index=1),
        ],
        [("t1", "f", '{"a":1}'), ("t1", "f", '{"b":2}')],
    ),
    "pieces of one call that are counted are its pieces": (
        [
            fragment('{"a":', id="t1", name="f", index=0),
            fragment("1}", id="t1", name="f", index=1),
        ],
        [("t1", "f", '{"a":1}')],
    ),
    "nothing more for a call that has all of its arguments opens none": (
        [
            fragment('{"a":1}', id="t1", name="f", index=0),
            fragment("", id="t1", name="f", index=0),
            fragment("", index=0),
        ],
        [("t1", "f", '{"a":1}')],
    ),
}


@pytest.mark.parametrize("case", RULE_2)
def test_rule_2_where_a_fragment_belongs(case: str) -> None:
    """
    Id, name and index decide whether a fragment opens a call, and to which one it belongs.
    """
    fragments, expected = RULE_2[case]

    assert called(*fragments) == tuple(expected)


RULE_3 = {
    "an id and a name repeated with all arguments so far replace": (
        [
            fragment('{"a"', id="t1", name="f", index=0),
            fragment('{"a":1}', id="t1", name="f", index=0),
        ],
        '{"a":1}',
    ),
    "the same again, three times, replaces": (
        [fragment('{"a":1}', id="t1", name="f", index=0)] * 3,
        '{"a":1}',
    ),
    "one fragment that is all that is held, with a name, replaces": (
        [
            fragment("{", id="t1", name="f", index=0),
            fragment("{", id="t1", name="f", index=0),
            fragment('{"a":1}', id="t1", name="f", index=0),
        ],
        '{"a":1}',
    ),
    "one fragment that is all that is held, without a name, is appended": (
        [
            fragment('{"a":', id="t1", name="f", index=0),
            fragment('{"a":', id="t1", index=0),
            fragment("1}}", id="t1", index=0),
        ],
        '{"a":{"a":1}}',
    ),
    "an id and a name repeated with other arguments are appended": (
        [
            fragment('{"a"', id="t1", name="f", index=0),
            fragment(":1}", id="t1", name="f", index=0),
        ],
        '{"a":1}',
    ),
    "an id repeated with an empty name is appended": (
        [
            fragment('{"a":', id="t1", name="f", index=0),
            fragment('{"a":1}}', id="t1", name="", index=0),
        ],
        '{"a":{"a":1}}',
    ),
    "no id is appended": (
        [fragment('{"a":', id="t1", name="f", index=0), fragment('{"a":1}}', index=0)],
        '{"a":{"a":1}}',
    ),
    "no arguments change nothing": (
        [
            fragment('{"a"', id="t1", name="f", index=0),
            fragment("", id="t1", name="f", index=0),
            fragment(None, id="t1", name="f", index=0),
            fragment(":1}", index=0),
        ],
        '{"a":1}',
    ),
    "a name that is repeated is set, and an empty one takes none away": (
        [
            fragment('{"a"', id="t1", name="f", index=0),
            fragment(":", id="t1", name="", index=0),
            fragment("1}", id="t1", name="f", index=0),
        ],
        '{"a":1}',
    ),
}


@pytest.mark.parametrize("case", RULE_3)
def test_rule_3_replaced_or_appended(case: str) -> None:
    """
    Arguments that are repeated replace what is held, others are appended; names are set.
    """
    fragments, expected = RULE_3[case]

    assert called(*fragments) == (("t1", "f", expected),)


def test_rule_3_a_snapshot_settles_what_is_in_doubt() -> None:
    """
    The arguments of a snapshot stand, whatever was made of the fragments.
    """
    response = assemble(
        calling(fragment('{"a":', id="t1", name="f", index=0)),
        calling(fragment('{"a":', id="t1", index=0)),
        snapshot(message(tool_calls=[whole_call(("t1", "f", '{"a":1}'))]), finish="tool_calls"),
    )

    assert calls(response.tool_calls) == (("t1", "f", '{"a":1}'),)


def test_rule_4_the_last_usage_counts() -> None:
    """
    The last usage that is not null is the response's, wherever it came.
    """
    response = assemble(
        frame(usage=tokens(1, 0)),
        chunk({"content": "Hi"}, usage=tokens(1, 2)),
        chunk({}, "stop", usage=tokens(1, 3)),
        frame(usage=None),
    )

    assert usage_of(response) == (1, 3, 4)


def test_rule_4_a_snapshot_without_usage_takes_none_away() -> None:
    """
    Usage that came before a snapshot stays, if the snapshot has none of its own.
    """
    response = assemble(chunk({"content": "Hi"}, usage=tokens(1, 2)), snapshot(message("Hi")))

    assert usage_of(response) == (1, 2, 3)


def test_rule_4_meta_is_merged() -> None:
    """
    What two frames say in `meta` is there together.
    """
    response = assemble(
        chunk({"content": "Hi"}, meta={"routing": META["routing"]}),
        snapshot(message("Hi"), meta={"generation_ms": 812, "throughput_tps": 61.2}),
    )

    assert response.meta is not None
    assert response.meta.to_dict() == META


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm", "reasoning": "hm"},
        {"reasoning": "hm"},
        {"reasoning_content": None, "reasoning": "hm"},
        {"reasoning_details": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]},
        {"reasoning": "hm", "reasoning_details": [{"type": "text", "text": "hm"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
    ],
)
def test_rule_5_one_spelling_of_thought_counts(delta: dict[str, Any]) -> None:
    """
    Thought is read from one of its places in a chunk, and is no text.
    """
    reading = read_frames(chunk(delta), chunk({"content": "Hi"}), chunk({}, "stop"))
    response = reading.response
    assert response is not None

    assert (response.reasoning, response.text) == ("hm", "Hi")
    assert [each.text for each in reading.chunks] == ["", "Hi", ""]


def test_rule_5_a_marked_choice_is_thought() -> None:
    """
    The content of a choice with the mark is thought; the text is that of the first one without it.
    """
    reading = read_frames(
        seed_chunk("hm", thought=True),
        seed_chunk("Hi", index=1, thought=False),
        snapshot(message("hm"), message("Hi"), marks=(True, False)),
    )
    response = reading.response
    assert response is not None

    assert (response.reasoning, response.text) == ("hm", "Hi")
    assert [each.text for each in reading.chunks] == ["", "Hi", ""]


def test_rule_5_a_marked_choice_is_thought_before_a_snapshot_comes() -> None:
    """
    The mark on chunks alone tells thought from text.
    """
    reading = read_frames(seed_chunk("hm", thought=True), seed_chunk("Hi", index=1, thought=False))
    partial = reading.response
    assert partial is not None

    assert (partial.reasoning, partial.text) == ("hm", "Hi")


SERVER_TOOLS = (
    "gateway_datetime",
    "phaseo_web_search",
    "phaseo_web_fetch",
    "phaseo_advisor",
    "phaseo_advisor_lawyer",
    "phaseo_image_generation",
    "phaseo_apply_patch",
    "phaseo_subagent",
    "phaseo_fusion",
    "phaseo_search_models",
)


@pytest.mark.parametrize("name", SERVER_TOOLS)
def test_rule_6_the_gateways_own_calls_are_records(name: str) -> None:
    """
    A call of one of the gateway's tools is kept and marked, and is not for the caller to run.
    """
    response = assemble(
        calling(
            fragment("{}", id="s1", name=name, index=0),
            fragment("{}", id="t1", name="mine", index=0),
        ),
        chunk({}, "tool_calls"),
    )

    assert calls(response.server_tool_calls) == (("s1", name, "{}"),)
    assert calls(response.tool_calls) == (("t1", "mine", "{}"),)
    assert [call.is_server_tool for call in response.message.tool_calls] == [True, False]


@pytest.mark.parametrize("kind", ["server_tool_use", "mcp_tool_use"])
def test_rule_6_anthropics_own_calls_are_records(kind: str) -> None:
    """
    What Anthropic ran itself is a record with its arguments, and stays out of the next request.
    """
    response = assemble(
        raw("message_start", message={"role": "assistant"}),
        opened(0, type=kind, id="s1", name="web_search", input={}),
        block(0, type="input_json_delta", partial_json='{"query":'),
        block(0, type="input_json_delta", partial_json='"x"}'),
        opened(1, type="web_search_tool_result", tool_use_id="s1", content=[]),
        opened(2, type="tool_use", id="t1", name="web_search", input={}),
        block(2, type="input_json_delta", partial_json="{}"),
        raw("message_delta", delta={"stop_reason": "tool_use"}),
        raw("message_stop"),
    )

    assert calls(response.server_tool_calls) == (("s1", "web_search", '{"query":"x"}'),)
    assert calls(response.tool_calls) == (("t1", "web_search", "{}"),)
    assert [each["id"] for each in response.message.to_param()["tool_calls"]] == ["t1"]


@pytest.mark.parametrize("name", ["phaseo_web", "web_search", "gateway_date", "phaseo_advisors"])
def test_rule_6_other_names_are_the_callers(name: str) -> None:
    """
    A function whose name only looks like one of the gateway's is for the caller to run.
    """
    assert called(fragment("{}", id="t1", name=name, index=0)) == (("t1", name, "{}"),)


def test_rule_7_what_is_missing_and_what_is_unknown() -> None:
    """
    No index, no delta, no choices and unknown objects are no errors, and unknown keys are kept.
    """
    reading = read_frames(
        {"id": "G-1", "object": "gateway.progress", "percent": 50},
        frame({"delta": {"content": "Hi", "mood": "merry"}}, novelty={"a": [1]}),
        frame({"index": 0, "delta": None}),
        frame({"index": 0}),
        {"id": "G-1"},
        frame({"finish_reason": "stop", "stop_details": {"why": "done"}}),
    )
    response = reading.response
    assert response is not None
    answer = response.to_dict()

    assert reading.error is None
    assert len(reading.chunks) == 6
    assert response.text == "Hi"
    assert answer["novelty"] == {"a": [1]}
    assert answer["choices"][0]["message"]["mood"] == "merry"
    assert answer["choices"][0]["stop_details"] == {"why": "done"}


def test_lists_in_deltas_are_joined() -> None:
    """
    Citations and images that came in several chunks are all in the response, in their order.
    """
    cited = read(SHAPES["A citations, and keys nobody knows"].body()).response
    drawn = read(SHAPES["D images"].body()).response
    assert cited is not None
    assert drawn is not None

    assert cited.to_dict()["choices"][0]["message"]["annotations"] == CITATIONS
    assert cited.to_dict()["choices"][0]["message"]["mood"] == "merry"
    assert cited.to_dict()["citations"] == ["https://example.com/1"]
    assert drawn.to_dict()["choices"][0]["message"]["images"] == IMAGES


def test_calls_of_a_response_have_the_form_of_whole_ones() -> None:
    """
    A call that came in fragments looks as in a whole answer: with a type, and without an index.
    """
    for name in ("A call", "B call, its end twice", "C call whole, with no type", "raw call"):
        response = read(SHAPES[name].body()).response
        assert response is not None

        assert [call.to_param() for call in response.tool_calls] == [
            whole_call(("t1", "get_weather", CITY))
        ]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "refusal"),
    ],
)
def test_stop_reasons_are_told_in_the_gateways_words(reason: str, expected: str) -> None:
    """
    A finish_reason that Anthropic has another word for is the gateway's, others pass as they are.
    """
    response = assemble(
        opened(0, type="text", text=""),
        block(0, type="text_delta", text="Hi"),
        raw("message_delta", delta={"stop_reason": reason}),
    )

    assert response.finish_reason == expected


# -- any answer, in any shape -------------------------------------------------------------------

words = st.text(max_size=12)
pieces = st.lists(st.text(min_size=1, max_size=6), max_size=4)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["", "text", "stop", "error", "0.5", "1e999", "chat.completion", "message_stop"]
    )
    | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["index", "id", "function", "name", "arguments", "content", "type", "text"]
            )
            | words,
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
arguments = st.dictionaries(words, st.integers() | words | st.lists(words, max_size=2), max_size=3)


@st.composite
def spoken(draw: st.DrawFn) -> tuple[list[str], list[str], list[tuple[str, list[str]]]]:
    """
    The pieces of a thought, of a text, and of the arguments of calls.
    """
    requests: list[tuple[str, list[str]]] = []
    for _ in range(draw(st.integers(0, 3))):
        whole = compact(draw(arguments))
        places = draw(st.sets(st.integers(1, len(whole) - 1), max_size=3))
        edges = [0, *sorted(places), len(whole)]
        cut = [whole[start:end] for start, end in pairwise(edges)]
        requests.append((draw(st.sampled_from(["f", "g", "h"])), cut))
    return draw(pieces), draw(pieces), requests


def so_far(cuts: list[str]) -> list[str]:
    """
    What is there after each of *cuts*.
    """
    return ["".join(cuts[: count + 1]) for count in range(len(cuts))]


@given(said=spoken())
@example(said=(["hm"], ["Hi", "!"], [("f", ['{"a":', "1}"]), ("f", ["{}"])]))
@settings(quick, max_examples=50)
def test_any_answer_is_the_same_in_every_shape(
    said: tuple[list[str], list[str], list[tuple[str, list[str]]]],
) -> None:
    """
    Any thought, text and calls come out the same from all paths.
    """
    thought, text, requests = said
    finish = "tool_calls" if requests else "stop"
    whole = tuple((f"t{index}", name, "".join(cuts)) for index, (name, cuts) in enumerate(requests))
    thinking = [chunk({"reasoning_content": cut}) for cut in thought]
    speaking = [chunk({"content": cut}) for cut in text]
    entries = list(enumerate(requests))
    by_index = [
        calling(fragment("", id=f"t{index}", name=name, index=index))
        for index, (name, _) in entries
    ] + [calling(fragment(cut, index=index)) for index, (_, cuts) in entries for cut in cuts]
    cumulative = [
        calling(fragment(held, id=f"t{index}", name=name, index=index))
        for index, (name, cuts) in entries
        for held in ["", *so_far(cuts), "".join(cuts), "".join(cuts)]
    ]
    by_id = [
        calling(fragment(cut, id=f"t{index}", name=None if at else name, index=0))
        for index, (name, cuts) in entries
        for at, cut in enumerate(cuts)
    ]
    at_once = [
        calling(*(fragment(held, id=call_id, name=name, index=0) for call_id, name, held in whole))
    ] * bool(whole)
    final = message("".join(text), tool_calls=[whole_call(call) for call in whole])
    if thought:
        final["reasoning_content"] = "".join(thought)
    streams: list[list[Frame]] = [
        [*thinking, *speaking, *by_index, chunk({}, finish), DONE],
        [*thinking, *speaking, *cumulative, snapshot(final, finish=finish)],
        [*thinking, *speaking, *cumulative, chunk({}, finish)],
        [*thinking, *speaking, *by_id, chunk({}, finish), DONE],
        [
            frame(),
            *thinking,
            *speaking,
            *at_once,
            frame(usage=tokens(1, 1)),
            chunk({}, finish),
            DONE,
        ],
        [snapshot(final, finish=finish)],
    ]
    expected = Answer("".join(text), "".join(thought), whole, finish_reason=finish)

    for frames in streams:
        reading = read_frames(*frames)
        assert reading.response is not None
        assert answer_of(reading.response) == expected
        assert reading.text == expected.text


# -- whatever comes -----------------------------------------------------------------------------


def places_in(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """
    The paths of all values inside *value*.
    """
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, item in inner:
        yield (*path, key)
        yield from places_in(item, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: object) -> Any:
    """
    A copy of *value* with *new* at *path*.
    """
    root = json.loads(compact(value))
    holder = root
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = new
    return root


def read_everything(value: object) -> None:
    """
    Read every public property of a view, and of the views in it.
    """
    if isinstance(value, list | tuple):
        for item in value:
            read_everything(item)
    if not isinstance(value, WireObject):
        return
    for name in dir(type(value)):
        if not name.startswith("_"):
            found = getattr(value, name)
            if not callable(found):
                read_everything(found)
    assert isinstance(repr(value), str)
    assert isinstance(value.to_dict(), dict)
    if isinstance(value, Message | ToolCall):
        assert None not in value.to_param().values()
    if isinstance(value, ChatCompletionsResponse):
        assert isinstance(value.text, str)
        assert isinstance(value.reasoning, str | None)
        assert isinstance(value.finish_reason, str | None)
        for call in (*value.tool_calls, *value.server_tool_calls):
            assert isinstance(call.name, str | None)
            assert isinstance(call.arguments, str)
        if value.usage is not None:
            assert value.usage.cost is None or value.usage.cost.is_finite()
    if isinstance(value, ChatCompletionChunk):
        assert isinstance(value.text, str)


@given(data=st.data(), shape=st.sampled_from(STREAMS), new=json_values)
@quick
def test_an_odd_value_anywhere_in_a_stream(data: st.DataObject, shape: Shape, new: object) -> None:
    """
    Whatever stands at one place of a stream, it gives chunks that can be read or our error.
    """
    places = [
        (number, *path)
        for number, each in enumerate(shape.frames)
        if isinstance(each, dict)
        for path in places_in(each)
    ]
    frames = replaced(list(shape.frames), data.draw(st.sampled_from(places)), new)

    reading = read_frames(*frames)
    read_everything(reading.chunks)
    read_everything(reading.response)


ODD_VALUES = (True, -1, [None], {"a": 1})


@pytest.mark.parametrize(
    "name",
    [
        "A n = 2, both in one chunk",
        "B a call that wants nothing",
        "C stop chunk repeats thought and text",
        "E server tool, then the client's own, counted anew",
        "seed OpenAI thought as choice 0, text as choice 1",
        "raw call",
    ],
)
def test_odd_values_everywhere_in_a_stream(name: str) -> None:
    """
    No place of a stream is such that an odd value there breaks the decoder.
    """
    frames = list(SHAPES[name].frames)
    for path in places_in([each for each in frames if isinstance(each, dict)]):
        for new in ODD_VALUES:
            reading = read_frames(*replaced(frames, path, new))
            read_everything(reading.response)


@given(data=st.binary(max_size=200))
@example(data=b"data: {}\n\n")
@example(data=b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n')
@example(data=b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n')
@example(data=b"data: " + b"[" * 2000 + b"\n\n")
@example(data=b'data: {"a":' * 2000 + b"\n\n")
@quick
def test_any_bytes(data: bytes) -> None:
    """
    Any bytes at all give chunks or one of our errors.
    """
    for body in (data, b"data: " + data + b"\n\n", wire(chunk({"content": "Hi"})) + data):
        reading = read(body)
        read_everything(reading.chunks)
        read_everything(reading.response)


# -- whole answers ------------------------------------------------------------------------------

PRICING = {
    "total_nanos": 8900,
    "total_usd_str": "0.0000089",
    "total_cents": 0,
    "currency": "USD",
    "lines": [
        {
            "dimension": "input_text_tokens",
            "quantity": 42,
            "billable_units": 0.000042,
            "unit_size": 1000000,
            "unit_price_usd": "0.050000000",
            "line_cost_usd": "0.000002100",
            "line_nanos": 2100,
        }
    ],
}

WHOLE: dict[str, Any] = {
    "id": "G-2",
    "nativeResponseId": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1787400000,
    "model": "openai/gpt-5-nano",
    "provider": "openai",
    "provider_id": "openai",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "logprobs": {"content": HI_TOKENS, "refusal": None},
            "message": {
                "role": "assistant",
                "content": "I looked.",
                "refusal": None,
                "annotations": CITATIONS,
                "images": IMAGES,
                "audios": [{"type": "audio_url", "audio_url": {"url": "data:,"}, "format": "mp3"}],
                "reasoning_content": "The user wants weather.",
                "reasoning_details": [
                    {"id": "r-0", "index": 0, "type": "text", "text": "The user wants weather."}
                ],
                "tool_calls": [
                    whole_call(("s1", "phaseo_web_search", '{"query":"Oslo"}')),
                    whole_call(("t1", "get_weather", '{"city":"Oslo"}')),
                    {"id": "t2", "type": "custom", "custom": {"name": "sql", "input": "SELECT"}},
                ],
            },
        }
    ],
    "usage": {
        "prompt_tokens": 42,
        "completion_tokens": 17,
        "total_tokens": 59,
        "prompt_tokens_details": {"cached_tokens": 32, "input_images": 0},
        "completion_tokens_details": {"reasoning_tokens": 9, "cached_tokens": 0},
        "server_tool_use": {"web_search_requests": 1},
        "pricing": PRICING,
    },
    "cost_nanos": 8900,
    "cost_cents": 0,
    "currency": "USD",
    "pricing_lines": [],
    "meta": {"throughput_tps": 61.2, "generation_ms": 812, "routing": {"selected_provider": "o"}},
    "citations": ["https://example.com/1"],
}

SEED: dict[str, Any] = {
    "id": "G-3",
    "object": "chat.completion",
    "created": 1766300000,
    "model": "openai/gpt-5-nano",
    "choices": [
        {
            "index": 0,
            "message": message("The user wants weather."),
            "finish_reason": "tool_calls",
            "reasoning": True,
        },
        {"index": 1, "message": message("I looked."), "finish_reason": "tool_calls"},
        {
            "index": 2,
            "message": message(tool_calls=[whole_call(("t1", "get_weather", '{"city":"Oslo"}'))]),
            "finish_reason": "tool_calls",
        },
        {
            "index": 3,
            "message": message(tool_calls=[whole_call(("t2", "get_weather", '{"city":"Bodø"}'))]),
            "finish_reason": "tool_calls",
        },
    ],
    "usage": {
        "input_tokens": 42,
        "output_tokens": 17,
        "total_tokens": 59,
        "input_tokens_details": {"cached_tokens": 32},
        "output_tokens_details": {"reasoning_tokens": 9},
        "pricing_breakdown": PRICING,
    },
}


def with_usage(**usage: object) -> ChatCompletionsResponse:
    """
    An answer with this usage.
    """
    return ChatCompletionsResponse.from_dict({**WHOLE, "usage": usage})


def test_a_whole_answer() -> None:
    """
    The short cuts of an answer read its text, thought, calls, finish_reason and usage.
    """
    response = ChatCompletionsResponse.from_dict(WHOLE)

    assert (response.id, response.request_id, response.provider) == ("G-2", "G-2", "openai")
    assert (response.object, response.created) == ("chat.completion", 1787400000)
    assert answer_of(response) == Answer(
        text="I looked.",
        reasoning="The user wants weather.",
        tool_calls=(("t1", "get_weather", '{"city":"Oslo"}'), ("t2", "sql", "SELECT")),
        server_tool_calls=(("s1", "phaseo_web_search", '{"query":"Oslo"}'),),
        finish_reason="tool_calls",
    )
    assert usage_of(response) == (42, 17, 59)
    assert tokens_of(response) == HI_TOKENS
    assert response.usage is not None
    assert response.usage.cost == Decimal("0.0000089")
    assert response.usage.prompt_tokens_details is not None
    assert response.usage.prompt_tokens_details.cached_tokens == 32
    assert response.meta is not None
    assert response.meta.generation_ms == 812


def test_a_whole_answer_of_the_older_gateway() -> None:
    """
    Thought, text and calls that are choices of their own are read as one answer.
    """
    response = ChatCompletionsResponse.from_dict(SEED)

    assert answer_of(response) == Answer(
        text="I looked.",
        reasoning="The user wants weather.",
        tool_calls=(
            ("t1", "get_weather", '{"city":"Oslo"}'),
            ("t2", "get_weather", '{"city":"Bodø"}'),
        ),
        finish_reason="tool_calls",
    )
    assert usage_of(response) == (42, 17, 59)
    assert response.usage is not None
    assert response.usage.cost == Decimal("0.0000089")
    assert response.usage.completion_tokens_details is not None
    assert response.usage.completion_tokens_details.reasoning_tokens == 9


def test_calls_alone_of_the_older_gateway() -> None:
    """
    Calls that are all that an answer has are gathered too, though each is a choice of its own.
    """
    response = ChatCompletionsResponse.from_dict({**SEED, "choices": SEED["choices"][2:]})

    assert [call.id for call in response.tool_calls] == ["t1", "t2"]
    assert response.text == ""


def test_a_call_before_the_text_of_the_older_gateway() -> None:
    """
    A text behind a call, each a choice of its own, is the answer's text, and the call its call.
    """
    choices = [SEED["choices"][2], SEED["choices"][1]]
    response = ChatCompletionsResponse.from_dict({**SEED, "choices": choices})

    assert response.text == "I looked."
    assert [call.id for call in response.tool_calls] == ["t1"]


def test_two_calls_as_two_choices_with_the_providers_id() -> None:
    """
    The older gateway's calls are all the caller's, though it names the provider's id as well.
    """
    choices = [
        choice(0, message=message(tool_calls=[whole_call(("t1", "f", "{}"))])),
        choice(1, message=message(tool_calls=[whole_call(("t2", "g", "{}"))])),
    ]
    answer = {"id": "G-1", "nativeResponseId": "resp_1", "choices": choices}
    whole = ChatCompletionsResponse.from_dict(answer)
    streamed = assemble({**answer, "object": "chat.completion"})

    assert calls(whole.tool_calls) == calls(streamed.tool_calls)
    assert calls(whole.tool_calls) == (("t1", "f", "{}"), ("t2", "g", "{}"))


@pytest.mark.parametrize(
    "sign",
    [
        {"provider": "openai"},
        {"system_fingerprint": "fp_1"},
        {"usage": tokens(42, 17)},
    ],
    ids=lambda sign: next(iter(sign)),
)
def test_choices_of_the_newer_gateway_are_answers_of_their_own(sign: dict[str, Any]) -> None:
    """
    An answer that shows the newer gateway's hand has alternatives for choices: one of them counts.
    """
    choices = [
        {**each, "index": index, "reasoning": None}
        for index, each in enumerate(SEED["choices"][2:])
    ]
    response = ChatCompletionsResponse.from_dict({**SEED, "choices": choices, **sign})

    assert [call.id for call in response.tool_calls] == ["t1"]


def test_a_choice_with_text_is_an_answer_of_its_own() -> None:
    """
    Calls beside a text count for that text's choice, not for the one that is shown.
    """
    second = {**SEED["choices"][3], "message": {**SEED["choices"][3]["message"], "content": "Or"}}
    choices = [*SEED["choices"][1:3], second]
    response = ChatCompletionsResponse.from_dict({**SEED, "choices": choices})

    assert [call.id for call in response.tool_calls] == ["t1"]
    assert response.text == "I looked."


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"pricing": {"total_usd_str": "0.0000089", "total_nanos": 1}}, "0.0000089"),
        ({"pricing": {"total_usd_str": "9.5e-7", "total_nanos": 950}}, "0.00000095"),
        ({"pricing": {"total_nanos": 8900}}, "0.0000089"),
        ({"pricing": {"total_usd_str": "free", "total_nanos": 8900}}, "0.0000089"),
        ({"pricing": {"total_usd_str": "NaN", "total_nanos": 8900}}, "0.0000089"),
        ({"pricing": {"total_usd_str": "0", "total_nanos": 0}}, "0"),
        ({"pricing_breakdown": {"total_usd_str": "0.5"}}, "0.5"),
        ({"pricing_breakdown": {"total_nanos": 500_000_000}}, "0.5"),
    ],
)
def test_the_cost(usage: dict[str, Any], cost: str) -> None:
    """
    The price is the gateway's own decimal number, or is counted from its billionths.
    """
    found = with_usage(**usage).usage
    assert found is not None

    assert isinstance(found.cost, Decimal)
    assert found.cost == Decimal(cost)


@pytest.mark.parametrize("usage", [{}, {"pricing": None}, {"pricing": {}}, {"pricing": []}])
def test_no_cost(usage: dict[str, Any]) -> None:
    """
    Without a price from the gateway the cost is `None`, not zero.
    """
    found = with_usage(**usage).usage
    assert found is not None

    assert found.cost is None


@pytest.mark.parametrize("spelled", [tokens, seed_tokens])
def test_usage_in_both_spellings(spelled: Any) -> None:
    """
    Tokens are read under the names of both gateways.
    """
    assert usage_of(with_usage(**spelled(42, 17))) == (42, 17, 59)


@pytest.mark.parametrize("answer", [WHOLE, SEED])
def test_the_json_comes_back(answer: dict[str, Any]) -> None:
    """
    `to_dict()` returns the JSON as it came. Changing it does not change the answer.
    """
    response = ChatCompletionsResponse.from_dict(json.loads(compact(answer)))
    response.to_dict()["choices"][0]["message"]["content"] = "changed"

    assert response.to_dict() == answer
    assert all(
        each.to_dict() == wire
        for each, wire in zip(response.choices, answer["choices"], strict=True)
    )


@given(data=st.data(), answer=st.sampled_from([WHOLE, SEED]), new=json_values)
@quick
def test_an_odd_value_anywhere_in_an_answer(
    data: st.DataObject, answer: dict[str, Any], new: object
) -> None:
    """
    Whatever stands at one place of an answer, everything can be read and the JSON comes back.
    """
    path = data.draw(st.sampled_from(list(places_in(answer))))
    odd = replaced(answer, path, new)
    response = ChatCompletionsResponse.from_dict(odd)

    read_everything(response)
    assert response.to_dict() == odd


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": None}, {"choices": [None]}])
def test_an_answer_with_nothing_in_it(answer: dict[str, Any]) -> None:
    """
    An answer without choices reads as empty.
    """
    response = ChatCompletionsResponse.from_dict(answer)

    assert answer_of(response) == Answer(finish_reason=None)
    assert response.usage is None


def test_a_missing_value_anywhere_in_an_answer() -> None:
    """
    Whatever is missing in an answer, everything else can be read.
    """
    for answer in (WHOLE, SEED):
        for path in places_in(answer):
            lacking = json.loads(compact(answer))
            holder = lacking
            for key in path[:-1]:
                holder = holder[key]
            del holder[path[-1]]
            read_everything(ChatCompletionsResponse.from_dict(lacking))


# -- messages that go back ----------------------------------------------------------------------

CALL = whole_call(("t1", "get_weather", CITY))
RECORD = whole_call(("s1", "phaseo_web_search", "{}"))

PARAMS = {
    "text": (message("Hi"), {"role": "assistant", "content": "Hi"}),
    "what is null is left out": (
        message(None, refusal=None, reasoning_content=None, tool_calls=[CALL]),
        {"role": "assistant", "tool_calls": [CALL]},
    ),
    "no content at all": (
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [CALL]},
    ),
    "content beside calls": (
        message("", tool_calls=[CALL]),
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
    ),
    "content as parts": (
        message(
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "Hel"},
                {"type": "text", "text": "lo"},
            ]
        ),
        {"role": "assistant", "content": "Hello"},
    ),
    "the gateway's own calls": (
        message("Hi", tool_calls=[RECORD, CALL]),
        {"role": "assistant", "content": "Hi", "tool_calls": [CALL]},
    ),
    "nothing but the gateway's own calls": (
        message("Hi", tool_calls=[RECORD]),
        {"role": "assistant", "content": "Hi"},
    ),
    "no calls": (message("Hi", tool_calls=[]), {"role": "assistant", "content": "Hi"}),
    "thought": (
        message("Hi", reasoning_content="hm"),
        {"role": "assistant", "content": "Hi", "reasoning_content": "hm"},
    ),
    "an index": (
        message("", tool_calls=[{"index": 0, **CALL}]),
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
    ),
}


@pytest.mark.parametrize("case", PARAMS)
def test_a_message_as_a_request_takes_it(case: str) -> None:
    """
    A message that came back leaves out what the gateway refuses, and keeps the rest.
    """
    came, goes = PARAMS[case]
    view = Message.from_dict(came)
    before = view.to_dict()

    assert view.to_param() == goes
    assert view.to_dict() == before


@shapes(STREAMS)
def test_the_message_of_a_stream_goes_back_as_it_is(shape: Shape) -> None:
    """
    A streamed answer's message is a request's: a string for content, and whole calls of its own.
    """
    response = read(shape.body()).response
    assert response is not None
    goes = response.message.to_param()

    assert goes["role"] == "assistant"
    assert goes.get("content", "") == shape.answer.text
    assert None not in goes.values()
    for call in goes.get("tool_calls", []):
        assert set(call) == {"id", "type", "function"}
        assert call["type"] == "function"
        assert set(call["function"]) == {"name", "arguments"}
    assert "tool_calls" not in goes or goes["tool_calls"]
