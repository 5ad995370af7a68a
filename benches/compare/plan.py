"""What is compared, and for how long: the tables that everything else goes through."""

from dataclasses import dataclass

# Connections that wrk keeps open to nginx: fewer than uWSGI's listen queue of 100 takes, so that no
# request fails for a reason that is not measured here.
CONNECTIONS = 16
# Idle connections that `proxy_pass` may keep to a backend.
KEEPALIVE = 32

STOCK, OURS, PROXY = "uwsgi_pass", "rs_uwsgi_pass", "proxy_pass"
METHODS = (STOCK, OURS, PROXY)
# Ours with `rs_uwsgi_reuse off`: only where instructions are counted, by an nginx for each method. In
# one nginx with ours the two would contradict each other, since they share their connections.
NEW = "rs_uwsgi_pass-new"
# Ours with a limit that is never reached, and with one that all requests but one wait for: only in the
# profile.
LIMITED, QUEUED = "rs_uwsgi_pass-limited", "rs_uwsgi_pass-queued"
# Ours without the zone that workers share, and without what is counted in it: only in the profile. As long as
# OURS, so that requests for the two are.
ALONE = "rs_uwsgi_solo"
COUNTED = (STOCK, NEW, OURS, PROXY)
KINDS = ("unix", "tcp")
# TCP with TLS to the server: a backend that has it has nothing else.
TLS = "tls"


@dataclass(frozen=True)
class Scenario:
    """One row of the table: a backend of backends.py, what it runs, and how nginx reaches it."""

    backend: str
    application: str
    kind: str

    def uri(self, method):
        """The location that passes to this backend by `method`."""
        return f"/{self.application}/{self.backend}/{self.kind}/{method}"

    def __str__(self):
        application = "" if self.application == "none" else f", {self.application}"
        return f"{self.backend}{application}, {self.kind}"


@dataclass(frozen=True)
class Plan:
    """How much is measured. Seconds are of one turn: one method in one scenario in one round."""

    rounds: int
    seconds: float
    scenarios: tuple
    # Of these kinds of addresses instructions are counted, between runs of so many requests.
    instruction_kinds: tuple
    instruction_requests: tuple = (200, 1200)
    warm_up_seconds: float = 0.2
    counting_seconds: float = 0.2
    # Rounds and seconds of a turn before other web servers.
    others: tuple = ()


def _scenarios(kinds, applications):
    null = [Scenario("null", "none", kind) for kind in KINDS]
    real = [
        Scenario(backend, application, kind)
        for backend in ("uwsgi", "gunicorn")
        for application in applications
        for kind in kinds
    ]
    return tuple(null + real)


def _tls(application):
    return (Scenario("gunicorn-tls", application, TLS),)


PLANS = {
    # So long a count that the first connections, one for each client, do not matter.
    "full": Plan(
        9,
        0.3,
        _scenarios(KINDS, ("wsgi", "django")) + _tls("django"),
        KINDS,
        counting_seconds=2,
        others=(5, 1),
    ),
    "quick": Plan(6, 0.25, _scenarios(("unix",), ("wsgi",)) + _tls("wsgi"), ("unix",), others=(2, 0.3)),
}
