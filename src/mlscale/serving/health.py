"""Asks the model server of this container whether it is well: what an image's health check runs, in little time."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

PORTS = ("MLSCALE_PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT")
"""What may say the server's port, in this order; 8080 if none does."""

PORT = 8080

DEVICE_HEADER = "x-mlscale-device"
"""The header of a health route's answer that says what the model runs on; none where only the user's code knows."""

TIMEOUT_S = 4.0


def port_of(environment: Mapping[str, str]) -> str:
    """Return the port that `environment` says, as it stands there."""
    return next((environment[name] for name in PORTS if environment.get(name)), str(PORT))


def main() -> int:
    """Return 0 if the server answers 200, 1 if it does not; standard error says what it does instead."""
    import http.client  # the server imports this module for its settings, and must not load it

    port = port_of(os.environ)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=TIMEOUT_S)
        connection.request("GET", "/ping")
        status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.stderr.write(f"port {port}: {error}\n")
        return 1
    if status != http.client.OK:
        sys.stderr.write(f"port {port}: /ping answers {status}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
