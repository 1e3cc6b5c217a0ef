"""What becomes of a spec's text: a checked spec, or every problem with its place, its reason and what to do."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from mlscale.errors import Problem, SpecInvalid
from mlscale.spec.model import Replicas, Spec
from mlscale.spec.parse import parse

BASE = """\
version: 1
name: reviews
provider: local
model:
  source: ./model
  framework: sklearn
"""
"""The least that a spec must say; what a test adds begins in line 7."""

SCALED = f"{BASE}endpoint:\n  replicas: {{min: 1, max: 5}}\n  autoscaling:\n"

TOP_KEYS = (
    "version, name, provider, region, account, workspace, labels, model, endpoint, rollout, alarms, sagemaker, vertex, "
    "local, environments"
)
ENDPOINT_KEYS = "kind, machine, capacity, serverless, async_inference, replicas, autoscaling, accelerator, health"


def parsed(text: str | bytes, **arguments: Any) -> Spec:
    """Return the spec that `text` says, with no variables set unless named."""
    return parse(text, "spec.yaml", **{"variables": {}, **arguments})


def problems(text: str | bytes, **arguments: Any) -> list[str]:
    """Return all problems of `text` as a user reads them, less the file's name; none if it is valid."""
    try:
        parsed(text, **arguments)
    except SpecInvalid as error:
        return [str(problem).removeprefix("spec.yaml:") for problem in error.problems]
    return []


def test_a_problem_says_where_what_why_and_what_to_do() -> None:
    """A problem's parts stand apart, so that JSON and editors have them one by one."""
    with pytest.raises(SpecInvalid) as caught:
        parsed(BASE + "name: other\n")

    assert caught.value.problems == (
        Problem("spec.yaml", 7, 1, "name is written twice", "first in line 2", "keep one of them"),
    )


