"""The only place of this provider that touches files, processes and sockets."""

from __future__ import annotations

import fcntl
import http.client
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from mlscale.deployment import Content, Revision
from mlscale.errors import ProviderFailed, WorkspaceFailed
from mlscale.providers import artifact, docker_engine, image
from mlscale.providers.contract import Answer, LogLine, LogQuery, Progress
from mlscale.providers.local import containers, environments, logs, records
from mlscale.providers.local.failures import failure_of
from mlscale.providers.local.processes import kill, runs, send
from mlscale.providers.local.records import Desired, Observed, RevisionFile

STALE_AFTER_S = 10.0
"""A supervisor beats every second; one that was silent for this long hangs."""

CONFIRM_S = 2.5
"""A machine that slept has an old beat too; a supervisor that is well beats again within this time."""

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


class State(StrEnum):
    """How the supervisor of a deployment is."""

    RUNS = "runs"
    STARTING = "starting"
    SILENT = "silent"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Supervision:
    """How the supervisor is, what it observes (None unless it runs), and what is wrong with it (empty if nothing)."""

    state: State
    observed: Observed | None = None
    trouble: str = ""


def supervision(home: Home, now: datetime) -> Supervision:
    """Return how the supervisor of `home` is; what one that is gone wrote is not what is observed now."""
    observed = records.read_observed(home.path)
    if observed is None or not runs(observed.pid, observed.pid_started):
        if lock_is_held(home):
            return Supervision(State.STARTING)
        why = f"process {observed.pid} is not there any more" if observed else "it never ran"
        return Supervision(State.GONE, trouble=f"the supervisor is gone: {why}")
    silent = (now - observed.at).total_seconds()
    if silent > STALE_AFTER_S:
        return Supervision(
            State.SILENT, trouble=f"the supervisor (process {observed.pid}) is silent for {silent:.0f} s"
        )
    return Supervision(State.RUNS, observed)


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


def end_silent_supervisor(home: Home) -> None:
    """End a supervisor that hangs, so that another can take its place; one that beats again is left alone."""
    limit = time.monotonic() + CONFIRM_S
    while supervision(home, datetime.now(UTC)).state is State.SILENT:
        if time.monotonic() > limit:
            observed = records.read_observed(home.path)
            if observed is not None:
                kill(observed.pid, observed.pid_started, CONFIRM_S)
                end_replicas(observed, home)
            return
        time.sleep(0.1)


def start_supervisor(home: Home) -> None:
    """Start the supervisor of `home` in a session of its own, so that it outlives the command; twice is harmless."""
    with (home.path / records.SUPERVISOR_LOG).open("ab") as log, Path(os.devnull).open("rb") as nothing:
        given = [(os.POSIX_SPAWN_DUP2, file.fileno(), to) for file, to in ((nothing, 0), (log, 1), (log, 2))]
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "mlscale.providers.local.supervisor", str(home.path)],
            {**os.environ, "PYTHONUNBUFFERED": "1"},
            file_actions=[*given, *((os.POSIX_SPAWN_CLOSE, number) for number in _inherited())],
            setsid=True,
        )


def _inherited() -> Sequence[int]:
    """Return the open files that this process got from its caller: a pipe or lock that must not be held for ever."""
    numbers = (int(name) for name in os.listdir("/dev/fd"))  # noqa: PTH208 - names, not paths, are what is there
    return [number for number in numbers if number > sys.stderr.fileno() and _is_inheritable(number)]


