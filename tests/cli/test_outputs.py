"""What commands print, whole, as a user sees it."""

from __future__ import annotations

import shlex

import pytest

from mlscale.cli.app import COMMANDS, INNER
from tests.cli.conftest import SPEC, Shell, steady
from tests.conftest import Golden

BAD_SPEC = """\
version: 1
name: Reviews
provider: lokal
model: {source: model.bin, framwork: custom}
endpoint: {replicas: {min: 3, max: 1}}
"""
EVERYWHERE = (
    SPEC.replace("custom", "sklearn")
    + """\
alarms: {error_rate: 1%}
environments:
  aws:
    provider: sagemaker
    region: us-east-1
    endpoint: {machine: ml.c6i.large}
    sagemaker: {role: "arn:aws:iam::123456789012:role/serving"}
  gcp:
    provider: vertex
    region: us-central1
    account: acme-ml
    endpoint: {machine: n1-standard-4}
    vertex: {service_account: serving@acme-ml.iam.gserviceaccount.com}
"""
)
NAMES = [name for group in COMMANDS.values() for name in group]
WIDEST = 80


def transcript(shell: Shell, *commands: str) -> str:
    """Return what each of `commands` printed, where to, and its exit code."""
    parts = []
    for command in commands:
        ran = shell.run(*shlex.split(command))
        parts.append(f"$ mlscale {command}\n")
        parts += [f"[{name}]\n{text}" for name, text in (("stdout", ran.stdout), ("stderr", ran.stderr)) if text]
        parts.append(f"[exit {ran.code}]\n\n")
    return steady("".join(parts), shell.folder)


@pytest.mark.parametrize("command", ["", *NAMES, *(f"{name} {each}" for name in INNER for each in INNER[name])])
def test_help(shell: Shell, golden: Golden, command: str) -> None:
    """Every help page is as it was read last, and fits a terminal of 80 columns."""
    page = transcript(shell, f"{command} --help".strip())

    golden.check(f"cli/help/{command.replace(' ', '_') or 'mlscale'}.txt", page)
    assert [line for line in page.splitlines() if len(line) > WIDEST] == []


def test_validate(shell: Shell, golden: Golden) -> None:
    """A good spec is called that, a bad one has all of its problems listed; both also as JSON."""
    shell.write("bad.yaml", BAD_SPEC)

    golden.check(
        "cli/validate.txt",
        transcript(
            shell,
            "validate",
            "validate --output json",
            "validate bad.yaml",
            "validate bad.yaml --output json",
            "validate missing.yaml",
        ),
    )


def test_validate_for_all_providers(shell: Shell, golden: Golden) -> None:
    """What a spec is on each provider: valid or not, what is ignored, and what is asked otherwise; also as JSON."""
    shell.write("everywhere.yaml", EVERYWHERE)
    shell.provider.refused_frameworks = frozenset({"onnx"})

    golden.check(
        "cli/validate_all.txt",
        transcript(
            shell,
            "validate --all-providers everywhere.yaml",
            "validate --all-providers everywhere.yaml --env gcp --set model.framework=onnx --output json",
            "validate --all-providers",
            "validate --all-providers --set provider=nowhere",
        ),
    )


def test_plan(shell: Shell, golden: Golden) -> None:
    """A first deploy, planned: as text, as Markdown, as JSON, saved, with the detailed exit code."""
    golden.check(
        "cli/plan.txt",
        transcript(
            shell,
            "plan",
            "plan --output markdown",
            "plan --output json",
            "plan --out first.plan.json",
            "plan --detailed-exitcode --output jsonl",
        ),
    )


def test_plan_of_a_change(shell: Shell, golden: Golden) -> None:
    """What is there already is not in the plan, and nothing to do is said in one line with exit code 0."""
    shell.good("deploy")
    unchanged = transcript(shell, "plan --detailed-exitcode", "plan --output json", "plan --destroy")
    shell.write("spec.yaml", SPEC.replace("max: 4", "max: 8"))
    shell.write("model.bin", "two")

    golden.check("cli/plan_of_a_change.txt", unchanged + transcript(shell, "plan", "plan --output markdown"))


