"""Clients that arrive at a rate, on their own schedule, and leave when their patience is over, before an
application that can serve 80 of them a second. What arrives is up to ten times that. See arrivals.py for
the clients, figures.py for what is made of what they saw.

Each measurement has its own uWSGI, front end and clients, started for it, so that none has learned anything
from the one before. Several run at the same time, as long as no more than `TOGETHER` clients a second
come in all: the application sleeps, so they hardly disturb each other; all front ends of one load see
the same schedules, as far as possible at the same moment.
"""

import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import figures
from arrivals import COUNT
from demo_lib.processes import Process
from servers import (
    HERE,
    PROCESSES,
    Haproxy,
    Nginx,
    Uwsgi,
    haproxy_command,
    nginx_argv,
    raise_descriptor_limit,
)
from shared import machine, nginx_version

# Seconds that slow.py takes, and so the answers a second that are possible at best.
SERVICE = 0.05
CAPACITY = PROCESSES / SERVICE
WORKERS = (1, 4)
# Times the capacity.
LOADS = (0.5, 0.9, 1.2, 2.5, 10)
# The shortest and the longest patience, in seconds.
PATIENCES = ((1, 1), (3, 3), (1, 3))
# The loads that are judged, at the first patience, are measured three times.
JUDGED, ROUNDS = (0.5, 0.9, 2.5), 3
SECONDS, SETTLE = 20, 3
QUICK_LOADS, QUICK_SECONDS, QUICK_SETTLE = (0.5, 2.5), 3, 1
TOGETHER = 800
# Whoever has a client for longest at the largest load, and its connection to the server.
DESCRIPTORS = 8192


@dataclass(frozen=True)
class Front:
    """A front end: nginx, with `inside` in its location, or HAProxy, with these `options` in its defaults. One
    that is `optional` may be refused by a module that does not have it yet."""

    name: str
    inside: str = ""
    options: tuple[str, ...] | None = None
    optional: bool = False


STOCK = Front("stock", "uwsgi_pass unix:{socket};")
OURS = Front("ours", "rs_uwsgi_pass unix:{socket};")
LIMITED = Front(
    f"ours, limit {PROCESSES}",
    f"rs_uwsgi_max_connections {PROCESSES}; rs_uwsgi_queue 5000; rs_uwsgi_pass unix:{{socket}};",
)
AUTO = Front(
    "ours, auto", "rs_uwsgi_max_connections auto; rs_uwsgi_pass unix:{socket};", optional=True
)
# By itself it passes on a request whose client has gone, and waits for the answer. With the option it lets go of
# such a request, and counts one less for the server, which works on it all the same.
HAPROXIES = (
    Front("HAProxy", options=()),
    Front("HAProxy, abortonclose", options=("option abortonclose",)),
)


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    front: Front
    workers: int
    load: float
    patience: tuple[float, float]
    round: int

    def key(self):
        """What the figures are found by. The other rounds have the same."""
        return (self.front.name, self.workers, self.load, *self.patience)


