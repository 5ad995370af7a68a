"""Compares, in one nginx with one worker: stock's uwsgi_pass, ours, and proxy_pass with keepalive.

    make bench                 the comparison, about 4 minutes
    make bench BENCH=quick     unix sockets and one application, under a minute
    make bench BENCH=costs     large bodies, many headers and params, memory, subrequests, static files
    make bench BENCH=tenants   the part of these with many upstreams and servers
    make bench README=write    writes the main figures into the README besides
    make profile               where the instructions go, by function

The methods take turns, round after round, so that whatever else the machine does hits all alike;
what counts are ratios within a round. Before the null backend, all that takes part is on one CPU
(onecpu.py). Nothing here is a test: no figure is ever too bad.

For each: requests a second (wrk), CPU time of the nginx worker a request, connections opened to the
backend a request, instructions a request. The table is printed and written, with all rounds, to
target/bench: results.md, results.json, results.svg and callgrind's profiles.
"""

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path[1:1] = [str(REPOSITORY / "benches"), str(REPOSITORY / "examples")]

import costs  # noqa: E402
import instructions  # noqa: E402
import others  # noqa: E402
import profiling  # noqa: E402
import report  # noqa: E402
import tenants  # noqa: E402
from backends import CLASSES, Gunicorn, Null, new_addresses  # noqa: E402
from load import request, wrk  # noqa: E402
from nginx import Nginx, compared, endpoint  # noqa: E402
from onecpu import one_cpu  # noqa: E402
from plan import COUNTED, METHODS, PLANS  # noqa: E402
from relay import Relay  # noqa: E402
from shared import around_section, cpu_seconds, guarded, nginx_version, write_section  # noqa: E402


@dataclass
class Setup:
    """Paths: programs, a short folder for sockets and logs, and where the results go."""

    nginx: str
    module: Path
    folder: Path
    results: Path


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    plans = [*PLANS, "costs", "costs-quick", "tenants", "tenants-quick", "profile"]
    parser.add_argument("plan", nargs="?", choices=plans, default="full")
    parser.add_argument("--null-backend", type=Path, required=True, help="the program, built")
    parser.add_argument("--gunicorn", type=Path, required=True, help="the program")
    parser.add_argument("--lighttpd", type=Path, help="where its package is unpacked")
    parser.add_argument("--readme", type=Path, help="write the main figures into this file")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "target/bench")
    options = parser.parse_args()
    if options.readme and options.plan != "full":
        parser.error("the README gets the figures of the full comparison")
    return options


def start_backends(scenarios, folder, running):
    """Starts what the scenarios need. Returns the backends and their addresses by endpoint."""
    backends, addresses = [], {}
    for name in dict.fromkeys(scenario.backend for scenario in scenarios):
        backends.append(CLASSES[name](folder, running))
        for (protocol, kind), address in backends[-1].addresses.items():
            addresses[name, protocol, kind] = address
    return backends, addresses


def count_connections(setup, plan, addresses, running):
    """Connections opened a request, by scenario and method, through relays."""
    relays = {}
    for name in dict.fromkeys(key[0] for key in addresses):
        kinds = dict.fromkeys(key[2] for key in addresses if key[0] == name)
        for endpoint_of, address in new_addresses(setup.folder, f"relay-{name}", kinds).items():
            key = (name, *endpoint_of)
            relays[key] = Relay(address, addresses[key])
    listening = {key: relay.address for key, relay in relays.items()}
    nginx = Nginx(setup, "counting", compared(plan.scenarios, listening), running)
    nginx.wait()
    ratios = {}
    for scenario in plan.scenarios:
        for method in METHODS:
            relay = relays[endpoint(scenario, method)]
            opened, requests = relay.opened(), nginx.requests()
            wrk(nginx.url(scenario, method), plan.counting_seconds, setup.folder, running)
            opened, requests = relay.opened() - opened, nginx.requests() - requests
            ratios[scenario, method] = opened / max(1, requests)
    nginx.stop()
    for relay in relays.values():
        relay.close()
    return ratios


