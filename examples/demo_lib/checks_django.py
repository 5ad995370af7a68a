"""Checks of the Django site: forms, login, files, JSON, a streamed answer."""

import datetime
import hashlib
import http.client
import json
import random
import re
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from .checks_static import answered_by
from .client import TIMEOUT, Answer, Visitor
from .expect import Failed, check_list, expect, expect_in

CHECKS, check = check_list()

LARGE = 20 * 1024 * 1024  # bytes
ODD_NAME = "Übersicht (100%) & #1?.txt"
STREAM_PIECES, STREAM_PAUSE = 5, 0.3  # as in pages/views.py
JSON = {"Content-Type": "application/json"}


@check("a form: POST with its CSRF token, special characters arrive")
def form(site):
    message = 'Grüße & <tags> "quoted" 100%+1'
    answer = Visitor(site.port).post("/form/", {"name": "Zoë", "message": message})
    expect(answer.status, 200, "status")
    expect_in(f"Zoë wrote: <q>{message}</q>", answer.text, "the page")


@check("a form: what is missing is asked for again")
def form_incomplete(site):
    answer = Visitor(site.port).post("/form/", {"name": "Zoë", "message": ""})
    expect(answer.status, 200, "status")
    expect_in("This field is required.", answer.text, "the page")


@check("a form: without the CSRF token it is refused")
def form_without_token(site):
    answer = Visitor(site.port).post("/form/", {"name": "a", "message": "b"}, csrf=False)
    expect(answer.status, 403, "status")
    expect_in("without its CSRF token", answer.text, "the page")


def logged_in(site):
    """A visitor who has just logged in as demo."""
    visitor = Visitor(site.port)
    fields = {"username": "demo", "password": "demo", "next": "/members/"}
    answer = visitor.post("/login/", fields)
    expect((answer.status, answer.headers["Location"]), (302, "/members/"), "answer to the login")
    return visitor


def must_log_in(visitor):
    """The members' page sends this visitor to the login."""
    answer = visitor.get("/members/")
    wanted = (302, "/login/?next=/members/")
    expect((answer.status, answer.headers["Location"]), wanted, "answer to a stranger")


@check("a login: strangers are sent to it, a wrong password is refused")
def login_refused(site):
    visitor = Visitor(site.port)
    must_log_in(visitor)
    answer = visitor.post("/login/", {"username": "demo", "password": "wrong"})
    expect(answer.status, 200, "status")
    expect_in("Please enter a correct username and password", answer.text, "the page")
    must_log_in(visitor)


@check("a login: the session lasts from page to page and lies in SQLite")
def login(site):
    visitor = logged_in(site)
    for visit in (1, 2, 3):
        page = visitor.get("/members/").text
        expect(re.findall(r'id="(?:user|visits)">(\w+)<', page), ["demo", str(visit)], "the page")
    with sqlite3.connect(site.stage.data / "db.sqlite3") as database:
        query = "select count(*) from django_session where session_key = ?"
        found = database.execute(query, [visitor.cookies["sessionid"]]).fetchone()
    expect(found, (1,), "rows of the session")


@check("a login: the logout ends the session, also for who kept the cookie")
def logout(site):
    visitor = logged_in(site)
    kept = visitor.cookies["sessionid"]
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    body = f"csrfmiddlewaretoken={visitor.token('/members/')}"
    answer = visitor.request("POST", "/logout/", body, kind)
    expect((answer.status, answer.headers["Location"]), (302, "/"), "answer to the logout")
    expect("sessionid" in visitor.cookies, False, "a session cookie")
    visitor.cookies["sessionid"] = kept
    must_log_in(visitor)


