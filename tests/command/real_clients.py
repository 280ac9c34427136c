"""Programs in several languages run as a role; ``tox -e clients`` installs most of them, and skips what is missing.

boto3 itself is in ``test_run.py``. The table of clients in the reference says what is measured here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import HUB, wait_until
from sts_stub import StsStub

HOSTILE = "[default]\naws_access_key_id = AKIAHOSTILE\naws_secret_access_key = s\n"
LIFETIME = 4


class Client(NamedTuple):
    """A program that makes $TIMES requests, and what it does without ``--static``, as the reference says.

    Attributes:
        needs: A module, or a program.
    """

    result: str
    needs: str
    command: list[str]


# The programs pause between their requests, because their keys have to expire meanwhile: no test can move the clock of
# a program in another language, or tell it when to ask again.


def python(setup: str, call: str) -> list[str]:
    loop = f"""
        import contextlib, os, sys, time
        endpoint = os.environ["AWS_ENDPOINT_URL"]
        host = endpoint.removeprefix("http://")
        {setup}
        for _ in range(int(os.environ["TIMES"])):
            with contextlib.suppress(Exception):  # the stub is no S3; what counts is who signed
                {call}
            time.sleep(0.2)
        """
    return [sys.executable, "-c", textwrap.dedent(loop)]


def javascript(text: str, call: str) -> list[str]:
    wait = "await new Promise(resolve => setTimeout(resolve, 200))"
    loop = f"for (let i = 0; i < process.env.TIMES; i++) {{ await {call}; {wait} }}"
    return ["node", "-e", f"(async () => {{ {text}; {loop} }})()"]


def shell(command: str) -> list[str]:
    return ["sh", "-c", f"for _ in $(seq $TIMES); do {command} || true; sleep 0.2; done"]


POLARS = "import polars; os.environ['AWS_ALLOW_HTTP'] = 'true'"
SCAN = "polars.scan_parquet('s3://bucket/x').collect()"
DUCKDB = (
    "import duckdb, glob; c = duckdb.connect(); c.execute(\"set extension_directory = '/nowhere'\"); "
    "[c.execute(f\"load '{f}'\") for n in ('httpfs', 'aws') "
    "for f in glob.glob(f'{duckdb.__path__[0]}_extension_{n}/**/*.duckdb_extension', recursive=True)]; "
    "c.execute(f\"create secret (type s3, provider credential_chain, refresh auto, region 'us-east-1', use_ssl false, "
    "url_style 'path', endpoint '{host}')\")"
)
GDAL = "AWS_S3_ENDPOINT=${AWS_ENDPOINT_URL#http://} AWS_HTTPS=NO AWS_VIRTUAL_HOSTING=FALSE"
REFRESHES, STATIC, DEFAULT = "refreshes", "needs `--static`", "needs `--static`, otherwise uses your `[default]`"

CLIENTS = {
    "AWS CLI v1": Client(REFRESHES, "aws", shell(f"{shlex.quote(sys.executable)} -m awscli sts get-caller-identity")),
    "AWS SDK for JavaScript v3": Client(
        REFRESHES,
        "node",
        javascript(
            'const sts = require("@aws-sdk/client-sts"); const c = new sts.STSClient({})',
            "c.send(new sts.GetCallerIdentityCommand({})).catch(() => 0)",
        ),
    ),
    "AWS SDK for JavaScript v2": Client(
        REFRESHES,
        "node",
        javascript(
            'const c = new (require("aws-sdk").STS)({ endpoint: process.env.AWS_ENDPOINT_URL })',
            "c.getCallerIdentity().promise().catch(() => 0)",
        ),
    ),
    "rclone": Client(
        REFRESHES, "rclone", shell("rclone lsd --s3-env-auth --s3-provider Other --s3-endpoint $AWS_ENDPOINT_URL :s3:")
    ),
    "restic": Client(
        REFRESHES, "restic", shell("RESTIC_PASSWORD=x timeout 4 restic -r s3:$AWS_ENDPOINT_URL/bucket snapshots")
    ),
    "AWS CRT": Client(
        REFRESHES,
        "awscrt",
        python(
            "from awscrt.auth import AwsCredentialsProvider; from awscrt.io import ClientBootstrap; "
            "p = AwsCredentialsProvider.new_default_chain(ClientBootstrap.get_or_create_static_default()); "
            "import urllib.request as u; a = 'AWS4-HMAC-SHA256 Credential=%s/20300101/us-east-1/s3/aws4_request'",
            "k = p.get_credentials().result(5).access_key_id; "
            "u.urlopen(u.Request(endpoint, headers={'Authorization': a % k}))",
        ),
    ),
    "GDAL 3.10, in rasterio": Client(
        REFRESHES,
        "rasterio",
        python(
            "import rasterio, itertools; number = itertools.count(); "
            "os.environ.update(AWS_S3_ENDPOINT=host, AWS_HTTPS='NO', AWS_VIRTUAL_HOSTING='FALSE')",
            "rasterio.open(f'/vsis3/bucket/{next(number)}')",
        ),
    ),
    "GDAL 3.6": Client(STATIC, "gdalinfo", shell(f"{GDAL} gdalinfo /vsis3/bucket/x")),
    "delta-rs": Client(
        REFRESHES,
        "deltalake",
        python(
            "from deltalake.fs import DeltaStorageHandler as Store; "
            "s = Store('s3://bucket/x', {'AWS_ALLOW_HTTP': 'true', 'AWS_FORCE_CREDENTIAL_LOAD': 'true'})",
            "s.get_file_info(['x'])",
        ),
    ),
    "DuckDB, with `REFRESH auto`": Client(
        REFRESHES, "duckdb_extension_aws", python(DUCKDB, "c.execute(\"select * from read_csv('s3://bucket/x')\")")
    ),
    "polars, with boto3": Client(REFRESHES, "polars", python(POLARS, SCAN)),
    "polars, without boto3": Client(DEFAULT, "polars", python(f"sys.modules['boto3'] = None; {POLARS}", SCAN)),
    "obstore": Client(
        STATIC,
        "obstore",
        python(
            "import obstore; s = obstore.store.S3Store('bucket', aws_endpoint_url=endpoint, "
            "client_options={'allow_http': True}, retry_config={'max_retries': 0})",
            "obstore.head(s, 'x')",
        ),
    ),
    "minio-py, with `IamAwsProvider`": Client(
        REFRESHES,
        "minio",
        python(
            "import minio; from minio.credentials import IamAwsProvider; "
            "c = minio.Minio(host, secure=False, credentials=IamAwsProvider(), region='us-east-1')",
            "c.list_buckets()",
        ),
    ),
    "tensorstore": Client(
        REFRESHES,
        "tensorstore",
        python(
            "import tensorstore; o = {'driver': 's3', 'bucket': 'bucket', 'endpoint': endpoint, 'aws_region': 'x'}",
            "tensorstore.KvStore.open(o).result().read('x').result()",
        ),
    ),
    "AWS SDK for Ruby 3.168": Client(
        STATIC,
        "ruby",
        [
            "ruby",
            "-e",
            "require 'aws-sdk-s3'; "
            "Aws::S3::Client.new(endpoint: ENV['AWS_ENDPOINT_URL'], retry_limit: 0).list_buckets rescue StandardError",
        ],
    ),
    "s3cmd": Client(
        STATIC,
        "s3cmd",
        shell(
            "s3cmd --config $S3CMD_CONFIG --no-ssl --host ${AWS_ENDPOINT_URL#http://} "
            "--host-bucket ${AWS_ENDPOINT_URL#http://} ls s3://bucket"
        ),
    ),
    "boto 2": Client(
        DEFAULT,
        "boto.sts",
        python(
            "import boto.sts; from boto.regioninfo import RegionInfo; address, port = host.split(':')",
            "boto.sts.STSConnection(is_secure=False, port=int(port), region=RegionInfo(name='x', endpoint=address))"
            ".get_federation_token('x')",
        ),
    ),
}


def signers(sts: StsStub, tmp_path: Path, name: str, *options: str, enough: int = 0) -> set[str]:
    """Run a client as the role, though ~/.aws and the environment have other keys; return the keys that it used.

    Args:
        enough: The client is ended as soon as it has used so many keys, or else ends after one request.
    """
    _, needs, command = CLIENTS[name]
    if command[0] == sys.executable:
        is_there = not subprocess.run([*command[:2], f"import {needs}"], capture_output=True, check=False).returncode
    else:
        is_there = bool(shutil.which(needs))
    if not is_there:
        pytest.skip(f"{needs} is not installed, or does not run on this Python")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(HOSTILE)
    (tmp_path / ".aws" / "config").write_text(
        f"{HOSTILE}[profile dev]\nregion = us-east-1\naws_access_key_id = AKIAROOT\naws_secret_access_key = s\n"
    )
    (tmp_path / "s3cmd").write_text("[default]\n")
    hostile = {"AWS_ACCESS_KEY_ID": "AKIAHOSTILE", "AWS_SECRET_ACCESS_KEY": "s", "AWS_PROFILE": "default"}
    environment = {**os.environ, **hostile, "HOME": str(tmp_path), "S3CMD_CONFIG": str(tmp_path / "s3cmd")}
    environment["TIMES"] = "1000" if enough else "1"
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        del environment[variable]
    sts.lifetime = LIFETIME

    def used() -> set[str]:
        return {request.access_key for request in sts.requests if request.action != "AssumeRole"} - {""}

    ours = [sys.executable, "-m", "aws_assume_role_lib", "--profile", "dev", HUB, *options, "--"]
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(
            [*ours, *command], env=environment, stdout=errors, stderr=errors, start_new_session=True
        )
        try:
            wait_until(lambda: process.poll() is not None or 0 < enough <= len(used()))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert "could not be" not in (tmp_path / "errors").read_text()
    return used()


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client(sts: StsStub, tmp_path: Path, name: str) -> None:
    """A client that refreshes signs with several generations of the role's keys, and another one with none."""
    result = CLIENTS[name].result
    used = signers(sts, tmp_path, name, enough=2 if result == REFRESHES else 0)
    if result == REFRESHES:
        assert len(used) > 1
        assert all(key.startswith("ASIA") for key in used)
    else:
        assert used == ({"AKIAHOSTILE"} if result == DEFAULT else set())


@pytest.mark.parametrize("name", [name for name, client in CLIENTS.items() if client.result != REFRESHES])
def test_a_client_that_needs_static(sts: StsStub, tmp_path: Path, name: str) -> None:
    """With --static, a client that does not use the endpoint signs with the role's keys and token, and no others."""
    assert signers(sts, tmp_path, name, "--static") == {"ASIA0000000000000001"}
    assert {request.token for request in sts.requests if request.access_key.startswith("ASIA")} == {"token-1"}


def test_the_reference_says_what_is_measured() -> None:
    """The table of clients in the reference has a row with each client and what it does."""
    page = (Path(__file__).parents[2] / "docs/reference/command-line.md").read_text("utf-8")
    for name, client in CLIENTS.items():
        assert re.search(rf"^\| {re.escape(name)} .*\| {re.escape(client.result)} \|$", page, re.MULTILINE), name
