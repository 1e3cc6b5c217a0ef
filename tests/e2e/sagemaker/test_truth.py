"""What SageMaker does with a change besides doing it: told as it is, with the right exit code, and gone on from."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable

import pytest

from tests.doubles.warm import Begun
from tests.e2e.sagemaker.account import Account

LINES = ["Loading the model", "ValueError: the weights are of another model"]
PING = "did not pass the ping health check"
CAPACITY = "InsufficientInstanceCapacity"
LIMIT_S = 10.0


@pytest.fixture
def serving(account: Account) -> Account:
    """An account where the second of two revisions serves, and a third is asked for."""
    account.serve_two()
    account.new_version(3)
    account.double.delete("journal")
    return account


def until(holds: Callable[[], bool]) -> None:
    """Return when something holds."""
    limit = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < limit, "it did not come to that"
        time.sleep(0.01)


def has_called(account: Account, operation: str) -> Callable[[], bool]:
    """Return a function that tells whether an operation was called."""
    return lambda: any(each["operation"] == operation for each in account.journal())


def has_written(account: Account, place: str) -> Callable[[], bool]:
    """Return a function that tells whether a note of a run was written."""
    return lambda: any(
        each["workspace"] and each["mutating"] and place in each["params"]["Key"] for each in account.journal()
    )


def changed(account: Account) -> list[str]:
    """Return the operations that have changed something."""
    return [each["operation"] for each in account.journal() if each["mutating"] and not each["workspace"]]


def begun(account: Account, *words: str) -> Begun:
    """Return a command that runs."""
    begun = account.begin(*words)
    begun.go()
    return begun


@pytest.mark.parametrize("outcome", ["fail", "rollback"])
def test_an_update_that_sagemaker_takes_back_is_no_success(serving: Account, outcome: str) -> None:
    """Exit code 4 with SageMaker's reason and the container's last words; all is as it was, capacity too."""
    before = serving.table()
    serving.double.post("script", endpoint="reviews", on="update", outcome=outcome, reason="ping", lines=LINES)

    ended = serving.run("deploy")

    assert (ended.code, serving.endpoint()["status"]) == (4, "InService")
    assert PING in ended.stderr
    assert LINES[1] in ended.stderr
    assert "serves, as before" in ended.stderr
    assert serving.table() | {"endpoints": []} == before | {"endpoints": []}
    serving.good("deploy")


def test_a_first_deploy_whose_container_does_not_answer_leaves_nothing(account: Account) -> None:
    """Exit code 1 with SageMaker's reason and the container's last words; what was made is taken down."""
    account.double.post("script", endpoint="reviews", on="create", outcome="fail", reason="ping", lines=LINES)

    ended = account.run("deploy")

    assert ended.code == 1
    assert PING in ended.stderr
    assert LINES[1] in ended.stderr
    assert nothing_is_left(account)
    assert LINES[1] in account.good("logs").stdout  # SageMaker keeps the log
    account.good("deploy")


def test_a_first_deploy_without_machines_leaves_nothing(account: Account) -> None:
    """Exit code 7 and AWS's words, without what some container wrote: none ran."""
    account.double.post("settings", no_capacity=["ml.c6i.xlarge", "ml.c5.xlarge"])

    ended = account.run("deploy")

    assert (ended.code, CAPACITY in ended.stderr) == (7, True)
    assert "Loading the model" not in ended.stderr
    assert nothing_is_left(account)


def test_an_update_without_machines_leaves_what_served(serving: Account) -> None:
    """Exit code 4 and AWS's words: the endpoint moved, and is back."""
    before = serving.table()
    serving.double.post("settings", no_capacity=["ml.c6i.2xlarge", "ml.c5.2xlarge"])

    ended = serving.run("deploy", "--env", "bigger")

    assert (ended.code, CAPACITY in ended.stderr) == (4, True)
    assert serving.table() | {"endpoints": []} == before | {"endpoints": []}
    assert serving.endpoint()["variants"]["a"]["count"] == 5
    serving.double.post("settings", no_capacity=[])
    serving.good("deploy", "--env", "bigger")


@pytest.mark.parametrize("call", ["CreateEndpoint", "CreateModel"])
def test_a_quota_met_at_a_first_deploy_leaves_nothing(account: Account, call: str) -> None:
    """Exit code 7, the quota by its name, and how to ask for more."""
    account.double.post("faults", rules=[quota(call)])

    ended = account.run("deploy")

    assert ended.code == 7
    assert "ml.c6i.xlarge for endpoint usage" in ended.stderr
    assert "request-service-quota-increase" in ended.stderr
    assert nothing_is_left(account)