def test_the_least_spec_is_completed() -> None:
    """What is left out has the default that the language says."""
    spec = parsed(BASE)

    assert spec.endpoint.kind == "realtime"
    assert spec.endpoint.replicas == Replicas(min=1, max=1)
    assert spec.endpoint.health.startup_timeout == timedelta(minutes=10)
    assert spec.rollout.keep_revisions == 5
    assert (spec.local.host, spec.local.port) == ("127.0.0.1", 0)


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    """A wrong type in each section: one run names them all, those of overrides last."""
    text = BASE.replace("sklearn", "scikit") + "endpoint: {replicas: {min: two, max: 1.5}}\nlabels: [a]\nrollout: 5\n"

    known = "onnx, sklearn, xgboost, lightgbm, pytorch, tensorflow, huggingface or custom"
    assert problems(text, overrides=["local.port=x"]) == [
        f"6:14: model.framework is not valid: 'scikit' is not one of: {known}",
        "7:28: endpoint.replicas.min is not valid: it is 'two', a whole number is needed",
        "7:38: endpoint.replicas.max is not valid: it is 1.5, a whole number is needed",
        "8:9: labels is not valid: it is a list, a mapping is needed",
        "9:10: rollout is not valid: it is 5, a mapping is needed",
        "--set local.port: local.port is not valid: it is 'x', a whole number is needed",
    ]


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        (
            "endpoint: {autoscaling: {target: 4}}\n",
            "7:34: endpoint.autoscaling.target is not valid: it is 4, a list is needed (begin each entry with a dash)",
        ),
        (
            "endpoint: {replicas: many}\n",
            "7:22: endpoint.replicas is not valid: a number is needed, or a mapping with min and max",
        ),
        ("endpoint: {replicas: 0}\n", "7:22: endpoint.replicas is not valid: it must be 1 to 1000"),
        (
            "endpoint: {replicas: {min: 3, max: 2}}\n",
            "7:36: endpoint.replicas.max is not valid: max 2 is less than min 3",
        ),
        (
            "endpoint: {kind: serverless}\n",
            "7:18: endpoint.kind is not valid: serverless is not available on this machine; use realtime",
        ),
        (
            "endpoint: {health: {path: ping}}\n",
            ("7:27: endpoint.health.path is not valid: 'ping' is no route (write it like /ping)"),
        ),
        ("endpoint:\n", "7:10: endpoint is not valid: it is nothing, a mapping is needed"),
        ("local: {port: 70000}\n", "7:15: local.port is not valid: it is 70000, 65535 at most"),
        ("local: {port: -1}\n", "7:15: local.port is not valid: it is -1, 0 at least"),
        ("local: {allow_remote: 1}\n", "7:23: local.allow_remote is not valid: it is 1, true or false is needed"),
        ("local: {host: a b}\n", "7:15: local.host is not valid: 'a b' is no address"),
        (
            "local: {host: 0.0.0.0}\n",
            "7:15: local.host is not valid: 0.0.0.0 can be reached from other machines: that needs allow_remote: true",
        ),
        ("workspace: ftp://a/b\n", "7:12: workspace is not valid: a workspace is a folder, s3:// or gs://"),
        (
            "labels: {Team: a}\n",
            (
                "7:10: labels.Team is not valid: lower-case letters, digits, _ and -, a letter first,"
                " 63 characters at most"
            ),
        ),
        (
            "labels: {'': a}\n",
            (
                "7:10: labels.'' is not valid: lower-case letters, digits, _ and -, a letter first,"
                " 63 characters at most"
            ),
        ),
        ("labels: {a: 'x,y'}\n", "7:13: labels.a is not valid: letters, digits, spaces and _ . : / = + - @ only"),
        (f"labels: {{a: {'x' * 64}}}\n", "7:13: labels.a is not valid: it has 64 characters, 63 at most"),
        ("  handler: ''\n", "7:12: model.handler is not valid: it is empty, a text is needed"),
        ("  handler: [a]\n", "7:12: model.handler is not valid: it is a list, a text is needed"),
        (f"  handler: {'x' * 5000}\n", "7:12: model.handler is not valid: it has 5,000 characters, 4,096 at most"),
        (
            "  environment: {1A: x}\n",
            (
                "7:17: model.environment.1A is not valid: a variable's name has letters, digits and _, "
                "and does not begin with a digit"
            ),
        ),
        (
            "  environment: {MLSCALE_X: x}\n",
            "7:17: model.environment.MLSCALE_X is not valid: MLSCALE_X is set by mlscale; choose another name",
        ),
        (
            "  environment: {A: 'env:B'}\n",
            "7:20: model.environment.A is not valid: a reference to a secret is not available in this version",
        ),
    ],
)
def test_a_wrong_value_is_told_at_its_place(added: str, expected: str) -> None:
    """Every kind of wrong value has words of its own, and nothing else is reported beside it."""
    assert problems(BASE + added) == [expected]


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ("endpint: {replicas: 2}\n", ["7:1: endpint is unknown (did you mean endpoint?)"]),
        ("endpoint: {replica: 2}\n", ["7:12: endpoint.replica is unknown (did you mean replicas?)"]),
        (
            "endpoint: {xyz: 2}\n",
            [f"7:12: endpoint.xyz is unknown (known here: {ENDPOINT_KEYS})"],
        ),
        (
            'endpoint: {"a\\nb": 2}\n',
            [f"7:12: endpoint.'a\\nb' is unknown (known here: {ENDPOINT_KEYS})"],
        ),
        (
            "endpoint: {replicas: 2, replcas: 2, helth: {}}\n",
            [
                "7:25: endpoint.replcas is unknown (did you mean replicas?)",
                "7:37: endpoint.helth is unknown (did you mean health?)",
            ],
        ),
        (
            "endpoint: {replicas: {min: 1, max: 2}, autoscaling: {target: [{metrc: cpu, metric: cpu, value: 1}]}}\n",
            ["7:64: endpoint.autoscaling.target[0].metrc is unknown (did you mean metric?)"],
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(added: str, expected: list[str]) -> None:
    """A slip of the pen is never ignored, at any depth; where nothing is near, the keys that are known are listed."""
    assert problems(BASE + added) == expected


@pytest.mark.parametrize("key", ["batch", "budget", "gateway"])
def test_a_section_that_nothing_carries_out_is_unknown(key: str) -> None:
    """What the language will have later is refused today, never silently left undone."""
    assert problems(f"{BASE}{key}: {{}}\n") == [f"7:1: {key} is unknown (known here: {TOP_KEYS})"]


@pytest.mark.parametrize(
    ("rollout", "expected"),
    [
        ("strategy: canary, steps: [10%, 5%]", "rollout.steps[1] is not valid: 5% is not more than the step before"),
        (
            "strategy: canary, steps: [50%, 100%]",
            "rollout.steps[1] is not valid: it must be less than 100%, which is what a promotion gives",
        ),
        ("steps: [20%]", "rollout.steps is not valid: it is for strategy: canary, and this is all_at_once"),
        ("strategy: linear, mirror: 5%", "rollout.mirror is not valid: it is for strategy: shadow, and this is linear"),
        (
            "strategy: rolling, step: 100%",
            "rollout.step is not valid: it must be less than 100%, or nothing is done step by step",
        ),
        (
            "strategy: canary, analysis: {error_rate: null}",
            (
                "rollout.analysis.error_rate is not valid: there must be something to judge by: error_rate, latency or "
                "custom"
            ),
        ),
        (
            "strategy: canary, analysis: {error_rate: {no_worse_than_baseline: false}}",
            (
                "rollout.analysis.error_rate is not valid: it is judged by nothing: write max, or "
                "no_worse_than_baseline: true"
            ),
        ),
        (
            "strategy: canary, analysis: {custom: [{name: latency, command: x}]}",
            "rollout.analysis.custom[0].name is not valid: latency is there twice",
        ),
        (
            "strategy: canary, analysis: {custom: [{name: a}]}",
            "rollout.analysis.custom[0] is not valid: a metric has command, promql or cloudwatch",
        ),
        (
            "strategy: canary, analysis: {custom: [{name: a, command: x, cloudwatch: {bad: $variant, all: $variant}}]}",
            ("rollout.analysis.custom[0].cloudwatch is not valid: a metric counts in one way, and has command already"),
        ),
        (
            (
                "strategy: canary, analysis: {custom: [{name: a, promql: {server: https://a/b, bad: $revision, "
                "all: $revisions}}]}"
            ),
            (
                "rollout.analysis.custom[0].promql.all is not valid: it does not say $revision, so that both revisions "
                "would have the same numbers"
            ),
        ),
        (
            (
                "strategy: canary, analysis: {custom: [{name: a, promql: {server: 'https://a/?b', bad: $revision, "
                "all: $revision}}]}"
            ),
            (
                "rollout.analysis.custom[0].promql.server is not valid: this is no server: leave out what is asked of "
                "it, ? and all after it"
            ),
        ),
        (
            (
                "strategy: canary, analysis: {custom: [{name: a, promql: {server: https://a, token: t0ken, "
                "bad: $revision, all: $revision}}]}"
            ),
            "rollout.analysis.custom[0].promql.token is not valid: a token stands in a variable: write env:NAME",
        ),
        (
            "strategy: canary, analysis: {false_alarm: 0%}",
            "rollout.analysis.false_alarm is not valid: it must be more than 0% and 100% at most",
        ),
        (
            "gates: {before: [{command: x}]}",
            "rollout.gates is not valid: it is for strategy: canary or linear or shadow, and this is all_at_once",
        ),
        (
            "strategy: canary, driver: native, notify: [env:SLACK]",
            "rollout.notify is not valid: with driver: native the provider goes the steps, and asks or tells nobody",
        ),
        (
            "strategy: canary, gates: {during: [{timeout: 5s}]}",
            "rollout.gates.during[0] is not valid: a gate has either command or url",
        ),
        (
            "strategy: canary, gates: {during: [{command: x, url: env:X}]}",
            "rollout.gates.during[0] is not valid: a gate has either command or url",
        ),
    ],
)
def test_a_rollout_fits_its_strategy(rollout: str, expected: str) -> None:
    """What belongs to another strategy is refused, and so is what would judge by nothing."""
    found = problems(f"{BASE}rollout: {{{rollout}}}\n")

    assert [each.partition(": ")[2] for each in found] == [expected]


@pytest.mark.parametrize(
    "address",
    [
        "https://me:secret@example.com/hook",
        "ftp://example.com/secret",
        "https://example.com:99999/secret",
        "https://example.com/secret#part",
        "file:///etc/secret",
        "https://example.com/sec ret",
        f"https://example.com/{'secret' * 700}",
        "env:1SECRET",
        "secret",
    ],
)
@pytest.mark.parametrize("key", ["gates: {{before: [{{url: {}}}]}}", "notify: [{}]"])
def test_what_is_no_address_is_refused_and_not_shown(address: str, key: str) -> None:
    """A gate or a web hook that can't be called is a problem of the spec; its text may be a secret."""
    found = problems(f"{BASE}rollout:\n  strategy: canary\n  {key}\n".format(f"'{address}'"))

    assert [each.partition(" is not valid: ")[2] for each in found] == [
        "this is no address: write it like https://example.com/hook, or env:NAME for a secret one"
    ]


def test_an_address_is_not_in_the_text_of_a_spec() -> None:
    """It may be a secret, and a traceback or a log shows what holds it."""
    spec = parsed(
        f"{BASE}rollout: {{strategy: canary, notify: ['https://a.b/s3cret'], gates: {{before: [{{url: 'https://a.b/s3cret'}}]}}}}\n"
    )

    assert spec.rollout.notify == ("https://a.b/s3cret",)
    assert "s3cret" not in repr(spec)


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("locl", "'locl' is not one of: local, sagemaker or vertex (did you mean local?)"),
        ("3", "it is 3, not one of: local, sagemaker or vertex"),
    ],
)
def test_another_provider_is_refused(provider: str, expected: str) -> None:
    """The providers that there are are named, and the one that was probably meant."""
    text = BASE.replace("provider: local", f"provider: {provider}")

    assert problems(text) == [f"3:11: provider is not valid: {expected}"]


