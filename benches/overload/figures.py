"""What is made of the measurements of open_loop.py: medians, tables and the plot."""

from dataclasses import dataclass
from statistics import median

import plot as drawing
from shared import table

# The clients' program may be late by so many seconds in 1 % of cases, or its measurement says little.
LATE = 0.1


@dataclass
class About:
    """What was measured on, and with what. `missing` are front ends that could not be measured, with the
    reasons."""

    machine: str
    nginx: str
    uwsgi: str
    processes: int
    service: float
    capacity: float
    missing: dict[str, str]


@dataclass
class Row:
    """The rounds of one measurement, as medians. Shares are those of the clients, but for `vain`, which is
    that of what the application has finished, and `served` and `finished`, which are times the capacity."""

    front: str
    workers: int
    load: float
    patience: tuple[float, float]
    rounds: int
    served: float
    p50: float | None
    p99: float | None
    vain: float
    left: float
    refused: dict[str, float]
    broken: float
    finished: float
    late: float

    def mark(self, text):
        """The text, with a star where the clients' program was late."""
        return f"{text}*" if self.late > LATE else text

    @property
    def name(self):
        """With the number of nginx's workers, which HAProxy does not have."""
        return self.front if self.front.startswith("HAProxy") else f"{self.front}, {workers(self.workers)}"


def workers(count):
    """In words."""
    return "1 worker" if count == 1 else f"{count} workers"


def rows(kept, capacity):
    """One Row for each key. Rounds in which the clients' program was late count where there are no others."""
    by_key = {}
    for each in kept:
        by_key.setdefault(tuple(each["key"]), []).append(each)
    found = []
    for key, each in by_key.items():
        punctual = [one for one in each if one["late_p99"] <= LATE]
        found.append(_row(key, punctual or each, capacity))
    order = list(dict.fromkeys((row.front, row.workers) for row in found))
    found.sort(key=lambda row: (row.patience[::-1], row.load, order.index((row.front, row.workers))))
    return found


def _row(key, rounds, capacity):
    front, count, load, *patience = key
    clients = sum(each["clients"] for each in rounds)
    refused = {}
    for each in rounds:
        for status, number in each["refused"].items():
            refused[status] = refused.get(status, 0) + number / clients
    times = {
        name: [each[name] for each in rounds if each[name] is not None] for name in ("p50", "p99")
    }
    return Row(
        front,
        count,
        load,
        tuple(patience),
        len(rounds),
        served=median(each["in_time"] / each["window"] / capacity for each in rounds),
        p50=median(times["p50"]) if times["p50"] else None,
        p99=median(times["p99"]) if times["p99"] else None,
        vain=median(vain(each) for each in rounds),
        left=sum(each["left"] for each in rounds) / clients,
        refused=refused,
        broken=sum(each["cut"] + each["wrong"] for each in rounds) / clients,
        finished=median(each["finished"] / each["window"] / capacity for each in rounds),
        late=max(each["late_p99"] for each in rounds),
    )


def vain(each):
    """Of what the application has finished, the share of which no client has got an answer in time. Those that
    it finishes at the window's very ends may be counted at one of them only."""
    finished = each["finished"]
    return max(0.0, 1 - each["answered"] / finished) if finished else 0.0


def line(each, capacity):
    """One measurement, for whoever watches."""
    row = _row(tuple(each["key"]), [each], capacity)
    return (
        f"{row.load:g} ×, patience {patience(row.patience)}, {row.name}: in time {row.served:.2f} of the"
        f" capacity, p50 {seconds(row.p50)}, p99 {seconds(row.p99)}, in vain {row.vain:.0%}"
    )


def patience(bounds):
    """Such as "1 s" and "1 to 3 s"."""
    low, high = bounds
    return f"{low:g} s" if low == high else f"{low:g} to {high:g} s"


def seconds(value):
    """With milliseconds."""
    return "none" if value is None else f"{value:.3f} s"


HEAD = ["load, patience, front end", "in time ÷ capacity", "p50", "p99", "in vain", "left", "refused"]
HEAD += ["finished ÷ capacity"]


