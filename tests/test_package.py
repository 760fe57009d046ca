"""
The package as a whole: its public names, its documentation, and which module imports which.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

import aistats
from aistats import types
from aistats._views import completion as _models
from aistats.types import WireObject

FOLDER = Path(aistats.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(FOLDER).with_suffix("").parts)
    for path in FOLDER.rglob("*.py")
    if path.parent == FOLDER or path.stem != "__init__"
)


def module(name: str) -> ModuleType:
    """
    The module of the package called *name*.
    """
    return importlib.import_module("aistats" if name == "__init__" else f"aistats.{name}")


def source(name: str) -> ast.Module:
    """
    The syntax tree of the module called *name*.
    """
    return ast.parse((FOLDER / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))


# -- what is imported ---------------------------------------------------------------------------


def imports_in(tree: ast.AST) -> Iterator[str]:
    """
    The full names that *tree* imports at run time, in functions too; those of the package start
    with a dot.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for otherwise in node.orelse:
                yield from imports_in(otherwise)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level and node.module is None:
            yield from (f".{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
        else:
            yield from imports_in(node)


def imported(name: str) -> tuple[set[str], set[str]]:
    """
    The modules of the package and the other top-level ones that the module *name* imports.
    """
    ours: set[str] = set()
    others: set[str] = set()
    for full in imports_in(source(name)):
        if full.startswith("."):
            ours.add(full[1:].partition(".")[0])
        elif full.partition(".")[0] == "aistats":
            ours.add(full.partition(".")[2] or "__init__")
        else:
            others.add(full if full.startswith("urllib.") else full.partition(".")[0])
    return ours, others


def requirements(distribution: str) -> set[str]:
    """
    The names of what *distribution* requires, its extras included.
    """
    listed = importlib.metadata.requires(distribution) or []
    names = (re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in listed)
    return {name.lower().replace("-", "_") for name in names}


def test_what_is_imported_is_required():
    """
    What the package imports is Python's, or required, or part of aiohttp's own interface.
    """
    others = {other.partition(".")[0] for name in MODULES for other in imported(name)[1]}
    of_aiohttp = {"multidict", "yarl"}

    assert of_aiohttp <= requirements("aiohttp")
    assert others - sys.stdlib_module_names <= requirements("aistats-sdk") | of_aiohttp


# -- public names -------------------------------------------------------------------------------


def public_names(of: ModuleType) -> set[str]:
    """
    What a user finds in a module: no private names, no modules, and nothing of `__future__`.
    """
    return {
        name
        for name in dir(of)
        if not name.startswith("_")
        and not isinstance(getattr(of, name), ModuleType)
        and name != "annotations"
    }


def test_names_of_the_package():
    """
    `__all__` is sorted, and has everything public that the package has, and its version.
    """
    assert isinstance(aistats.__all__, tuple)
    assert list(aistats.__all__) == sorted(set(aistats.__all__))
    assert set(aistats.__all__) == public_names(aistats) | {"__version__"}


def test_names_of_types():
    """
    `aistats.types.__all__` is sorted, and has everything public that the module has.
    """
    assert list(types.__all__) == sorted(set(types.__all__))
    assert set(types.__all__) == public_names(types)


def test_everything_can_be_named():
    """
    All that comes back, and all that goes into a request, can be imported for annotations.
    """
    views = {n for n in _models.__all__ if isinstance(getattr(_models, n), type)}
    declared = [module(name) for name in MODULES if name.startswith("_request.params.")]
    params = {name for each in declared for name in each.__all__}

    # A translated chunk is a chunk to everybody.
    assert views - {"TranslatedChunk"} <= set(types.__all__)
    assert params <= set(types.__all__)


def test_star():
    """
    `from aistats import *` gives all public names.
    """
    namespace: dict[str, Any] = {}
    exec("from aistats import *", namespace)

    assert namespace.keys() >= set(aistats.__all__)


def test_types_are_loaded_later():
    """
    `aistats.types` is there without an import of its own, and is loaded when it is asked for.
    """
    code = """
import sys, aistats
assert "aistats.types" not in sys.modules
assert "types" in dir(aistats)
print(aistats.types.MessageParam is not None, sys.modules["aistats.types"] is aistats.types)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    )

    assert done.stdout.split() == ["True", "True"]


@pytest.mark.parametrize("name", MODULES)
def test_names_of_a_module(name: str):
    """
    A module that defines something public lists it, in a tuple, and lists nothing that isn't there.
    """
    defined = {
        node.name
        for node in source(name).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
    }
    if name == "dask":
        pytest.importorskip("distributed", reason="needs the extra `dask`")
    if name == "__main__" or (not defined and not hasattr(module(name), "__all__")):
        assert defined == set()
        return
    listed = module(name).__all__

    assert isinstance(listed, tuple)
    assert len(set(listed)) == len(listed)
    assert all(hasattr(module(name), each) for each in listed)


def test_where_public_classes_are_from():
    """
    A class says that it is from where users import it, in its repr too.
    """
    for name in aistats.__all__:
        value = getattr(aistats, name)
        if isinstance(value, type):
            assert (name, value.__module__) == (name, "aistats")
    assert repr(aistats.Client) == "<class 'aistats.Client'>"


def test_version():
    """
    The version is that of the installed distribution.
    """
    assert aistats.__version__ == importlib.metadata.version("aistats-sdk")


def test_typed():
    """
    The package says that it has types.
    """
    assert (FOLDER / "py.typed").is_file()


# -- documentation ------------------------------------------------------------------------------


def documentable() -> Iterator[tuple[str, Any]]:
    """
    The public classes and functions, and the public methods and properties of all of those.

    Fields that a class only declares are told by the class.
    """
    for holder in (aistats, types):
        for name in holder.__all__:
            value = getattr(holder, name)
            if isinstance(value, type) or inspect.isroutine(value):
                yield name, value
            for kind in inspect.getmro(value) if isinstance(value, type) else ():
                if FOLDER.name == kind.__module__.partition(".")[0]:
                    yield from members(name, kind)


def members(name: str, kind: type) -> Iterator[tuple[str, Any]]:
    """
    What the class *kind*, which is public as *name* or as a part of it, has to document itself.
    """
    fields = set(inspect.get_annotations(kind))
    if attrs.has(kind):
        fields |= {field.name for field in attrs.fields(kind)}
    for member, value in vars(kind).items():
        is_code = isinstance(value, property | classmethod | staticmethod) or callable(value)
        if not member.startswith("_") and is_code and member not in fields:
            yield f"{name}.{member}", value


def test_documentable():
    """
    What has to be documented is found: classes, methods, properties, what a base class brings.
    """
    found = dict(documentable())

    assert found["Client"] is aistats.Client
    assert found.keys() >= {
        *("local", "Client.generate_text", "AsyncStream.aclose", "Stream.headers", "Usage.cost"),
        *("RateLimitError.request_id", "RetryPolicy.next_delay", "Message.to_dict", "Timeout.of"),
        *("ImagePart", "SentRequest.as_curl", "ChatCompletionsRequest.replace"),
    }
    assert "Usage.server_tool_use" not in found
    assert "Attempt.status" not in found


def test_everything_public_is_documented():
    """
    Each public class, function, method and property has a docstring that begins with a sentence.
    """
    poor = [
        name
        for name, value in documentable()
        if not re.search(r"[.:]\)?$", inspect.cleandoc(value.__doc__ or "").split("\n\n")[0])
    ]

    assert poor == []


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_documented(name: str):
    """
    A module says what it is.
    """
    assert (ast.get_docstring(source(name)) or "").strip()


def test_declared_fields_are_properties():
    """
    What a view declares is a property that reads the wire, so that its name says it all.
    """
    for name in types.__all__:
        view = getattr(types, name)
        if isinstance(view, type) and issubclass(view, WireObject):
            for field in inspect.get_annotations(view).keys() - {"_wire", "text"}:
                assert isinstance(vars(view)[field], property), f"{name}.{field}"
