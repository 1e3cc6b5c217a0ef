"""What every workspace does, whether it is a folder, S3 or Cloud Storage."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from mlscale.errors import UsageError, WorkspaceFailed, WrongCredentials
from mlscale.state.store import Store, bucket_failure, folder_failure, open_store
from tests.doubles import cloud_storage, moto_s3

BUCKET = "mlscale-workspace"
_prefixes = count()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Serve S3 with a bucket; yields its address."""
    with moto_s3.serving(BUCKET) as address:
        yield address


@pytest.fixture(scope="module")
def gcs() -> Iterator[str]:
    """Serve the Cloud Storage double with a bucket; yields its address."""
    with cloud_storage.serving(BUCKET) as address:
        yield address


@pytest.fixture(autouse=True)
def _clouds(s3: str, gcs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["folder", "relative folder", "s3", "gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return an empty workspace of each kind."""
    match request.param:
        case "folder":
            return open_store(str(tmp_path / "workspace"))
        case "relative folder":
            monkeypatch.chdir(tmp_path)
            return open_store("workspace")
        case scheme:
            return open_store(f"{scheme}://{BUCKET}/team/{next(_prefixes)}")


def test_an_object_comes_back_as_it_was_put(store: Store) -> None:
    """Bytes that no text has are read back, with the version that the write returned."""
    version = store.put("journal/reviews/1.json", b"\x00\xff{}")

    found = store.get("journal/reviews/1.json")

    assert found is not None
    assert (found.data, found.version) == (b"\x00\xff{}", version)


def test_what_is_not_there_is_none(store: Store) -> None:
    """An object that nobody wrote is None, and deleting it is no error."""
    store.delete("leases/reviews.json")

    assert store.get("leases/reviews.json") is None


def test_an_object_is_created_once(store: Store) -> None:
    """The second create is told None and changes nothing."""
    first = store.create("leases/reviews.json", b"mine")
    second = store.create("leases/reviews.json", b"yours")

    found = store.get("leases/reviews.json")
    assert first is not None
    assert second is None
    assert found is not None
    assert found.data == b"mine"


def test_an_object_is_replaced_only_at_the_version_that_was_read(store: Store) -> None:
    """Of two writers that read the same version, the second is told None and changes nothing."""
    version = store.put("leases/reviews.json", b"0")

    first = store.replace("leases/reviews.json", b"1", version)
    second = store.replace("leases/reviews.json", b"2", version)

    found = store.get("leases/reviews.json")
    assert found is not None
    assert (found.data, found.version) == (b"1", first)
    assert second is None


def test_what_was_deleted_can_not_be_replaced(store: Store) -> None:
    """A replace after a delete is told None and does not bring the object back."""
    version = store.put("leases/reviews.json", b"0")
    store.delete("leases/reviews.json")

    assert store.replace("leases/reviews.json", b"1", version) is None
    assert store.get("leases/reviews.json") is None


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", ["journal/a/1.json", "journal/a/2.json", "journal/ab/1.json", "leases/a.json"]),
        ("journal/a/", ["journal/a/1.json", "journal/a/2.json"]),
        ("journal/a", ["journal/a/1.json", "journal/a/2.json", "journal/ab/1.json"]),
        ("journal/a/2", ["journal/a/2.json"]),
        ("revisions/", []),
    ],
)
def test_a_list_has_what_begins_with_the_prefix_in_order(store: Store, prefix: str, expected: list[str]) -> None:
    """A prefix need not end at a slash, and no object outside of it is listed."""
    for path in ("leases/a.json", "journal/ab/1.json", "journal/a/2.json", "journal/a/1.json"):
        store.put(path, b"{}")

    assert list(store.list(prefix)) == expected


def test_a_list_of_a_workspace_that_nobody_wrote_to_is_empty(store: Store) -> None:
    """Nothing there is no error, whether or not the folder exists."""
    assert list(store.list("journal/")) == []


def test_a_list_is_whole_beyond_one_page(store: Store) -> None:
    """More objects than S3 lists at once (1000) are all listed."""
    paths = [f"journal/reviews/{number:06d}.json" for number in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: store.put(path, b"{}"), paths))

    assert list(store.list("journal/reviews/")) == paths


