"""Writes the table of SageMaker's serving images from the list that the SageMaker SDK ships.

pip download --no-deps sagemaker-core
python docs/prebuilt_images.py sagemaker_core-*.whl
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

from botocore.loaders import create_loader
from botocore.regions import EndpointResolver

from mlscale.providers.sagemaker.image_table import FILE, SDK, SDK_FOLDER, Image, partition, sdk_images, stored


def domains(images: Sequence[Image]) -> Mapping[str, str]:
    """Return where the registries of each partition are, for those that are not in amazonaws.com."""
    resolver = EndpointResolver(create_loader().load_data("endpoints"))
    found = {}
    for region in sorted({region for image in images for region in image.registries}):
        endpoint = resolver.construct_endpoint("ecr", region)
        domain = endpoint["hostname"].removeprefix(f"ecr.{region}.") if endpoint else "amazonaws.com"
        if domain != "amazonaws.com":
            found[partition(region)] = domain
    return found


def table(wheel: Path, date: str) -> str:
    """Return the text of the table that the SDK in `wheel` gives."""
    with tempfile.TemporaryDirectory() as folder, ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(SDK_FOLDER)])
        images = sdk_images(Path(folder, SDK_FOLDER))
    return stored(images, domains(images), f"{SDK} {wheel.name.split('-')[1]}", date)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    asked = parser.parse_args()
    FILE.write_text(table(asked.wheel, datetime.now(UTC).date().isoformat()))
    sys.stdout.write(f"{FILE}\n")


if __name__ == "__main__":
    main()
