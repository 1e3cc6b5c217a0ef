"""Amazon's services, as far as mlscale uses them, served on a loopback port: README.md says how to steer them."""

from __future__ import annotations

from tests.doubles.aws.serving import Double, serving

__all__ = ["Double", "serving"]
