"""`mlscale import`, and what other commands say of what is somebody else's."""

from __future__ import annotations

import pytest

from mlscale.deployment import Identity
from tests.builders import a_deployment
from tests.cli.conftest import Shell
from tests.cli.test_outputs import transcript
from tests.conftest import Golden
from tests.doubles.others import Others

HERE = Identity("local", "reviews")


@pytest.fixture
def others(shell: Shell) -> Others:
    """The shell's provider, in which somebody made an endpoint of the spec's name."""
    provider = Others()
    provider.there[HERE] = a_deployment(identity=HERE, labels={"owner": "somebody"})
    shell.provider = provider
    return provider


def test_taking_over(shell: Shell, others: Others, golden: Golden) -> None:
    """Refused until it is imported; then it is ours, the same command does nothing, and a plan shows the rest."""
    assert others

    golden.check(
        "cli/import.txt",
        transcript(shell, "plan", "deploy", "import", "import", "import -ojson", "status", "events", "plan"),
    )


def test_taking_over_in_json(shell: Shell, others: Others, golden: Golden) -> None:
    """The same for programs; asked for with --confirm it needs consent."""
    assert others

    golden.check("cli/import_in_json.txt", transcript(shell, "import --confirm -ojson", "import --yes -ojson"))


def test_there_must_be_something_to_import(shell: Shell, others: Others, golden: Golden) -> None:
    """Nothing of that name is an error that says what to do instead."""
    others.there.clear()

    golden.check("cli/import_nothing.txt", transcript(shell, "import"))
