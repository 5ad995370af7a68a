"""The server that counts (uwsgi/counter.ini), stopped and started while requests come."""

import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

CLIENTS, PAUSE = 12, 0.1  # clients, and seconds between two requests of each
BEFORE, AFTER = 1, 1  # seconds with requests before the stop and after the start
START = 20  # seconds that a start may take


class Restarts:
    """Runs one at a time: who comes meanwhile waits."""

    def __init__(self):
        self.lock = threading.Lock()
        self.socket = Path(os.environ["DEMO_RUN"]) / "counter.sock"
        self.counter = Path(os.environ["DEMO_COUNTER"])

    def run(self, url, said):
        """Puts into the queue `said` what happens ("event") and each answer ("status", "took", "count"), and None
        at the end."""
        try:
            with self.lock:
                self._run(url, said)
        finally:
            said.put(None)

    def _run(self, url, said):
        self.counter.unlink(missing_ok=True)
        server, over = self._start(), threading.Event()
        clients = [threading.Thread(target=count, args=(url, over, said)) for _ in range(CLIENTS)]
        try:
            for client in clients:
                client.start()
            time.sleep(BEFORE)
            said.put({"event": "stop"})
            stop(server)
            said.put({"event": "start"})
            server = self._start()
            said.put({"event": "back"})
            time.sleep(AFTER)
        finally:
            over.set()
            for client in clients:
                client.join()
            stop(server)

    def _start(self):
        conf = Path(os.environ["DEMO_CONF"])
        log = Path(os.environ["DEMO_LOGS"]) / "counter.log"
        with log.open("ab") as output:
            server = subprocess.Popen(
                # ends with the thread that has started it
                ["setpriv", "--pdeathsig", "KILL", "--", "/usr/bin/uwsgi-core"]
                + ["--ini", conf / "common.ini", "--ini", conf / "counter.ini"],
                env={**os.environ, "DEMO_SOCKET": str(self.socket)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        until = time.monotonic() + START
        while not self.socket.exists() and server.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        return server


def stop(server):
    """As an update would: SIGTERM, and to its end."""
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def count(url, over, said):
    """One client: a request, a pause, the next."""
    while not over.is_set():
        began = time.monotonic()
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                status, number = str(answer.status), int(answer.read())
        except urllib.error.HTTPError as error:
            status, number = str(error.code), None
        except (OSError, ValueError):
            status, number = "none", None
        said.put({"status": status, "took": time.monotonic() - began, "count": number, "right": status == "200"})
        time.sleep(PAUSE)
