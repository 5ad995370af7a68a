"""Clients that connect and ask once each: all at once, or so many at a time."""

import select
import socket
import time
from dataclasses import dataclass

# A client that got no answer: its connection ended, was refused, or nothing came in time.
NONE = 0


@dataclass
class Answer:
    """What one client got: the status or NONE, the seconds from its connect() to the last byte, and
    when that was, in seconds after the first client's connect()."""

    status: int
    latency: float
    at: float


@dataclass
class _Client:
    socket: socket.socket
    began: float
    read: bytes = b""


class Crowd:
    """So many clients that ask for one page. `in_flight` limits how many do so at a time."""

    def __init__(self, address, path, clients, in_flight=None):
        host, port = address.rsplit(":", 1)
        self._address = (host, int(port))
        self._request = f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode()
        self._left = clients
        self._in_flight = clients if in_flight is None else in_flight
        self._epoll = select.epoll()
        self._open = {}
        self._began = time.monotonic()
        self._answers = []

    def waiting(self):
        """Clients that have asked and were not answered."""
        return len(self._open)

    def ask(self):
        """Lets as many clients connect and ask as may do so now."""
        while self._left and len(self._open) < self._in_flight:
            self._left -= 1
            self._connect()

    def run(self, seconds=None):
        """Asks and collects answers until all are there, or for so many seconds. Returns the answers
        so far."""
        end = None if seconds is None else time.monotonic() + seconds
        self.ask()
        while self._open:
            left = -1 if end is None else end - time.monotonic()
            if end is not None and left <= 0:
                break
            for number, events in self._epoll.poll(left):
                self._event(number, events)
            self.ask()
        return self._answers

    def give_up(self):
        """Whoever still waits goes. Returns the answers."""
        for number in list(self._open):
            self._end(number)
        self._epoll.close()
        return self._answers

    def _connect(self):
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._open[client.fileno()] = _Client(client, time.monotonic())
        client.connect_ex(self._address)
        try:
            # On the loopback device the connection is there already, as a rule.
            client.send(self._request)
            self._epoll.register(client, select.EPOLLIN)
        except BlockingIOError:
            self._epoll.register(client, select.EPOLLOUT)
        except OSError:
            self._end(client.fileno())

    def _event(self, number, events):
        client = self._open[number]
        try:
            if events & select.EPOLLOUT:
                client.socket.send(self._request)
                self._epoll.modify(number, select.EPOLLIN)
                return
            more = client.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        client.read += more
        if not more:
            self._end(number)

    def _end(self, number):
        client = self._open.pop(number)
        now = time.monotonic()
        client.socket.close()
        whole = client.read.startswith(b"HTTP/1.1 ") and b"\r\n\r\n" in client.read
        status = int(client.read[9:12]) if whole else NONE
        self._answers.append(Answer(status, now - client.began, now - self._began))
