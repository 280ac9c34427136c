"""What other libraries do with a session."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import time_machine
from conftest import HUB, SPOKE
from sts_stub import StsStub

from aws_assume_role_lib import AssumedRoleSession, assume_role


@pytest.fixture
def spoke(moto, parent) -> AssumedRoleSession:
    """The end of a chain of two."""
    return assume_role(assume_role(parent, HUB), SPOKE)


def credential_scope(authorization: str) -> str:
    """Return what an Authorization header says of the key: `AKID/date/region/service/aws4_request`."""
    return authorization.split("Credential=")[1].split(",")[0]


def test_opensearch_signers(sts, parent):
    """opensearch-py's signers, which hold the credentials, sign with the role's key, region and token."""
    opensearchpy = pytest.importorskip("opensearchpy")
    child = assume_role(parent, HUB, region_name="eu-west-1")
    signed = {}
    signer = opensearchpy.AWSV4SignerAuth(child.get_credentials(), child.region_name, "es")
    request = pytest.importorskip("requests").Request("GET", "https://search.example/_search").prepare()
    signed["requests"] = signer(request).headers
    signed["urllib3"] = opensearchpy.Urllib3AWSV4SignerAuth(child.get_credentials(), child.region_name, "es")(
        "GET", "https://search.example/_search", None
    )
    for headers in signed.values():
        key, _, region, service, _ = credential_scope(headers["Authorization"]).split("/")
        assert (key, region, service) == ("ASIA0000000000000001", "eu-west-1", "es")
        assert headers["X-Amz-Security-Token"] == "token-1"
    assert len(sts.requests) == 1


def test_opensearch_signer_follows_a_refresh(sts, parent):
    """A signer created before a refresh signs with the new key afterwards."""
    opensearchpy = pytest.importorskip("opensearchpy")
    with time_machine.travel("2030-01-01T00:00Z", tick=False) as clock:
        credentials = assume_role(parent, HUB).get_credentials()
        sign = opensearchpy.Urllib3AWSV4SignerAuth(credentials, "us-east-1", "es")
        keys = []
        for _ in range(2):
            headers = sign("GET", "https://search.example/_search", None)
            keys.append(credential_scope(headers["Authorization"]).split("/")[0])
            clock.shift(3600)
    assert keys == ["ASIA0000000000000001", "ASIA0000000000000002"]


def test_requests_aws4auth(sts, parent):
    """requests-aws4auth, which takes refreshable credentials, signs with the role's key and token."""
    aws4auth = pytest.importorskip("requests_aws4auth")
    requests = pytest.importorskip("requests")
    child = assume_role(parent, HUB)
    auth = aws4auth.AWS4Auth(region="us-east-1", service="es", refreshable_credentials=child.get_credentials())
    request = auth(requests.Request("GET", "https://search.example/_search").prepare())
    assert credential_scope(request.headers["Authorization"]).startswith("ASIA0000000000000001/")
    assert request.headers["x-amz-security-token"] == "token-1"


@pytest.mark.filterwarnings("ignore")  # from awswrangler's use of pandas
def test_awswrangler(spoke, bucket):
    """awswrangler writes, lists and reads with the session that it was given."""
    wr = pytest.importorskip("awswrangler", reason="awswrangler is heavy, and is not installed")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": [1, 2], "name": ["a", "b"]})
    folder = f"s3://{bucket.name}/folder/"
    wr.s3.to_csv(frame, folder + "data.csv", index=False, boto3_session=spoke)
    wr.s3.to_parquet(frame, folder + "data.parquet", boto3_session=spoke)
    assert sorted(wr.s3.list_objects(folder, boto3_session=spoke)) == [folder + "data.csv", folder + "data.parquet"]
    assert wr.s3.read_csv(folder + "data.csv", boto3_session=spoke).equals(frame)
    read = wr.s3.read_parquet(folder + "data.parquet", boto3_session=spoke)
    assert read.to_dict("list") == frame.to_dict("list")
    assert wr.sts.get_current_identity_arn(boto3_session=spoke).startswith(
        "arn:aws:sts::222222222222:assumed-role/Spoke/"
    )


@pytest.mark.parametrize(
    "order", ["sqs_extended_client, aws_assume_role_lib", "aws_assume_role_lib, sqs_extended_client"]
)
def test_amazon_sqs_extended_client(sts, order):
    """The features of amazon-sqs-extended-client are on a role's SQS client, whichever is imported first."""
    script = f"""
        import boto3
        import {order}
        parent = boto3.Session("AKIAROOT", "s", region_name="us-east-1")
        child = aws_assume_role_lib.assume_role(parent, {HUB!r})
        grandchild = child.assume_role({SPOKE!r})
        for session in (child, grandchild):
            assert isinstance(session, boto3.Session)
            assert isinstance(session, aws_assume_role_lib.AssumedRoleSession)
            client = session.client("sqs")
            client.large_payload_support = "bucket"
            assert client.large_payload_support == "bucket"
            print(session.client("sts").get_caller_identity()["Arn"])
    """
    # Importing it changes boto3, so this needs a process of its own.
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "assumed-role/Hub/" in ran.stdout
    assert "assumed-role/Spoke/" in ran.stdout


PATCHES = {
    "first": "from gevent import monkey; monkey.patch_all()",
    "late": "import aws_assume_role_lib; from gevent import monkey; monkey.patch_all(ssl=False)",
}
GREENLETS = f"""
import gevent
import boto3
from aws_assume_role_lib import assume_role

root = boto3.Session("AKIAROOT", "root-secret", region_name="us-east-1")
hub = assume_role(root, "{HUB}")
spokes = [hub.assume_role(f"{SPOKE}-{{number}}") for number in range(4)]


def use(number):
    return spokes[number % 4].client("sts").get_caller_identity()["Arn"].split("/")[1]


tasks = [gevent.spawn(use, number) for number in range(64)]
gevent.joinall(tasks, raise_error=True)
print(*sorted(task.value for task in tasks))
"""


@pytest.mark.parametrize("patched", PATCHES)
def test_greenlets_share_as_threads_do(sts: StsStub, patched: str) -> None:
    """With gevent patched first or last, 64 greenlets that use a cold family make one AssumeRole for each session."""
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PATCHES[patched] + GREENLETS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert finished.stdout.split() == [f"Spoke-{number}" for number in range(4) for _ in range(16)], finished.stderr
    assert len(sts.assumed) == 5
    assert sts.violations == []
