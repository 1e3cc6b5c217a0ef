"""`mlscale iam policy`: the policy as IAM takes it, from the spec alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlscale.cli.app import main
from mlscale.clock import SystemClock
from mlscale.engine.session import World
from mlscale.providers.registry import provider_of
from mlscale.state.store import open_store
from tests.cli.conftest import Shell
from tests.conftest import GOLDEN
from tests.doubles.moved_clock import MovedClock

SPEC = GOLDEN / "sagemaker.yaml"
CLOUDS = World(
    provider=lambda site: provider_of(site, SystemClock()), store=open_store, clock=MovedClock(), variables={}
)


def printed(shell: Shell, *words: str) -> str:
    """Return what the command printed that must work; the providers are the real ones."""
    shell.capsys.readouterr()
    assert main(["iam", "policy", *words], CLOUDS) == 0
    return shell.capsys.readouterr().out


@pytest.mark.parametrize("env", ["realtime", "async", "serverless"])
def test_the_policy_is_printed_as_iam_takes_it(shell: Shell, env: str) -> None:
    """The document is printed and nothing else, so that it can be piped; the model's files need not be there."""
    overlay = () if env == "realtime" else ("--env", env)

    found = printed(shell, str(SPEC), *overlay)

    whole = (GOLDEN / "sagemaker" / f"policy_{env}.json").read_text()
    name = json.loads(whole)["Statement"][1]["Resource"][0].rpartition("/")[2]
    assert found == (whole if env == "realtime" else whole.replace(name, f"reviews-{env}"))


def test_googles_roles_are_printed_with_what_each_is_granted_on(shell: Shell) -> None:
    """The roles come by their ids, each as gcloud takes it from a file; a workspace is in the spec."""
    found = printed(shell, str(GOLDEN / "vertex.yaml"))

    assert found == (GOLDEN / "vertex" / "policy.json").read_text()


def test_the_policy_in_json_has_a_version(shell: Shell) -> None:
    """For programs it stands under `policy`, as every result has its key."""
    found = json.loads(printed(shell, str(SPEC), "--output", "json"))

    assert found == {"schema_version": 1, "policy": json.loads(printed(shell, str(SPEC)))}


def test_another_workspace_is_in_the_policy(shell: Shell) -> None:
    """Where lease and journal are is as the command line says."""
    found = json.loads(printed(shell, str(SPEC), "--workspace", "s3://other/place"))

    resources = {each["Sid"]: each["Resource"] for each in found["Statement"]}
    assert resources["Workspace"][0] == "arn:aws:s3:::other/place/leases/reviews.json"


def test_the_users_own_defaults_hold(shell: Shell) -> None:
    """A command below a command has the user's settings as any other."""
    shell.settings("output: json\n")

    assert "schema_version" in json.loads(printed(shell, str(SPEC)))


def test_this_machine_has_no_policy(shell: Shell) -> None:
    """Nobody needs to be allowed to use a machine that is one's own."""
    ran = shell.run("iam", "policy", "--output", "json")

    assert (ran.code, ran.error["cause"], ran.error["what"]) == (1, "unsupported", "there is no policy to print")
    assert Path("spec.yaml").is_file()
