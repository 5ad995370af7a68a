"""What it costs to hand a place over from one worker to another: instructions of both.

One connection to the server (`rs_uwsgi_max_connections 1`), two workers, and a client of each, which ask without a
pause: each request waits until the other worker's is done. Whoever is done closes its connection and rings, the other
one wakes up and opens one. A relay counts the connections, which are as many as hand-overs.
"""

import http.client
import re
import threading

from demo_lib.processes import StartFailed
from load import HEADERS
from nginx import Nginx, compared, endpoint
from plan import QUEUED
from relay import Relay

COUNTS = (100, 600)
WHO = "        location = /who {\n            return 200 $pid;\n        }\n"


def measure(setup, scenario, addresses, running):
    """Instructions a request with a hand-over, of both workers, and hand-overs a request."""
    key = endpoint(scenario, QUEUED)
    relay = Relay(f"unix:{setup.folder / 'handover.sock'}", addresses[key])
    instructions, opened = [], []
    for count in COUNTS:
        site = compared([scenario], {key: relay.address}, [QUEUED])
        site = type(site)(site.locations + WHO, site.http, workers=2)
        wrapper = ["valgrind", "--tool=callgrind", "--trace-children=yes"]
        wrapper += [f"--callgrind-out-file={setup.folder / f'handover-{count}'}.%p"]
        nginx = Nginx(setup, f"handover-{count}", site, running, wrapper=wrapper)
        nginx.wait()
        before = relay.opened()
        _ask(nginx, scenario.uri(QUEUED), count)
        opened.append(relay.opened() - before)
        nginx.stop()
        instructions.append(_collected(nginx))
    relay.close()
    requests = COUNTS[1] - COUNTS[0]
    return (instructions[1] - instructions[0]) / requests, (opened[1] - opened[0]) / requests


def _ask(nginx, uri, count):
    """So many requests, by two clients, each at a worker of its own."""
    clients = {}
    for _ in range(200):
        client = http.client.HTTPConnection(nginx.address, timeout=60)
        clients.setdefault(_page(client, "/who"), client)
        if len(clients) == 2:
            break
    else:
        raise StartFailed("one worker accepts all connections")
    answers = []

    def ask(client):
        answers.extend(len(_page(client, uri)) for _ in range(count // 2))

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(answers) != count or len(set(answers)) != 1:
        raise StartFailed(f"{len(answers)} of {count} requests were answered, lengths {set(answers)}")


def _page(client, uri):
    client.request("GET", uri, headers=HEADERS)
    response = client.getresponse()
    body = response.read()
    if response.status != 200:
        raise StartFailed(f"{uri} answered {response.status}")
    return body


def _collected(nginx):
    """Of the master and both workers."""
    said = nginx.process.logs[0].read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"Collected : (\d+)", said)
    if len(found) != 3:
        raise StartFailed(f"valgrind did not say what it counted:\n{said}")
    return sum(map(int, found))
