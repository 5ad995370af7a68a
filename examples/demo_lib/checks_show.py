"""Checks of the page that sends the same requests by `uwsgi_pass` and by `rs_uwsgi_pass`, and of the status page."""

import json

from .client import Visitor
from .expect import Failed, check_list, expect, expect_in

CHECKS, check = check_list()

BURST, UPLOADS, CALLS, MIX = 400, 8, 100, 160  # requests; as in flask/show.py
PRESSES = 10  # until stock has failed to notice one early answer of UPLOADS


def press(site, what, way):
    """Presses a button. Returns what the page is told."""
    answer = Visitor(site.port).post(f"/show/run/{what}/{way}", {}, csrf=False)
    expect(answer.status, 200, f"status of {what} by {way}")
    return answer.text


def result(site, what, way):
    """The same of those that answer at the end."""
    return json.loads(press(site, what, way))


def run(site, what, way):
    """How many answers there were, by status."""
    return result(site, what, way)["statuses"]


@check("the page with buttons, its script and its style")
def page(site):
    for name, text in (("", "data-what"), ("show.js", "run/"), ("show.css", ".sides")):
        answer = Visitor(site.port).get(f"/show/{name}")
        expect(answer.status, 200, f"status of {name or 'the page'}")
        expect_in(text, answer.text, name or "the page")


@check("a burst: everybody is served by rs_uwsgi_pass", differs_from_stock=True)
def burst(site):
    expect(run(site, "burst", "ours"), {"200": BURST}, "answers")


@check("a burst: stock's uwsgi_pass answers 502 where the listen queue is full")
def burst_by_stock(site):
    statuses = run(site, "burst", "stock")
    expect(sum(statuses.values()), BURST, "answers")
    expect("502" in statuses and "200" in statuses, True, f"both kinds in {statuses}")


@check("uploads of 50 MB that are refused early: the application's 413 arrives", differs_from_stock=True)
def upload(site):
    expect(run(site, "upload", "ours"), {"413": UPLOADS}, "answers")


@check("uploads of 50 MB that are refused early: stock makes a 502 of some")
def upload_by_stock(site):
    for _ in range(PRESSES):
        statuses = run(site, "upload", "stock")
        expect(sum(statuses.values()), UPLOADS, "answers")
        if "502" in statuses:
            return
    raise Failed(f"no 502 in {PRESSES} times {UPLOADS} uploads")


@check("a chunked upload: the application gets it from rs_uwsgi_pass", differs_from_stock=True)
def chunked(site):
    expect(result(site, "chunked", "ours")["body"], "100000 bytes\n", "the answer")


@check("a chunked upload: the application gets nothing from stock")
def chunked_by_stock(site):
    expect(result(site, "chunked", "stock")["body"], "0 bytes\n", "the answer")


@check("a cookie too large: 431, and the log names it", differs_from_stock=True)
def cookie(site):
    said = result(site, "cookie", "ours")
    expect(said["statuses"], {"431": 1}, "answers")
    expect_in('the largest is "HTTP_COOKIE"', said["log"], "the log")


@check("a cookie too large: stock's 502")
def cookie_by_stock(site):
    expect(run(site, "cookie", "stock"), {"502": 1}, "answers")


def restarted(site, way):
    """The answers while the server was stopped and started: statuses, and the numbers that it counted."""
    lines = [json.loads(line) for line in press(site, "restart", way).splitlines()]
    expect([line["event"] for line in lines if "event" in line], ["stop", "start", "back"], "what happened")
    answers = [line for line in lines if "status" in line]
    return {line["status"] for line in answers}, [line["count"] for line in answers if line["count"]]


@check("a restart while a counter runs: rs_uwsgi_pass bridges it", differs_from_stock=True)
def restart(site):
    statuses, numbers = restarted(site, "ours")
    expect(statuses, {"200"}, "answers")
    expect(len(set(numbers)), len(numbers), "different numbers")


@check("a restart while a counter runs: some get stock's 502")
def restart_by_stock(site):
    expect(restarted(site, "stock")[0], {"200", "502"}, "answers")


@check("gunicorn beside uWSGI: connections to it are used again", differs_from_stock=True)
def connections(site):
    of_uwsgi, of_gunicorn = (result(site, "connections", way) for way in ("uwsgi", "gunicorn"))
    expect(of_uwsgi["connections"], {"new": CALLS}, "connections to uWSGI")
    found = of_gunicorn["connections"]
    expect(sum(found.values()), CALLS, "connections to gunicorn")
    # Two clients and two workers of nginx: no more are needed at once.
    expect(found["new"] <= 4, True, f"connections are used again: {found}")


@check("a mix of requests has the same answers in both ways")
def mix(site):
    wanted = {"200": MIX * 8 // 10, "404": MIX * 2 // 10}
    for way in ("stock", "ours"):
        expect(run(site, "mix", way), wanted, f"answers by {way}")


@check("the status page has counted them", differs_from_stock=True)
def status(site):
    visitor = Visitor(site.port)
    page = visitor.get("/status/")
    expect((page.status, page.headers["Content-Type"]), (200, "text/html; charset=utf-8"), "the page")
    expect_in("rs_uwsgi on", page.text, "the page")
    upstreams = json.loads(visitor.get("/status/json").body)["upstreams"]
    peers = [peer for upstream in upstreams.values() for peer in upstream["peers"]]
    [small] = [peer for peer in peers if peer["server"] == f"unix:{site.stage.run}/small.sock"]
    responses = small["responses"]
    # the burst, the mix, the chunked upload, and those that were refused
    wanted = (BURST + MIX * 8 // 10 + 1, {"404": MIX * 2 // 10, "413": UPLOADS})
    expect((responses["2xx"], responses["codes"]), wanted, "responses")
    expect(small["queue"]["served"] > 0, True, "some have waited")
    metrics = visitor.get("/status/metrics")
    expect((metrics.status, "rs_uwsgi_upstream_requests_total{" in metrics.text), (200, True), "the metrics")
