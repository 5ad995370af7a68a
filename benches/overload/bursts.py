"""What becomes of a burst: clients that connect and ask once each, all at the same time, through stock's
uwsgi_pass, through ours, and through ours with as many connections as uWSGI has processes, before one
uWSGI with its default listen queue. The methods take turns, round after round.
"""

import datetime
import time
from collections import Counter
from statistics import median

from crowd import NONE, Crowd
from demo_lib.processes import pause
from servers import PROCESSES, Nginx, Uwsgi, raise_descriptor_limit, somaxconn
from shared import machine, nginx_version, table

STOCK, OURS, LIMITED = "uwsgi_pass", "rs_uwsgi_pass", "rs_uwsgi_max_connections"
METHODS = (STOCK, OURS, LIMITED)
WORKERS = (1, 4, 8)
CLIENTS = (200, 1000, 4000)
SHORT = {STOCK: "stock", OURS: "ours", LIMITED: "ours, limited"}
# A client gives up after so many seconds.
LIMIT = 30
# What is measured while uWSGI stands still: so many clients for so many seconds, once they wait.
STILL_CLIENTS, STILL_SECONDS, SETTLE_SECONDS = 1000, 3, 0.5
# For uWSGI's full rate: so many clients, so many of them at a time, which fit into its listen queue.
STEADY_CLIENTS, STEADY_IN_FLIGHT = 2000, 32
# What a worker and the clients take: two for each client of the largest burst, and some.
DESCRIPTORS = 2 * max(CLIENTS) + 500


def locations(uwsgi):
    """A path for each method, and what stands in its location."""
    ours = "rs_uwsgi_queue 5000;"
    return {
        f"/{STOCK}": f"uwsgi_pass unix:{uwsgi.socket};",
        f"/{OURS}": f"{ours} rs_uwsgi_pass unix:{uwsgi.socket};",
        f"/{LIMITED}": f"{ours} rs_uwsgi_max_connections {PROCESSES};"
        f" rs_uwsgi_pass unix:{uwsgi.limited};",
    }


def full_rate(nginx):
    """Answers a second when clients come so that none has to fail."""
    answers = Crowd(nginx.address, f"/{STOCK}", STEADY_CLIENTS, STEADY_IN_FLIGHT).run(LIMIT)
    good = [answer.at for answer in answers if answer.status == 200]
    return len(good) / max(good, default=LIMIT)


def burst(nginx, method, clients):
    """One burst: statuses, good answers a second, latencies in order, CPU seconds of nginx's workers
    and of the clients."""
    own, cpu = time.process_time(), nginx.cpu()
    crowd = Crowd(nginx.address, f"/{method}", clients)
    crowd.run(LIMIT)
    answers = crowd.give_up()
    own, cpu = time.process_time() - own, nginx.cpu() - cpu
    good = [answer.at for answer in answers if answer.status == 200]
    seconds = max(answer.at for answer in answers)
    # Nobody comes too early: nginx has still to close what was given up.
    pause(0.3)
    return {
        "statuses": Counter(answer.status for answer in answers),
        "rate": len(good) / max(good, default=LIMIT),
        "latencies": sorted(answer.latency for answer in answers),
        "cpu": cpu,
        "client_load": own / seconds,
    }


def stand_still(nginx, uwsgi, method):
    """CPU seconds of nginx's workers while uWSGI stands still for STILL_SECONDS, the number of
    clients that wait meanwhile, and the statuses of all in the end."""
    crowd = Crowd(nginx.address, f"/{method}", STILL_CLIENTS)
    uwsgi.pause()
    try:
        crowd.run(SETTLE_SECONDS)
        cpu, waiting = nginx.cpu(), crowd.waiting()
        crowd.run(STILL_SECONDS)
        cpu = nginx.cpu() - cpu
    finally:
        uwsgi.resume()
    crowd.run(LIMIT)
    statuses = Counter(answer.status for answer in crowd.give_up())
    pause(0.3)
    return cpu, waiting, statuses