def test_what_is_missing_is_told_with_its_meaning() -> None:
    """A key that must be there is named at what should hold it, and what it is for."""
    framework = (
        "Who loads it: onnx, sklearn, xgboost, lightgbm, pytorch (TorchScript), tensorflow and huggingface (both for a "
        "cloud), or custom with a handler of your own; needed unless there is an image."
    )
    provider = "Where it runs: local is this machine, sagemaker is Amazon SageMaker, vertex is Google Vertex AI."

    assert problems("version: 1\nname: a\nmodel: {source: m}\n") == [
        f"1:1: provider is missing ({provider})",
        f"3:1: model.framework is missing ({framework})",
    ]


@pytest.mark.parametrize("source", ["s3://acme/model", "gs://acme/model", "registry:reviews@12"])
def test_a_source_that_cannot_be_fetched_is_refused(source: str) -> None:
    """Only files are served in this version, and the reason says which source it was."""
    scheme = source.partition(":")[0]

    assert problems(BASE.replace("./model", source)) == [
        (
            f"5:11: model.source is not valid: a source from {scheme} is not available in this version; "
            "name a file or folder"
        )
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: the spec is empty: it must have keys like name: (mlscale init makes one)"),
        ("# only a comment\n", "1:1: the spec is empty: it must have keys like name: (mlscale init makes one)"),
        ("\n- a\n", "2:1: the spec is not a mapping: it must have keys like name:"),
        ("text", "1:1: the spec is not a mapping: it must have keys like name:"),
        (
            f"{BASE}---\n{BASE}",
            "7:1: this is not YAML: it has several documents (one deployment a file; give several files instead)",
        ),
        (
            f"{BASE}endpoint:\n\treplicas: 2\n",
            (
                "8:1: this is not YAML: found character that cannot start any token "
                "(YAML is indented with spaces, never with tabs)"
            ),
        ),
        (
            f"{BASE}labels: {{a: b",
            "7:14: this is not YAML: did not find expected ',' or '}' (check indentation, colons and quotes)",
        ),
        (
            f"{BASE}labels: {{a: ${{B}}}}\n",
            (
                "7:14: this is not YAML: did not find expected ',' or '}' "
                "(inside [] and {} a ${VARIABLE} must be in quotes, or the mapping written on lines of its own)"
            ),
        ),
        (f"{BASE}labels: {{a: \0}}\n", "7:13: a character is not allowed in YAML: U+0000 (remove it)"),
        (f'{BASE}labels: {{a: "\\0"}}\n', "7:13: a character is not allowed: U+0000 (remove it)"),
        (f"{BASE}labels: {{a: !!binary eA==}}\n", "7:13: a tag is not allowed: tag:yaml.org,2002:binary (remove it)"),
        (f"{BASE}endpoint: !mine {{replicas: 2}}\n", "7:11: a tag is not allowed: !mine (remove it)"),
        (
            f"{BASE}labels: {{a: !!python/object:os.system x}}\n",
            "7:13: a tag is not allowed: tag:yaml.org,2002:python/object:os.system (remove it)",
        ),
        (
            f"{BASE}labels: {{<<: {{a: b}}}}\n",
            "7:10: a merge key is not carried out: << (use environments: for variations)",
        ),
        (f"{BASE}labels: &a {{x: *a}}\n", "7:9: an alias holds itself (write the value out)"),
        (f"{BASE}1: a\n", "7:1: a key is not a text: YAML reads 1 as a number (write it in quotes)"),
        (f"{BASE}no: a\n", "7:1: a key is not a text: YAML reads no as true or false (write it in quotes)"),
        (f"{BASE}[a]: b\n", "7:1: a key is not a text: it is a list or a mapping (write it in quotes)"),
        (
            f"{BASE}labels: {{a: b, a: c}}\n",
            "7:16: a is written twice: first in line 7 (keep one of them)",
        ),
        (f"{BASE}labels: {'[' * 60}{']' * 60}\n", "7:58: the spec nests too deeply: 50 levels at most"),
        (f"{BASE}labels: {{a: [{'1,' * 20_000}]}}", "7:19980: the spec has too many values: 10,000 at most"),
        (
            "#" * 5_000_000,
            "1:1: the spec is too large: 5,000,000 bytes, 1,000,000 at most (a spec names files, it holds none)",
        ),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_text_that_is_no_spec_is_refused_at_its_place(text: str, expected: str) -> None:
    """Whatever is wrong with the text itself is one problem, and what follows from it is not told as another."""
    assert problems(text) == [expected]


def test_depth_without_end_is_refused() -> None:
    """Where is told differs by what reads YAML; that it is too deep does not, and nothing is exhausted by it."""
    [problem] = problems(f"{BASE}labels: {'[' * 100_000}")

    assert re.fullmatch(r"7:\d+: the spec nests too deeply: 50 levels at most", problem)


def test_an_alias_bomb_is_refused_before_it_unfolds() -> None:
    """Nine lines that stand for a billion values end at the limit, with that problem alone."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{chr(ord(name) - 1)}'] * 10)}]" for name in "bcdefghij"]

    assert problems("\n".join(lines) + "\n" + BASE) == ["1:35: the aliases unfold to too much: 10,000 values at most"]


def test_an_alias_of_a_few_values_is_read() -> None:
    """An alias is a value written once, and stands for it."""
    spec = parsed(
        f"{BASE}endpoint:\n  health: {{startup_timeout: &t 5m}}\nrollout: {{strategy: blue_green, bake_time: *t}}"
    )

    assert spec.rollout.bake_time == spec.endpoint.health.startup_timeout == timedelta(minutes=5)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            f"{BASE}labels: {{a: é}}\n".encode("latin-1"),
            "7:13: the spec is not UTF-8: byte 0xe9 at offset 99 (save it as UTF-8)",
        ),
        (BASE.encode("utf-16"), "1:1: the spec is not UTF-8: byte 0xff at offset 0 (save it as UTF-8)"),
    ],
)
def test_bytes_that_are_not_utf8_are_refused_at_the_byte(raw: bytes, expected: str) -> None:
    """A file in another encoding is told at its first byte that can't be read."""
    assert problems(raw) == [expected]


def test_line_ends_and_a_byte_order_mark_of_windows_are_read() -> None:
    """A file saved by another editor is the same spec, and places are the same."""
    windows = ("\ufeff" + BASE).replace("\n", "\r\n").encode()

    assert parsed(windows) == parsed(BASE)
    assert problems(windows + b"labels: 1\r\n") == ["7:9: labels is not valid: it is 1, a mapping is needed"]


@pytest.mark.parametrize(
    ("written", "read"),
    [("yes", "true"), ("off", "false"), ("1.10", "1.1"), ("0123", "83"), ("12:30", "750"), ("1_000", "1000")],
)
def test_a_text_that_yaml_reads_as_something_else_is_explained(written: str, read: str) -> None:
    """A version 1.10 is not quietly 1.1: what YAML made of it is said, and how to write it."""
    assert problems(f"{BASE}  framework_version: {written}\n") == [
        f'7:22: model.framework_version is not valid: YAML reads {written} as {read} (write it in quotes: "{written}")'
    ]


def test_a_text_is_no_number_and_a_date_is_a_text() -> None:
    """Types are strict: quotes make a text, and only what YAML types otherwise needs them."""
    spec = parsed(f"{BASE}labels: {{day: 2024-01-01, path: a/b}}\n")

    assert spec.labels == {"day": "2024-01-01", "path": "a/b"}
    assert problems(f'{BASE}labels: {{a: 3}}\nlocal: {{port: "80"}}\n') == [
        '7:13: labels.a is not valid: 3 is not a text (write it in quotes: "3")',
        "8:15: local.port is not valid: it is '80', a whole number is needed",
    ]


@pytest.mark.parametrize("version", ["'1'", "true", "1.0"])
def test_the_version_is_the_number_one(version: str) -> None:
    """What only equals 1 is no version."""
    text = BASE.replace("version: 1", f"version: {version}")

    assert problems(text) == ["1:10: version is not valid: the number 1 is needed, without quotes"]


def test_another_version_is_refused() -> None:
    """A spec of a later language is not read as one of this."""
    assert problems(BASE.replace("version: 1", "version: 2")) == ["1:10: version is not valid: it is 2, not one of: 1"]


@pytest.mark.parametrize("name", ["Reviews", "a--b", "-a", "1a", "a_b", "a-", "é"])
def test_a_name_that_fits_no_cloud_is_refused(name: str) -> None:
    """Names of resources derive from it, so the narrowest rule holds."""
    assert problems(BASE.replace("reviews", name)) == [
        f"2:7: name is not valid: '{name}': lower-case letters and digits, single dashes between them, a letter first"
    ]


def test_a_name_has_forty_characters_with_its_environment() -> None:
    """35 characters and -prod are 40 and fit; one more does not, with --env alone."""
    long = BASE.replace("reviews", "a" * 36) + "environments: {prod: {}}\n"
    fits = BASE.replace("reviews", "a" * 35) + "environments: {prod: {}}\n"

    assert parsed(fits, env="prod").name == "a" * 35 + "-prod"
    assert parsed(long).name == "a" * 36
    assert problems(long, env="prod") == [f"2:7: name is not valid: '{'a' * 36}-prod' has 41 characters, 40 at most"]


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        (
            "endpoint: {health: {startup_timeout: 10}}",
            ("endpoint.health.startup_timeout is not valid: a duration has a unit: write it like 30s, 10m or 1h30m"),
        ),
        (
            "endpoint: {health: {startup_timeout: 0s}}",
            ("endpoint.health.startup_timeout is not valid: it must be more than 0s"),
        ),
        (
            "endpoint: {health: {startup_timeout: 9999d}}",
            ("endpoint.health.startup_timeout is not valid: 9999d is too long: 366 days at most"),
        ),
        (
            "endpoint: {health: {startup_timeout: 5 m}}",
            ("endpoint.health.startup_timeout is not valid: '5 m' is not a duration: write it like 30s, 10m or 1h30m"),
        ),
        ("rollout: {bake_time: 5m}", "rollout.bake_time is not valid: bake_time needs strategy: blue_green"),
    ],
)
def test_a_duration_has_a_unit_and_a_limit(added: str, expected: str) -> None:
    """A bare number is no duration, and nobody waits for years."""
    [problem] = problems(BASE + added)

    assert problem.partition(": ")[2] == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("{metric: cpu, value: 70 %}", "[0].value is not valid: '70 %' is not a percentage: write it like 85%"),
        (
            "{metric: concurrency, value: 70%}",
            "[0].value is not valid: 70% is a percentage, and concurrency is a number",
        ),
        ("{metric: cpu, value: 0}", "[0].value is not valid: it must be 0.001 at least"),
        ("{metric: cpu, value: -1}", "[0].value is not valid: it must be 0 to 1,000,000,000"),
        ("{metric: cpu, value: .nan}", "[0].value is not valid: YAML reads .nan as nan, a number is needed"),
        ("{metric: cpu, value: .inf}", "[0].value is not valid: YAML reads .inf as inf, a number is needed"),
        ("{metric: cpu, value: many}", "[0].value is not valid: it is 'many', a number is needed"),
        (
            "{metric: cpuu, value: 1}",
            (
                "[0].metric is not valid: 'cpuu' is not one of: invocations_per_replica, "
                "concurrency, cpu, gpu or queue_depth (did you mean cpu?)"
            ),
        ),
        ("{value: 1}", "[0] is not valid: a target has either metric or custom"),
        ("{value: 70%}", "[0] is not valid: a target has either metric or custom"),
        (
            "{metric: cpu, custom: {namespace: A, name: B}, value: 1}",
            "[0] is not valid: a target has either metric or custom",
        ),
        (
            "{custom: {namespace: A, name: B}, value: 70%}",
            "[0].value is not valid: 70% is a percentage, and a metric of your own is a number",
        ),
        (
            "{custom: {namespace: A, name: B, statistic: p99}, value: 1}",
            ("[0].custom.statistic is not valid: 'p99' is not one of: Average, Minimum, Maximum, SampleCount or Sum"),
        ),
        ("{custom: {name: B}, value: 1}", "[0].custom.namespace is missing (Its namespace, like CWAgent.)"),
        (
            "{custom: {namespace: A, name: ''}, value: 1}",
            "[0].custom.name is not valid: it is empty, a text is needed",
        ),
        (
            "{custom: {namespace: A, name: B}, value: 1}, {custom: {namespace: A, name: B}, value: 2}",
            "[1].custom is not valid: two targets follow A B",
        ),
        ("{metric: cpu, value: 1}, {metric: cpu, value: 2}", "[1].metric is not valid: two targets follow cpu"),
    ],
)
def test_a_target_is_a_metric_and_a_value_that_fits_it(target: str, expected: str) -> None:
    """Percentages are for cpu and gpu, values are finite and above zero, and no metric is tracked twice."""
    [problem] = problems(f"{SCALED}    target: [{target}]\n")

    assert problem.partition(": ")[2] == f"endpoint.autoscaling.target{expected}"


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("{metric: cpu, above: 5, add: 0}", "[0].add is not valid: add 0 changes nothing"),
        ("{metric: cpu, add: 1}", "[0] is not valid: a step has either above or below"),
        ("{metric: cpu, above: 2, below: 1, add: 1}", "[0] is not valid: a step has either above or below"),
        ("{metric: cpu, above: 80%, add: true}", "[0].add is not valid: it is true, a whole number is needed"),
        ("{metric: cpu, above: 80%, add: 5000}", "[0].add is not valid: it is 5000, 1000 at most"),
    ],
)
def test_a_step_has_one_bound_and_changes_the_count(step: str, expected: str) -> None:
    """A step that could never act, or not say when, is refused."""
    [problem] = problems(f"{SCALED}    steps: [{step}]\n")

    assert problem.partition(": ")[2] == f"endpoint.autoscaling.steps{expected}"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            "{cron: 0 8 * *, min: 2}",
            ("[0].cron is not valid: '0 8 * *' is not a time of cron: five fields, like 0 8 * * MON-FRI"),
        ),
        (
            "{cron: 61 * * * *, min: 2}",
            ("[0].cron is not valid: '61 * * * *' is not a time of cron: five fields, like 0 8 * * MON-FRI"),
        ),
        (
            "{cron: '@daily', min: 2}",
            ("[0].cron is not valid: '@daily' is not a time of cron: five fields, like 0 8 * * MON-FRI"),
        ),
        (
            "{cron: H 8 * * *, min: 2}",
            ("[0].cron is not valid: 'H 8 * * *' is not a time of cron: five fields, like 0 8 * * MON-FRI"),
        ),
        ("{cron: 0 0 30 2 *, min: 2}", "[0].cron is not valid: '0 0 30 2 *' never comes"),
        ("{cron: 5, min: 2}", '[0].cron is not valid: 5 is not a text (write it in quotes: "5")'),
        (
            "{cron: 0 8 * * *, timezone: Mars/Base, min: 2}",
            ("[0].timezone is not valid: 'Mars/Base' is no time zone: use a name like Europe/Berlin"),
        ),
        (
            "{cron: 0 8 * * *, timezone: ../passwd, min: 2}",
            ("[0].timezone is not valid: '../passwd' is no time zone: use a name like Europe/Berlin"),
        ),
        ("{cron: 0 8 * * *}", "[0] is not valid: an entry has min, max, or both"),
        ("{cron: 0 8 * * *, min: 3, max: 2}", "[0].max is not valid: max 2 is less than min 3"),
        ("{cron: 0 8 * * *, min: 9}", "[0].min is not valid: min 9 is more than replicas.max 5; write max too"),
    ],
)
def test_a_schedule_entry_comes_and_bounds_something(entry: str, expected: str) -> None:
    """Times are cron's five fields in a zone that exists, and the bounds fit each other and the endpoint's."""
    [problem] = problems(f"{SCALED}    schedule: [{entry}]\n")

    assert problem.partition(": ")[2] == f"endpoint.autoscaling.schedule{expected}"


