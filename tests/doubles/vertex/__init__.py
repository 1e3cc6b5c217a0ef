"""Google's services, as far as mlscale uses them, served on loopback ports: README.md says how to steer them."""

from __future__ import annotations

from tests.doubles.vertex.serving import Double, serving

__all__ = ["Double", "serving"]
