"""Checks of what nginx serves by itself, and of the index page that uses it."""

import re
import secrets

from .client import Visitor
from .expect import check_list, eventually, expect, expect_in

CHECKS, check = check_list()

# Path below /static/, content type.
FILES = [
    ("site.css", "text/css"),
    ("site.js", "application/javascript"),
    ("path.svg", "image/svg+xml"),
]


def answered_by(site, mark):
    """Who answered the request whose address contains `mark`, as the access log has it."""

    def line():
        text = site.access_log.read_text(encoding="utf-8", errors="replace")
        return next((line for line in text.splitlines() if mark in line), None)

    return eventually(line, f"the access log's line of {mark}").rsplit(", ", 1)[1]


@check("the index comes from Django and links stylesheet, script, picture and every page")
def index(site):
    mark = secrets.token_hex(8)
    answer = Visitor(site.port).get(f"/?{mark}")
    expect(answer.status, 200, "status")
    expect(answer.headers["Content-Type"], "text/html; charset=utf-8", "Content-Type")
    expect(answered_by(site, mark), f"uwsgi unix:{site.stage.run}/django.sock", "who answered")
    links = re.findall(r'(?:href|src)="([^"]+)"', answer.text)
    for name, _ in FILES:
        expect_in(f"/static/{name}", links, "links")
    for link in sorted(set(links)):
        status = Visitor(site.port).get(link).status
        expect(status, 302 if link == "/members/" else 200, f"status of {link}")


@check("stylesheet, script and picture come whole from disk, uWSGI is not asked")
def files(site):
    for name, kind in FILES:
        mark = secrets.token_hex(8)
        answer = Visitor(site.port).get(f"/static/{name}?{mark}")
        source = site.stage.site / "django" / "assets" / name
        expect(answer.status, 200, f"status of {name}")
        expect(answer.headers["Content-Type"], kind, f"Content-Type of {name}")
        expect(answer.body, source.read_bytes(), name)
        expect(answered_by(site, mark), "nginx alone", f"who answered {name}")


@check("a static file is not sent again to a client that has it (304), and in part on demand (206)")
def conditional(site):
    visitor = Visitor(site.port)
    whole = visitor.get("/static/site.css")
    for ask, has in (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified")):
        again = visitor.request("GET", "/static/site.css", headers={ask: whole.headers[has]})
        expect((again.status, again.body), (304, b""), f"answer to {ask}")
    part = visitor.get("/static/site.css", Range="bytes=10-29")
    expect((part.status, part.body), (206, whole.body[10:30]), "a range")


@check("a static file that is missing is nginx's 404")
def missing(site):
    mark = secrets.token_hex(8)
    expect(Visitor(site.port).get(f"/static/{mark}.css").status, 404, "status")
    expect(answered_by(site, mark), "nginx alone", "who answered")
