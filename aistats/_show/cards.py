"""
How answers, streams, errors and runs look in a notebook: values in, HTML out.

What a model, a provider or the gateway wrote is not to be trusted. All of it is escaped before it
stands in the page, and characters that could change the direction of the page's text are shown by
their numbers. Only `http` and `https` links of Markdown become addresses, which are shown beside
their text. There are no scripts and no style sheets, and nothing is fetched. Colours are
those of the page, so that it is readable in light and in dark ones; what is ours is grey, half
transparent, or a thin line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from .markdown import rendered
from .page import AS_WRITTEN, BOX, CELL, CODE, LONGEST, SHADE, escape

if TYPE_CHECKING:
    from decimal import Decimal

    from .._exchange import Attempt, Timing
    from .._progress import Progress

__all__ = (
    "LISTED_ROWS",
    "Answer",
    "Rows",
    "answer_html",
    "call_facts",
    "error_html",
    "money",
    "progress_figures",
    "progress_html",
    "run_html",
    "seconds",
    "stream_html",
    "tokens",
)

LISTED_ROWS: Final = 10
"""How many failures and how many answers a run lists."""

_BLUE, _RED, _GREY = "#4c8bf5", "#d9534f", "rgba(128,128,128,.55)"


@attrs.frozen(kw_only=True)
class Answer:
    """
    A model's answer as it is shown. None of it is escaped yet.
    """

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: Sequence[str] = ()
    """Tool calls for the caller to run, each as `name(arguments)`."""
    server_calls: Sequence[str] = ()
    """Tool calls that the gateway ran, in the same form."""
    facts: Sequence[str] = ()
    """Model, tokens, cost, times. Empty ones are left out."""


@attrs.frozen
class Rows:
    """
    The first rows of a kind, and how many there are in all.
    """

    count: int
    first: Sequence[tuple[int, str]] = ()
    """Each row's index and what to show of it."""


def answer_html(answer: Answer) -> str:
    """
    Return a whole answer: its text, the reasoning folded, the calls and the facts.
    """
    return _card(_answer(answer), answer.facts, _BLUE)


def stream_html(answer: Answer | None, state: str, failure: str, how_to_show: str) -> str:
    """
    Return a stream: what has arrived, and its state.

    Args:
        answer: What has arrived; `None` before the request was sent.
        state: `new`, `open`, `done`, `failed` or `closed`.
        failure: Why it failed; `""` where the error is shown below.
        how_to_show: The call that shows it live, for a stream that has not ended; `""` where it is
            shown live already.
    """
    notes = {
        "new": "Waiting for the answer …",
        "open": "The answer is still coming …",
        "failed": f"The stream failed: {failure}"
        if failure
        else "The error below says why it ended.",
        "closed": "The stream was closed before its end.",
    }
    note = notes.get(state, "")
    if how_to_show and state in ("new", "open"):
        begun = "It has begun" if state == "open" else "The request goes out when it is first used"
        note = f"A stream that has not ended. {begun}; {how_to_show} shows it live."
    parts = [_answer(answer)] if answer is not None else []
    parts.append(_note(note))
    colour = {"done": _BLUE, "failed": _RED}.get(state, _GREY)
    return _card("".join(parts), answer.facts if answer is not None else (), colour)


def error_html(
    kind: str,
    message: str,
    facts: Sequence[str],
    attempts: Sequence[Attempt],
    partial: Answer | None,
) -> str:
    """
    Return an error: the name of its class, its message, each attempt, and what had arrived.
    """
    parts = [
        f'<div style="margin-bottom:.3em"><strong>{escape(kind)}</strong></div>{_plain(message)}'
    ]
    if len(attempts) > 1:
        rows = [
            (str(number), attempt.reason or "", f"then waited {seconds(attempt.wait)}")
            if attempt.wait
            else (str(number), attempt.reason or "", "")
            for number, attempt in enumerate(attempts, 1)
        ]
        parts.append(_folded(f"{len(rows)} attempts", _table(rows)))
    if partial is not None:
        parts.append(_folded("What had arrived", _answer(partial), is_open=True))
    return _card("".join(parts), facts, _RED)


