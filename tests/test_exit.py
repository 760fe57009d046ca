"""
Calls while a process ends: in exit handlers, in late threads, in finalizers and signal handlers.

Each program is a process of its own with `-X dev -W error`. It succeeds and prints nothing to
stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from conftest import Script
from servers import Gate, Gateway

RunScript = Callable[..., Script]

BEGINNING = """
import asyncio, atexit, os, threading
import aistats
HI = {"model": "m", "messages": "Hi"}

def call(client):
    return client.generate_text(HI).text

def stream(client):
    return client.stream_text(HI).final_response().text

def fan_out(client):
    return "".join(outcome.text for outcome in client.map(["H", "i"], model="m"))

def report(function, *args):
    try:
        print(function(*args), flush=True)
    except aistats.ConfigurationError as error:
        print("refused:", error, flush=True)

def at_exit(function, *args):
    atexit.register(report, function, *args)

def late(function, *args):
    def run():
        threading.main_thread().join()
        report(function, *args)
    threading.Thread(target=run).start()
"""

STARTS_THREADS = not (3, 12) <= sys.version_info < (3, 12, 2)
"""
Whether Python starts threads until the exit handlers are done; 3.12.0 and 3.12.1 stop earlier.
"""


@pytest.mark.parametrize("use", ["call", "stream", "fan_out"])
@pytest.mark.parametrize("when", ["at_exit", "late"])
def test_client_at_exit(script: RunScript, when: str, use: str) -> None:
    """Exit handlers and threads that outlive the main thread call, stream and map."""
    code = f"{BEGINNING}\nclient = aistats.Client()\n"
    # Registered before any call, with a client that calls earlier, and with one that doesn't.
    first = script(f"{code}{when}({use}, client)")
    later = script(f"{code}{when}({use}, client); client.generate_text(HI)")
    other = script(f"{code}{when}(lambda: {use}(aistats.Client())); client.generate_text(HI)")

    assert later.output() == other.output() == "Hi\n"
    if STARTS_THREADS:
        assert first.output() == "Hi\n"
    else:
        assert "refused: A Client's first call came while" in first.output()


@pytest.mark.parametrize("when", ["at_exit", "late"])
def test_async_client_at_exit(script: RunScript, when: str) -> None:
    """`AsyncClient` looks up a host, asks for a key and reads a checkpoint, all while it ends."""
    program = script(f"""{BEGINNING}
import tempfile
url = os.environ["AI_STATS_BASE_URL"].replace("127.0.0.1", "localhost")
async def use():
    async with aistats.AsyncClient(lambda: "k" * 20, url) as client:
        print((await client.generate_text(HI)).text)
        with tempfile.TemporaryDirectory() as folder:
            run = client.map(["once"], model="m", checkpoint=folder + "/checkpoint")
            return [outcome.text async for outcome in run]
{when}(lambda: asyncio.run(use()))
""")

    assert program.output() == "Hi\n['once']\n"


@pytest.mark.parametrize("when", ["at_exit", "late"])
def test_key_function_at_exit(script: RunScript, when: str) -> None:
    """A `Client` asks a function for its key while the process ends."""
    program = script(f"""{BEGINNING}
client = aistats.Client(lambda: "k" * 20)
{when}(call, client)
aistats.Client().generate_text(HI)
""")

    assert program.output() == "Hi\n"


def test_key_function_that_hangs(script: RunScript) -> None:
    """A program ends although the key function of a daemon thread's call hangs."""
    program = script(f"""{BEGINNING}
asked = threading.Event()
def hang():
    asked.set()
    threading.Event().wait()
client = aistats.Client(hang)
threading.Thread(target=call, args=(client,), daemon=True).start()
asked.wait()
""")

    assert program.output() == ""


FINALIZERS = """
import sys
class Service:
    def __init__(self):
        self.client = aistats.Client()
        self.stream = self.client.stream_text(HI)
        self.itself = self

    def __del__(self):
        {}
        os.write(1, b"end")

service = sys.modules["service"] = Service()  # collected after the exit handlers
{}
del service
"""


def test_clients_in_finalizers(script: RunScript) -> None:
    """After the exit handlers, `close()` returns at once and a call is refused; neither hangs."""
    used = "service.client.generate_text(HI)"
    close, end, call, first = (
        script(BEGINNING + FINALIZERS.format(finalizer, use))
        for finalizer, use in [
            ("self.client.close()", used),
            ("self.stream.close()", "next(service.stream)"),
            ("report(call, self.client)", used),
            ("report(call, self.client)", ""),
        ]
    )

    assert close.output() == end.output() == "end"
    refusal = "refused: A Client can't be called after Python's exit handlers ran.\nend"
    assert call.output() == first.output() == refusal


def test_exit_handler_that_waits_for_a_call(script: RunScript, gateway: Gateway) -> None:
    """An exit handler that joins a daemon thread gets the result of the thread's call."""
    gate = Gate()
    gateway.reply(before=gate)
    program = script(f"""{BEGINNING}
client = aistats.Client()
thread = threading.Thread(target=report, args=(call, client), daemon=True)
atexit.register(thread.join)
atexit.register(print, "exit", flush=True)
thread.start()
input()
""")
    program.reach(gate.reached.is_set)
    program.tell()
    gate.open()

    assert program.output() == "exit\nHello there\n"


def test_exit_in_a_hook(script: RunScript) -> None:
    """A hook that raises `SystemExit` ends its own call, not the loop of the other calls."""
    program = script(f"""{BEGINNING}
def leave(*args): raise SystemExit(3)
policy = aistats.RetryPolicy(retry_if=leave)
broken = aistats.Client(base_url="http://127.0.0.1:1", max_retries=policy)
try: call(broken)
except SystemExit as error: print(error.code)
print(call(aistats.Client()))
""")

    assert program.output() == "3\nHi\n"


def test_first_call_in_a_signal_handler(script: RunScript) -> None:
    """A signal handler may make a call while the code that it interrupted makes its first one."""
    program = script(f"""{BEGINNING}
import signal
from aistats._net import loop
client = aistats.Client()
signal.signal(signal.SIGALRM, lambda *_: call(client))
for number in range(60):
    loop._background._reset()  # as before the first call of the process
    signal.setitimer(signal.ITIMER_REAL, 5e-5 * (number % 20 + 1))
    call(client)
    signal.setitimer(signal.ITIMER_REAL, 0)
os._exit(0)  # without a warning of the loops that are left
""")

    assert program.output() == ""
