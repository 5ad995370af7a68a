"""The demo site as a whole: which servers there are, how they are started, what nginx is told."""

import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request

from .processes import Process, StartFailed, free_ports, pause, uwsgi_status

NGINX = os.environ.get("RS_UWSGI_NGINX", "/usr/sbin/nginx")
UWSGI = "/usr/bin/uwsgi-core"
PYTHON = "/usr/bin/python3"  # Django and Flask are Debian's, so is their Python
PORTS = [*range(8080, 8100), 0]  # for nginx; 0 is any
# A clean environment: no PYTHONPATH or VIRTUAL_ENV of the person who starts the demo.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
PAGES = [
    ("/status/", "what becomes of the requests: state, rates, times, and what is not well"),
    ("/show/", "buttons: bursts, uploads, cookies, restarts; uwsgi_pass and rs_uwsgi_pass side by side"),
    ("/", "the index: stylesheet, script and picture from disk"),
    ("/form/", "a form (POST, CSRF)"),
    ("/members/", "behind a login: demo, password demo"),
    ("/upload/", "upload and download of large files"),
    ("/api/echo?colour=blue", "JSON"),
    ("/stream/", "a response in pieces"),
    ("/app1/", "Flask, SCRIPT_NAME and modifier1 30"),
    ("/app2/", "Flask, rs_uwsgi_mount"),
    ("/balanced/", "two uWSGI servers in turn"),
    ("/gunicorn/", "the Django site in gunicorn, on connections that are used again"),
]
# What `--stock` changes, in this order. Stock sends no vars by itself and has no mount.
STOCK = [
    (r"(?m)^\s*(load_module|rs_uwsgi_(temp_path|max_vars|connect_retry)|add_header Server-Timing)\s.*\n", ""),
    (r'(?s)map "\$upstream_addr\|\$rs_uwsgi_connection".*?\}\n', ""),
    (r"rs_uwsgi_status;", 'return 200 "uwsgi_pass has no status page\\n";'),
    (
        r"rs_uwsgi_mount (\S+);",
        r"""if ($document_uri ~ ^\1(?<mounted>/.*)$) { }
            include @conf@/rs_uwsgi_params;
            uwsgi_param SCRIPT_NAME \1;
            uwsgi_param PATH_INFO $mounted;""",
    ),
    (r"(?m)^http \{$", "http {\n    include @conf@/rs_uwsgi_params;"),
    (r"rs_uwsgi_(?!params)", "uwsgi_"),
]