@pytest.mark.parametrize(("environment", "code"), [((), 7), (("--env", "bigger"), 4)])
def test_a_quota_met_at_an_update_changes_nothing(serving: Account, environment: tuple[str, ...], code: int) -> None:
    """Exit code 7; or 4 where autoscaling was taken off before, which is on again: the old revision serves."""
    before = serving.table()
    serving.double.post("faults", rules=[quota("UpdateEndpoint")])

    ended = serving.run("deploy", *environment)

    assert (ended.code, "ml.c6i.xlarge for endpoint usage" in ended.stderr) == (code, True), ended.stderr
    assert serving.table() == before


def quota(call: str) -> dict[str, object]:
    """Return a fault that says a quota is used up."""
    words = (
        "The account-level service limit 'ml.c6i.xlarge for endpoint usage' is 4 Instances, with current utilization "
        "of 4 Instances and a request delta of 2 Instances."
    )
    fault = {"kind": "custom", "code": "ResourceLimitExceeded", "message": words}
    return {"operation": f"sagemaker\\.{call}$", **fault}


def nothing_is_left(account: Account) -> bool:
    """Return whether nothing is there but what SageMaker itself has written: the log of the containers."""
    left = {kind: things for kind, things in account.table().items() if things and kind != "log_groups"}
    assert left == {}
    return True


def test_a_quota_that_is_known_beforehand_refuses_the_deploy(account: Account) -> None:
    """Exit code 7 before anything is made."""
    account.double.post("quotas", **{"ml.c6i.xlarge": 0, "ml.c5.xlarge": 1})

    ended = account.run("deploy")

    assert (ended.code, changed(account)) == (7, ["CreateBucket", "CreateRole"]), ended.stderr


def test_a_rollback_that_fails_is_told_and_can_be_deployed_over(serving: Account) -> None:
    """SageMaker could neither go on nor back: an error with its words, and the next deploy puts it right."""
    serving.double.post(
        "script", endpoint="reviews", on="update", outcome="rollback_failed", reason="ping", lines=LINES
    )

    ended = serving.run("deploy")

    assert ended.code in (1, 4)
    assert PING in ended.stderr
    serving.good("deploy")
    assert serving.run("plan", "--detailed-exitcode").code == 0


def test_maintenance_of_sagemaker_is_waited_for(serving: Account) -> None:
    """An endpoint that is SystemUpdating can't be changed until that ends."""
    serving.double.post("settings", delay_s=3.0)
    serving.double.post("script", endpoint="reviews", on="now", outcome="system_updating")

    ended = serving.run("deploy")

    assert ended.code == 0, ended.stderr
    assert "SystemUpdating" in ended.stderr


def test_a_stuck_update_ends_at_our_timeout_and_is_gone_on_with(serving: Account) -> None:
    """Exit code 8 says how to go on; once it moves again the same command ends well."""
    serving.double.post("script", endpoint="reviews", on="update", outcome="stuck")

    stopped = serving.run("deploy", "--timeout", "3s")
    again = begun(serving, "deploy")
    serving.double.delete("journal")
    until(has_called(serving, "DescribeEndpoint"))
    serving.double.post("script", endpoint="reviews", on="now", outcome="release")

    assert stopped.code == 8
    assert "goes on by itself" in stopped.stderr
    assert "mlscale deploy --timeout 3s" in stopped.stderr
    ended = again.end()
    assert ended.code == 0, ended.stderr
    assert serving.run("plan", "--detailed-exitcode").code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_in_order_and_the_same_command_goes_on(serving: Account, number: int, code: int) -> None:
    """The update goes on over there; the lease is free at once."""
    serving.double.post("script", endpoint="reviews", on="update", outcome="stuck")
    first = begun(serving, "deploy")
    until(has_called(serving, "UpdateEndpoint"))

    os.kill(first.pid, number)
    stopped = first.end()
    serving.double.post("script", endpoint="reviews", on="now", outcome="release")
    again = serving.run("deploy")

    assert (stopped.code, again.code) == (code, 0), again.stderr
    assert "endpoint reviews goes on" in stopped.stderr
    assert serving.run("plan", "--detailed-exitcode").code == 0


@pytest.mark.parametrize("words", [("deploy",), ("rollback",)])
def test_an_update_under_way_to_another_revision_is_turned_back(serving: Account, words: tuple[str, ...]) -> None:
    """Cut off on its way to the third revision: what served before is asked for again, and serves in the end."""
    serving.double.post("script", endpoint="reviews", on="update", outcome="stuck")
    assert serving.run("deploy", "--timeout", "2s").code == 8
    serving.new_version(2)
    serving.double.delete("journal")

    back = begun(serving, *words)
    until(has_written(serving, "/journal/"))
    serving.double.post("script", endpoint="reviews", on="now", outcome="release")

    ended = back.end()
    assert ended.code == 0, ended.stderr
    assert serving.run("plan", "--detailed-exitcode").code == 0
    assert serving.endpoint()["variants"]["a"]["count"] == 5


