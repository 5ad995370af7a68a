"""The WSGI application that takes as long as the query says, in seconds, and leaves a body unread."""

import time


def application(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"] or 0))
    start_response("200 OK", [("Content-Length", "4")])
    return [b"slow"]
