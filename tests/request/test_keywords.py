"""
The keywords of the clients' methods: declared once, and documented where `help()` finds them.
"""

from __future__ import annotations

import inspect
import pydoc
import re
from typing import get_type_hints

import pytest

import aistats
from aistats import ChatCompletionsParams
from aistats._options import CALL_OPTIONS, RUN_OPTIONS, CallOptions, RunOptions, split
from aistats._request.keywords import MapKeywords, TextKeywords
from aistats._request.rules import describe

KEY = re.compile(r"^ {4}(\w+) \((.*?)\): \S", re.MULTILINE | re.DOTALL)


def documented(text: str) -> dict[str, str]:
    """
    The keys that *text* documents, with the words for their types.
    """
    _, _, keys = inspect.cleandoc(text).partition("Keys:\n")
    return {name: " ".join(kind.split()) for name, kind in KEY.findall(keys)}


@pytest.mark.parametrize("declared", [ChatCompletionsParams, CallOptions, RunOptions])
def test_each_key_is_documented(declared: type):
    """
    A declaration documents each of its keys, in order.
    """
    assert list(documented(declared.__doc__ or "")) == list(declared.__annotations__)


def test_types_and_ranges_are_documented():
    """
    The words for a parameter's type are those of the messages about a wrong value.
    """
    hints = get_type_hints(ChatCompletionsParams, include_extras=True)

    assert documented(ChatCompletionsParams.__doc__ or "") == {
        name: describe(declared) for name, declared in hints.items()
    }


@pytest.mark.parametrize("client", [aistats.Client, aistats.AsyncClient])
@pytest.mark.parametrize(
    ("method", "declared"),
    [("generate_text", TextKeywords), ("stream_text", TextKeywords), ("map", MapKeywords)],
)
def test_signatures(client: type, method: str, declared: type):
    """
    The signature at run time lists each keyword; notebooks complete from it.
    """
    parameters = inspect.signature(getattr(client, method)).parameters
    keywords = [name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY]

    assert set(keywords) == set(declared.__annotations__)


def test_completion_inside_a_call():
    """
    Jedi, which notebooks and IPython ask, completes a parameter inside of the call.
    """
    jedi = pytest.importorskip("jedi", reason="jedi is missing")
    names = {"client": aistats.Client(api_key="k" * 20)}
    found = jedi.Interpreter("client.generate_text(temp", [names]).complete()

    assert [each.name for each in found] == ["temperature="]


@pytest.mark.parametrize("client", [aistats.Client, aistats.AsyncClient])
@pytest.mark.parametrize(
    ("method", "declared"),
    [("generate_text", TextKeywords), ("stream_text", TextKeywords), ("map", MapKeywords)],
)
def test_help(client: type, method: str, declared: type):
    """
    `help()` of a method shows each keyword with its type, its range and a line about it.
    """
    shown = pydoc.plain(pydoc.render_doc(getattr(client, method)))
    listed = {
        name for name, _ in re.findall(r"^ {8}(\w+) \((.*?)\): \S", shown, re.MULTILINE | re.DOTALL)
    }

    assert listed == declared.__annotations__.keys()


def test_options_and_parameters_are_told_apart():
    """
    No name is both an option and a parameter, or an option of a run and of a call.
    """
    parameters = ChatCompletionsParams.__annotations__.keys()

    assert not CALL_OPTIONS & RUN_OPTIONS
    assert not (CALL_OPTIONS | RUN_OPTIONS) & parameters
    assert MapKeywords.__annotations__.keys() == CALL_OPTIONS | RUN_OPTIONS | parameters


def test_split():
    """
    Keywords are split by name, and what has none of the names is not copied.
    """
    keywords = {"model": "m", "timeout": None}

    assert split(keywords, CALL_OPTIONS) == ({"timeout": None}, {"model": "m"})
    assert split(keywords, RUN_OPTIONS)[1] is keywords
