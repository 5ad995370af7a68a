"""Sends requests to the demo's nginx in two ways and says what became of them: by stock's uwsgi_pass and by
rs_uwsgi_pass, or to uWSGI and to gunicorn. A browser cannot: it opens six connections to a host at most."""

import asyncio
import collections
import json
import os
import queue
import re
import statistics
import threading
import time
from pathlib import Path

from flask import Flask, Response, abort
from restarts import Restarts

app = Flask(__name__)
HOST, PORT = os.environ["DEMO_NGINX"].split(":")
LOGS = Path(os.environ["DEMO_LOGS"])
BURST = 400  # requests at once; uWSGI's listen queue takes 100
UPLOADS, UPLOAD = 8, 50_000_000  # one after the other, and bytes of each
CHUNKS, CHUNK = 10, b"x" * 10_000
COOKIE = "session=" + "x" * 6_000  # uWSGI's buffer-size is 4096
CALLS, CALLERS = 100, 2  # requests in all, and clients that send them one after the other
MIX = ["/work"] * 6 + ["/missing"] * 2 + ["/upload"] * 2
MIX_CLIENTS, MIX_REQUESTS = 8, 20  # clients, and requests of each, one after the other
TIMEOUT = 60  # seconds


class Answer:
    """Status ("none" without an answer), seconds, the header Server-Timing, and the body as text."""

    def __init__(self, status, took, timing="", body=""):
        self.status, self.took, self.timing, self.body = status, took, timing, body


@app.route("/show/run/")
def ready():
    """What can be run."""
    return {"what": [*RUNS, "restart"]}


@app.route("/show/run/<what>/<way>", methods=["POST"])
def run(what, way):
    """Runs `what` and returns how many answers of which status there were, how long they took, and which are
    what the application said or should have."""
    ways = ("uwsgi", "gunicorn") if what == "connections" else ("stock", "ours")
    if way not in ways:
        abort(404)
    if what == "restart":
        lines = (json.dumps(line) + "\n" for line in restart(way))
        # each as soon as it is there
        return Response(lines, headers={"X-Accel-Buffering": "no"}, mimetype="application/x-ndjson")
    if what not in RUNS or (way == "gunicorn" and not os.environ["DEMO_GUNICORN"]):
        abort(404)
    send, is_right = RUNS[what]
    log = Log(way)
    began = time.monotonic()
    answers = asyncio.run(send(f"/show/{way}"))
    times = sorted(answer.took for answer in answers)
    seconds = time.monotonic() - began
    found = [re.search(r'connection;desc="(new|reused)"', answer.timing) for answer in answers]
    return {
        "statuses": collections.Counter(answer.status for answer in answers),
        "connections": collections.Counter(connection[1] for connection in found if connection),
        "seconds": seconds,
        "median": statistics.median(times),
        "longest": times[-1],
        "answers": [[answer.status, answer.took, is_right(answer)] for answer in answers],
        "body": answers[-1].body if len(answers) == 1 and answers[-1].status == "200" else "",
        "log": "" if all(answer.status == "200" for answer in answers) else log.last(),
    }


class Log:
    """What nginx's error log for one way has more than at the beginning."""

    def __init__(self, way):
        self.path = LOGS / f"show-{way}-error.log"
        self.before = self.path.stat().st_size if self.path.exists() else 0

    def last(self):
        """The last line of level error or above: its message, without the demo's folder."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            file.seek(self.before)
            text = file.read().decode("utf-8", "replace")
        found = re.findall(r"\[(?:error|crit)\] \S+ (?:\*\d+ )?(.*?)(?:, client: .*)?$", text, re.M)
        return found[-1].replace(os.environ["DEMO_RUN"], "") if found else ""


async def burst(prefix):
    """All at the same time."""
    return await asyncio.gather(*(ask(f"{prefix}/work") for _ in range(BURST)))


async def upload(prefix):
    """50 MB, which the application refuses when it has seen their length. Several times, for whether stock notices
    the answer is chance."""
    body = [b"x" * UPLOAD]
    return [await ask(f"{prefix}/upload", body) for _ in range(UPLOADS)]


async def chunked(prefix):
    """A body that does not say how long it is."""
    return [await ask(f"{prefix}/upload", [CHUNK] * CHUNKS, chunked=True)]


async def cookie(prefix):
    """A request whose vars are more than uWSGI takes."""
    return [await ask(f"{prefix}/work", headers=f"Cookie: {COOKIE}\r\n")]


async def connections(prefix):
    """The same page of the same application, which both servers have."""
    path = "/gunicorn/api/time" if prefix.endswith("gunicorn") else "/api/time"
    return await in_turn([path] * (CALLS // CALLERS) for _ in range(CALLERS))


async def mix(prefix):
    """Some clients that send requests of several kinds, one after the other."""

    def paths(number):
        return [prefix + MIX[(number + turn) % len(MIX)] for turn in range(MIX_REQUESTS)]

    return await in_turn(paths(number) for number in range(MIX_CLIENTS))


async def in_turn(clients):
    """Several clients at once, each with a list of paths."""

    async def client(paths):
        return [await ask(path, [b"x" * 1000] if path.endswith("/upload") else None) for path in paths]

    answers = await asyncio.gather(*(client(paths) for paths in clients))
    return [answer for of_one in answers for answer in of_one]


def has(*statuses):
    return lambda answer: answer.status in statuses


RUNS = {
    "burst": (burst, has("200")),
    "upload": (upload, has("413")),
    "chunked": (chunked, lambda answer: answer.body.startswith(f"{CHUNKS * len(CHUNK)} bytes")),
    "cookie": (cookie, has("431")),
    "connections": (connections, has("200")),
    "mix": (mix, has("200", "404")),
}


async def ask(path, body=None, headers="", chunked=False):
    """One request on a connection of its own. `body` is pieces of bytes."""
    began = time.monotonic()
    try:
        answer = await asyncio.wait_for(exchange(path, body, headers, chunked), TIMEOUT)
        return Answer(answer[0], time.monotonic() - began, *answer[1:])
    except (OSError, ValueError, IndexError, asyncio.TimeoutError):
        return Answer("none", time.monotonic() - began)


async def exchange(path, body, headers, chunked):
    reader, writer = await asyncio.open_connection(HOST, int(PORT))
    try:
        if chunked:
            headers += "Transfer-Encoding: chunked\r\n"
            body = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in body] + [b"0\r\n\r\n"]
        elif body:
            headers += f"Content-Length: {sum(map(len, body))}\r\n"
        method = "POST" if body else "GET"
        head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}Connection: close\r\n\r\n"
        writer.write(head.encode() + b"".join(body or []))
        await writer.drain()
        head, _, text = (await reader.read()).partition(b"\r\n\r\n")
        timing = re.search(rb"(?im)^server-timing: (.*?)\r?$", head)
        status = str(int(head.split(b" ", 2)[1]))
        return status, timing[1].decode() if timing else "", text.decode("utf-8", "replace")
    finally:
        writer.close()


RESTARTS = Restarts()


def restart(way):
    """Counts without a pause while the server is stopped and started: yields each answer, and what happens."""
    said = queue.Queue()
    log = Log(way)
    runner = threading.Thread(target=RESTARTS.run, args=(f"http://{HOST}:{PORT}/show/{way}/counter", said))
    runner.start()
    failed = False
    while (line := said.get()) is not None:
        failed = failed or not line.get("right", True)
        yield line
    runner.join()
    if failed:
        yield {"log": log.last()}
