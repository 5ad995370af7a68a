"""A visitor for the checks: keeps cookies, sends forms and files, follows no redirect by itself."""

import html
import http.client
import http.cookies
import re
import secrets
import urllib.parse

TIMEOUT = 60  # seconds for any single read or write
CSRF_FIELD = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class Answer:
    """Status, headers (http.client's message) and the body in bytes."""

    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def text(self):
        """The body as text, with HTML's escapes undone."""
        return html.unescape(self.body.decode("utf-8"))


class Visitor:
    """Talks to nginx on `port` of 127.0.0.1."""

    def __init__(self, port):
        self.port, self.cookies = port, {}

    def open(self, method, path, body=None, headers=None):
        """Sends a request on a connection of its own. Returns http.client's response, unread."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        headers = dict(headers or {})
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        for line in response.headers.get_all("Set-Cookie", []):
            for name, morsel in http.cookies.SimpleCookie(line).items():
                self.cookies[name] = morsel.value
                if morsel["max-age"] == "0" or not morsel.value:
                    del self.cookies[name]
        return response

    def request(self, method, path, body=None, headers=None):
        """Sends a request and reads the answer to its end."""
        with self.open(method, path, body, headers) as response:
            return Answer(response)

    def get(self, path, **headers):
        """GET; `If_None_Match` as a keyword is the header If-None-Match."""
        return self.request(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    def token(self, path):
        """The CSRF token in the form at `path`."""
        found = CSRF_FIELD.search(self.get(path).text)
        if not found:
            raise AssertionError(f"{path} has no CSRF token")
        return found.group(1)

    def post(self, path, fields, csrf=True):
        """Sends a form, with the token that the page's own form holds."""
        if csrf:
            fields = {**fields, "csrfmiddlewaretoken": self.token(path)}
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.request("POST", path, urllib.parse.urlencode(fields), kind)

    def upload(self, path, name, content):
        """Sends `content` (bytes) as the file `name` by the form at `path`."""
        boundary = secrets.token_hex(16)
        parts = [
            ('form-data; name="csrfmiddlewaretoken"', self.token(path).encode()),
            (f'form-data; name="file"; filename="{name}"', content),
        ]
        body = b"".join(
            f"--{boundary}\r\nContent-Disposition: {about}\r\n\r\n".encode() + data + b"\r\n"
            for about, data in parts
        )
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self.request("POST", path, body + f"--{boundary}--\r\n".encode(), kind)
