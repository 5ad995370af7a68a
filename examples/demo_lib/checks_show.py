"""Checks of the page that sends the same requests by `uwsgi_pass` and by `rs_uwsgi_pass`, and of the status page."""

import json

from .client import Visitor
from .expect import check_list, expect, expect_in

CHECKS, check = check_list()

BURST, MIX = 400, 160  # requests; as in flask/show.py


def run(site, what, way):
    """Presses a button. Returns how many answers there were, by status."""
    answer = Visitor(site.port).post(f"/show/run/{what}/{way}", {}, csrf=False)
    expect(answer.status, 200, f"status of {what} by {way}")
    return json.loads(answer.body)["statuses"]


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


@check("an upload that is refused early: the application's 413 arrives", differs_from_stock=True)
def upload(site):
    expect(run(site, "upload", "ours"), {"413": 1}, "answers")


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
    # the burst, the mix, and the upload that was refused
    expect((responses["2xx"], responses["codes"]), (BURST + MIX * 8 // 10, {"404": MIX * 2 // 10, "413": 1}), "responses")
    expect(small["queue"]["served"] > 0, True, "some have waited")
    metrics = visitor.get("/status/metrics")
    expect((metrics.status, "rs_uwsgi_upstream_requests_total{" in metrics.text), (200, True), "the metrics")
