"""No request fails while revisions take over from each other, and while replicas come and go."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from tests.conftest import Cli
from tests.e2e.deployed import BODY, change_spec, exchange, load, new_version, observed, status, until


def test_ten_switches_under_load_fail_no_request(custom: Cli) -> None:
    """Ten times a new revision takes over, at 60 requests a second: every one is answered, by all eleven revisions."""
    change_spec(custom, {"rollout.keep_revisions": 1})
    assert custom.run("deploy").returncode == 0

    with load(status(custom)["address"], per_second=60) as answers:
        for number in range(10):
            new_version(custom, f"setosa{number}")
            switched = custom.run("deploy")
            assert switched.returncode == 0, switched.stderr

    assert answers.failures == []
    assert answers.per_second >= 50
    assert len(answers.revisions) == 11
    assert len(observed(custom).revisions) == 1


def test_scaling_out_and_in_under_load_fails_no_request(custom: Cli) -> None:
    """Between one and three replicas and back, again and again: every request is answered."""
    change_spec(custom, {"endpoint.replicas": 1, "endpoint.autoscaling": {}})
    assert custom.run("deploy").returncode == 0

    with load(status(custom)["address"], per_second=60) as answers:
        for count in (3, 1, 2, 1):
            change_spec(custom, {"endpoint.replicas": count})
            assert custom.run("deploy").returncode == 0
            assert status(custom)["revisions"][0]["live"]["desired"] == count

    assert answers.failures == []
    assert answers.per_second >= 50


def test_destroy_answers_the_requests_that_are_open(custom: Cli) -> None:
    """Requests that the model works on when `destroy` comes are answered before the processes end."""
    handler = custom.folder / "inference.py"
    slow = "def predict_fn(flowers, centroids):\n    import time; time.sleep(2)"
    handler.write_text(handler.read_text().replace("def predict_fn(flowers, centroids):", slow))
    assert custom.run("deploy").returncode == 0
    address = status(custom)["address"]

    def are_open() -> bool:
        """Three requests are open at the gateway."""
        return re.search(rb"in_flight\{.*\} 3\n", exchange(address, "/metrics")[1]) is not None

    with ThreadPoolExecutor() as pool:
        open_requests = [pool.submit(exchange, address, "/invocations", BODY) for _ in range(3)]
        until(are_open)
        assert custom.run("destroy", "--yes").returncode == 0

    assert [each.result()[0] for each in open_requests] == [200, 200, 200]