def progress_figures(progress: Progress) -> list[tuple[str, str]]:
    """
    Return the numbers of a run as pairs of a word and a value, those left out that are not known.
    """
    known = progress.total is not None
    done = f"{progress.done:,} of {progress.total:,}" if known else f"{progress.done:,}"
    figures = [
        ("done", done),
        ("failed", f"{progress.failed:,}"),
        ("cached", f"{progress.cached:,}" if progress.cached else ""),
        ("in flight", f"{progress.in_flight:,} of {progress.concurrency:,}"),
        ("requests/s", f"{progress.requests_per_second:,.1f}"),
        ("tokens/s", f"{progress.tokens_per_second:,.0f}"),
        ("cost", money(progress.cost)),
        ("left", _duration(progress.eta or None)),
        ("p50", seconds(progress.p50)),
        ("p95", seconds(progress.p95)),
        ("429s", f"{progress.throttled:,}"),
    ]
    return [(word, value) for word, value in figures if value]


def progress_html(progress: Progress) -> str:
    """
    Return a run's progress: a bar where it is known how much there is, and a table of the numbers.
    """
    return _card(_progress(progress), [], _RED if progress.failed else _BLUE)


def run_html(
    progress: Progress, stopped: str | None, facts: Sequence[str], failures: Rows, answers: Rows
) -> str:
    """
    Return a run: its progress, why it stopped, and its first failures and answers, folded.

    Args:
        progress: Its numbers.
        stopped: Why it ended early; `None` if it did not.
        facts: For the line below.
        failures: The rows that failed, each with its error.
        answers: The rows that were answered, each with its text.
    """
    parts = [
        _progress(progress),
        _note(f"Stopped: {stopped}" if stopped else ""),
        _first(failures, "failure", is_open=True),
        _first(answers, "answer", is_open=False),
    ]
    return _card("".join(parts), facts, _RED if progress.failed or stopped else _BLUE)


def _first(rows: Rows, word: str, *, is_open: bool) -> str:
    if not rows.count:
        return ""
    title = f"{rows.count:,} {word}{'' if rows.count == 1 else 's'}"
    if rows.count > len(rows.first):
        title += f", the first {len(rows.first)}"
    shown = [(f"{index:,}", text) for index, text in rows.first]
    return _folded(title, _table(shown), is_open=is_open)


def _progress(progress: Progress) -> str:
    figures = progress_figures(progress)
    bar = ""
    if progress.total:
        failed = min(1.0, progress.failed / progress.total)
        good = min(1.0 - failed, max(0, progress.done - progress.failed) / progress.total)
        bar = (
            f'<div style="display:flex;height:.5em;margin-bottom:.5em;overflow:hidden;{BOX};'
            f'{SHADE}">{_stripe(_BLUE, good)}{_stripe(_RED, failed)}</div>'
        )
    heads = "".join(
        f'<th style="{CELL};opacity:.7;font-weight:normal">{escape(word)}</th>'
        for word, _ in figures
    )
    cells = "".join(
        f'<td style="{CELL};white-space:nowrap;font-variant-numeric:tabular-nums">'
        f"{escape(value)}</td>"
        for _, value in figures
    )
    rows = "".join(f'<tr style="background:none">{row}</tr>' for row in (heads, cells))
    table = f'<table style="border-collapse:collapse;border:0;margin:0">{rows}</table>'
    return f'{bar}<div style="overflow-x:auto">{table}</div>'


# --- the parts of an answer ---


def _answer(answer: Answer) -> str:
    parts: list[str] = []
    if answer.reasoning:
        # Open as long as there is nothing else to see.
        title = f"Reasoning ({len(answer.reasoning):,} characters)"
        parts.append(_folded(title, _plain(answer.reasoning), is_open=not answer.text))
    if answer.text:
        parts.append(_rendered(answer.text))
    if answer.refusal:
        parts.append(f"<strong>Refused</strong>{_plain(answer.refusal)}")
    parts += [_call(call, "Tool call") for call in answer.calls]
    parts += [_call(call, "Run by the gateway") for call in answer.server_calls]
    return "".join(parts) or '<span style="opacity:.7">No text.</span>'


