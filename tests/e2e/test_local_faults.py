"""What goes wrong on this machine, and what is then said and done about it."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import time
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import ROOT, Cli
from tests.e2e.conftest import processes_of
from tests.e2e.deployed import change_spec, home, load, new_version, observed, replicas, status, until


def test_a_missing_model_is_told_before_anything_starts(custom: Cli) -> None:
    """A model file that is not there is a usage error that names it; nothing is made."""
    shutil.rmtree(custom.folder / "model")

    failed = custom.run("deploy")

    assert failed.returncode == 2
    assert f"{custom.folder}/model" in failed.stderr.replace("\n", "")
    assert not home(custom).exists()


def test_a_first_model_that_does_not_load_leaves_nothing(custom: Cli) -> None:
    """When the first deploy can't load its model, the error has the last log lines and nothing stays behind."""
    handler = custom.folder / "inference.py"
    handler.write_text(handler.read_text() + "\nraise RuntimeError('no weights here')\n")

    failed = custom.run("deploy")

    assert failed.returncode == 1
    assert "no weights here" in failed.stderr
    assert "mlscale/cli" not in failed.stderr, "the traceback is the model's own"
    assert not home(custom).exists()
    assert not processes_of(custom.folder)
    assert "nothing is deployed" in custom.run("status").stderr


def test_a_package_that_is_missing_is_named_with_what_to_do(custom: Cli) -> None:
    """A handler that imports what is not installed gets the hint to add it to requirements.txt."""
    handler = custom.folder / "inference.py"
    handler.write_text("import a_package_that_is_not_there\n" + handler.read_text())

    failed = custom.run("deploy")

    assert failed.returncode == 1
    assert "add a_package_that_is_not_there to requirements.txt" in " ".join(failed.stderr.split())


def test_a_taken_port_is_told_and_leaves_nothing(custom: Cli) -> None:
    """A first deploy to a port that somebody has fails with the port's name, and takes everything back."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        change_spec(custom, {"local.port": port})

        failed = custom.run("deploy")

    assert failed.returncode == 1
    assert f"127.0.0.1:{port} can't be used: Address already in use" in " ".join(failed.stderr.split())
    assert not home(custom).exists()


def test_the_old_port_goes_on_when_the_new_one_is_taken(custom: Cli) -> None:
    """A change to a taken port is taken back: exit code 4, the port is named, and the old one serves as before."""
    assert custom.run("deploy").returncode == 0
    before = status(custom)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        change_spec(custom, {"local.port": taken.getsockname()[1]})

        failed = custom.run("deploy", "--yes")

    assert failed.returncode == 4
    assert "can't be used" in failed.stderr
    after = status(custom)
    assert (after["address"], after["phase"]) == (before["address"], "steady")
    assert custom.run("invoke", "--file", "request.json").returncode == 0


def test_a_port_can_be_changed(custom: Cli) -> None:
    """After a change of the port the new one answers, the old one does not, and the replica is the same process."""
    assert custom.run("deploy").returncode == 0
    before, pid = status(custom)["address"], replicas(custom)[0].pid
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    change_spec(custom, {"local.port": port})

    assert custom.run("deploy", "--yes").returncode == 0

    assert status(custom)["address"] == f"http://127.0.0.1:{port}" != before
    assert custom.run("invoke", "--file", "request.json").returncode == 0
    assert replicas(custom)[0].pid == pid
    old = int(before.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", old), timeout=2):
        pass


@pytest.mark.parametrize(
    ("host", "address"), [("localhost", "localhost"), ("::1", "[::1]"), ("127.0.0.2", "127.0.0.2")]
)
def test_a_host_can_be_changed_on_the_same_port(custom: Cli, host: str, address: str) -> None:
    """Another loopback address takes the port over, even the same by another name; a foreign one changes nothing."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    change_spec(custom, {"local.port": port})
    assert custom.run("deploy").returncode == 0
    change_spec(custom, {"local.host": host})

    changed = custom.run("deploy", "--yes")

    assert changed.returncode == 0, changed.stderr
    assert status(custom)["address"] == f"http://{address}:{port}"
    assert custom.run("invoke", "--file", "request.json").returncode == 0
    change_spec(custom, {"local": {"host": "192.0.2.1", "port": port, "allow_remote": True}})
    assert custom.run("deploy", "--yes").returncode == 4
    assert status(custom)["address"] == f"http://{address}:{port}"
    assert custom.run("invoke", "--file", "request.json").returncode == 0


