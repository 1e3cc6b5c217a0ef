"""The errors a user can act on; only `cli` turns them into text and an exit code.

MlscaleError                 1    failed
├── UsageError               2    the command line asks for something that can't be
│   └── ConsentMissing       2    --yes is needed and nobody can be asked
├── SpecInvalid              2    the spec has problems; all of them are listed
├── RolledBack               4    the old revision serves again
├── PolicyRefused            5    a budget or policy says no
├── LeaseHeld                6    another run is changing this deployment
├── NoCapacity               7    no capacity or quota, nothing changed
├── TimedOut                 8    our own --timeout ended the wait
├── WrongCredentials         9    credentials, account or project
├── PlanStale               10    the world moved after the plan was made
├── Interrupted            130    stopped at a safe point by a signal (143 for SIGTERM)
├── NotDeployed              1    nothing is deployed under that name
├── NotOurs                  1    a resource has our name but not our marks
├── Unsupported              1    the provider cannot do what the spec asks
├── ExtraMissing             1    an optional package is not installed
├── WorkspaceFailed          1    the workspace cannot be read or written
│   └── LeaseLost            1    our lease ended while we worked
├── NotAsAsked               1    read-back differs from what was asked
└── ProviderFailed           1    a provider call failed

An error that may pass by itself (`retryable`) has exit code 8, whatever its kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

OUT_OF_TIME = 8


class MlscaleError(Exception):
    """What a user can act on: `what` in fixed words, `why` of this case, `hint` the next command.

    `retryable` says that the same may work a moment later, nothing else being changed.
    """

    exit_code: int = 1
    cause: ClassVar[str] = "failed"

    def __init__(self, what: str, *, why: str = "", hint: str = "", retryable: bool = False) -> None:
        super().__init__(f"{what}: {why}" if why else what)
        self.what = what
        self.why = why
        self.hint = hint
        self.retryable = retryable
        if retryable:
            self.exit_code = OUT_OF_TIME

    def and_why(self, more: str) -> Self:
        """Return the same error with more lines of why it came."""
        why = f"{self.why}\n{more}".strip()
        return type(self)(self.what, why=why, hint=self.hint, retryable=self.retryable)


class UsageError(MlscaleError):
    """The command line asks for something that can't be."""

    exit_code = 2
    cause = "usage"


class ConsentMissing(UsageError):
    """The change destroys or interrupts, and nobody said yes."""

    cause = "consent_missing"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file, where it stands, and what to write instead.

    `line` and `column` count from 1; 0 means that the place is not in the file (an override).
    """

    file: str
    line: int
    column: int
    what: str
    why: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        words = ": ".join(part for part in (place, self.what, self.why) if part)
        return f"{words} ({self.hint})" if self.hint else words


class SpecInvalid(MlscaleError):
    """The spec has problems; `problems` has all of them, in the order of the file."""

    exit_code = 2
    cause = "spec_invalid"

    def __init__(self, problems: tuple[Problem, ...], *, hint: str = "") -> None:
        count = len(problems)
        super().__init__(
            "the spec is not valid" if count == 1 else f"the spec has {count} problems",
            why="\n".join(str(problem) for problem in problems),
            hint=hint,
        )
        self.problems = problems


class RolledBack(MlscaleError):
    """The change did not hold; the old revision serves again, whoever rolled back."""

    exit_code = 4
    cause = "rolled_back"


class PolicyRefused(MlscaleError):
    """A budget or a policy refuses the change."""

    exit_code = 5
    cause = "policy_refused"


class LeaseHeld(MlscaleError):
    """Another run is changing this deployment."""

    exit_code = 6
    cause = "lease_held"


class NoCapacity(MlscaleError):
    """The provider has no capacity or quota, and nothing was changed."""

    exit_code = 7
    cause = "no_capacity"


class TimedOut(MlscaleError):
    """Our own --timeout ended the wait; the hint says how to go on."""

    exit_code = OUT_OF_TIME
    cause = "timed_out"


class WrongCredentials(MlscaleError):
    """Credentials are missing, expired, or for another account or project."""

    exit_code = 9
    cause = "wrong_credentials"


class PlanStale(MlscaleError):
    """The deployment changed after the plan was made."""

    exit_code = 10
    cause = "plan_stale"


class Interrupted(MlscaleError):
    """A signal stopped the run at a safe point."""

    exit_code = 130
    cause = "interrupted"


class Terminated(Interrupted):
    """SIGTERM: the same as the first Ctrl-C, with its own code."""

    exit_code = 143


class NotDeployed(MlscaleError):
    """Nothing is deployed under that name."""

    cause = "not_deployed"


class NotOurs(MlscaleError):
    """A resource has our name but not our marks; it is never changed."""

    cause = "not_ours"


class Unsupported(MlscaleError):
    """The provider can't do what the spec asks; `why` has its reason."""

    cause = "unsupported"


class ExtraMissing(MlscaleError):
    """An optional package is not installed; the hint is the install line."""

    cause = "extra_missing"


class WorkspaceFailed(MlscaleError):
    """The workspace can't be read or written."""

    cause = "workspace_failed"


class LeaseLost(WorkspaceFailed):
    """Our lease ended while we worked: another run may have taken over."""

    cause = "lease_lost"


class NotAsAsked(MlscaleError):
    """What serves after the change is not what was asked for."""

    cause = "not_as_asked"


class ProviderFailed(MlscaleError):
    """A provider call failed."""

    cause = "provider_failed"
