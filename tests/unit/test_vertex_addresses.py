"""Where Google's services are asked."""

from __future__ import annotations

import pytest

from mlscale.errors import UsageError
from mlscale.providers.vertex.addresses import GOOGLE, STORAGE, VERTEX, Address, advice, chosen


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:8085", Address("127.0.0.1:8085", is_plain=True)),
        ("http://localhost:8085/", Address("localhost:8085", is_plain=True)),
        ("HTTP://vertex.internal:8085", Address("vertex.internal:8085", is_plain=True)),
        ("http://[::1]:8085", Address("[::1]:8085", is_plain=True)),
        ("http://localhost", Address("localhost:80", is_plain=True)),
        ("https://vertex.internal", Address("vertex.internal:443")),
        ("vertex.internal:8443", Address("vertex.internal:8443")),
    ],
)
def test_a_scheme_says_how_an_address_is_asked(text: str, address: Address) -> None:
    """Plain where it is http; with TLS where it is https, or nothing."""
    assert chosen(VERTEX, {VERTEX: text}) == address


@pytest.mark.parametrize("environment", [{}, {VERTEX: ""}, {VERTEX: " "}, {GOOGLE: "http://localhost:8085"}])
def test_without_an_address_there_is_none(environment: dict[str, str]) -> None:
    """Google's own is asked then."""
    assert chosen(VERTEX, environment) is None


@pytest.mark.parametrize(
    "text",
    [
        *("http://localhost:8085/v1", "http://localhost:8085?a=b", "grpc://localhost:8085", "http://", "//localhost"),
        *("http://me@localhost:8085", "http://::1:8085", "http://localhost:port", "local host:8085"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """A path would be left out without a word, and a scheme that is not known taken for TLS."""
    with pytest.raises(UsageError) as raised:
        chosen(VERTEX, {VERTEX: text})

    assert str(raised.value) == (
        f"MLSCALE_VERTEX_API_ENDPOINT is not an address: {text}: a host and a port are all that gRPC knows"
    )
    assert raised.value.hint == (
        "write it like MLSCALE_VERTEX_API_ENDPOINT=http://127.0.0.1:8085, or https:// for TLS and credentials"
    )


@pytest.mark.parametrize(
    ("variable", "environment", "said"),
    [
        (VERTEX, {}, ""),
        (
            VERTEX,
            {VERTEX: "https://localhost:8085"},
            f"write {VERTEX}=http://localhost:8085 for a server without TLS, which asks for none",
        ),
        (
            GOOGLE,
            {VERTEX: "http://localhost:8085"},
            f"name a server in {GOOGLE}, too, where what {VERTEX} leads to is not Google's",
        ),
        (
            STORAGE,
            {VERTEX: "http://localhost:8085", GOOGLE: "http://localhost:8085"},
            f"name a server in {STORAGE}, too, where what {VERTEX} leads to is not Google's",
        ),
    ],
)
def test_who_rehearses_is_told_what_else_to_name(variable: str, environment: dict[str, str], said: str) -> None:
    """Credentials are no help against a server that is not Google's."""
    assert advice(variable, environment) == said
