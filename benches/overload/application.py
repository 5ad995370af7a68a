"""The application of the issue everybody has: 2 ms a request, most of them spent waiting."""

import time

BODY = b"done\n"


def application(_environ, start_response):
    time.sleep(0.002)
    start_response("200 OK", [("Content-Length", str(len(BODY)))])
    return [BODY]
