"""make bench BENCH=costs: what is not the reference request. Nowhere should ours be worse than stock.

Large bodies: CPU time of the worker a request. Many headers and parameters, subrequests, static
files: instructions a request. What requests and idle connections hold: memory (memory.py).
"""

import datetime
import json
from dataclasses import dataclass
from statistics import median

import instructions
import memory
import tenants
from backends import Sized
from load import BODY_LENGTH, HEADERS, request
from nginx import PASS, PROTOCOL, UPSTREAM, Nginx, Site, location
from onecpu import note, one_cpu
from plan import KEEPALIVE, METHODS, OURS, PROXY, STOCK
from shared import PARAMS, cpu_seconds, machine, nginx_version, params, table

MEGABYTE = 1 << 20
MODULE = {STOCK: "uwsgi", OURS: "rs_uwsgi", PROXY: "proxy"}
INCLUDES = 10


@dataclass(frozen=True)
class Bodies:
    """A row of the table of large bodies, and the requests of one turn."""

    name: str
    response: int
    upload: int
    requests: int
    # After the name of the method's module.
    directive: str = ""
    # Not what is to go through a file: a client that takes turns with nginx keeps up.
    on_one_cpu: bool = True
    kind: str = "unix"

    def uri(self, method):
        """Where `method` serves it."""
        words = self.directive.replace(" ", "-") or "buffered"
        return f"/{self.response}/{self.upload}/{words}/{self.kind}/{method}"


BODIES = (
    Bodies("1 MB response, buffered", MEGABYTE, 0, 30),
    Bodies("1 MB response, buffered, TCP", MEGABYTE, 0, 30, kind="tcp"),
    Bodies("1 MB response, unbuffered", MEGABYTE, 0, 30, "buffering off"),
    Bodies("1 MB response, unbuffered, TCP", MEGABYTE, 0, 30, "buffering off", kind="tcp"),
    Bodies("100 MB response, buffered", 100 * MEGABYTE, 0, 1, on_one_cpu=False),
    Bodies("100 MB response, buffered, TCP", 100 * MEGABYTE, 0, 1, on_one_cpu=False, kind="tcp"),
    Bodies("100 MB response, unbuffered", 100 * MEGABYTE, 0, 1, "buffering off"),
    Bodies("100 MB response, unbuffered, TCP", 100 * MEGABYTE, 0, 1, "buffering off", kind="tcp"),
    Bodies("10 MB upload, buffered", BODY_LENGTH, 10 * MEGABYTE, 3),
    Bodies("10 MB upload, unbuffered", BODY_LENGTH, 10 * MEGABYTE, 3, "request_buffering off"),
)
# Request headers with Host, parameters, and what the names of those beyond the standard set begin
# with. Those in HTTP_ replace headers: for each header, stock looks through all of them.
OTHER, HEADER = "", "HTTP_"
GRID = ((1, 14, OTHER), (10, 14, OTHER), (30, 14, OTHER), (100, 14, OTHER), (10, 5, OTHER))
GRID += ((10, 30, OTHER), (10, 100, OTHER), (100, 100, OTHER), (100, 100, HEADER))
QUICK_GRID = ((1, 14, OTHER), (100, 14, OTHER), (10, 100, OTHER), (100, 100, HEADER))


def run(setup, quick, running):
    """Everything. Returns the text to print; writes costs.md and costs.json."""
    sizes = {BODY_LENGTH, *(row.response for row in BODIES)}
    backends = {size: Sized(size, setup.folder, running) for size in sizes}
    small = backends[BODY_LENGTH].addresses
    counts = (50, 150) if quick else (50, 250)
    measured = {
        "bodies": _bodies(setup, backends, 3 if quick else 9, running),
        "grid": _grid(setup, QUICK_GRID if quick else GRID, small, counts, running),
        "subrequests": _subrequests(setup, small, counts, running),
        "static": _static(setup, small, counts, running),
        "tenants": tenants.measure(setup, quick, running),
        "memory": memory.measure(setup, 1000 if quick else 10000, running),
    }
    measured["date"] = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    measured["machine"], measured["nginx"] = machine(), nginx_version(setup.nginx)
    text = _report(measured)
    (setup.results / "costs.md").write_text(text, encoding="utf-8")
    encoded = json.dumps(measured, indent=2, ensure_ascii=False)
    (setup.results / "costs.json").write_text(encoded + "\n", encoding="utf-8")
    return f"\n{text}\nwritten to {setup.results}: costs.md, costs.json"


def _pass(method, addresses, kind="unix"):
    """The lines of a location that passes to the backend, and those of `http`."""
    address = addresses[PROTOCOL[method], kind]
    name = address.rpartition("/")[2].removesuffix(".sock").replace(":", "-")
    upstream = UPSTREAM.format(name=name, address=address, keepalive=KEEPALIVE)
    lines = PASS[method].format(address=address, upstream=name, scheme="http")
    return lines, upstream if method == PROXY else ""


