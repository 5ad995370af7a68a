"""Sends requests to the demo's nginx, by way of stock's uwsgi_pass or of rs_uwsgi_pass, and says what
became of them. A browser cannot: it opens six connections to a host at most."""

import asyncio
import collections
import os
import statistics
import time

from flask import Flask, abort

app = Flask(__name__)
HOST, PORT = os.environ["DEMO_NGINX"].split(":")
BURST = 400  # requests at once; uWSGI's listen queue takes 100
MIX = ["/work"] * 6 + ["/missing"] * 2 + ["/upload"] * 2
MIX_CLIENTS, MIX_REQUESTS = 8, 20  # clients, and requests of each, one after the other
TIMEOUT = 60  # seconds


@app.route("/show/run/")
def ready():
    """What can be run."""
    return {"what": list(WAYS)}


@app.route("/show/run/<what>/<way>", methods=["POST"])
def run(what, way):
    """Runs `what` and returns, by status, how many answers there were, and how long they took."""
    if what not in WAYS or way not in ("stock", "ours"):
        abort(404)
    began = time.monotonic()
    answers = asyncio.run(WAYS[what](f"/show/{way}"))
    times = sorted(took for _, took in answers)
    return {
        "statuses": collections.Counter(status for status, _ in answers),
        "seconds": time.monotonic() - began,
        "median": statistics.median(times),
        "longest": times[-1],
        "answers": [[status, took] for status, took in answers],
    }


async def burst(prefix):
    """All at the same time."""
    return await asyncio.gather(*(ask(f"{prefix}/work") for _ in range(BURST)))


async def upload(prefix):
    """20 MB, which the application refuses when it has seen their length."""
    return [await ask(f"{prefix}/upload", b"x" * 20_000_000)]


async def mix(prefix):
    """Some clients that send requests of several kinds, one after the other."""

    async def client(number):
        paths = [MIX[(number + turn) % len(MIX)] for turn in range(MIX_REQUESTS)]
        bodies = [b"x" * 1000 if path == "/upload" else None for path in paths]
        return [await ask(prefix + path, body) for path, body in zip(paths, bodies)]

    clients = await asyncio.gather(*(client(number) for number in range(MIX_CLIENTS)))
    return [answer for answers in clients for answer in answers]


WAYS = {"burst": burst, "upload": upload, "mix": mix}


async def ask(path, body=None):
    """One request on a connection of its own. Returns status ("none" without an answer) and seconds."""
    began = time.monotonic()
    try:
        status = await asyncio.wait_for(exchange(path, body), TIMEOUT)
    except (OSError, ValueError, IndexError, asyncio.TimeoutError):
        status = "none"
    return status, time.monotonic() - began


async def exchange(path, body):
    reader, writer = await asyncio.open_connection(HOST, int(PORT))
    try:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {HOST}\r\n{length}Connection: close\r\n\r\n"
        writer.write(head.encode() + (body or b""))
        await writer.drain()
        answer = await reader.read()
        return str(int(answer.split(b" ", 2)[1]))
    finally:
        writer.close()
