"""Clients that arrive on their own schedule, whatever became of those before them (an open loop). Each
connects and asks once, and closes its connection when its patience is over.

    python3 benches/overload/arrivals.py 127.0.0.1:8080 --rate 200 --patience 1

A client's time begins when it was due, not when this program got round to it: where the program is
late, its clients wait for longer. An answer is in time when its last byte was read, and the whole body
found to be the right one, before the patience ended. Writes one JSON object, see `Outcome`.
"""

import argparse
import errno
import gc
import heapq
import json
import mmap
import random
import select
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

# Of the body of an answer: the number of the client, so often.
REPEATED = 200
# Seconds from the start of the program's loop to the moment that the schedule counts from.
LEAD = 0.05
# The counts of the application: so many bytes for each of its processes.
COUNT = struct.Struct("=Q")


def body(number):
    """What the application answers to client `number`: no other client's answer is the same."""
    return f"{number}\n".encode() * REPEATED


def schedule(rate, parts, patience, seed):
    """When clients are due, in seconds, in order, with the patience of each. `parts` are lengths in
    seconds; in each of them exactly `rate` times its length arrive, at times of no order (a Poisson
    process, given its count). `patience` is the shortest and the longest."""
    chance, began, due = random.Random(seed), 0.0, []
    for seconds in parts:
        times = [began + chance.random() * seconds for _ in range(round(rate * seconds))]
        due += [(at, chance.uniform(*patience)) for at in sorted(times)]
        began += seconds
    return due


@dataclass
class Outcome:
    """What became of the clients that were due in the window, unless it says otherwise."""

    # Clients in the whole schedule, those of them that came, and those due in the window.
    scheduled: int = 0
    came: int = 0
    clients: int = 0
    # The right answer, in time.
    in_time: int = 0
    # Their latencies in seconds, from when the client was due; None where there are none.
    p50: float | None = None
    p99: float | None = None
    # Clients that left without an answer, by their patience.
    left: int = 0
    # Answers by status, other than 200.
    refused: dict = field(default_factory=dict)
    # Connections that ended without a whole answer; answers with another body.
    cut: int = 0
    wrong: int = 0
    # What happened between the window's first moment and its last, whoever it concerns: requests that
    # the application has finished (None: it does not count), and right answers that came in time.
    finished: int | None = None
    answered: int = 0
    # By how much this program was late with clients, in seconds.
    late_p99: float = 0.0
    late_max: float = 0.0


@dataclass(slots=True)
class _Client:
    number: int
    due: float
    deadline: float
    socket: socket.socket
    read: bytes = b""


