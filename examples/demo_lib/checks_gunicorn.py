"""Checks of how nginx got its connections, which each page says, and of the site in gunicorn."""

import http.client
import re

from .client import TIMEOUT, Answer, Visitor
from .expect import check_list, expect, expect_in

CHECKS, check = check_list()

PAGES = ["/", "/form/", "/login/", "/upload/", "/api/echo", "/stream/", "/app1/", "/app2/form/", "/balanced/"]
HTML = {"Accept": "text/html,*/*;q=0.8"}


@check("every page has a place to say how nginx got its connection, and what it waited", differs_from_stock=True)
def pages(site):
    for path in PAGES:
        answer = Visitor(site.port).get(path, **HTML)
        expect(answer.status, 200, f"status of {path}")
        for part in ('<span id="timing">', "/static/site.js"):
            expect_in(part, answer.text, path)
        timing = answer.headers["Server-Timing"]
        found = re.fullmatch(r'connection;desc="new", queue;desc="\d+\.\d{3}"', timing)
        expect(bool(found), True, f"{timing} says new, and a time ({path})")
    show = Visitor(site.port).get("/show/")
    expect_in('<span id="timing">', show.text, "/show/")
    expect(show.headers["Server-Timing"], 'connection;desc="none"', "Server-Timing of /show/")


@check("/api/echo and /stream/ are pages with a way back for browsers")
def ways_back(site):
    for path, part in (("/api/echo?colour=blue", '"blue"'), ("/stream/", "<li>piece 5 of 5")):
        answer = Visitor(site.port).get(path, **HTML)
        expect(answer.headers["Content-Type"], "text/html; charset=utf-8", f"Content-Type of {path}")
        expect(answer.headers["Vary"].split(", ")[0], "Accept", f"Vary of {path}")
        for wanted in (part, '<a class="brand" href="/">'):
            expect_in(wanted, answer.text, path)


@check("/gunicorn/: Django's links begin with the mount, a form works, and connections are used again", True)
def gunicorn(site):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=TIMEOUT)
    timings = []
    for _ in range(3):
        connection.request("GET", "/gunicorn/", headers=HTML)
        answer = Answer(connection.getresponse())
        expect(answer.status, 200, "status")
        timings.append(re.findall(r'connection;desc="(\w+)"', answer.headers["Server-Timing"]))
    connection.close()
    # One client's connection is with one worker of nginx, which has its own connections.
    expect(timings[1:], [["reused"], ["reused"]], "connections")
    expect_in("Django, by way of gunicorn", answer.text, "the page")
    for link in ("form", "members", "upload", "stream"):
        expect_in(f'href="/gunicorn/{link}/"', answer.text, "the page")
    answer = Visitor(site.port).post("/gunicorn/form/", {"name": "Zoë", "message": "Grüße"})
    expect_in("Zoë wrote: <q>Grüße</q>", answer.text, "the answer")
