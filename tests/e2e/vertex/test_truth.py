"""What Vertex AI does with a change besides doing it: told as it is, with the right exit code, and gone on from."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from typing import Any

import pytest
from google.cloud import aiplatform_v1 as vx

from tests.doubles.vertex.serving import PARENT
from tests.e2e.sagemaker.test_truth import begun, has_called, until
from tests.e2e.vertex.project import Project

LINES = ["Loading the model", "ValueError: the weights are of another model"]
CAPACITY = "Resources are insufficient in region: us-central1"
QUOTA = "custom_model_serving_cpus"
ENDPOINT = f"{PARENT}/endpoints/reviews"
MACHINES = ["n1-standard-4", "n2-standard-4"]

FAILURES = {
    "server": "Model server exited unexpectedly",
    "terminated": "model server container terminated",
    "health": "Model server never became ready",
    "image": "Failed to pull the container image",
    "internal": "INTERNAL",
}
"""How a DeployModel operation fails, and what it says then."""


@pytest.fixture
def serving(project: Project) -> Project:
    """A project where the second of two revisions serves, and a third is asked for."""
    project.serve_two()
    project.new_version(3)
    project.double.delete("journal")
    return project


def changed(project: Project) -> list[str]:
    """Return the operations that have changed something."""
    return [each["operation"] for each in project.journal() if each["mutating"] and not each["workspace"]]


def calls(project: Project, operation: str) -> int:
    """Return how often an operation was called and not refused."""
    return sum(each["operation"] == operation and each["code"] == "OK" for each in project.journal())


def left(project: Project) -> Mapping[str, Any]:
    """Return what is there but the project's own bucket."""
    return {kind: things for kind, things in project.table().items() if things and kind != "buckets"}


def split(project: Project) -> list[tuple[int, int]]:
    """Return the share and the replicas of each revision on the endpoint."""
    endpoint = project.endpoint()
    shares, deployed = endpoint["traffic_split"], endpoint["deployed_models"]
    return sorted((shares.get(each, 0), model["available"]) for each, model in deployed.items())


def is_steady(project: Project, *words: str) -> bool:
    """Return whether nothing is left to plan."""
    return project.run("plan", *words, "--detailed-exitcode").code == 0


@pytest.mark.parametrize("reason", FAILURES)
def test_an_update_whose_container_does_not_run_is_no_success(serving: Project, reason: str) -> None:
    """Exit code 4 with Google's reason and the container's last words; all is as it was, capacity and traffic too."""
    before = serving.table()
    serving.double.post("script", endpoint="reviews", on="deploy", outcome="fail", reason=reason, lines=LINES)

    ended = serving.run("deploy")

    assert ended.code == 4, ended.stderr
    assert FAILURES[reason] in ended.stderr
    assert (LINES[1] in ended.stderr) == (reason != "image")
    assert "serves, as before" in ended.stderr
    assert serving.table() == before
    serving.good("deploy")
    assert is_steady(serving)


def test_a_first_deploy_whose_container_does_not_run_leaves_nothing(project: Project) -> None:
    """Exit code 1 with Google's reason and the container's last words; what was made is taken down."""
    project.double.post("script", endpoint="reviews", on="deploy", outcome="fail", reason="server", lines=LINES)

    ended = project.run("deploy")

    assert ended.code == 1, ended.stderr
    assert FAILURES["server"] in ended.stderr
    assert LINES[1] in ended.stderr
    assert left(project) == {}
    project.good("deploy")


@pytest.mark.parametrize("on", ["upload", "create"])
def test_a_first_deploy_of_which_nothing_can_be_made_leaves_nothing(project: Project, on: str) -> None:
    """The Model or the endpoint is not made: exit code 1 at once, whatever our timeout; the rest is taken down."""
    project.double.post("script", on=on, outcome="fail", reason="Internal error occurred.")

    ended = project.run("deploy", "--timeout", "1h")

    assert (ended.code, "Internal error occurred." in ended.stderr) == (1, True), ended.stderr
    assert "again" not in ended.stderr.partition("error:")[0]
    assert left(project) == {}
    project.good("deploy")


