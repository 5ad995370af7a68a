"""uWSGI with a 2 ms application, and nginx with stock and ours before it."""

import os
import signal
import subprocess
from pathlib import Path

from crowd import Crowd
from demo_lib.processes import Process, StartFailed, free_ports, uwsgi_status
from shared import cpu_seconds, params, user_line

HERE = Path(__file__).resolve().parent
STOCK, OURS, LIMITED = "uwsgi_pass", "rs_uwsgi_pass", "rs_uwsgi_max_connections"
METHODS = (STOCK, OURS, LIMITED)
PROCESSES = 4
# uWSGI's own default.
LISTEN = 100
BACKLOG = 4096

CONFIGURATION = """\
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
        location = /uwsgi_pass {{
            uwsgi_pass unix:{socket};
        }}
        location = /rs_uwsgi_pass {{
            rs_uwsgi_queue 5000;
            rs_uwsgi_pass unix:{socket};
        }}
        location = /rs_uwsgi_max_connections {{
            rs_uwsgi_queue 5000;
            rs_uwsgi_max_connections {processes};
            rs_uwsgi_pass unix:{limited};
        }}
    }}
}}
"""


def somaxconn():
    """The longest listen queue that the kernel allows."""
    return int(Path("/proc/sys/net/core/somaxconn").read_text(encoding="ascii"))


class Uwsgi:
    """A running uWSGI."""

    def __init__(self, folder, running):
        self.socket = folder / "uwsgi.sock"
        # Another name: all who pass to one address have one limit.
        self.limited = folder / "limited.sock"
        self.limited.symlink_to(self.socket)
        self.listen = min(LISTEN, somaxconn())
        argv = ["uwsgi", "--plugin", "python3", "--socket", self.socket, "--chmod-socket=666"]
        argv += ["--wsgi-file", HERE / "application.py", "--need-app", "--master", "--die-on-term"]
        argv += ["--processes", str(PROCESSES), "--listen", str(self.listen), "--disable-logging"]
        log = folder / "uwsgi.log"
        self.process = Process("uwsgi", argv, dict(os.environ), [log], folder)
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
    """A running nginx. `descriptors` is how many each of its workers may have open."""

    def __init__(self, program, module, workers, uwsgi, descriptors, folder, running):
        prefix = folder / f"nginx-{workers}"
        prefix.mkdir()
        self._workers = workers
        [port] = free_ports([0])
        self.address = f"127.0.0.1:{port}"
        configuration = prefix / "nginx.conf"
        text = CONFIGURATION.format(
            workers=workers,
            descriptors=descriptors,
            user=user_line(),
            prefix=prefix,
            module=module,
            # Some are nginx's own.
            connections=descriptors - 64,
            params=params(),
            listen=self.address,
            backlog=min(BACKLOG, somaxconn()),
            socket=uwsgi.socket,
            limited=uwsgi.limited,
            processes=PROCESSES,
        )
        configuration.write_text(text, encoding="utf-8")
        argv = [program, "-p", prefix, "-c", configuration]
        logs = [prefix / "stderr.log", prefix / "error.log"]
        self.process = Process("nginx", argv, dict(os.environ), logs, prefix)
        running.append(self.process)
        self.process.wait_for(self._answers, "it answered")

    def _answers(self):
        # One answer of NONE as long as nobody listens.
        return all(
            [answer.status for answer in Crowd(self.address, f"/{method}", 1).run()] == [200]
            for method in METHODS
        )

    def cpu(self):
        """CPU seconds that the workers have used so far."""
        pid = self.process.child.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        if len(children) != self._workers:
            raise StartFailed(f"nginx has {len(children)} children, not {self._workers} workers")
        return sum(cpu_seconds(int(child)) for child in children)