def test_a_check_leaves_nothing_behind(store: Store) -> None:
    """A workspace that can be written passes, and is as it was."""
    store.check()

    assert list(store.list("")) == []


def test_opening_a_workspace_loads_no_cloud_library() -> None:
    """The command line starts without paying for obstore or boto3, whatever the workspace is."""
    code = (
        "import sys; from mlscale.state.store import open_store; open_store('s3://b/p'); open_store('gs://b/p');"
        "open_store('f'); print([each for each in ('obstore', 'boto3') if each in sys.modules])"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("url", ["azure://bucket/prefix", "s3://", "gs:///prefix", "https://example.com/x"])
def test_an_unknown_kind_of_workspace_is_refused(url: str) -> None:
    """A URL that names no folder and no bucket is the user's mistake, told before anything is read."""
    with pytest.raises(UsageError, match="no known kind"):
        open_store(url)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_missing_bucket_is_not_a_missing_object(scheme: str) -> None:
    """Every call on a bucket that is not there says so: absent would mean that nothing was ever deployed."""
    missing = open_store(f"{scheme}://no-such-bucket/prefix")

    for call in (
        lambda: missing.get("a"),
        lambda: missing.put("a", b""),
        lambda: missing.create("a", b""),
        lambda: missing.list("a/"),
        missing.check,
    ):
        with pytest.raises(WorkspaceFailed, match="bucket does not exist") as caught:
            call()
        assert "create it" in caught.value.hint


def test_a_bucket_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is an error with a hint, never an empty workspace."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    with pytest.raises(WorkspaceFailed, match="can't be reached") as caught:
        open_store(f"s3://{BUCKET}/prefix").get("a")

    assert "network" in caught.value.hint


def test_credentials_come_from_the_profile_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys in the environment those of the user's AWS profile are used, as every AWS tool does."""
    file = tmp_path / "credentials"
    file.write_text("[team]\naws_access_key_id = test\naws_secret_access_key = test\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_PROFILE", "team")
    store = open_store(f"s3://{BUCKET}/profile")

    store.put("a", b"1")

    assert list(store.list("")) == ["a"]


def test_no_credentials_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without credentials is told so, with the exit code for it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(WrongCredentials) as caught:
        open_store(f"s3://{BUCKET}/prefix").get("a")

    assert caught.value.exit_code == 9


def test_refused_credentials_are_an_error_of_their_own() -> None:
    """What the service refuses is not called a broken workspace."""
    from obstore.exceptions import PermissionDeniedError

    error = bucket_failure("s3://acme/x", PermissionDeniedError("403 Forbidden\n\nDebug source:\nlong"))

    assert isinstance(error, WrongCredentials)
    assert error.why == "s3://acme/x: 403 Forbidden"


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "ExpiredToken", "The provided token has expired."),
        (401, "AuthenticationRequired", "Authentication required."),
    ],
)
def test_credentials_that_have_expired_are_told_in_the_service_s_words(status: int, code: str, message: str) -> None:
    """S3 says so with 400, Cloud Storage at a list with 401: obstore has no type for them there. Only that is told."""
    from obstore.exceptions import GenericError

    said = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    error = bucket_failure("s3://acme/x", GenericError(f"Error performing PUT http://a/b in 1ms - {status}: {said}"))

    assert isinstance(error, WrongCredentials)
    assert error.why == f"s3://acme/x: {code}: {message}"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("Server returned non-2xx status code: 503 Service Unavailable: <Error><Code>SlowDown</Code></Error>", 8),
        ("Server returned non-2xx status code: 429 Too Many Requests: ", 8),
        ("Server returned non-2xx status code: 501 Not Implemented: ", 1),
        ("HTTP error: error sending request", 8),
        ("Server returned non-2xx status code: 400 Bad Request: ", 1),
    ],
)
def test_a_service_that_is_busy_is_no_failure_for_good(said: str, code: int) -> None:
    """Where obstore tried again in vain, a later run may work; the exit code says which of both it is."""
    from obstore.exceptions import GenericError

    error = bucket_failure("s3://acme/x", GenericError(f"Error performing PUT in 1ms, after 3 retries - {said}"))

    assert (type(error), error.exit_code) == (WorkspaceFailed, code)


