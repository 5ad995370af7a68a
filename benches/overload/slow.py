"""An application that takes 50 ms, and counts in a file what it has finished: a number for each process."""

import mmap
import os
import time

import uwsgi
from arrivals import COUNT, body

SECONDS = 0.05

with open(os.environ["BENCH_COUNTS"], "r+b") as file:
    COUNTS = mmap.mmap(file.fileno(), 0)


def application(environ, start_response):
    """Whether somebody still waits for the answer, it cannot know."""
    time.sleep(SECONDS)
    answer = body(environ["QUERY_STRING"])
    at = (uwsgi.worker_id() - 1) * COUNT.size
    COUNT.pack_into(COUNTS, at, COUNT.unpack_from(COUNTS, at)[0] + 1)
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
