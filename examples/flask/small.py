"""A small application for bursts, in a server with two workers: it takes its time, and refuses uploads
without reading them."""

import time

from flask import Flask, request

app = Flask(__name__)
MOST = 1_000_000  # bytes of an upload


@app.route("/show/<way>/work")
def work(way):
    """Answers after 20 ms: 100 requests a second are what the two workers can do."""
    time.sleep(0.02)
    return f"done, by way of {way}\n"


@app.route("/show/<way>/upload", methods=["POST"])
def upload(way):
    """Refuses what is too large by its length; the server closes while nginx still sends the body."""
    if request.content_length and request.content_length > MOST:
        return f"{request.content_length} bytes are too many, {MOST} may come\n", 413
    return f"{len(request.get_data())} bytes\n"


@app.route("/show/<way>/missing")
def missing(way):
    """Not there, on purpose."""
    return "not here\n", 404
