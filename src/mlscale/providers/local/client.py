"""The only place of this provider that touches files, processes and sockets."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from mlscale.deployment import Content, Revision
from mlscale.errors import ProviderFailed, UsageError
from mlscale.providers import artifact
from mlscale.providers.contract import Answer, LogLine, LogQuery, Progress
from mlscale.providers.local import records
from mlscale.providers.local.failures import failure_of
from mlscale.providers.local.records import Desired, Observed, RevisionFile

SERVER_PACKAGES = ("granian", "orjson", "numpy")
"""What the model server itself needs in an environment of a model's own."""

STALE_AFTER_S = 10.0
"""A supervisor beats every second; one that was silent for this long hangs."""

INVOKE_TIMEOUT_S = 75.0
"""More than the gateway's own 60 s limit, so that its answer is the one that is seen."""

_CONTENT = TypeAdapter(Content)


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one deployment."""

    path: Path

    @property
    def revisions(self) -> Path:
        """Where the revisions' folders are."""
        return self.path / "revisions"

    @property
    def logs(self) -> Path:
        """Where the replicas write."""
        return self.path / "logs"


def homes(root: Path) -> Sequence[str]:
    """Return the names of the deployments under `root`, sorted."""
    folder = root / "local"
    if not folder.is_dir():
        return ()
    return tuple(sorted(each.name for each in folder.iterdir() if (each / records.DESIRED).is_file()))