def test_autoscaling_needs_room_between_the_bounds() -> None:
    """A policy over a fixed count could never act, so it is no way to write one."""
    text = f"{BASE}endpoint: {{replicas: 2, autoscaling: {{target: [{{metric: cpu, value: 70%}}]}}}}\n"

    why = "it has no room: replicas.max must be more than replicas.min, both are 2"
    assert problems(text) == [f"7:47: endpoint.autoscaling.target is not valid: {why}"]


def test_percentages_and_numbers_are_read() -> None:
    """70% and 70 are the same bound of cpu."""
    spec = parsed(
        f"{SCALED}    target: [{{metric: cpu, value: 70%}}]\n    steps: [{{metric: cpu, above: 85, add: 2}}]\n"
    )

    [target], [step] = spec.endpoint.autoscaling.target, spec.endpoint.autoscaling.steps
    assert (target.metric, target.value, step.above) == ("cpu", 70.0, 85.0)


def test_variables_are_filled_from_the_environment() -> None:
    """A variable stands for a text, for a part of one, or for a number; $${ is written for ${ itself."""
    text = (
        f"{BASE}  environment:\n    A: ${{A}}\n    B: pre-${{A}}-${{B:-c}}\n    C: $${{A}}\n    D: '${{N}}'\n"
        "    E: ${EMPTY:-e}\nendpoint:\n  replicas: ${N}\n"
    )

    spec = parsed(text, variables={"A": "a", "N": "4", "EMPTY": ""})

    assert spec.model.environment == {"A": "a", "B": "pre-a-c", "C": "${A}", "D": "4", "E": "e"}
    assert spec.endpoint.replicas == Replicas(min=4, max=4)


