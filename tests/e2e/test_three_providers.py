"""One spec, its provider swapped by an overlay: the example of the guide, on this machine and on both doubles."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.conftest import ROOT, Cli
from tests.documents import DOCS, blocks, commands
from tests.doubles import aws, vertex

(EXAMPLE,) = (each for each in blocks(DOCS / "guides" / "environments.md") if each.saved_as)
(LISTED,) = (
    command
    for block in blocks(EXAMPLE.page)
    if block.language == "console"
    for command in commands(block)
    if "--all-providers" in command.words
)
OVERLAYS = ((), ("--env", "aws"), ("--env", "gcp"))
REQUEST = '{"instances": [[5.1, 3.5, 1.4, 0.2]]}'


@dataclass(frozen=True, slots=True)
class Clouds:
    """Both doubles, with what the guide's spec names."""

    amazon: aws.Double
    google: vertex.Double

    @property
    def environment(self) -> Mapping[str, str]:
        """Return what leads a command to them."""
        return {**self.amazon.environment, **self.google.environment}


@pytest.fixture
def cli(cli: Cli) -> Cli:
    """A folder with the guide's spec and a model for it."""
    shutil.copytree(ROOT / "templates" / "sklearn" / "model", cli.folder / "model")
    shutil.copy(ROOT / "templates" / "sklearn" / "requirements.txt", cli.folder)
    (cli.folder / "spec.yaml").write_text(EXAMPLE.text)
    return cli


@pytest.fixture
def clouds() -> Iterator[Clouds]:
    """An account and a project, each with a bucket of the name."""
    with aws.serving() as amazon, vertex.serving() as google:
        for double in (amazon, google):
            double.post("settings", delay_s=0.05)
            double.make_bucket("acme-ml")
        amazon.make_role("sagemaker-serving")
        yield Clouds(amazon, google)


def test_one_spec_is_deployed_here_and_on_both_clouds(cli: Cli, clouds: Clouds) -> None:
    """Each time by the name of its overlay alone; planned again nothing is to do, and all of it is taken down."""

    def good(*words: str) -> str:
        done = cli.run(*words, env=dict(clouds.environment))
        assert done.returncode == 0, done.stderr
        return done.stdout

    served = []
    for overlay in OVERLAYS:
        good("deploy", *overlay)
        assert good("plan", *overlay) == "No changes: what is there is what the spec asks for.\n"
        assert good("invoke", *overlay, "--data", REQUEST)
        served.append(good("status", *overlay).splitlines()[0])
    for overlay in OVERLAYS:
        good("destroy", *overlay, "--yes")

    assert served == [
        "local/reviews  steady",
        "sagemaker/123456789012/us-east-1/reviews-aws  steady",
        "vertex/acme-ml/us-central1/reviews-gcp  steady",
    ]
    left = [double.get("resources")["endpoints"] for double in (clouds.amazon, clouds.google)]
    assert left == [{}, {}]


def test_the_guide_lists_what_differs(cli: Cli) -> None:
    """As it is printed, without a cloud."""
    listed = cli.run(*LISTED.words.split()[1:])

    assert listed.stdout == LISTED.output
