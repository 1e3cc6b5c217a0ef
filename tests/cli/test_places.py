"""Who is asked: `mlscale list` and `mlscale doctor` find the provider by flag, spec or folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from mlscale.cli.app import main
from mlscale.deployment import Deployment, Identity
from mlscale.providers.contract import Check
from mlscale.providers.registry import Site
from tests.builders import a_deployment
from tests.cli.conftest import SPEC, Ran, Shell
from tests.doubles.fake_provider import FakeProvider

CLOUD_SPEC = """\
version: 1
name: reviews
provider: sagemaker
region: eu-west-1
workspace: ./workspace
model: {source: model.bin, framework: custom}
endpoint: {machine: ml.m5.large}
sagemaker: {role: "arn:aws:iam::123456789012:role/serving"}
environments: {us: {region: us-east-1}}
"""


class Asked(FakeProvider):
    """Remembers for what `doctor` was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.doctored: list[Deployment | None] = []

    def doctor(self, asked: Deployment | None = None) -> Sequence[Check]:
        """Return that all is well."""
        self.doctored.append(asked)
        return super().doctor(asked)


def run(shell: Shell, *words: str) -> tuple[Ran, list[Site]]:
    """Return what a command printed, and the sites that it asked at."""
    sites: list[Site] = []

    def provider(site: Site) -> FakeProvider:
        sites.append(site)
        return shell.provider

    shell.capsys.readouterr()
    code = main(words, replace(shell.world(), provider=provider))
    printed = shell.capsys.readouterr()
    return Ran(code, printed.out, printed.err), sites


def places(shell: Shell, *words: str) -> list[tuple[str, str | None, str | None]]:
    """Return provider, account and region of each site that a command asked at; the command works."""
    ran, sites = run(shell, *words)
    assert ran.code == 0, ran.stderr
    return [(site.provider, site.account, site.region) for site in sites]


def test_without_a_spec_the_folder_is_listed(shell: Shell) -> None:
    """What this machine has under the folder, as before there were clouds."""
    (shell.folder / "spec.yaml").unlink()

    assert places(shell, "list") == [("local", None, None)]


def test_the_spec_in_the_folder_says_who_is_asked(shell: Shell) -> None:
    """A spec for a cloud lists the cloud's, in the region of the environment that is asked for."""
    assert places(shell, "list") == [("local", None, None)]
    shell.write("spec.yaml", CLOUD_SPEC)

    assert places(shell, "list") == [("sagemaker", "123456789012", "eu-west-1")]
    assert places(shell, "list", "--env", "us") == [("sagemaker", "123456789012", "us-east-1")]
    assert places(shell, "list", "spec.yaml") == [("sagemaker", "123456789012", "eu-west-1")]


def test_a_flag_goes_before_the_spec(shell: Shell) -> None:
    """With a provider named nobody looks into the spec, which may be broken."""
    shell.write("spec.yaml", "version: 2\n")

    assert places(shell, "list", "--provider", "local") == [("local", None, None)]
    cloud = ("--provider", "sagemaker", "--region", "us-east-1")
    assert places(shell, "list", *cloud) == [("sagemaker", None, "us-east-1")]
    google = ("--provider", "vertex", "--project", "acme-ml", "--region", "us-central1")
    assert places(shell, "list", *google) == [("vertex", "acme-ml", "us-central1")]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--provider", "sagemaker"), "--provider sagemaker has many regions"),
        (("--provider", "vertex", "--project", "acme-ml"), "--provider vertex has many regions"),
        (("--provider", "vertex", "--region", "us-central1"), "--provider vertex has many projects"),
        (("--region", "us-east-1"), "--region is for a cloud"),
        (("--project", "acme-ml"), "--project is for Google"),
        (("--provider", "sagemaker", "--region", "us-east-1", "--project", "acme-ml"), "--project is for Google"),
        (("--provider", "local", "--region", "us-east-1"), "--region is for a cloud"),
    ],
)
def test_a_cloud_and_its_region_go_together(shell: Shell, words: Sequence[str], what: str) -> None:
    """One without the other is a question that has no answer."""
    ran, sites = run(shell, "list", *words, "-ojson")

    assert (ran.code, ran.error["what"], sites) == (2, what, [])


def test_all_that_is_there_is_read_together(shell: Shell) -> None:
    """One line a deployment, whichever spec made it."""
    for name in ("a", "b"):
        identity = Identity("sagemaker", name, "123456789012", "us-east-1")
        shell.provider.there[identity] = a_deployment(identity=identity)

    ran, _ = run(shell, "list", "--provider", "sagemaker", "--region", "us-east-1", "-ojson")

    assert [each["identity"]["name"] for each in ran.data["deployments"]] == ["a", "b"]


def test_doctor_asks_for_what_the_spec_asks(shell: Shell) -> None:
    """The provider is told the deployment; where its files are missing, or the spec is none, it is not."""
    asked = Asked()
    shell.provider = asked
    shell.good("doctor")
    (shell.folder / "model.bin").unlink()
    assert shell.run("doctor").code == 1
    shell.write("spec.yaml", SPEC.replace("local", "nowhere"))
    assert shell.run("doctor").code == 1

    names = [None if each is None else each.identity.name for each in asked.doctored]
    assert names == ["reviews", None, None]


def test_plans_of_one_place_are_read_together(shell: Shell) -> None:
    """A plan of several specs asks once what is there at each place."""
    reads: list[list[str]] = []

    class Read(FakeProvider):
        def read_all(self, identities: Sequence[Identity]) -> Sequence[Deployment | None]:
            reads.append([each.name for each in identities])
            return super().read_all(identities)

    shell.provider = Read()
    for name, region in (("a", "eu-west-1"), ("b", "us-east-1"), ("c", "eu-west-1")):
        shell.write(
            f"{name}.yaml", CLOUD_SPEC.replace("reviews", name).replace("region: eu-west-1", f"region: {region}")
        )

    shell.good("plan", "a.yaml", "b.yaml", "c.yaml")
    shell.good("deploy", "a.yaml", "b.yaml", "c.yaml")

    assert reads == [["a", "c"], ["b"]] * 2