def percentile(ordered, share):
    """The value that so large a share of the ordered ones does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def failures(statuses):
    """Such as `502: 2913 of 3000`."""
    failed = [(status, count) for status, count in sorted(statuses.items()) if status != 200]
    names = {NONE: "none"}
    text = ", ".join(f"{names.get(status, status)}: {count}" for status, count in failed)
    return f"{text} of {statuses.total()}" if failed else "0"


def row(workers, clients, method, rounds, rate, still):
    """A line of the table: medians of the rounds, and the failures of all together."""
    p50, p99 = (
        median(percentile(each["latencies"], share) for each in rounds) for share in (0.5, 0.99)
    )
    statuses = sum((each["statuses"] for each in rounds), Counter())
    line = [f"{workers}, {clients}, {SHORT[method]}", failures(statuses)]
    line += [f"{median(each['rate'] for each in rounds):.0f}/s", f"{p50:.3f} s", f"{p99:.3f} s"]
    line += [f"{p99 / (clients / rate):.2f}", f"{median(each['cpu'] for each in rounds):.3f} s"]
    if still is None:
        return [*line, ""]
    cpu, waiting, ended = still
    return [*line, f"{cpu * 1e3:.1f} ms, {waiting} waiting, failed {failures(ended)}"]


HEAD = ["workers, clients, by", "failed", "good answers", "p50", "p99"]
HEAD += ["p99 ÷ (clients ÷ full rate)", "CPU", f"CPU while uWSGI stands still for {STILL_SECONDS} s"]


def measure(nginx, uwsgi, workers, rounds):
    """All bursts before one nginx. Returns the lines of the table, uWSGI's full rate, and the highest
    load of a processor that the clients made."""
    rate, lines, load = full_rate(nginx), [], 0.0
    still = {method: stand_still(nginx, uwsgi, method) for method in METHODS}
    for clients in CLIENTS:
        print(f"{workers} workers, {clients} clients", flush=True)
        outcomes = {method: [] for method in METHODS}
        for number in range(rounds):
            # Nobody always comes first.
            for method in METHODS if number % 2 == 0 else reversed(METHODS):
                outcomes[method].append(burst(nginx, method, clients))
        for method in METHODS:
            waiting = still[method] if clients == STILL_CLIENTS else None
            lines.append(row(workers, clients, method, outcomes[method], rate, waiting))
            load = max(load, *(each["client_load"] for each in outcomes[method]))
    return lines, rate, load


def short(date, nginx, lines):
    """The figures for the README: one worker, the larger bursts, no more than what its clients notice."""
    head = ["clients, by", *HEAD[1:5]]
    one = [line[:5] for line in lines if line[0].startswith("1, ") and not line[0].startswith(f"1, {CLIENTS[0]}, ")]
    rows = [[first.removeprefix("1, "), *others] for first, *others in one]
    return f"""\
{date.partition(" ")[0]}, {machine()}, {nginx}, one worker.
Failures are those of all rounds, the other figures medians.

{table(head, rows)}
"""


def run(options, program, module, folder, running):
    """All bursts of `options.rounds`. Returns the report, and the section for the README."""
    descriptors = raise_descriptor_limit(DESCRIPTORS)
    uwsgi = Uwsgi(folder, running)
    lines, rates, load = [], {}, 0.0
    for workers in WORKERS:
        nginx = Nginx(program, module, workers, locations(uwsgi), descriptors, folder, running)
        more, rates[workers], its_load = measure(nginx, uwsgi, workers, options.rounds)
        lines += more
        load = max(load, its_load)
        nginx.process.terminate()
        nginx.process.wait_for_success()
        running.remove(nginx.process)
    longest = somaxconn()
    notes = [f"net.core.somaxconn is {longest}, uWSGI's `listen` {uwsgi.listen}."]
    if longest < max(CLIENTS):
        notes.append("That is less than there are clients: some must connect again, after a second.")
    if descriptors < DESCRIPTORS:
        notes.append(f"A process may have only {descriptors} descriptors: the largest bursts suffer.")
    full = ", ".join(f"{rate:.0f}/s with workers: {workers}" for workers, rate in rates.items())
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    report = f"""\
{date}. {machine()}.
{nginx_version(program)}; uWSGI {uwsgi.version()}, {PROCESSES} processes, unix socket.
An application that sleeps 2 ms. {" ".join(notes)}

Clients connect and ask once each, all at the same time. uWSGI's full rate, what `{STOCK}` answers
when {STEADY_IN_FLIGHT} clients ask at a time, is {full}.
Failures are those of all {options.rounds} rounds, the other figures medians. Latencies are those of all
answers, failures included. CPU is that of nginx's workers in a burst. The clients, a process of their own,
took up to {load:.0%} of a processor, most of it for connecting.

{table(HEAD, lines)}
"""
    return report, short(date, nginx_version(program), lines)