def _call(call: str, title: str) -> str:
    return (
        f'<div style="margin-top:.4em"><span style="opacity:.7">{title}</span> '
        f'<code dir="ltr" style="{CODE};{SHADE};{AS_WRITTEN};padding:.1em .3em;color:inherit">'
        f"{_shortened(call)}</code></div>"
    )


# --- facts; `""` for what is not known ---


def call_facts(timing: Timing, attempts: Sequence[Attempt], request_id: str | None) -> list[str]:
    """
    Return what is known of a call: its times, how often it was tried, and its id.
    """
    return [
        seconds(timing.total),
        f"first byte {seconds(timing.first_byte)}" if timing.first_byte is not None else "",
        f"{len(attempts)} attempts" if len(attempts) > 1 else "",
        request_id or "",
    ]


def tokens(
    prompt: int | None, completion: int | None, total: int | None, reasoning: int | None
) -> str:
    """
    Return the numbers of tokens: `11 + 1,004 tokens (960 of them reasoning)`.
    """
    if prompt is None or completion is None:
        return "" if total is None else f"{total:,} tokens"
    part = f" ({reasoning:,} of them reasoning)" if reasoning else ""
    return f"{prompt:,} + {completion:,} tokens{part}"


def seconds(value: float | None) -> str:
    """
    Return a time in seconds with its unit: `412 ms`, `2.0 s`.
    """
    if value is None:
        return ""
    return f"{value * 1000:,.0f} ms" if value < 0.9995 else f"{value:,.1f} s"


def money(usd: Decimal | None) -> str:
    """
    Return an amount of US dollars with two significant digits, and never without cents.
    """
    if usd is None:
        return ""
    places = 2 if not usd or usd >= 1 else max(2, 1 - usd.adjusted())
    return f"${usd:,.{places}f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# --- text ---


def _shortened(text: str, longest: int = LONGEST) -> str:
    if len(text) <= longest:
        return escape(text)
    rest = f"… {len(text) - longest:,} more characters"
    return f'{escape(text[:longest])}<em style="opacity:.7">{rest}</em>'


def _plain(text: str) -> str:
    return f'<div dir="auto" style="{AS_WRITTEN};unicode-bidi:isolate">{_shortened(text)}</div>'


def _rendered(text: str) -> str:
    rest = len(text) - LONGEST
    return rendered(text) + _note(f"… {rest:,} more characters" if rest > 0 else "")


# --- boxes ---


def _card(content: str, facts: Iterable[str], colour: str) -> str:
    """
    Return a box with *content*, which is HTML, and a line of *facts*, which are plain text.
    """
    line = " · ".join(f"<bdi>{escape(fact)}</bdi>" for fact in facts if fact)
    footer = f'<div style="margin-top:.5em;font-size:.85em;opacity:.7">{line}</div>' if line else ""
    return (
        f'<div style="{BOX};border-left:4px solid {colour};padding:.6em .9em;margin:.2em 0;'
        f'max-width:60em;line-height:1.45;overflow:hidden">{content}{footer}</div>'
    )


def _note(text: str) -> str:
    if not text:
        return ""
    return (
        f'<div dir="auto" style="{AS_WRITTEN};unicode-bidi:isolate;margin-top:.4em;'
        f'font-style:italic;opacity:.8">{_shortened(text)}</div>'
    )


def _folded(title: str, content: str, *, is_open: bool = False) -> str:
    return (
        f'<details{" open" if is_open else ""} style="margin:.3em 0">'
        f'<summary style="cursor:pointer;opacity:.7">{escape(title)}</summary>'
        f'<div style="border-left:2px solid rgba(128,128,128,.35);padding-left:.8em;margin:.3em 0">'
        f"{content}</div></details>"
    )


def _table(rows: Iterable[Sequence[str]]) -> str:
    lines = "".join(
        '<tr style="background:none">'
        + "".join(
            f'<td style="{CELL};{AS_WRITTEN}"><bdi>{_shortened(cell, 300)}</bdi></td>'
            for cell in row
        )
        + "</tr>"
        for row in rows
    )
    return f'<table style="border-collapse:collapse;border:0;margin:.3em 0">{lines}</table>'


def _stripe(colour: str, share: float) -> str:
    return f'<div style="width:{share:.2%};background:{colour}"></div>'
