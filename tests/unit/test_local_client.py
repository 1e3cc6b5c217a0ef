"""What this machine's files say: the supervisor's state, logs, what is whole and what is of no use any more."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from mlscale.deployment import Revision, Role, revision_of
from mlscale.errors import MlscaleError, NoCapacity, ProviderFailed, UsageError, WorkspaceFailed
from mlscale.providers import artifact
from mlscale.providers.contract import LogLine, LogQuery
from mlscale.providers.local import client, logs, records
from mlscale.providers.local.client import Home, State, Supervision
from mlscale.providers.local.failures import failure_of, install_failure, start_failure
from mlscale.providers.local.processes import process_started
from mlscale.providers.local.records import Desired, DesiredRevision, Observed
from tests.builders import NOON, a_content


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty deployment's folder."""
    made = Home(tmp_path / "home")
    client.make_home(made)
    return made


def _told(text: str) -> None:
    del text


def _beat(home: Home, *, pid: int | None = None, seconds_ago: float = 0.0) -> Observed:
    """Write what a supervisor observes; by default this very process is it."""
    number = os.getpid() if pid is None else pid
    at = NOON - timedelta(seconds=seconds_ago)
    started = process_started(os.getpid())
    observed = Observed(pid=number, pid_started=started, at=at, generation=1, host="127.0.0.1", port=8080)
    records.write(home.path / records.OBSERVED, observed)
    return observed


def test_a_supervisor_that_beats_runs(home: Home) -> None:
    """What a live process wrote a moment ago is what is observed."""
    observed = _beat(home, seconds_ago=1)

    assert client.supervision(home, NOON) == Supervision(State.RUNS, observed)


def test_an_old_beat_is_silence(home: Home) -> None:
    """After ten seconds without a beat a live process is silent, and what it wrote is not trusted."""
    _beat(home, seconds_ago=12)

    assert client.supervision(home, NOON) == Supervision(
        State.SILENT, trouble=f"the supervisor (process {os.getpid()}) is silent for 12 s"
    )


def test_a_clock_set_back_is_no_silence(home: Home) -> None:
    """A beat from the future is a beat."""
    observed = _beat(home, seconds_ago=-3600)

    assert client.supervision(home, NOON) == Supervision(State.RUNS, observed)


def test_another_process_with_the_same_number_is_not_the_supervisor(home: Home) -> None:
    """A process id that was used again does not count: the start times differ."""
    _beat(home, pid=1)

    assert client.supervision(home, NOON) == Supervision(
        State.GONE, trouble="the supervisor is gone: process 1 is not there any more"
    )


