"""
Whole lives of programs that use the package: how they end, fork, are interrupted, forget to close.

Each is a process of its own with `-X dev -W error`; it succeeds and says nothing on stderr.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import platform
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Script
from servers import DONE, OPENING, STOP, Gate, Gateway, completion, delta, error_body, story, until

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

    until(lambda: gateway.requests[0].disconnected)
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
    print(input())
"""
    program = script(ASYNC + code)
    program.reach(gate.reached.is_set)
    program.interrupt()

    until(lambda: gateway.request.disconnected)
    program.tell("interrupted")
    assert program.output() == "interrupted\n"


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


def test_stream_of_the_parent(script: RunScript, gateway: Gateway) -> None:
    """A forked child that reads its parent's stream on is refused, and does the parent no harm."""
    gate = Gate()
    code = """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
stream = client.stream_text(HI)
assert [next(stream).text, next(stream).text] == ["", "Once"]
child = os.fork()
if child == 0:
    try:
        next(stream)
    except aistats.ConfigurationError as error:
        told = "forked" in str(error) and error.partial.text == "Once"
    stream.close()
    del stream
    os._exit(0 if told else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
print("forked", flush=True)
print(stream.final_response().text)
"""
    gateway.stream(OPENING, delta("Once"), gate, delta(" upon"), STOP, DONE)
    program = script(CLIENT + code)
    assert program.process.stdout is not None
    assert program.process.stdout.readline() == "forked\n"
    gate.open()

    assert program.output() == "Once upon\n"


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


def test_first_calls_import_nothing(script: RunScript, gateway: Gateway) -> None:
    """A plain call imports nothing: a fork meanwhile would leave the child with half a module."""
    gateway.reply({"error": "busy"}, 503, {"retry-after-ms": "1"})
    url = gateway.url.replace("127.0.0.1", "localhost")
    output = script(
        f"""
import asyncio, sys
import aistats

client, async_client = aistats.Client(base_url="{url}"), aistats.AsyncClient(base_url="{url}")
modules = set(sys.modules)
with client:
    client.generate_text(model="m", messages="Hi")
    client.stream_text(model="m", messages="Hi").final_response()

async def main():
    async with async_client:
        await async_client.generate_text(model="m", messages="Hi")

asyncio.run(main())
print(sorted(set(sys.modules) - modules))
"""
    ).output()

    assert output == "[]\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc does that")
def test_reads_map_no_memory(script: RunScript) -> None:
    """What asyncio reads into is not asked from the system anew for each answer."""
    code = """
import resource
faults = []
for _ in range(250):
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    client.generate_text(HI)
print(faults[-1] - faults[50])
"""
    assert int(script(CLIENT + code).output()) < 100


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
    until(lambda: not gateway.open_connections)


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
    until(lambda: not gateway.open_connections)


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


def test_client_dropped_as_its_loop_ends(script: RunScript, gateway: Gateway) -> None:
    """A client that is collected in the last moments of its loop still leaves nothing open."""
    script(
        """
import asyncio, gc
import aistats

gc.disable()
tasks = []

async def last():
    try:
        await asyncio.Event().wait()
    finally:
        gc.collect()

async def main():
    client = aistats.AsyncClient()
    client.itself = client  # so that only the collector can end it
    await client.generate_text(model="m", messages="Hi")
    tasks.append(asyncio.ensure_future(last()))
    await asyncio.sleep(0)

asyncio.run(main())
gc.collect()
"""
    ).output()

    until(lambda: not gateway.open_connections)


def test_loop_ends_right_after_a_stream(script: RunScript, gateway: Gateway) -> None:
    """A stream whose body had not quite ended leaves no warning, on the user's session either."""
    gateway.stream(*story("Once"), Gate())
    gateway.stream(*story("Twice"), Gate())
    code = """
import aiohttp
async def main(session=None):
    async with aistats.AsyncClient(session=session) as client:
        print((await client.stream_text(HI).final_response()).text)
async def with_session():
    async with aiohttp.ClientSession() as session:
        await main(session)
asyncio.run(main())
asyncio.run(with_session())
"""
    assert script(ASYNC + code).output() == "Once\nTwice\n"


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


WORK = """
def work(name, count):
    for number in range(count):
        text = f"{name} {number}"
        request = {"model": "m", "messages": text}
        if number % 10:
            got = client.generate_text(request).text
        else:
            got = client.stream_text(request).final_response().text
        if got != text:
            return f"asked for {text!r}, got {got!r}"
    return "right"
"""


