"""
The streams that one client meets, and the answer that each of them carries.

The gateway passes on what the provider behind it sends, so the same answer arrives in many shapes:
paths A to E of the newer gateway, and those of its older version ("seed"). What a shape should come
out as is written by hand beside it. Shapes that share an `Answer` say the same thing differently.
"""

from __future__ import annotations

import json
from typing import Any

import attrs

#: One frame: the JSON of its `data:` line, or, as a string, its lines as they stand.
Frame = dict[str, Any] | str

#: Id, name and arguments of a tool call.
Call = tuple[str, str, str]

DONE = "data: [DONE]"


@attrs.frozen
class Answer:
    """
    What a caller should read in the assembled response.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[Call, ...] = ()
    server_tool_calls: tuple[Call, ...] = ()
    refusal: str | None = None
    finish_reason: str | None = "stop"


@attrs.frozen
class Failure:
    """
    How a stream fails: it is cut off, or an error was *reported* in it.
    """

    reported: bool = True
    #: What the report says, and its code; `None` where the frames leave it open.
    message: str | None = None
    code: str | None = None


@attrs.frozen
class Shape:
    """
    One stream: its *frames*, the *answer* in them, and how it fails, if it does.
    """

    name: str
    frames: tuple[Frame, ...]
    answer: Answer
    #: Prompt, completion and total tokens; `None` where the stream has no usage.
    usage: tuple[int | None, int | None, int | None] | None = None
    #: The text of every choice, where there are several.
    texts: tuple[str, ...] | None = None
    #: The new text of all chunks, joined, where it is not the answer's text.
    streamed: str | None = None
    failure: Failure | None = None

    @property
    def complete(self) -> bool:
        """
        The stream ends properly.
        """
        return self.failure is None

    @property
    def delivered(self) -> str:
        """
        The text that a reader of the chunks has seen when the stream is over.
        """
        return self.answer.text if self.streamed is None else self.streamed

    def body(self, newline: str = "\n") -> bytes:
        """
        The stream as it is on the wire.
        """
        return body_of(*self.frames, newline=newline)


def compact(value: object) -> str:
    """
    JSON with no spaces and with its letters as they are, as the gateway writes it.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def lines(frame: Frame) -> list[str]:
    """
    The lines of one frame, without the blank one that ends it.
    """
    return frame.split("\n") if isinstance(frame, str) else [f"data: {compact(frame)}"]


def wire(frame: Frame, newline: str = "\n") -> bytes:
    """
    One frame's bytes, with the blank line that ends it.
    """
    return (newline.join(lines(frame)) + newline * 2).encode()


def body_of(*frames: Frame, newline: str = "\n") -> bytes:
    """
    The bytes of a stream of these frames.
    """
    return b"".join(wire(frame, newline) for frame in frames)


# -- the parts that frames are made of ---------------------------------------------------------


def choice(
    delta: object = None, finish: str | None = None, *, index: int = 0, **more: object
) -> dict[str, Any]:
    """
    One choice of a chunk.
    """
    return {"index": index, "delta": delta, "finish_reason": finish, **more}


def frame(*choices: dict[str, Any], **more: object) -> dict[str, Any]:
    """
    One chunk, with the keys that every path sends.
    """
    head = {"id": "G-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": list(choices), **more}


def chunk(
    delta: object = None, finish: str | None = None, *, index: int = 0, **more: object
) -> dict[str, Any]:
    """
    A chunk with one choice; *more* stands at the top.
    """
    return frame(choice(delta, finish, index=index), **more)


def fragment(
    arguments: str | None = None, *, name: str | None = None, **head: object
) -> dict[str, Any]:
    """
    One entry of a delta's `tool_calls`; what is `None` is not there.
    """
    function = {"name": name, "arguments": arguments}
    call = {"type": "function", **head}
    return {
        **{key: value for key, value in call.items() if value is not None},
        "function": {key: value for key, value in function.items() if value is not None},
    }


def calling(*fragments: dict[str, Any], finish: str | None = None, **more: object) -> Frame:
    """
    A chunk with fragments of tool calls.
    """
    return frame(choice({"tool_calls": list(fragments)}, finish), **more)


def whole_call(call: Call) -> dict[str, Any]:
    """
    A tool call as a whole message has it: with no `index`.
    """
    call_id, name, arguments = call
    return fragment(arguments, id=call_id, name=name)


def message(content: object = "", **more: object) -> dict[str, Any]:
    """
    An assistant's message.
    """
    return {"role": "assistant", "content": content, **more}


def snapshot(
    *messages: dict[str, Any],
    finish: str | None = "stop",
    marks: tuple[bool | None, ...] = (),
    **more: object,
) -> dict[str, Any]:
    """
    The frame that repeats the whole completion; *marks* are the older gateway's `reasoning`.
    """
    choices: list[dict[str, Any]] = []
    for index, content in enumerate(messages):
        entry: dict[str, Any] = {"index": index, "message": content, "finish_reason": finish}
        if index < len(marks) and marks[index] is not None:
            entry["reasoning"] = marks[index]
        choices.append(entry)
    head = {"id": "G-1", "object": "chat.completion", "created": 1, "model": "org/m"}
    return {**head, "choices": choices, **more}


def tokens(prompt: int, completion: int) -> dict[str, int]:
    """
    A `usage` block as the newer gateway spells it.
    """
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def seed_tokens(prompt: int, completion: int) -> dict[str, int]:
    """
    A `usage` block as the older gateway spells it.
    """
    return {
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
    }


def raw(kind: str, **more: object) -> dict[str, Any]:
    """
    One of Anthropic's own frames, as the older gateway passed it on.
    """
    return {"type": kind, **more, "id": "G-1"}


def block(index: int, **delta: object) -> dict[str, Any]:
    """
    One of Anthropic's own deltas.
    """
    return raw("content_block_delta", index=index, delta=delta)


def opened(index: int, **content: object) -> dict[str, Any]:
    """
    The frame that opens one of Anthropic's content blocks.
    """
    return raw("content_block_start", index=index, content_block=content)


def closed(index: int) -> dict[str, Any]:
    """
    The frame that closes one of Anthropic's content blocks.
    """
    return raw("content_block_stop", index=index)


# -- the answers -------------------------------------------------------------------------------

HELLO = "Hello, Zoë 👋"
HELLO_CUT = ("Hel", "lo, Zoë", " 👋")
THINK = "Greet her."
THINK_CUT = ("Greet", " her.")
CITY = '{"city":"Tromsø"}'
CITY_CUT = ('{"ci', 'ty":"Tro', 'msø"}')
ZONE = '{"zone":"CET"}'