def test_variables_that_are_not_set_or_not_written_right_are_told() -> None:
    """Each is a problem of its own at the value that needs it, and no other problem follows from it."""
    text = f"{BASE}  environment:\n    A: ${{A}}\n    B: ${{A}} ${{B}}\n    C: ${{C\n    D: ${{1}}\n    E: ${{E}}\n"
    broken = "a variable is not written right (write ${NAME} or ${NAME:-default}, $${ for the characters themselves)"

    assert problems(text, variables={"E": "a\x1bb"}) == [
        "8:8: the variable A is not set (set it, or write ${A:-default})",
        "9:8: the variable A is not set (set it, or write ${A:-default})",
        "9:8: the variable B is not set (set it, or write ${B:-default})",
        f"10:8: {broken}",
        f"11:8: {broken}",
        "12:8: the variable E has a character that is not allowed: U+001B (remove it)",
    ]


def test_an_environment_is_laid_over_the_rest() -> None:
    """What the overlay says wins, what it leaves out stays, and the name tells which it is."""
    text = (
        f"{BASE}endpoint: {{replicas: {{min: 1, max: 3}}}}\nlabels: {{team: a, stage: test}}\n"
        "environments:\n  prod: {endpoint: {replicas: {max: 9}}, labels: {stage: prod}}\n  named: {name: other}\n"
    )

    prod = parsed(text, env="prod")

    assert (prod.name, prod.endpoint.replicas) == ("reviews-prod", Replicas(min=1, max=9))
    assert prod.labels == {"team": "a", "stage": "prod"}
    assert parsed(text, env="named").name == "other"
    assert parsed(text).endpoint.replicas == Replicas(min=1, max=3)