def upload(site, name, content):
    """Uploads and checks the listing. Returns the name under which Django keeps the file and its
    hash."""
    visitor, digest = Visitor(site.port), hashlib.sha256(content).hexdigest()
    answer = visitor.upload("/upload/", name, content)
    expect((answer.status, answer.headers["Location"]), (302, "/upload/"), "answer to the upload")
    rows = re.findall(
        r"<tr><td>(.*?)</td><td>(\d+)</td><td><code>(\w+)</code>", visitor.get("/upload/").text
    )
    row = next((row for row in rows if row[2] == digest), None)
    if not row:
        raise Failed(f"no row with the SHA-256 {digest} in {rows}")
    expect(row[1], str(len(content)), "size")
    return row[0], digest


def download(site, path, by_nginx):
    """Downloads and checks the headers that tell the two ways apart. Returns the body's SHA-256."""
    answer = Visitor(site.port).get(path)
    expect(answer.status, 200, f"status of {path}")
    expect(answer.headers["Content-Length"], str(len(answer.body)), "Content-Length")
    expect(answer.headers["X-Accel-Redirect"], None, "X-Accel-Redirect")
    expect_in("attachment; filename", answer.headers["Content-Disposition"], "Content-Disposition")
    # Only a file that nginx opened itself has these.
    expect(answer.headers["Accept-Ranges"], "bytes" if by_nginx else None, "Accept-Ranges")
    expect("ETag" in answer.headers, by_nginx, "an ETag")
    return hashlib.sha256(answer.body).hexdigest()


def there_and_back(site, name, content):
    """An upload and both downloads. Returns the kept name."""
    kept, digest = upload(site, name, content)
    for path, by_nginx in (("/download/", True), ("/download/plain/", False)):
        got = download(site, path + quote(kept), by_nginx)
        expect(got, digest, f"SHA-256 of {path}{kept}")
    return kept


@check("20 MB go up, are listed with their SHA-256, and come back the same by nginx and by Django")
def large_file(site):
    name = there_and_back(site, "large.bin", random.Random(2).randbytes(LARGE))
    part = Visitor(site.port).get(f"/download/{name}", Range="bytes=1000000-1000015")
    expect((part.status, len(part.body)), (206, 16), "a range of it")


@check("a file with an odd name goes up and comes back")
def odd_name(site):
    expect(there_and_back(site, ODD_NAME, b"short\n"), ODD_NAME, "the kept name")


@check("uploads are not to be had past Django")
def protected(site):
    name, _ = upload(site, "protected.txt", b"behind Django\n")
    expect((site.stage.data / "uploads" / name).is_file(), True, "the file on disk")
    expect(Visitor(site.port).get(f"/protected/{name}").status, 404, "status")
    expect(Visitor(site.port).get("/download/no-such-file").status, 404, "status")


@check("JSON: the time")
def api_time(site):
    answer = Visitor(site.port).get("/api/time")
    expect(answer.headers["Content-Type"], "application/json", "Content-Type")
    told = datetime.datetime.fromisoformat(json.loads(answer.body)["time"])
    off = abs((datetime.datetime.now(datetime.timezone.utc) - told).total_seconds())
    expect(off < 60, True, f"less than a minute off ({off} s)")


@check("JSON: method, arguments, headers, host and body reach Django and come back")
def api_echo(site):
    body = {"text": "Grüße", "list": [1, 2.5, None, True], "long": "x" * 100_000}
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = Visitor(site.port).request(
            method,
            "/api/echo?a=1&a=%C3%A9&b=c+d%26",
            json.dumps(body),
            {**JSON, "X-Colour": "blue"},
        )
        expect(answer.status, 200, f"status of {method}")
        seen = json.loads(answer.body)
        headers = seen.pop("headers")
        wanted = {
            "method": method,
            "path": "/api/echo",
            "args": {"a": ["1", "é"], "b": ["c d&"]},
            "host": f"127.0.0.1:{site.port}",
            "body": body,
        }
        expect(seen, wanted, f"what {method} brought")
        expect(headers.get("X-Colour"), "blue", "X-Colour")
        expect(headers.get("Content-Type"), "application/json", "Content-Type")
        expect(headers.get("Content-Length"), str(len(json.dumps(body))), "Content-Length")