WEATHER_CALL = ("t1", "get_weather", CITY)
TIME_CALL = ("t2", "get_time", ZONE)
SEARCHED = ("s1", "phaseo_web_search", '{"query":"Tromsø"}')
ADVISED = ("s2", "phaseo_advisor_lawyer", "{}")
DATED = ("s3", "gateway_datetime", "{}")

GREETING = Answer(text=HELLO)
THOUGHT = Answer(text=HELLO, reasoning=THINK)
CUT_SHORT = Answer(text="Hello, Z", finish_reason="length")
WEATHER = Answer(tool_calls=(WEATHER_CALL,), finish_reason="tool_calls")
WEATHER_STOP = Answer(tool_calls=(WEATHER_CALL,))
TWO_CALLS = Answer(tool_calls=(WEATHER_CALL, TIME_CALL), finish_reason="tool_calls")
TEXT_AND_CALL = Answer(text="Let me look.", tool_calls=(WEATHER_CALL,), finish_reason="tool_calls")
REFUSAL = Answer(refusal="I can't help with that.")
PING = Answer(tool_calls=(("t1", "ping", "{}"),), finish_reason="tool_calls")
SERVED = Answer(text=HELLO, server_tool_calls=(SEARCHED,))
SERVED_AND_CALL = Answer(
    tool_calls=(WEATHER_CALL,), server_tool_calls=(SEARCHED,), finish_reason="tool_calls"
)
NOTHING = Answer(finish_reason=None)

USAGE = tokens(11, 4)
SEED_USAGE = seed_tokens(11, 4)
COUNTED = (11, 4, 15)

META = {"throughput_tps": 61.2, "generation_ms": 812, "routing": {"selected_provider": "anthropic"}}


def token(text: str, logprob: float) -> dict[str, Any]:
    """
    The probability of one token.
    """
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}


HI_TOKENS = [token("H", -0.1), token("i", -0.2), token("!", -0.3)]

# -- path A: OpenAI, with no `reasoning` in the request ---------------------------------------

A_ROLE = chunk({"role": "assistant", "content": "", "refusal": None}, usage=None)
A_TEXT = tuple(chunk({"content": cut}, usage=None) for cut in HELLO_CUT)
A_STOP = chunk({}, "stop", usage=None)
A_CALLED = chunk({}, "tool_calls", usage=None)
A_USAGE = frame(usage=USAGE)
A_CALL = (
    calling(fragment("", id="t1", name="get_weather", index=0)),
    *(calling(fragment(cut, index=0, type=None)) for cut in CITY_CUT),
)

CITATIONS = [
    {"type": "url_citation", "url_citation": {"url": f"https://example.com/{page}"}}
    for page in (1, 2)
]
BREAKS = "one\u2028two\u2029three\x85four\x0bfive\x0csix\x1cseven"

