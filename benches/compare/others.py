"""Other web servers that speak uwsgi, beside nginx: Apache's mod_proxy_uwsgi and lighttpd's mod_scgi.

Each passes everything to one backend, configured as its documentation tells. CPU time is that of the
whole server, since theirs are not made of one worker; so is nginx's here. Apache reads until the server
closes the connection, so its null backend is one that does.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from backends import Closing, Null, Uwsgi, accepts
from demo_lib.processes import Process, free_ports
from load import request, wrk
from nginx import Nginx, compared, endpoint
from onecpu import one_cpu
from plan import OURS, STOCK, Scenario
from shared import group_cpu_seconds

APACHE, LIGHTTPD = "Apache, mod_proxy_uwsgi", "lighttpd, mod_scgi"
PASSES = (STOCK, OURS)
SCENARIOS = (Scenario(Null.name, "none", "unix"), Scenario(Uwsgi.name, "django", "unix"))
MODULES = Path("/usr/lib/apache2/modules")

APACHE_CONFIGURATION = """\
ServerRoot {folder}
ServerName localhost
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
ErrorLog {folder}/error.log
Listen {address}
{modules}
{user}
MaxKeepAliveRequests 0
ProxyPass / "unix:{socket}|uwsgi://localhost/"
"""

LIGHTTPD_CONFIGURATION = """\
server.modules = ("mod_scgi")
server.document-root = "{folder}"
server.upload-dirs = ("{folder}")
server.errorlog = "{folder}/error.log"
server.bind = "127.0.0.1"
server.port = {port}
server.max-keep-alive-requests = 100000000
scgi.protocol = "uwsgi"
scgi.server = ("/" => (("socket" => "{socket}", "check-local" => "disable",
    "fix-root-scriptname" => "enable")))
"""


class Server:
    """A running web server. `program` is where it is, or None where it is not to be had."""

    name = None

    def __init__(self, program, socket, folder, running):
        self.folder = folder
        folder.mkdir()
        [self.port] = free_ports([0])
        self.address = f"127.0.0.1:{self.port}"
        configuration = folder / "configuration"
        configuration.write_text(self.configuration(socket), encoding="utf-8")
        argv = [program, *self.options(program), "-f", configuration]
        logs = [folder / "stderr.log", folder / "error.log"]
        self.process = Process(self.name, argv, dict(os.environ), logs, folder)
        running.append(self.process)
        self._running = running
        self.process.wait_for(lambda: accepts(self.address), "it accepted connections")

    def stop(self):
        """Stops it and waits for the end."""
        self.process.terminate()
        self._running.remove(self.process)
        if not self.process.reap():
            raise self.process.failure("did not stop")


class Apache(Server):
    """Debian's, with its event MPM as it comes."""

    name = APACHE

    @staticmethod
    def find(_lighttpd):
        """The program, where it and its module are installed."""
        found = shutil.which("apache2", path=f"{os.environ['PATH']}:/usr/sbin")
        return found if (MODULES / "mod_proxy_uwsgi.so").is_file() else None

    @staticmethod
    def options(_program):
        """In the foreground."""
        return ["-DFOREGROUND"]

    def configuration(self, socket):
        """It refuses to serve as root."""
        user = "User nobody\nGroup nogroup" if os.geteuid() == 0 else ""
        modules = "".join(
            f"LoadModule {name}_module {MODULES}/mod_{name}.so\n"
            for name in ("mpm_event", "authz_core", "proxy", "proxy_uwsgi")
        )
        return APACHE_CONFIGURATION.format(
            folder=self.folder, address=self.address, modules=modules, user=user, socket=socket
        )


class Lighttpd(Server):
    """Debian's, installed or unpacked into `--lighttpd`."""

    name = LIGHTTPD

    @staticmethod
    def find(unpacked):
        """The program."""
        if unpacked and (unpacked / "usr/sbin/lighttpd").is_file():
            return str((unpacked / "usr/sbin/lighttpd").resolve())
        return shutil.which("lighttpd", path=f"{os.environ['PATH']}:/usr/sbin")

    @staticmethod
    def options(program):
        """In the foreground, with its own modules."""
        return ["-D", "-m", Path(program).parent.parent / "lib/lighttpd"]

    def configuration(self, socket):
        """A process with one thread, as nginx's worker is."""
        return LIGHTTPD_CONFIGURATION.format(folder=self.folder, port=self.port, socket=socket)


def measure(setup, rounds_and_seconds, addresses, unpacked, running):
    """Requests a second and CPU microseconds a request, by backend and server; what is not installed
    is left out. Returns versions and rows."""
    rounds, seconds = rounds_and_seconds
    programs, versions = {}, []
    for kind in (Apache, Lighttpd):
        program = kind.find(unpacked)
        if program is None:
            print(f"{kind.name}: not installed, left out", flush=True)
        else:
            programs[kind] = program
            versions.append(_version(program))
    if not programs:
        return {}
    # Apache's processes, of another user, are to reach the sockets.
    setup.folder.chmod(0o711)
    closing = Closing(setup.folder, running).addresses["uwsgi", "unix"]
    rows = {}
    for scenario in SCENARIOS:
        print(f"other servers before {scenario}", flush=True)
        # All processes of each server, and the client.
        with one_cpu(when=scenario.backend == Null.name):
            served = _start(setup, scenario, addresses, closing, programs, running)
            rows[str(scenario)] = _rounds(setup, served, rounds, seconds, running)
        for server in {server for _, server in served.values()}:
            server.stop()
    return {"versions": versions, "rows": rows}


def _start(setup, scenario, addresses, closing, programs, running):
    """Starts all before one backend. Returns, by name, a page and the server that serves it."""
    nginx = Nginx(setup, f"beside-{scenario.backend}", compared([scenario], addresses), running)
    nginx.wait()
    served = {f"nginx, {method}": (nginx.url(scenario, method), nginx) for method in PASSES}
    for kind, program in programs.items():
        address = addresses[endpoint(scenario, STOCK)]
        if kind is Apache and scenario.backend == Null.name:
            address = closing
        socket = address.removeprefix("unix:")
        os.chmod(socket, 0o666)
        folder = setup.folder / f"{kind.__name__}-{scenario.backend}"
        server = kind(program, socket, folder, running)
        served[kind.name] = (f"http://{server.address}{scenario.uri(STOCK)}", server)
    return served


def _rounds(setup, served, rounds, seconds, running):
    """All servers in turns before one backend."""
    found = {name: {"requests_per_second": [], "cpu_us": [], "failed": 0} for name in served}
    for url, _ in served.values():
        request(url)
    for number in range(rounds):
        first = number % len(served)
        names = list(served)
        for name in names[first:] + names[:first]:
            url, server = served[name]
            cpu = group_cpu_seconds(server.process.child.pid)
            outcome = wrk(url, seconds, setup.folder, running)
            cpu = group_cpu_seconds(server.process.child.pid) - cpu
            answers = max(1, outcome["requests"])
            found[name]["requests_per_second"].append(answers / outcome["seconds"])
            found[name]["cpu_us"].append(cpu * 1e6 / answers)
            found[name]["failed"] += outcome["failed"]
    return found


def _version(program):
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stdout
    return re.search(r"\w+/[\d.]+", said)[0]
