"""Servers as child processes: start, wait until they answer, stop, and nothing left over."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import time

START_DEADLINE = 30  # seconds until a server has to answer
STOP_DEADLINE = 8  # seconds from SIGTERM to SIGKILL
POLL = 0.05  # seconds between two looks
KILL_DEADLINE = 2  # seconds from SIGKILL to giving up
LOG_TAIL = 25  # lines shown of a log after a failure

_stop_requested = False


class Stopped(Exception):
    """Ctrl-C, SIGTERM or SIGHUP came."""


class StartFailed(Exception):
    """A server ended or did not answer; the text holds the tail of its log."""


def stop_on_signals():
    """Notes the signals that end the demo. `pause` raises them where stopping is safe: an
    exception straight from the handler could lose a child between its start and its entry in the
    list."""

    def note(_number, _frame):
        global _stop_requested
        _stop_requested = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, note)


def pause(seconds=POLL):
    """Waits a moment. Raises Stopped after a signal."""
    if _stop_requested:
        raise Stopped
    time.sleep(seconds)


class Process:
    """One server (or one command) in a session of its own, its output in `logs[0]`.

    The session keeps the terminal's Ctrl-C away, so that the demo decides about the order;
    pdeathsig ends the server even where the demo is killed.
    """

    def __init__(self, name, argv, env, logs, cwd):
        self.name, self.logs = name, logs
        with open(logs[0], "ab") as output:
            self.child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", *map(str, argv)],
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_for(self, answers, what):
        """Polls `answers()` until it is true. Raises StartFailed at the deadline, or when the
        process has ended before."""
        deadline = time.monotonic() + START_DEADLINE
        while not answers():
            if self.child.poll() is not None:
                raise self.failure(f"ended with status {self.child.returncode} before {what}")
            if time.monotonic() > deadline:
                raise self.failure(f"took more than {START_DEADLINE} s: {what}")
            pause()

    def wait_for_success(self):
        """Waits for the end of a command. Raises StartFailed unless it ends with status 0."""
        while self.child.poll() is None:
            pause()
        if self.child.returncode != 0:
            raise self.failure(f"ended with status {self.child.returncode}")

    def must_run(self):
        """Raises StartFailed when the process has ended."""
        if self.child.poll() is not None:
            raise self.failure(f"ended with status {self.child.returncode}")

    def failure(self, reason):
        """The exception for `reason`, with the tails of this process's logs."""
        text = [f"{self.name} {reason}"]
        for log in self.logs:
            try:
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL:]
            except OSError:
                continue
            text += [f"--- {log}", *lines]
        return StartFailed("\n".join(text))

    def terminate(self):
        """Asks the server to stop."""
        if self.child.poll() is None:
            self.child.terminate()

    def reap(self):
        """Waits until the server and its workers are gone, by force after the deadline. Returns
        whether they are."""
        for deadline, last_resort in ((STOP_DEADLINE, signal.SIGKILL), (KILL_DEADLINE, 0)):
            end = time.monotonic() + deadline
            while time.monotonic() < end:
                self.child.poll()
                if not self._signal_group(0):
                    return True
                time.sleep(POLL)
            self._signal_group(last_resort)
        return False

    def _signal_group(self, number):
        """The session leader's pid is the group's id as well. Returns whether the group exists."""
        try:
            os.killpg(self.child.pid, number)
            return True
        except ProcessLookupError:
            return False


def free_ports(*candidates):
    """For each argument, a list of ports, the first of them that is free on 127.0.0.1; None for an
    argument without one. Port 0 is one of the kernel's choice. All are different."""
    with contextlib.ExitStack() as held:
        return [_first_free(ports, held) for ports in candidates]


def _first_free(ports, held):
    for port in ports:
        probe = held.enter_context(socket.socket())
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return probe.getsockname()[1]
    return None


def uwsgi_status(address, **extra):
    """Asks a uWSGI server for a page without nginx. Returns the status, or None where nothing
    answers yet. `address` is host:port or a socket's path, `extra` are vars."""
    request = {
        "REQUEST_METHOD": "GET",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "HTTP_HOST": "localhost",
        "QUERY_STRING": "",
        "REQUEST_URI": extra.get("PATH_INFO", ""),
        **extra,
    }
    words = [word.encode() for pair in request.items() for word in pair]
    packet = b"".join(struct.pack("<H", len(word)) + word for word in words)
    try:
        with _connect(address) as connection:
            connection.sendall(struct.pack("<BHB", 0, len(packet), 0) + packet)
            line = connection.makefile("rb").readline().split()
    except OSError:
        return None
    return int(line[1]) if len(line) > 1 else None


def _connect(address):
    if address.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(START_DEADLINE)
        connection.connect(address)
        return connection
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), START_DEADLINE)
