"""Counts the connections that nginx opens: a listener in front of a backend that passes all on.

Counting at the socket is the same for every method and every backend, and needs the word of none.
Slow, so it has a run of its own apart from those that are timed.
"""

import contextlib
import select
import socket
import threading

from backends import connect


class Relay:
    """Listens on `address` and passes each connection on to `target`, until `close`."""

    def __init__(self, address, target):
        self.address, self._target = address, target
        if address.startswith("unix:"):
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(address.removeprefix("unix:"))
        else:
            host, port = address.rsplit(":", 1)
            self._listener = socket.create_server((host, int(port)))
        self._listener.listen(128)
        self._opened = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def opened(self):
        """Connections so far."""
        return self._opened

    def close(self):
        """Stops listening. Connections end with their two sides."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._opened += 1
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client):
        with client, contextlib.suppress(OSError), connect(self._target) as server:
            other = {client: server, server: client}
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        # Both protocols are done with a connection when one side is.
                        return
                    other[source].sendall(data)
