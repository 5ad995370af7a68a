"""Counts its requests in a file, so that the count goes on when the server was started again."""

import fcntl
import os


def application(environ, start_response):
    """Answers with the next number. A process that is killed here leaves the old number or the new one."""
    file = os.open(os.environ["DEMO_COUNTER"], os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        number = int(os.pread(file, 20, 0) or 0) + 1
        os.pwrite(file, b"%020d" % number, 0)
    finally:
        os.close(file)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(number).encode()]