def process_started(pid: int) -> str:
    """Return when `pid` started, as the system counts it, or an empty text when there is no such process.

    Source: /proc/PID/stat, field 22 (starttime), Linux proc(5); elsewhere `ps -o lstart=`.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self").exists():
            return ""
        found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return found.stdout.strip()
    return "" if fields[0] == "Z" else fields[19]


def trouble(home: Home, observed: Observed | None, now: datetime) -> str:
    """Return what is wrong with the supervisor of `home`; empty when it runs and answers."""
    if observed is None:
        return "the supervisor is gone: it never ran" if not lock_is_held(home) else ""
    if process_started(observed.pid) != observed.pid_started:
        return "" if lock_is_held(home) else f"the supervisor is gone: process {observed.pid} is not there any more"
    silent = (now - observed.at).total_seconds()
    return f"the supervisor (process {observed.pid}) is silent for {silent:.0f} s" if silent > STALE_AFTER_S else ""


def lock_is_held(home: Home) -> bool:
    """Return whether a supervisor holds the lock of `home`: the kernel lets go of it when the process ends."""
    try:
        with (home.path / records.LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def start_supervisor(home: Home) -> None:
    """Start the supervisor of `home` in a session of its own, so that it outlives the command; twice is harmless."""
    with (home.path / records.SUPERVISOR_LOG).open("ab") as log, Path(os.devnull).open("rb") as nothing:
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "mlscale.providers.local.supervisor", str(home.path)],
            {**os.environ, "PYTHONUNBUFFERED": "1"},
            file_actions=[(os.POSIX_SPAWN_DUP2, file.fileno(), to) for file, to in ((nothing, 0), (log, 1), (log, 2))],
            setsid=True,
        )


def await_beat(home: Home, timeout_s: float) -> Observed:
    """Return what the supervisor of `home` observes once it has said so.

    Raises:
        ProviderFailed: it did not within `timeout_s`; with the end of its log.
    """
    limit = time.monotonic() + timeout_s
    while time.monotonic() < limit:
        observed = records.read_observed(home.path)
        if observed and not trouble(home, observed, datetime.now(UTC)):
            return observed
        time.sleep(0.05)
    raise ProviderFailed(
        "the supervisor did not start",
        why=last_lines(home.path / records.SUPERVISOR_LOG, 10) or f"no word within {timeout_s:.0f} s",
        hint=f"read {home.path / records.SUPERVISOR_LOG}",
    )


def stop_supervisor(home: Home, timeout_s: float) -> None:
    """End the supervisor of `home` and with it every replica; none running is no error."""
    observed = records.read_observed(home.path)
    if observed is None or process_started(observed.pid) != observed.pid_started:
        return
    _signal(observed.pid, signal.SIGTERM)
    limit = time.monotonic() + timeout_s
    while process_started(observed.pid) == observed.pid_started:
        if time.monotonic() > limit:
            _signal(observed.pid, signal.SIGKILL)
            limit = time.monotonic() + timeout_s
        time.sleep(0.02)


def end_replicas(observed: Observed | None, home: Home) -> None:
    """End replicas whose supervisor died before it could; only processes that say they belong to `home`."""
    for revision in observed.revisions if observed else ():
        for replica in revision.replicas:
            if _belongs(replica.pid, home):
                _signal(replica.pid, signal.SIGKILL)


def _belongs(pid: int, home: Home) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        folder = Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return False
    return b"mlscale.serving.server" in command and folder.is_relative_to(home.path.resolve())


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


_changing = threading.Lock()


def change(home: Home, how: Callable[[Desired], Desired]) -> None:
    """Change what is desired in `home`, one writer at a time; no difference writes nothing."""
    with _changing, (home.path / "desired.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = records.read_desired(home.path)
        if before is None:
            raise ProviderFailed("the deployment's record is gone", why=str(home.path / records.DESIRED))
        after = how(before)
        if after != before:
            records.write(home.path / records.DESIRED, after.model_copy(update={"generation": before.generation + 1}))


def content_of(home: Home, revision: str) -> Content | None:
    """Return what a prepared revision is made of, None if it is not prepared."""
    try:
        return _CONTENT.validate_json((home.revisions / revision / "content.json").read_bytes())
    except FileNotFoundError:
        return None


def prepare(home: Home, revision: Revision, files: Mapping[str, str | None], root: Path, tell: Progress) -> None:
    """Put a revision's files into its folder, whole or not at all.

    Args:
        home: the deployment's folder.
        revision: what to prepare.
        files: the paths of its `model`, `handler` and `requirements`, None where it has none.
        root: the folder of all deployments, where environments are shared.
        tell: told what takes long.

    Raises:
        UsageError: the files are not those that the plan was made with.
        ProviderFailed: the environment can't be made.
    """
    target = home.revisions / revision.id
    if (target / "content.json").is_file():
        return
    content = revision.content
    if files["model"] is None:
        raise ProviderFailed(
            "the revision's files are gone", why=f"revision {revision.id} was deleted", hint="deploy its spec again"
        )
    python = sys.executable
    if files["requirements"] is not None:
        python = environment(root, Path(files["requirements"]), tell)
    home.revisions.mkdir(parents=True, exist_ok=True)
    for leftover in home.revisions.glob(".new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    building = Path(tempfile.mkdtemp(prefix=".new-", dir=home.revisions))
    _fill(building, content, files, python)
    building.chmod(0o755)
    building.rename(target)


def _fill(folder: Path, content: Content, files: Mapping[str, str | None], python: str) -> None:
    model = Path(str(files["model"]))
    _same(model, content.artifact)
    artifact.copy(model, folder / "model")
    handler = None
    if files["handler"] is not None:
        _same(Path(files["handler"]), content.handler)
        handler = "code/inference.py"
        (folder / "model" / "code").mkdir(exist_ok=True)
        shutil.copyfile(files["handler"], folder / "model" / handler)
    artifact.copy_runtime(folder / "runtime")
    launch = RevisionFile(
        python=python,
        environment=dict(content.environment),
        framework=content.framework,
        handler=handler,
        health_path=content.health.path,
        startup_timeout_s=content.health.startup_timeout.total_seconds(),
    )
    records.write(folder / "revision.json", launch)
    (folder / "content.json").write_bytes(_CONTENT.dump_json(content, indent=1))


def _same(path: Path, digest: str | None) -> None:
    found = artifact.digest(path)
    if found != digest:
        raise UsageError(
            "the files changed after the plan was made",
            why=f"{path} was {digest}, is {found}",
            hint="mlscale plan",
        )


def environment(root: Path, requirements: Path, tell: Progress) -> str:
    """Return the Python of the virtual environment that holds `requirements`, made once per content.

    By uv where it is found, as a command or a package; by pip otherwise.
    """
    wanted = "\n".join((sys.version, *_server_requirements(), requirements.read_text()))
    folder = root / "environments" / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    with Path(f"{folder}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            tell(f"making an environment for {requirements.name}")
            for command in _environment_commands(folder, python, requirements):
                _run(command, requirements)
            (folder / "complete").touch()
    return str(python)


def _server_requirements() -> Sequence[str]:
    return tuple(f"{name}=={metadata.version(name)}" if name != "numpy" else name for name in SERVER_PACKAGES)


def _environment_commands(folder: Path, python: Path, requirements: Path) -> Sequence[Sequence[str]]:
    packages = (*_server_requirements(), "-r", str(requirements))
    uv = [found] if (found := shutil.which("uv")) else [sys.executable, "-m", "uv"]
    if found or importlib.util.find_spec("uv"):
        return (
            [*uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [*uv, "pip", "install", "--quiet", "--python", str(python), *packages],
        )
    return (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
    )


def _run(command: Sequence[str], requirements: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise ProviderFailed(
            "the model's environment can't be made",
            why="\n".join(done.stderr.strip().splitlines()[-15:]),
            hint=f"correct {requirements}, or see that the package index can be reached",
        )


def unused(home: Home, keep: Sequence[str]) -> tuple[str, ...]:
    """Return the folders, relative to `home`, of revisions that are neither in use nor in `keep`."""
    desired = records.read_desired(home.path)
    used = {each.id for each in desired.revisions} if desired else set()
    there = [each.name for each in sorted(home.revisions.glob("*"))] if home.revisions.is_dir() else []
    return tuple(f"revisions/{name}" for name in there if name not in used and name not in keep)


def delete_folder(home: Home, folder: str) -> None:
    """Delete `folder` of `home`, first renamed so that nobody takes a half of it for the whole."""
    path = home.path / folder
    if path.exists():
        grave = path.with_name(f".new-{path.name}")
        shutil.rmtree(grave, ignore_errors=True)
        path.rename(grave)
        shutil.rmtree(grave)


def delete_home(home: Home) -> None:
    """Delete everything of the deployment; its record goes first, so that a half-deleted one is absent."""
    (home.path / records.DESIRED).unlink(missing_ok=True)
    shutil.rmtree(home.path, ignore_errors=True)


def post(address: str, path: str, body: bytes, content_type: str, accept: str) -> Answer:
    """Return the gateway's answer to one POST.

    Raises:
        ProviderFailed: nothing answers there; again may help.
    """
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=INVOKE_TIMEOUT_S)
    try:
        connection.request("POST", path, body, {"Content-Type": content_type, "Accept": accept})
        response = connection.getresponse()
        return Answer(
            response.status,
            response.getheader("Content-Type", ""),
            response.read(),
            response.getheader("x-mlscale-revision", ""),
        )
    except (OSError, http.client.HTTPException) as error:
        raise ProviderFailed(
            "the endpoint does not answer", why=f"{address}: {error}", hint="mlscale status", retryable=True
        ) from error
    finally:
        connection.close()


def last_lines(path: Path, count: int) -> str:
    """Return the last `count` lines of a log, an empty text if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 64_000))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])
    except FileNotFoundError:
        return ""


