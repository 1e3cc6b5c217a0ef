"""A model's own environment: made once, ended with the run, shared between revisions, deleted with the last of them.

The installer is a stand-in on PATH by the name of uv: it makes an environment that sees this one's packages, and takes
as long as the requirements tell it to (`# takes SECONDS`), writing into the environment all the while.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
import time

import pytest

from tests.conftest import Cli
from tests.e2e.conftest import processes_of
from tests.e2e.deployed import change_spec, home, new_version, status, until

UV = f"""#!{sys.executable}
import pathlib, re, subprocess, sys, time
words = sys.argv[1:]
if words[0] == "venv":
    folder = pathlib.Path(words[-1])
    subprocess.run([{sys.executable!r}, "-m", "venv", "--without-pip", folder], check=True)
    place = next(folder.glob("lib/*/site-packages"))
    (place / "outer.pth").write_text({sysconfig.get_path("purelib")!r})
else:
    folder = pathlib.Path(words[words.index("--python") + 1]).parent.parent
    requirements = pathlib.Path(words[-1]).read_text()
    with pathlib.Path({{calls!r}}).open("a") as calls:
        calls.write(folder.name + "\\n")
    if "refuse" in requirements:
        sys.exit("error: there is no such package")
    if "full" in requirements:
        sys.exit("error: failed to write: No space left on device (os error 28)")
    for number in range(int(10 * float(re.search("takes ([0-9.]+)", requirements)[1]))):
        (folder / f"part-{{{{number}}}}").write_text("")
        time.sleep(0.1)
"""


@pytest.fixture
def own(custom: Cli) -> Cli:
    """The template `custom` with requirements of its own, and the stand-in for uv on PATH."""
    binaries = custom.folder / "bin"
    binaries.mkdir()
    (binaries / "uv").write_text(UV.format(calls=str(custom.folder / "calls")))
    (binaries / "uv").chmod(0o755)
    (custom.folder / "requirements.txt").write_text("# takes 0\n")
    change_spec(custom, {"model.requirements": "requirements.txt"})
    return custom


def test_replicas_run_in_an_environment_of_their_own(own: Cli) -> None:
    """A model with requirements is served by a Python in the deployment's folder, made once for two revisions."""
    assert own.run("deploy", env=_path(own)).returncode == 0
    new_version(own, "SETOSA")
    assert own.run("deploy", env=_path(own)).returncode == 0

    assert "SETOSA" in own.run("invoke", "--file", "request.json").stdout
    assert len(_calls(own)) == 1
    commands = [command for command in processes_of(own.folder).values() if "serving.server" in command]
    assert len(commands) == 1
    assert commands[0].startswith(f"{home(own)}/environments/{_calls(own)[0]}/bin/python ")


def test_an_environment_goes_with_its_last_revision(own: Cli) -> None:
    """Garbage collection deletes the environment and the logs of revisions that are not kept, and no other."""
    change_spec(own, {"rollout.keep_revisions": 1})
    assert own.run("deploy", env=_path(own)).returncode == 0
    first = status(own)["revisions"][0]["revision"]["id"]
    (own.folder / "requirements.txt").write_text("# takes 0.1\n")

    assert own.run("deploy", env=_path(own)).returncode == 0

    second = status(own)["revisions"][0]["revision"]["id"]
    assert [each.name for each in (home(own) / "environments").iterdir()] == _calls(own)[1:]
    assert [each.name for each in (home(own) / "revisions").iterdir()] == [second]
    assert {each.name.partition("-")[0] for each in (home(own) / "logs").iterdir()} == {second}
    assert first != second