def _is_inheritable(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:
        return False  # the listing's own, closed by now


def await_beat(home: Home, timeout_s: float) -> Observed:
    """Return what the supervisor of `home` observes once it has said so.

    Raises:
        ProviderFailed: it did not within `timeout_s`; with the end of its log.
    """
    limit = time.monotonic() + timeout_s
    while time.monotonic() < limit:
        observed = supervision(home, datetime.now(UTC)).observed
        if observed:
            return observed
        time.sleep(0.05)
    raise ProviderFailed(
        "the supervisor did not start",
        why=logs.last_lines(home.path / records.SUPERVISOR_LOG, 10) or f"no word within {timeout_s:.0f} s",
        hint=f"read {home.path / records.SUPERVISOR_LOG}",
    )


def stop_supervisor(home: Home, timeout_s: float, tell: Progress) -> None:
    """End the supervisor of `home` and with it every replica; none running is no error.

    It lets open requests end first; `tell` hears every second that this goes on. One that is just starting is waited
    for: its first beat says which process it is.

    Raises:
        ProviderFailed: it has not ended within `timeout_s`, and nothing says which process it is.
    """
    begun = told = time.monotonic()
    asked = 0
    while lock_is_held(home):
        observed = records.read_observed(home.path)
        known = observed is not None and runs(observed.pid, observed.pid_started)
        if observed and known and observed.pid != asked:
            asked = observed.pid
            send(asked, signal.SIGTERM)
        if time.monotonic() > begun + timeout_s or supervision(home, datetime.now(UTC)).state is State.SILENT:
            if observed is None or not known:
                raise ProviderFailed(
                    "the supervisor does not end", why=str(home.path / records.LOCK), hint="end its process"
                )
            kill(observed.pid, observed.pid_started, CONFIRM_S)
        if time.monotonic() > told + 1.0:
            told = time.monotonic()
            tell(f"open requests end ({told - begun:.0f} s)")
        time.sleep(0.02)


def end_replicas(observed: Observed | None, home: Home) -> None:
    """End replicas whose supervisor died before it could; only processes that say they belong to `home`."""
    for revision in observed.revisions if observed else ():
        for replica in revision.replicas:
            if _belongs(replica.pid, home):
                send(replica.pid, signal.SIGKILL)


def _belongs(pid: int, home: Home) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        folder = Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return False
    return b"mlscale.serving.server" in command and folder.is_relative_to(home.path.resolve())


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


def is_whole(home: Home, revision: str) -> bool:
    """Return whether everything is there that a replica of `revision` needs to start.

    Raises:
        ProviderFailed: it needs an image, and no engine answers.
    """
    launch = _launch(home.revisions / revision)
    return launch is not None and (not launch.image or docker_engine.inspect(launch.image) is not None)


def _launch(folder: Path) -> RevisionFile | None:
    """Return how the revision in `folder` is started, None unless all of its files are there."""
    try:
        launch = records.read_launch(folder)
    except (FileNotFoundError, WorkspaceFailed):
        return None
    needed = () if launch.image else (Path(launch.python), folder / "model", folder / "runtime")
    return launch if all(each.exists() for each in (*needed, folder / "content.json")) else None


def uses_containers(home: Home) -> bool:
    """Return whether a revision of `home`, in use or kept, runs in containers."""
    desired = records.read_desired(home.path)
    return bool(_images(home)) or any(each.content.image for each in (desired.revisions if desired else ()))


def built_images(home: Home) -> Mapping[str, Sequence[str]]:
    """Return the images that were built for `home`, each with the names of the revisions' folders that have it."""
    found: dict[str, list[str]] = {}
    for folder, launch in _images(home).items():
        if launch.is_built:
            found.setdefault(launch.image, []).append(folder)
    return found


def _images(home: Home) -> Mapping[str, RevisionFile]:
    """Return how each revision of `home` that runs in containers is started, by its folder; half-made ones too."""
    found = {}
    for path in home.revisions.glob(f"*/{records.LAUNCH}"):
        with suppress(FileNotFoundError, WorkspaceFailed):
            launch = records.read_launch(path.parent)
            if launch.image:
                found[path.parent.name] = launch
    return found


def content_of(home: Home, revision: str) -> Content:
    """Return what a prepared revision is made of.

    Raises:
        ProviderFailed: it is not prepared.
    """
    try:
        return _CONTENT.validate_json((home.revisions / revision / "content.json").read_bytes())
    except FileNotFoundError as error:
        raise files_gone(revision) from error


def files_gone(revision: str) -> ProviderFailed:
    """Return the error for a revision without its files."""
    return ProviderFailed(
        "the revision's files are gone", why=f"revision {revision} was deleted", hint="deploy its spec again"
    )


def prepare(home: Home, revision: Revision, files: Mapping[str, str | None], tell: Progress) -> None:
    """Put a revision's files into its folder, whole or not at all.

    Args:
        home: the deployment's folder.
        revision: what to prepare.
        files: the paths of its `model`, `handler` and `requirements`, None where it has none.
        tell: told what takes long; what it raises ends the work.

    Raises:
        UsageError: the files are not those that the plan was made with.
        ProviderFailed: the environment can't be made, or the files are gone.
    """
    if is_whole(home, revision.id):
        return
    if files["model"] is None and revision.content.artifact:
        raise files_gone(revision.id)
    make_home(home)
    for leftover in home.revisions.glob(".new-*"):
        _release_images(home, leftover.name, tell, needed=revision.content.image)
        shutil.rmtree(leftover, ignore_errors=True)
    building = Path(tempfile.mkdtemp(prefix=".new-", dir=home.revisions))
    try:
        _fill(building, home, revision.content, files, tell)
        _delete_tree(home.revisions / revision.id)
        building.rename(home.revisions / revision.id)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def make_home(home: Home) -> None:
    """Make the folders of the deployment; nobody else may look in, for the model's environment may hold secrets."""
    home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.logs.mkdir(exist_ok=True)
    home.revisions.mkdir(exist_ok=True)


def _fill(folder: Path, home: Home, content: Content, files: Mapping[str, str | None], tell: Progress) -> None:
    (folder / "content.json").write_bytes(_CONTENT.dump_json(content, indent=1))
    launch = RevisionFile(
        python=sys.executable,
        environment=dict(content.environment),
        framework=content.framework,
        health_path=content.health.path,
        startup_timeout_s=content.health.startup_timeout.total_seconds(),
        image=content.image or "",
        is_built=content.is_built,
        **containers.limits(content.machine),
    )
    # It stands there before an image is made: whoever finds a half-made revision finds its image too.
    records.write(folder / records.LAUNCH, launch)
    if content.runtime:
        _copy_runtime(folder, home, content.runtime)
    if content.is_built:
        _build(folder, home, content, files, tell)
    elif content.image:
        if files["model"] is not None:
            artifact.refuse_changed(Path(files["model"]), content.artifact)
            artifact.copy(Path(files["model"]), folder / "model")
        if docker_engine.inspect(content.image) is None:
            docker_engine.pull(content.image, tell)
    else:
        records.write(folder / records.LAUNCH, _with_process_files(folder, home, launch, content, files, tell))


def _with_process_files(
    folder: Path, home: Home, launch: RevisionFile, content: Content, files: Mapping[str, str | None], tell: Progress
) -> RevisionFile:
    """Return `launch` with the files of a process in place: model, handler, and its own environment."""
    model = Path(str(files["model"]))
    artifact.refuse_changed(model, content.artifact)
    artifact.copy(model, folder / "model")
    if files["handler"] is not None:
        artifact.refuse_changed(Path(files["handler"]), content.handler)
        launch = launch.model_copy(update={"handler": "code/inference.py"})
        (folder / "model" / "code").mkdir(exist_ok=True)
        shutil.copyfile(files["handler"], folder / "model" / "code" / "inference.py")
    if files["requirements"] is not None:
        artifact.refuse_changed(Path(files["requirements"]), content.requirements)
        python = environments.environment(home.path, Path(files["requirements"]), tell)
        launch = launch.model_copy(update={"python": python})
    return launch


def _build(folder: Path, home: Home, content: Content, files: Mapping[str, str | None], tell: Progress) -> None:
    """Have the engine have the image of `content`, whose serving code is in `folder`.

    Raises:
        ProviderFailed: it can't be built; or it is gone, and this mlscale would build another one.
    """
    name = home.path.name
    if content.image != image.tag_of(name, content):
        if docker_engine.inspect(str(content.image)) is None:
            raise ProviderFailed(
                "the image of this deployment is gone",
                why=f"{content.image}, and this mlscale builds another one for the same model",
                hint="mlscale deploy --refresh-runtime",
            )
        return
    docker_engine.ensure(name, content, {**files, "runtime": str(folder / "runtime")}, tell)


def _copy_runtime(folder: Path, home: Home, digest: str | None) -> None:
    """Put the serving code with `digest` into `folder`: this mlscale's, or an earlier one's from a revision it made."""
    if digest == artifact.runtime_digest():
        artifact.copy_runtime(folder / "runtime")
        return
    for other in home.revisions.glob("[!.]*"):
        if _launch(other) and (other / "runtime").is_dir() and content_of(home, other.name).runtime == digest:
            shutil.copytree(other / "runtime", folder / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
            return
    raise ProviderFailed(
        "the serving code of this deployment is gone",
        why=f"it is served with {digest}, this mlscale has {artifact.runtime_digest()}",
        hint="mlscale deploy --refresh-runtime",
    )


def unused(home: Home, keep: Sequence[str]) -> tuple[str, ...]:
    """Return the folders, relative to `home`, that are of no use any more.

    Those of revisions that are neither in use nor in `keep`, and of environments that none of the others needs.
    """
    desired = records.read_desired(home.path)
    kept = {*keep, *(each.id for each in desired.revisions)} if desired else {*keep}
    launches = [launch for name in kept if (launch := _launch(home.revisions / name))]
    needed = {environments.of_python(each.python, home.path) for each in launches}
    revisions = [name for name in _names(home.revisions) if name not in kept]
    idle = [name for name in _names(home.path / environments.FOLDER) if name not in needed]
    return (*(f"revisions/{name}" for name in revisions), *(f"{environments.FOLDER}/{name}" for name in idle))


def _names(folder: Path) -> Sequence[str]:
    return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else ()


def delete_folder(home: Home, folder: str, tell: Progress) -> None:
    """Delete `folder` of `home`, first renamed so that nobody takes a half of it for the whole.

    The image that was built for it goes first, unless another revision has the same one; its containers may still
    answer what is open, and are waited for.
    """
    path = home.path / folder
    if path.exists():
        _release_images(home, path.name, tell)
        _delete_tree(path)


def _delete_tree(path: Path) -> None:
    if path.exists():
        grave = path.with_name(f".new-{path.name}")
        shutil.rmtree(grave, ignore_errors=True)
        path.rename(grave)
        shutil.rmtree(grave)


def _release_images(home: Home, folder: str, tell: Progress, needed: str | None = None) -> None:
    """Take away the image that was built for the revision's `folder` alone; not the one that is `needed` next."""
    for tag, folders in built_images(home).items():
        if folders == [folder] and tag != needed:
            containers.await_gone(home.path, folder, tell)
            docker_engine.release(tag)


def end_containers(home: Home) -> None:
    """Remove containers, network and images of the deployment; twice is harmless.

    Raises:
        ProviderFailed: no engine answers.
    """
    if uses_containers(home):
        containers.remove_network(home.path)
        for tag in built_images(home):
            docker_engine.release(tag)


def delete_logs(home: Home, revision: str) -> None:
    """Delete what the replicas of `revision` wrote."""
    for path in home.logs.glob(f"{revision}-*.log*"):
        path.unlink(missing_ok=True)


def delete_home(home: Home, tell: Progress) -> None:
    """Delete everything of the deployment; its record goes last, so that a half-deleted one can still be deleted."""
    if not home.path.exists():
        return
    with environments.alone(home.path, tell):
        for each in home.path.iterdir():
            if each.is_dir():
                shutil.rmtree(each, ignore_errors=True)
            elif each.name != records.DESIRED:
                each.unlink(missing_ok=True)
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
        yield from (_log_line(path, text) for text in logs.last_lines(path, query.tail).splitlines())
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
