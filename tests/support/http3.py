"""The tests' HTTP/3 client (RFC 9114), on aioquic: each request on a QUIC connection of its own.

    http3.py SOCKET     connects to that unix socket, reads orders and answers each with a line

An order is a line: host, port, local port, the body ("=" and hex, or "-" for none), whether the body ends
("whole" or "part"), and the fields, NAME:VALUE in hex, as they are to be sent. The client then waits for the
response, or for one of these lines:

    head        goes on, until the head of the response is there
    reset       gives the request up (RESET_STREAM, STOP_SENDING)
    close       ends the connection

An answer: why the exchange did not end as it should, in hex ("-" where it did), "=" and the body in hex, and
the fields of head and trailers.
"""

import select
import socket
import ssl
import sys
import time

from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, ProtocolNegotiated, StreamReset

# As the tests' own deadline for a single event.
DEADLINE = 20.0


class Exchange:
    def __init__(self, orders, host, port, local, body, end, *fields):
        self.orders, self.to, self.is_whole = orders, (host, int(port)), end == "whole"
        self.body = None if body == "-" else bytes.fromhex(body[1:])
        self.fields = [tuple(bytes.fromhex(part) for part in field.split(":")) for field in fields]
        self.answer, self.received, self.error, self.ended = [], b"", None, False
        self.http, self.stream, self.wants_head = None, None, False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", int(local)))
        self.socket.setblocking(False)
        configuration = QuicConfiguration(
            is_client=True, alpn_protocols=H3_ALPN, server_name="localhost", verify_mode=ssl.CERT_NONE
        )
        self.quic = QuicConnection(configuration=configuration)

    def run(self):
        until = time.monotonic() + DEADLINE
        self.quic.connect(self.to, now=time.monotonic())
        while not self.ended:
            self.send()
            timer = self.quic.get_timer()
            wait = min(until, timer if timer is not None else until) - time.monotonic()
            orders = [] if self.wants_head else [self.orders]
            # select() knows nothing of a line that came together with the one before
            there = bool(orders) and self.orders.has_line()
            ready, _, _ = select.select([self.socket, *orders], [], [], 0 if there else max(wait, 0))
            now = time.monotonic()
            if there or self.orders in ready:
                self.told(self.orders.line())
            if self.socket in ready:
                self.receive(now)
            elif now >= until:
                self.end("timed out")
            elif timer is not None and now >= timer:
                self.quic.handle_timer(now)
            self.look()
        self.quic.close(error_code=ErrorCode.H3_NO_ERROR)
        self.send()
        self.socket.close()
        words = ["-" if self.error is None else self.error.encode().hex(), "=" + self.received.hex()]
        return " ".join(words + [f"{name.hex()}:{value.hex()}" for name, value in self.answer])

    def send(self):
        for data, to in self.quic.datagrams_to_send(now=time.monotonic()):
            try:
                self.socket.sendto(data, to)
            except BlockingIOError:
                pass  # lost, as datagrams may be

    def receive(self, now):
        while True:
            try:
                data, source = self.socket.recvfrom(65536)
            except BlockingIOError:
                return
            self.quic.receive_datagram(data, source, now=now)

    def look(self):
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, ProtocolNegotiated):
                self.http = H3Connection(self.quic)
            elif isinstance(event, HandshakeCompleted):
                self.request()
            elif isinstance(event, StreamReset) and event.stream_id == self.stream:
                self.end(f"reset {event.error_code}")
            elif isinstance(event, ConnectionTerminated):
                self.end(f"closed {event.error_code} {event.reason_phrase}")
            if self.http is not None:
                for of_http in self.http.handle_event(event):
                    self.take(of_http)

    def request(self):
        self.stream = self.quic.get_next_available_stream_id()
        self.http.send_headers(self.stream, self.fields, end_stream=self.body is None)
        if self.body is not None:
            self.http.send_data(self.stream, self.body, end_stream=self.is_whole)

    def take(self, event):
        if isinstance(event, HeadersReceived):
            self.answer += event.headers
            self.wants_head = False
        elif isinstance(event, DataReceived):
            self.received += event.data
        if event.stream_ended:
            self.end(None)

    def told(self, what):
        if what == "head":
            self.wants_head = not self.answer
        elif what == "reset":
            self.quic.reset_stream(self.stream, ErrorCode.H3_REQUEST_CANCELLED)
            self.quic.stop_stream(self.stream, ErrorCode.H3_REQUEST_CANCELLED)
        else:
            self.end("left")

    def end(self, error):
        if not self.ended:
            self.ended, self.error = True, error


class Orders:
    def __init__(self, path):
        self.socket, self.rest = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), b""
        self.socket.connect(path)

    def fileno(self):
        return self.socket.fileno()

    def has_line(self):
        return b"\n" in self.rest

    def line(self):
        """The next line; the tests have ended where there is none."""
        while not self.has_line():
            more = self.socket.recv(1 << 20)
            if not more:
                sys.exit()
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode()

    def answer(self, line):
        self.socket.sendall(line.encode() + b"\n")


orders = Orders(sys.argv[1])
while True:
    order = orders.line()
    # The exchange that these were for has ended by itself.
    if order not in ("head", "reset", "close"):
        orders.answer(Exchange(orders, *order.split()).run())
