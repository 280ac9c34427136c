"""In a notebook, whose kernel replaces getpass.getpass, an MFA code is asked for as boto3 asks for it."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from conftest import HUB
from sts_stub import StsStub

manager = pytest.importorskip("jupyter_client.manager")

CODE = f"""
import boto3
from aws_assume_role_lib import assume_role
parent = boto3.Session("AKIAROOT", "root-secret", region_name="us-east-1")
role = assume_role(parent, "{HUB}", SerialNumber="arn:aws:iam::111111111111:mfa/me")
print(role.client("sts").get_caller_identity()["Account"])
"""


def test_a_kernel_prompts_for_the_code(sts: StsStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without a terminal sends its front end a hidden prompt, and the code that is typed there is used."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    kernel = manager.KernelManager(kernel_name="python3")
    kernel.start_kernel(start_new_session=True)
    client = kernel.blocking_client()
    prompts: list[tuple[str, bool]] = []
    printed = []

    def answer(message: Any) -> None:
        prompts.append((message["content"]["prompt"], message["content"]["password"]))
        client.input("123456")

    def show(message: Any) -> None:
        printed.append(message["content"].get("text", "") or message["content"].get("evalue", ""))

    try:
        client.start_channels()
        client.wait_for_ready(timeout=30)
        client.execute_interactive(CODE, allow_stdin=True, stdin_hook=answer, output_hook=show, timeout=30)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert prompts == [("Enter MFA code for arn:aws:iam::111111111111:mfa/me: ", True)]
    assert "".join(printed).split() == ["111111111111"]
    assert [request.params.get("TokenCode") for request in sts.assumed] == ["123456"]
