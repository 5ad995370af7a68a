"""Load on nginx: wrk for a while, or an exact number of requests; and a page looked at."""

import contextlib
import functools
import hashlib
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


def request(url, count=1, headers=None, body=None, answer=BODY_LENGTH):
    """Requests a page `count` times over one connection, or posts `body`. `headers` come in addition
    to Host, a browser's if there are none. Raises StartFailed at anything but 200 and the body of
    `answer` bytes that all servers here send."""
    parts, buffer, expected = urlsplit(url), bytearray(1 << 20), _digest(answer)
    headers = dict(HEADERS if headers is None else headers)
    if body is not None:
        headers["Content-Length"] = str(len(body))
    with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=60)) as client:
        for _ in range(count):
            client.putrequest("GET" if body is None else "POST", parts.path, False, True)
            for name, value in headers.items():
                client.putheader(name, value)
            client.endheaders(body)
            response, length, digest = client.getresponse(), 0, hashlib.sha256()
            while got := response.readinto(buffer):
                length += got
                digest.update(memoryview(buffer)[:got])
            if response.status != 200 or length != answer or digest.digest() != expected:
                raise StartFailed(f"{url} answered {response.status} with other {length} bytes")


@functools.cache
def _digest(length):
    """The hash of a body of this length."""
    digest = hashlib.sha256()
    for _ in range(length >> 20):
        digest.update(b"x" * (1 << 20))
    digest.update(b"x" * (length & ((1 << 20) - 1)))
    return digest.digest()