def test_a_supervisor_that_hangs_is_told_and_replaced(custom: Cli) -> None:
    """A stopped supervisor is silent, and `deploy` ends it and starts another on the same port, with one replica."""
    assert custom.run("deploy").returncode == 0
    before, hung = status(custom), observed(custom).pid
    os.kill(hung, signal.SIGSTOP)
    until(lambda: "is silent for" in custom.run("status").stdout, within_s=20)

    assert custom.run("deploy").returncode == 0

    after = status(custom)
    assert (after["address"], after["phase"]) == (before["address"], "steady")
    assert observed(custom).pid != hung
    servers = [each for each in processes_of(custom.folder).values() if "mlscale" in each]
    assert len(servers) == 2, servers


def test_a_supervisor_that_beats_again_is_left_alone(custom: Cli) -> None:
    """An old beat alone, as after a machine's sleep, ends nobody: the supervisor beats again and stays."""
    assert custom.run("deploy").returncode == 0
    pid = observed(custom).pid
    os.kill(pid, signal.SIGSTOP)
    until(lambda: "is silent for" in custom.run("status").stdout, within_s=20)
    with custom.start("deploy") as healing:
        time.sleep(0.5)
        os.kill(pid, signal.SIGCONT)
        said = healing.communicate(timeout=60)

    assert healing.returncode == 0, said
    assert observed(custom).pid == pid


def test_a_replica_killed_under_load_fails_no_request(custom: Cli) -> None:
    """With two replicas, killing one again and again under load fails no request, and each is started anew."""
    change_spec(custom, {"endpoint.replicas": 2, "endpoint.autoscaling": {}})
    assert custom.run("deploy").returncode == 0

    with load(status(custom)["address"], per_second=60) as answers:
        for turn in range(3):
            victim = replicas(custom)[turn % 2].pid
            os.kill(victim, signal.SIGKILL)
            until(partial(_have_restarted, custom, turn + 1))

    assert answers.failures == []
    assert answers.slowest_s < 10
    assert [each.restarts for each in replicas(custom)] == [2, 1]


def test_the_only_replica_killed_under_load_hangs_no_request(custom: Cli) -> None:
    """With one replica, requests wait for its next start: each is answered, none is lost."""
    assert custom.run("deploy").returncode == 0

    with load(status(custom)["address"], per_second=20) as answers:
        victim = replicas(custom)[0].pid
        os.kill(victim, signal.SIGKILL)
        until(lambda: replicas(custom)[0].pid != victim and replicas(custom)[0].health == "healthy")

    assert answers.failures == []


def test_a_replica_that_hangs_is_replaced(custom: Cli) -> None:
    """A stopped replica fails its checks and another process takes its place; the other one serves on."""
    change_spec(custom, {"endpoint.replicas": 2, "endpoint.autoscaling": {}})
    assert custom.run("deploy").returncode == 0
    hung = replicas(custom)[0].pid
    os.kill(hung, signal.SIGSTOP)

    until(lambda: replicas(custom)[0].pid != hung and replicas(custom)[0].health == "healthy", within_s=40)

    assert hung not in processes_of(custom.folder)
    assert status(custom)["phase"] == "steady"
    assert custom.run("invoke", "--file", "request.json").returncode == 0


def test_a_crash_loop_backs_off_and_is_told(custom: Cli) -> None:
    """A model that ends soon after each start is started at growing intervals; `status` says why it is down."""
    handler = custom.folder / "inference.py"
    crash = f"""
if Path({str(custom.folder / "crash")!r}).exists():
    raise SystemExit("out of luck")
"""
    handler.write_text(handler.read_text() + crash)
    assert custom.run("deploy").returncode == 0
    (custom.folder / "crash").touch()
    os.kill(replicas(custom)[0].pid, signal.SIGKILL)

    until(lambda: replicas(custom)[0].restarts >= 3 and replicas(custom)[0].health == "backing_off")

    told = custom.run("status")
    assert told.returncode == 1
    assert "out of luck" in " ".join(told.stdout.split())
    assert "backing_off" in told.stdout
    healing = custom.run("deploy")
    assert healing.returncode == 1
    assert "does not start" in healing.stderr
    assert "out of luck" in healing.stderr
    (custom.folder / "crash").unlink()
    until(lambda: replicas(custom)[0].health == "healthy", within_s=30)
    assert status(custom)["phase"] == "steady"


