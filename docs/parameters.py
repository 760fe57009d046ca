"""
Writes `parameters.md`, the page of all parameters, from their declarations.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from aistats import ChatCompletionsParams
from aistats._call.settings import ClientOptions
from aistats._options import CallOptions, RunOptions

PAGE = Path(__file__).with_name("parameters.md")

_HEAD = """\
# Parameters

`generate_text` and `stream_text` take the parameters of a request and the options of a call, `map`
also those of a run. `help(Client.generate_text)` lists them, a notebook completes them, and a type
checker knows them. Each may be left out, except `model` and `messages`.
"""
_SECTIONS = (
    ("The request", ChatCompletionsParams),
    ("Options of a call", CallOptions),
    ("Options of a run", RunOptions),
    ("Options of a client that `with_options` changes", ClientOptions),
)
_KEY = re.compile(r"^ {4}(\w+) \((.*?)\): (.*?)(?=^ {4}\w|\Z)", re.MULTILINE | re.DOTALL)


def page() -> str:
    """
    Return the page: a table for each declaration, from its docstring.
    """
    parts = [_HEAD]
    for title, declared in _SECTIONS:
        keys = inspect.cleandoc(declared.__doc__ or "").partition("Keys:\n")[2]
        rows = [" | ".join(_in_a_line(each) for each in found) for found in _KEY.findall(keys)]
        lines = "\n".join(f"| `{row.replace(' | ', '` | ', 1)} |" for row in rows)
        parts.append(f"## {title}\n\n| name | type | meaning |\n|---|---|---|\n{lines}\n")
    return "\n".join(parts)


def _in_a_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
