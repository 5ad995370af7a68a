"""Instructions that nginx executes for a request, counted by callgrind.

Two runs that differ in the number of requests only: start and stop cancel out. Does not depend on
the machine's load, and hardly on the machine.
"""

import re
from concurrent.futures import ThreadPoolExecutor

from demo_lib.processes import StartFailed
from load import request
from nginx import Nginx, compared


def profiles(setup, name, site, counts, ask, running):
    """Two runs of an nginx below valgrind, in which `ask(nginx, count)` makes so many requests.
    Returns the instructions a request and the paths of the two profiles."""
    runs, paths = [], []
    # Both at once: what is counted does not change with the time it takes.
    for count in counts:
        paths.append(setup.folder / f"callgrind-{name}-{count}.out")
        wrapper = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={paths[-1]}"]
        own = f"callgrind-{name}-{count}"
        runs.append(Nginx(setup, own, site, running, wrapper=wrapper, master=False))
    for nginx, count in zip(runs, counts):
        nginx.wait()
        ask(nginx, count)
    for nginx in runs:
        nginx.stop()
    few, many = map(_collected, runs)
    return (many - few) / (counts[1] - counts[0]), paths


def per_request(setup, scenario, method, counts, addresses, running, clients=1):
    """Instructions for the reference request, made by so many clients at once, and the paths of the
    profiles."""
    site = compared([scenario], addresses, [method])
    name = f"{scenario.kind}-{method}-{clients}"

    def ask(nginx, count):
        url = nginx.url(scenario, method)
        with ThreadPoolExecutor(clients) as pool:
            for done in [pool.submit(request, url, count // clients) for _ in range(clients)]:
                done.result()

    return profiles(setup, name, site, counts, ask, running)


def _collected(nginx):
    said = nginx.process.logs[0].read_text(encoding="utf-8", errors="replace")
    found = re.search(r"Collected : (\d+)", said)
    if not found:
        raise StartFailed(f"valgrind did not say what it counted:\n{said}")
    return int(found[1])
