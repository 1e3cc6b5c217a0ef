"""What names in Google Cloud lead to."""

from __future__ import annotations

import pytest

from mlscale.providers.vertex.reading import last


@pytest.mark.parametrize("version", ["", "@1", "@default"])
def test_a_models_version_is_no_part_of_its_id(version: str) -> None:
    """Taken for one, a Model that serves would be one that nothing uses."""
    assert last(f"projects/123456789012/locations/us-central1/models/reviews-0af1{version}") == "reviews-0af1"
