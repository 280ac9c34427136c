"""The micro figures, by pyperf: run through bench.py, a process of its own for each figure."""

import datetime
import functools
import time

import boto3
import pyperf
from botocore.awsrequest import AWSRequest
from botocore.credentials import RefreshableCredentials
from botocore.hooks import HierarchicalEmitter
from botocore.model import ServiceId
from botocore.signers import RequestSigner

from aws_assume_role_lib import assume_role

ARN = "arn:aws:iam::111111111111:role/Bench"


class Clock:
    """Wall time, moved forward until credentials have expired, and back when STS responds."""

    def __init__(self, parent):
        self._time, self.ahead = time.time, 0.0
        time.time = lambda: self._time() + self.ahead
        parent.events.register("after-call.sts.AssumeRole", self._back)

    def _back(self, **_):
        self.ahead = 0.0


def signer(credentials):
    """Return a call that signs one request with these credentials."""
    events = HierarchicalEmitter()
    signs = RequestSigner(ServiceId("S3"), "us-east-1", "s3", "v4", credentials, events)
    signs.kept = events  # it holds only a weak reference to them
    return lambda: signs.sign("GetObject", AWSRequest("GET", "https://bench.s3.amazonaws.com/key"))


def main():
    runner = pyperf.Runner()
    parent = boto3.Session()
    sts = parent.client("sts")
    ask = functools.partial(sts.assume_role, RoleArn=ARN, RoleSessionName="bench")
    credentials = assume_role(parent, ARN, RoleSessionName="bench").get_credentials()
    clock = Clock(parent)

    def refresh():
        clock.ahead = 7200.0
        credentials.get_frozen_credentials()

    def botocore_credentials():
        keys = ask()["Credentials"]
        return RefreshableCredentials(
            keys["AccessKeyId"],
            keys["SecretAccessKey"],
            keys["SessionToken"],
            datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1),
            refresh_using=ask,
            method="bench",
        )

    runner.bench_func("bare_session", boto3.Session)
    runner.bench_func("assume_role", lambda: assume_role(parent, ARN, RoleSessionName="bench"))
    runner.bench_func("kept_sts_client", ask)
    runner.bench_func("refresh", refresh)
    runner.bench_func("sign_botocore", signer(botocore_credentials()))
    runner.bench_func("sign_ours", signer(credentials))


if __name__ == "__main__":
    main()