def test_a_held_lock_is_a_supervisor_that_starts(home: Home) -> None:
    """While the lock is held, what a dead supervisor wrote says nothing, and nobody is gone."""
    _beat(home, pid=1)
    with (home.path / records.LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert client.supervision(home, NOON) == Supervision(State.STARTING)

    (home.path / records.OBSERVED).unlink()
    assert client.supervision(home, NOON) == Supervision(State.GONE, trouble="the supervisor is gone: it never ran")


def test_a_record_that_makes_no_sense_is_named(home: Home) -> None:
    """A desired record that can't be read is an error with its path; an observed one is as if there were none."""
    (home.path / records.DESIRED).write_text('{"version": 2}')
    (home.path / records.OBSERVED).write_text("")

    with pytest.raises(WorkspaceFailed) as caught:
        records.read_desired(home.path)

    assert caught.value.what == "a record of the deployment can't be read"
    assert caught.value.why.startswith(f"{home.path / records.DESIRED}: version ")
    assert records.read_observed(home.path) is None


def test_a_change_that_changes_nothing_is_not_written(home: Home) -> None:
    """The generation grows with a difference, and only with one."""
    records.write(home.path / records.DESIRED, Desired(name="reviews"))

    client.change(home, lambda desired: desired.model_copy(update={"labels": {"team": "search"}}))
    client.change(home, lambda desired: desired.model_copy(update={"labels": {"team": "search"}}))

    assert records.read_desired(home.path) == Desired(name="reviews", generation=1, labels={"team": "search"})


def _model(tmp_path: Path, text: str = "weights") -> tuple[Revision, dict[str, str | None]]:
    """Return a revision of a model with one file, and where its files are."""
    folder = tmp_path / f"model-{text}"
    folder.mkdir()
    (folder / "weights").write_text(text)
    content = a_content(artifact.digest(folder), runtime=artifact.runtime_digest(), environment={"TOKEN": "secret"})
    return revision_of(content), {"model": str(folder), "handler": None, "requirements": None}


def test_a_prepared_revision_is_whole(home: Home, tmp_path: Path) -> None:
    """Its model, its serving code and its records are there; what its variables say only its owner can read."""
    revision, files = _model(tmp_path)

    client.prepare(home, revision, files, _told)

    folder = home.revisions / revision.id
    assert client.is_whole(home, revision.id)
    assert client.content_of(home, revision.id) == revision.content
    assert (folder / "model" / "weights").read_text() == "weights"
    assert records.read_launch(folder).python == sys.executable
    assert {home.path.stat().st_mode & 0o077, (folder / records.LAUNCH).stat().st_mode & 0o077} == {0}


@pytest.mark.parametrize("part", ["model", "runtime", "content.json", "revision.json"])
def test_a_revision_without_a_part_is_prepared_again(home: Home, tmp_path: Path, part: str) -> None:
    """Whatever is missing, it is not whole, and preparing it makes it so."""
    revision, files = _model(tmp_path)
    client.prepare(home, revision, files, _told)
    (home.revisions / revision.id / part).rename(tmp_path / "lost")
    assert not client.is_whole(home, revision.id)

    client.prepare(home, revision, files, _told)

    assert client.is_whole(home, revision.id)


def test_files_that_changed_after_the_plan_are_refused(home: Home, tmp_path: Path) -> None:
    """A model that is not the one that was planned is not put in place, not even half of it."""
    revision, files = _model(tmp_path)
    Path(str(files["model"]), "weights").write_text("others")

    with pytest.raises(UsageError, match="the files changed after the plan was made"):
        client.prepare(home, revision, files, _told)

    assert list(home.revisions.iterdir()) == []


def test_a_revision_without_sources_is_gone(home: Home, tmp_path: Path) -> None:
    """Going back to a revision whose files were deleted says so."""
    revision, files = _model(tmp_path)

    with pytest.raises(ProviderFailed, match="the revision's files are gone"):
        client.prepare(home, revision, dict.fromkeys(files), _told)


def test_earlier_serving_code_is_taken_from_a_revision_that_has_it(home: Home, tmp_path: Path) -> None:
    """A new model under pinned serving code gets that code, not this mlscale's; without it the way out is said."""
    first, files = _model(tmp_path)
    client.prepare(home, first, files, _told)
    pinned = a_content(first.content.artifact, runtime="earlier")
    earlier = home.revisions / first.id
    (earlier / "content.json").write_text(
        (earlier / "content.json").read_text().replace(artifact.runtime_digest(), "earlier")
    )
    (earlier / "runtime" / "mark").write_text("earlier")

    client.prepare(home, revision_of(pinned), files, _told)

    assert (home.revisions / revision_of(pinned).id / "runtime" / "mark").read_text() == "earlier"
    with pytest.raises(ProviderFailed) as caught:
        client.prepare(home, revision_of(a_content(first.content.artifact, runtime="unknown")), files, _told)
    assert caught.value.hint == "mlscale deploy --refresh-runtime"


def test_what_is_neither_used_nor_kept_is_of_no_use(home: Home, tmp_path: Path) -> None:
    """Of three revisions the one in use and the one to keep stay; leftovers of a cut-off run go."""
    made = [_model(tmp_path, text) for text in ("one", "two", "three")]
    for revision, files in made:
        client.prepare(home, revision, files, _told)
    used, kept, old = (revision for revision, _ in made)
    in_use = DesiredRevision(id=used.id, content=used.content, role=Role.STABLE, share=10_000, start_with=1)
    records.write(home.path / records.DESIRED, Desired(name="reviews", revisions=(in_use,)))
    (home.path / "environments" / "0123").mkdir(parents=True)
    (home.revisions / ".new-half").mkdir()

    assert client.unused(home, [kept.id]) == ("revisions/.new-half", f"revisions/{old.id}", "environments/0123")


def test_logs_are_read_from_their_end(home: Home) -> None:
    """The last lines of each replica that is asked for, each with who wrote it; a tail of none is none."""
    (home.logs / "aa-1.log").write_text("one\ntwo\nthree\n")
    (home.logs / "bb-1.log").write_text("other\n")

    assert list(client.lines(home, LogQuery(revision="aa", tail=2))) == [
        LogLine(None, "aa", "aa-1", "two"),
        LogLine(None, "aa", "aa-1", "three"),
    ]
    assert list(client.lines(home, LogQuery(replica="bb-1"))) == [LogLine(None, "bb", "bb-1", "other")]
    assert list(client.lines(home, LogQuery(tail=0))) == []


def test_a_log_that_is_too_large_is_emptied_under_its_writer(home: Home) -> None:
    """What was written moves aside, and whoever appends goes on in the same file."""
    path = home.logs / "aa-1.log"
    with path.open("ab") as writer:
        writer.write(b"x" * (logs.LARGEST_LOG + 1))
        writer.flush()

        logs.bound_log(path)
        writer.write(b"next\n")

    assert path.read_bytes() == b"next\n"
    assert (home.logs / "aa-1.log.1").stat().st_size == logs.LARGEST_LOG + 1


@pytest.mark.parametrize(
    ("number", "kind", "what"),
    [
        (errno.ENOSPC, NoCapacity, "the disk is full"),
        (errno.EDQUOT, NoCapacity, "the disk is full"),
        (errno.EACCES, WorkspaceFailed, "the workspace can't be written"),
        (errno.EROFS, WorkspaceFailed, "the workspace can't be written"),
        (errno.EMFILE, ProviderFailed, "this machine is out of resources"),
        (errno.EIO, ProviderFailed, "this machine refused"),
    ],
)
def test_the_systems_errors_in_our_words(number: int, kind: type[MlscaleError], what: str) -> None:
    """Each says what was being done, and with which file."""
    failed = failure_of(OSError(number, os.strerror(number), "/a/file"), "files of revision aa")

    assert (type(failed), failed.what) == (kind, what)
    assert failed.why == f"files of revision aa: /a/file: {os.strerror(number)}"


@pytest.mark.parametrize(
    ("module", "package"), [("sklearn.ensemble", "scikit-learn"), ("torch", "torch"), ("cv2", "opencv-python")]
)
def test_a_missing_package_is_called_by_its_name_at_the_index(module: str, package: str) -> None:
    """The hint names what to write into requirements.txt, which is not always what is imported."""
    failed = start_failure("revision aa does not start", f"ModuleNotFoundError: No module named '{module}'")

    assert failed.hint.startswith(f"add {package} to requirements.txt")
    assert start_failure("revision aa does not start", "killed").hint == "mlscale logs"


def test_an_installer_without_room_is_a_full_disk(tmp_path: Path) -> None:
    """What pip and uv say of a full disk is missing capacity, all else a failed environment."""
    full = install_failure("error: No space left on device (os error 28)", tmp_path / "requirements.txt")
    other = install_failure("error: no such package", tmp_path / "requirements.txt")

    assert (type(full), type(other)) == (NoCapacity, ProviderFailed)
    assert other.why == "error: no such package"