def test_a_variable_that_is_laid_over_need_not_be_set() -> None:
    """What an overlay or an override replaces is not asked for; what is laid over with one is."""
    text = (
        f"{BASE}  handler: ${{HANDLER}}\nendpoint: {{replicas: '${{N}}'}}\nlabels:\n  a: ${{A}}\n"
        "environments:\n  prod:\n    endpoint:\n      replicas: ${PROD_N}\n"
    )
    overrides = ["model.handler=h.py", "labels={a: b}"]

    spec = parsed(text, env="prod", overrides=overrides, variables={"PROD_N": "3"})

    assert (spec.model.handler, spec.endpoint.replicas, spec.labels) == ("h.py", Replicas(min=3, max=3), {"a": "b"})
    assert problems(text, env="prod", overrides=overrides) == [
        "14:17: the variable PROD_N is not set (set it, or write ${PROD_N:-default})"
    ]
    assert problems(text, overrides=overrides) == ["8:22: the variable N is not set (set it, or write ${N:-default})"]


def test_an_override_is_taken_as_it_stands() -> None:
    """Variables are the file's: the shell has filled what it wanted of the command line."""
    assert parsed(BASE, overrides=["model.source='${A}'"]).model.source == "${A}"


def test_problems_of_an_overlay_stand_in_the_overlay() -> None:
    """The place is where the user wrote it, and the path is what it is laid over."""
    text = f"{BASE}environments:\n  prod:\n    endpoint: {{replicas: none, replcas: 3}}\n    labels: {{a: ${{A}}}}\n"

    assert problems(text.replace("${A}", "1"), env="prod") == [
        "9:26: endpoint.replicas is not valid: a number is needed, or a mapping with min and max",
        "9:32: endpoint.replcas is unknown (did you mean replicas?)",
        '10:17: labels.a is not valid: 1 is not a text (write it in quotes: "1")',
    ]


