"""What requests in flight and idle connections hold: the resident set of an nginx worker.

Requests come in waves, so that idle connections are made without as many requests at a time: what
those had would stay in the worker's heap and be taken for the connections'.
"""

import contextlib
import resource
import select
import socket
import threading
import time
from pathlib import Path

from demo_lib.processes import StartFailed, pause
from nginx import PASS, UPSTREAM, Nginx, Site, location
from plan import METHODS, OURS, PROXY, STOCK
from shared import table

DEADLINE = 30
WAVE = 100
# Descriptors that the bench and nginx need for other things.
SPARE = 400
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: null\r\nDate: Mon, 05 Jan 2026 10:00:00 GMT\r\n"
    b"Content-Type: text/html; charset=utf-8\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n"
    b"X-Frame-Options: DENY\r\nVary: Cookie\r\n\r\n" + 1024 * b"x"
)


class Holder:
    """A server on unix sockets that answers only when it is told to, in a thread."""

    def __init__(self, paths):
        self._epoll, self._open, self._asked = select.epoll(), {}, []
        self._listeners = {}
        for path in paths:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
            listener.listen(4 * WAVE)
            self._listeners[listener.fileno()] = listener
            self._epoll.register(listener, select.EPOLLIN)
        self._ends = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def held(self):
        """Requests that wait for their answers."""
        return len(self._asked)

    def open(self):
        """Connections."""
        return len(self._open)

    def release(self):
        """Answers all that wait."""
        asked, self._asked = self._asked, []
        for connection in asked:
            with contextlib.suppress(OSError):
                connection.send(RESPONSE)

    def close(self):
        """Ends all connections and listens no longer."""
        self._ends = True
        self._thread.join()
        for each in (*self._open.values(), *self._listeners.values()):
            each.close()

    def _run(self):
        while not self._ends:
            for number, _ in self._epoll.poll(0.1):
                if number in self._listeners:
                    connection, _ = self._listeners[number].accept()
                    self._open[connection.fileno()] = connection
                    self._epoll.register(connection, select.EPOLLIN)
                else:
                    self._read(self._open[number])

    def _read(self, connection):
        # A request without a body comes in one piece through a unix socket.
        with contextlib.suppress(OSError):
            if connection.recv(65536):
                self._asked.append(connection)
                return
        self._epoll.unregister(connection)
        del self._open[connection.fileno()]
        connection.close()


class Clients:
    """Clients that ask once each and wait."""

    def __init__(self, nginx, holder):
        host, port = nginx.address.rsplit(":", 1)
        self._address, self._holder, self._sockets = (host, int(port)), holder, []

    def ask(self, path):
        """A wave of them, until the holder has their requests."""
        text = f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode()
        for _ in range(WAVE):
            self._sockets.append(socket.create_connection(self._address, DEADLINE))
            self._sockets[-1].sendall(text)
        _wait(lambda: self._holder.held() == len(self._sockets), "all requests arrived")

    def answered(self):
        """The holder answers; all read to the end."""
        self._holder.release()
        for client in self._sockets:
            with client:
                answer = b""
                while more := client.recv(65536):
                    answer += more
                if not answer.startswith(b"HTTP/1.1 200 "):
                    raise StartFailed(f"a client got {answer[:40]!r}")
        self._sockets = []


def measure(setup, wanted, running):
    """Bytes for each request in flight and each idle connection, by method, and how many there were:
    `wanted`, or what the limit of descriptors allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + SPARE
    descriptors = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    waves = (descriptors - SPARE) // 2 // WAVE
    results = {"count": waves * WAVE, "wanted": wanted, "descriptors": descriptors, "methods": {}}
    for method in METHODS:
        print(f"memory: {method}, {waves * WAVE} requests and connections", flush=True)
        flight = _run(setup, method, waves, descriptors, _in_flight, running)
        idle = _run(setup, method, waves, descriptors, _idle, running)
        results["methods"][method] = {**flight, **idle}
    return results


def _in_flight(waves, nginx, holder):
    """All waves at once."""
    clients, before = Clients(nginx, holder), _resident(nginx)
    for wave in range(waves):
        clients.ask(f"/{wave}")
    grown = _resident(nginx) - before
    clients.answered()
    return {"in_flight": grown / (waves * WAVE)}


def _idle(waves, nginx, holder):
    """A wave of connections to each server, one after the other."""
    clients, before, had = Clients(nginx, holder), _resident(nginx), holder.open()
    for wave in range(waves):
        clients.ask(f"/{wave}")
        clients.answered()
    pause(0.5)
    grown, connections = _resident(nginx) - before, holder.open() - had
    return {"connections": connections, "idle": grown / (waves * WAVE)}


def _run(setup, method, waves, descriptors, use, running):
    """What `use` finds out of a new nginx whose worker has had a wave of requests already."""
    name = f"memory-{use.__name__}-{method}"
    folder = setup.folder / name
    folder.mkdir()
    sockets = [folder / f"{number}.s" for number in range(waves + 1)]
    holder = Holder(sockets)
    # Ours lets idle connections take a quarter of the worker's at most.
    site = _site(method, sockets, 4 * descriptors, descriptors)
    nginx = Nginx(setup, f"nginx-{name}", site, running)
    nginx.wait()
    first = Clients(nginx, holder)
    first.ask(f"/{waves}")
    first.answered()
    found = use(waves, nginx, holder)
    nginx.stop()
    holder.close()
    return found


def _site(method, sockets, connections, descriptors):
    """A location for each socket, with room for a wave of idle connections."""
    locations, http = "", ""
    for number, path in enumerate(sockets):
        address, name = f"unix:{path}", f"u{number}"
        if method == PROXY:
            http += UPSTREAM.format(name=name, address=address, keepalive=WAVE)
        locations += location(f"/{number}", PASS[method].format(address=address, upstream=name, scheme="http"))
    if method == OURS:
        http += f"    rs_uwsgi_keepalive {WAVE};\n"
    # More connections than descriptors: nginx warns of that.
    main = f"worker_rlimit_nofile {descriptors};\n"
    return Site(locations, http, connections=connections, main=main)


def _resident(nginx):
    """Bytes of memory of its own that the worker has resident."""
    pause(0.2)
    status = Path(f"/proc/{nginx.worker()}/status").read_text(encoding="ascii")
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise StartFailed("this kernel does not say RssAnon")


def _wait(condition, what):
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise StartFailed(f"not within {DEADLINE} s: {what}")
        pause(0.002)


def report(results):
    """The table and what it says."""
    methods, count = results["methods"], results["count"]
    lines = [
        ["a request in flight", *(f"{methods[method]['in_flight']:.0f}" for method in METHODS)],
        ["an idle connection", *(f"{methods[method]['idle']:.0f}" for method in METHODS)],
        ["connections left idle", *(str(methods[method]["connections"]) for method in METHODS)],
    ]
    limit = ""
    if count < results["wanted"]:
        limit = f", since a process may have {results['descriptors']} descriptors here"
    head = [f"bytes, of {count} each", "stock", "ours", "proxy"]
    return f"""\
Memory of the worker's own that is resident (RssAnon): its growth, divided by {count}{limit}.
A request in flight counts with its client's connection. {STOCK} keeps no idle connections.

{table(head, lines)}"""
