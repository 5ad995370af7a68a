"""The servers behind nginx: each listens on a unix socket and a TCP port, for uwsgi and for HTTP.

A backend's `addresses` maps (protocol, kind) to an address as nginx writes it after `unix:` or as
host:port.
"""

import os
import socket
import subprocess
from pathlib import Path

import django
from demo_lib.processes import Process, free_ports
from onecpu import one_cpu
from plan import KINDS, TLS

HERE = Path(__file__).resolve().parent
PROTOCOLS = ("uwsgi", "http")
# Processes of uWSGI and of gunicorn; gunicorn's have threads besides.
PROCESSES = 2
THREADS = 4


def connect(address):
    """A connection to `address`. Raises OSError."""
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address.removeprefix("unix:"))
        return connection
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10)


def accepts(address):
    """Whether somebody listens on `address`."""
    try:
        connect(address).close()
        return True
    except OSError:
        return False


def new_addresses(folder, name, kinds=KINDS):
    """Free addresses of these kinds for each protocol."""
    ports = iter(free_ports(*[[0] for _ in PROTOCOLS for _ in kinds]))
    addresses = {}
    for protocol in PROTOCOLS:
        for kind in kinds:
            socket_path = f"unix:{folder / f'{name}-{protocol}.sock'}"
            addresses[protocol, kind] = socket_path if kind == "unix" else f"127.0.0.1:{next(ports)}"
    return addresses


class Backend:
    """One or more processes that serve `addresses`. `folder` is for sockets and logs."""

    name = None
    kinds = KINDS

    def __init__(self, folder, running):
        self.folder = folder
        self.addresses = new_addresses(folder, self.name, self.kinds)
        for number, argv in enumerate(self.commands()):
            log = folder / f"{self.name}-{number}.log"
            running.append(Process(self.name, argv, self.environment(), [log], folder))
            self.process = running[-1]
        self.process.wait_for(self._ready, "it accepted connections on all addresses")

    def _ready(self):
        return all(map(accepts, self.addresses.values()))

    def commands(self):
        """The command of each process."""
        raise NotImplementedError

    def version(self):
        """What the report says."""
        raise NotImplementedError

    @staticmethod
    def environment():
        """gunicorn's environment of its own does not see Debian's Django unless it is told."""
        packages = Path(django.__file__).resolve().parent.parent
        return {
            **os.environ,
            "PYTHONPATH": f"{HERE}:{packages}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def listening(self, protocol):
        """The addresses of one protocol."""
        return [self.addresses[protocol, kind] for kind in self.kinds]


class Null(Backend):
    """null_backend.rs, on the one CPU."""

    name = "null"
    program = None

    def __init__(self, folder, running):
        with one_cpu():
            super().__init__(folder, running)

    def commands(self):
        return [[self.program, *self.addresses.values()]]

    def version(self):
        return "a program that answers at once"


class Sized(Null):
    """The same with another size of its responses, in bytes."""

    def __init__(self, size, folder, running):
        self.size, self.name = size, f"null-{size}"
        super().__init__(folder, running)

    def commands(self):
        return [[self.program, f"body={self.size}", *self.addresses.values()]]


class Everywhere(Null):
    """The same, for uwsgi on one port of all addresses of 127.0.0.0/8: a server for each."""

    name = "null-everywhere"

    def __init__(self, folder, running):
        [self._port] = free_ports([0])
        super().__init__(folder, running)

    def commands(self):
        self.addresses = {("uwsgi", "tcp"): f"0.0.0.0:{self._port}"}
        return [[self.program, *self.addresses.values()]]

    def address(self, number):
        """One of its addresses, which differ up to a number of 62,500."""
        return f"127.0.{number // 250}.{1 + number % 250}:{self._port}"


class Closing(Null):
    """The same, closing the connection after each response."""

    name = "null-close"

    def commands(self):
        return [[self.program, "close", *self.addresses.values()]]


class Uwsgi(Backend):
    """Debian's uWSGI."""

    name = "uwsgi"

    def commands(self):
        sockets = []
        for option, protocol in (("--socket", "uwsgi"), ("--http-socket", "http")):
            for address in self.listening(protocol):
                sockets += [option, address.removeprefix("unix:")]
        return [
            ["uwsgi", "--plugin", "python3", *sockets, "--chmod-socket=666"]
            + ["--wsgi-file", HERE / "application.py", "--need-app", "--master", "--die-on-term"]
            + ["--processes", str(PROCESSES), "--disable-logging"]
        ]

    def version(self):
        return f"uWSGI {_output('uwsgi', '--version')}, {PROCESSES} processes"


class Gunicorn(Backend):
    """gunicorn with its threaded worker; a process serves one protocol."""

    name = "gunicorn"
    program = None

    def commands(self):
        return [
            [self.program, "--protocol", protocol, "--worker-class", "gthread", *self.tls()]
            + ["--workers", str(PROCESSES), "--threads", str(THREADS)]
            + [f"--bind={address}" for address in self.listening(protocol)]
            + ["--no-control-socket", "application:application"]
            for protocol in PROTOCOLS
        ]

    def tls(self):
        """Options for TLS."""
        return []

    def version(self):
        version = _output(self.program, "--version").split()[-1].rstrip(")")
        return f"gunicorn {version}, gthread, {PROCESSES} processes of {THREADS} threads"


class GunicornTls(Gunicorn):
    """The same with TLS, whose certificate nobody verifies: that is nginx's default."""

    name = "gunicorn-tls"
    kinds = (TLS,)

    def tls(self):
        key, certificate = self.folder / "tls.key", self.folder / "tls.pem"
        if not certificate.exists():
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
                + ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key]
                + ["-out", certificate],
                check=True,
                capture_output=True,
            )
        return ["--keyfile", key, "--certfile", certificate]

    def version(self):
        return "the same with TLS"


def _output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


CLASSES = {backend.name: backend for backend in (Null, Uwsgi, Gunicorn, GunicornTls)}