@check("JSON: a body that is not JSON is Django's 400")
def api_bad_json(site):
    answer = Visitor(site.port).request("POST", "/api/echo", "{", JSON)
    expect(answer.status, 400, "status")
    expect_in("not JSON", answer.text, "the answer")


@check("a chunked body arrives whole, with a Content-Length and no Transfer-Encoding", True)
def chunked(site):
    body = {"text": "x" * 50_000}
    text = json.dumps(body).encode()
    pieces = [text[at : at + 7000] for at in range(0, len(text), 7000)]
    answer = Visitor(site.port).request("POST", "/api/echo", iter(pieces), JSON)
    seen = json.loads(answer.body)
    expect(seen["body"], body, "the body")
    expect(seen["headers"].get("Content-Length"), str(len(text)), "Content-Length")
    expect(seen["headers"].get("Transfer-Encoding"), None, "Transfer-Encoding")


@check("headers of the connection, and Proxy, stop at nginx", True)
def dropped_headers(site):
    headers = {"Connection": "close", "Keep-Alive": "timeout=5", "TE": "trailers", "Proxy": "evil"}
    seen = json.loads(Visitor(site.port).get("/api/echo", **headers).body)["headers"]
    expect([name for name in headers if name in seen or name.title() in seen], [], "at Django")


@check("a streamed answer arrives piece by piece")
def stream(site):
    lines, times = [], []
    with Visitor(site.port).open("GET", "/stream/") as response:
        expect(response.status, 200, "status")
        for line in iter(response.readline, b""):
            lines.append(line.decode())
            times.append(time.monotonic())
    numbers = [line.split(",")[0] for line in lines]
    wanted = [f"piece {number} of {STREAM_PIECES}" for number in range(1, STREAM_PIECES + 1)]
    expect(numbers, wanted, "the pieces")
    took = times[-1] - times[0]
    least = STREAM_PAUSE * (STREAM_PIECES - 1) / 2
    expect(took > least, True, f"{took:.2f} s from first to last piece, more than {least} s")


@check("HEAD brings the headers and no body")
def head(site):
    with socket.create_connection(("127.0.0.1", site.port), TIMEOUT) as connection:
        request = f"HEAD / HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        status, _, rest = connection.makefile("rb").read().partition(b"\r\n")
    expect(status, b"HTTP/1.1 200 OK", "status line")
    expect(rest.partition(b"\r\n\r\n")[2], b"", "what follows the headers")


@check("an address that Django does not know is Django's 404")
def not_found(site):
    answer = Visitor(site.port).get("/no/such/page/")
    expect(answer.status, 404, "status")
    expect_in("Django has no page at <code>/no/such/page/</code>", answer.text, "the page")
    expect(answered_by(site, "/no/such/page/").split(":")[0], "uwsgi unix", "who answered")


@check("one client connection carries requests to disk, Django and Flask in turn")
def one_connection(site):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=TIMEOUT)
    connection.connect()
    own_end = connection.sock.getsockname()
    for _ in range(3):
        for path in ("/static/site.css", "/", "/api/time", "/app1/", "/app2/", "/balanced/"):
            connection.request("GET", path)
            expect(Answer(connection.getresponse()).status, 200, f"status of {path}")
            still = connection.sock and connection.sock.getsockname()
            expect(still, own_end, f"the connection after {path}")
    connection.close()


@check("200 requests of 10 visitors at once, each with its own answer")
def at_once(site):
    def visit(visitor):
        for turn in range(20):
            mark = f"{visitor}-{turn}"
            path = f"/api/echo?m={mark}"
            answer = Visitor(site.port).request("POST", path, json.dumps(mark), JSON)
            expect(answer.status, 200, f"status of {mark}")
            seen = json.loads(answer.body)
            expect((seen["args"], seen["body"]), ({"m": [mark]}, mark), "the answer")

    with ThreadPoolExecutor(10) as visitors:
        list(visitors.map(visit, range(10)))
