"""Amazon S3, as moto serves it on a loopback port, with one empty bucket.

Its conditional writes are right one after the other, but race: what is about two writers at once is shown on a folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer


@contextmanager
def serving(bucket: str) -> Iterator[str]:
    """Serve an empty `bucket`; yields the address, as AWS_ENDPOINT_URL wants it."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.create_bucket(Bucket=bucket)
        client.close()
        yield address
    finally:
        server.stop()
