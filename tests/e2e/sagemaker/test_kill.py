"""SIGKILL at four moments of every change that a command makes in AWS: the same command again converges.

What is there afterwards is the double's own table, compared whole with what the command leaves that nobody disturbed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.doubles.warm import Ended
from tests.e2e.sagemaker.account import QUICK_S, SLOW_S, Account
from tests.e2e.sagemaker.conftest import POINTS, RECOVERED

MOMENTS = ("before", "committed", "replied", "working")
"""As it arrives; done over there but not answered; answered, before anything else; at the first look at its effect."""

TAKES_TIME = ("CreateEndpoint", "UpdateEndpoint", "DeleteEndpoint", "UpdateEndpointWeightsAndCapacities")
SCALING = ("scalable_targets", "scaling_policies", "scheduled_actions", "alarms")
DESTROY = ("destroy", "--yes")


@dataclass(frozen=True, slots=True)
class Command:
    """What is killed and run again, what must be there before, and what must be planned afterwards: nothing.

    Without a `plan` the command itself, once more, must change nothing.
    """

    words: tuple[str, ...]
    before: Callable[[Account], None]
    plan: tuple[str, ...] = ()
    after: Callable[[Account], None] = lambda _: None


def nothing(account: Account) -> None:
    """Leave the account empty."""
    del account


def changed(account: Account) -> None:
    """Have a third version of the model, not deployed yet."""
    account.serve_two()
    account.new_version(3)


def moved(account: Account) -> None:
    """Have a third revision serve, from other machines."""
    changed(account)
    account.good("deploy", "--env", "bigger")


COMMANDS: Mapping[str, Command] = {
    "deploy": Command(("deploy",), nothing, ("plan",)),
    "update": Command(("deploy", "--env", "bigger"), changed, ("plan", "--env", "bigger")),
    "blue-green update": Command(("deploy", "--env", "blue"), changed, ("plan", "--env", "blue")),
    "rollback": Command(("rollback",), moved, ("plan",), after=lambda account: account.new_version(2)),
    "destroy": Command(DESTROY, lambda account: account.serve_two(), ("plan", "--destroy")),
}


def tried(account: Account) -> None:
    """Have the third version beside the second, with a tenth of the traffic."""
    changed(account)
    account.good("rollout", "--canary", "10")


ROLLOUTS: Mapping[str, Command] = {
    "canary": Command(("rollout", "--canary", "10"), changed),
    "larger share": Command(("rollout", "--canary", "50"), tried),
    "promote": Command(("rollout", "promote", "--full"), tried, ("plan",)),
    "abort": Command(("rollout", "abort"), tried, ("plan",), after=lambda account: account.new_version(2)),
}


WHERE_IT_WORKS = {
    "deploy": "sagemaker.CreateEndpoint",
    "update": "sagemaker.UpdateEndpoint",
    "rollback": "sagemaker.UpdateEndpoint",
    "destroy": "sagemaker.DeleteEndpoint",
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_killed_at_any_change_converges(
    account: Account, name: str, moment: str, record_property: Callable[[str, object], None]
) -> None:
    """Exit code 0, the table of a run that nobody disturbed, and nothing left to plan."""
    calls, lost = walk(account, COMMANDS[name], moment, TAKES_TIME)

    record_property(f"{POINTS} {name}", len(calls))
    record_property(f"{RECOVERED} {name}", len(calls) - len(lost))
    assert not lost, "\n\n".join(lost)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", ROLLOUTS)
def test_a_rollout_killed_at_any_change_converges(
    account: Account, name: str, moment: str, record_property: Callable[[str, object], None]
) -> None:
    """A candidate tried, given more, promoted or given up: as every other command."""
    calls, lost = walk(account, ROLLOUTS[name], moment, TAKES_TIME)

    record_property(f"{POINTS} {name}", len(calls))
    record_property(f"{RECOVERED} {name}", len(calls) - len(lost))
    assert not lost, "\n\n".join(lost)


@pytest.mark.parametrize("name", ["canary", "promote"])
def test_an_abort_after_a_kill_leaves_no_trace(account: Account, name: str) -> None:
    """Of a candidate, at each second change; or all of it, where it was the stable revision already."""
    assert aborted_after_kills(account, ROLLOUTS[name]) == []


@pytest.mark.parametrize("name", ["deploy", "update"])
def test_a_destroy_after_a_kill_leaves_nothing(account: Account, name: str) -> None:
    """Of what the command had made when it was killed, at each second change, only SageMaker's own log stays."""
    command = COMMANDS[name]
    command.before(account)
    account.double.post("save")

    for nth in range(1, len(account.changes(*command.words)) + 1, 2):
        account.double.post("restore")
        account.killed("committed", nth, *command.words)
        destroyed = account.run(*DESTROY)

        left = {kind for kind, things in account.table().items() if things} - {"log_groups"}
        assert (destroyed.code, left) == (0, set()), f"killed at change {nth}: {destroyed.stderr}"


