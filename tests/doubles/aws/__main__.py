"""`python -m tests.doubles.aws PORT`: serve on a loopback port, 0 for any; the address is the first line of stdout."""

from __future__ import annotations

import sys

from tests.doubles.aws.server import listening


def main() -> int:
    """Serve until killed."""
    server, address = listening(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()
    sys.stdout = sys.stderr  # moto prints what it does not know, and nobody reads our stdout any more
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
