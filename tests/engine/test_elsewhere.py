"""One spec as each provider reads it: which overlay is for which, and what stands against it there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mlscale.clock import SystemClock
from mlscale.engine.elsewhere import Reading, readings
from mlscale.engine.session import World
from mlscale.errors import SpecInvalid
from mlscale.plan.steps import Change
from mlscale.providers.registry import provider_of
from mlscale.state.store import open_store

SPEC = """\
version: 1
name: reviews
provider: local
workspace: ./workspace
model: {source: model, framework: sklearn}
"""
AWS = """\
    region: us-east-1
    endpoint: {machine: ml.c6i.large}
    sagemaker: {role: "arn:aws:iam::123456789012:role/serving", uploads: "s3://models/x"}
"""
GCP = """\
    region: us-central1
    account: acme-ml
    endpoint: {machine: n1-standard-4}
    vertex: {uploads: "gs://models/x"}
"""
EVERYWHERE = f"{SPEC}environments:\n  aws:\n    provider: sagemaker\n{AWS}  gcp:\n    provider: vertex\n{GCP}"
CLOUDS = World(
    provider=lambda site: provider_of(site, SystemClock()), store=open_store, clock=SystemClock(), variables={}
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the model's file."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.joblib").write_bytes(b"model")
    return tmp_path


def read(folder: Path, text: str, env: str | None = None, overrides: Sequence[str] = ()) -> tuple[Reading, ...]:
    """Return how each provider reads a spec, asked as it is in earnest."""
    return readings(CLOUDS, folder / "spec.yaml", text.encode(), env=env, overrides=overrides)


def brief(found: Sequence[Reading]) -> list[tuple[str, str | None, bool, bool]]:
    """Return of each reading whose it is, with which overlay, whether it is swapped, and whether it is valid."""
    return [(each.provider, each.env, each.swapped, each.valid) for each in found]


def test_one_file_is_for_all_where_an_overlay_names_each(folder: Path) -> None:
    """Each provider gets the overlay that names it, and its machines are what it is asked otherwise."""
    found = read(folder, EVERYWHERE)

    assert brief(found) == [
        ("local", None, False, True),
        ("sagemaker", "aws", False, True),
        ("vertex", "gcp", False, True),
    ]
    assert [each.changes for each in found] == [
        (),
        (
            Change("endpoint.machine", None, "ml.c6i.large"),
            Change("sagemaker.role", None, "arn:aws:iam::123456789012:role/serving"),
        ),
        (Change("endpoint.machine", None, "n1-standard-4"),),
    ]


def test_without_an_overlay_only_the_provider_is_replaced(folder: Path) -> None:
    """What is missing there is listed by its path, with what it wants."""
    found = read(folder, SPEC)

    assert brief(found) == [
        ("local", None, False, True),
        ("sagemaker", None, True, False),
        ("vertex", None, True, False),
    ]
    assert [{problem.what.partition(" is ")[0] for problem in each.problems} for each in found] == [
        set(),
        {"region", "sagemaker.role", "endpoint.machine"},
        {"region", "account", "endpoint.machine"},
    ]


def test_an_overlay_is_the_own_one_where_it_is_asked_for(folder: Path) -> None:
    """The overlay's provider comes first, and the top of the file is another's with nothing laid over."""
    assert brief(read(folder, EVERYWHERE, env="gcp")) == [
        ("vertex", "gcp", False, True),
        ("local", None, False, True),
        ("sagemaker", "aws", False, True),
    ]


def test_an_overlay_that_names_no_provider_is_for_that_of_the_top(folder: Path) -> None:
    """It is laid over for that one and where the provider alone is replaced, not over another overlay."""
    text = f"{SPEC}environments:\n  prod: {{labels: {{stage: prod}}}}\n  gcp:\n    provider: vertex\n{GCP}"

    assert brief(read(folder, text, env="prod")) == [
        ("local", "prod", False, True),
        ("sagemaker", "prod", True, False),
        ("vertex", "gcp", False, True),
    ]
    assert brief(read(folder, text, env="prod", overrides=["provider=vertex"]))[1] == ("local", "prod", False, True)


def test_a_provider_on_the_command_line_goes_before_the_file(folder: Path) -> None:
    """It is the own one then, and what names another in the file keeps its own."""
    found = read(folder, EVERYWHERE, env="aws", overrides=["provider=vertex"])

    assert brief(found) == [
        ("vertex", "aws", False, False),
        ("local", None, False, True),
        ("sagemaker", "aws", False, True),
    ]


def test_several_overlays_for_one_provider_are_each_read(folder: Path) -> None:
    """A staging project and the real one are two readings."""
    more = GCP.replace("acme-ml", "acme-test")

    found = read(folder, f"{EVERYWHERE}  try:\n    provider: vertex\n{more}")

    assert [each.env for each in found if each.provider == "vertex"] == ["gcp", "try"]


def test_what_is_for_another_alone_is_ignored(folder: Path) -> None:
    """A block of another's is no problem, and is told."""
    text = f"{SPEC}sagemaker: {{dashboard: true, network_isolation: true}}\nlocal: {{port: 8080}}\n"

    found = {each.provider: each.ignored for each in read(folder, text, overrides=["endpoint.machine=n1-standard-4"])}

    assert found["local"] == (
        "endpoint.machine is for a cloud: it changes nothing here",
        "sagemaker.dashboard, sagemaker.network_isolation are for sagemaker alone",
    )


def test_what_a_provider_would_refuse_is_told_without_asking_it(folder: Path) -> None:
    """Vertex AI has no container that runs a handler, which the spec alone says."""
    (folder / "inference.py").write_text("def predict(model, inputs):\n    return inputs\n")

    found = read(folder, EVERYWHERE, overrides=["model.handler=inference.py"])

    assert [[refusal.path for refusal in each.refusals] for each in found] == [[], [], ["model.handler"]]
    assert found[2].valid is False


def test_without_the_files_what_serves_them_is_not_known(tmp_path: Path) -> None:
    """A spec can be checked where its model is not; what hangs on it is said to be not known."""
    found = read(tmp_path, EVERYWHERE)

    assert [each.unknown for each in found] == ["", *["model not found: what serves it is not known"] * 2]
    assert all(each.valid for each in found)


@pytest.mark.parametrize("text", ["[]", "name: reviews", SPEC.replace("local", "nowhere"), "a: ["])
def test_what_names_no_provider_is_no_spec(folder: Path, text: str) -> None:
    """There is nothing to compare."""
    with pytest.raises(SpecInvalid):
        read(folder, text)


def test_a_variable_may_say_the_provider(folder: Path) -> None:
    """It is filled before anything is compared."""
    assert brief(read(folder, SPEC.replace("local", "${WHERE:-local}")))[0] == ("local", None, False, True)