def test_a_life(shell: Shell, golden: Golden) -> None:
    """Deploy, look, deploy again, change, roll back, clean up, destroy: what a user reads on the way."""
    first = transcript(shell, "deploy", "status", "list", "events", "deploy", "logs", "invoke --data '[1, 2]'")
    shell.write("model.bin", "two")
    second = transcript(
        shell, "deploy", "rollback", "gc", "destroy", "destroy --yes", "status", "list", "destroy --yes"
    )

    golden.check("cli/life.txt", first + second)


def test_a_life_in_json(shell: Shell, golden: Golden) -> None:
    """The same for programs: one document on stdout, schema_version in each."""
    first = transcript(
        shell,
        "deploy -ojson",
        "status -ojson",
        "list -ojson",
        "events -ojson",
        "logs -ojson",
        "invoke --data '[1, 2]' -ojson",
        "gc --dry-run -ojson",
    )
    shell.write("model.bin", "two")
    second = transcript(shell, "deploy -ojsonl", "rollback -ojson", "destroy --yes -ojson", "status -ojson")

    golden.check("cli/life_in_json.txt", first + second)


def test_a_failed_change(shell: Shell, golden: Golden) -> None:
    """A change that does not hold: what failed, what serves, and what to do next."""
    from tests.doubles.fake_provider import Fault, Op

    shell.good("deploy")
    shell.write("model.bin", "two")
    shell.provider.faults[Op.ADD] = Fault.BEFORE

    golden.check("cli/failed_change.txt", transcript(shell, "deploy", "status", "events"))


def test_several_specs(shell: Shell, golden: Golden) -> None:
    """Each deployment has its line, and after one that fails the others are said to be not begun."""
    from tests.doubles.fake_provider import Fault, Op

    for name in ("a", "b", "c"):
        shell.write(f"{name}.yaml", SPEC.replace("reviews", name))
    good = transcript(shell, "deploy a.yaml b.yaml", "deploy a.yaml b.yaml --output json")
    shell.write("model.bin", "two")
    shell.provider.faults[Op.ADD] = Fault.BEFORE

    golden.check("cli/several.txt", good + transcript(shell, "deploy a.yaml b.yaml c.yaml"))


def test_plans_of_several_specs(shell: Shell, golden: Golden) -> None:
    """Each plan stands under its deployment's name; a plan file has one, and two specs are never one deployment."""
    for name in ("a", "b"):
        shell.write(f"{name}.yaml", SPEC.replace("reviews", name))
    shell.good("deploy", "b.yaml")

    golden.check(
        "cli/plans.txt",
        transcript(
            shell,
            "plan a.yaml b.yaml",
            "plan a.yaml b.yaml --output json",
            "plan a.yaml b.yaml --output jsonl --detailed-exitcode",
            "plan a.yaml b.yaml --output markdown",
            "plan a.yaml b.yaml --destroy",
            "plan b.yaml b.yaml",
            "plan a.yaml b.yaml --out plans.json",
            "plan b.yaml --detailed-exitcode",
        ),
    )


def test_settings_and_doctor(shell: Shell, golden: Golden) -> None:
    """The settings with their origin, and the checks with what mends each."""
    shell.settings("timeout: 10m\n")
    good = transcript(shell, "config show", "config show --origin", "doctor", "doctor -ojson")
    shell.write("workspace", "a file where the folder should be")

    golden.check("cli/doctor.txt", good + transcript(shell, "doctor --workspace workspace", "doctor nowhere"))


def test_templates(shell: Shell, golden: Golden) -> None:
    """Templates are listed, written, and never written over."""
    golden.check(
        "cli/init.txt",
        transcript(
            shell,
            "init",
            "init -ojson",
            "init custom",
            "init custom",
            "init custom --force -ojson",
            "init costum",
            "validate custom/spec.yaml",
            "init sagemaker",
            "validate sagemaker/spec.yaml",
            "init vertex",
            "validate vertex/spec.yaml",
        ),
    )


def test_usage_errors(shell: Shell, golden: Golden) -> None:
    """What can't be is refused with exit code 2, in the form that was asked for."""
    golden.check(
        "cli/usage.txt",
        transcript(
            shell,
            "",
            "plam",
            "plan --detailed-exitcod",
            "plan --output xml",
            "plan --bogus --output=json",
            "plan --bogus -o jsonl",
            "deploy --timeout soon",
            "deploy --plan missing.json",
            "deploy --plan missing.json spec.yaml",
            "logs --tail -1",
            "rollback",
            "events",
            "gc",
            "logs",
            "invoke --data x --file y",
        ),
    )
