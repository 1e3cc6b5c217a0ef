"""Where Google's services are asked: at their own addresses, or at one that the environment names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlscale.errors import UsageError

VERTEX, GOOGLE = "MLSCALE_VERTEX_API_ENDPOINT", "MLSCALE_GOOGLE_API_ENDPOINT"
"""Other addresses for Vertex AI and for what else of Google's is asked; http:// is plain and anonymous."""

STORAGE = "STORAGE_EMULATOR_HOST"
"""Another address for Cloud Storage, asked anonymously; Google's own clients know it, too."""

_WRITTEN = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>[\w.-]+|\[[\da-f:.]+\])(?::(?P<port>\d{1,5}))?/?", re.IGNORECASE
)
_PORTS: Mapping[str, str] = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port; `is_plain` says that there is neither TLS nor anybody who asks for credentials."""

    place: str
    is_plain: bool = False


def chosen(variable: str, environment: Mapping[str, str]) -> Address | None:
    """Return the address that `variable` names, None where it is not set.

    Raises:
        UsageError: what it says is no address.
    """
    text = environment.get(variable, "").strip()
    if not text:
        return None
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{variable} is not an address",
            why=f"{text}: a host and a port are all that gRPC knows",
            hint=f"write it like {variable}=http://127.0.0.1:8085, or https:// for TLS and credentials",
        )
    scheme = (found["scheme"] or "https").lower()
    return Address(f"{found['host']}:{found['port'] or _PORTS[scheme]}", scheme == "http")


def advice(variable: str, environment: Mapping[str, str]) -> str:
    """Return what to do where credentials are missing to ask whom `variable` may name; empty where nothing leads away.

    A server to rehearse with asks for none.
    """
    own, vertex = environment.get(variable, ""), environment.get(VERTEX, "")
    if own:
        return f"write {variable}=http://{own.rpartition('://')[2]} for a server without TLS, which asks for none"
    if vertex:
        return f"name a server in {variable}, too, where what {VERTEX} leads to is not Google's"
    return ""
