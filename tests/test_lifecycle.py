"""
Whole lives of programs that use the package: how they end, fork, are interrupted, forget to close.

Each is a process of its own with `-X dev -W error`; it succeeds and says nothing on stderr.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from conftest import Script
from servers import OPENING, Gate, Gateway, delta, story, until

RunScript = Callable[..., Script]

CLIENT = """
import aistats
HI = {"model": "openai/gpt-5-nano", "messages": "Hi"}
client = aistats.Client()
"""

ASYNC = """
import asyncio
import aistats
HI = {"model": "openai/gpt-5-nano", "messages": "Hi"}
"""


LEFT_OPEN = [
    "unused = client.stream_text(HI)",
    "client.generate_text(HI); client.stream_text(HI).final_response()",
    "stream = client.stream_text(HI); next(iter(stream))",
    "stream = client.stream_text(HI); lines = stream.lines(); next(lines)",
    "for chunk in client.stream_text(HI): break",
    "client.itself = client; stream = client.stream_text(HI); client.stream = stream; next(stream)",
    "more = [aistats.Client() for _ in range(5)]; [each.generate_text(HI) for each in more]",
]


def test_client_that_is_never_closed(script: RunScript) -> None:
    """A program that never closes its client ends promptly and quietly, whatever it left open."""
    with contextlib.ExitStack() as stack:
        programs = []
        for code in LEFT_OPEN:
            gateway = stack.enter_context(Gateway())
            if "next(" in code or "break" in code:
                gateway.stream(OPENING, delta("Once"), Gate())
            programs.append(script(CLIENT + code + "\nprint('end')", gateway))
        outputs = [program.output() for program in programs]

    assert outputs == ["end\n"] * len(LEFT_OPEN)


def test_end_with_a_call_in_flight(script: RunScript, gateway: Gateway) -> None:
    """A program whose daemon thread is in a call ends without waiting for the answer."""
    gate = Gate()
    gateway.reply(before=gate)
    code = """
import threading
threading.Thread(target=client.generate_text, args=(HI,), daemon=True).start()
print(input())
"""
    program = script(CLIENT + code)
    program.reach(gate.reached.is_set)
    program.tell("end")

    assert program.output() == "end\n"


@pytest.mark.parametrize(
    "call",
    ["client.generate_text(HI)", "for chunk in client.stream_text(HI): print(chunk.text, end='')"],
    ids=["call", "stream"],
)
def test_ctrl_c(script: RunScript, gateway: Gateway, call: str) -> None:
    """Ctrl-C interrupts a call and a stream's read at once, and the gateway is let go."""
    gate = Gate()
    if "stream" in call:
        gateway.stream(OPENING, delta("Once"), gate)
    else:
        gateway.reply(before=gate)
    code = f"""
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
input()
assert client.generate_text(HI).text == "Hi"  # the client goes on
"""
    program = script(CLIENT + code)
    program.reach(gate.reached.is_set)
    program.interrupt()

    until(lambda: gateway.requests[0].disconnected, within=1)
    program.tell()
    assert program.output().endswith("interrupted\n")


def test_ctrl_c_in_an_async_program(script: RunScript, gateway: Gateway) -> None:
    """Ctrl-C in an asynchronous program closes the stream that it was reading."""
    gate = Gate()
    gateway.stream(OPENING, delta("Once"), gate)
    code = """
async def main():
    async with aistats.AsyncClient() as client:
        async for chunk in client.stream_text(HI):
            pass
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""
    program = script(ASYNC + code)
    program.reach(gate.reached.is_set)
    program.interrupt()

    assert program.output() == "interrupted\n"
    until(lambda: gateway.request.disconnected, within=1)


def test_fork(script: RunScript, gateway: Gateway) -> None:
    """A forked child uses the client anew while its parent goes on with its own connection."""
    code = """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later warn of any fork with threads
