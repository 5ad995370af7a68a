"""Many upstreams and many keys: what a request costs, with how many of them (instructions), and what the
configuration costs: `nginx -t`, and the memory of a worker. And what a request costs that waits for its server, with
how many that others wait for.

The idle connections are always as many as they may be, a quarter of `worker_connections`, so that each
connection that is parked takes another one's place: of N upstreams that are asked in turn, it is always the
next one's. Where there are fewer upstreams than that, connections are used again.
"""

import asyncio
import re
import resource
import socket
import subprocess
from pathlib import Path
from statistics import median

import instructions
from backends import Everywhere
from demo_lib.processes import StartFailed, pause
from load import request
from nginx import PASS, Nginx, Site, location
from plan import OURS, STOCK
from shared import table

# One nginx has so many upstreams, or so many servers behind one upstream.
UPSTREAMS = (1, 100, 300, 1000, 4000)
KEYS = (1, 1000)
# A quarter of them may be idle.
CONNECTIONS = 256
# Below them requests use connections again: room for all of KEYS.
ROOMY = 8192
BLOCKS = 10000
# Servers that others wait for and that do not answer, and the clients of one that does.
AWAITED, CLIENTS = (1, 10, 100, 1000), 3
ONE_CONNECTION = "rs_uwsgi_max_connections 1;\n            rs_uwsgi_queue 10000 timeout=1h;\n            "
METHODS = (STOCK, OURS)


def measure(setup, quick, running):
    """All of it, for the report."""
    backend = Everywhere(setup.folder, running)
    upstreams, keys = {}, {}
    for count in UPSTREAMS[:3] if quick else UPSTREAMS:
        print(f"{count} upstreams", flush=True)
        upstreams[count] = {
            method: _instructions(setup, method, count, _blocks, CONNECTIONS, backend, running)
            for method in METHODS
        }
    for count in KEYS:
        print(f"{count} servers that variables yield", flush=True)
        keys[count] = {
            OURS: _instructions(setup, OURS, count, _variables, ROOMY, backend, running)
        }
    awaited = {}
    for count in AWAITED[:3] if quick else AWAITED:
        print(f"{count} servers that requests wait for", flush=True)
        awaited[count] = _waiting(setup, count, backend, running)
    blocks = BLOCKS // 10 if quick else BLOCKS
    print(f"{blocks} upstreams", flush=True)
    start = {method: _start(setup, method, blocks, backend, running) for method in METHODS}
    return {"upstreams": upstreams, "keys": keys, "awaited": awaited, "blocks": blocks, "start": start}


def _blocks(method, count, backend):
    """An upstream for each location."""
    http = "".join(
        f"    upstream u{number} {{ server {backend.address(number)}; }}\n"
        for number in range(count)
    )
    locations = "".join(
        location(f"/{number}", PASS[method].format(address=f"u{number}", upstream=""))
        for number in range(count)
    )
    return locations, http


def _variables(method, _count, backend, more="", folder="k"):
    """One location, where the path says which server."""
    address = backend.address(0).replace("127.0.0.1", "127.1.$a.$b")
    lines = more + PASS[method].format(address=address, upstream="")
    found = rf"        location ~ ^/{folder}/(?<a>\d+)/(?<b>\d+)$"
    return f"{found} {{\n            {lines}\n        }}\n", ""


def _path(make, number):
    return f"/{number}" if make is _blocks else _path_of_server("k", number)


def _path_of_server(folder, number):
    return f"/{folder}/{number // 250}/{1 + number % 250}"


def _instructions(setup, method, count, make, connections, backend, running):
    """Instructions a request, of requests for each upstream or server in turn."""
    locations, http = make(method, count, backend)
    site = Site(locations, http, connections=connections)

    def ask(nginx, requests):
        paths = [_path(make, number % count) for number in range(count + requests)]
        for path in paths:
            request(f"http://{nginx.address}{path}")

    # The same servers in both runs: so many more requests, once around.
    more = max(count, 300)
    name = f"tenants-{make.__name__}-{method}-{count}"
    return instructions.profiles(setup, name, site, (count, count + more), ask, running)[0]


