"""SIGKILL of `mlscale` at every change that it makes on this machine: the same command again converges."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlscale.deployment import WHOLE, Deployment
from mlscale.engine import plans
from mlscale.engine import session as sessions
from mlscale.state.journal import unfinished
from tests.conftest import ROOT, Cli
from tests.e2e.conftest import processes_of
from tests.e2e.sagemaker.conftest import POINTS, RECOVERED

SPEC = """\
version: 1
name: reviews
provider: local
model: {source: model, framework: custom, handler: inference.py}
rollout: {strategy: blue_green, keep_revisions: 2}
"""

PARTS = 4
"""Each walk is cut into parts that can run side by side."""

LEAST_POINTS = 9

ROUNDS = 6
"""How often a rollout is killed in each part; the changes at which it is are spread evenly over all of them."""

CANARY, MORE = ("rollout", "--canary", "10"), ("rollout", "--canary", "50")
ENDS = (("rollout", "promote", "--full"), ("rollout", "abort"))
ENDED = 2
"""The exit code of an end that is asked for when there is nothing to end any more."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A folder with a spec, the commands run in it, and what is left of them."""

    cli: Cli

    @property
    def folder(self) -> Path:
        """Return where the spec is."""
        return self.cli.folder

    def write(self, version: int) -> None:
        """Make another version of the model's code."""
        code = (ROOT / "templates" / "custom" / "inference.py").read_text()
        (self.folder / "inference.py").write_text(f"{code}\nVERSION = {version}\n")

    def run(self, *words: str, killed_at: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command that is killed at its nth change, or never."""
        return subprocess.run(
            [sys.executable, "-m", "tests.doubles.killed", str(self.folder), str(killed_at), *words],
            cwd=self.folder,
            env=self.cli.environment({"PYTHONPATH": str(ROOT)}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def changes(self, *words: str) -> int:
        """Run a command to its end, and return how many changes it made."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return int(done.stderr.splitlines()[-1])

    def killed(self, number: int, *words: str) -> None:
        """Run a command that is killed at its nth change, or ends before when it makes fewer this time."""
        done = self.run(*words, killed_at=number)
        assert done.returncode in (0, -9), done.stderr

    def processes(self) -> list[str]:
        """Return what runs here, a word a process: supervisor, replica, or its whole command line."""
        words = {"mlscale.providers.local.supervisor": "supervisor", "mlscale.serving.server": "replica"}
        commands = processes_of(self.folder).values()
        return sorted(next((word for part, word in words.items() if part in each), each) for each in commands)

    def settled(self, wanted: list[str]) -> list[str]:
        """Return what runs here once it is `wanted`, or after 10 s: a second supervisor goes when it sees the first."""
        limit = time.monotonic() + 10
        while (found := self.processes()) != wanted and time.monotonic() < limit:
            time.sleep(0.05)
        return found

    def seen(self) -> Deployment | None:
        """Return what is there, once nothing is left to plan."""
        session = sessions.open_session(sessions.system_world(), self.folder / "spec.yaml")
        seen = sessions.status(session)
        if seen is not None:
            assert plans.make_plan(session).steps == ()
        assert unfinished(session.store, "reviews") is None
        return seen


@pytest.fixture
def machine(cli: Cli) -> Machine:
    """A folder with a spec and a model; nothing is deployed."""
    made = Machine(cli)
    (made.folder / "spec.yaml").write_text(SPEC)
    (made.folder / "model").mkdir()
    model = ROOT / "templates" / "custom" / "model" / "centroids.npz"
    (made.folder / "model" / "centroids.npz").write_bytes(model.read_bytes())
    made.write(0)
    return made


@pytest.mark.parametrize("part", range(PARTS))
def test_an_update_killed_at_any_change_converges(machine: Machine, part: int) -> None:
    """Of a blue-green switch, its journal and its garbage: one supervisor, one replica, the new revision alone."""
    assert machine.run("deploy").returncode == 0
    machine.write(1)
    machine.changes("deploy")
    machine.write(2)
    points = points_of(part, machine.changes("deploy"))

    for number in points:
        machine.write(2 + number)
        machine.killed(number, "deploy")
        again = machine.run("deploy")
        assert again.returncode == 0, f"killed at change {number}: {again.stderr}"
        assert_served(machine, number)
    assert len(points) > LEAST_POINTS


@pytest.mark.parametrize("part", range(PARTS))
def test_a_first_deploy_killed_at_any_change_converges(machine: Machine, part: int) -> None:
    """Also where the supervisor was just started, or its folder is not whole."""
    points = points_of(part, machine.changes("deploy"))
    machine.run("destroy", "--yes")

    for number in points:
        machine.killed(number, "deploy")
        again = machine.run("deploy")
        assert again.returncode == 0, f"killed at change {number}: {again.stderr}"
        assert_served(machine, number)
        assert machine.run("destroy", "--yes").returncode == 0
    assert len(points) > LEAST_POINTS


@pytest.mark.parametrize("part", range(PARTS))
def test_a_destroy_killed_at_any_change_leaves_nothing(machine: Machine, part: int) -> None:
    """No process and no file of the deployment but its journal."""
    machine.run("deploy")
    points = points_of(part, machine.changes("destroy", "--yes"))

    for number in points:
        assert machine.run("deploy").returncode == 0
        machine.killed(number, "destroy", "--yes")
        again = machine.run("destroy", "--yes")
        assert again.returncode == 0, f"killed at change {number}: {again.stderr}"
        assert machine.seen() is None
        assert machine.settled([]) == []
        left = [each for each in (machine.folder / ".mlscale" / "local").rglob("*") if each.is_file()]
        assert left == [], f"killed at change {number}"
    assert len(points) > LEAST_POINTS


@pytest.mark.parametrize("part", range(PARTS))
def test_a_rollout_killed_on_its_way_converges(
    machine: Machine, part: int, record_property: Callable[[str, object], None]
) -> None:
    """A candidate tried, given more, and promoted or given up in turn: each killed, and each the same command again.

    There are about 500 changes; that each single one of a command may be its last is what the other walks show.
    """
    assert machine.run("deploy").returncode == 0
    counts: dict[tuple[str, ...], int] = {}
    for number, end in enumerate(ENDS, 1):
        machine.write(number)
        counts |= {words: machine.changes(*words) for words in (CANARY, MORE, end)}

    served = 1
    for turn in range(part, PARTS * ROUNDS, PARTS):
        end, version = ENDS[turn // PARTS % len(ENDS)], 10 + turn
        machine.write(version)
        for words, shares in ((CANARY, [9000, 1000]), (MORE, [5000, 5000]), (end, [WHOLE])):
            number = 1 + turn * counts[words] // (PARTS * ROUNDS)
            machine.killed(number, *words)
            again = machine.run(*words)
            assert again.returncode in (0, *((ENDED,) if words == end else ())), f"{words}, {number}: {again.stderr}"
            assert shares_in(machine) == shares, f"{words} killed at change {number}"
            wanted = ["replica"] * len(shares) + ["supervisor"]
            assert machine.settled(wanted) == wanted, f"{words} killed at change {number}"
        served = version if end == ENDS[0] else served
        machine.write(served)
        assert_served(machine, turn)
    for what in (POINTS, RECOVERED):
        record_property(f"{what} rollout on this machine", 3 * ROUNDS)


def shares_in(machine: Machine) -> list[int]:
    """Return the shares of what serves."""
    session = sessions.open_session(sessions.system_world(), machine.folder / "spec.yaml")
    seen = sessions.status(session)
    return [each.share for each in seen.revisions] if seen else []


def points_of(part: int, changes: int) -> range:
    """Return the changes at which one part of a walk kills: every `PARTS`th, so that all parts together are all."""
    return range(1 + part, changes + 1, PARTS)


def assert_served(machine: Machine, number: int) -> None:
    """One revision serves, by one replica, under one supervisor."""
    seen = machine.seen()
    assert seen is not None
    assert [each.share for each in seen.revisions] == [WHOLE], f"killed at change {number}"
    wanted = ["replica", "supervisor"]
    assert machine.settled(wanted) == wanted, f"killed at change {number}"
