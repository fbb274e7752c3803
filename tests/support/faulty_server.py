"""A web server on loopback that gives files, and fails as it is told to."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FaultyServer:
    """Files by name, and for some names how many of the first requests fail, and how."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, tuple[int, str]] = {}
        self.requests: Counter[str] = Counter()
        self.sent = 0
        self.latency = 0.0
        self.at_once = self.most_at_once = 0
        self.address = ""
        self._lock = threading.Lock()

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name = handler.path.lstrip("/").partition("?")[0]
        with self._lock:
            self.requests[name] += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            n_faults, fault = self.faults.get(name, (0, ""))
            fails = self.requests[name] <= n_faults
        try:
            if self.latency:
                time.sleep(self.latency)
            if fails and fault.isdecimal():
                handler.send_error(int(fault))
            elif fails and fault == "endless":
                self._endless(handler)
            elif name not in self.files:
                handler.send_error(404)
            else:
                content = self.files[name]
                handler.send_response(200)
                handler.send_header("Content-Length", str(len(content)))
                handler.end_headers()
                # What is cut off: the connection closes before all that was promised has come.
                handler.wfile.write(content[: len(content) // 2] if fails and fault == "cut" else content)
        finally:
            with self._lock:
                self.at_once -= 1

    def _endless(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        part = b"\xff" * 65536
        try:
            while True:
                handler.wfile.write(part)
                self.sent += len(part)
        except OSError:
            pass  # the reader has gone


@contextmanager
def faulty_server() -> Iterator[FaultyServer]:
    """Run such a server for as long as the context lasts."""
    faulty = FaultyServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):
                faulty.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    faulty.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield faulty
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
