"""From outcomes to results: what results.json holds, and the tables of results.md."""

import datetime
import json
from statistics import median

import chart
from onecpu import note
from plan import CONNECTIONS, COUNTED, KEEPALIVE, METHODS, NEW, OURS, PROXY, STOCK
from shared import machine, table

COMPARED = (OURS, PROXY)
SHORT = {STOCK: "stock", OURS: "ours", PROXY: "proxy"}
# Where it matters that stock never uses a connection again.
SHORT_COUNTED = {STOCK: "stock", NEW: "ours, new conn.", OURS: "ours", PROXY: "proxy"}
# What the README shows, in this order: what users have first.
MAIN_ROWS = ("gunicorn, django, unix", "gunicorn, django, tcp", "gunicorn-tls, django, tls")
MAIN_ROWS += ("uwsgi, django, unix", "uwsgi, wsgi, unix", "null, unix", "null, tcp")


def results(name, plan, versions, outcomes, connections, instructions, others):
    """Everything that was measured, as results.json has it.

    In each row's `methods`, lists have one number a round; `cpu_us` is microseconds a request,
    A row has `instructions` only where they were counted, also of ours with new connections.
    `null_rows` says how the rows of the null backend were run. `others` is what others.py has measured,
    or empty.
    """
    rows = []
    for scenario in plan.scenarios:
        methods = {}
        for method in METHODS:
            turns = outcomes[scenario, method]
            methods[method] = {
                "requests_per_second": [turn["requests"] / turn["seconds"] for turn in turns],
                "cpu_us": [turn["cpu_us"] for turn in turns],
                "p99_ms": [turn["p99_ms"] for turn in turns],
                "failed": sum(turn["failed"] for turn in turns),
                "connections_per_request": connections[scenario, method],
            }
        row = {"name": str(scenario), "methods": methods}
        if (scenario, STOCK) in instructions:
            row["instructions"] = {method: instructions[scenario, method] for method in COUNTED}
        rows.append(row)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(),
        "versions": versions,
        "plan": name,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "null_rows": note(),
        "rows": rows,
        "others": others,
    }


def failed(all_results):
    """Requests that failed, in total."""
    return sum(each["failed"] for row in all_results["rows"] for each in row["methods"].values())


def ratios(row, method, figure):
    """Of each round, the figure of `method` divided by stock's."""
    methods = row["methods"]
    return [ours / stock for ours, stock in zip(methods[method][figure], methods[STOCK][figure])]


def _ratio(row, method, figure):
    all_rounds = ratios(row, method, figure)
    return f"{median(all_rounds):.2f} ({min(all_rounds):.2f}–{max(all_rounds):.2f})"


def _measured(all_results):
    head = ["before", "CPU: stock", *(f"CPU: {SHORT[method]}" for method in COMPARED)]
    head += ["req/s: stock", *(f"req/s: {SHORT[method]}" for method in COMPARED)]
    head += [f"conn.: {SHORT[method]}" for method in METHODS]
    lines = []
    for row in all_results["rows"]:
        methods = row["methods"]
        line = [row["name"], f"{median(methods[STOCK]['cpu_us']):.1f} µs"]
        line += [_ratio(row, method, "cpu_us") for method in COMPARED]
        line += [f"{median(methods[STOCK]['requests_per_second']):.0f}"]
        line += [_ratio(row, method, "requests_per_second") for method in COMPARED]
        line += [f"{methods[method]['connections_per_request']:.2f}" for method in METHODS]
        lines.append(line)
    return table(head, lines)


def _instructions(all_results):
    lines = []
    for row in all_results["rows"]:
        if counts := row.get("instructions"):
            line = [row["name"], *(f"{count:.0f}" for count in counts.values())]
            line += [f"{counts[method] / counts[STOCK]:.2f}" for method in COUNTED[1:]]
            lines.append(line)
    head = ["before", *SHORT_COUNTED.values()]
    return table(head + [f"{SHORT_COUNTED[method]} ÷ stock" for method in COUNTED[1:]], lines)


