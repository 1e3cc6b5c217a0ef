"""Writes the table of Vertex AI's prediction containers from the list in the installed google-cloud-aiplatform.

python docs/vertex_images.py
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from mlscale.providers.vertex.images import FILE

SDK = "google-cloud-aiplatform"
LIST = "google/cloud/aiplatform/constants/prediction.py"
FRAMEWORKS: Mapping[str, str] = {"tf": "tensorflow", "tf2": "tensorflow"}
URI = re.compile(
    r"(?P<host>[a-z]+)-docker\.pkg\.dev/vertex-ai/prediction/"
    r"(?P<name>(?P<framework>[a-z0-9]+)-(?P<processor>cpu|gpu)\.(?P<version>[0-9-]+)):latest"
)


def uris(source: str) -> list[str]:
    """Return the containers that the SDK's source lists, without running it."""
    lists = [each.value for each in ast.parse(source).body if isinstance(each, ast.Assign)]
    texts = [item.value for each in lists if isinstance(each, ast.List) for item in each.elts if _is_text(item)]
    return [str(text) for text in texts]


def _is_text(item: ast.expr) -> bool:
    return isinstance(item, ast.Constant) and isinstance(item.value, str)


def table(source: str, sdk: str, date: str) -> str:
    """Return the text of the table: an image a line, oldest version last, with the hosts that have it.

    Raises:
        ValueError: a container has a name of another form.
    """
    hosts: dict[tuple[str, str, str, str], list[str]] = {}
    for uri in uris(source):
        found = URI.fullmatch(uri)
        if found is None:
            raise ValueError(f"{uri} has a form that is not known")
        framework = FRAMEWORKS.get(found["framework"], found["framework"])
        key = (framework, found["version"].replace("-", "."), found["processor"], found["name"])
        hosts.setdefault(key, []).append(found["host"])
    rows = [
        json.dumps({"framework": framework, "version": version, "processor": processor, "name": name, "hosts": at})
        for (framework, version, processor, name), at in hosts.items()
    ]
    head = json.dumps({"source": f"{SDK} {sdk}", "date": date}, indent=1).removesuffix("\n}")
    return f'{head},\n "images": [\n' + ",\n".join(f"  {row}" for row in rows) + "\n ]\n}\n"


def main() -> None:
    """Write the file."""
    sdk = metadata.distribution(SDK)
    source = Path(str(sdk.locate_file(LIST))).read_text()
    FILE.write_text(table(source, sdk.version, datetime.now(UTC).date().isoformat()))
    sys.stdout.write(f"{FILE}\n")


if __name__ == "__main__":
    main()