def test_files_deleted_by_hand_are_told_and_put_back(custom: Cli) -> None:
    """A revision without its folder does not end the supervisor; `status` says so, `deploy` puts the files back."""
    assert custom.run("deploy").returncode == 0
    supervisor = observed(custom).pid
    shutil.rmtree(home(custom) / "revisions")
    os.kill(replicas(custom)[0].pid, signal.SIGKILL)
    until(lambda: "its files are gone" in replicas(custom)[0].detail)

    told = custom.run("status")
    assert told.returncode == 1
    assert "are gone" in told.stdout
    assert custom.run("deploy").returncode == 0

    assert status(custom)["phase"] == "steady"
    assert observed(custom).pid == supervisor
    assert custom.run("plan", "--detailed-exitcode").returncode == 0


def test_a_record_that_makes_no_sense_stops_nothing(custom: Cli) -> None:
    """A record broken by hand is an error that names it, and what serves goes on."""
    assert custom.run("deploy").returncode == 0
    address = status(custom)["address"]
    record = home(custom) / "desired.json"
    whole = record.read_text()
    record.write_text("{not json")

    told = custom.run("status")
    with load(address, per_second=50) as answers:
        time.sleep(0.5)

    assert told.returncode == 1
    assert "a record of the deployment can't be read" in told.stderr
    assert "Traceback" not in told.stderr
    assert answers.failures == []
    record.write_text(whole)
    until(lambda: status(custom)["phase"] == "steady")


def test_two_deployments_live_in_one_folder(custom: Cli) -> None:
    """Two specs side by side are two deployments: taking one down leaves the other as it was."""
    second = (custom.folder / "spec.yaml").read_text().replace("name: centroids", "name: others")
    (custom.folder / "second").mkdir()
    other = custom.folder / "others.yaml"
    other.write_text(second)
    assert custom.run("deploy", "spec.yaml", "others.yaml").returncode == 0
    listed = json.loads(custom.run("list", "--output", "json").stdout)
    addresses = {status(custom, each)["address"] for each in ("spec.yaml", "others.yaml")}

    assert custom.run("destroy", "spec.yaml", "--yes").returncode == 0

    assert len(addresses) == 2
    assert len(listed["deployments"]) == 2
    assert status(custom, "others.yaml")["phase"] == "steady"
    assert custom.run("destroy", "others.yaml", "--yes").returncode == 0