class Arrivals:
    """Runs one schedule; see `schedule`. `window` is its beginning and end in seconds, `finished` a function
    that returns how many requests the application has finished, or None."""

    def __init__(self, address, due, window, finished):
        host, port = address.rsplit(":", 1)
        self._address, self._due, self._window = (host, int(port)), due, window
        self._finished = finished
        self._epoll, self._open, self._deadlines = select.epoll(), {}, []
        self._began, self._inside, self._base = 0.0, False, None
        self._late, self._latencies, self._refused = [], [], Counter()
        self._outcome = Outcome(scheduled=len(due))

    def run(self):
        """The whole schedule, until the last client has left. Returns the Outcome."""
        # Nothing here makes cycles, and a collection would be a pause for all clients.
        gc.disable()
        coming, marks = iter(self._due), list(self._window)
        following = next(coming, None)
        self._began = time.monotonic() + LEAD
        while True:
            now = self._now()
            while marks and marks[0] <= now:
                marks.pop(0)
                self._mark()
            while following and following[0] <= now:
                self._arrive(*following)
                following = next(coming, None)
            self._leave()
            if not (following or marks or self._open):
                return self._result()
            moments = [following[0]] if following else []
            moments += marks[:1] + [deadline for deadline, _ in self._deadlines[:1]]
            for number, events in self._epoll.poll(max(0.0, min(moments) - self._now())):
                self._event(number, events)

    def _now(self):
        return time.monotonic() - self._began

    def _mark(self):
        """The window begins or ends."""
        self._inside = not self._inside
        if self._finished is None:
            return
        if self._inside:
            self._base = self._finished()
        else:
            self._outcome.finished = self._finished() - self._base

    def _arrive(self, due, patience):
        number = self._outcome.came
        self._outcome.came += 1
        self._outcome.clients += self._counts(due)
        self._late.append(self._now() - due)
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        client = _Client(number, due, due + patience, connection)
        self._open[connection.fileno()] = client
        heapq.heappush(self._deadlines, (client.deadline, connection.fileno()))
        failure = connection.connect_ex(self._address)
        if failure == errno.ECONNREFUSED:
            return self._end(client, "cut")
        if failure not in (0, errno.EINPROGRESS):
            # No port or no descriptor is left: then this program is to blame, and measures nothing.
            raise OSError(failure, f"client {number} cannot connect")
        self._epoll.register(connection, select.EPOLLOUT)
        return None

    def _leave(self):
        """Whose patience is over closes the connection."""
        while self._deadlines and self._deadlines[0][0] <= self._now():
            deadline, number = heapq.heappop(self._deadlines)
            client = self._open.get(number)
            # Another's, where the descriptor was used again.
            if client and client.deadline == deadline:
                self._end(client, "left")

    def _event(self, number, events):
        client = self._open[number]
        try:
            if events & select.EPOLLOUT:
                query = f"GET /?{client.number} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
                client.socket.send(query.encode())
                self._epoll.modify(number, select.EPOLLIN)
                return
            more = client.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        client.read += more
        verdict = judge(client.read, not more, body(client.number))
        if verdict:
            self._end(client, verdict)

    def _end(self, client, verdict):
        now = self._now()
        del self._open[client.socket.fileno()]
        client.socket.close()
        if verdict == "right" and now >= client.deadline:
            # It was there, perhaps in time, but nobody had looked.
            verdict = "left"
        if verdict == "right":
            self._outcome.answered += self._inside
        if not self._counts(client.due):
            return
        if verdict == "right":
            self._latencies.append(now - client.due)
        elif verdict.isdigit():
            self._refused[verdict] += 1
        else:
            setattr(self._outcome, verdict, getattr(self._outcome, verdict) + 1)

    def _counts(self, due):
        begin, end = self._window
        return begin <= due < end

    def _result(self):
        self._epoll.close()
        outcome, latencies, late = self._outcome, sorted(self._latencies), sorted(self._late)
        outcome.in_time = len(latencies)
        outcome.p50, outcome.p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
        outcome.late_p99, outcome.late_max = percentile(late, 0.99), max(late, default=0.0)
        outcome.refused = dict(sorted(self._refused.items()))
        return outcome


def judge(read, ended, expected):
    """What was read of an answer so far: None where more may follow, a status other than 200, "right" for the
    whole body expected, "wrong" for another, "cut" where the connection ended too early."""
    head, found, rest = read.partition(b"\r\n\r\n")
    if not found or not head.startswith(b"HTTP/1."):
        return "cut" if ended else None
    status = head[9:12].decode("latin-1")
    if status != "200":
        return status if status.isdigit() else "wrong"
    lengths = [
        line.partition(b":")[2].strip()
        for line in head.split(b"\r\n")[1:]
        if line.lower().startswith(b"content-length:")
    ]
    if lengths != [str(len(expected)).encode()]:
        return "wrong"
    if len(rest) < len(expected):
        return "cut" if ended else None
    return "right" if rest == expected else "wrong"


def percentile(ordered, share):
    """The value that so large a share of the ordered ones does not exceed; None of none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def counter(path):
    """A function that adds up what the processes of the application have written into the file."""
    with open(path, "rb") as file:
        counts = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return lambda: sum(count for (count,) in COUNT.iter_unpack(counts[:]))


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", help="host:port")
    parser.add_argument("--rate", type=float, required=True, help="clients a second")
    parser.add_argument(
        "--patience", type=float, nargs="+", required=True, help="seconds; two: anything between them"
    )
    parser.add_argument("--before", type=float, default=0, help="seconds before the window begins")
    parser.add_argument("--seconds", type=float, default=20, help="of the window")
    parser.add_argument("--seed", default="0", help="of the schedule")
    parser.add_argument("--counts", type=Path, help="the file in which the application counts")
    parser.add_argument("--output", type=Path, help="where the outcome goes, in place of stdout")
    return parser.parse_args()


def main():
    options = arguments()
    patience = (options.patience[0], options.patience[-1])
    # Nobody who was due in the window has an easier time because no one comes after it.
    parts = (options.before, options.seconds, patience[1])
    due = schedule(options.rate, parts, patience, options.seed)
    window = (options.before, options.before + options.seconds)
    finished = counter(options.counts) if options.counts else None
    outcome = json.dumps(asdict(Arrivals(options.address, due, window, finished).run()))
    if options.output:
        options.output.write_text(outcome, encoding="utf-8")
    else:
        print(outcome)
    return 0


if __name__ == "__main__":
    sys.exit(main())
