"""The template for Vertex AI, as a user gets it: checked, deployed and taken down on the double."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Cli
from tests.doubles.vertex import Double, serving


@pytest.fixture
def double() -> Iterator[Double]:
    """A project with the bucket that the template names."""
    with serving() as double:
        double.post("settings", delay_s=0.05)
        double.make_bucket("example-models")
        yield double


def test_the_template_is_deployed_as_it_is(cli: Cli, double: Double) -> None:
    """Nothing of it is refused, doctor finds all of it, and what it made is gone in the end."""
    env = dict(double.environment)

    def good(*words: str) -> str:
        done = cli.run(*words, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    good("init", "vertex")
    assert "✗" not in good("doctor", "vertex")
    deployed = good("deploy", "vertex")
    assert deployed.splitlines()[1:] == ["", "  mlscale invoke vertex/spec.yaml --file vertex/request.json"]
    assert good("plan", "vertex") == "No changes: what is there is what the spec asks for.\n"
    assert "iris  steady" in good("list", "vertex")
    good("destroy", "vertex", "--yes")

    left = double.get("resources?project=example-project&bucket=example-models&prefix=mlscale/uploads/")
    assert {kind for kind, found in left.items() if found} == {"buckets", "operations"}
