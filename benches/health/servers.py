"""Two uWSGI servers, and nginx with stock and ours before them."""

import os
import shutil
import signal
import socket
import time
from pathlib import Path

from demo_lib.processes import POLL, Process, StartFailed, free_ports, pause, uwsgi_status
from shared import params, user_line

HERE = Path(__file__).resolve().parent
STOCK, OURS = "uwsgi_pass", "rs_uwsgi_pass"

CONFIGURATION = """\
daemon off;
worker_processes 1;
{user}pid {prefix}/nginx.pid;
error_log {prefix}/error.log notice;
load_module {module};

events {{
    worker_connections 8192;
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
    upstream stock {{
        server unix:{folder}/a;
        server unix:{folder}/b;
    }}
    upstream ours {{
        server unix:{folder}/a;
        server unix:{folder}/b;
        {settings}
    }}
    server {{
        listen {listen};
        uwsgi_read_timeout 2s;
        rs_uwsgi_read_timeout 2s;
        location = /uwsgi_pass {{ uwsgi_pass stock; }}
        location = /rs_uwsgi_pass {{ rs_uwsgi_pass ours; }}
    }}
}}
"""


class Uwsgi:
    """A running uWSGI with two processes, which says its name."""

    def __init__(self, name, folder, running):
        self.name, self._folder, self._running = name, folder, running
        self._path = folder / name
        self.process = None
        self.start()

    def start(self):
        """Starts it, and returns when it answers."""
        argv = ["uwsgi", "--plugin", "python3,ping", "--socket", self._path, "--chmod-socket=666"]
        argv += ["--wsgi-file", HERE / "application.py", "--need-app", "--master", "--die-on-term"]
        argv += ["--processes", "2", "--disable-logging"]
        log = self._folder / f"{self.name}.log"
        environment = {**os.environ, "SERVER": self.name}
        self.process = Process(f"uwsgi {self.name}", argv, environment, [log], self._folder)
        self._running.append(self.process)
        answers = lambda: uwsgi_status(str(self._path)) == 200  # noqa: E731
        self.process.wait_for(answers, "it answered")

    def kill(self):
        """All its processes are killed, and nobody listens on its socket."""
        os.killpg(self.process.child.pid, signal.SIGKILL)
        self.process.child.wait()

    def pause(self):
        """All its processes stand still."""
        os.killpg(self.process.child.pid, signal.SIGSTOP)

    def resume(self):
        """They go on."""
        os.killpg(self.process.child.pid, signal.SIGCONT)


class Nginx:
    """A running nginx. `settings`: what our upstream says besides."""

    def __init__(self, program, module, folder, running, settings):
        prefix = folder / "nginx"
        shutil.rmtree(prefix, ignore_errors=True)
        prefix.mkdir()
        [port] = free_ports([0])
        self.address = ("127.0.0.1", port)
        self._log = prefix / "error.log"
        text = CONFIGURATION.format(
            user=user_line(),
            prefix=prefix,
            module=module,
            params=params(),
            folder=folder,
            settings=settings,
            listen=f"127.0.0.1:{port}",
        )
        configuration = prefix / "nginx.conf"
        configuration.write_text(text, encoding="utf-8")
        argv = [program, "-p", prefix, "-c", configuration]
        self.process = Process("nginx", argv, dict(os.environ), [prefix / "stderr.log"], prefix)
        running.append(self.process)
        self.process.wait_for(lambda: ask(self.address, f"/{STOCK}", "GET")[0] == 200, "it answered")

    def stop(self):
        """Stops it."""
        self.process.terminate()
        if not self.process.reap():
            raise StartFailed("nginx did not stop")

    def logged(self, text):
        """How many lines of its log have this text."""
        return self._log.read_text(encoding="utf-8", errors="replace").count(text)

    def wait_logged(self, text, count, limit):
        """Waits until so many lines have it. Returns the seconds that this took."""
        began = time.monotonic()
        while self.logged(text) < count:
            if time.monotonic() - began > limit:
                raise StartFailed(f'"{text}" did not come into the log within {limit} s')
            pause(POLL / 20)
        return time.monotonic() - began


def ask(address, path, method):
    """One request. Returns its status, 0 for none, and its body."""
    text = f"{method} {path} HTTP/1.0\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
    read = b""
    try:
        with socket.create_connection(address, 10) as client:
            client.sendall(text.encode())
            while more := client.recv(65536):
                read += more
    except OSError:
        return 0, b""
    head, found, body = read.partition(b"\r\n\r\n")
    is_whole = found and head.startswith(b"HTTP/1.1 ")
    return (int(head[9:12]), body) if is_whole else (0, b"")
