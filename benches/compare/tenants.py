"""Many upstreams and many keys: what a request costs, with how many of them (instructions), and what the
configuration costs: `nginx -t`, and the memory of a worker.

The idle connections are always as many as they may be, a quarter of `worker_connections`, so that each
connection that is parked takes another one's place: of N upstreams that are asked in turn, it is always the
next one's. Where there are fewer upstreams than that, connections are used again.
"""

import resource
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
    blocks = BLOCKS // 10 if quick else BLOCKS
    print(f"{blocks} upstreams", flush=True)
    start = {method: _start(setup, method, blocks, backend, running) for method in METHODS}
    return {"upstreams": upstreams, "keys": keys, "blocks": blocks, "start": start}


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


def _variables(method, _count, backend):
    """One location, where the path says which server."""
    address = backend.address(0).replace("127.0.0.1", "127.1.$a.$b")
    lines = PASS[method].format(address=address, upstream="")
    found = r"        location ~ ^/k/(?<a>\d+)/(?<b>\d+)$"
    return f"{found} {{\n            {lines}\n        }}\n", ""


def _path(make, number):
    return f"/{number}" if make is _blocks else f"/k/{number // 250}/{1 + number % 250}"


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

With {measured["blocks"]} upstream blocks, and a location for each:

{table(["", "stock", "ours", "ours ÷ stock"], begun)}"""
