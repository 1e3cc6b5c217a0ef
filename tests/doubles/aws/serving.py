"""The double as a process of its own, and a hand on its control API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
REGION = "us-east-1"
ACCOUNT = "123456789012"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


class Double:
    """A running double."""

    def __init__(self, address: str) -> None:
        self.address = address

    @property
    def control(self) -> str:
        """Return where the control API is."""
        return self.address

    @property
    def environment(self) -> Mapping[str, str]:
        """Return what a process needs to reach it, and nothing that leads elsewhere."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self, service: str, **options: Any) -> Any:
        """Return a boto3 client that asks it, once a call."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.address,
            region_name=options.pop("region_name", REGION),
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, **options),
        )

    def get(self, word: str) -> Any:
        """Return what the control API shows under `word`."""
        return self._control("GET", word, None)

    def post(self, word: str, **asked: Any) -> Any:
        """Tell the control API; its answer."""
        return self._control("POST", word, asked)

    def delete(self, word: str) -> Any:
        """Let the control API forget; its answer."""
        return self._control("DELETE", word, None)

    def _control(self, method: str, word: str, asked: Mapping[str, Any] | None) -> Any:
        body = None if asked is None else json.dumps(asked).encode()
        request = urllib.request.Request(f"{self.address}/double/{word}", body, method=method)  # noqa: S310 - loopback
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            raise ValueError(json.load(refused)["error"]) from None

    def make_bucket(self, name: str) -> str:
        """Make a bucket; its URI."""
        self.client("s3").create_bucket(Bucket=name)
        return f"s3://{name}"

    def make_role(self, name: str = "mlscale-serving") -> str:
        """Make a role that SageMaker may take; its ARN."""
        made = self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
        arn: str = made["Role"]["Arn"]
        return arn


@contextmanager
def serving(port: int = 0) -> Iterator[Double]:
    """Serve from a session of its own, so that ending our group leaves it; what it said on stderr comes at the end."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.doubles.aws", str(port)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                errors.seek(0)
                raise RuntimeError(f"the double did not start:\n{errors.read()}")
            yield Double(address)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            errors.seek(0)
            sys.stderr.write(errors.read())
