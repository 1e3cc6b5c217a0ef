"""Each exit code comes out of a command for what it stands for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from mlscale.state.lease import acquire
from mlscale.state.store import open_store
from tests.cli.conftest import Ran, Shell
from tests.doubles.fake_provider import Fault, Op


def deploy_that_gets(number: int, shell: Shell) -> Ran:
    """Return a deploy that gets a signal in its first step."""

    def once(key: str) -> None:
        shell.provider.meanwhile = lambda key: None  # noqa: ARG005 - the other steps get none
        os.kill(os.getpid(), number)
        del key

    shell.provider.meanwhile = once
    return shell.run("deploy", "--output", "json")


def done(shell: Shell) -> Ran:
    """0: done."""
    return shell.run("deploy")


def nothing_there(shell: Shell) -> Ran:
    """1: failed."""
    return shell.run("status", "--output", "json")


def failed_at_first(shell: Shell) -> Ran:
    """1: a first deploy that fails has nothing to go back to."""
    shell.provider.faults[Op.ADD] = Fault.BEFORE
    return shell.run("deploy", "--output", "json")


def usage(shell: Shell) -> Ran:
    """2: there is no such option."""
    return shell.run("deploy", "--outptu", "json", "--output", "json")


def bad_spec(shell: Shell) -> Ran:
    """2: the spec is not valid."""
    return shell.run("deploy", "--set", "name=UPPER", "--output", "json")


def no_consent(shell: Shell) -> Ran:
    """2: nobody said yes."""
    shell.good("deploy")
    return shell.run("destroy", "--output", "json")


def pending(shell: Shell) -> Ran:
    """3: there are changes to make."""
    return shell.run("plan", "--detailed-exitcode")


def rolled_back(shell: Shell) -> Ran:
    """4: the old revision serves again."""
    shell.good("deploy")
    shell.write("model.bin", "two")
    shell.provider.faults[Op.ADD] = Fault.BEFORE
    return shell.run("deploy", "--output", "json")


def lease_held(shell: Shell) -> Ran:
    """6: another run holds the lease, and is not waited for."""
    store = open_store(str(shell.folder / ".mlscale"))
    with acquire(store, "reviews", command="mlscale deploy", run_id="other", clock=shell.clock):
        return shell.run("deploy", "--output", "json")


def timed_out(shell: Shell) -> Ran:
    """8: our own --timeout."""
    shell.provider.polls = 1000
    return shell.run("deploy", "--timeout", "5s", "--output", "json")


def busy_for_long(shell: Shell) -> Ran:
    """8: the provider is busy at every try."""
    shell.provider.faults[Op.ADD] = Fault.ALWAYS_BUSY
    return shell.run("deploy", "--output", "json")


def stale(shell: Shell) -> Ran:
    """10: a saved plan for what is not there any more."""
    shell.good("plan", "--out", "saved.json")
    shell.good("deploy")
    return shell.run("deploy", "--plan", "saved.json", "--output", "json")


def interrupted(shell: Shell) -> Ran:
    """130: Ctrl-C."""
    return deploy_that_gets(signal.SIGINT, shell)


def terminated(shell: Shell) -> Ran:
    """143: SIGTERM."""
    return deploy_that_gets(signal.SIGTERM, shell)


@pytest.mark.parametrize(
    ("code", "cause", "happens"),
    [
        (0, "", done),
        (1, "not_deployed", nothing_there),
        (1, "provider_failed", failed_at_first),
        (2, "usage", usage),
        (2, "spec_invalid", bad_spec),
        (2, "consent_missing", no_consent),
        (3, "", pending),
        (4, "rolled_back", rolled_back),
        (6, "lease_held", lease_held),
        (8, "timed_out", timed_out),
        (8, "provider_failed", busy_for_long),
        (10, "plan_stale", stale),
        (130, "interrupted", interrupted),
        (143, "interrupted", terminated),
    ],
)
def test_exit_code(shell: Shell, code: int, cause: str, happens: Callable[[Shell], Ran]) -> None:
    """The command ends with its code, and the error on stderr has the same code with its cause."""
    ran = happens(shell)

    assert ran.code == code
    if cause:
        assert ran.stdout == ""
        assert (ran.error["cause"], ran.error["exit_code"]) == (cause, code)


def test_the_same_command_goes_on_after_ctrl_c(shell: Shell) -> None:
    """What was under way is named with the first Ctrl-C, and again afterwards the deploy ends well."""
    stopped = deploy_that_gets(signal.SIGINT, shell)

    assert stopped.error["hint"] == "the same command again goes on from here"
    assert shell.good("deploy", "--output", "json").data["outcome"] == "done"


def test_the_signals_are_the_callers_again_afterwards(shell: Shell) -> None:
    """A run that ended leaves the handlers as they were."""
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    deploy_that_gets(signal.SIGTERM, shell)

    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
