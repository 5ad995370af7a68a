"""Checks of the page that sends the same requests by `uwsgi_pass` and by `rs_uwsgi_pass`."""

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
