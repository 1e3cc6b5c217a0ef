"""The model server as a process: both clouds' container contracts, faults, and its end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mlscale.serving.listener import free_port

HANDLER = """
import time

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return body

def predict_fn(body, model):
    if body.startswith("sleep"):
        time.sleep(float(body.removeprefix("sleep")))
    if body == "fail":
        raise ValueError("no such flower")
    return [len(body)]
"""


PARENT = """
import os, subprocess, sys
os.environ["MLSCALE_PARENT_PID"] = str(os.getpid())
child = subprocess.Popen([sys.executable, "-m", "mlscale.serving.server"])
print(child.pid, flush=True)
child.wait()
"""


class Running:
    """A model server's process and its port."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        """Return the status and body of an answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, names)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def talk(self, *parts: bytes, wait_s: float = 5.0) -> bytes:
        """Return all that comes back for bytes as they are, until the server closes or is silent."""
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=wait_s)) as connection:
            with suppress(ConnectionError):  # it may be refused while it still talks
                for part in parts:
                    connection.sendall(part)
            return all_of(connection)


def all_of(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes or is silent."""
    received = b""
    try:
        while more := connection.recv(65536):
            received += more
    except TimeoutError:
        return received + b"<open>"
    except ConnectionError:
        return received
    return received


@contextmanager
def server(folder: Path, *words: str, **environment: str) -> Iterator[Running]:
    """Run a model server until it answers; kill what is left of it after."""
    port = int(next((environment[name] for name in ("MLSCALE_PORT", "AIP_HTTP_PORT") if name in environment), "8080"))
    process = subprocess.Popen(
        [sys.executable, "-m", "mlscale.serving.server", *words],
        env={"PATH": os.environ["PATH"], "MLSCALE_MODEL_DIR": str(folder), "MLSCALE_HOST": "127.0.0.1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    running = Running(process, port)
    try:
        until(lambda: is_up(running))
        yield running
    finally:
        process.kill()
        process.communicate()


def is_up(running: Running) -> bool:
    """Whether the server answers its health route.

    Raises:
        RuntimeError: it ended.
    """
    if running.process.poll() is not None:
        raise RuntimeError(running.process.communicate()[1])
    try:
        return running.ask("GET", "/ping")[0] == 200
    except OSError:
        return False


def until(holds: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Return when something holds.

    Raises:
        TimeoutError: it does not within `limit_s`.
    """
    limit = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > limit:
            raise TimeoutError
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with a handler that counts characters, sleeps and fails as it is asked."""
    (tmp_path / "inference.py").write_text(HANDLER)
    return tmp_path


@pytest.fixture
def running(folder: Path) -> Iterator[Running]:
    """A model server that takes 10,000 bytes."""
    port = str(free_port("127.0.0.1"))
    with server(folder, MLSCALE_PORT=port, MLSCALE_MAX_BODY_BYTES="10000", MLSCALE_DRAIN_TIMEOUT="10") as found:
        yield found


def test_sagemakers_contract(folder: Path) -> None:
    """Started with `serve` and nothing said, it answers /ping and /invocations on 8080."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 8080))
        except OSError:
            pytest.skip("port 8080 is taken on this machine")
    with server(folder, "serve") as running:
        assert running.ask("GET", "/ping") == (200, b"")
        assert running.ask("POST", "/invocations", b"abc", content_type="text/csv") == (200, b"[3]")


def test_vertex_contract(folder: Path) -> None:
    """Port and routes come from AIP_*; SageMaker's stay."""
    routes = {"AIP_HEALTH_ROUTE": "/v1/health", "AIP_PREDICT_ROUTE": "/v1/m:predict"}
    with server(folder, AIP_HTTP_PORT=str(free_port("127.0.0.1")), **routes) as running:
        assert running.ask("GET", "/v1/health") == (200, b"")
        assert running.ask("POST", "/v1/m:predict", b"abcd") == (200, b"[4]")
        assert running.ask("POST", "/invocations", b"abcd") == (200, b"[4]")


def test_errors_are_json_and_in_the_metrics(running: Running) -> None:
    """A model that raises is 500 with its words; paths and methods that are not there are 404 and 405."""
    status, body = running.ask("POST", "/invocations", b"fail")
    assert (status, json.loads(body)) == (500, {"error": "ValueError: no such flower"})
    status, body = running.ask("GET", "/nothing")
    assert (status, json.loads(body)) == (404, {"error": "there is no GET /nothing"})
    assert running.ask("GET", "/invocations")[0] == 405
    assert running.ask("POST", "/invocations", b"abc", accept="image/png")[0] == 406
    _, metrics = running.ask("GET", "/metrics")
    assert b'model_requests_total{code="500"} 1' in metrics
    assert b'model_requests_total{code="406"} 1' in metrics


def test_health_is_answered_beside_a_slow_model(running: Running) -> None:
    """A prediction that takes a second keeps neither /ping nor /metrics waiting."""
    slow = threading.Thread(target=running.ask, args=("POST", "/invocations", b"sleep1"))
    slow.start()
    until(lambda: b"model_requests_in_flight 1" in running.ask("GET", "/metrics")[1])
    begun = time.monotonic()
    assert running.ask("GET", "/ping")[0] == 200
    took = time.monotonic() - begun
    slow.join()
    assert took < 0.5


def test_sigterm_lets_open_requests_end(running: Running) -> None:
    """The open request is answered, /ping says 503 meanwhile, and the process ends well."""
    answers: list[tuple[int, bytes]] = []
    slow = threading.Thread(target=lambda: answers.append(running.ask("POST", "/invocations", b"sleep1")))
    slow.start()
    until(lambda: b"model_requests_in_flight 1" in running.ask("GET", "/metrics")[1])

    running.process.send_signal(signal.SIGTERM)

    until(lambda: running.ask("GET", "/ping")[0] == 503)
    slow.join()
    assert answers == [(200, b"[6]")]
    assert running.process.wait(5) == 0


def test_a_model_that_does_not_end_is_left_behind(folder: Path) -> None:
    """After MLSCALE_DRAIN_TIMEOUT the process ends, whatever the model does."""
    port = str(free_port("127.0.0.1"))
    with server(folder, MLSCALE_PORT=port, MLSCALE_DRAIN_TIMEOUT="0.2") as running:
        with closing(socket.create_connection(("127.0.0.1", running.port))) as connection:
            connection.sendall(b"POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\nsleep60")
            until(lambda: b"model_requests_in_flight 1" in running.ask("GET", "/metrics")[1])
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(5) == 1
        assert running.process.stderr is not None
        assert running.process.stderr.read().splitlines()[-1] == "the model did not come to an end within 0.2 s"


def test_a_server_does_not_outlive_its_supervisor(folder: Path) -> None:
    """SIGKILL of the parent ends the server, too."""
    port = free_port("127.0.0.1")
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PARENT,
        ],
        env={
            "PATH": os.environ["PATH"],
            "MLSCALE_MODEL_DIR": str(folder),
            "MLSCALE_HOST": "127.0.0.1",
            "MLSCALE_PORT": str(port),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    until(lambda: is_open(port))

    parent.kill()
    parent.communicate()

    until(lambda: not is_alive(child), limit_s=5)
    assert not is_open(port)


def is_open(port: int) -> bool:
    """Whether something listens on a port."""
    try:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=1)):
            return True
    except OSError:
        return False


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("words", "environment", "code", "last"),
    [
        ((), {"MLSCALE_MODEL_DIR": "/nowhere"}, 3,
         "the model can't be loaded: LoadError: there is no model folder /nowhere"),
        ((), {"MLSCALE_PORT": "high"}, 2, "MLSCALE_PORT is 'high', which is not a number"),
        (("train",), {}, 2, "serve is all that can be asked for, not train"),
    ],
)  # fmt: skip
def test_why_it_does_not_start_is_its_last_line(
    folder: Path, words: Sequence[str], environment: dict[str, str], code: int, last: str
) -> None:
    """An exit code for each cause, and the line that `deploy` shows."""
    found = refused(folder, *words, **environment)

    assert (found.returncode, found.stderr.splitlines()[-1]) == (code, last)