def test_an_endpoint_that_somebody_deletes_meanwhile_is_an_error(serving: Account) -> None:
    """Exit code 4 says that it is gone; what served before is made anew, and the same command goes on from there."""
    sagemaker = serving.double.client("sagemaker")
    serving.double.post("script", endpoint="reviews", on="update", outcome="stuck")
    first = begun(serving, "deploy")
    until(has_called(serving, "UpdateEndpoint"))

    os.kill(first.pid, signal.SIGSTOP)  # so that it does not see the end of its update
    serving.double.post("script", endpoint="reviews", on="now", outcome="release")
    sagemaker.delete_endpoint(EndpointName="reviews")
    os.kill(first.pid, signal.SIGCONT)
    ended = first.end()

    # It may not have begun to wait yet, and then finds that its update has no effect.
    said = ("reviews was deleted by somebody", "the endpoint is gone")
    assert (ended.code, any(words in ended.stderr for words in said)) == (4, True), ended.stderr
    serving.good("deploy")
    assert serving.run("plan", "--detailed-exitcode").code == 0


def test_an_endpoint_of_somebody_else_is_left_alone(account: Account) -> None:
    """Our name, but not our tags: exit code 1, nothing is changed, and the way to take it over is named."""
    account.good("deploy")
    arn = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/reviews"
    keys = [each["Key"] for each in account.double.client("sagemaker").list_tags(ResourceArn=arn)["Tags"]]
    account.double.client("sagemaker").delete_tags(ResourceArn=arn, TagKeys=keys)
    account.double.delete("journal")

    for words in (("deploy",), ("rollback",), ("destroy", "--yes")):
        ended = account.run(*words)
        assert (ended.code, "not ours" in ended.stderr, "mlscale import" in ended.stderr) == (1, True, True)

    assert changed(account) == []


def test_two_runs_at_once_are_one_after_the_other(serving: Account) -> None:
    """The second says who is there, with exit code 6, and does not disturb the first."""
    serving.double.post("script", endpoint="reviews", on="update", outcome="stuck")
    first = begun(serving, "deploy")
    until(has_called(serving, "UpdateEndpoint"))

    second = serving.run("destroy", "--yes")
    serving.double.post("script", endpoint="reviews", on="now", outcome="release")

    assert (second.code, "another run is changing this deployment" in second.stderr) == (6, True)
    ended = first.end()
    assert ended.code == 0, ended.stderr


@pytest.mark.parametrize("words", [("deploy",), ("destroy", "--yes"), ("status",), ("rollback",)])
def test_credentials_of_another_account_call_nothing(account: Account, words: tuple[str, ...]) -> None:
    """Exit code 9 after asking who we are, and before any other call."""
    role = "arn:aws:iam::999999999999:role/somebody"
    sts = account.double.client("sts")
    theirs = sts.assume_role(RoleArn=role, RoleSessionName="somebody")["Credentials"]
    account.double.delete("journal")

    ended = account.run(
        *words,
        AWS_ACCESS_KEY_ID=theirs["AccessKeyId"],
        AWS_SECRET_ACCESS_KEY=theirs["SecretAccessKey"],
        AWS_SESSION_TOKEN=theirs["SessionToken"],
    )

    assert (ended.code, "they are for 999999999999" in ended.stderr) == (9, True), ended.stderr
    assert [each["operation"] for each in account.journal()] == ["GetCallerIdentity"]


def test_without_a_network_it_says_so(account: Account) -> None:
    """Nobody listens: an error in words, not a traceback."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"

        ended = account.run("deploy", AWS_ENDPOINT_URL=address)

    assert ended.code == 8
    assert ended.stderr.startswith("error: AWS does not answer\n")


def test_not_waiting_begins_and_the_same_command_ends_it(account: Account) -> None:
    """Exit code 0 while SageMaker works; the next run waits for that, and does the rest."""
    account.double.post("settings", delay_s=1.0)

    started = account.run("deploy", "--no-wait")
    under_way = account.endpoint()["status"]
    account.good("deploy")

    assert (started.code, under_way) == (0, "Creating"), started.stderr
    assert started.stdout.startswith("Started.")
    assert account.run("plan", "--detailed-exitcode").code == 0