class Site:
    """The servers of one run. `module` is the module's path, None for stock's uwsgi_pass."""

    def __init__(self, stage, port, module):
        self.stage, self.module = stage, module
        nginx_ports = [port] if port else PORTS
        self.port, flask, south = free_ports(nginx_ports, [0], [0])
        if not self.port:
            raise StartFailed(f"port {port} of 127.0.0.1 is taken")
        self.flask, self.south = f"127.0.0.1:{flask}", f"127.0.0.1:{south}"
        self.url = f"http://127.0.0.1:{self.port}"
        self.access_log = stage.logs / "access.log"
        self.error_log = stage.logs / "nginx-error.log"
        self.processes = []
        self.gunicorn = self._gunicorn()
        run = stage.run
        # name, configuration, address, a page that answers 200 when the server is ready
        self.servers = [
            ("django", "django", f"{run}/django.sock", {"PATH_INFO": "/"}),
            ("flask", "flask", self.flask, {"SCRIPT_NAME": "/app2", "PATH_INFO": "/"}),
            ("north", "balanced", f"{run}/north.sock", {"PATH_INFO": "/balanced/"}),
            ("south", "balanced", self.south, {"PATH_INFO": "/balanced/"}),
            ("small", "small", f"{run}/small.sock", {"PATH_INFO": "/show/ours/work"}),
            ("show", "show", f"{run}/show.sock", {"PATH_INFO": "/show/run/"}),
        ]

    def start(self):
        """Starts everything and returns when nginx answers. Raises StartFailed or Stopped."""
        self._configure()
        self.stage.become_user()
        environment = {
            **ENVIRONMENT,
            "HOME": str(self.stage.root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SHOWCASE_DATA": str(self.stage.data),
            "SHOWCASE_STATIC": str(self.stage.static),
            "DEMO_SITE": str(self.stage.site),
            "DEMO_NGINX": f"127.0.0.1:{self.port}",
            "DEMO_CONF": str(self.stage.conf),
            "DEMO_LOGS": str(self.stage.logs),
            "DEMO_RUN": str(self.stage.run),
            "DEMO_COUNTER": str(self.stage.data / "counter"),
            "DEMO_GUNICORN": str(self.gunicorn or ""),
            "DEMO_SERVER": "uWSGI",
        }
        manage = self.stage.site / "django" / "manage.py"
        self._spawn("manage.py prepare", [PYTHON, manage, "prepare"], environment, "prepare")
        self.processes[-1].wait_for_success()
        for name, conf, address, _ in self.servers:
            inis = [self.stage.conf / f"{ini}.ini" for ini in ("common", conf)]
            argv = [UWSGI, "--ini", inis[0], "--ini", inis[1]]
            own = {"DEMO_SOCKET": address, "DEMO_NAME": name}
            self._spawn(f"uWSGI ({name})", argv, environment | own, f"uwsgi-{name}")
        started = self.processes[-len(self.servers):]
        waits = [(process, *server[2:]) for process, server in zip(started, self.servers)]
        if self.gunicorn:
            waits.append((*self._start_gunicorn(environment), {"PATH_INFO": "/"}))
        for process, address, page in waits:
            self._wait_for_uwsgi(process, address, page)
        conf = self.stage.conf / "nginx.conf"
        argv = [NGINX, "-e", self.error_log, "-p", self.stage.root, "-c", conf]
        self._spawn("nginx", argv, environment, "nginx", self.error_log)
        self.processes[-1].wait_for(self._nginx_answers, f"an answer on {self.url}")

    def announce(self):
        """Prints what there is to see."""
        what = "rs_uwsgi_pass" if self.module else "stock's uwsgi_pass"
        print(f"\nnginx with {what} serves Django and Flask. Open:\n")
        for page, text in PAGES:
            if page == "/gunicorn/" and not self.gunicorn:
                continue
            print(f"  {self.url + page:<46} {text}")
        print(f"\nLogs: {self.stage.logs}\nCtrl-C stops everything. The access log:\n", flush=True)

    def show_access_log(self):
        """Prints the access log as it grows, until a signal comes or a server ends."""
        with open(self.access_log, encoding="utf-8", errors="replace") as log:
            while True:
                for line in iter(log.readline, ""):
                    print(line, end="", flush=True)
                for process in self.processes[1:]:
                    process.must_run()
                pause()

    def stop(self):
        """Stops every server, nginx first. Returns the names of those that could not be stopped."""
        running, self.processes = self.processes[::-1], []
        for process in running:
            process.terminate()
        return [process.name for process in running if not process.reap()]

    def _spawn(self, name, argv, environment, log, *more_logs):
        logs = [self.stage.logs / f"{log}.log", *more_logs]
        self.processes.append(Process(name, argv, environment, logs, self.stage.root))

    def _gunicorn(self):
        """Copies gunicorn, which comes from PyPI, to where the ordinary user can read it. Returns the folder; None where it
        cannot be had."""
        repository = self.stage.repository
        into, library = repository / "target" / "gunicorn", self.stage.root / "gunicorn"
        install = [repository / "scripts" / "install-gunicorn", into]
        if subprocess.run(install, stdout=subprocess.DEVNULL).returncode != 0:
            print("gunicorn could not be installed; the demo goes on without it")
            return None
        for name in ("gunicorn", "packaging"):
            [source] = into.glob(f"lib/python3*/site-packages/{name}")
            shutil.copytree(source, library / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(repository / "nginx-conf" / "gunicorn.conf.py", self.stage.conf)
        return library

    def _start_gunicorn(self, environment):
        """The Django project again, in gunicorn. Returns the process, and where it will answer."""
        address = f"{self.stage.run}/gunicorn.sock"
        argv = [PYTHON, "-m", "gunicorn", "--config", self.stage.conf / "gunicorn.conf.py", "--protocol", "uwsgi"]
        argv += ["--worker-class", "gthread", "--threads", "8", "--keep-alive", "60", "--no-control-socket"]
        argv += ["--chdir", self.stage.site / "django", "--bind", f"unix:{address}", "showcase.wsgi:application"]
        own = {"PYTHONPATH": str(self.gunicorn), "DEMO_SERVER": "gunicorn"}
        self._spawn("gunicorn", argv, environment | own, "gunicorn")
        return self.processes[-1], address

    def _wait_for_uwsgi(self, process, address, page):
        status = None

        def answers():
            nonlocal status
            status = uwsgi_status(address, **page)
            return status is not None

        process.wait_for(answers, f"an answer on {address}")
        if status != 200:
            raise process.failure(f"answers {status} instead of 200")

    def _nginx_answers(self):
        try:
            urllib.request.urlopen(f"{self.url}/static/site.css?ready", timeout=5).close()
            return True
        except urllib.error.HTTPError as error:
            reason = f"does not serve {error.url}: status {error.code}"
            raise self.processes[-1].failure(reason) from None
        except OSError:
            return False

    def _configure(self):
        """Writes nginx.conf and rs_uwsgi_params, and copies the module."""
        stage = self.stage
        names = {
            "module": stage.conf / "ngx_http_rs_uwsgi_module.so",
            "conf": stage.conf,
            "run": stage.run,
            "logs": stage.logs,
            "tmp": stage.tmp,
            "static": stage.static,
            "data": stage.data,
            "show": stage.site / "show",
            "port": self.port,
            "flask": self.flask,
            "south": self.south,
        }
        if self.module:
            shutil.copy(self.module, names["module"])
        for source in ("examples/nginx.conf", "nginx-conf/rs_uwsgi_params"):
            text = (stage.repository / source).read_text(encoding="utf-8")
            if not self.module:
                for pattern, replacement in STOCK:
                    text = re.sub(pattern, replacement, text)
            for name, value in names.items():
                text = text.replace(f"@{name}@", str(value))
            (stage.conf / source.rsplit("/", 1)[1]).write_text(text, encoding="utf-8")
