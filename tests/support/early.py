"""The WSGI application that answers without reading the request's body.

The end of the path is the status and, after a slash, whether the answer tells its length.
"""


def application(environ, start_response):
    status, length = environ["PATH_INFO"].rsplit("/", 2)[1:]
    body = b"%s early\n" % status.encode() * 500
    start_response(status + " Early", [("Content-Length", str(len(body)))] if length == "sized" else [])
    return [body]