def test_a_first_deploy_without_machines_leaves_nothing(project: Project) -> None:
    """Exit code 7 and Google's words once each machine of the list was tried; no container ran."""
    project.double.post("settings", no_capacity=MACHINES)

    ended = project.run("deploy")

    assert (ended.code, CAPACITY in ended.stderr) == (7, True), ended.stderr
    assert calls(project, "DeployModel") == len(MACHINES)
    assert "Loading the model" not in ended.stderr
    assert left(project) == {}
    project.double.post("settings", no_capacity=[])
    project.good("deploy")


def test_an_update_without_machines_leaves_what_served(serving: Project) -> None:
    """Exit code 7 and Google's words: nothing of what serves was touched."""
    before = serving.table()
    serving.double.post("settings", no_capacity=["n1-standard-8", "n2-standard-8"])

    ended = serving.run("deploy", "--env", "bigger")

    assert (ended.code, CAPACITY in ended.stderr) == (7, True), ended.stderr
    assert serving.table() == before
    serving.double.post("settings", no_capacity=[])
    serving.good("deploy", "--env", "bigger")
    assert is_steady(serving, "--env", "bigger")


def test_a_machine_that_is_not_free_is_left_for_the_next_of_the_list(project: Project) -> None:
    """The first has no capacity: the second serves, its name is told, and it is no difference afterwards."""
    project.double.post("settings", no_capacity=MACHINES[:1])

    ended = project.good("deploy")

    (deployed,) = project.endpoint()["deployed_models"].values()
    assert deployed["machine"] == MACHINES[1]
    assert f"on {MACHINES[1]}" in ended.stderr
    project.double.post("settings", no_capacity=[])
    assert is_steady(project)


def test_a_quota_met_at_a_first_deploy_leaves_nothing(project: Project) -> None:
    """Exit code 7, the quota by its name, and where to ask for more."""
    project.double.post("quotas", **{QUOTA: 4})

    ended = project.run("deploy")

    assert ended.code == 7, ended.stderr
    assert f"ask for more of aiplatform.googleapis.com/{QUOTA}" in ended.stderr
    assert left(project) == {}


def test_a_quota_met_at_an_update_leaves_what_served(serving: Project) -> None:
    """Exit code 7: the second revision needs as much again beside the first."""
    before = serving.table()
    serving.double.post("quotas", **{QUOTA: 24})

    ended = serving.run("deploy")

    assert (ended.code, QUOTA in ended.stderr) == (7, True), ended.stderr
    assert serving.table() == before


def test_a_stuck_deployment_ends_at_our_timeout_and_is_gone_on_with(serving: Project) -> None:
    """Exit code 8 says how to go on; the same command waits for the same operation, and ends well."""
    serving.double.post("script", endpoint="reviews", on="deploy", outcome="stuck")

    stopped = serving.run("deploy", "--timeout", "2s")
    serving.double.delete("journal")
    again = begun(serving, "deploy")
    until(has_called(serving, "GetOperation"))
    serving.double.post("script", endpoint="reviews", on="now", outcome="release")

    assert stopped.code == 8, stopped.stderr
    assert "goes on by itself" in stopped.stderr
    assert "mlscale deploy --timeout 2s" in stopped.stderr
    ended = again.end()
    assert ended.code == 0, ended.stderr
    assert calls(serving, "DeployModel") == 0
    assert is_steady(serving)


