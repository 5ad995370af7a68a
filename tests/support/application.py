"""The WSGI application that tests put behind the module."""

import os


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if "/environ/" in path:
        start_response("200 OK", [("Content-Type", "text/plain")])
        pairs = sorted((key, value) for key, value in environ.items() if isinstance(value, str))
        pairs.append(("pid", os.getpid()))
        return ["".join("%s=%s\n" % pair for pair in pairs).encode("utf-8")]
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Accel-Buffering", "no")])
        return (b"line %d\n" % number for number in range(10))
    if path.startswith("/accel/"):
        start_response("200 OK", [("X-Accel-Redirect", path[len("/accel"):])])
        return [b""]
    if path == "/cookies":
        start_response("200 OK", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return [b""]
    if path.startswith("/status/"):
        start_response(path.rsplit("/", 1)[1] + " Chosen", [])
        return [b""]
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