def log_files(home: Home, query: LogQuery) -> Sequence[Path]:
    """Return the replicas' log files that `query` asks for, the one written last at the end."""
    found = [each for each in home.logs.glob("*.log") if _asked_for(each, query)] if home.logs.is_dir() else []
    return sorted(found, key=lambda each: each.stat().st_mtime)


def _asked_for(path: Path, query: LogQuery) -> bool:
    revision, _, _ = path.stem.rpartition("-")
    return query.revision in (None, revision) and query.replica in (None, path.stem)


def lines(home: Home, query: LogQuery) -> Iterator[LogLine]:
    """Yield the last lines of each replica's log, and with `follow` every new one as it comes."""
    places: dict[Path, int] = {}
    for path in log_files(home, query):
        places[path] = path.stat().st_size
        yield from (_log_line(path, text) for text in last_lines(path, query.tail).splitlines())
    while query.follow:
        time.sleep(0.2)
        for path in log_files(home, query):
            for text in _news(path, places):
                yield _log_line(path, text)


def _news(path: Path, places: dict[Path, int]) -> Sequence[str]:
    size = path.stat().st_size
    start = places.get(path, 0)
    if size < start:
        start = 0
    with path.open("rb") as file:
        file.seek(start)
        whole, _, _ = file.read(size - start).rpartition(b"\n")
    if not whole:
        return ()
    places[path] = start + len(whole) + 1
    return whole.decode(errors="replace").splitlines()


def _log_line(path: Path, text: str) -> LogLine:
    return LogLine(at=None, revision=path.stem.rpartition("-")[0], replica=path.stem, text=text)


@contextmanager
def errors_of(doing: str) -> Iterator[None]:
    """Turn this machine's errors into ours."""
    try:
        yield
    except OSError as error:
        raise failure_of(error, doing) from error
