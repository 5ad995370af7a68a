"""make profile: where the instructions of the reference request go, with stock and with ours.

Leaves callgrind's profiles and what callgrind_annotate makes of them in target/bench/profile.
"""

import re
import shutil
import subprocess

import callgrind
import handover
import instructions
from backends import Null
from plan import ALONE, LIMITED, NEW, OURS, QUEUED, STOCK, Scenario
from shared import machine, nginx_version, table

SCENARIO = Scenario(Null.name, "none", "unix")
COUNTS = (200, 1200)
PROFILED = {STOCK: "stock", NEW: "ours-new", OURS: "ours-pooled"}
TOP = 10
# What limits cost, with so many clients at once.
LIMITS = {
    OURS: "no limit",
    LIMITED: "64 connections",
    QUEUED: "1 connection, so that requests wait",
}
CLIENTS = 8
HANDED_OVER = "1 connection, handed over between two workers with a client each"

NOTE = """\
The module has line tables and symbols. Debian's nginx is stripped: it names the functions that it
exports, and its static ones are addresses. `make profile NGINX=vendored` shows them all. stock's
steps are found by the exported functions that only they call. A profile is of {most} requests and of
nginx's start; the tables are of its difference to one of {least} requests. A function's cost includes
what was inlined into it. The kernel's work is not counted.
"""

_MODULE = r"<?ngx_http_rs_uwsgi_module::.*"
_CALLBACK = "ngx_http_rs_uwsgi_module::nginx::callbacks::"
_BALANCER = "ngx_http_rs_uwsgi_module::nginx::balancer::"


def run(setup, addresses, running):
    """Profiles all. Returns the text to print."""
    folder = setup.results / "profile"
    folder.mkdir(exist_ok=True)
    profiles = {}
    for method, name in PROFILED.items():
        print(f"profiling {name}", flush=True)
        profiles[method], path = _per_request(setup, method, addresses, running)
        shutil.copyfile(path, folder / f"{name}.out")
        _annotate(folder, name)
    print("profiling without the zone", flush=True)
    alone = _per_request(setup, ALONE, addresses, running)[0]
    limits = {}
    for method, name in LIMITS.items():
        print(f"counting instructions with {name}", flush=True)
        limits[name], _ = instructions.per_request(
            setup, SCENARIO, method, COUNTS, addresses, running, CLIENTS
        )
    print("counting instructions of hand-overs", flush=True)
    limits[HANDED_OVER], part = handover.measure(setup, SCENARIO, addresses, running)
    text = _report(setup, profiles, alone, limits, part)
    (folder / "summary.md").write_text(text, encoding="utf-8")
    files = "summary.md, and for each .out, .inclusive.txt and .exclusive.txt"
    return f"\n{text}\nwritten to {folder}: {files}"


def _per_request(setup, method, addresses, running):
    """The profile of a request, and the path of the larger one of the two that it is the difference of."""
    _, paths = instructions.per_request(setup, SCENARIO, method, COUNTS, addresses, running)
    few, many = map(callgrind.read, paths)
    return many.per_request(few, COUNTS[1] - COUNTS[0]), paths[1]


def _of_module(profile):
    """What the module itself costs, with the comparisons of bytes that it calls: not what nginx's allocator
    happens to do in one configuration and not in the other."""
    return sum(cost for name, cost in profile.own.items() if re.fullmatch(f"{_MODULE}|__memcmp.*", name))


def _annotate(folder, name):
    for kind, option in (("inclusive", "yes"), ("exclusive", "no")):
        with open(folder / f"{name}.{kind}.txt", "w", encoding="utf-8") as output:
            subprocess.run(
                ["callgrind_annotate", f"--inclusive={option}", "--auto=no", "--threshold=99.9"]
                + [folder / f"{name}.out"],
                stdout=output,
                check=True,
            )


def _ours(profile):
    """The main steps of ours: what nginx calls, less what is called back of nginx's own steps."""
    entered = lambda pattern: profile.entered(pattern, _MODULE)  # noqa: E731
    # Called by nginx, or by ours where there is no body.
    body_ready = profile.of(f"{_CALLBACK}body_ready")
    return {
        "handler": entered(f"{_CALLBACK}content") - body_ready,
        "packet": body_ready
        - profile.of("ngx_http_upstream_init")
        + entered(f"{_CALLBACK}create_request"),
        "head": entered(f"{_CALLBACK}process_header"),
        "connection": entered("ngx_event_connect_peer")
        + entered(f"{_BALANCER}free")
        + entered("ngx_close_connection"),
        "end": entered(f"{_CALLBACK}(input_filter_init|finalize_request)"),
    }


def _stock(profile):
    """The same of stock, whose functions are static."""
    caller = lambda name: sum(map(profile.of, profile.callers(name)))  # noqa: E731
    body = "ngx_http_read_client_request_body"
    return {
        "handler": caller(body) - profile.of(body),
        "packet": caller("ngx_http_script_copy_var_len_code"),
        "head": caller("ngx_http_parse_status_line"),
        "connection": profile.of("ngx_event_connect_peer")
        + profile.of("ngx_http_upstream_free_round_robin_peer")
        + profile.of("ngx_close_connection"),
        "end": None,
    }


STEPS = {
    "handler": "handler, until the body is read",
    "packet": "building the packet",
    "head": "parsing and handling the head",
    "connection": "taking and parking, or making and closing, the connection",
    "end": "the body's filter, and the request's end",
}


def _report(setup, profiles, alone, limits, part):
    steps = {
        method: _stock(profile) if method == STOCK else _ours(profile)
        for method, profile in profiles.items()
    }
    lines = [["whole worker", *(f"{profile.total():.0f}" for profile in profiles.values())]]
    for step, name in STEPS.items():
        costs = [steps[method][step] for method in profiles]
        lines.append([name, *("" if cost is None else f"{cost:.0f}" for cost in costs)])
    text = f"{machine()}. {nginx_version(setup.nginx)}. Unix socket, null backend.\n\n"
    text += NOTE.format(least=COUNTS[0], most=COUNTS[1])
    text += f"\n{table(['instructions a request', *PROFILED.values()], lines)}\n"
    price = _of_module(profiles[OURS]) - _of_module(alone)
    text += "\nWhat the zone that workers share costs a pooled request, with all that is counted in it, against "
    text += f"`rs_uwsgi_zone off`: {price:.0f} instructions.\n"
    rows = [[name, f"{cost:.0f}"] for name, cost in limits.items()]
    text += f"\n{table([f'ours, {CLIENTS} clients at once where none are named', 'instructions a request'], rows)}\n"
    more = (limits[HANDED_OVER] - profiles[OURS].total()) / part
    text += f"\nA hand-over, {part:.2f} of them a request, costs both workers {more:.0f} instructions more than a "
    text += "pooled request.\n"
    for method, profile in profiles.items():
        most = profile.own.most_common(TOP)
        costs = [[f"`{name}`", f"{cost:.0f}"] for name, cost in most]
        text += f"\n{table([f'{PROFILED[method]}: the {TOP} that cost most', 'own'], costs)}\n"
    return text