def test_destroy_deletes_the_environments(own: Cli) -> None:
    """Nothing of an environment stays when its deployment is destroyed."""
    assert own.run("deploy", env=_path(own)).returncode == 0

    assert own.run("destroy", "--yes").returncode == 0

    assert not list(own.folder.rglob("environments"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_installer(own: Cli, number: signal.Signals, code: int) -> None:
    """Ctrl-C during a long installation ends it within seconds, and the next run makes it whole."""
    (own.folder / "requirements.txt").write_text("# takes 60\n")
    with own.start("deploy", env=_path(own)) as deploying:
        until(lambda: bool(_calls(own)))
        begun = time.monotonic()
        deploying.send_signal(number)
        _, said = deploying.communicate(timeout=30)

    assert deploying.returncode == code, said
    assert time.monotonic() - begun < 10
    assert not [each for each in processes_of(own.folder).values() if "bin/uv" in each]
    (own.folder / "requirements.txt").write_text("# takes 0\n")
    assert own.run("deploy", env=_path(own)).returncode == 0


def test_our_time_limit_ends_the_installer(own: Cli) -> None:
    """`--timeout 2s` holds during a long installation: exit code 8, and no installer runs on."""
    (own.folder / "requirements.txt").write_text("# takes 60\n")

    done = own.run("deploy", "--timeout", "2s", env=_path(own))

    assert done.returncode == 8, done.stderr
    assert not [each for each in processes_of(own.folder).values() if "bin/uv" in each]


def test_a_killed_run_leaves_an_installer_that_the_next_one_ends(own: Cli) -> None:
    """After SIGKILL of `deploy` the installer runs on; the next run ends it and makes the environment whole."""
    requirements = own.folder / "requirements.txt"
    requirements.write_text("# takes 30\n")
    with own.start("deploy", env=_path(own)) as deploying:
        until(lambda: bool(_calls(own)))
        deploying.kill()
        deploying.communicate()
    assert [each for each in processes_of(own.folder).values() if "bin/uv" in each]
    requirements.write_text("# takes 0.3\n")

    begun = time.monotonic()
    healed = own.run("deploy", env=_path(own))

    assert healed.returncode == 0, healed.stderr
    assert time.monotonic() - begun < 25
    assert not [each for each in processes_of(own.folder).values() if "bin/uv" in each]


def test_destroy_ends_an_installer_that_was_left_behind(own: Cli) -> None:
    """After SIGKILL of a second `deploy`, `destroy` ends its installer, and nothing is written after it."""
    assert own.run("deploy", env=_path(own)).returncode == 0
    (own.folder / "requirements.txt").write_text("# takes 30\n")
    with own.start("deploy", env=_path(own)) as deploying:
        until(lambda: len(_calls(own)) == 2)
        deploying.kill()
        deploying.communicate()

    assert own.run("destroy", "--yes").returncode == 0

    assert not processes_of(own.folder)
    assert not home(own).exists()


def test_what_can_not_be_installed_is_told(own: Cli) -> None:
    """The installer's own words are in the error, the old revision serves, and no half of it stays."""
    assert own.run("deploy", env=_path(own)).returncode == 0
    (own.folder / "requirements.txt").write_text("refuse\n")

    failed = own.run("deploy", env=_path(own))

    assert failed.returncode == 4
    assert "there is no such package" in failed.stderr
    assert "requirements.txt" in failed.stderr
    assert len(list((home(own) / "revisions").iterdir())) == 1
    assert own.run("invoke", "--file", "request.json").returncode == 0


def test_a_disk_that_fills_up_while_installing_is_told(own: Cli) -> None:
    """An installer without room is missing capacity: exit code 7 when nothing was there before."""
    (own.folder / "requirements.txt").write_text("full\n")

    failed = own.run("deploy", env=_path(own))

    assert failed.returncode == 7
    assert "the disk is full" in failed.stderr


def test_an_index_that_does_not_answer_is_told(custom: Cli) -> None:
    """Without a network the real installer's words are told in the end, with what to look at."""
    (custom.folder / "requirements.txt").write_text("a-package-that-is-not-there==1.0\n")
    change_spec(custom, {"model.requirements": "requirements.txt"})
    nowhere = "http://127.0.0.1:9/simple"

    failed = custom.run(
        "deploy", env={"UV_INDEX_URL": nowhere, "PIP_INDEX_URL": nowhere, "PIP_RETRIES": "0", "UV_HTTP_RETRIES": "0"}
    )

    assert failed.returncode == 1
    assert "the model's environment can't be made" in failed.stderr
    assert "index can be reached" in " ".join(failed.stderr.split())
    assert not home(custom).exists()


@pytest.mark.parametrize("line", ["-r base.txt", "-e .", "./wheels/one.whl", "mine @ file:///srv/mine.whl"])
def test_requirements_that_name_other_files_are_refused(own: Cli, line: str) -> None:
    """What a requirements file takes from elsewhere on this machine would change unseen: `plan` says so."""
    (own.folder / "requirements.txt").write_text(f"numpy\n{line}\n")

    refused = own.run("plan")

    assert refused.returncode == 1
    assert line in " ".join(refused.stderr.split())
    assert "model.requirements" in refused.stderr


def test_an_environment_deleted_by_hand_is_made_again(own: Cli) -> None:
    """Without its environment a revision has failed, and `deploy` makes it anew."""
    assert own.run("deploy", env=_path(own)).returncode == 0
    for each in sorted((home(own) / "environments").rglob("*"), reverse=True):
        each.unlink() if each.is_symlink() or each.is_file() else each.rmdir()
    assert own.run("status").returncode == 1

    assert own.run("deploy", env=_path(own)).returncode == 0

    assert status(own)["phase"] == "steady"
    assert len(_calls(own)) == 2


def _path(own: Cli) -> dict[str, str]:
    return {"PATH": f"{own.folder / 'bin'}:{os.environ['PATH']}"}


def _calls(own: Cli) -> list[str]:
    """Return the environments that the installer was called for, in order."""
    path = own.folder / "calls"
    return path.read_text().split() if path.exists() else []