def _waiting(setup, count, backend, running):
    """Instructions a request that waits for one server, while others wait for so many that do not answer."""
    silent = Silent()
    wanted = _variables(OURS, 1, backend, ONE_CONNECTION)
    others = _variables(OURS, 1, silent, ONE_CONNECTION, "s")
    site = Site(wanted[0] + others[0], "    rs_uwsgi_zone 32m;\n", connections=ROOMY)

    def ask(nginx, requests):
        asyncio.run(_ask_beside(nginx.address, count, requests // CLIENTS))

    few = 100 * CLIENTS
    name = f"awaited-{count}"
    found = instructions.profiles(setup, name, site, (few, 5 * few), ask, running)[0]
    silent.close()
    return found


class Silent:
    """A server on one port of all addresses of 127.0.0.0/8 that takes connections and never answers."""

    def __init__(self):
        self._listener = socket.create_server(("0.0.0.0", 0), backlog=4096)
        self._port = self._listener.getsockname()[1]

    def address(self, number):
        """As of `Everywhere`."""
        return f"127.0.{number // 250}.{1 + number % 250}:{self._port}"

    def close(self):
        """Ends it, and the connections to it."""
        self._listener.close()


async def _ask_beside(address, silent, requests):
    """Two clients for each silent server; then CLIENTS for one that answers, each of which makes so many requests."""
    host, port = address.rsplit(":", 1)

    async def begin(path):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return reader, writer

    async def client(path):
        reader, writer = await begin(path)
        for _ in range(requests):
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise StartFailed(f"{path} was answered with {head!r}")
            await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        writer.close()

    waiting = [await begin(_path_of_server("s", number)) for number in range(silent) for _ in range(2)]
    await asyncio.gather(*(client(_path_of_server("k", 0)) for _ in range(CLIENTS)))
    for _, writer in waiting:
        writer.close()


def _start(setup, method, blocks, backend, running):
    """Seconds of `nginx -t`, and bytes of the worker's memory and of the master's."""
    locations, http = _blocks(method, blocks, backend)
    nginx = Nginx(setup, f"blocks-{method}", Site(locations, http, connections=1024), running)
    nginx.wait()
    # then there is a worker
    request(f"http://{nginx.address}/1")
    worker = nginx.worker()
    pause(0.2)
    memory = {
        "worker": _anonymous(worker),
        "master": _anonymous(nginx.process.child.pid),
    }
    nginx.stop()
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [setup.nginx, "-t", "-q", "-p", nginx.prefix, "-c", nginx.prefix / "nginx.conf"],
            check=True,
            capture_output=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"test_seconds": median(times), **memory}


def _anonymous(pid):
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise StartFailed("this kernel does not say RssAnon")


def report(measured):
    """The tables and what they say."""
    lines = []
    for count, row in measured["upstreams"].items():
        line = [f"{count} upstream blocks", *(f"{row[method]:.0f}" for method in METHODS)]
        lines.append([*line, f"{row[OURS] / row[STOCK]:.2f}"])
    for count, row in measured["keys"].items():
        lines.append([f"{count} servers by variables", "", f"{row[OURS]:.0f}", ""])
    waiting = [[f"{count} other servers", f"{cost:.0f}"] for count, cost in measured["awaited"].items()]
    start, begun = measured["start"], []
    for key, name, unit in (
        ("test_seconds", "CPU time of `nginx -t`, ms", 1e-3),
        ("master", "memory of the master, MB", 1e6),
        ("worker", "memory of a worker, MB", 1e6),
    ):
        stock, ours = (start[method][key] for method in METHODS)
        begun.append([name, f"{stock / unit:.1f}", f"{ours / unit:.1f}", f"{ours / stock:.2f}"])
    return f"""\
Instructions a request, over TCP, each upstream or server in turn and each request on a client's connection of its
own. Up to {CONNECTIONS // 4} upstreams connections are used again; beyond that each request takes a new one and
closes the one that has been idle longest. {max(KEYS)} servers keep their connections.

{table(["", "stock", "ours", "ours ÷ stock"], lines)}

Instructions a request where {CLIENTS} clients ask a server that may have one connection, while others wait for so
many servers that do not answer:

{table(["", "ours"], waiting)}

With {measured["blocks"]} upstream blocks, and a location for each:

{table(["", "stock", "ours", "ours ÷ stock"], begun)}"""
