"""Rollouts on SageMaker with the command line, judged by what is in CloudWatch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.rolling import Rollouts
from tests.e2e.sagemaker.account import Account


@pytest.fixture
def cloud(account: Account) -> Iterator[Account]:
    """Two revisions, the second serving, and a third in the folder."""
    account.serve_two()
    account.new_version(3)
    yield account
    account.double.post("settings", metrics_lag_s=0)


class TestRollouts(Rollouts):
    """On SageMaker."""