def test_an_overlay_that_was_not_chosen_is_looked_through_for_unknown_keys() -> None:
    """A slip in prod shows before prod is deployed; its variables need not be set here."""
    text = f"{BASE}environments:\n  prod:\n    replcas: 3\n    labels:\n      a: ${{A}}\n"

    assert problems(text) == [
        f"9:5: environments.prod.replcas is unknown (known here: {TOP_KEYS.removesuffix(', environments')})"
    ]


@pytest.mark.parametrize(
    ("environments", "env", "expected"),
    [
        ("{prod: {}}", "stage", ["7:15: the environment stage is not in the spec: there are: prod"]),
        ("[prod]", None, ["7:15: environments is not a mapping: it is a list (prod: {...})"]),
        (
            "{Prod: {}, a--b: {}, '': {}}",
            None,
            [
                f"7:{column}: the environment {name} has no fitting name: lower-case letters and digits, "
                "single dashes between them"
                for column, name in ((16, "Prod"), (26, "a--b"), (36, "''"))
            ],
        ),
        (
            "{prod: [a]}",
            "prod",
            [
                "7:22: environments.prod is not a mapping: it is a list",
                "7:15: the environment prod is not in the spec: there are: none",
            ],
        ),
    ],
)
def test_environments_are_mappings_with_fitting_names(environments: str, env: str | None, expected: list[str]) -> None:
    """An overlay that could never be chosen, or is none, is a problem at its place."""
    assert sorted(problems(f"{BASE}environments: {environments}\n", env=env)) == sorted(expected)