PATH_A = (
    Shape(
        "A greeting",
        (
            chunk({"role": "assistant", "content": "", "refusal": None}, nativeResponseId="c-1"),
            *A_TEXT,
            A_STOP,
            A_USAGE,
            DONE,
        ),
        GREETING,
        usage=COUNTED,
    ),
    Shape(
        "A usage on the stop chunk",
        (A_ROLE, *A_TEXT, chunk({}, "stop", usage=USAGE), DONE),
        GREETING,
        usage=COUNTED,
    ),
    Shape(
        "A usage on the last text chunk, null after it",
        (A_ROLE, *A_TEXT[:2], chunk({"content": " 👋"}, usage=USAGE), A_STOP, DONE),
        GREETING,
        usage=COUNTED,
    ),
    Shape("A no usage", (A_ROLE, *A_TEXT, A_STOP, DONE), GREETING),
    Shape("A no [DONE]", (A_ROLE, *A_TEXT, A_STOP, A_USAGE), GREETING, usage=COUNTED),
    Shape(
        "A [DONE] and no finish_reason",
        (A_ROLE, *A_TEXT, DONE),
        attrs.evolve(GREETING, finish_reason=None),
    ),
    Shape(
        "A chunk without choices first",
        (frame(prompt_filter_results=[]), A_ROLE, *A_TEXT, A_STOP, A_USAGE, DONE),
        GREETING,
        usage=COUNTED,
    ),
    Shape(
        "A usage chunk first",
        (A_USAGE, A_ROLE, *A_TEXT, A_STOP, DONE),
        GREETING,
        usage=COUNTED,
    ),
    Shape(
        "A text on the stop chunk",
        (A_ROLE, *A_TEXT[:2], chunk({"content": " 👋"}, "stop"), DONE),
        GREETING,
    ),
    Shape(
        "A keys that ride along",
        (
            A_ROLE,
            *(
                chunk(
                    {"content": cut},
                    obfuscation="aX9",
                    service_tier="default",
                    system_fingerprint="fp_1",
                    error=None,
                )
                for cut in HELLO_CUT
            ),
            A_STOP,
            DONE,
        ),
        GREETING,
    ),
    Shape(
        "A deltas null, missing and empty, content null",
        (
            chunk(None),
            A_TEXT[0],
            frame({"index": 0, "finish_reason": None}),
            A_TEXT[1],
            chunk({"content": None}),
            A_TEXT[2],
            chunk(None, "stop"),
            DONE,
        ),
        GREETING,
    ),
    Shape(
        "A choices without index",
        (
            *(frame({"delta": {"content": cut}}) for cut in HELLO_CUT),
            frame({"delta": {}, "finish_reason": "stop"}),
            DONE,
        ),
        GREETING,
    ),
    Shape(
        "A choices null, choices missing, unknown objects",
        (
            A_ROLE,
            {"id": "G-1", "object": "gateway.progress", "percent": 50},
            A_TEXT[0],
            {"id": "G-1", "object": "chat.completion.chunk", "choices": None},
            *A_TEXT[1:],
            A_STOP,
            DONE,
        ),
        GREETING,
    ),
    Shape(
        "A text that a line splitter would cut",
        (chunk({"content": BREAKS}), A_STOP),
        Answer(BREAKS),
    ),
    Shape(
        "A length",
        (A_ROLE, chunk({"content": "Hello, Z"}), chunk({}, "length"), A_USAGE, DONE),
        CUT_SHORT,
        usage=COUNTED,
    ),
    Shape(
        "A content filter, no text",
        (A_ROLE, chunk({}, "content_filter"), DONE),
        Answer(finish_reason="content_filter"),
    ),
    Shape(
        "A a finish_reason nobody knows",
        (A_ROLE, *A_TEXT, chunk({}, "eos_token"), DONE),
        attrs.evolve(GREETING, finish_reason="eos_token"),
    ),
    Shape("A call", (A_ROLE, *A_CALL, A_CALLED, A_USAGE, DONE), WEATHER, usage=COUNTED),
    Shape(
        "A call, its last fragment on the stop chunk",
        (*A_CALL[:3], calling(fragment(CITY_CUT[2], index=0, type=None), finish="tool_calls")),
        WEATHER,
    ),
    Shape(
        "A two calls, one after the other",
        (
            A_ROLE,
            *A_CALL,
            calling(fragment("", id="t2", name="get_time", index=1)),
            calling(fragment('{"zone":', index=1, type=None)),
            calling(fragment('"CET"}', index=1, type=None)),
            A_CALLED,
            DONE,
        ),
        TWO_CALLS,
    ),
    Shape(
        "A two calls, interleaved",
        (
            calling(
                fragment("", id="t1", name="get_weather", index=0),
                fragment("", id="t2", name="get_time", index=1),
            ),
            calling(fragment('{"ci', index=0, type=None), fragment('{"zo', index=1, type=None)),
            calling(fragment('ne":"CET"}', index=1, type=None)),
            calling(fragment('ty":"Tromsø"}', index=0, type=None)),
            A_CALLED,
            DONE,
        ),
        TWO_CALLS,
    ),
    Shape(
        "A text and a call",
        (
            A_ROLE,
            chunk({"content": "Let me "}),
            chunk({"content": "look."}),
            *A_CALL,
            A_CALLED,
            DONE,
        ),
        TEXT_AND_CALL,
    ),
    Shape(
        "A refusal",
        (
            A_ROLE,
            chunk({"refusal": "I can't help"}),
            chunk({"refusal": " with that."}),
            A_STOP,
            DONE,
        ),
        REFUSAL,
    ),
    Shape(
        "A n = 2",
        (
            chunk({"role": "assistant", "content": ""}),
            chunk({"role": "assistant", "content": ""}, index=1),
            chunk({"content": "Hel"}),
            chunk({"content": "Good "}, index=1),
            chunk({"content": "lo, Zoë"}),
            chunk({"content": "day."}, index=1),
            chunk({}, "length", index=1),
            chunk({"content": " 👋"}),
            chunk({}, "stop"),
            A_USAGE,
            DONE,
        ),
        GREETING,
        usage=COUNTED,
        texts=(HELLO, "Good day."),
    ),
    Shape(
        "A n = 2, the second choice speaks first",
        (
            chunk({"role": "assistant", "content": ""}, nativeResponseId="c-1"),
            chunk({"role": "assistant", "content": ""}, index=1, nativeResponseId="c-1"),
            chunk({"content": "Good day."}, index=1, nativeResponseId="c-1"),
            chunk({"content": HELLO}, nativeResponseId="c-1"),
            chunk({}, "stop", index=1, nativeResponseId="c-1"),
            chunk({}, "stop", nativeResponseId="c-1"),
            DONE,
        ),
        GREETING,
        texts=(HELLO, "Good day."),
    ),
    Shape(
        "A n = 2, the second choice speaks first, no sign of the gateway's age",
        (
            chunk({"role": "assistant", "content": ""}),
            chunk({"role": "assistant", "content": ""}, index=1),
            chunk({"content": "Good day."}, index=1),
            chunk({"content": HELLO}),
            chunk({}, "stop", index=1),
            chunk({}, "stop"),
            A_USAGE,
            DONE,
        ),
        GREETING,
        usage=COUNTED,
        texts=(HELLO, "Good day."),
    ),
    Shape(
        "A n = 2, both in one chunk",
        (
            frame(choice({"content": "Hello, "}), choice({"content": "Good "}, index=1)),
            frame(choice({"content": "Zoë 👋"}), choice({"content": "day."}, index=1)),
            frame(choice({}, "stop"), choice({}, "stop", index=1)),
            DONE,
        ),
        GREETING,
        texts=(HELLO, "Good day."),
    ),
    Shape(
        "A logprobs",
        (
            frame(choice({"content": ""}, logprobs=None)),
            frame(choice({"content": "H"}, logprobs={"content": HI_TOKENS[:1], "refusal": None})),
            frame(choice({"content": "i!"}, logprobs={"content": HI_TOKENS[1:], "refusal": None})),
            frame(choice({}, "stop", logprobs=None)),
            DONE,
        ),
        Answer(text="Hi!"),
    ),
    Shape(
        "A citations, and keys nobody knows",
        (
            A_ROLE,
            chunk({"content": "Hel", "annotations": CITATIONS[:1], "mood": "merry"}),
            chunk({"content": "lo, Zoë 👋", "annotations": CITATIONS[1:]}),
            chunk({}, "stop", citations=["https://example.com/1"]),
            DONE,
        ),
        GREETING,
    ),
    Shape(
        "A meta beside usage",
        (A_ROLE, *A_TEXT, A_STOP, frame(usage=USAGE, meta={"routing": META["routing"]}), DONE),
        GREETING,
        usage=COUNTED,
    ),
)

# -- path B: Anthropic, OpenAI with `reasoning`, and whatever speaks Responses -----------------


def b_chunk(**delta: object) -> dict[str, Any]:
    """
    A chunk of path B: the role on every delta, and never a finish_reason.
    """
    return chunk({"role": "assistant", **delta})


def b_call(arguments: str, call: Call = WEATHER_CALL, index: int = 0) -> dict[str, Any]:
    """
    A chunk of path B that repeats a call, with all of its arguments so far.
    """
    return b_chunk(tool_calls=[fragment(arguments, id=call[0], name=call[1], index=index)])


B_TEXT = tuple(b_chunk(content=cut) for cut in HELLO_CUT)
B_THINK = tuple(b_chunk(reasoning_content=cut) for cut in THINK_CUT)
B_CALL = (b_call(""), b_call(CITY[:4]), b_call(CITY[:12]), b_call(CITY), b_call(CITY), b_call(CITY))
B_CALLED = snapshot(
    message(tool_calls=[whole_call(WEATHER_CALL)]), finish="tool_calls", usage=USAGE
)

