"""The WSGI application of the soak: answers with lines of the token that ends the request's path, as many
as its query says, and refuses a body that has any other line."""

import time


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/check":
        start_response("204 No Content", [])
        return []
    _, _, kind, token = path.split("/", 3)
    count = int(environ.get("QUERY_STRING") or 1)
    line = token.encode() + b"\n"
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if body.replace(line, b""):
        start_response("500 Mixed", [("X-Mixed", "body"), ("Content-Length", "0")])
        return []
    headers = [("Content-Type", "text/html"), ("X-Token", token), ("Cache-Control", "max-age=1")]
    if kind == "slow":
        time.sleep(0.3)
    if kind == "stream":
        start_response("200 OK", headers)
        return (line for _ in range(count))
    content = line * count
    if kind == "include":
        content = b'<!--# include virtual="/uwsgi/length/%s?2" -->' % token.encode()
    headers += [("ETag", '"%s"' % token), ("Content-Length", str(len(content)))]
    start_response("200 OK", headers)
    return [content]