@pytest.mark.parametrize("on", ["upload", "create"])
def test_what_is_stuck_in_a_first_deploy_is_gone_on_with(project: Project, on: str) -> None:
    """A Model or an endpoint that is still being made at our timeout is waited for by the same command."""
    project.double.post("script", on=on, outcome="stuck")

    stopped = project.run("deploy", "--timeout", "2s")
    project.double.delete("journal")
    again = begun(project, "deploy")
    until(has_called(project, "GetOperation"))
    for operation in project.double.get("resources")["operations"]:
        project.double.post("script", endpoint=operation.split("/")[-3], on="now", outcome="release")

    ended = again.end()
    assert (stopped.code, ended.code) == (8, 0), ended.stderr
    assert calls(project, {"upload": "UploadModel", "create": "CreateEndpoint"}[on]) == 0
    assert is_steady(project)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_in_order_and_the_same_command_goes_on(serving: Project, number: int, code: int) -> None:
    """The deployment goes on over there; the lease is free at once."""
    serving.double.post("script", endpoint="reviews", on="deploy", outcome="stuck")
    first = begun(serving, "deploy")
    until(has_called(serving, "DeployModel"))

    os.kill(first.pid, number)
    stopped = first.end()
    serving.double.post("script", endpoint="reviews", on="now", outcome="release")
    again = serving.run("deploy")

    assert (stopped.code, again.code) == (code, 0), again.stderr
    assert "goes on" in stopped.stderr
    assert calls(serving, "DeployModel") == 1
    assert is_steady(serving)


@pytest.mark.parametrize("on", ["deploy", "undeploy"])
def test_what_was_said_to_be_done_and_was_not_is_no_success(serving: Project, on: str) -> None:
    """The operation reports success and the endpoint is as before: an error says so, and what served serves.

    A new revision that serves while the old one can't be taken off is taken off again.
    """
    serving.double.post("script", endpoint="reviews", on=on, outcome="ineffective")

    ended = serving.run("deploy")

    assert (ended.code, "was said to be done, and is not" in ended.stderr) == (4, True), ended.stderr
    assert [share for share, _ in split(serving)] == [100]
    serving.good("deploy")
    assert is_steady(serving)


def test_replicas_that_vanish_while_it_bakes_take_it_back(serving: Project) -> None:
    """The new revision has none left: exit code 4, the old one has all traffic again and its replicas."""
    before = serving.table()
    first = begun(serving, "deploy", "--env", "blue", "--set", "rollout.bake_time=30s")
    until(has_called(serving, "UpdateEndpoint"))
    (new,) = (each for each, share in serving.endpoint()["traffic_split"].items() if share)
    serving.double.post("move", endpoint="reviews", deployed_model=new, count=0)

    ended = first.end()

    assert ended.code == 4, ended.stderr
    assert "has no replica any more" in ended.stderr
    assert serving.table() == before
    serving.good("deploy")


def test_a_revision_that_somebody_takes_off_while_it_bakes_is_an_error(serving: Project) -> None:
    """The new revision is gone: exit code 4, and the old one has all traffic again."""
    old, *_ = serving.endpoint()["deployed_models"]
    first = begun(serving, "deploy", "--env", "blue", "--set", "rollout.bake_time=30s")
    until(has_called(serving, "UpdateEndpoint"))
    (new,) = (each for each, share in serving.endpoint()["traffic_split"].items() if share)

    asked = {"endpoint": ENDPOINT, "deployed_model_id": new, "traffic_split": {old: 100}}
    serving.by_hand(vx.EndpointServiceClient).undeploy_model(asked)

    ended = first.end()
    assert (ended.code, "is not on the endpoint any more" in ended.stderr) == (4, True), ended.stderr
    assert split(serving) == [(100, 5)]
    serving.good("deploy")
    assert is_steady(serving)


def test_traffic_that_somebody_moves_meanwhile_is_no_success(serving: Project) -> None:
    """Back to the old revision while the new one bakes: exit code 4, and what has the traffic is not taken off."""
    old, *_ = serving.endpoint()["deployed_models"]
    first = begun(serving, "deploy", "--env", "blue", "--set", "rollout.bake_time=3s")
    until(has_called(serving, "UpdateEndpoint"))

    move_traffic(serving, {old: 100})

    ended = first.end()
    assert ended.code == 4, ended.stderr
    assert "has 0% of the traffic, and had all" in ended.stderr
    assert split(serving) == [(100, 5)]
    serving.good("deploy")
    assert is_steady(serving)