PATH_B = (
    Shape(
        "B greeting",
        (*B_TEXT, snapshot(message(HELLO, tool_calls=[]), usage=USAGE, meta=META)),
        GREETING,
        usage=COUNTED,
    ),
    Shape(
        "B thought and text",
        (
            *B_THINK,
            *B_TEXT,
            snapshot(message(HELLO, reasoning_content=THINK, tool_calls=[]), usage=USAGE),
        ),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape("B nothing but the snapshot", (snapshot(message(HELLO)),), GREETING),
    Shape(
        "B thought streamed, text only in the snapshot",
        (*B_THINK, snapshot(message(HELLO, reasoning_content=THINK))),
        THOUGHT,
    ),
    Shape("B snapshot, then [DONE]", (*B_TEXT, snapshot(message(HELLO)), DONE), GREETING),
    Shape(
        "B usage after the snapshot",
        (*B_TEXT, snapshot(message(HELLO)), frame(usage=USAGE)),
        GREETING,
        usage=COUNTED,
    ),
    Shape(
        "B length, as Anthropic has it",
        (
            b_chunk(content="Hello"),
            b_chunk(content=", Z"),
            snapshot(message("Hello, Z"), finish="length", usage=USAGE),
        ),
        CUT_SHORT,
        usage=COUNTED,
    ),
    Shape("B call, cumulative, its end three times", (*B_CALL, B_CALLED), WEATHER, usage=COUNTED),
    Shape(
        "B call, its end twice",
        (*B_CALL[:-1], B_CALLED),
        WEATHER,
        usage=COUNTED,
    ),
    Shape("B call only in the snapshot", (b_chunk(content=""), B_CALLED), WEATHER, usage=COUNTED),
    Shape(
        "B two calls",
        (
            b_call(""),
            b_call(CITY),
            b_call(CITY),
            b_call("", TIME_CALL, 1),
            b_call(ZONE[:6], TIME_CALL, 1),
            b_call(ZONE, TIME_CALL, 1),
            b_call(ZONE, TIME_CALL, 1),
            snapshot(
                message(tool_calls=[whole_call(WEATHER_CALL), whole_call(TIME_CALL)]),
                finish="tool_calls",
            ),
        ),
        TWO_CALLS,
    ),
    Shape(
        "B a call that wants nothing",
        (
            b_call("", ("t1", "ping", "")),
            *(b_call("{}", ("t1", "ping", "")) for _ in range(3)),
            snapshot(message(tool_calls=[whole_call(("t1", "ping", "{}"))]), finish="tool_calls"),
        ),
        PING,
    ),
    Shape(
        "B text and a call",
        (
            b_chunk(content="Let me look."),
            *B_CALL,
            snapshot(
                message("Let me look.", tool_calls=[whole_call(WEATHER_CALL)]), finish="tool_calls"
            ),
        ),
        TEXT_AND_CALL,
    ),
    Shape(
        "B refusal, only in the snapshot",
        (b_chunk(), snapshot(message(refusal=REFUSAL.refusal, tool_calls=[]))),
        REFUSAL,
    ),
    Shape(
        "B logprobs as a list",
        (
            frame(choice({"role": "assistant", "content": "H"}, logprobs=HI_TOKENS[:1])),
            frame(choice({"role": "assistant", "content": "i!"}, logprobs=HI_TOKENS[1:])),
            frame(choice({"role": "assistant"}, logprobs=[])),
            snapshot(message("Hi!")),
        ),
        Answer(text="Hi!"),
    ),
    Shape(
        "B n = 2",
        (
            chunk({"role": "assistant", "content": "Hello, "}),
            chunk({"role": "assistant", "content": "Good "}, index=1),
            chunk({"role": "assistant", "content": "Zoë 👋"}),
            chunk({"role": "assistant", "content": "day."}, index=1),
            snapshot(message(HELLO), message("Good day.")),
        ),
        GREETING,
        texts=(HELLO, "Good day."),
    ),
)

# -- path C: other providers that speak OpenAI's language, [DONE] swallowed -------------------

C_THINK = tuple(chunk({"reasoning_content": cut, "content": None}) for cut in THINK_CUT)
C_TEXT = tuple(chunk({"content": cut, "reasoning_content": None}) for cut in HELLO_CUT)
C_STOP = chunk({"content": ""}, "stop", usage=USAGE)


def c_stop(finish: str = "stop", **message: object) -> dict[str, Any]:
    """
    A stop chunk of path C that has a message beside its delta.
    """
    beside = {"role": "assistant", **message}
    return frame(choice({"content": ""}, finish, message=beside), usage=USAGE)


PATH_C = (
    Shape("C thought in reasoning_content", (*C_THINK, *C_TEXT, C_STOP), THOUGHT, usage=COUNTED),
    Shape(
        "C thought in reasoning",
        (*(chunk({"reasoning": cut, "content": ""}) for cut in THINK_CUT), *C_TEXT, C_STOP),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape(
        "C thought in reasoning, reasoning_content null",
        (
            *(chunk({"reasoning": cut, "reasoning_content": None}) for cut in THINK_CUT),
            *C_TEXT,
            C_STOP,
        ),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape(
        "C thought in both",
        (
            *(chunk({"reasoning": cut, "reasoning_content": cut}) for cut in THINK_CUT),
            *C_TEXT,
            C_STOP,
        ),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape(
        "C thought in reasoning_details alone",
        (
            *(
                chunk({"reasoning_details": [{"index": 0, "type": "text", "text": cut}]})
                for cut in THINK_CUT
            ),
            *C_TEXT,
            C_STOP,
        ),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape(
        "C thought in all three",
        (
            *(
                chunk(
                    {
                        "reasoning": cut,
                        "reasoning_content": cut,
                        "reasoning_details": [{"index": 0, "type": "text", "text": cut}],
                    }
                )
                for cut in THINK_CUT
            ),
            *C_TEXT,
            C_STOP,
        ),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape(
        "C thought and text in one chunk",
        (chunk({"reasoning_content": THINK, "content": HELLO}), C_STOP),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape(
        "C content as a list of parts",
        (
            *(
                chunk(
                    {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": cut}]}]}
                )
                for cut in THINK_CUT
            ),
            chunk({"content": [{"type": "text", "text": "Hello, "}]}),
            chunk({"content": "Zoë 👋"}),
            C_STOP,
        ),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape(
        "C content as one list with thought and text",
        (
            chunk(
                {
                    "content": [
                        {
                            "type": "thinking",
                            "thinking": [{"type": "text", "text": cut} for cut in THINK_CUT],
                        },
                        {"type": "text", "text": "Hello, "},
                        {"type": "text", "text": "Zoë 👋"},
                    ]
                }
            ),
            C_STOP,
        ),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape(
        "C stop chunk repeats the thought",
        (*C_THINK, *C_TEXT, c_stop(content="", reasoning_content=THINK)),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape(
        "C stop chunk repeats the thought, and has no content key",
        (*C_THINK, *C_TEXT, c_stop(reasoning_content=THINK)),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape(
        "C stop chunk repeats thought and text",
        (*C_THINK, *C_TEXT, c_stop(content=HELLO, reasoning_content=THINK)),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape(
        "C thought only in the stop chunk's message",
        (*C_TEXT, c_stop(content="", reasoning_content=THINK)),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape(
        "C text only in the stop chunk's message",
        (*C_THINK, c_stop(content=HELLO, reasoning_content=THINK)),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape(
        "C call, incremental",
        (*A_CALL, chunk({}, "tool_calls"), frame(usage=USAGE)),
        WEATHER,
        usage=COUNTED,
    ),
    Shape(
        "C call, repeated in the stop chunk's message",
        (*A_CALL, c_stop("tool_calls", content="", tool_calls=[whole_call(WEATHER_CALL)])),
        WEATHER,
        usage=COUNTED,
    ),
    Shape(
        "C call only in the stop chunk's message",
        (c_stop("tool_calls", content="", tool_calls=[whole_call(WEATHER_CALL)]),),
        WEATHER,
        usage=COUNTED,
    ),
    Shape(
        "C call with null id and name after its first fragment",
        (
            A_CALL[0],
            *(
                chunk(
                    {
                        "tool_calls": [
                            {"index": 0, "id": None, "function": {"name": None, "arguments": cut}}
                        ]
                    }
                )
                for cut in CITY_CUT
            ),
            A_CALLED,
        ),
        WEATHER,
    ),
    Shape(
        "C call with empty id and name after its first fragment",
        (
            A_CALL[0],
            *(calling(fragment(cut, id="", name="", index=0)) for cut in CITY_CUT),
            A_CALLED,
        ),
        WEATHER,
    ),
    Shape(
        "C call without index",
        (
            calling(fragment("", id="t1", name="get_weather")),
            *(calling(fragment(cut, type=None)) for cut in CITY_CUT),
            A_CALLED,
        ),
        WEATHER,
    ),
    Shape(
        "C two calls without index, incremental",
        (
            calling(fragment("", id="t1", name="get_weather")),
            *(calling(fragment(cut, type=None)) for cut in CITY_CUT),
            calling(fragment("", id="t2", name="get_time")),
            calling(fragment(ZONE[:5], type=None)),
            calling(fragment(ZONE[5:], type=None)),
            A_CALLED,
        ),
        TWO_CALLS,
    ),
    Shape(
        "C call whole, with no type",
        (
            calling(
                fragment(CITY, id="t1", name="get_weather", index=0, type=None),
                finish="tool_calls",
                usage=USAGE,
            ),
        ),
        WEATHER,
        usage=COUNTED,
    ),
    Shape(
        "C two calls whole, in one delta",
        (
            calling(
                fragment(CITY, id="t1", name="get_weather", index=0, type=None),
                fragment(ZONE, id="t2", name="get_time", index=1, type=None),
                finish="tool_calls",
            ),
        ),
        TWO_CALLS,
    ),
    Shape(
        "C two calls whole, without index",
        (
            calling(
                fragment(CITY, id="t1", name="get_weather", type=None),
                fragment(ZONE, id="t2", name="get_time", type=None),
            ),
            A_CALLED,
        ),
        TWO_CALLS,
    ),
    Shape(
        "C two calls whole, both with index 0",
        (
            calling(fragment(CITY, id="t1", name="get_weather", index=0)),
            calling(fragment(ZONE, id="t2", name="get_time", index=0)),
            A_CALLED,
        ),
        TWO_CALLS,
    ),
    Shape(
        "C two calls on one index, incremental",
        (
            *A_CALL,
            calling(fragment("", id="t2", name="get_time", index=0)),
            calling(fragment(ZONE[:5], index=0, type=None)),
            calling(fragment(ZONE[5:], index=0, type=None)),
            A_CALLED,
        ),
        TWO_CALLS,
    ),
)

# -- path D: Gemini by Vertex -------------------------------------------------------------------


def d_call(arguments: str, name: str | None = None) -> Frame:
    """
    A chunk of path D: an id on every fragment, the name only where one begins.
    """
    return calling(fragment(arguments, id="t1", name=name, index=0))


D_CALL = (d_call(CITY_CUT[0], "get_weather"), d_call(CITY_CUT[1]), d_call(CITY_CUT[2]))
D_TEXT = tuple(
    chunk({"content": cut}, usage=tokens(11, count)) for count, cut in enumerate(HELLO_CUT, 1)
)
IMAGES = [
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    for data in ("AAAA", "BBBB")
]
SAME_ID = Answer(
    tool_calls=(("t1", "get_weather", CITY), ("t1", "get_weather", '{"city":"Bodø"}')),
    finish_reason="stop",
)
SAME_ID_OTHER_NAME = Answer(
    tool_calls=(("t1", "get_weather", CITY), ("t1", "get_time", ZONE)), finish_reason="stop"
)

PATH_D = (
    Shape(
        "D greeting, usage on every chunk",
        (*D_TEXT, chunk({}, "stop", usage=USAGE), DONE),
        GREETING,
        usage=COUNTED,
    ),
    Shape(
        "D greeting, usage on every chunk but the last",
        (*D_TEXT, chunk({}, "stop", usage=None), frame(usage=None), DONE),
        GREETING,
        usage=(11, 3, 14),
    ),
    Shape(
        "D thought and text",
        (*(chunk({"reasoning_content": cut}) for cut in THINK_CUT), *D_TEXT, A_STOP, DONE),
        THOUGHT,
        usage=(11, 3, 14),
    ),
    Shape(
        "D images",
        (
            chunk({"content": HELLO, "images": IMAGES[:1]}),
            chunk({"images": IMAGES[1:]}),
            A_STOP,
            DONE,
        ),
        GREETING,
    ),
    Shape("D call", (*D_CALL, A_CALLED, DONE), WEATHER),
    Shape("D call, finished as stop", (*D_CALL, A_STOP, DONE), WEATHER_STOP),
    Shape("D call in one piece", (d_call(CITY, "get_weather"), A_STOP, DONE), WEATHER_STOP),
    Shape(
        "D call that begins empty",
        (d_call("", "get_weather"), *(d_call(cut) for cut in CITY_CUT), A_STOP, DONE),
        WEATHER_STOP,
    ),
    Shape(
        "D two calls of one function, two payloads, one id",
        (
            d_call(CITY, "get_weather"),
            d_call('{"city":"Bodø"}'),
            A_STOP,
            DONE,
        ),
        SAME_ID,
    ),
    Shape(
        "D two calls of one function, two payloads, one id, in fragments",
        (*D_CALL, d_call('{"ci'), d_call('ty":"Bodø"}'), A_STOP, DONE),
        SAME_ID,
    ),
    Shape(
        "D two calls of two functions, two payloads, one id",
        (d_call(CITY, "get_weather"), d_call(ZONE, "get_time"), A_STOP, DONE),
        SAME_ID_OTHER_NAME,
    ),
    Shape(
        "D two calls of two functions, two payloads, one id, in fragments",
        (*D_CALL, d_call(ZONE[:5], "get_time"), d_call(ZONE[5:]), A_STOP, DONE),
        SAME_ID_OTHER_NAME,
    ),
    Shape(
        "D two calls in one payload",
        (
            calling(
                fragment(CITY, id="t1", name="get_weather", index=0),
                fragment(ZONE, id="t2", name="get_time", index=1),
            ),
            A_CALLED,
            DONE,
        ),
        TWO_CALLS,
    ),
    Shape(
        "D a fragment that equals what is held",
        (d_call('{"a":', "f"), d_call('{"a":'), d_call("1}}"), A_STOP, DONE),
        Answer(tool_calls=(("t1", "f", '{"a":{"a":1}}'),)),
    ),
)

# -- path E: any server tool in the request, Gemini by AI Studio --------------------------------


def e_chunk(
    delta: object = None, finish: str | None = None, *, choices: bool = True, **more: object
) -> dict[str, Any]:
    """
    A later chunk of path E: it lacks `created` and `model`.
    """
    entries = [choice(delta, finish)] if choices else []
    return {"id": "G-1", "object": "chat.completion.chunk", "choices": entries, **more}


E_FIRST = frame()
E_ROLE = e_chunk({"role": "assistant"})
E_USAGE = e_chunk(choices=False, usage=USAGE)
E_STOP = e_chunk({}, "stop")
E_CALLED = e_chunk({}, "tool_calls")


def e_calls(*calls: Call) -> list[dict[str, Any]]:
    """
    Whole calls, counted from 0.
    """
    return [
        fragment(arguments, id=call_id, name=name, index=index)
        for index, (call_id, name, arguments) in enumerate(calls)
    ]


PATH_E = (
    Shape(
        "E greeting",
        (E_FIRST, E_ROLE, e_chunk({"content": HELLO}), E_USAGE, E_STOP, DONE),
        GREETING,
        usage=COUNTED,
    ),
    Shape(
        "E thought and text",
        (
            E_FIRST,
            E_ROLE,
            e_chunk({"reasoning_content": THINK}),
            e_chunk({"content": HELLO}),
            E_USAGE,
            E_STOP,
            DONE,
        ),
        THOUGHT,
        usage=COUNTED,
    ),
    Shape(
        "E call",
        (E_FIRST, e_chunk({"tool_calls": e_calls(WEATHER_CALL)}), E_USAGE, E_CALLED, DONE),
        WEATHER,
        usage=COUNTED,
    ),
    Shape(
        "E two calls",
        (E_FIRST, e_chunk({"tool_calls": e_calls(WEATHER_CALL, TIME_CALL)}), E_CALLED, DONE),
        TWO_CALLS,
    ),
    Shape(
        "E server tool and text",
        (
            E_FIRST,
            e_chunk({"content": HELLO}),
            e_chunk({"tool_calls": e_calls(SEARCHED)}),
            E_USAGE,
            E_STOP,
            DONE,
        ),
        SERVED,
        usage=COUNTED,
    ),
    Shape(
        "E server tool, then the client's own, counted anew",
        (
            E_FIRST,
            e_chunk({"tool_calls": [*e_calls(SEARCHED), *e_calls(WEATHER_CALL)]}),
            E_USAGE,
            E_CALLED,
            DONE,
        ),
        SERVED_AND_CALL,
        usage=COUNTED,
    ),
    Shape(
        "E server tool, then the client's own, in two deltas",
        (
            E_FIRST,
            e_chunk({"tool_calls": e_calls(SEARCHED)}),
            e_chunk({"tool_calls": e_calls(WEATHER_CALL)}),
            E_CALLED,
            DONE,
        ),
        SERVED_AND_CALL,
    ),
    Shape(
        "E several server tools, then two of the client's own",
        (
            E_FIRST,
            e_chunk(
                {
                    "tool_calls": [
                        *e_calls(SEARCHED, ADVISED, DATED),
                        *e_calls(WEATHER_CALL, TIME_CALL),
                    ]
                }
            ),
            E_CALLED,
            DONE,
        ),
        Answer(
            tool_calls=(WEATHER_CALL, TIME_CALL),
            server_tool_calls=(SEARCHED, ADVISED, DATED),
            finish_reason="tool_calls",
        ),
    ),
    Shape(
        "E both kinds asked for in one turn, neither done",
        (
            E_FIRST,
            e_chunk({"tool_calls": e_calls(WEATHER_CALL, SEARCHED)}),
            e_chunk(choices=False, usage={**USAGE, "server_tool_use": {}}),
            E_CALLED,
            DONE,
        ),
        SERVED_AND_CALL,
        usage=COUNTED,
    ),
)

# -- the older gateway --------------------------------------------------------------------------


def seed_chunk(
    content: str | None = None,
    *,
    index: int = 0,
    thought: bool | None = None,
    calls: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """
    A chunk as the older gateway made it: the choice is the number of the output item.
    """
    delta: dict[str, Any] = {"role": "assistant"}
    if content is not None:
        delta["content"] = content
    if calls is not None:
        delta["tool_calls"] = calls
    mark = {} if thought is None else {"reasoning": thought}
    return frame({"index": index, "delta": delta, "finish_reason": None, **mark})


def seed_call(arguments: str, name: str = "", item: int = 1) -> Frame:
    """
    A cumulative call as the older gateway made it: nameless until its end, and not counted.
    """
    return seed_chunk(calls=[fragment(arguments, id=f"fc_{item}", name=name)], index=item)


SEED_TEXT = tuple(seed_chunk(cut, thought=False) for cut in HELLO_CUT)

PATH_SEED = (
    Shape(
        "seed OpenAI greeting",
        (*SEED_TEXT, snapshot(message(HELLO), usage=SEED_USAGE)),
        GREETING,
        usage=COUNTED,
    ),
    Shape(
        "seed OpenAI thought as choice 0, text as choice 1",
        (
            *(seed_chunk(cut, thought=True) for cut in THINK_CUT),
            *(seed_chunk(cut, index=1, thought=False) for cut in HELLO_CUT),
            snapshot(message(THINK), message(HELLO), marks=(True, False)),
        ),
        THOUGHT,
    ),
    Shape(
        "seed OpenAI text streamed as choice 1, choice 0 of the snapshot",
        (
            *(seed_chunk(cut, index=1, thought=False) for cut in HELLO_CUT),
            snapshot(message(HELLO), usage=SEED_USAGE),
        ),
        GREETING,
        usage=COUNTED,
    ),
    Shape(
        "seed OpenAI call, nameless and cumulative",
        (
            seed_call(""),
            seed_call(CITY[:4]),
            seed_call(CITY[:12]),
            seed_call(CITY),
            seed_call(CITY, "get_weather"),
            snapshot(message(tool_calls=[whole_call(WEATHER_CALL)]), finish="tool_calls"),
        ),
        WEATHER,
    ),
    Shape(
        "seed OpenAI two calls, each a choice of its own",
        (
            seed_call(""),
            seed_call(CITY),
            seed_call(CITY, "get_weather"),
            seed_call("", item=2),
            seed_call(ZONE, "get_time", item=2),
            snapshot(
                message(tool_calls=[whole_call(WEATHER_CALL)]),
                message(tool_calls=[whole_call(TIME_CALL)]),
                finish="tool_calls",
                usage=SEED_USAGE,
            ),
        ),
        TWO_CALLS,
        usage=COUNTED,
    ),
    Shape(
        "seed OpenAI text, and a call as a choice of its own",
        (
            seed_chunk("Let me ", thought=False),
            seed_chunk("look.", thought=False),
            seed_call(""),
            seed_call(CITY, "get_weather"),
            snapshot(
                message("Let me look."),
                message(tool_calls=[whole_call(WEATHER_CALL)]),
                finish="tool_calls",
                marks=(False,),
            ),
        ),
        TEXT_AND_CALL,
    ),
    Shape(
        "seed Google thought streamed as text, told apart by the snapshot",
        (
            *(seed_chunk(cut) for cut in (*THINK_CUT, *HELLO_CUT)),
            snapshot(message(THINK), message(HELLO), marks=(True, None)),
        ),
        THOUGHT,
        streamed=THINK + HELLO,
    ),
    Shape(
        "seed Google calls only in the snapshot",
        (
            seed_chunk("Let me look."),
            snapshot(
                message("Let me look."),
                message(tool_calls=[whole_call(WEATHER_CALL)]),
                finish="tool_calls",
            ),
        ),
        TEXT_AND_CALL,
    ),
    Shape(
        "seed xAI, no finish_reason until the end",
        (
            *(frame({"index": 0, "delta": {"content": cut}}) for cut in HELLO_CUT),
            frame({"index": 0, "delta": {}, "finish_reason": "stop"}, usage=SEED_USAGE),
            DONE,
        ),
        GREETING,
        usage=COUNTED,
    ),
)

R_START = raw(
    "message_start",
    message={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "stop_reason": None,
    },
)
R_STOP = raw("message_stop")
R_TEXT = (
    opened(0, type="text", text=""),
    raw("ping"),
    *(block(0, type="text_delta", text=cut) for cut in HELLO_CUT),
    closed(0),
)


def r_finish(reason: str, **more: object) -> dict[str, Any]:
    """
    Anthropic's own frame with the reason why the model stopped.
    """
    return raw("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, **more)


R_CALL = (
    opened(0, type="tool_use", id="t1", name="get_weather", input={}),
    block(0, type="input_json_delta", partial_json=""),
    *(block(0, type="input_json_delta", partial_json=cut) for cut in CITY_CUT),
    closed(0),
)

PATH_RAW = (
    Shape("raw greeting", (R_START, *R_TEXT, r_finish("end_turn"), R_STOP), GREETING),
    Shape(
        "raw greeting with usage",
        (R_START, *R_TEXT, r_finish("end_turn", usage=SEED_USAGE), R_STOP),
        GREETING,
        usage=COUNTED,
    ),
    Shape("raw greeting, no message_stop", (R_START, *R_TEXT, r_finish("end_turn")), GREETING),
    Shape(
        "raw thought and text",
        (
            R_START,
            opened(0, type="thinking", thinking="", signature=""),
            *(block(0, type="thinking_delta", thinking=cut) for cut in THINK_CUT),
            block(0, type="signature_delta", signature="c2lnbmVk"),
            closed(0),
            opened(1, type="text", text=""),
            *(block(1, type="text_delta", text=cut) for cut in HELLO_CUT),
            closed(1),
            r_finish("end_turn"),
            R_STOP,
        ),
        THOUGHT,
    ),
    Shape("raw stop sequence", (R_START, *R_TEXT, r_finish("stop_sequence"), R_STOP), GREETING),
    Shape(
        "raw length",
        (
            R_START,
            opened(0, type="text", text=""),
            block(0, type="text_delta", text="Hello, Z"),
            closed(0),
            r_finish("max_tokens"),
            R_STOP,
        ),
        CUT_SHORT,
    ),
    Shape("raw call", (R_START, *R_CALL, r_finish("tool_use"), R_STOP), WEATHER),
    Shape(
        "raw text and two calls",
        (
            R_START,
            opened(0, type="text", text=""),
            block(0, type="text_delta", text="Let me look."),
            closed(0),
            opened(1, type="tool_use", id="t1", name="get_weather", input={}),
            *(block(1, type="input_json_delta", partial_json=cut) for cut in CITY_CUT),
            closed(1),
            opened(2, type="tool_use", id="t2", name="get_time", input={}),
            block(2, type="input_json_delta", partial_json=ZONE),
            closed(2),
            r_finish("tool_use"),
            R_STOP,
        ),
        attrs.evolve(TEXT_AND_CALL, tool_calls=(WEATHER_CALL, TIME_CALL)),
    ),
    Shape(
        "raw a stop_reason nobody knows",
        (R_START, *R_TEXT, r_finish("pause_turn"), R_STOP),
        attrs.evolve(GREETING, finish_reason="pause_turn"),
    ),
)

# -- streams that fail -------------------------------------------------------------------------

CUT_OFF = Failure(reported=False)
HEL = Answer(text="Hel", finish_reason=None)
DIED = Failure(message="stream_error")
GATEWAY_ERROR = {"object": "error", "message": "stream_error", "id": "G-1"}
PROVIDER_ERROR = {
    "error": {"message": "Overloaded", "type": "server_error", "code": "overloaded"},
    "id": "G-1",
}
OVERLOADED = Failure(message="Overloaded", code="overloaded")

INTERRUPTED = (
    Shape("interrupted: no frames at all", (), NOTHING, failure=CUT_OFF),
    Shape("interrupted: a comment and nothing else", (": hello",), NOTHING, failure=CUT_OFF),
    Shape("interrupted: [DONE] alone", (DONE,), NOTHING, failure=CUT_OFF),
    Shape("interrupted: one chunk without choices", (E_FIRST,), NOTHING, failure=CUT_OFF),
    Shape(
        "interrupted: usage and no choice",
        (A_USAGE,),
        NOTHING,
        usage=COUNTED,
        failure=CUT_OFF,
    ),
    Shape("interrupted: A after its text", (A_ROLE, A_TEXT[0]), HEL, failure=CUT_OFF),
    Shape(
        "interrupted: A after usage, without finish_reason",
        (A_ROLE, A_TEXT[0], A_USAGE),
        HEL,
        usage=COUNTED,
        failure=CUT_OFF,
    ),
    Shape(
        "interrupted: A in a call",
        A_CALL[:3],
        Answer(tool_calls=(("t1", "get_weather", CITY_CUT[0] + CITY_CUT[1]),), finish_reason=None),
        failure=CUT_OFF,
    ),
    Shape(
        "interrupted: A with n = 2, one choice finished",
        (
            frame(choice({"content": "Hel"}), choice({"content": "Good"}, index=1)),
            chunk({}, "stop", index=1),
        ),
        HEL,
        texts=("Hel", "Good"),
        failure=CUT_OFF,
    ),
    Shape("interrupted: B, its snapshot lost", B_TEXT[:1], HEL, failure=CUT_OFF),
    Shape(
        "interrupted: B in a call",
        B_CALL[:3],
        Answer(tool_calls=(("t1", "get_weather", CITY[:12]),), finish_reason=None),
        failure=CUT_OFF,
    ),
    Shape(
        "interrupted: B after a whole call",
        B_CALL,
        attrs.evolve(WEATHER, finish_reason=None),
        failure=CUT_OFF,
    ),
    Shape(
        "interrupted: seed OpenAI in a call, nameless",
        (seed_call(""), seed_call(CITY[:4]), seed_call(CITY[:12])),
        Answer(tool_calls=(("fc_1", "", CITY[:12]),), finish_reason=None),
        failure=CUT_OFF,
    ),
    Shape(
        "interrupted: seed OpenAI in its text",
        (seed_chunk(THINK, thought=True), seed_chunk("Hel", index=1, thought=False)),
        attrs.evolve(HEL, reasoning=THINK),
        failure=CUT_OFF,
    ),
    Shape(
        "interrupted: C in its thought",
        C_THINK,
        Answer(reasoning=THINK, finish_reason=None),
        failure=CUT_OFF,
    ),
    Shape(
        "interrupted: D after usage",
        D_TEXT[:1],
        HEL,
        usage=(11, 1, 12),
        failure=CUT_OFF,
    ),
    Shape(
        "interrupted: raw Anthropic",
        (R_START, *R_TEXT[:3]),
        HEL,
        failure=CUT_OFF,
    ),
    Shape(
        "interrupted: xAI, finish_reason missing",
        (frame({"index": 0, "delta": {"content": "Hel"}}),),
        HEL,
        failure=CUT_OFF,
    ),
)

REPORTED = (
    Shape("error: the gateway's", (A_TEXT[0], GATEWAY_ERROR), HEL, failure=DIED),
    Shape(
        "error: the gateway's, twice",
        (B_TEXT[0], GATEWAY_ERROR, GATEWAY_ERROR),
        HEL,
        failure=DIED,
    ),
    Shape("error: the gateway's, first of all", (GATEWAY_ERROR,), NOTHING, failure=DIED),
    Shape(
        "error: the older gateway's, nothing came from OpenAI",
        (
            seed_chunk("Hel", thought=False),
            {"object": "error", "message": "openai_stream_missing_completion", "id": "G-1"},
        ),
        HEL,
        failure=Failure(message="openai_stream_missing_completion"),
    ),
    Shape("error: the provider's", (A_TEXT[0], PROVIDER_ERROR), HEL, failure=OVERLOADED),
    Shape(
        "error: the provider's, then [DONE]",
        (A_TEXT[0], PROVIDER_ERROR, DONE),
        HEL,
        failure=OVERLOADED,
    ),
    Shape(
        "error: the provider's, with a number for a code",
        (A_TEXT[0], {"error": {"message": "Slow down", "code": 429}, "id": "G-1"}),
        HEL,
        failure=Failure(message="Slow down", code="429"),
    ),
    Shape(
        "error: the provider's, beside choices",
        (A_TEXT[0], chunk({"content": ""}, error={"message": "Overloaded", "code": "overloaded"})),
        HEL,
        failure=OVERLOADED,
    ),
    Shape(
        "error: the provider's, as a sentence",
        (A_TEXT[0], {"error": "The model broke down", "id": "G-1"}),
        HEL,
        failure=Failure(message="The model broke down"),
    ),
    Shape(
        "error: after a finish_reason, then [DONE]",
        (chunk({"content": "Hel"}), A_STOP, PROVIDER_ERROR, DONE),
        attrs.evolve(HEL, finish_reason="stop"),
        failure=OVERLOADED,
    ),
    Shape(
        "error: path D's, in two frames, after a finish_reason, then [DONE]",
        (D_TEXT[0], A_STOP, GATEWAY_ERROR, chunk({}, "error"), DONE),
        attrs.evolve(HEL, finish_reason="stop"),
        usage=(11, 1, 12),
        failure=DIED,
    ),
    Shape(
        "error: a finish_reason of error alone",
        (A_TEXT[0], chunk({}, "error"), DONE),
        attrs.evolve(HEL, finish_reason="error"),
        failure=Failure(),
    ),
    Shape(
        "error: after a snapshot",
        (snapshot(message("Hel")), GATEWAY_ERROR),
        attrs.evolve(HEL, finish_reason="stop"),
        failure=DIED,
    ),
    Shape(
        "error: raw Anthropic",
        (
            R_START,
            *R_TEXT[:3],
            raw("error", error={"type": "overloaded_error", "message": "Overloaded"}),
        ),
        HEL,
        failure=Failure(message="Overloaded", code="overloaded_error"),
    ),
    Shape(
        "error: by the name of its event",
        (A_TEXT[0], 'event: error\ndata: {"message":"Overloaded","code":"overloaded"}', DONE),
        HEL,
        failure=OVERLOADED,
    ),
    Shape(
        "error: by the name of its event, with an error in it",
        (A_TEXT[0], "event: error\ndata: " + compact(PROVIDER_ERROR)),
        HEL,
        failure=OVERLOADED,
    ),
)

#: Every stream that ends properly.
STREAMS = (*PATH_A, *PATH_B, *PATH_C, *PATH_D, *PATH_E, *PATH_SEED, *PATH_RAW)

#: Every stream that doesn't.
FAILURES = (*INTERRUPTED, *REPORTED)

#: The streams by their names.
SHAPES = {shape.name: shape for shape in (*STREAMS, *FAILURES)}
