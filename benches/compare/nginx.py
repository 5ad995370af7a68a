"""nginx with one worker and a location for each scenario and method."""

import os
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from backends import accepts
from demo_lib.processes import STOP_DEADLINE, Process, StartFailed, free_ports, pause
from plan import ALONE, KEEPALIVE, LIMITED, METHODS, NEW, OURS, PROXY, QUEUED, STOCK, TLS
from shared import params, user_line

CONFIGURATION = """\
daemon off;
master_process {master};
worker_processes {workers};
{user}pid {prefix}/nginx.pid;
error_log {prefix}/error.log warn;
{main}
events {{
    worker_connections {connections};
}}

http {{
    access_log off;
    keepalive_requests 100000000;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;

{http}
    server {{
        listen {listen};
        location = /requests {{
            stub_status;
        }}
{locations}    }}
}}
"""

# What needs the module.
LOAD = "load_module {module};"
TEMPORARY = "    rs_uwsgi_temp_path {prefix}/rs_uwsgi;\n"

UPSTREAM = """\
    upstream {name} {{
        server {address};
        keepalive {keepalive};
    }}
"""

# What the documentation of each tells to write, and nothing to tune.
PASS = {
    STOCK: "uwsgi_pass {address};",
    OURS: "rs_uwsgi_pass {address};",
    ALONE: "rs_uwsgi_pass {address};",
    NEW: "rs_uwsgi_reuse off;\n            rs_uwsgi_pass {address};",
    LIMITED: "rs_uwsgi_max_connections 64;\n            rs_uwsgi_pass {address};",
    QUEUED: "rs_uwsgi_max_connections 1;\n            rs_uwsgi_pass {address};",
    PROXY: "proxy_pass {scheme}://{upstream};\n            proxy_http_version 1.1;\n"
    '            proxy_set_header Connection "";\n            proxy_set_header Host $http_host;',
}

PROTOCOL = dict.fromkeys((STOCK, OURS, ALONE, NEW, LIMITED, QUEUED), "uwsgi") | {PROXY: "http"}


def endpoint(scenario, method):
    """The key in a table of addresses of what `method` passes to."""
    return scenario.backend, PROTOCOL[method], scenario.kind


@dataclass(frozen=True)
class Site:
    """What differs from one nginx to the other: parts of its configuration."""

    locations: str
    http: str = ""
    params: str = field(default_factory=params)
    has_module: bool = True
    connections: int = 1024
    main: str = ""
    workers: int = 1


def location(uri, lines):
    """A location for just this URI."""
    return f"        location = {uri} {{\n            {lines}\n        }}\n"


def compared(scenarios, addresses, methods=METHODS):
    """A location for each scenario and method. `addresses` has one for each endpoint."""
    upstreams, locations = {}, ""
    if ALONE in methods:
        upstreams[ALONE] = "    rs_uwsgi_zone off;\n"
    for scenario in scenarios:
        for method in methods:
            key = endpoint(scenario, method)
            name, address = "-".join(key), addresses[key]
            if method == PROXY:
                upstreams[name] = UPSTREAM.format(name=name, address=address, keepalive=KEEPALIVE)
            has_tls = scenario.kind == TLS
            lines = PASS[method].format(
                address=f"suwsgi://{address}" if has_tls else address,
                upstream=name,
                scheme="https" if has_tls else "http",
            )
            locations += location(scenario.uri(method), lines)
    return Site(locations, "".join(upstreams.values()))


class Nginx:
    """A running nginx that serves `site`. `wrapper` is a command put in front.

    Without a master, the one process is the worker: the way to run it below valgrind.
    """

    def __init__(self, setup, name, site, running, wrapper=(), master=True):
        self.prefix = setup.folder / name
        self.prefix.mkdir()
        [port] = free_ports([0])
        self.address = f"127.0.0.1:{port}"
        configuration = self.prefix / "nginx.conf"
        configuration.write_text(self._configuration(setup.module, site, master))
        argv = [*wrapper, setup.nginx, "-p", self.prefix, "-c", configuration]
        logs = [self.prefix / "stderr.log", self.prefix / "error.log"]
        self.process = Process(name, argv, dict(os.environ), logs, self.prefix)
        running.append(self.process)
        self._running, self._master, self._asked = running, master, 0

    def wait(self):
        """Waits until it accepts connections. Raises StartFailed."""
        self.process.wait_for(lambda: accepts(self.address), "it accepted connections")

    def stop(self):
        """Stops it and waits for the end. Without a master, nginx misses a signal that comes just
        before it waits for events, so it is sent until it has worked."""
        end = time.monotonic() + STOP_DEADLINE
        while self.process.child.poll() is None:
            if time.monotonic() > end:
                raise self.process.failure("did not stop")
            self.process.terminate()
            pause(0.1)
        self.process.wait_for_success()
        self._running.remove(self.process)

    def url(self, scenario, method):
        """The address of the page that `method` passes to the scenario's backend."""
        return f"http://{self.address}{scenario.uri(method)}"

    def requests(self):
        """Requests so far, without those for this number: wrk does not know of the last ones, which
        it leaves behind."""
        with urllib.request.urlopen(f"http://{self.address}/requests") as response:
            said = response.read().decode()
        self._asked += 1
        # After the heading: connections accepted and handled, and requests.
        return int(said.splitlines()[2].split()[2]) - self._asked

    def worker(self):
        """The process id of the worker."""
        pid = self.process.child.pid
        if not self._master:
            return pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        if len(children) != 1:
            raise StartFailed(f"nginx has {len(children)} children, not one worker")
        return int(children[0])

    def _configuration(self, module, site, master):
        main, http = site.main, site.http
        if site.has_module:
            main = LOAD.format(module=module) + main
            http = TEMPORARY.format(prefix=self.prefix) + http
        return CONFIGURATION.format(
            master="on" if master else "off",
            user=user_line(),
            prefix=self.prefix,
            main=main,
            workers=site.workers,
            connections=site.connections,
            http=f"{site.params}\n{http}",
            listen=self.address,
            locations=site.locations,
        )
