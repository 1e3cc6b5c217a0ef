"""A server on loopback that answers range queries as Prometheus does, with the values that a test gives."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Values = Callable[[str, int], Sequence[float | None]]
"""What a query gives at a time (seconds): a value for each of its series, None where that one has none."""


@dataclass(slots=True)
class Prometheus:
    """Answers by `values`, those who show `token`; `answer` is a status and a body that everybody gets instead.

    `asked` are the queries with their first and last time. Nobody is answered before `held` is set; `meanwhile` is
    called when a request comes.
    """

    address: str = ""
    values: Values = lambda _query, _at: [0.0]
    token: str = ""
    answer: tuple[int, str] | None = None
    warnings: Sequence[str] = ()
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    meanwhile: Callable[[], None] = lambda: None

    def answered(self, path: str, shown: str | None) -> tuple[int, str]:
        """Return the status and the body for a request."""
        parts = urlsplit(path)
        asked = {key: value for key, [value] in parse_qs(parts.query, strict_parsing=True).items()}
        start, end, step = (int(asked[key]) for key in ("start", "end", "step"))
        self.asked.append((asked["query"], start, end))
        self.meanwhile()
        self.held.wait(10)
        if self.answer is not None:
            return self.answer
        if parts.path != "/prom/api/v1/query_range":
            return 404, "404 page not found"
        if self.token and shown != f"Bearer {self.token}":
            return 401, "Unauthorized"
        return 200, json.dumps(self._document(asked["query"], range(start, end + 1, step)))

    def _document(self, query: str, times: Sequence[int]) -> dict[str, Any]:
        rows = {at: self.values(query, at) for at in times}
        found = [
            {
                "metric": {"series": str(number)},
                "values": [
                    [at, f"{row[number]}"] for at, row in rows.items() if number < len(row) and row[number] is not None
                ],
            }
            for number in range(max(len(row) for row in rows.values()))
        ]
        data = {"resultType": "matrix", "result": [each for each in found if each["values"]]}
        return {"status": "success", "data": data, **({"warnings": self.warnings} if self.warnings else {})}


@contextmanager
def serving() -> Iterator[Prometheus]:
    """Serve one."""
    made = Prometheus()
    made.held.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = made.answered(self.path, self.headers["Authorization"])
            with suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.address = f"http://127.0.0.1:{listening.server_port}/prom"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.held.set()
        listening.shutdown()
        listening.server_close()
        thread.join()