def test_many_forks_at_work(script: RunScript) -> None:
    """Sixteen forked processes and their parent each get their own answers, call by call."""
    code = """
import os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
client.generate_text(HI)
is_over = threading.Event()
results = []
def parent(name):
    while not is_over.is_set():
        results.append(work(name, 10))
threads = [threading.Thread(target=parent, args=(f"parent {number}",)) for number in range(2)]
for thread in threads: thread.start()
children = []
for number in range(16):
    child = os.fork()
    if child == 0:
        result = work(f"child {number}", 150)
        if result != "right":
            os.write(2, result.encode())
        os._exit(result != "right")
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
is_over.set()
for thread in threads: thread.join()
print(sum(map(abs, codes)), set(results))
"""
    # Not in asyncio's debug mode, which doubles the time.
    again = "import os, sys\nos.execv(sys.executable, [sys.executable, '-W', 'error', '-c', %r])"

    assert script(again % (CLIENT + WORK + code)).output(within=50) == "0 {'right'}\n"


def test_fork_between_two_loops(script: RunScript, gateway: Gateway) -> None:
    """A forked child runs a loop of its own on an `AsyncClient`, and so does its parent on."""
    code = """
import os
client = aistats.AsyncClient()
async def call(text):
    assert (await client.generate_text(model="m", messages=text)).text == text
asyncio.run(call("first"))
child = os.fork()
if child == 0:
    asyncio.run(call("from the child"))
    os._exit(0)
asyncio.run(call("from the parent"))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert script(ASYNC + code).output() == "0\n"
    assert len({seen.connection for seen in gateway.requests}) == 3


def test_many_threads_on_one_client(script: RunScript) -> None:
    """Sixty-four threads on one client each get their own answers."""
    code = """
import threading
from concurrent.futures import ThreadPoolExecutor
together = threading.Barrier(64)
def thread(number):
    together.wait()
    return work(f"thread {number}", 4)
with ThreadPoolExecutor(64) as pool:
    print(set(pool.map(thread, range(64))))
"""
    assert script(CLIENT + WORK + code).output() == "{'right'}\n"


JOBS = """
import asyncio, logging
logging.getLogger("asyncio").addFilter(lambda record: "Executing" not in str(record.msg))

def ask(client, text):
    return client.generate_text(model="m", messages=text).text

def ask_async(client, text):
    async def call():
        async with client:
            return (await client.stream_text(model="m", messages=text).final_response()).text
    return asyncio.run(call())
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_process_pool(script: RunScript, gateway: Gateway, tmp_path: Path, method: str) -> None:
    """Clients go to a pool of processes as arguments, and work there with the same settings."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method} on this system")
    (tmp_path / "jobs.py").write_text(JOBS)
    code = f"""
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
sys.path.insert(0, {str(tmp_path)!r})
import jobs
headers = {{"X-Of-The-Client": "yes"}}
client = aistats.Client(default_headers=headers)
async_client = aistats.AsyncClient(default_headers=headers, timeout=aistats.Timeout(total=9))
assert client.generate_text(HI).text == "Hi"  # one that is in use, too
# The children get all they need from the clients.
del os.environ["AI_STATS_API_KEY"], os.environ["AI_STATS_BASE_URL"]
with ProcessPoolExecutor(2, multiprocessing.get_context({method!r})) as pool:
    jobs = [pool.submit(jobs.ask, client, "one"), pool.submit(jobs.ask_async, async_client, "two")]
    print(*[job.result() for job in jobs])
    print(pool.submit(client.generate_text, HI).result().text)
"""
    assert script(ASYNC + code).output() == "one two\nHi\n"
    assert all(seen.headers["X-Of-The-Client"] == "yes" for seen in gateway.requests)
    assert len({seen.headers["Authorization"] for seen in gateway.requests}) == 1


def test_session_does_not_pickle(script: RunScript) -> None:
    """A client with a session of the user's own says why it can't go to another process."""
    code = """
import aiohttp, pickle
async def main():
    async with aiohttp.ClientSession() as session:
        try:
            pickle.dumps(aistats.AsyncClient(session=session))
        except Exception as error:
            print(error)
asyncio.run(main())
"""
    assert "session" in script(ASYNC + code).output()


def test_one_liners(script: RunScript, gateway: Gateway) -> None:
    """A client that nobody holds makes its call, and its connection is closed with the loop."""
    code = """
print(asyncio.run(aistats.AsyncClient().generate_text(HI)).text)
print(asyncio.run(aistats.AsyncClient().stream_text(HI).final_response()).text)
print(aistats.Client().generate_text(HI).text)
print("".join(aistats.Client().stream_text(HI).text_deltas()))
input()
"""
    program = script(ASYNC + code)
    program.reach(lambda: len(gateway.requests) == 4 and not gateway.open_connections)
    program.tell()

    assert program.output() == "Hi\n" * 4


def test_trio_with_the_asynchronous_client(script: RunScript) -> None:
    """An `AsyncClient` in a Trio program says what to use in its place."""
    code = """
