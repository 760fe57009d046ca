"""
The layout of the package: which place imports which, what is free of I/O, and how long files are.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import aistats

FOLDER = Path(aistats.__file__).parent
FILES = {
    ".".join(path.relative_to(FOLDER).with_suffix("").parts): path
    for path in sorted(FOLDER.rglob("*.py"))
}

# A file imports places of lower rank, and files of its own folder. Nothing else.
RANKS = (
    ("_version", "_clock", "_exchange", "_progress", "_styles"),
    ("_show",),
    ("_views",),
    ("_errors",),
    ("_options",),
    ("_request", "_wire", "_net"),
    ("_schema",),
    ("_call",),
    ("_map",),
    ("_client", "_sync", "_media"),
    ("_local", "_worker"),
    ("types", "dask", "ray"),
    ("__init__",),
    ("_cli",),
    ("__main__",),
)
PLACES = [place for rank in RANKS for place in rank]

# What does not hold yet. Nothing is ever added here.
PENDING: dict[str, set[str]] = {}

# Protocol code: it gets bytes, clocks and settings as arguments.
PURE = ("_exchange", "_views", "_errors", "_options", "_request", "_wire", "_schema")
IMPURE = {
    *("aiohttp", "anyio", "asyncio", "concurrent", "http", "logging", "multiprocessing", "os"),
    *("pathlib", "random", "secrets", "select", "selectors", "signal", "socket", "ssl"),
    *("subprocess", "tempfile", "threading", "time", "urllib.request", "weakref"),
}

# The only places that import a library at run time.
OWNERS = {
    "aiohttp": {"_net"},
    "multidict": {"_net"},
    "yarl": {"_net"},
    "cattrs": {"_request"},
}

LONGEST_FILE = 500
LONGEST_CLASS = 250
CLIENTS = {"AsyncClient", "Client"}  # a signature and a docstring for each operation


@attrs.frozen
class Import:
    """
    One imported module.
    """

    name: str
    """Its full name; modules of the package without the package's own name."""
    is_ours: bool
    is_typing_only: bool


def place_of(name: str) -> str:
    """
    The folder, or the file at the top, that the module *name* is part of.
    """
    return name.partition(".")[0]


def imports_of(name: str) -> set[Import]:
    """
    What the module *name* imports, inside of functions and for type checkers too.
    """
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    return set(_imports_in(tree, name.split(".")[:-1], is_typing_only=False))


def _imports_in(tree: ast.AST, folder: list[str], *, is_typing_only: bool) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports_in(node, folder, is_typing_only=True)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield _import(alias.name, is_typing_only)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else []
            module = [*base, *(node.module or "").split(".")] if node.module else base
            ours = bool(node.level)
            names = {".".join([*module, alias.name]) for alias in node.names}
            found = {each for each in names if ours and each in FILES}
            for each in found or {".".join(module) or "__init__"}:
                yield Import(each, True, is_typing_only) if ours else _import(each, is_typing_only)
        else:
            yield from _imports_in(node, folder, is_typing_only=is_typing_only)


def _import(full: str, is_typing_only: bool) -> Import:
    first, _, rest = full.partition(".")
    if first == "aistats":
        return Import(rest or "__init__", True, is_typing_only)
    return Import(full if first == "urllib" else first, False, is_typing_only)


def test_every_place_has_its_rank():
    """
    The list of ranks has each folder and each file at the top once.
    """
    assert sorted(PLACES) == sorted({place_of(name) for name in FILES})


@pytest.mark.parametrize("name", FILES)
def test_imports_lead_downwards(name: str):
    """
    A file imports places of lower rank and its own folder, and nothing else of the package.
    """
    place = place_of(name)
    (rank,) = (at for at, places in enumerate(RANKS) if place in places)
    below = {each for places in RANKS[:rank] for each in places}
    is_folder = "." in name

    imported = {each.name for each in imports_of(name) if each.is_ours}

    assert {
        each
        for each in imported - PENDING.get(name, set())
        if place_of(each) not in below and not (is_folder and place_of(each) == place)
    } == set()


def test_no_circle():
    """
    No file imports itself, be it through others.
    """
    edges = {
        name: {
            each.name
            for each in imports_of(name)
            if each.is_ours and each.name in FILES and each.name not in PENDING.get(name, ())
        }
        for name in FILES
    }

    def reached_from(name: str) -> set[str]:
        seen: set[str] = set()
        todo = list(edges[name])
        while todo:
            if (each := todo.pop()) not in seen:
                seen.add(each)
                todo += edges[each]
        return seen

    assert [name for name in FILES if name in reached_from(name)] == []


@pytest.mark.parametrize("name", [name for name in FILES if place_of(name) in PURE])
def test_pure_files_do_no_io(name: str):
    """
    A pure file imports nothing that does I/O, reads a clock or the environment, or waits.
    """
    imported = {each.name for each in imports_of(name) if not each.is_typing_only}

    assert imported & IMPURE == set()


@pytest.mark.parametrize("library", OWNERS)
def test_owners_of_a_library(library: str):
    """
    A library with an owner is imported by no other place.
    """
    importers = {
        place_of(name)
        for name in FILES
        for each in imports_of(name)
        if each.name == library and not each.is_ours and not each.is_typing_only
    }

    assert importers == OWNERS[library]


@pytest.mark.parametrize("name", FILES)
def test_length(name: str):
    """
    A file has at most 500 lines, and a class 250; the clients, which list all operations, may have
    more.
    """
    text = FILES[name].read_text(encoding="utf-8")
    classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    is_client = any(node.name in CLIENTS for node in classes)

    assert is_client or text.count("\n") <= LONGEST_FILE or "length" in PENDING.get(name, ())
    assert {
        node.name for node in classes if (node.end_lineno or 0) - node.lineno >= LONGEST_CLASS
    } <= CLIENTS | PENDING.get(name, set())


FOLDERS = [name for name in FILES if name.endswith(".__init__")]


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_say_what_they_are(name: str):
    """
    A folder's `__init__.py` is a docstring alone: what belongs there, what it may import, and what
    never goes there.
    """
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))

    assert len(tree.body) == 1
    assert (
        "docstring" in PENDING.get(name, ())
        or len((ast.get_docstring(tree) or "").splitlines()) > 3
    )