class Bench:
    """What all measurements share."""

    def __init__(self, options, program, module, folder, running):
        self.options, self.program, self.module = options, program, module
        self.folder, self.running = folder, running
        self.quick = options.part == "open-quick"
        self.descriptors = raise_descriptor_limit(DESCRIPTORS)
        self.haproxy = haproxy_command(options.haproxy)
        self.missing = {}
        self.uwsgi_version = Uwsgi.version()
        self.module_hash = hashlib.sha256(Path(module).read_bytes()).hexdigest()[:16]
        self.measured = 0

    def fronts(self):
        """Those that can be had, with the number of their workers. `missing` says why others cannot."""
        found = []
        for front in (STOCK, OURS, LIMITED, AUTO):
            if front.optional and (why := self._refused(front)):
                self.missing[front.name] = f"not in this build: {why}"
            else:
                found += [(front, workers) for workers in (WORKERS[:1] if self.quick else WORKERS)]
        if self.haproxy is None:
            self.missing["HAProxy"] = "not installed, and not unpacked with --haproxy"
        else:
            found += [(front, 1) for front in HAPROXIES]
        return found

    def _refused(self, front):
        """What nginx says against the configuration; None where it takes it."""
        prefix = self.folder / "check"
        prefix.mkdir(exist_ok=True)
        inside = {"/": front.inside.format(socket="/none")}
        listen = f"unix:{prefix}/listen.sock"
        argv = nginx_argv(self.program, self.module, 1, inside, self.descriptors, prefix, listen)
        said = subprocess.run([*argv, "-t"], capture_output=True, text=True, check=False)
        if said.returncode == 0:
            return None
        # Without the number of the process, and the place in a file that is gone.
        found = re.search(r"\[emerg\] (?:\d+#\d+: )?(.*?)(?: in /\S+)?$", said.stderr, re.MULTILINE)
        return found[1] if found else said.stderr

    def seconds(self, cell):
        """Seconds before the window begins, and of the window. Above capacity a queue grows until clients
        leave, who have waited for as long as they would; that takes the longer the smaller the excess."""
        settle = QUICK_SETTLE if self.quick else SETTLE
        if cell.load > 1:
            settle += cell.patience[1] / (1 - 1 / cell.load)
        return settle, QUICK_SECONDS if self.quick else SECONDS

    def run_together(self, cells):
        """Several measurements at the same time. Yields each with its outcome."""
        begun = len(self.running)
        lanes = [self._start(cell) for cell in cells]
        clients = [self._clients(cell, *lane) for cell, lane in zip(cells, lanes)]
        for process in clients:
            process.wait_for_success()
        for cell, (_, _, folder) in zip(cells, lanes):
            yield cell, json.loads((folder / "outcome").read_text(encoding="utf-8"))
        for process in reversed(self.running[begun:]):
            process.terminate()
        for process in reversed(self.running[begun:]):
            if process.reap():
                self.running.remove(process)

    def _start(self, cell):
        """Starts the servers of a measurement. Returns the address for its clients, the file in which the
        application counts, and the folder."""
        self.measured += 1
        folder = self.folder / str(self.measured)
        folder.mkdir()
        counts = folder / "counts"
        counts.write_bytes(bytes(COUNT.size * PROCESSES))
        http = folder / "http.sock"
        environment = {"BENCH_COUNTS": str(counts), "PYTHONDONTWRITEBYTECODE": "1"}
        more = ["--pythonpath", HERE]
        if cell.front.options is not None:
            more += ["--http-socket", http]
        uwsgi = Uwsgi(folder, self.running, "slow.py", more, environment)
        if cell.front.options is not None:
            argv = (self.haproxy, f"unix@{http}", cell.front.options, self.descriptors, folder)
            server = Haproxy(*argv, self.running)
        else:
            inside = {"/": cell.front.inside.format(socket=uwsgi.socket)}
            argv = (self.program, self.module, cell.workers, inside, self.descriptors, folder)
            server = Nginx(*argv, self.running)
        return server.address, counts, folder

    def _clients(self, cell, address, counts, folder):
        settle, seconds = self.seconds(cell)
        argv = [sys.executable, HERE / "arrivals.py", address, "--rate", cell.load * CAPACITY]
        argv += ["--patience", *cell.patience, "--before", settle, "--seconds", seconds]
        # The same for all front ends.
        argv += ["--seed", f"{cell.load} {cell.patience} {cell.round}"]
        argv += ["--counts", counts, "--output", folder / "outcome"]
        process = Process("clients", argv, dict(os.environ), [folder / "clients.log"], folder)
        self.running.append(process)
        return process


def cells(bench, options):
    """What is to be measured, in groups of what is measured at the same time."""
    loads = QUICK_LOADS if bench.quick else LOADS
    patiences = PATIENCES[:1] if bench.quick else PATIENCES
    rounds = 1 if bench.quick else ROUNDS
    fronts = bench.fronts()
    for number in range(rounds):
        for patience in patiences:
            for load in loads:
                if options.only and load not in options.only:
                    continue
                if number > 0 and (patience != PATIENCES[0] or load not in JUDGED):
                    continue
                size = max(1, int(TOGETHER / (load * CAPACITY)))
                # Nobody is always measured first.
                order = fronts if number % 2 == 0 else fronts[::-1]
                these = [Cell(front, workers, load, patience, number) for front, workers in order]
                yield from (these[at : at + size] for at in range(0, len(these), size))


def record(bench, cell, outcome):
    """A measurement as it is kept."""
    now = datetime.datetime.now(datetime.timezone.utc)
    about = {"at": now.strftime("%Y-%m-%d %H:%M"), "module": bench.module_hash}
    # How busy the machine was, with others' work as well.
    about |= {"busy": os.getloadavg()[0], "window": bench.seconds(cell)[1], "key": cell.key()}
    return about | outcome


def run(options, program, module, folder, running):
    """All measurements. Returns the report, the section for docs/tuning.md, and the plot."""
    bench = Bench(options, program, module, folder, running)
    path = options.results / ("open-loop-quick.jsonl" if bench.quick else "open-loop.jsonl")
    kept = []
    if options.more and path.is_file():
        kept = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        kept = [each for each in kept if each["module"] == bench.module_hash]
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(each) + "\n" for each in kept)
        file.flush()
        for group in cells(bench, options):
            for cell, outcome in bench.run_together(group):
                kept.append(record(bench, cell, outcome))
                file.write(json.dumps(kept[-1]) + "\n")
                file.flush()
                print(figures.line(kept[-1], CAPACITY), flush=True)
    about = figures.About(
        machine=machine(),
        nginx=nginx_version(program),
        uwsgi=bench.uwsgi_version,
        processes=PROCESSES,
        service=SERVICE,
        capacity=CAPACITY,
        missing=bench.missing,
    )
    return figures.report(about, kept), figures.section(about, kept), figures.plot(about, kept)
