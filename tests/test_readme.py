"""
README.md and the pages in docs/ tell the truth: their programs run as they stand there, and what
they list is what is there.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import importlib.metadata
import inspect
import json
import os
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from conftest import KEY
from media import MEDIA
from servers import OPENING, Gateway, completion, delta, error_body, story
from test_local import missing

import aistats
from aistats import _cli, _errors

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in FILES}

# -- programs -----------------------------------------------------------------------------------


@attrs.frozen
class Block:
    """
    One block of code: its name, its page, the language, the line above it and the code.
    """

    name: str
    page: str
    language: str
    line: int
    code: str = attrs.field(repr=False)


def read_blocks(page: str) -> Iterator[Block]:
    """
    The blocks of code of *page*, each named by page, heading and its number below that.
    """
    heading, count = "", 0
    language, begun, code = None, 0, ""
    for number, line in enumerate(PAGES[page].splitlines(keepends=True), 1):
        if language is None and line.startswith("#"):
            heading, count = line.strip("# \n"), 0
        elif language is None and line.startswith("```"):
            language, begun, code = line[3:].strip(), number, ""
        elif line.startswith("```"):
            count += 1
            yield Block(f"{page}: {heading} {count}", page, language or "", begun, code)
            language = None
        else:
            code += line


BLOCKS = {block.name: block for page in PAGES for block in read_blocks(page)}
PROGRAMS = [block.name for block in BLOCKS.values() if block.language == "python"]
OPENAI_PROGRAMS = [block.name for block in BLOCKS.values() if block.language == "python openai"]
LOCAL_PROGRAMS = [block.name for block in BLOCKS.values() if block.language == "python local"]


def run(name: str) -> None:
    """
    The program in the block called *name* has been run, by itself, as in a file of its own.

    `await` and `async with` may stand outside of functions, as in a notebook.
    """
    block = BLOCKS[name]
    code = compile(
        "\n" * block.line + block.code,
        f"{block.page}.md",
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    namespace: dict[str, Any] = {"__name__": "readme"}
    left = eval(code, namespace)
    if inspect.iscoroutine(left):
        asyncio.run(left)
    # A client that was never closed ends when it is collected.
    namespace.clear()
    gc.collect()


@pytest.fixture(autouse=True)
def _environment(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    The environment has a key and leads to the gateway on loopback; files go to the test's folder,
    which has those that the programs read.
    """
    (tmp_path / "lighthouse.png").write_bytes(MEDIA["PNG"])
    (tmp_path / "speech.wav").write_bytes(MEDIA["WAV"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AI_STATS_API_KEY", KEY)
    monkeypatch.setenv("AI_STATS_BASE_URL", gateway.url)


def lines(*frames: bytes) -> list[str]:
    """
    The lines of these frames, as they are printed.
    """
    return [frame.decode().strip() for frame in frames]


def test_programs_were_found():
    """
    The programs that the tests below run are on the pages, and each of them is run.
    """
    assert {BLOCKS[name].page for name in PROGRAMS} == {
        *("README", "calls", "compared", "errors", "map", "notebooks", "streams"),
        "timeouts-and-retries",
    }
    assert len(PROGRAMS) >= 9
    assert LOCAL_PROGRAMS == ["local-model: The local model 1"]
    assert {block.language for block in BLOCKS.values()} <= {
        "",
        "console",
        "python",
        "python local",
        "python openai",
    }


@pytest.mark.parametrize("name", PROGRAMS)
def test_requests_in_variables_are_annotated(name: str):
    """
    A dict that a program passes as it stands has a type that a type checker takes for a request.
    """
    tree = ast.parse(BLOCKS[name].code)
    unannotated = {
        node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Dict)
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    passed = {
        call.args[0].id
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ("generate_text", "stream_text")
        and call.args
        and isinstance(call.args[0], ast.Name)
    }

    assert passed & unannotated == set()


def call_of(name: str, arguments: str) -> dict[str, Any]:
    """
    An answer that calls the function *name*.
    """
    function = {"name": name, "arguments": arguments}
    call = {"id": "call_1", "type": "function", "function": function}
    message = {"role": "assistant", "content": "", "refusal": None, "tool_calls": [call]}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
    return completion(choices=[choice])


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs(name: str, gateway: Gateway):
    """
    Each program runs as it stands there, and asks the gateway with the key of the environment.
    """
    run(name)

    assert gateway.requests
    keys = re.findall("key-of-[a-z-]+", BLOCKS[name].code) or [KEY]
    assert {seen.headers["Authorization"] for seen in gateway.requests} == {
        f"Bearer {key}" for key in keys
    }
    assert {seen.path for seen in gateway.requests} == {"/v1/chat/completions"}


def sent_by(name: str, gateway: Gateway) -> list[str]:
    """
    What the program called *name* sends: the bodies of its requests, without their order.
    """
    before = len(gateway.requests)
    if "Call a function" in name:
        gateway.reply(call_of("get_weather", '{"city":"Oslo"}'))
    run(name)
    return sorted(
        json.dumps(without_none([seen.json[key] for key in ("model", "messages")]), sort_keys=True)
        for seen in gateway.requests[before:]
    )


def without_none(value: Any) -> Any:
    """
    The JSON *value* without the keys that are null.
    """
    if isinstance(value, dict):
        return {key: without_none(each) for key, each in value.items() if each is not None}
    return [without_none(each) for each in value] if isinstance(value, list) else value


# It leaves its connections to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("name", OPENAI_PROGRAMS)
def test_a_program_of_openai_does_the_same(
    name: str, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    """
    The program beside ours sends the same requests.
    """
    pytest.importorskip("openai", reason="openai is missing")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", gateway.url)
    ours = name.replace(" 2", " 1")

    assert sent_by(name, gateway) == sent_by(ours, gateway)


def test_lines_of_the_compared_programs():
    """
    The table has each program, with the number of its lines that are not blank.
    """
    rows = dict(re.findall(r"^\| \[(.*?)\]\(#.*?\) (\|.*\|)$", PAGES["compared"], re.MULTILINE))
    programs = [name for name in PROGRAMS if name.startswith("compared: ")]

    assert len(programs) == len(OPENAI_PROGRAMS) == 12
    assert rows == {
        name.removeprefix("compared: ").removesuffix(" 1"): "| {} | {} |".format(
            *(
                sum(bool(line.strip()) for line in BLOCKS[each].code.splitlines())
                for each in (name, name.replace(" 1", " 2"))
            )
        )
        for name in programs
    }


STORY = story("Stream ", "a ", "story")


def test_the_documented_calls(gateway: Gateway, capsys: pytest.CaptureFixture[str]):
    """
    The first program prints the text of the answer, and then the lines of the stream's chunks.
    """
    run("calls: Calls 1")
    first, second = gateway.requests

    assert capsys.readouterr().out.splitlines() == [
        "Write a limerick about lighthouses.",
        *lines(*STORY[:-1]),
    ]
    assert first.json == {
        "model": "openai/gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "You are helpful."},
            {"role": "user", "content": "Write a limerick about lighthouses."},
        ],
        "temperature": 0.5,
    }
    assert second.json == {
        "model": "openai/gpt-4o-mini",
        "messages": [{"role": "user", "content": "Stream a story"}],
        "stream": True,
    }


def test_the_first_minute(gateway: Gateway, capsys: pytest.CaptureFixture[str]):
    """
    README's program asks for an answer, a stream, many answers and another stream.
    """
    run("README: The first minute 1")
    one, stream_and_texts, shown = capsys.readouterr().out.splitlines()

    assert one == "Name three lighthouses."
    assert stream_and_texts.startswith("Tell a story.['What is 0 squared?', 'What is 1 squared?', ")
    assert shown == "Tell a story."
    assert len(gateway.requests) == 1 + 1 + 100 + 1
    assert len(Path("answers.jsonl").read_bytes().splitlines()) == 1 + 100


def test_the_page_of_parameters():
    """
    The page of parameters is what its program makes of the declarations.
    """
    names = runpy.run_path(str(ROOT / "docs" / "parameters.py"))

    assert names["page"]() == PAGES["parameters"]
    assert PAGES["parameters"].count("\n| `") > 60


def test_the_picture(gateway: Gateway):
    """
    The cells in README's picture run as they stand there.
    """
    pytest.importorskip("nbclient", reason="nbclient and ipykernel are missing")
    names = runpy.run_path(str(ROOT / "docs" / "picture.py"))
    with aistats.Client() as client:
        namespace = {"client": client, "model": "m"}
        for cell in names["CELLS"]:
            exec(cell, namespace)

    assert len(gateway.requests) == 100 + 1
    assert names["PICTURE"].is_file()


def test_the_documented_asynchronous_calls(gateway: Gateway, capsys: pytest.CaptureFixture[str]):
    """
    The asynchronous program prints the text of the stream, piece by piece.
    """
    run("calls: Calls 2")

    assert capsys.readouterr().out == "Stream a story"
    assert [seen.json["messages"][0]["content"] for seen in gateway.requests] == [
        "Say hi",
        "Stream a story",
    ]


def test_the_documented_runs(gateway: Gateway, capsys: pytest.CaptureFixture[str]):
    """
    The programs print the answers in input order; the first one's file has them.
    """
    run("map: Many requests at once 1")
    texts, stopped, numbers = capsys.readouterr().out.splitlines()

    assert texts == "['Classify: A fine lamp.', 'Classify: It broke.']"
    assert stopped == "None"
    assert numbers.startswith("30 None ")
    assert len(Path("reviews.jsonl").read_bytes().splitlines()) == 1 + 2
    run("map: Many requests at once 2")
    assert capsys.readouterr().out.splitlines() == [
        f"{number} What is {number} squared?" for number in range(100)
    ]


def test_the_documented_streams(capsys: pytest.CaptureFixture[str]):
    """
    The program prints the text, what the whole has beside it, and every line of a second stream.
    """
    run("streams: Streams 1")
    text, *second = capsys.readouterr().out.splitlines()

    assert text.startswith("Stream a storystop Usage({")
    assert second == lines(*STORY)


def test_the_documented_tools(gateway: Gateway, capsys: pytest.CaptureFixture[str]):
    """
    A call that the model asks for is run, and goes back with its answer.
    """
    gateway.reply(call_of("get_weather", '{"city":"Oslo"}'))
    run("calls: Tools 1")
    first, second = gateway.requests

    assert capsys.readouterr().out == "Sunny in Oslo\n"
    assert second.json["messages"][:1] == first.json["messages"]
    assert second.json["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny in Oslo"},
    ]


FAULTS = ["temperature a number from 0 to 2", "top_p a number from 0 to 1"]


def test_the_documented_images(gateway: Gateway):
    """
    The parts of the page are in the requests: a file as a `data:` URL, a URL as it is, and sound.
    """
    run("calls: Images and audio 1")

    image, sound = [seen.json["messages"][0]["content"] for seen in gateway.requests]
    assert image[1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert image[2]["image_url"] == {"url": "https://example.com/tower.jpg"}
    assert sound[1]["input_audio"]["format"] == "wav"


def test_the_documented_errors_of_a_stream(gateway: Gateway, capsys: pytest.CaptureFixture[str]):
    """
    Each fault of the wrong request is printed, and of the stream that was cut what had arrived.
    """
    gateway.stream(OPENING, delta("Once "), delta("upon"))
    run("errors: Errors 2")

    assert capsys.readouterr().out.splitlines() == [*FAULTS, "Once uponOnce upon None"]


def test_the_documented_errors_of_a_status(gateway: Gateway, capsys: pytest.CaptureFixture[str]):
    """
    A quota that is used up and a refused request are caught where they are documented to be.
    """
    gateway.reply(error_body("key_limit_exceeded"), 429, {"Retry-After": "5"})
    run("errors: Errors 2")
    gateway.reply(error_body("validation_error", description="No."), 400)
    run("errors: Errors 2")

    assert capsys.readouterr().out.splitlines() == [
        *FAULTS,
        "key_limit_exceeded 5.0 G-01K3TESTERROR000000000000",
        *FAULTS,
        "400 validation_error No.",
    ]


@pytest.mark.local
@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize("name", LOCAL_PROGRAMS)
def test_a_local_program_runs(
    name: str,
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """
    A program with the local model runs as it stands there, without a key, and prints an answer.
    """
    monkeypatch.delenv("AI_STATS_API_KEY")
    monkeypatch.delenv("AI_STATS_BASE_URL")
    run(name)

    assert capsys.readouterr().out.strip()
    assert gateway.requests == []


# -- the tree of errors -------------------------------------------------------------------------


def trees_of_errors() -> dict[str, str]:
    """
    The tree as the page has it, and as the module's docstring does.
    """
    return {"page": BLOCKS["errors: Errors 1"].code, "module": inspect.getdoc(_errors) or ""}


def classes_in(tree: str) -> Iterator[tuple[type[Exception], str, str]]:
    """
    The classes of a drawn *tree*, each with the name of the one that it hangs on and what is said
    beside it. Where several stand in a line, they hang on the same one.
    """
    hangs_on: dict[int, str] = {}
    for line in tree.splitlines():
        entries = list(re.finditer(r"(?:^ *|[├└]── )(AIStatsError|(?<=─ )\w+)([^├]*)", line))
        if entries:
            # A branch starts below the first letter of what it hangs on.
            parent = hangs_on.get(entries[0].start(), "Exception")
            hangs_on[entries[0].start(1)] = entries[0][1]
            yield from ((getattr(aistats, entry[1]), parent, entry[2]) for entry in entries)


def descendants(kind: type[Exception]) -> Iterator[type[Exception]]:
    """
    All classes below *kind*.
    """
    for child in kind.__subclasses__():
        if child.__module__.startswith("aistats._schema"):
            continue  # no call raises these yet, so they are not public
        yield child
        yield from descendants(child)


@pytest.mark.parametrize("where", trees_of_errors())
def test_the_tree_of_errors(where: str):
    """
    The tree that is drawn has each error once, below the right one, with what else it is.
    """
    tree = trees_of_errors()[where]
    drawn = list(classes_in(tree))

    assert len(drawn) == len({kind for kind, _, _ in drawn})
    assert {kind for kind, _, _ in drawn} == {
        aistats.AIStatsError,
        *descendants(aistats.AIStatsError),
    }
    for kind, parent, beside in drawn:
        first, *others = kind.__bases__
        named = re.findall(r"\((ValueError|TimeoutError)\)", beside)
        assert (kind, first.__name__) == (kind, parent)
        assert (kind, [other.__name__ for other in others]) == (kind, named)


def test_the_tree_says_what_errors_have():
    """
    The statuses and attributes that stand beside an error on the page are that error's.
    """
    for kind, _, beside in classes_in(trees_of_errors()["page"]):
        for status in re.findall(r"\b[45]\d\d\b", beside):
            assert _errors.status_error_class(int(status)) is kind
        for names in re.findall(r"\(([a-z_]+(?:, [a-z_]+)*)\)", beside):
            assert all(hasattr(kind("it"), name) for name in names.split(", "))


# -- what the pages say ---------------------------------------------------------------------------


def test_the_limits():
    """
    The time limits and the number of retries on the page are the defaults.
    """
    page = PAGES["timeouts-and-retries"]
    table = dict(re.findall(r"^\| `(\w+)` \| (\d+) s \|", page, re.MULTILINE))

    assert {name: float(seconds) for name, seconds in table.items()} == attrs.asdict(
        aistats.Timeout()
    )
    assert "twice by default" in page
    assert aistats.RetryPolicy().max_retries == 2


OBJECTS = {
    "aistats": aistats,
    "chat": aistats.ChatCompletionsResponse({}),
    "chunk": aistats.ChatCompletionChunk({}),
    "stream": aistats.Stream,
    "error": aistats.APIStatusError("it"),
}
# What only one class of errors has, the name of a file, and modules that import alone loads.
ELSEWHERE = {
    *(("error", "faults"), ("chat", "completions"), ("stream", "get_final_completion")),
    *(("aistats", "dask"), ("aistats", "ray")),
}


def test_names():
    """
    Each attribute that a page names is there.
    """
    text = "\n".join(PAGES.values())
    found = re.findall(r"\b(aistats|chat|chunk|stream|error)\.([a-z]\w*)", text)

    assert len(set(found)) > 15
    assert {
        (name, attribute) for name, attribute in found if not hasattr(OBJECTS[name], attribute)
    } <= ELSEWHERE


def test_the_commands_options(capsys: pytest.CaptureFixture[str]):
    """
    The page of the command names its options, and no others.
    """
    options = set(re.findall(r"`(--[a-z-]+)`", PAGES["command-line"]))
    with pytest.raises(SystemExit):
        _cli.main(["--help"])
    shown = capsys.readouterr().out

    assert options == set(re.findall(r"--[a-z-]+", shown)) - {"--help", "--version"}


def links(path: Path) -> list[Path]:
    """
    The files of the project that the page at *path* links to, pictures included.
    """
    found = re.findall(
        r"\]\(([^)]+)\)|<(?:img|source)[^>]* src(?:set)?=\"([^\"]+)\"", PAGES[path.stem]
    )
    named = (link or source for link, source in found)
    files = (name for name in named if "://" not in name and not name.startswith("#"))
    return [(path.parent / name).resolve() for name in files]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_links(path: Path):
    """
    Each link to a file of the project leads to one.
    """
    assert [link for link in links(path) if not link.exists()] == []


def test_contents():
    """
    README's contents have each page, by the page's own title.
    """
    contents = dict(re.findall(r"^\| \[(.+)\]\(docs/([\w-]+)\.md\)", PAGES["README"], re.MULTILINE))
    titles = {page: text.partition("\n")[0] for page, text in PAGES.items() if page != "README"}

    assert {page: f"# {title}" for title, page in contents.items()} == titles


def test_the_extras():
    """
    README's table has each extra that is for a user.
    """
    named = set(
        re.findall(r"`(\w+)`", PAGES["README"].partition("| extra |")[2].partition("\n\n")[0])
    )
    extras = set(importlib.metadata.metadata("aistats-sdk").get_all("Provides-Extra") or [])

    assert named == extras - {"bench", "dev", "tests"}


def test_the_commands_are_run():
    """
    README's commands for a fresh clone are those that the project's own check runs, and no others.
    """
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("the check is not part of a source distribution")
    commands = re.findall(r"^python3 -m venv .*$", PAGES["README"], re.MULTILINE)
    asked = re.findall(r'^readme_command "(.+)"$', script.read_text(encoding="utf-8"), re.MULTILINE)
    pattern = "^python3 -m venv .venv && .*"

    assert f'grep -m 1 "{pattern}$1" README.md' in script.read_text(encoding="utf-8")
    run = [[command for command in commands if re.match(pattern + each, command)] for each in asked]
    assert all(len(matching) == 1 for matching in run)
    assert sorted(matching[0] for matching in run) == sorted(commands)
    assert any(command.endswith("python -m pytest") for command in commands)


# -- the name of the distribution ---------------------------------------------------------------

# What git, tools and machines leave in the folder.
NOT_OURS = {"build", "dist", "htmlcov", "__pycache__", "node_modules"}


def files_of_the_project() -> Iterator[Path]:
    """
    The files of the project, without what was built or is hidden; the check's folder is not hidden.
    """
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name not in NOT_OURS and (name == ".ci" or not name.startswith("."))
        ]
        yield from (Path(folder, name) for name in names)


def test_nobody_is_told_to_install_somebody_elses_package():
    """
    No file of the project says to install from PyPI what has only the import's name.
    """
    told = re.compile(
        rb"""(?:\binstall|\buv\s+add|\badd)\s+(?:-\S+\s+)*["'`]?aistats(?![\w.-]|\s+is\b)"""
    )
    found = [path for path in files_of_the_project() if told.search(path.read_bytes())]

    # In two pieces, or it would be found here.
    assert told.search(b"pip install -U " + b"'aistats[local]'")
    assert not told.search(b"pip install -U aistats-sdk")
    assert found == []
