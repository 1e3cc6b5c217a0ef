"""The clock of a cloud's double, for a command on it: who sleeps moves that clock on, and waits for nothing."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from mlscale.clock import SystemClock


class DoubleClock(SystemClock):
    """This machine's clock, ahead by what the double's is."""

    def __init__(self, control: str) -> None:
        """Take the time of the double whose control API is at `control`."""
        self._control = control
        self._slept = 0.0
        self._ahead = timedelta(0)
        self.sleep(0.0)

    def now(self) -> datetime:
        """Return the double's time of day."""
        return super().now() + self._ahead

    def monotonic(self) -> float:
        """Return seconds that grow with those slept."""
        return super().monotonic() + self._slept

    def sleep(self, seconds: float) -> None:
        """Let the double's time pass; another process may have done so, too."""
        self._slept += seconds
        asked = json.dumps({"seconds": seconds}).encode()
        with urllib.request.urlopen(f"{self._control}/double/advance", asked, timeout=30) as answer:  # noqa: S310
            self._ahead = datetime.fromtimestamp(json.load(answer)["now"], UTC) - super().now()


def run(words: Sequence[str], control: str) -> int:
    """Run `mlscale` with `words` on the clock of the double at `control`; its exit code."""
    from mlscale.cli.app import main
    from mlscale.cli.outcome import set_up_process
    from mlscale.engine.session import system_world
    from mlscale.providers.registry import provider_of

    set_up_process()
    clock = DoubleClock(control)
    return main(words, replace(system_world(), clock=clock, provider=lambda site: provider_of(site, clock)))