def test_an_archive_that_writes_outside_is_refused(custom: Cli) -> None:
    """A tar with `../` in it is refused at plan, with the member's name; nothing is written."""
    with tarfile.open(custom.folder / "model.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("../escaped.txt")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"out"))
    change_spec(custom, {"model.source": "model.tar.gz"})

    failed = custom.run("plan")

    assert failed.returncode == 2
    assert "would write outside its folder" in failed.stderr
    assert "../escaped.txt" in failed.stderr
    assert not list(custom.folder.parent.rglob("escaped.txt"))


def test_a_pickle_from_outside_is_warned_of(custom: Cli) -> None:
    """A pickle in an archive, or beside the project, is told in the plan as code that somebody else chose."""
    (custom.folder / "model" / "weights.pkl").write_bytes(b"")
    with tarfile.open(custom.folder / "model.tar.gz", "w:gz") as archive:
        archive.add(custom.folder / "model", ".")
    change_spec(custom, {"model.source": "model.tar.gz"})

    planned = custom.run("plan")

    assert "weights.pkl" in planned.stdout
    assert "is a pickle from outside" in " ".join(planned.stdout.split())


def test_a_workspace_that_can_not_be_written_is_told(custom: Cli) -> None:
    """Without the right to write beside the spec, `deploy` names the folder and leaves nothing."""
    bound = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if bound and not shutil.which(bound[0]):
        pytest.skip("root may write everywhere, and there is no setpriv to take that away")
    custom.folder.chmod(0o555)

    failed = subprocess.run(
        [*bound, *custom.command("deploy")],
        cwd=custom.folder,
        env=custom.environment(None),
        capture_output=True,
        text=True,
        check=False,
    )
    custom.folder.chmod(0o755)

    assert failed.returncode == 1
    assert ".mlscale" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (custom.folder / ".mlscale").exists()


def test_a_full_disk_is_told_and_the_old_revision_serves(custom: Cli) -> None:
    """With no room for the new files `deploy` says so, exits 4 or 7, and what served serves."""
    allowed = subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True)
    if allowed.returncode:
        pytest.skip("this machine lets nobody mount a small disk (unshare -Urm)")
    script = """
set -eu
mkdir small
mount -t tmpfs -o size=3m none small
cp -r inference.py model request.json spec.yaml small/
cd small
mlscale deploy >&2
head -c 1000000 /dev/urandom > model/large.bin
head -c 100000000 /dev/zero > filling 2>/dev/null || true
code=0
mlscale deploy 2> ../said || code=$?
echo "code $code"
cat ../said
rm filling
mlscale invoke --file request.json
mlscale destroy --yes
"""
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script],
        cwd=custom.folder,
        env=custom.environment({"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done
    assert "No space left" in done.stdout
    assert "Traceback" not in done.stdout
    assert done.stdout.startswith("code 4") or done.stdout.startswith("code 1")
    assert "setosa" in done.stdout


def test_the_callers_files_are_not_held_open(custom: Cli) -> None:
    """A pipe that the caller gave the command, as a CI runner does, ends with the command."""
    reading, writing = os.pipe()
    with subprocess.Popen(
        custom.command("deploy"),
        cwd=custom.folder,
        env=custom.environment(None),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(writing,),
    ) as deploying:
        os.close(writing)
        assert deploying.wait(60) == 0
    os.set_blocking(reading, False)

    assert os.read(reading, 1) == b""

    os.close(reading)


def test_a_models_environment_is_kept_from_others(custom: Cli) -> None:
    """The model's variables may be secrets: no other user can read the folder that has them."""
    change_spec(custom, {"model.environment": {"TOKEN": "not-for-you"}})
    assert custom.run("deploy").returncode == 0

    holding = [each for each in home(custom).rglob("*") if each.is_file() and b"not-for-you" in each.read_bytes()]

    assert holding
    assert stat.S_IMODE(home(custom).stat().st_mode) == 0o700
    assert stat.S_IMODE(next(home(custom).rglob("revision.json")).stat().st_mode) == 0o600


def test_destroy_ends_a_supervisor_that_hangs(custom: Cli) -> None:
    """`destroy` leaves no process and no folder of a deployment whose supervisor and replica hang."""
    assert custom.run("deploy").returncode == 0
    os.kill(replicas(custom)[0].pid, signal.SIGSTOP)
    os.kill(observed(custom).pid, signal.SIGSTOP)

    assert custom.run("destroy", "--yes").returncode == 0

    assert not processes_of(custom.folder)
    assert not home(custom).exists()


def test_a_replica_wanted_no_more_while_it_starts_is_ended(custom: Cli) -> None:
    """A revision taken back in the moment of its start leaves no process behind."""
    assert custom.run("deploy").returncode == 0
    new_version(custom, "SETOSA")
    with custom.start("deploy") as deploying:
        until(lambda: len(observed(custom).revisions) == 2, within_s=30)
        deploying.kill()
        deploying.communicate()
    shutil.copyfile(ROOT / "templates" / "custom" / "inference.py", custom.folder / "inference.py")

    assert custom.run("deploy").returncode == 0

    assert len([each for each in processes_of(custom.folder).values() if "serving.server" in each]) == 1
    assert len(observed(custom).revisions) == 1


def _have_restarted(cli: Cli, times: int) -> bool:
    """All replicas are healthy, after so many starts again."""
    found = replicas(cli)
    return sum(each.restarts for each in found) == times and all(each.health == "healthy" for each in found)
