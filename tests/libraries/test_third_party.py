"""What other libraries do with a session."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from conftest import HUB, SPOKE

from aws_assume_role_lib import AssumedRoleSession, assume_role


@pytest.fixture
def spoke(moto, parent) -> AssumedRoleSession:
    """The end of a chain of two."""
    return assume_role(assume_role(parent, HUB), SPOKE)


@pytest.mark.parametrize("library", ["opensearch-py", "opensearch-py with urllib3", "requests-aws4auth"])
def test_signers_of_requests(sts, parent, clock, library):
    """A signer that holds a role's credentials signs with their key, region and token, and after a refresh with the new
    ones.
    """
    requests = pytest.importorskip("requests")
    child = assume_role(parent, HUB, region_name="eu-west-1")
    credentials, region = child.get_credentials(), child.region_name
    if library == "requests-aws4auth":
        signer = pytest.importorskip("requests_aws4auth").AWS4Auth(
            region=region, service="es", refreshable_credentials=credentials
        )
    else:
        opensearchpy = pytest.importorskip("opensearchpy")
        kind = opensearchpy.AWSV4SignerAuth if library == "opensearch-py" else opensearchpy.Urllib3AWSV4SignerAuth
        signer = kind(credentials, region, "es")
    for number in (1, 2):
        request = requests.Request("GET", "https://search.example/_search").prepare()
        headers = signer("GET", request.url, None) if "urllib3" in library else signer(request).headers
        signed = re.search(r"Credential=(\w+)/\d+/([\w-]+)/es/aws4_request,", headers["Authorization"])
        assert signed.groups() == (f"ASIA000000000000000{number}", "eu-west-1")
        assert requests.structures.CaseInsensitiveDict(headers)["X-Amz-Security-Token"] == f"token-{number}"
        clock.shift(3600)


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


def run(script):
    # These libraries change boto3, or the whole process.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout


EXTENDED = f"""
import boto3, aws_assume_role_lib
parent = boto3.Session("AKIAROOT", "s", region_name="us-east-1")
child = aws_assume_role_lib.assume_role(parent, {HUB!r})
for session in (child, child.assume_role({SPOKE!r})):
    assert isinstance(session, boto3.Session)
    assert isinstance(session, aws_assume_role_lib.AssumedRoleSession)
    client = session.client("sqs")
    client.large_payload_support = "bucket"
    assert client.large_payload_support == "bucket"
    print(session.client("sts").get_caller_identity()["Arn"].split("/")[1])
"""


ORDERS = ["sqs_extended_client, aws_assume_role_lib", "aws_assume_role_lib, sqs_extended_client"]


@pytest.mark.parametrize("order", ORDERS)
def test_amazon_sqs_extended_client(sts, order):
    """The features of amazon-sqs-extended-client are on a role's SQS client, whichever is imported first."""
    assert run(f"import {order}{EXTENDED}").split() == ["Hub", "Spoke"]


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
def test_greenlets_share_as_threads_do(sts, patched):
    """With gevent patched first or last, 64 greenlets that use a cold family make one AssumeRole for each session."""
    assert run(PATCHES[patched] + GREENLETS).split() == [f"Spoke-{number}" for number in range(4) for _ in range(16)]
    assert len(sts.assumed) == 5
    assert sts.violations == []