def move_traffic(project: Project, shares: Mapping[str, int]) -> None:
    """Split the traffic otherwise, as somebody else."""
    endpoint = {"name": ENDPOINT, "traffic_split": dict(shares)}
    asked = {"endpoint": endpoint, "update_mask": {"paths": ["traffic_split"]}}
    project.by_hand(vx.EndpointServiceClient).update_endpoint(asked)


def test_an_endpoint_that_somebody_deletes_meanwhile_is_an_error(serving: Project) -> None:
    """Exit code 4 says that it is gone; what served before is made anew, and the next deploy goes on from there."""
    client = serving.by_hand(vx.EndpointServiceClient)
    first = begun(serving, "deploy", "--env", "blue", "--set", "rollout.bake_time=30s")
    until(has_called(serving, "UpdateEndpoint"))

    os.kill(first.pid, signal.SIGSTOP)  # so that it does not see the one without the other
    shares = serving.endpoint()["traffic_split"]
    for each in sorted(serving.endpoint()["deployed_models"], key=lambda each: int(shares.get(each, 0))):
        client.undeploy_model({"endpoint": ENDPOINT, "deployed_model_id": each}).result(timeout=10)
    client.delete_endpoint({"name": ENDPOINT}).result(timeout=10)
    os.kill(first.pid, signal.SIGCONT)
    ended = first.end()

    assert ended.code == 4, ended.stderr
    assert "the endpoint is gone" in ended.stderr
    assert split(serving) == [(100, 2)]
    serving.good("deploy")
    assert is_steady(serving)


@pytest.mark.parametrize("code", ["ABORTED", "FAILED_PRECONDITION"])
@pytest.mark.parametrize("call", ["DeployModel", "UpdateEndpoint", "UndeployModel"])
def test_a_change_of_somebody_else_is_waited_out(serving: Project, call: str, code: str) -> None:
    """The etag is another, or an operation goes on there: the call is made again, and all converges."""
    serving.double.post("faults", rules=[busy(call, code, times=2)])

    ended = serving.run("deploy")

    assert ended.code == 0, ended.stderr
    assert is_steady(serving)


@pytest.mark.parametrize("code", ["ABORTED", "FAILED_PRECONDITION"])
def test_changes_of_somebody_else_without_end_are_an_error(serving: Project, code: str) -> None:
    """Exit code 8 at our timeout; nothing of what serves is touched, and later the same command converges."""
    serving.double.post("faults", rules=[busy("DeployModel", code, times=1000)])

    ended = serving.run("deploy", "--timeout", "2s")
    serving.double.post("faults", rules=[])

    assert ended.code == 8, ended.stderr
    assert split(serving) == [(100, 5)]
    serving.good("deploy")
    assert is_steady(serving)


def busy(call: str, code: str, *, times: int) -> dict[str, object]:
    """Return a fault that says that somebody else is at work on the endpoint."""
    words = {
        "ABORTED": f"The etag AMEw9y1 does not match the current etag AMEw9y2 of {ENDPOINT}.",
        "FAILED_PRECONDITION": f"There are other operations running on the Endpoint {ENDPOINT}.",
    }
    fault = {"kind": "custom", "code": code, "message": words[code], "times": times}
    return {"operation": f"EndpointService\\.{call}$", **fault}


def test_an_endpoint_of_somebody_else_is_left_alone(project: Project) -> None:
    """Our name, but not our labels: exit code 1, nothing is changed, and the way to take it over is named."""
    project.good("deploy")
    client = project.by_hand(vx.EndpointServiceClient)
    client.update_endpoint({"endpoint": {"name": ENDPOINT}, "update_mask": {"paths": ["labels"]}})
    project.double.delete("journal")

    for words in (("deploy",), ("rollback",), ("destroy", "--yes")):
        ended = project.run(*words)
        assert (ended.code, "not ours" in ended.stderr, "mlscale import" in ended.stderr) == (1, True, True)

    assert changed(project) == []


