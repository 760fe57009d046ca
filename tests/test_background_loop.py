"""
The event loop that all clients share: many clients, closing during calls, patched threads.

Each program is a process of its own. It succeeds and prints nothing to stderr.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Script
from servers import OPENING, Gate, Gateway, delta, until

RunScript = Callable[..., Script]

BEGINNING = """
import collections, gc, os, random, threading, time
import aistats
HI = {"model": "m", "messages": "Hi"}

def call(client):
    return client.generate_text(HI).text

def open_files():
    return len(os.listdir("/dev/fd"))
"""


def test_many_clients(script: RunScript) -> None:
    """Two hundred clients that all have called share one thread."""
    program = script(f"""{BEGINNING}
clients = [aistats.Client() for _ in range(200)]
assert {{call(client) for client in clients}} == {{"Hi"}}
print(threading.active_count())
""")

    assert program.output() == "2\n"


def test_client_for_each_call(script: RunScript) -> None:
    """A client that is made for each call and dropped leaves no thread and no connection."""
    program = script(f"""{BEGINNING}
from concurrent.futures import ThreadPoolExecutor
call(aistats.Client())
most = collections.Counter()
def view(_):
    text = call(aistats.Client())
    most["threads"] = max(most["threads"], threading.active_count())
    most["files"] = max(most["files"], open_files())
    return text
with ThreadPoolExecutor(8) as pool:
    assert set(pool.map(view, range(200))) == {{"Hi"}}
assert most["threads"] <= 10, most
assert most["files"] <= 50, most
end = time.monotonic() + 10
while open_files() > 10 and time.monotonic() < end:
    gc.collect()
print(open_files() <= 10)
""")

    assert program.output() == "True\n"


def test_close_during_calls(script: RunScript, gateway: Gateway) -> None:
    """Calls that race with `close()` get an answer or `ConfigurationError`; nothing is left."""
    program = script(f"""{BEGINNING}
ends = collections.Counter()
def work(client, delay):
    time.sleep(delay)
    try:
        ends[call(client)] += 1
    except aistats.ConfigurationError as error:
        ends["closed"] += "closed" in str(error)
for number in range(60):
    client = aistats.Client()
    if number % 3:
        call(client)
    delays = [random.random() * 0.002 for _ in range(4)]
    threads = [threading.Thread(target=work, args=(client, delay)) for delay in delays]
    for thread in threads: thread.start()
    time.sleep(random.random() * 0.003)
    client.close()
    for thread in threads: thread.join()
print(ends.total())
input()
""")
    assert program.process.stdout is not None
    assert program.process.stdout.readline() == "240\n"

    until(lambda: not gateway.open_connections)
    program.tell()
    program.output()


PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
    "nest_asyncio": "import nest_asyncio; nest_asyncio.apply()",
}


@pytest.fixture(params=PATCHES)
def patched(request: pytest.FixtureRequest) -> str:
    """
    The beginning of a program in which one of the *PATCHES* is applied.
    """
    pytest.importorskip(request.param)
    quietly = "import warnings; warnings.simplefilter('ignore')"
    return f"{quietly}\n{PATCHES[request.param]}\n{BEGINNING}"


def test_patched(script: RunScript, patched: str) -> None:
    """Several clients call, stream and map in several threads, and are closed."""
    program = script(f"""{patched}
clients = [aistats.Client(), aistats.Client()]
texts = []
def work(client):
    texts.append(call(client))
    texts.append(client.stream_text(HI).final_response().text)
    texts.append("".join(each.text for each in client.map(["H", "i"], model="m")))
threads = [threading.Thread(target=work, args=(client,)) for client in clients * 3]
for thread in threads: thread.start()
for thread in threads: thread.join()
for client in clients: client.close()
with aistats.Client() as client: texts.append(call(client))
print(len(texts), set(texts))
""")

    assert program.output() == "19 {'Hi'}\n"


def test_close_where_patched(script: RunScript, gateway: Gateway, patched: str) -> None:
    """`close()` ends another thread's stream."""
    gate = Gate()
    gateway.stream(OPENING, delta("Once"), gate)
    program = script(f"""{patched}
client = aistats.Client()
begun = threading.Event()
def read():
    try:
        for chunk in client.stream_text(HI): begun.set()
    except aistats.ConfigurationError as error:
        print("closed" in str(error))
thread = threading.Thread(target=read)
thread.start()
begun.wait()
client.close()
thread.join()
""")

    assert program.output() == "True\n"


def test_loop_that_cannot_start(script: RunScript) -> None:
    """Where threads are greenlets and an event loop runs, a `Client` says that it can't start."""
    pytest.importorskip("gevent")
    program = script(f"""
import warnings; warnings.simplefilter('ignore')
{PATCHES["gevent"]}
{BEGINNING}
import asyncio
async def main():
    try: call(aistats.Client())
    except aistats.ConfigurationError as error: print("gevent" in str(error))
asyncio.run(main())
print(call(aistats.Client()))
""")

    assert program.output() == "True\nHi\n"


def test_ctrl_c_beside_another_loop(script: RunScript) -> None:
    """Ctrl-C at any moment of a call ends it where an event loop runs, and the client works on."""
    program = script(f"""{BEGINNING}
import asyncio, signal
def interrupt(*_): raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
interrupted = []
async def cell(client):
    for number in range(60):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0002 * (number % 15 + 1))
            call(client)
        except KeyboardInterrupt:
            interrupted.append(number)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return call(client)
with aistats.Client() as client:
    call(client)
    print(asyncio.run(cell(client)), bool(interrupted))
""")

    assert program.output() == "Hi True\n"


def test_finalizers_on_the_loop(script: RunScript) -> None:
    """Objects collected in the loop's thread may close their client; a call there is refused."""
    program = script(f"""{BEGINNING}
class Closes:
    def __init__(self):
        self.client, self.itself = aistats.Client(), self
        call(self.client)
    def __del__(self):
        self.client.close()
        done.add("closed")
class Calls:
    def __init__(self): self.itself = self
    def __del__(self):
        try: call(client)
        except aistats.ConfigurationError as error: done.add(str(error)[:50])
done = set()
client = aistats.Client()
broken = aistats.Client(base_url="http://127.0.0.1:1", max_retries=aistats.RetryPolicy(
    retry_if=lambda *_: gc.collect() < 0))
gc.disable()
Closes(), Calls()
try: call(broken)
except aistats.APIConnectionError: print(*sorted(done), sep="\\n")
""")

    assert program.output() == "A Client was called from the event loop thread tha\nclosed\n"