def _bodies(setup, backends, rounds, running):
    """CPU seconds of the worker a request, by row and method, one for each round."""
    locations, upstreams = "", {}
    for row in BODIES:
        for method in METHODS:
            lines, upstream = _pass(method, backends[row.response].addresses, row.kind)
            upstreams[upstream] = None
            if row.directive:
                lines += f" {MODULE[method]}_{row.directive};"
            locations += location(row.uri(method), lines)
    http = "    client_max_body_size 0;\n" + "".join(upstreams)
    nginx = Nginx(setup, "bodies", Site(locations, http), running)
    nginx.wait()
    worker = nginx.worker()
    used = {row.name: {method: [] for method in METHODS} for row in BODIES}
    for number in range(rounds):
        print(f"large bodies, round {number + 1} of {rounds}", flush=True)
        # Nobody always comes first.
        first = number % len(METHODS)
        for row in BODIES:
            body = b"x" * row.upload if row.upload else None
            for method in METHODS[first:] + METHODS[:first]:
                url = f"http://{nginx.address}{row.uri(method)}"
                with one_cpu(worker, when=row.on_one_cpu):
                    cpu = cpu_seconds(worker)
                    request(url, row.requests, body=body, answer=row.response)
                    used[row.name][method].append((cpu_seconds(worker) - cpu) / row.requests)
    nginx.stop()
    return used


def _params(count, prefix):
    """So many parameters, for stock and ours: the first of the standard set, then others."""
    lines = [line.split() for line in PARAMS.read_text(encoding="utf-8").splitlines()]
    pairs = [" ".join(line[1:]) for line in lines if line[:1] == ["rs_uwsgi_param"]]
    others = range(len(pairs), count)
    pairs += [f"{prefix}X_HEADER_NUMBER_{number} $request_method;" for number in others]
    pairs = pairs[:count]
    return "\n".join(f"{name}_param {pair}" for name in ("uwsgi", "rs_uwsgi") for pair in pairs)


def _headers(count):
    """So many headers with Host: the first of a browser, then others."""
    pairs = [*HEADERS.items()]
    pairs += [(f"X-Header-Number-{number}", "some value") for number in range(len(pairs), count)]
    return dict(pairs[: count - 1])


def _grid(setup, grid, addresses, counts, running):
    """Instructions a request by number of headers and parameters."""
    counted = {}
    for headers, parameters, prefix in grid:
        title = f"{headers} header{'s' * (headers > 1)}, {parameters} params"
        title += f", most of them {prefix}…" if prefix else ""
        print(title, flush=True)
        row = counted[title] = {}
        all_params = _params(parameters, prefix)
        for method in (STOCK, OURS):
            site = Site(location("/page", _pass(method, addresses)[0]), params=all_params)
            name = f"grid-{headers}-{parameters}-{prefix}-{method}"
            row[method] = _count(setup, name, site, counts, _headers(headers), BODY_LENGTH, running)
    return counted


def _count(setup, name, site, counts, headers, answer, running):
    """Instructions a request for /page."""

    def ask(nginx, count):
        request(f"http://{nginx.address}/page", count, headers=headers, answer=answer)

    return instructions.profiles(setup, name, site, counts, ask, running)[0]


def _www(setup, text):
    """A folder with a file `page` of this text. Returns the lines of a location that serves it."""
    folder = setup.folder / "www"
    folder.mkdir(exist_ok=True)
    (folder / "page").write_text(text, encoding="ascii")
    return f"root {folder}; default_type text/html;"


def _subrequests(setup, addresses, counts, running):
    """Instructions for a page that includes INCLUDES others."""
    print("subrequests", flush=True)
    page = location("/page", _www(setup, '<!--#include virtual="/part" -->' * INCLUDES) + " ssi on;")
    counted = {}
    for method in METHODS:
        lines, upstream = _pass(method, addresses)
        site = Site(page + location("/part", lines), upstream)
        answer = INCLUDES * BODY_LENGTH
        counted[method] = _count(setup, f"ssi-{method}", site, counts, HEADERS, answer, running)
    return {f"a page with {INCLUDES} includes (SSI)": counted}


def _static(setup, addresses, counts, running):
    """Instructions for a file without the module, and with it loaded and in use elsewhere."""
    print("static files", flush=True)
    page = location("/page", _www(setup, "x" * BODY_LENGTH))
    ours, stock = (location("/part", _pass(method, addresses)[0]) for method in (OURS, STOCK))
    stock_params = "\n".join(
        line for line in params().splitlines() if line.startswith("uwsgi_param")
    )
    sites = {
        STOCK: Site(page + stock, params=stock_params, has_module=False),
        OURS: Site(page + ours),
    }
    counted = {
        method: _count(setup, f"static-{method}", site, counts, HEADERS, BODY_LENGTH, running)
        for method, site in sites.items()
    }
    return {"a file of 1 KiB; ours: the module is loaded": counted}


def _report(measured):
    bodies = []
    for name, used in measured["bodies"].items():
        line = [name, f"{median(used[STOCK]) * 1e3:.2f} ms"]
        for method in (OURS, PROXY):
            line.append(f"{median(a / b for a, b in zip(used[method], used[STOCK])):.2f}")
        bodies.append(line)
    counted = []
    for rows in (measured["grid"], measured["subrequests"], measured["static"]):
        for name, row in rows.items():
            line = [name, *(f"{row[method]:.0f}" for method in (STOCK, OURS))]
            line.append(f"{row[OURS] / row[STOCK]:.2f}")
            line.append(f"{row[PROXY] / row[STOCK]:.2f}" if PROXY in row else "")
            counted.append(line)
    shares = ["ours ÷ stock", "proxy ÷ stock"]
    return f"""\
{measured["date"]}. {measured["machine"]}.
{measured["nginx"]}, one worker, null backend, a unix socket where nothing else is said; ours and proxy use connections again.

CPU time of the worker a request, medians.
{note()}
The 100 MB response that is buffered has client and nginx on all CPUs: on one, none of it goes through a
file.

{table(["", "stock", *shares], bodies)}

Instructions a request (callgrind):

{table(["", "stock", "ours", *shares], counted)}

{tenants.report(measured["tenants"])}

{memory.report(measured["memory"])}
"""