import trio
async def main():
    for use in (client.generate_text, lambda request: client.stream_text(request).final_response()):
        try:
            await use(HI)
        except aistats.ConfigurationError as error:
            print("Under Trio use a Client" in str(error))
client = aistats.AsyncClient()
trio.run(main)
"""
    assert script(ASYNC + code).output() == "True\nTrue\n"


def test_trio(script: RunScript) -> None:
    """A Trio program calls a `Client` from its threads, several at once and streams too."""
    code = """
import trio
async def call(text):
    request = {"model": "m", "messages": text}
    assert (await trio.to_thread.run_sync(client.generate_text, request)).text == text
async def main():
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(call, f"number {number}")
    reader = client.stream_text(HI).text_deltas()
    print(await trio.to_thread.run_sync(next, reader))
    with trio.move_on_after(0.01):
        await trio.sleep_forever()
    print(client.generate_text(HI).text)
trio.run(main)
"""
    assert script(CLIENT + code).output() == "Hi\nHi\n"


def test_a_clock_that_stands_still(script: RunScript, gateway: Gateway) -> None:
    """Where freezegun has stopped all clocks, a client retries and gives up all the same."""
    pytest.importorskip("freezegun", reason="needs freezegun")
    gateway.reply(error_body(), 503)
    gateway.reply(completion("Hi"))
    gateway.reply(before=Gate())
    program = script("""
import freezegun, aistats
with freezegun.freeze_time("2026-01-01"), aistats.Client() as client:
    response = client.generate_text(model="m", messages="Hi")
    print(response.text, len(response.attempts))
    try:
        client.generate_text(model="m", messages="Hi", timeout=0.2)
    except aistats.APITimeoutError as error:
        print(error.limit)
    print(client.map(["a", "b"], model="m").texts())
""")

    assert program.output() == "Hi 2\ntotal\n['a', 'b']\n"


def test_loops_of_many_threads(script: RunScript) -> None:
    """One `AsyncClient` is used in many threads, each with one event loop after another."""
    program = script("""
import asyncio, sys, threading, aistats
sys.setswitchinterval(1e-6)
client = aistats.AsyncClient()
failures = []

def work():
    for _ in range(40):
        try:
            asyncio.run(client.generate_text(model="m", messages="Hi"))
        except BaseException as error:
            failures.append(repr(error))

threads = [threading.Thread(target=work) for _ in range(8)]
for each in threads: each.start()
for each in threads: each.join()
print(failures[:1], len(client._gateway.transport._pools) <= 8)
""")

    assert program.output() == "[] True\n"


def test_under_trio(script: RunScript) -> None:
    """Under Trio each use of `AsyncClient` says that it needs asyncio, and closing is silent."""
    program = script("""
import trio, aistats

async def main():
    async with aistats.AsyncClient() as client:
        for use in (
            lambda: client.generate_text(model="m", messages="Hi"),
            lambda: client.stream_text(model="m", messages="Hi").final_response(),
            lambda: client.map(["a"], model="m")._all(),
        ):
            try:
                await use()
            except aistats.ConfigurationError as error:
                print("asyncio" in str(error))
        client.stream_text(model="m", messages="Hi")

trio.run(main)
""")

    assert program.output() == "True\n" * 3


@pytest.mark.parametrize("before", ["", "client.generate_text(HI)"])
def test_call_in_an_exit_handler(script: RunScript, before: str) -> None:
    """A call of an exit handler that was registered before any call gets its answer."""
    program = script(f"""
import atexit
import aistats
HI = {{"model": "m", "messages": "Hi"}}
client = aistats.Client()
atexit.register(lambda: print(client.generate_text(HI).text))
{before}
""")

    assert program.output() == "Hi\n"


def test_close_after_nest_asyncio(script: RunScript, gateway: Gateway) -> None:
    """`close()` ends another thread's call, also where nest_asyncio has patched asyncio."""
    pytest.importorskip("nest_asyncio")
    gate = Gate()
    gateway.reply(before=gate)
    program = script("""
import warnings
warnings.simplefilter("ignore")
import nest_asyncio, threading
nest_asyncio.apply()
import aistats
client = aistats.Client()
def call():
    try: client.generate_text(model="m", messages="Hi")
    except aistats.ConfigurationError as error: print(error)
thread = threading.Thread(target=call)
thread.start()
input()
client.close()
thread.join()
""")
    program.reach(gate.reached.is_set)
    program.tell()

    assert "closed" in program.output()
