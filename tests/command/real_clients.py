"""Programs in several languages run as a role, each through a refresh; ``tox -e clients`` installs and runs them.

boto3 is in ``test_run.py``, which needs nothing else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import HUB
from sts_stub import StsStub

HOSTILE = "[default]\naws_access_key_id = AKIAHOSTILE\naws_secret_access_key = s\n"
LIFETIME = 4

JAVASCRIPT = """
    import { STSClient, GetCallerIdentityCommand } from "@aws-sdk/client-sts";
    const client = new STSClient({});
    const keys = new Set();
    while (keys.size < 2) keys.add((await client.send(new GetCallerIdentityCommand({}))).UserId);
"""
# AWS_FORCE_CREDENTIAL_LOAD: given a custom endpoint, delta-rs would otherwise assume that the service is not AWS's.
RUST = """
    import contextlib, os, time
    from deltalake.fs import DeltaStorageHandler
    options = {"AWS_ALLOW_HTTP": "true", "AWS_FORCE_CREDENTIAL_LOAD": "true"}
    store = DeltaStorageHandler("s3://bucket/table", options)
    end = time.monotonic() + 6
    while time.monotonic() < end:
        with contextlib.suppress(OSError):  # the stub is not S3; what counts is who signed
            store.get_file_info(["x"])
"""


def run(tmp_path: Path, *command: str) -> None:
    """Run a program as the role, although a [default] profile and the environment have other keys."""
    (tmp_path / "credentials").write_text(HOSTILE)
    (tmp_path / "config").write_text(
        f"{HOSTILE}[profile dev]\nregion = eu-west-1\naws_access_key_id = AKIAROOT\naws_secret_access_key = s\n"
    )
    ours = [sys.executable, "-m", "aws_assume_role_lib", "--profile", "dev", HUB, "--"]
    hostile = {"AWS_ACCESS_KEY_ID": "AKIAHOSTILE", "AWS_SECRET_ACCESS_KEY": "s", "AWS_PROFILE": "default"}
    finished = subprocess.run(
        [*ours, *command], env={**os.environ, **hostile}, capture_output=True, text=True, timeout=55
    )
    assert finished.returncode == 0, finished.stderr


def assert_refreshed(sts: StsStub) -> None:
    """The program signed its requests with the role's keys only, of at least two generations."""
    signers = {request.access_key for request in sts.requests if request.action != "AssumeRole"}
    assert "AKIAHOSTILE" not in signers
    assert len(signers) > 1
    assert all(signer.startswith("ASIA") for signer in signers)


def test_the_aws_cli(sts: StsStub, tmp_path: Path) -> None:
    """The AWS CLI acts as the role, and each command of a long script signs with valid keys."""
    sts.lifetime = LIFETIME
    script = f'end=$(($(date +%s) + 6)); while [ $(date +%s) -lt $end ]; do "{os.environ["AWSCLI_PYTHON"]}" '
    run(tmp_path, "sh", "-ec", script + "-m awscli sts get-caller-identity; done")
    assert_refreshed(sts)
    assert sts.violations == []


@pytest.mark.timeout(180)  # npm first installs a few megabytes
def test_the_javascript_sdk(sts: StsStub, tmp_path: Path) -> None:
    """A client of the AWS SDK for JavaScript switches to the new keys."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("Node.js is not installed")
    packages = Path(os.environ["NODE_PACKAGES"])
    install = [npm, "install", "--silent", "--cache", packages / "cache", "--prefix", packages]
    subprocess.run([*install, "@aws-sdk/client-sts@3"], check=True)
    sts.lifetime = LIFETIME
    program = packages / "program.mjs"
    program.write_text(textwrap.dedent(JAVASCRIPT))
    run(tmp_path, "node", str(program))
    assert_refreshed(sts)
    assert sts.violations == []


def test_the_rust_sdk(sts: StsStub, tmp_path: Path) -> None:
    """A delta-rs store, whose credentials come from the AWS SDK for Rust, switches to the new keys."""
    sts.lifetime = LIFETIME
    run(tmp_path, os.environ["RUST_PYTHON"], "-c", textwrap.dedent(RUST))
    assert_refreshed(sts)
