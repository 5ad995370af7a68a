"""What checks are good for, with two uWSGI servers: how soon it is known that one of them is not well, how many
requests fail meanwhile with uwsgi_pass and with ours, and how soon it has its share again.

    make bench-health

Nothing here is a test: no figure is ever too bad. The tables are printed and written to
target/bench/health.md.
"""

import sys
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path[1:1] = [str(REPOSITORY / "benches"), str(REPOSITORY / "examples")]

from demo_lib.processes import pause  # noqa: E402
from servers import OURS, STOCK, Nginx, Uwsgi, ask  # noqa: E402
from shared import guarded, machine, nginx_version, table  # noqa: E402

ROUNDS = 5
DOWN, UP = "is down after", "is up after"
# interval and timeout in milliseconds, and fails
CHECKS = ((200, 200, 2), (1000, 500, 3))
CLIENTS = 6
# For so many seconds requests come; after BREAKS the server breaks, after MENDS it is well again: longer than
# nginx's own fail_timeout, 10 s, twice.
SECONDS, BREAKS, MENDS = 28, 1, 25
FAIL_TIMEOUT = 10
SLOW_START, RECOVERS = 5, 8
GETS = 20


def milliseconds(times):
    """The median, and the range."""
    times = sorted(round(one * 1000) for one in times)
    return f"{median(times):.0f} ({times[0]} to {times[-1]})"


def check(interval, timeout, fails):
    return f"rs_uwsgi_health_check ping interval={interval}ms timeout={timeout}ms fails={fails};"


def detection(start, server):
    """From a fault to the line in the log, without any request of a client."""
    rows = []
    for interval, timeout, fails in CHECKS:
        nginx = start(check(interval, timeout, fails))
        for what, breaks, mends, waits in (
            ("killed", server.kill, server.start, 0),
            ("stopped", server.pause, server.resume, timeout),
        ):
            down, up = [], []
            for number in range(ROUNDS):
                # at any moment between two probes
                pause(0.3 + number * interval / 1000 / ROUNDS)
                before = nginx.logged(DOWN), nginx.logged(UP)
                breaks()
                down.append(nginx.wait_logged(DOWN, before[0] + 1, 60))
                mends()
                up.append(nginx.wait_logged(UP, before[1] + 1, 60))
            least = (fails - 1) * (interval + waits) + waits
            expected = f"{least} to {least + interval}"
            rows.append(
                (what, f"{interval} ms × {fails}", expected, milliseconds(down), milliseconds(up))
            )
        nginx.stop()
    head = ("server", "interval × fails", "down expected, ms", "down, ms", "up again (2 passes), ms")
    return table(head, rows)


class Load:
    """Clients that ask one after the other for so many seconds: every second request is a POST."""

    def __init__(self, address, path, seconds):
        self.answers, self._address, self._path, self._seconds = [], address, path, seconds
        self.began = time.monotonic()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self):
        number = 0
        while (sent := time.monotonic()) < self.began + self._seconds:
            number += 1
            status, body = ask(self._address, self._path, "POST" if number % 2 else "GET")
            now = time.monotonic()
            self.answers.append((now - self.began, now - sent, status, body))
            if status != 200:
                time.sleep(0.01)

    def until(self, seconds):
        """Waits until so many seconds after its begin."""
        time.sleep(max(0, self.began + seconds - time.monotonic()))

    def join(self):
        for thread in self._threads:
            thread.join()


def failures(start, server):
    """Requests that fail while a server is away for some seconds."""
    rows = []
    nginx = start(check(200, 200, 2))
    for what, breaks, mends in (
        ("killed", server.kill, server.start),
        ("stopped", server.pause, server.resume),
    ):
        for method in (STOCK, OURS):
            # nothing is left of the one before
            pause(FAIL_TIMEOUT + 1)
            load = Load(nginx.address, f"/{method}", SECONDS)
            load.until(BREAKS)
            breaks()
            load.until(MENDS)
            mends()
            load.join()
            statuses = Counter(status for _, _, status, _ in load.answers if status != 200)
            slow = sum(1 for _, took, status, _ in load.answers if status == 200 and took > 0.5)
            shown = ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))
            longest = max(took for _, took, _, _ in load.answers)
            count = str(len(load.answers))
            rows.append((what, method, count, shown or "0", str(slow), f"{longest:.1f}"))
    nginx.stop()
    return table(("server", "by", "requests", "failed", "answered after 0.5 s", "longest, s"), rows)


def stuck(start, server):
    """GETs that come at once, right after a server has been stopped."""
    rows = []
    for method in (STOCK, OURS):
        longest, slow, bad = [], [], 0
        for _ in range(ROUNDS):
            nginx = start(check(200, 200, 2))
            pause(1)
            server.pause()
            answers = []

            def one(to=nginx.address, of=method, into=answers):
                began = time.monotonic()
                status, _ = ask(to, f"/{of}", "GET")
                into.append((time.monotonic() - began, status))

            threads = [threading.Thread(target=one) for _ in range(GETS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            server.resume()
            nginx.stop()
            longest.append(max(took for took, _ in answers))
            slow.append(sum(took > 0.1 for took, _ in answers))
            bad += sum(status != 200 for _, status in answers)
        rows.append((method, str(bad), f"{median(slow):.0f}", milliseconds(longest)))
    return table(("by", "failed", "answered after 0.1 s", "the last, ms"), rows)


def recovery(start, server):
    """From the line that says that it is up to a second in which it has answered 45 % of all requests."""
    rows = []
    for slow in ("", f"rs_uwsgi_slow_start {SLOW_START}s;"):
        nginx = start(check(200, 200, 2) + slow)
        server.kill()
        nginx.wait_logged(DOWN, 1, 60)
        server.start()
        nginx.wait_logged(UP, 1, 60)
        load = Load(nginx.address, f"/{OURS}", RECOVERS)
        load.join()
        name = server.name.encode()
        shares = []
        for second in range(RECOVERS):
            of = [body for at, _, _, body in load.answers if second <= at < second + 1]
            shares.append(100 * of.count(name) / max(len(of), 1))
        full = next((second for second, share in enumerate(shares) if share >= 45), None)
        whole = "never" if full is None else f"second {full + 1}"
        rows.append((slow or "–", whole, " ".join(f"{share:.0f}" for share in shares)))
        nginx.stop()
    return table(("setting", "45 % in", "share in each second, %"), rows)


def bench(program, module, folder, running):
    servers = [Uwsgi(name, folder, running) for name in ("a", "b")]

    def start(settings):
        return Nginx(program, module, folder, running, settings)

    text = [f"nginx {nginx_version(program)}, {machine()}, median of {ROUNDS} (range)"]
    for title, measured in (
        ("Time to detection, idle site", detection),
        (f"One of two servers away for {MENDS - BREAKS} s, read timeout 2 s", failures),
        (f"{GETS} GETs just after one of two servers was stopped, read timeout 2 s", stuck),
        ("Time to the full share", recovery),
    ):
        text += [title, measured(start, servers[0])]
        print("\n\n".join(text[-2:]), "\n", flush=True)
    return "\n\n".join(text) + "\n"


if __name__ == "__main__":
    result, went_well = guarded(bench)
    if result:
        results = REPOSITORY / "target/bench"
        results.mkdir(parents=True, exist_ok=True)
        (results / "health.md").write_text(result, encoding="utf-8")
    sys.exit(0 if went_well else 1)
