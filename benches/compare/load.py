"""Load on nginx: wrk for a while, or an exact number of requests; and a page looked at."""

import contextlib
import http.client
import json
import os
import re
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

from demo_lib.processes import Process, StartFailed, pause
from plan import CONNECTIONS

SCRIPT = Path(__file__).resolve().parent / "load.lua"
# The same request headers for both: the script is their one home.
HEADERS = dict(
    re.findall(r'wrk\.headers\["([^"]+)"\]\s*=\s*"([^"]*)"', SCRIPT.read_text(encoding="utf-8"))
)
BODY_LENGTH = 1024
# wrk ends at our signal; this is for the case that we are gone.
LIMIT = "30s"


def wrk(url, seconds, folder, running):
    """Runs wrk for about so many seconds. Returns its outcome: requests, seconds, failed, p50_ms,
    p99_ms. Its own -d knows whole seconds only, so it is interrupted, which it takes well."""
    log = folder / "wrk.log"
    log.unlink(missing_ok=True)
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{LIMIT}", "-s", SCRIPT, url]
    process = Process("wrk", argv, dict(os.environ), [log], folder)
    running.append(process)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        process.must_run()
        pause(min(0.05, max(0.0, end - time.monotonic())))
    process.child.send_signal(signal.SIGINT)
    process.wait_for_success()
    running.remove(process)
    found = re.search(r"^OUTCOME (.*)$", log.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise process.failure("printed no outcome")
    return json.loads(found[1])


def request(url, count=1):
    """Requests a page `count` times over one connection. Raises StartFailed at a wrong answer."""
    parts = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=20)) as client:
        for _ in range(count):
            client.request("GET", parts.path, headers=HEADERS)
            response = client.getresponse()
            length = len(response.read())
            if response.status != 200 or length != BODY_LENGTH:
                raise StartFailed(f"{url} answered {response.status} with {length} bytes")