def test_an_environment_that_no_spec_has_is_refused() -> None:
    """--env without overlays is an error at the spec's beginning, not a spec without one."""
    assert problems(BASE, env="prod") == ["1:1: the environment prod is not in the spec: there are: none"]


def test_overrides_are_laid_over_everything() -> None:
    """Paths go through mappings and lists, make what is not there yet, and are read as YAML."""
    text = f"{SCALED}    target: [{{metric: cpu, value: 70%}}]\nenvironments: {{prod: {{endpoint: {{replicas: 4}}}}}}\n"

    spec = parsed(
        text,
        env="prod",
        overrides=[
            "endpoint.replicas={min: 2, max: 8}",
            "endpoint.autoscaling.target[0].value=50%",
            "endpoint.autoscaling.target[1]={metric: concurrency, value: 3}",
            "labels.team=search",
            "labels.number='1'",
            "name=other",
        ],
    )

    assert (spec.name, spec.endpoint.replicas) == ("other", Replicas(min=2, max=8))
    assert [(each.metric, each.value) for each in spec.endpoint.autoscaling.target] == [
        ("cpu", 50.0),
        ("concurrency", 3.0),
    ]
    assert spec.labels == {"team": "search", "number": "1"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("name", "--set name: this is not path=value: it is 'name' (--set model.source=./m)"),
        ("=b", "--set '': this is not path=value: it is '=b' (--set model.source=./m)"),
        ("a.=3", "--set a.: this is not path=value: it is 'a.=3' (--set model.source=./m)"),
        ("a[0=3", "--set a[0: this is not path=value: it is 'a[0=3' (--set model.source=./m)"),
        ("name.x=3", "--set name.x: there is no such path: name has no 'x'"),
        (
            "endpoint.autoscaling.target[3].metric=cpu",
            (
                "--set endpoint.autoscaling.target[3].metric: there is no such path: "
                "endpoint.autoscaling.target[3] has no 'metric'"
            ),
        ),
        (
            "environments.prod.name=x",
            "--set environments.prod.name: an overlay can't be set (choose it with --env, and set the path itself)",
        ),
        ("name=[", "--set name: the value is not YAML: did not find expected node content"),
        ("endpint.replicas=2", "--set endpint.replicas: endpint is unknown (did you mean endpoint?)"),
        ("labels.a=1", '--set labels.a: labels.a is not valid: 1 is not a text (write it in quotes: "1")'),
        ("model.source=", "--set model.source: model.source is not valid: it is empty, a text is needed"),
        ("labels.a=\ud800", "--set labels.a: the value is not YAML: U+D800"),
        ("labels.\udcff=a", "--set 'labels.\\udcff': a character is not allowed: U+DCFF (remove it)"),
    ],
)
def test_a_wrong_override_is_told_as_what_it_is(override: str, expected: str) -> None:
    """The place of such a problem is the override, whatever stands in the file."""
    assert problems(BASE, overrides=[override]) == [expected]


IMAGE = "version: 1\nname: a\nprovider: local\nmodel: {image: registry.example.com/ml/iris:1.2}\n"


def test_an_image_needs_neither_source_nor_framework() -> None:
    """An image that serves by itself runs in containers, unasked."""
    spec = parsed(IMAGE)

    assert (spec.model.image, spec.in_containers) == ("registry.example.com/ml/iris:1.2", True)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "local.runtime=process",
            "local.runtime is not valid: an image runs as a container: write docker, or leave it out",
        ),
        ("model.handler=a.py", "model.handler is not valid: an image brings its own: leave this out, or model.image"),
        (
            "model.framework=onnx",
            "model.framework is not valid: an image brings its own: leave this out, or model.image",
        ),
        (
            "local.resources.memory=4G",
            "local.resources.memory is not valid: '4G' is not a size: write it like 512Mi or 4Gi",
        ),
        (
            "local.resources.memory=4",
            "local.resources.memory is not valid: a size has a unit: write it like 512Mi or 4Gi",
        ),
        ("local.resources.memory=1Mi", "local.resources.memory is not valid: it must be 16Mi to 64Ti"),
        ("local.resources.cpus=0", "local.resources.cpus is not valid: it is 0, 0.01 at least"),
    ],
)
def test_what_does_not_fit_an_image_is_refused_in_its_place(override: str, expected: str) -> None:
    """What says how mlscale serves is not the image's; limits have ranges and units."""
    assert problems(IMAGE, overrides=[override]) == [f"--set {override.partition('=')[0]}: {expected}"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "endpoint.accelerator.gpus=1",
            "a process sees every GPU of this machine; to give it some, write local: {runtime: docker}",
        ),
        (
            "local.resources.cpus=1",
            "a process has no limits of its own; to give it some, write local: {runtime: docker}",
        ),
    ],
)
def test_what_needs_containers_is_refused_for_processes(override: str, expected: str) -> None:
    """GPUs and limits are a container's; the reason and the key that helps are said, and with it they are taken."""
    [said] = problems(BASE, overrides=[override])

    assert said.endswith(expected)
    assert problems(BASE, overrides=[override, "local.runtime=docker"]) == []
