"""Two commands on one deployment at the same time, as real processes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT, Cli


def slow_to_load(cli: Cli, seconds: float, version: int) -> None:
    """Make a new version of the model that takes a while to load."""
    code = (ROOT / "templates" / "custom" / "inference.py").read_text()
    slow = f"{code}\nimport time\n\ntime.sleep({seconds})\nVERSION = {version}\n"
    (cli.folder / "inference.py").write_text(slow)


@contextmanager
def deploying(cli: Cli) -> Iterator[subprocess.Popen[str]]:
    """Run a deploy, from the moment that it holds the lease; it is killed if it still runs at the end."""
    with cli.start("deploy", "--output", "jsonl") as run:
        try:
            assert run.stdout is not None
            for line in run.stdout:
                if json.loads(line).get("event", {}).get("kind") == "run_started":
                    break
            yield run
        finally:
            run.kill()


def test_one_deploys_and_the_other_is_told_who(custom: Cli) -> None:
    """The second exits with 6 and names the first; one that may wait gets in after it and finds nothing to do."""
    slow_to_load(custom, 3, 1)
    with deploying(custom) as first, custom.start("deploy", "--lease-timeout", "75s", "--output", "json") as patient:
        second = custom.run("deploy")
        waited, words = patient.communicate(timeout=60)
        first.communicate(timeout=60)

    assert second.returncode == 6
    assert f"process {first.pid}" in second.stderr
    assert "--lease-timeout 75s" in second.stderr
    assert first.returncode == 0
    assert patient.returncode == 0, words
    assert json.loads(waited)["outcome"] == "unchanged"
    supervisors = Path("/proc").glob("[0-9]*/cmdline")
    assert sum(_supervises(each, custom.folder) for each in supervisors) == 1


def test_a_killed_holder_is_not_waited_for(custom: Cli) -> None:
    """After SIGKILL of the run that holds the lease the next one gets in at once, without --lease-timeout."""
    slow_to_load(custom, 30, 1)
    with deploying(custom) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        slow_to_load(custom, 0, 2)

        after = custom.run("deploy")

    assert after.returncode == 0, after.stderr
    assert "which was cut off" in after.stderr


def _supervises(cmdline: Path, folder: Path) -> bool:
    try:
        command = cmdline.read_bytes()
    except OSError:
        return False
    return b"mlscale.providers.local.supervisor" in command and str(folder).encode() in command