def _others(all_results):
    """The table of other web servers, with what stands over it; empty where there were none."""
    if not all_results["others"]:
        return ""
    lines = []
    for backend, servers in all_results["others"]["rows"].items():
        for name, found in servers.items():
            cpu, rate = median(found["cpu_us"]), median(found["requests_per_second"])
            line = [f"{backend}: {name}", f"{cpu:.1f} µs", f"{rate:.0f}", str(found["failed"])]
            lines.append(line)
    versions = ", ".join(all_results["others"]["versions"])
    head = ["before: server", "CPU of all its processes a request", "req/s", "failed"]
    return f"""
Other web servers ({versions}), in turns with nginx. Apache reads until the server closes the connection:
its null backend does so.

{table(head, lines)}
"""


def _measured_short(rows):
    lines = []
    for row in rows:
        line = [row["name"]]
        for figure in ("cpu_us", "requests_per_second"):
            line += [f"{median(ratios(row, method, figure)):.2f}" for method in COMPARED]
        of = row["methods"]
        line += [f"{of[method]['connections_per_request']:.2f}" for method in METHODS]
        lines.append(line)
    head = ["before", *(f"CPU: {SHORT[method]}" for method in COMPARED)]
    head += [f"req/s: {SHORT[method]}" for method in COMPARED]
    return table(head + [f"conn.: {SHORT[method]}" for method in METHODS], lines)


def _instructions_short(rows):
    lines = []
    for row in rows:
        if counts := row.get("instructions"):
            others = [f"{counts[method] / counts[STOCK]:.2f}" for method in COUNTED[1:]]
            lines.append([row["name"], f"{counts[STOCK]:.0f}", *others])
    return table(["before", *SHORT_COUNTED.values()], lines)


def short(all_results):
    """The figures for the README, without their spread."""
    rows = [row for name in MAIN_ROWS for row in all_results["rows"] if row["name"] == name]
    date = all_results["date"].partition(" ")[0]
    return f"""\
{date}, {all_results["machine"]}, {all_results["versions"][0]}.
CPU is the worker's time a request, conn. is connections opened to the server a request; null is a server
that answers at once.
{all_results["null_rows"]}

{_measured_short(rows)}

Instructions that nginx executes a request, of stock, and the others' ratios to it; new conn. is with
`rs_uwsgi_reuse off`:

{_instructions_short(rows)}
"""


def markdown(all_results):
    """The report."""
    versions = "; ".join(all_results["versions"])
    text = f"""\
{all_results["date"]}. {all_results["machine"]}.
{versions}. One nginx worker, {CONNECTIONS} clients that keep their connections.

stock is `{STOCK}`, ours `{OURS}` with the same parameters, proxy `{PROXY}` over HTTP with
`keepalive {KEEPALIVE}` to the same application. A request has 14 parameters and 10 headers, a response 1 KiB.
ours and proxy are given as ratios to stock: the median of {all_results["rounds"]} rounds (least–most).
CPU is the worker's time a request: less is better. req/s depends on everything that runs on this
machine, the client too: more is better. conn. is connections opened to the backend a request.
{all_results["null_rows"]}

{_measured(all_results)}

Instructions that nginx executes a request (callgrind, one client). new conn.: `rs_uwsgi_reuse off`, a
connection for each request, as stock has it.

{_instructions(all_results)}
{_others(all_results)}"""
    if count := failed(all_results):
        text += f"\n**{count} requests failed: the figures mean little.**\n"
    return text


def write(all_results, folder):
    """Writes results.json, results.md and results.svg. Returns the text to print."""
    text = markdown(all_results)
    (folder / "results.md").write_text(text, encoding="utf-8")
    encoded = json.dumps(all_results, indent=2, ensure_ascii=False)
    (folder / "results.json").write_text(encoded + "\n", encoding="utf-8")
    (folder / "results.svg").write_text(_chart(all_results), encoding="utf-8")
    return f"\n{text}\nwritten to {folder}: results.md, results.json, results.svg"


def _chart(all_results):
    groups = [
        (row["name"], [median(ratios(row, method, "cpu_us")) for method in COMPARED])
        for row in all_results["rows"]
    ]
    title = f"CPU time of the nginx worker a request, {STOCK} = 1 (less is better)"
    note = f"{all_results['date']}, {all_results['machine']}"
    return chart.bars(title, note, COMPARED, groups)