def test_a_rollback_after_a_kill_goes_back_to_what_served(account: Account) -> None:
    """Not to the one before that, and with the autoscaling that was taken off for the update."""
    command = COMMANDS["update"]
    command.before(account)
    scaled, served = account.table(), account.endpoint()["variants"]
    account.double.post("save")

    for nth in range(1, len(account.changes(*command.words)) + 1, 2):
        account.double.post("restore")
        account.new_version(3)
        account.killed("committed", nth, *command.words)
        back = account.run("rollback")

        assert back.code == 0, f"killed at change {nth}: {back.stderr}"
        assert account.endpoint()["variants"] == served, f"killed at change {nth}"
        found = account.table()
        assert [found[kind] for kind in SCALING] == [scaled[kind] for kind in SCALING], f"killed at change {nth}"
        assert len(found["endpoint_configs"]) == 1, f"killed at change {nth}"
        account.new_version(2)
        plan = account.run("plan", "--detailed-exitcode")
        assert plan.code == 0, f"killed at change {nth}: {plan.stdout}"


@pytest.mark.parametrize(("name", "call"), [*WHERE_IT_WORKS.items()])
def test_the_command_itself_killed_while_the_cloud_works_converges(account: Account, name: str, call: str) -> None:
    """As it is installed, started anew and without anything loaded before."""
    command = COMMANDS[name]
    command.before(account)
    account.double.post("save")
    calls = account.changes(*command.words)
    wanted = account.table()
    account.double.post("restore")
    account.double.post("settings", delay_s=SLOW_S)

    killed = account.installed(*command.words, killed_at=(calls.index(call) + 1, "working"))
    kill = account.double.get("kill")
    account.double.post("settings", delay_s=QUICK_S)
    again = account.installed(*command.words)

    assert (killed.code, kill["fired"]) == (-9, True)
    assert again.code == 0, again.stderr
    assert account.table() == wanted


def aborted_after_kills(account: Account, command: Command) -> Sequence[str]:
    """Kill a rollout's command after each second of its changes, and abort instead; return what is wrong afterwards."""
    changed(account)
    stable = account.table()
    if command.before is tried:
        account.good(*ROLLOUTS["canary"].words)
    account.double.post("save")
    wrong = []
    for nth in range(1, len(account.changes(*command.words)) + 1, 2):
        account.double.post("restore")
        account.new_version(3)
        account.killed("committed", nth, *command.words)
        ended = account.run("rollout", "abort", "--output", "json")
        phase = json.loads(ended.stdout)["rollout"]["phase"] if ended.code == 0 else ended.stderr
        problems = account.unlike(stable) if phase == "rolled_back" else []
        account.new_version(2 if phase == "rolled_back" else 3)
        plan = account.run("plan", "--detailed-exitcode")
        if phase not in ("rolled_back", "promoted") or problems or plan.code:
            wrong.append(f"change {nth}: {phase}: {problems} {plan.stdout if plan.code else ''}")
    return wrong


def walk(
    account: Account, command: Command, moment: str, takes_time: tuple[str, ...]
) -> tuple[Sequence[str], Sequence[str]]:
    """Kill a command at a moment of each of its changes, and run it again; the changes, and what was lost at which.

    `takes_time` are the ends of the calls after which the cloud works for a while.
    """
    command.before(account)
    account.double.post("save")
    calls = account.changes(*command.words)
    wanted = account.table()
    lost = []
    for nth, call in enumerate(calls, 1):
        account.double.post("restore")
        account.double.post("settings", delay_s=SLOW_S if call.endswith(takes_time) else QUICK_S)
        killed = account.killed(moment, nth, *command.words)
        kill = account.double.get("kill")
        account.double.post("settings", delay_s=QUICK_S)
        if problems := _problems(account, command, killed, kill, wanted):
            lost.append("\n".join([f"{moment} change {nth}, {kill['calls'][-1:]}:", *problems]))
    return calls, lost


def _problems(
    account: Account,
    command: Command,
    killed: Ended,
    kill: Mapping[str, Any],
    wanted: Mapping[str, Sequence[str]],
) -> Sequence[str]:
    """Return what is wrong after a kill and the same command again; steps side by side may make fewer calls before."""
    if killed.code != (-9 if kill["fired"] else 0):
        return [f"it ended with {killed.code}: {killed.stderr}"]
    again = account.run(*command.words) if kill["fired"] else killed
    if again.code:
        return [f"again it ended with {again.code}: {again.stderr}"]
    problems = account.unlike(wanted)
    command.after(account)
    if not command.plan:
        return [*problems, *(f"changed once more: {each}" for each in account.changes(*command.words))]
    plan = account.run(*command.plan, "--detailed-exitcode")
    return problems if plan.code == 0 else [*problems, f"left to plan: {plan.stdout}{plan.stderr}"]
