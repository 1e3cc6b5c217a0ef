"""`python -m tests.doubles.vertex`: serve on loopback ports; the first line of stdout has the addresses."""

from __future__ import annotations

import json
import sys

from tests.doubles.vertex.server import listening


def main() -> int:
    """Serve until killed; PORT as an argument is where gRPC listens, 0 for any."""
    server, addresses = listening(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    sys.stdout.write(f"{json.dumps(addresses)}\n")
    sys.stdout.flush()
    server.wait_for_termination()
    return 0


if __name__ == "__main__":
    sys.exit(main())