def test_a_full_disk_is_told_with_what_to_do() -> None:
    """ENOSPC names the file and the way out."""
    full = OSError(28, "No space left on device", "/data/leases/.writing")

    error = folder_failure(Path("/data"), full)

    assert (error.what, error.why) == ("the disk is full", "/data/leases/.writing: No space left on device")
    assert "free some space" in error.hint


def test_a_file_that_grows_past_the_limit_leaves_the_old_one(tmp_path: Path) -> None:
    """A write that the system cuts short is an error, and a reader still sees what was there before."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from mlscale.errors import WorkspaceFailed; from mlscale.state.store import open_store\n"
        "try: open_store(sys.argv[1]).put('a/b.json', b'x' * 5000)\n"
        "except WorkspaceFailed as error: print(error.why)"
    )
    store = open_store(str(tmp_path))
    store.put("a/b.json", b"old")

    said = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout

    found = store.get("a/b.json")
    assert "File too large" in said
    assert found is not None
    assert found.data == b"old"
    assert [each.name for each in (tmp_path / "a").iterdir()] == ["b.json"]


def test_a_workspace_where_a_file_stands_is_told(tmp_path: Path) -> None:
    """A path that is no folder is an error with a hint, not a traceback."""
    (tmp_path / "workspace").write_text("")

    with pytest.raises(WorkspaceFailed) as caught:
        open_store(str(tmp_path / "workspace")).check()

    assert "--workspace" in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_workspace_that_is_not_writable_is_told(tmp_path: Path) -> None:
    """A folder without permission is an error with a hint."""
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)

    with pytest.raises(WorkspaceFailed, match="can't be read or written"):
        open_store(str(tmp_path / "workspace")).check()


def test_a_denied_path_is_told_with_what_to_do() -> None:
    """EACCES, which root never meets, names the path and the way out."""
    error = folder_failure(Path("/data"), PermissionError(13, "Permission denied", "/data/.lock"))

    assert (error.what, error.why) == ("the workspace can't be read or written", "/data/.lock: Permission denied")


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """While one thread writes long objects in turn, another reads only whole ones."""
    store = open_store(str(tmp_path))
    bodies = {bytes([letter]) * 200_000 for letter in b"ab"}
    store.put("a", min(bodies))

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [store.put("a", body) for _ in range(20) for body in bodies])
        seen = set()
        while not writing.done():
            found = store.get("a")
            seen.add(found.data if found else b"")

    assert seen <= bodies


def test_no_increment_is_lost_between_processes_and_threads(tmp_path: Path) -> None:
    """Four processes with four threads each count up by conditional replace; every step is there at the end."""
    code = (
        "import sys, threading; from mlscale.state.store import open_store\n"
        "def up():\n"
        "    store = open_store(sys.argv[1])\n"
        "    for _ in range(10):\n"
        "        while True:\n"
        "            found = store.get('n')\n"
        "            if store.replace('n', str(int(found.data) + 1).encode(), found.version): break\n"
        "threads = [threading.Thread(target=up) for _ in range(4)]\n"
        "[each.start() for each in threads]; [each.join() for each in threads]"
    )
    store = open_store(str(tmp_path))
    store.put("n", b"0")

    running = [subprocess.Popen([sys.executable, "-c", code, tmp_path]) for _ in range(4)]
    codes = [each.wait(60) for each in running]

    found = store.get("n")
    assert codes == [0, 0, 0, 0]
    assert found is not None
    assert found.data == b"160"


def test_of_many_creators_one_wins(tmp_path: Path) -> None:
    """Sixteen threads create the same object; exactly one is told a version."""
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda n: open_store(str(tmp_path)).create("a", str(n).encode()), range(16)))

    assert len([each for each in told if each is not None]) == 1
