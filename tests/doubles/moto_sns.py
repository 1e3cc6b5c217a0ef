"""Amazon SNS, as moto serves it on a loopback port, with one topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import boto3
import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.server import ThreadedMotoServer
from moto.sns.models import sns_backends


@contextmanager
def serving(topic: str, environment: pytest.MonkeyPatch) -> Iterator[Callable[[], Sequence[tuple[str, str]]]]:
    """Serve `topic`, with `environment` leading there; yields what gives subject and message of what was published."""
    _, _, _, region, _, name = topic.split(":")
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        settings = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "MOTO_ACCOUNT_ID": DEFAULT_ACCOUNT_ID,
        }
        for key, value in settings.items():
            environment.setenv(key, value)
        client = boto3.client("sns", region_name=region)
        client.create_topic(Name=name)
        client.close()
        kept = sns_backends[DEFAULT_ACCOUNT_ID][region].topics[topic]

        def sent() -> Sequence[tuple[str, str]]:
            return [(subject or "", message) for _, message, subject, *_ in kept.sent_notifications]

        yield sent
    finally:
        sns_backends.reset()
        server.stop()
