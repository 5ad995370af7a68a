"""The application, as WSGI and as ASGI, that answers with every kind of framing: for tests of
connections that are reused.

Beside Content-Length it leaves framing to the server. For HEAD it answers as for GET, body and all:
what becomes of the body is the server's doing.
"""

import os
from urllib.parse import parse_qs


def answer(path, query, body):
    """Status, headers and the pieces of the body. None for `body`: it was not read."""
    query = parse_qs(query)
    if path == "/token":
        return sized(query["t"][0].encode())
    if path == "/stream":
        return "200 OK", [], (b"line %d\n" % number for number in range(10))
    if path.startswith("/len/"):
        return sized(b"x" * int(path.rsplit("/", 1)[1]))
    if path == "/count":
        # One write with O_APPEND: no process comes between, and a line is there or is not.
        file = os.open("count", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, body + b"\n")
        os.close(file)
        return sized(body)
    if path == "/unread":
        return sized(b"unread")
    if path.startswith("/status/"):
        return path.rsplit("/", 1)[1] + " Chosen", [], [b""]
    if path == "/close":
        return sized(b"close", [("Connection", "close")])
    if path == "/pid":
        return sized(b"%d" % os.getpid())
    return sized(body)


def sized(body, headers=()):
    return "200 OK", [("Content-Length", str(len(body))), *headers], [body]


def application(environ, start_response):
    body = None
    if environ["PATH_INFO"] != "/unread":
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    status, headers, pieces = answer(environ["PATH_INFO"], environ["QUERY_STRING"], body)
    start_response(status, headers)
    return pieces


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    body = None
    if scope["path"] != "/unread":
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
    status, headers, pieces = answer(scope["path"], scope["query_string"].decode(), body)
    headers = [(name.lower().encode(), value.encode()) for name, value in headers]
    start = {"type": "http.response.start", "status": int(status.split()[0]), "headers": headers}
    await send(start)
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})
