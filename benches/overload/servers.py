"""uWSGI, and nginx or HAProxy before it."""

import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

from crowd import Crowd
from demo_lib.processes import Process, StartFailed, free_ports, uwsgi_status
from shared import cpu_seconds, params, user_line

HERE = Path(__file__).resolve().parent
PROCESSES = 4
# uWSGI's own default.
LISTEN = 100
BACKLOG = 4096

NGINX = """\
daemon off;
worker_processes {workers};
worker_rlimit_nofile {descriptors};
{user}pid {prefix}/nginx.pid;
error_log {prefix}/error.log crit;
load_module {module};

events {{
    worker_connections {connections};
}}

http {{
    access_log off;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    rs_uwsgi_temp_path {prefix}/rs_uwsgi;
    scgi_temp_path {prefix}/scgi;

{params}
    server {{
        listen {listen} backlog={backlog};
{locations}    }}
}}
"""

# As many connections as the server has processes; the others wait in HAProxy.
HAPROXY = """\
global
    maxconn {descriptors}

defaults
    mode http
    timeout connect 60s
    timeout client 60s
    timeout server 60s
    timeout queue 60s
{options}
frontend clients
    bind {listen} backlog {backlog}
    default_backend uwsgi

backend uwsgi
    server uwsgi {server} maxconn {processes}
"""


def somaxconn():
    """The longest listen queue that the kernel allows."""
    return int(Path("/proc/sys/net/core/somaxconn").read_text(encoding="ascii"))


def raise_descriptor_limit(wanted):
    """Returns how many descriptors a process may have open now, at most so many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


class Uwsgi:
    """A running uWSGI. `more` are further arguments, `environment` further variables."""

    def __init__(self, folder, running, application="application.py", more=(), environment=None):
        self.socket = folder / "uwsgi.sock"
        # Another name: all who pass to one address have one limit.
        self.limited = folder / "limited.sock"
        self.limited.symlink_to(self.socket)
        self.listen = min(LISTEN, somaxconn())
        argv = ["uwsgi", "--plugin", "python3", "--socket", self.socket, "--chmod-socket=666"]
        argv += ["--wsgi-file", HERE / application, "--need-app", "--master", "--die-on-term"]
        argv += ["--processes", str(PROCESSES), "--listen", str(self.listen), "--disable-logging"]
        argv += more
        log = folder / "uwsgi.log"
        environment = {**os.environ, **(environment or {})}
        self.process = Process("uwsgi", argv, environment, [log], folder)
        running.append(self.process)
        answers = lambda: uwsgi_status(str(self.socket)) == 200  # noqa: E731
        self.process.wait_for(answers, "it answered")

    def pause(self):
        """All processes stand still."""
        os.killpg(self.process.child.pid, signal.SIGSTOP)

    def resume(self):
        """They go on."""
        os.killpg(self.process.child.pid, signal.SIGCONT)

    @staticmethod
    def version():
        """As it says itself."""
        command = ["uwsgi", "--version"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class Nginx:
    """A running nginx with `workers`. `locations` are paths, and what stands in the location of each.
    `descriptors` is how many each of its workers may have open."""

    def __init__(self, program, module, workers, locations, descriptors, folder, running):
        prefix = folder / f"nginx-{workers}"
        prefix.mkdir()
        self._workers, self._paths = workers, list(locations)
        [port] = free_ports([0])
        self.address = f"127.0.0.1:{port}"
        argv = nginx_argv(program, module, workers, locations, descriptors, prefix, self.address)
        logs = [prefix / "stderr.log", prefix / "error.log"]
        self.process = Process("nginx", argv, dict(os.environ), logs, prefix)
        running.append(self.process)
        self.process.wait_for(self._answers, "it answered")

    def _answers(self):
        return all(answers(self.address, path) for path in self._paths)

    def cpu(self):
        """CPU seconds that the workers have used so far."""
        pid = self.process.child.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        if len(children) != self._workers:
            raise StartFailed(f"nginx has {len(children)} children, not {self._workers} workers")
        return sum(cpu_seconds(int(child)) for child in children)


class Haproxy:
    """A running HAProxy, before a server that speaks HTTP. `options` are lines of its `defaults`."""

    def __init__(self, command, server, options, descriptors, folder, running):
        [port] = free_ports([0])
        self.address = f"127.0.0.1:{port}"
        configuration = folder / "haproxy.cfg"
        text = HAPROXY.format(
            descriptors=descriptors,
            listen=self.address,
            backlog=min(BACKLOG, somaxconn()),
            server=server,
            options="".join(f"    {option}\n" for option in options),
            processes=PROCESSES,
        )
        configuration.write_text(text, encoding="utf-8")
        argv, environment = command
        argv = [*argv, "-db", "-f", configuration]
        log = folder / "haproxy.log"
        self.process = Process("haproxy", argv, {**os.environ, **environment}, [log], folder)
        running.append(self.process)
        self.process.wait_for(lambda: answers(self.address, "/"), "it answered")


def haproxy_command(unpacked):
    """The arguments and the environment that start HAProxy: what is installed, else what was unpacked into
    this folder. None where it is neither."""
    if installed := shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin"):
        return [installed], {}
    program = unpacked / "usr/sbin/haproxy" if unpacked else None
    if program is None or not program.is_file():
        return None
    libraries = ":".join(str(folder) for folder in unpacked.resolve().glob("usr/lib/*-linux-*"))
    return [str(program.resolve())], {"LD_LIBRARY_PATH": libraries}


def answers(address, path):
    """Is a client answered with 200? One answer of NONE as long as nobody listens."""
    return [answer.status for answer in Crowd(address, path, 1).run()] == [200]


def nginx_argv(program, module, workers, locations, descriptors, prefix, listen):
    """Writes a configuration into the folder `prefix`. Returns the command that runs nginx with it."""
    blocks = "".join(
        f"        location = {path} {{\n            {inside}\n        }}\n"
        for path, inside in locations.items()
    )
    text = NGINX.format(
        workers=workers,
        descriptors=descriptors,
        user=user_line(),
        prefix=prefix,
        module=module,
        # Some are nginx's own.
        connections=descriptors - 64,
        params=params(),
        listen=listen,
        backlog=min(BACKLOG, somaxconn()),
        locations=blocks,
    )
    configuration = prefix / "nginx.conf"
    configuration.write_text(text, encoding="utf-8")
    return [program, "-p", prefix, "-c", configuration]