client.generate_text(HI)
stream = client.stream_text(HI)
reader = iter(stream)
next(reader)
child = os.fork()
if child == 0:
    text = client.generate_text({"model": "m", "messages": "from the child"}).text
    text += client.stream_text({"model": "m", "messages": " streamed"}).final_response().text
    client.close()
    os._exit(0 if text == "from the child streamed" else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
rest = "".join(piece.text for piece in reader)
assert rest == "Once upon", rest
assert client.generate_text({"model": "m", "messages": "from the parent"}).text == "from the parent"
"""
    gateway.reply()
    gateway.stream(*story("Once", " upon"))

    assert script(CLIENT + code).output() == ""
    first, stream, child, child_stream, last = gateway.requests
    assert first.connection == stream.connection == last.connection
    assert child.connection == child_stream.connection != first.connection


def test_fork_in_the_middle_of_a_call(script: RunScript, gateway: Gateway) -> None:
    """A child forked while another thread is in a call can use the client."""
    gate = Gate()
    gateway.reply(before=gate)
    code = """
import os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
thread = threading.Thread(target=client.generate_text, args=(HI,))
thread.start()
input()
child = os.fork()
if child == 0:
    os._exit(0 if client.generate_text(HI).text == "Hi" else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
client.generate_text(HI)
print("forked", flush=True)
thread.join()
"""
    program = script(CLIENT + code)
    program.reach(gate.reached.is_set)
    program.tell()
    program.reach(lambda: len(gateway.requests) == 3)
    gate.open()

    assert program.output() == "forked\n"


def test_child_that_never_calls(script: RunScript) -> None:
    """A forked child that leaves the client alone ends quietly, as any program."""
    code = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
client.generate_text(HI)
child = os.fork()
if child == 0:
    sys.exit(0)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
assert client.generate_text(HI).text == "Hi"
"""
    assert script(CLIENT + code).output() == ""


def test_three_loops(script: RunScript, gateway: Gateway) -> None:
    """An `AsyncClient` serves one event loop after another, as a notebook's cells may want."""
    code = """
client = aistats.AsyncClient()
for _ in range(3):
    print(asyncio.run(client.generate_text(HI)).text)
async def last():
    print((await client.stream_text(HI).final_response()).text)
    await client.aclose()
asyncio.run(last())
"""
    assert script(ASYNC + code).output() == "Hi\n" * 4
    until(lambda: not gateway.open_connections, within=1)


def test_loops_side_by_side(script: RunScript, gateway: Gateway) -> None:
    """An `AsyncClient` serves event loops of several threads at once, each with its own pool."""
    code = """
import threading
client = aistats.AsyncClient()
async def call(text):
    print((await client.generate_text(model="m", messages=text)).text, flush=True)
async def main():
    await call("here")
    await asyncio.to_thread(lambda: asyncio.run(call("there")))
    await call("here")
    await client.aclose()
asyncio.run(main())
"""
    assert script(ASYNC + code).output() == "here\nthere\nhere\n"
    first, second, third = gateway.requests
    assert first.connection == third.connection != second.connection
    until(lambda: not gateway.open_connections, within=1)


def test_clients_made_at_import(script: RunScript) -> None:
    """Clients of a module's top level are used from functions, threads and an event loop."""
    code = """
import threading
async_client = aistats.AsyncClient()
client = aistats.Client()
def work():
    print(client.generate_text(HI).text, flush=True)
thread = threading.Thread(target=work)
thread.start()
thread.join()
work()
async def main():
    print((await async_client.generate_text(HI)).text)
    await async_client.aclose()
asyncio.run(main())
"""
    assert script(ASYNC + code).output() == "Hi\n" * 3


def test_dropped_async_stream(script: RunScript, gateway: Gateway) -> None:
    """An asynchronous stream that is dropped closes its connection without a warning."""
    gateway.stream(OPENING, delta("Once"), Gate())
    code = """
async def main():
    async with aistats.AsyncClient() as client:
        async for chunk in client.stream_text(HI):
            break
        await asyncio.to_thread(input)
        print((await client.generate_text(HI)).text)
asyncio.run(main())
"""
    program = script(ASYNC + code)
    program.reach(lambda: gateway.requests)
    until(lambda: gateway.requests[0].disconnected)
    program.tell()

    assert program.output() == "Hi\n"


def test_dropped_async_client(script: RunScript, gateway: Gateway) -> None:
    """An asynchronous client that is dropped closes its connections without a warning."""
    code = """
async def main():
    client = aistats.AsyncClient()
    await client.generate_text(HI)
    del client
    print(await asyncio.to_thread(input))
asyncio.run(main())
"""
    program = script(ASYNC + code)
    program.reach(lambda: gateway.requests)
    until(lambda: not gateway.open_connections)
    program.tell("end")

    assert program.output() == "end\n"


def test_async_client_that_outlives_its_loop(script: RunScript, gateway: Gateway) -> None:
    """An asynchronous client that is never closed ends with the program, without a warning."""
    gateway.reply()
    gateway.stream(OPENING, delta("Once"), Gate())
    code = """
client = aistats.AsyncClient()
async def main():
    global stream
    await client.generate_text(HI)
    stream = client.stream_text(HI)
    async for chunk in stream:
        break
asyncio.run(main())
print("end")
"""
    assert script(ASYNC + code).output() == "end\n"


def test_streams_dropped_on_other_threads(script: RunScript, gateway: Gateway) -> None:
    """Streams and clients that are collected on whatever thread close their connections."""
    for _ in range(8):
        gateway.stream(OPENING, delta("Once"), Gate())
    code = """
import gc, threading
def work():
    own = aistats.Client()
    stream = own.stream_text(HI)
    next(iter(stream))
    own.cycle = [own, stream]  # only the collector can take it
    stream = client.stream_text(HI)
    next(iter(stream))
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
gc.collect()
print(input())
"""
    program = script(CLIENT + code)
    program.reach(lambda: len(gateway.requests) == 8)
    until(lambda: all(seen.disconnected for seen in gateway.requests))
    program.tell("end")

    assert program.output() == "end\n"
