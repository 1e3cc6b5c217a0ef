"""A rollout shown as it goes: in place on a terminal, elsewhere whenever something of it has changed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from mlscale.cli.console import Output, Progress, colored, show
from mlscale.report import rollout as pages
from mlscale.state import rollouts

if TYPE_CHECKING:
    from mlscale.engine.run import Event
    from mlscale.engine.session import Session
    from mlscale.state.rollouts import Rollout

LOOK_EVERY_S = 2.0


class Watching(Progress):
    """Tells a run's events by showing the rollout that they belong to, with the last of them below."""

    def __init__(self, session: Session, output: Output, *, no_color: bool) -> None:
        """Show the rollout of `session`."""
        super().__init__(output, name=session.identity.name, no_color=no_color)
        self._session = session
        self._form = output
        self._no_color = no_color
        self._in_place = output is Output.TEXT and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._lines = 0
        self._before: object = None

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        found = rollouts.current(self._session.store, self._session.identity.name)
        if found is None or not (self._in_place or event.key == "rollout"):
            super().__call__(event)
        elif self._in_place:
            doing = f"{event.subject}{': ' if event.text else ''}{event.text.splitlines()[0] if event.text else ''}"
            self.draw(found, "" if event.key == "rollout" else doing)
        else:
            self.draw(found)

    def beat(self) -> None:
        """Say nothing: what is shown is there to be seen."""
        if not self._in_place:
            super().beat()

    def draw(self, rollout: Rollout, doing: str = "") -> None:
        """Show the rollout; where it can't be shown in place, only if something has changed."""
        facts = (rollout.phase, rollout.share, rollout.outcome, rollout.verdicts)
        if not self._in_place:
            if facts != self._before:
                show(f"{pages.text(rollout)}\n", {"rollout": pages.data(rollout)}, self._form, no_color=self._no_color)
            self._before = facts
            return
        self.clear()
        width = os.get_terminal_size(sys.stdout.fileno()).columns or 80
        lines = [*pages.text(rollout).splitlines(), *([f"  … {doing}"] if doing else [])]
        lines = [line[: width - 1] for line in lines]
        sys.stdout.write(colored("\n".join(lines), sys.stdout, no_color=self._no_color) + "\n")
        sys.stdout.flush()
        self._lines = len(lines)

    def clear(self) -> None:
        """Take away what is shown, so that what comes next stands in its place."""
        if self._lines:
            sys.stdout.write(f"\x1b[{self._lines}A\x1b[J")
            self._lines = 0
