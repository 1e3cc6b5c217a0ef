"""The Vertex AI double's rules are named where they are applied, and its methods are the services' own."""

from __future__ import annotations

import re
from pathlib import Path

import tests.doubles.vertex
from tests.doubles.vertex import protos
from tests.doubles.vertex.application import OWNED
from tests.doubles.vertex.rules import RULES

FOLDER = Path(tests.doubles.vertex.__file__).parent
REFUSAL = r'(?:invalid|precondition|missing|wrong_field|Refusal)\(\s*"([a-z-]+\.[a-z0-9-]+)"'
NAMED = re.compile(rf"# rule ([a-z0-9.-]*[a-z0-9])|{REFUSAL}")


def test_each_rule_is_named_where_it_is_applied() -> None:
    """The table and the code name the same rules, each once in the table."""
    code = "".join(file.read_text() for file in sorted(FOLDER.glob("*.py")) if file.name != "rules.py")
    named = {comment or argument for comment, argument in NAMED.findall(code)}

    assert named == {rule.id for rule in RULES}
    assert len(named) == len(RULES)


def test_what_is_no_guess_has_a_source() -> None:
    """Documented and observed rules have a public address; a guess has none."""
    assert [rule.id for rule in RULES if rule.source.startswith("https://") == (rule.mark == "guessed")] == []


def test_every_method_is_one_of_the_services() -> None:
    """Each method that the double owns exists in one of Google's clients, with a request that can be read."""
    official = {
        (method.service, method.operation): method
        for prefix in protos.CLIENTS
        for method in protos._methods(prefix).values()
    }

    assert [name for name in OWNED if name not in official] == []
    assert [name for name in OWNED if official[name].request is None] == []