def test_two_runs_at_once_are_one_after_the_other(serving: Project) -> None:
    """The second says who is there, with exit code 6, and does not disturb the first."""
    serving.double.post("script", endpoint="reviews", on="deploy", outcome="stuck")
    first = begun(serving, "deploy")
    until(has_called(serving, "DeployModel"))

    second = serving.run("destroy", "--yes")
    serving.double.post("script", endpoint="reviews", on="now", outcome="release")

    assert (second.code, "another run is changing this deployment" in second.stderr) == (6, True)
    ended = first.end()
    assert ended.code == 0, ended.stderr


def test_without_a_network_it_says_so(project: Project) -> None:
    """Nobody listens: an error in words, not a traceback."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"

        ended = project.run("deploy", MLSCALE_VERTEX_API_ENDPOINT=address)

    assert ended.code == 8, ended.stderr
    assert ended.stderr.startswith("error: Google Cloud does not answer\n")


def test_not_waiting_begins_and_the_same_command_ends_it(project: Project) -> None:
    """Exit code 0 while Vertex AI works; the next run waits for that, and does the rest."""
    project.double.post("settings", delay_s=0.5)

    started = project.run("deploy", "--no-wait")
    project.good("deploy")

    assert started.code == 0, started.stderr
    assert started.stdout.startswith("Started.")
    assert (calls(project, "CreateEndpoint"), calls(project, "UploadModel")) == (1, 1)
    assert is_steady(project)


@pytest.mark.parametrize("words", [("deploy",), ("rollback",)])
def test_a_deployment_under_way_of_another_revision_is_taken_off(serving: Project, words: tuple[str, ...]) -> None:
    """Cut off on its way to the third revision: what served before serves alone in the end, with its replicas."""
    serving.double.post("script", endpoint="reviews", on="deploy", outcome="stuck")
    assert serving.run("deploy", "--timeout", "2s").code == 8
    serving.new_version(2)
    serving.double.delete("journal")

    back = begun(serving, *words)
    until(has_called(serving, "GetOperation"))
    serving.double.post("script", endpoint="reviews", on="now", outcome="release")

    ended = back.end()
    assert ended.code == 0, ended.stderr
    assert split(serving) == [(100, 5)]
    assert is_steady(serving)


def test_an_operation_that_somebody_began_is_waited_for(serving: Project) -> None:
    """A model that somebody else deploys is there first; then comes ours, and theirs is taken off."""
    (model,) = {each["model"] for each in serving.endpoint()["deployed_models"].values()}
    resources = {"machine_spec": {"machine_type": "n1-standard-4"}, "min_replica_count": 1}
    theirs = {"model": f"{PARENT}/models/{model}", "display_name": "by-hand", "dedicated_resources": resources}
    serving.double.post("settings", delays={"DeployModel": 1.0})
    serving.by_hand(vx.EndpointServiceClient).deploy_model({"endpoint": ENDPOINT, "deployed_model": theirs})

    ended = serving.run("deploy")

    assert ended.code == 0, ended.stderr
    assert is_steady(serving)
    assert [share for share, _ in split(serving)] == [100]


def test_an_update_in_a_network_interrupts_and_is_put_back(project: Project) -> None:
    """An endpoint there holds one model, so the old one goes first, if that is consented to; a failure puts it back."""
    words = ("deploy", "--env", "private")
    project.good(*words)
    before = project.table()
    project.new_version(2)

    refused = project.run(*words)
    project.double.post("script", endpoint="reviews-private", on="deploy", outcome="fail", reason="server", lines=LINES)
    failed = project.run(*words, "--yes")

    assert (refused.code, "it interrupts requests" in refused.stderr) == (2, True), refused.stderr
    assert (failed.code, "serves, as before" in failed.stderr) == (4, True), failed.stderr
    assert project.table() == before
    project.good(*words, "--yes")
    (new,) = project.double.get("resources")["endpoints"]["reviews-private"]["deployed_models"].values()
    assert new["display_name"] != "reviews-private-c15debc09f"
    assert is_steady(project, *words[1:])