def report(about, kept):
    """Everything."""
    lines = []
    for row in rows(kept, about.capacity):
        refused = [f"{status}: {share:.0%}" for status, share in sorted(row.refused.items())]
        if row.broken:
            refused.append(f"no whole or right answer: {row.broken:.1%}")
        lines.append(
            [
                f"{row.load:g}, {patience(row.patience)}, {row.name}",
                row.mark(f"{row.served:.3f}"),
                seconds(row.p50),
                seconds(row.p99),
                f"{row.vain:.1%}",
                f"{row.left:.1%}",
                ", ".join(refused) or "0",
                f"{row.finished:.3f}",
            ]
        )
    window = max(each["window"] for each in kept)
    rounds = max(row.rounds for row in rows(kept, about.capacity))
    late, latest = max(each["late_p99"] for each in kept), max(each["late_max"] for each in kept)
    missing = "".join(f"{name}: {why}.\n" for name, why in about.missing.items())
    return f"""\
{_about(about, kept)}

Clients arrive as in a Poisson process, at {about.capacity:g}/s times the load, whatever became of those before
them; each asks once, and leaves when its patience is over. In time: the whole right body came before
that. p50 and p99 are of those, from when the client was due. In vain: what the application has finished
and no client has got in time, of all that it has finished. Left and refused: of all clients. Counted for
{window:g} s, once the queues are as long as they get; up to {rounds} rounds, medians; refused, left: all rounds.
The clients' program was late by {late * 1e3:.0f} ms in 1 % of cases in the worst measurement, {latest * 1e3:.0f} ms at worst.
{_late()}

{table(HEAD, lines)}
{missing}"""


def _about(about, kept):
    first, last = min(each["at"] for each in kept), max(each["at"] for each in kept)
    busy = [each["busy"] for each in kept]
    return f"""\
{first} to {last.partition(" ")[2]} UTC, {about.machine};
the machine was shared, its load average {min(busy):.1f} to {max(busy):.1f}. {about.nginx}; uWSGI {about.uwsgi}, {about.processes} processes,
`listen` 100, unix socket; an application that sleeps {about.service * 1e3:g} ms: {about.capacity:g} answers a second at best."""


def _late():
    return (
        f"\\* The clients' program was itself late, by more than {LATE * 1e3:.0f} ms in 1 % of cases: the machine was"
        " busy with\nother work, or had no ports left. Rounds without that count alone, where there are any."
    )


def section(about, kept):
    """The tables for the documentation."""
    found = rows(kept, about.capacity)
    loads = sorted({row.load for row in found})
    names = list(dict.fromkeys(row.name for row in found))
    parts = [_about(about, kept)]
    for bounds in dict.fromkeys(row.patience for row in found):
        by = {(row.name, row.load): row for row in found if row.patience == bounds}
        lines = [
            [name, *(_served(by.get((name, load))) for load in loads)]
            for name in names
        ]
        head = [f"patience {patience(bounds)}", *(f"{load:g} ×" for load in loads)]
        parts += [table(head, lines)]
    parts += [_times(found, names)]
    if any(row.late > LATE for row in found):
        parts.append(_late())
    parts += [f"{name}: {why}." for name, why in about.missing.items()]
    return "\n\n".join(parts)


def _served(row):
    return row.mark(f"{row.served:.2f}") if row else ""


def _times(found, names):
    """Latencies and work in vain, for the first patience."""
    bounds = found[0].patience
    by = {(row.name, row.load): row for row in found if row.patience == bounds}
    loads = sorted({load for _, load in by})
    calm = [load for load in loads if load < 1]
    head = [f"patience {patience(bounds)}"]
    head += [f"p50, p99 at {load:g} ×" for load in calm]
    head += [f"in vain at {load:g} ×" for load in loads if load > 1]

    def cells(name):
        for load in calm:
            row = by.get((name, load))
            yield row.mark(f"{row.p50 * 1e3:.0f}, {row.p99 * 1e3:.0f} ms") if row and row.p99 else ""
        for load in loads:
            if load > 1:
                yield f"{by[name, load].vain:.0%}" if (name, load) in by else ""

    return table(head, [[name, *cells(name)] for name in names])


def plot(about, kept):
    """The plot: a panel for each patience, a line for each front end."""
    found = rows(kept, about.capacity)
    panels = []
    for bounds in dict.fromkeys(row.patience for row in found):
        lines = {}
        for row in found:
            if row.patience == bounds:
                lines.setdefault((row.front, row.workers), []).append((row.load, row.served))
        panels.append((f"patience {patience(bounds)}", lines))
    names = {(row.front, row.workers): row.name for row in found}
    date = max(each["at"] for each in kept).partition(" ")[0]
    note = f"{date}, {about.nginx}, uWSGI with {about.processes} processes, a {about.service * 1e3:g} ms application"
    return drawing.lines("Answers that reach their client in time ÷ capacity", note, names, panels)
