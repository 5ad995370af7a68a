"""Instructions that nginx executes for a request, counted by callgrind.

Two runs that differ in the number of requests only: start and stop cancel out. Does not depend on
the machine's load, and hardly on the machine.
"""

import re

from demo_lib.processes import StartFailed
from load import request
from nginx import Nginx


def per_request(setup, scenario, method, counts, addresses, running):
    """Instructions a request. The larger run leaves its profile in `setup.results`, for
    callgrind_annotate."""
    runs = []
    # Both at once: what is counted does not change with the time it takes.
    for count in counts:
        name = f"callgrind-{scenario.kind}-{method}-{count}"
        profile = setup.folder / f"{name}.out"
        if count == max(counts):
            profile = setup.results / f"callgrind.{scenario.kind}.{method}.out"
        wrapper = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}"]
        runs.append(
            Nginx(setup, name, [scenario], addresses, running, wrapper=wrapper, master=False)
        )
    for nginx, count in zip(runs, counts):
        nginx.wait()
        request(nginx.url(scenario, method), count)
    for nginx in runs:
        nginx.stop()
    few, many = map(_collected, runs)
    return (many - few) / (counts[1] - counts[0])


def _collected(nginx):
    said = nginx.process.logs[0].read_text(encoding="utf-8", errors="replace")
    found = re.search(r"Collected : (\d+)", said)
    if not found:
        raise StartFailed(f"valgrind did not say what it counted:\n{said}")
    return int(found[1])
