"""
The rich display: everything that stands in it is shown, and nothing of it gets to be the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import completion

from aistats import (
    AIStatsError,
    Attempt,
    ChatCompletionsResponse,
    Outcome,
    Progress,
    StreamError,
    Timing,
)
from aistats import RateLimitError as RateLimited
from aistats._exchange import Exchange
from aistats._map.outcome import as_shown as rows_as_shown
from aistats._show.cards import (
    Rows,
    progress_figures,
    progress_html,
    run_html,
    stream_html,
)
from aistats._views.completion import as_shown
from aistats._views.usage import tokens_as_shown
from aistats.types import Usage

TAGS = {"bdi", "code", "details", "div", "em", "pre", "span", "strong", "summary"}
TABLE = {"table", "td", "th", "tr"}
MARKDOWN = {"a", "li", "ol", "ul"}
ATTRIBUTES = {"dir", "open", "style", "href", "rel", "start", "target"}

HOSTILE = (
    "<script>alert(1)</script></pre></div></details> &amp; & \" ' > <img src=x onerror=alert(1)> "
    "<style>*{display:none}</style> [here](javascript:alert(1)) ![x](http://evil.example/x.png) "
    "<a href=javascript:alert(1)>x</a> <!-- <![CDATA[ ]]> &#x3c;script&#x3e;"
)


class Page(HTMLParser):
    """
    A browser's view of a piece of HTML: its text, its tags and what they say.
    """

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(attrs)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        pytest.fail(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        pytest.fail(f"a declaration: {decl}")

    def unknown_decl(self, data: str) -> None:
        pytest.fail(f"a declaration: {data}")

    def handle_pi(self, data: str) -> None:
        pytest.fail(f"an instruction: {data}")


def page(source: str) -> Page:
    """
    *source* as a browser sees it, which is whole, and has no more in it than we put there.
    """
    seen = Page(source)
    assert seen.tags <= TAGS | TABLE | MARKDOWN
    assert {name for name, _ in seen.attributes} <= ATTRIBUTES
    for name, value in seen.attributes:
        assert name != "href" or re.fullmatch("https?://[!-~]+", value or "")
        assert name != "start" or (value or "").isdigit()
    ours = " ".join(value or "" for _, value in seen.attributes)
    assert not re.search(r"url\(|alert|javascript|evil|U\+|\\", ours)
    return seen


def answer(text: Any = "Hello there", exchange: Exchange | None = None, **message: Any) -> Any:
    """
    A response that says *text*, with more in its message.
    """
    wire = completion(usage={"prompt_tokens": 11, "completion_tokens": 1004, "cost": 0.00012345})
    wire["choices"][0]["message"] = {"role": "assistant", "content": text, **message}
    return ChatCompletionsResponse(wire, exchange)


def progress(**changes: Any) -> Progress:
    """
    A run on its way; *changes* replace its numbers.
    """
    numbers: dict[str, Any] = {
        "done": 6200,
        "failed": 12,
        "cached": 0,
        "total": 10000,
        "in_flight": 187,
        "concurrency": 200,
        "requests_per_second": 198.44,
        "tokens_per_second": 51234.5,
        "cost": Decimal("0.4213"),
        "eta": 3725.2,
        "p50": 0.412,
        "p95": 2.04,
        "throttled": 31,
        **changes,
    }
    return Progress(**numbers)


def outcome(index: int, text: str | None = None, error: Exception | None = None) -> Outcome:
    """
    What became of row *index*.
    """
    response = None if text is None else answer(text)
    return Outcome(index=index, key="k", row="row", request=None, response=response, error=error)


def listed(outcomes: Sequence[Outcome]) -> tuple[Rows, Rows]:
    """
    What a run shows of its failures and of its answers.
    """
    failures = [each for each in outcomes if not each.ok]
    return rows_as_shown(failures), rows_as_shown([each for each in outcomes if each.ok])


# -- an answer ----------------------------------------------------------------------------------


def test_answer():
    """
    An answer shows its text, model, end, tokens, price, times and id, and folds the thought.
    """
    tries = (Attempt("answered", 429, "429", 0.5), Attempt("answered", 200))
    exchange = Exchange(attempts=tries, timing=Timing(first_byte=0.25, total=1.46))
    response = answer("It is **so**.", exchange, reasoning_content="Let me think")

    shown = page(response._repr_html_())

    assert "It is so." in shown.text
    assert ("open", None) not in shown.attributes
    assert "Reasoning (12 characters)" in shown.text
    assert "Let me think" in shown.text
    assert shown.text.endswith(
        "openai/gpt-5-nano · finish: stop · 11 + 1,004 tokens · $0.00012 · 1.5 s · "
        "first byte 250 ms · 2 attempts · G-01K3TESTCOMPLETION0000000"
    )


def test_thought_alone_is_not_folded():
    """
    As long as there is nothing but thought, as in a stream's first seconds, it is open.
    """
    shown = page(answer("", reasoning_content="Let me think")._repr_html_())

    assert ("open", None) in shown.attributes


def test_calls():
    """
    Calls show their name and arguments, and whose they are.
    """
    calls = [
        {"id": "1", "type": "function", "function": {"name": name, "arguments": '{"a": 1}'}}
        for name in ("get_weather", "phaseo_web_search")
    ]
    shown = page(answer(None, tool_calls=calls)._repr_html_()).text

    assert 'Tool call get_weather({"a": 1})' in shown
    assert 'Run by the gateway phaseo_web_search({"a": 1})' in shown


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({}, "No text."),
        ({"choices": [{"message": {"refusal": "I won't"}}]}, "RefusedI won't"),
        ({"usage": {"total_tokens": 3}}, "No text.3 tokens"),
        (
            {
                "usage": {
                    "prompt_tokens": 1,
                    "completion_tokens": 2,
                    "completion_tokens_details": {"reasoning_tokens": 2},
                }
            },
            "No text.1 + 2 tokens (2 of them reasoning)",
        ),
        (
            {"provider": "p", "choices": [{"message": {"content": "a"}, "finish_reason": "x"}] * 3},
            "a3 choices, one is shown · finish: x",
        ),
    ],
)
def test_what_is_unknown_is_left_out(wire: dict[str, Any], expected: str):
    """
    What an answer doesn't have takes no place.
    """
    assert page(ChatCompletionsResponse(wire)._repr_html_()).text == expected


def test_fenced_code():
    """
    Fenced code stands by itself as it was written, from left to right; a fence may be open yet.
    """
    text = "Look:\n```python\nif **a** < `b`:\n    pass\n```\nand\n```\nmore"
    html = answer(text)._repr_html_()

    assert html.count("<pre ") == 2
    assert "if **a** &lt; `b`:\n    pass</pre>" in html
    assert "more</pre>" in html
    assert "python" not in page(html).text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a **b** c", "a <strong>b</strong> c"),
        ("# Title\ntext", "<strong>Title</strong>\ntext"),
        ("2 ** 3 = 8", "2 ** 3 = 8"),
        ("**<b>**", "<strong>&lt;b&gt;</strong>"),
        ("#hash", "#hash"),
        ("-5 degrees", "-5 degrees"),
        ("a | b", "a | b"),
        ("a | b\n--- | x", "a | b\n--- | x"),
        ("a | b\n--- |", "a | b\n--- |"),
        ("![a](https://b.example)", "![a](https://b.example)"),
        ("[a](javascript:alert`1`)", None),
        ("[a](data:text/html,x)", "[a](data:text/html,x)"),
        ("[a](//b.example)", "[a](//b.example)"),
        ("[a](https://b.example/*x*)", "[a](https://b.example/*x*)"),
        ("[a](https://b.example/\u202e)", "[a](https://b.example/[U+202E])"),
        ("[a](https://b\u0430nk.example)", "[a](https://b\u0430nk.example)"),
        ("[a](https://b.example/ onclick=x)", "[a](https://b.example/ onclick=x)"),
        ('[a](https://b.example/"x)', "[a](https://b.example/&quot;x)"),
        ("[a](https://b.example", "[a](https://b.example"),
    ],
)
def test_markdown(text: str, expected: str | None):
    """
    Bold and headings are rendered. What only looks like a list, a table or a safe link is text.
    """
    html = answer(text)._repr_html_()

    assert "<a " not in html
    assert page(html)
    assert expected is None or f">{expected}</div>" in html


@pytest.mark.parametrize("text", ["our [docs](%s)!", "- our [docs](%s)!", "**our [docs](%s)!**"])
@pytest.mark.parametrize("address", ["https://b.example/a?b=c&d=1#e", "http://user@b.example:80/"])
def test_link(text: str, address: str):
    """
    A link shows its address beside its text, so that the text can't hide where it goes.
    """
    seen = page(answer(text % address)._repr_html_())

    assert f"our docs ({address})!" in seen.text
    assert ("href", address) in seen.attributes
    assert ("rel", "noopener noreferrer") in seen.attributes


def test_lists():
    """
    Lists are rendered with their numbers, nested by indentation, around other text.
    """
    text = "Look:\n- a **b**\n  more\n  - c\n    - d\n- e\n\n3. f\n4) g\n\nEnd"
    html = re.sub(' (style|dir)="[^"]*"', "", answer(text)._repr_html_())

    assert (
        "<div>Look:</div><ul><li>a <strong>b</strong>\nmore<ul><li>c<ul><li>d</li></ul></li></ul>"
        '</li><li>e</li></ul><ol start="3"><li>f</li><li>g</li></ol><div>End</div>' in html
    )
    assert page(answer("  - a\n- b\n      - c\n   - d")._repr_html_()).tags >= {"ul", "li"}
    assert page(answer("".join(f"{'  ' * n}- x\n" for n in range(50)))._repr_html_())


def test_table():
    """
    A table has the columns of its head, aligned as its dashes say; cells may be missing.
    """
    text = "Prices:\n| a | *b* | c |\n|:--|:-:|--:|\n| `x\\|y` | **2** |\n1 | 2 | 3 | 4\nEnd"
    html = re.sub(' dir="auto"', "", answer(text)._repr_html_())
    plain = re.sub(' style="[^"]*text-align:(\\w+)"', r" \1", html)

    assert "<th left>a</th><th center>*b*</th><th right>c</th>" in plain
    assert "<td center><strong>2</strong></td><td right></td>" in plain
    assert "<td left>1</td><td center>2</td><td right>3</td></tr>" in plain
    assert "x|y</code>" in plain
    assert page(html).text.startswith("Prices:a")


def test_inline_code():
    """
    Inline code stays as it was written, stars included.
    """
    html = answer("a `**b**` c")._repr_html_()

    assert ">**b**</code> c" in html


@pytest.mark.parametrize(
    "text",
    [
        *("**a" * 30_000, "`a" * 40_000, "# " * 40_000, "```\n" * 20_000, "- a\n" * 25_000),
        *("[" * 90_000, "[a](https://" * 8_000, "| " * 45_000, "a|b\n" * 25_000, "1. " * 30_000),
        *("-|-\n" * 25_000, " - a\n\n" * 15_000, "- a\n  b\n" * 10_000, "\\|" * 45_000),
        *("[a](" * 22_000, "- a\n" + "\n" * 90_000, "  " * 45_000 + "- a"),
    ],
)
def test_hostile_markdown_is_quick(text: str):
    """
    Text that is made to take long doesn't.
    """
    assert page(answer(text)._repr_html_())


def test_long_text_is_cut():
    """
    A page holds 100,000 characters of an answer, and says how many more there are.
    """
    shown = page(answer("x" * 100_123)._repr_html_()).text

    assert shown.count("x") == 100_000
    assert "… 123 more characters" in shown


def test_plain_text_is_cut():
    """
    The plain text beside the page is cut, too. `repr` is whole.
    """
    from IPython.lib.pretty import pretty

    long = answer("x" * 200_000)

    assert pretty(long).count("x") < 100_000
    assert pretty(long).endswith("more characters")
    assert pretty(answer("Hello")) == repr(answer("Hello"))
    assert repr(long).count("x") >= 200_000


# -- what is not to be trusted ------------------------------------------------------------------


def hostile_answer(text: str) -> str:
    """
    An answer with *text* wherever a model or a server says what stands there.
    """
    call = {"id": "1", "type": "function", "function": {"name": text, "arguments": text}}
    wire = completion(model=text, id=text)
    wire["choices"][0]["finish_reason"] = text
    wire["choices"][0]["message"] = {
        "content": text,
        "reasoning_content": text,
        "refusal": text,
        "tool_calls": [call],
    }
    return ChatCompletionsResponse(wire)._repr_html_()


def hostile_error(text: str) -> str:
    """
    An error with *text* in all that a server says.
    """
    error = RateLimited(text)
    error.code = error.body_request_id = text
    error.partial = answer(text)
    tries = (Attempt("answered", 429, text, 0.5), Attempt("answered", 429, text))
    error.exchange = Exchange(attempts=tries)
    return error._repr_html_()


def hostile_run(text: str) -> str:
    """
    A run that stopped because of *text*, with an answer and a failure of it.
    """
    outcomes = [outcome(0, text), outcome(1, error=AIStatsError(text))]
    return run_html(progress(), text, (), *listed(outcomes))


WAYS_IN: list[tuple[Callable[[str], str], int]] = [
    (hostile_answer, 8),
    (hostile_error, 6),
    (hostile_run, 3),
    (lambda text: stream_html(as_shown(answer(text)), "failed", text, ""), 2),
]


@pytest.mark.parametrize(("show", "times"), WAYS_IN)
def test_hostile_text(show: Callable[[str], str], times: int):
    """
    What a model or a server wrote is text, wherever it stands, and all of it is there.
    """
    assert page(show(HOSTILE)).text.count(HOSTILE) == times


@pytest.mark.parametrize(("show", "times"), WAYS_IN)
@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "\x00", "\x1b", "\x7f", "\x85", "\ud800"])
def test_unseen_characters(show: Callable[[str], str], times: int, mark: str):
    """
    A character that turns the order around, or that a page can't hold, is shown by its number.
    """
    html = show(f"a{mark}b")

    assert mark not in html
    assert html.encode()
    assert page(html).text.count(f"a[U+{ord(mark):04X}]b") == times


def test_right_to_left_text():
    """
    Hebrew stays as it was written, with its marks, and its order ends with its own box.
    """
    hebrew = "\u200f\u05e9\u05dc\u05d5\u05dd"
    shown = page(answer(hebrew)._repr_html_())

    assert hebrew in shown.text
    assert ("dir", "auto") in shown.attributes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        key: JSON | st.lists(st.fixed_dictionaries({}, optional={"function": JSON, "text": JSON}))
        for key in ("content", "reasoning", "refusal", "tool_calls", "reasoning_details")
    },
)
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "model": JSON,
        "usage": JSON
        | st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("prompt_tokens", "completion_tokens", "cost"), JSON)
        ),
        "choices": JSON
        | st.lists(
            st.fixed_dictionaries({}, optional={"message": MESSAGES, "finish_reason": JSON})
        ),
    },
)


@settings(max_examples=60, deadline=None)
@given(ANSWERS)
def test_any_answer(wire: dict[str, Any]):
    """
    Any JSON as an answer can be displayed.
    """
    assert page(ChatCompletionsResponse(wire)._repr_html_())


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("-*1.|:[]()!`# \t\na<&\"'\\") | st.characters(), max_size=60))
def test_any_markdown(text: str):
    """
    Any text of an answer has a page of whole tags.
    """
    assert page(answer(text + "[a](https://b.example)")._repr_html_())


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_any_text(text: str):
    """
    Any text in an error has a page.
    """
    assert page(hostile_error(text))


# -- streams and errors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "how_to_show", "expected"),
    [
        ("new", "", "Waiting for the answer"),
        ("open", "", "The answer is still coming"),
        ("new", "show()", "The request goes out when it is first used; show() shows it live."),
        ("open", "show()", "It has begun; show() shows it live."),
        ("failed", "", "The stream failed: it broke"),
        ("failed", "show()", "The stream failed: it broke"),
        ("closed", "show()", "closed before its end"),
    ],
)
@pytest.mark.parametrize("response", [None, answer("half an ans")])
def test_stream(state: str, how_to_show: str, expected: str, response: Any):
    """
    A stream shows what has arrived, and never looks finished where it isn't.
    """
    shown = page(stream_html(response and as_shown(response), state, "it broke", how_to_show)).text

    assert expected in shown
    assert ("half an ans" in shown) == (response is not None)


def test_whole_stream():
    """
    A stream that has ended looks as its answer does.
    """
    response = answer("All of it")

    assert stream_html(as_shown(response), "done", "", "stream.show()") == response._repr_html_()


def test_error():
    """
    An error shows its kind, its words, status, code, each attempt, and what had arrived.
    """
    error = RateLimited("Too fast")
    error.add_note("A note")
    error.code, error.retry_after = "rate_limited", 2.5
    tries = (Attempt("unsent", None, "no route", 0.25), Attempt("answered", 429, "429"))
    error.exchange = Exchange(status=429, attempts=tries)
    shown = page(error._repr_html_()).text

    assert shown.startswith("RateLimitErrorToo fast\nA note")
    assert "2 attempts1no routethen waited 250 ms2429" in shown
    assert shown.endswith("status 429 · code rate_limited · retry after 2.5 s · 2 attempts")


def test_error_with_a_part_of_the_answer():
    """
    What had arrived of a stream is open to see in its error.
    """
    error = StreamError("It was cut")
    error.partial = answer("half an ans")
    shown = page(error._repr_html_())

    assert "What had arrivedhalf an ans" in shown.text
    assert ("open", None) in shown.attributes


def test_error_without_words():
    """
    An error that only has its kind shows that.
    """
    assert page(AIStatsError()._repr_html_()).text == "AIStatsError"


# -- runs ---------------------------------------------------------------------------------------


def test_figures():
    """
    A run's numbers are rounded to what can be read at a glance.
    """
    assert progress_figures(progress(cached=3)) == [
        ("done", "6,200 of 10,000"),
        ("failed", "12"),
        ("cached", "3"),
        ("in flight", "187 of 200"),
        ("requests/s", "198.4"),
        ("tokens/s", "51,234"),
        ("cost", "$0.42"),
        ("left", "1:02:05"),
        ("p50", "412 ms"),
        ("p95", "2.0 s"),
        ("429s", "31"),
    ]


def test_figures_that_are_not_known():
    """
    What a run doesn't know yet takes no place.
    """
    unknown = progress(total=None, eta=None, p50=None, p95=None)
    words = [word for word, _ in progress_figures(unknown)]

    assert progress_figures(unknown)[0] == ("done", "6,200")
    assert not {"left", "p50", "p95", "cached"} & set(words)


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        ("0", "$0.00"),
        ("0.000000123", "$0.00000012"),
        ("0.05", "$0.050"),
        ("0.5", "$0.50"),
        ("1234.5", "$1,234.50"),
    ],
)
def test_money(cost: str, expected: str):
    """
    A price has at least two digits that say something.
    """
    assert ("cost", expected) in progress_figures(progress(cost=Decimal(cost)))


@pytest.mark.parametrize(("seconds", "expected"), [(5, "0:05"), (65, "1:05"), (3600, "1:00:00")])
def test_time_left(seconds: float, expected: str):
    """
    The time left is in minutes and seconds.
    """
    assert ("left", expected) in progress_figures(progress(eta=seconds))


def test_progress():
    """
    A run's progress is a bar, with the failures at its end, and a table.
    """
    html = progress_html(progress(done=50, failed=10, total=100))

    assert "width:40.00%" in html
    assert "width:10.00%" in html
    assert "50 of 100" in page(html).text
    assert "width:" not in progress_html(progress(total=None)).replace("max-width:", "")


def test_run():
    """
    A run shows why it stopped, and the first of its failures and answers.
    """
    outcomes = [
        *(outcome(index, f"answer {index}") for index in range(20)),
        *(outcome(index, error=AIStatsError(f"fault {index}")) for index in range(20, 22)),
    ]
    usage = Usage({"prompt_tokens": 1000, "completion_tokens": 2})
    shown = page(
        run_html(progress(), "budget: 1 USD", [tokens_as_shown(usage)], *listed(outcomes))
    ).text

    assert "Stopped: budget: 1 USD" in shown
    assert "2 failures20AIStatsError: fault 2021AIStatsError: fault 21" in shown
    assert "20 answers, the first 10" in shown
    assert "answer 9" in shown
    assert "answer 10" not in shown
    assert shown.endswith("1,000 + 2 tokens")


def test_run_of_which_nothing_was_kept():
    """
    A run that was only iterated shows its numbers.
    """
    shown = page(run_html(progress(), None, (), *listed(()))).text

    assert "6,200 of 10,000" in shown
    assert "failures" not in shown


def test_long_outcomes_are_cut():
    """
    A run shows the beginning of a long answer.
    """
    shown = page(run_html(progress(), None, (), *listed([outcome(0, "x" * 1000)]))).text

    assert "x" * 300 + "… 700 more characters" in shown


def test_pages_are_json():
    """
    A page can be sent as the JSON of a kernel's message.
    """
    assert json.dumps(hostile_answer(HOSTILE + "\ud800")).encode()