def test_a_taken_port_is_told(running: Running, folder: Path) -> None:
    """Not shared with whoever has it."""
    found = refused(folder, MLSCALE_PORT=str(running.port))

    last = f"127.0.0.1:{running.port} can't be used: Address already in use"
    assert (found.returncode, found.stderr.splitlines()[-1]) == (2, last)


def refused(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return what a server that does not start says."""
    known = {"PATH": os.environ["PATH"], "MLSCALE_MODEL_DIR": str(folder), "MLSCALE_HOST": "127.0.0.1"}
    command = [sys.executable, "-m", "mlscale.serving.server", *words]
    return subprocess.run(
        command, env={**known, **environment}, capture_output=True, text=True, timeout=20, check=False
    )


HEAD = b"POST /invocations HTTP/1.1\r\nhost: a\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([b"GARBAGE\r\n\r\n"], 400),
        ([b"GET / HTTP/9.9\r\n\r\n"], 400),
        ([b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n"], 414),
        ([HEAD + b"".join(b"x%d: a\r\n" % number for number in range(200)) + b"\r\n"], 431),
        ([HEAD + b"x: a\x01b\r\n\r\n"], 400),
        ([HEAD + b"content-length: -5\r\n\r\nhello"], 400),
        ([HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!"], 400),
        ([HEAD + b"content-length: five\r\n\r\nhello"], 400),
        ([CHUNKED + b"5\r\nhello\r\nzz\r\nhello\r\n0\r\n\r\n"], 400),
        ([CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n"], 400),
        ([HEAD + b"content-length: 10001\r\n\r\n"], 413),
        ([CHUNKED] + [b"1000\r\n" + b"a" * 4096 + b"\r\n"] * 3, 413),
        ([CHUNKED + b"5\r\nhello\r\n", b"1\r\n!\r\n0\r\n\r\n"], 200),
        ([HEAD + b"expect: 100-continue\r\ncontent-length: 10001\r\n\r\n"], 413),
    ],
)
def test_what_is_not_http_or_too_much_is_refused(running: Running, sent: Sequence[bytes], status: int) -> None:
    """Each with its status, and the next client is served."""
    answer = running.talk(*sent, wait_s=1.0)

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert running.ask("POST", "/invocations", b"abc") == (200, b"[3]")


def test_a_megabyte_of_headers_is_not_served(running: Running) -> None:
    """431, or the connection is reset while the client still talks; the next client is served."""
    answer = running.talk(HEAD + b"x: " + b"a" * 1_000_000 + b"\r\n\r\n")

    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
    assert running.ask("POST", "/invocations", b"abc") == (200, b"[3]")


def test_a_client_that_waits_to_be_told_is_told_to_go_on(running: Running) -> None:
    """Expect: 100-continue."""
    with closing(socket.create_connection(("127.0.0.1", running.port), timeout=5)) as connection:
        connection.sendall(HEAD + b"expect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert all_of(connection).startswith(b"HTTP/1.1 200 OK\r\n")


def test_requests_that_come_together_are_answered_in_order(running: Running) -> None:
    """Pipelining: the second answer is the second request's."""
    one, two = HEAD + b"content-length: 1\r\n\r\na", HEAD + b"content-length: 2\r\nconnection: close\r\n\r\nab"

    answer = running.talk(one + two)

    assert [part.rpartition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK")[1:]] == [b"[1]", b"[2]"]


def test_clients_that_say_nothing_keep_nobody_waiting(running: Running) -> None:
    """50 connections with half a head, 50 with half a body and 50 that vanish: the next request is answered at once."""
    with contextmanager(half_said)(running.port, HEAD, HEAD + b"content-length: 100\r\n\r\nhalf") as _:
        for _ in range(50):
            with closing(socket.create_connection(("127.0.0.1", running.port))) as gone:
                gone.sendall(HEAD + b"content-length: 100\r\n\r\nhalf")
        begun = time.monotonic()
        assert running.ask("POST", "/invocations", b"abc") == (200, b"[3]")
        assert time.monotonic() - begun < 1.0
    until(lambda: b"model_requests_in_flight 0" in running.ask("GET", "/metrics")[1])


def half_said(port: int, *starts: bytes) -> Iterator[None]:
    """Hold 50 connections for each beginning of a request."""
    connections = []
    for start in starts:
        for _ in range(50):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.sendall(start)
            connections.append(connection)
    yield
    for connection in connections:
        connection.close()


def test_the_answer_has_no_body_for_head(running: Running) -> None:
    """HEAD of the health route."""
    answer = running.talk(b"HEAD /ping HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")


def test_rows_of_many_clients_are_batched_and_come_back_to_each(tmp_path: Path) -> None:
    """32 clients at once with rows of their own: every answer is its own, in fewer calls than requests."""
    import onnx
    from onnx import TensorProto, helper

    double = helper.make_node("Add", ["x", "x"], ["double"])
    shape: list[Any] = ["n", 1]
    graph = helper.make_graph(
        [double],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, shape)],
        [helper.make_tensor_value_info("double", TensorProto.DOUBLE, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "model.onnx"))
    port = str(free_port("127.0.0.1"))
    wrong: list[tuple[int, bytes]] = []

    def client(running: Running, number: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)) as connection:
            for row in range(number * 100, number * 100 + 30):
                connection.request("POST", "/invocations", b"[[%d.5]]" % row)
                answer = connection.getresponse().read()
                if json.loads(answer) != [[row * 2 + 1.0]]:
                    wrong.append((row, answer))

    with server(tmp_path, MLSCALE_PORT=port, MLSCALE_FRAMEWORK="onnx") as running:
        threads = [threading.Thread(target=client, args=(running, number)) for number in range(32)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        metrics = running.ask("GET", "/metrics")[1].decode().splitlines()

    counted = {line.partition(" ")[0]: float(line.partition(" ")[2]) for line in metrics if not line.startswith("#")}
    assert wrong == []
    assert counted["model_rows_total"] == 960
    assert counted["model_batches_total"] < 960