def measure(setup, plan, addresses, running):
    """All rounds. Returns for each scenario and method a list of outcomes, each with `cpu_us`,
    the worker's CPU time a request in microseconds."""
    nginx = Nginx(setup, "nginx", compared(plan.scenarios, addresses), running)
    nginx.wait()
    worker = nginx.worker()
    outcomes = {(scenario, method): [] for scenario in plan.scenarios for method in METHODS}
    for scenario, method in outcomes:
        request(nginx.url(scenario, method))
        wrk(nginx.url(scenario, method), plan.warm_up_seconds, setup.folder, running)
    for number in range(plan.rounds):
        print(f"round {number + 1} of {plan.rounds}", flush=True)
        # Nobody always comes first.
        first = number % len(METHODS)
        for scenario in plan.scenarios:
            for method in METHODS[first:] + METHODS[:first]:
                url = nginx.url(scenario, method)
                with one_cpu(worker, when=scenario.backend == Null.name):
                    cpu, requests = cpu_seconds(worker), nginx.requests()
                    outcome = wrk(url, plan.seconds, setup.folder, running)
                    cpu, requests = cpu_seconds(worker) - cpu, nginx.requests() - requests
                outcome["cpu_us"] = cpu * 1e6 / max(1, requests)
                outcomes[scenario, method].append(outcome)
    return outcomes


def count_instructions(setup, plan, addresses, running):
    """Instructions a request before the null backend, by kind of address and method."""
    counts = {}
    for scenario in plan.scenarios:
        if scenario.backend == Null.name and scenario.kind in plan.instruction_kinds:
            for method in COUNTED:
                counts[scenario, method], profiles = instructions.per_request(
                    setup, scenario, method, plan.instruction_requests, addresses, running
                )
                # For callgrind_annotate.
                name = f"callgrind.{scenario.kind}.{method}.out"
                shutil.copyfile(profiles[-1], setup.results / name)
    return counts


def compare(setup, options, running):
    """The comparison, in order. Returns the results for the report."""
    plan = PLANS[options.plan]
    backends, addresses = start_backends(plan.scenarios, setup.folder, running)
    print("counting instructions", flush=True)
    counted = count_instructions(setup, plan, addresses, running)
    print("counting connections", flush=True)
    connections = count_connections(setup, plan, addresses, running)
    outcomes = measure(setup, plan, addresses, running)
    beside = {}
    if plan.others:
        beside = others.measure(setup, plan.others, addresses, options.lighttpd, running)
    versions = [nginx_version(setup.nginx), *(each.version() for each in backends)]
    return report.results(options.plan, plan, versions, outcomes, connections, counted, beside)


def run(setup, options, running):
    """What was asked for. Returns the text to print and whether no request has failed."""
    if options.plan == "profile":
        _, addresses = start_backends([profiling.SCENARIO], setup.folder, running)
        return profiling.run(setup, addresses, running), True
    if options.plan.startswith("tenants"):
        measured = tenants.measure(setup, options.plan.endswith("-quick"), running)
        return f"\n{tenants.report(measured)}", True
    if options.plan.startswith("costs"):
        return costs.run(setup, options.plan.endswith("-quick"), running), True
    if options.readme:
        # Not to find out in the end.
        around_section(options.readme, "bench")
    results = compare(setup, options, running)
    text = report.write(results, setup.results)
    if options.readme and not report.failed(results):
        write_section(options.readme, "bench", report.short(results))
        text += f" and {options.readme}"
    return text, not report.failed(results)


def main():
    options = arguments()
    Null.program, Gunicorn.program = options.null_backend.resolve(), options.gunicorn.absolute()
    options.results.mkdir(parents=True, exist_ok=True)

    def bench(nginx, module, folder, running):
        return run(Setup(nginx, module, folder, options.results.resolve()), options, running)

    result, stopped = guarded(bench)
    if result is None:
        return 1
    text, good = result
    print(text)
    return 0 if stopped and good else 1


if __name__ == "__main__":
    sys.exit(main())
