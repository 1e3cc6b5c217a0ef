"""A provider in memory in which somebody else has made what has the spec's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mlscale.deployment import Deployment, Identity
from mlscale.errors import NotDeployed, NotOurs
from mlscale.plan.steps import Step, StepKind
from mlscale.providers.contract import Steps
from tests.doubles.fake_provider import Call, FakeProvider, Op

MARK = "mlscale"


class Others(FakeProvider):
    """What is there is ours when it has our mark among its labels."""

    def read(self, identity: Identity) -> Deployment | None:
        """Return what is there, if it is ours."""
        found = super().read(identity)
        if found is not None and MARK not in found.labels:
            raise NotOurs("this endpoint is not ours", why=identity.name, hint="mlscale import")
        return found

    def adopt(self, identity: Identity, labels: Mapping[str, str]) -> Steps:
        """Return the step that puts our mark on it."""
        found = self.there.get(identity)
        if found is None:
            raise NotDeployed("there is nothing to import", why=f"no endpoint {identity.name}", hint="mlscale deploy")
        if MARK in found.labels:
            return ()
        marked = replace(found, labels={**found.labels, **labels, MARK: "yes"})
        call = Call(Op.CONFIGURE, identity, asked=marked)
        return (Step("endpoint/adopt", StepKind.UPDATE, f"endpoint {identity.name}", call),)
