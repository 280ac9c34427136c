"""A refused call has no effect and reveals no secret; an accepted one does not contact STS yet."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import (
    NoCredentialsError,
    ParamValidationError,
)
from conftest import HUB, SPOKE
from parameters import SERIAL, refusal

from aws_assume_role_lib import assume_role


def test_nothing_happens_before_an_error(sts, parent, clients_made):
    """A refused call creates no STS client and opens no connection."""
    refusal(parent, "Hub", DurationSeconds=1)
    assert clients_made == []
    assert sts.connections == 0


def test_a_right_call_makes_no_client_either(sts, parent, clients_made):
    """An accepted call creates no STS client and opens no connection; the first use creates one client."""
    child = assume_role(parent, HUB, Tags={"k": "v"})
    assert clients_made == []
    assert sts.connections == 0
    child.get_credentials().get_frozen_credentials()
    assert clients_made == ["sts"]
    assert len(sts.requests) == 1


def test_a_parent_that_must_ask_is_not_asked(sts, parent):
    """Neither a refused nor an accepted call fetches the credentials of a parent that refreshes."""
    hub = assume_role(parent, HUB)
    refusal(hub, SPOKE, DurationSeconds=3601)
    assume_role(hub, SPOKE)
    assert sts.connections == 0


@pytest.mark.parametrize("validate", [True, False])
def test_no_credentials_is_found_at_the_call(sts, validate):
    """A parent without credentials raises an error at the call, not at the first use."""
    with pytest.raises(NoCredentialsError):
        assume_role(boto3.Session(region_name="us-east-1"), HUB, validate=validate)
    assert sts.connections == 0


def test_mistakes_are_told_without_credentials_too(monkeypatch):
    """A parent without credentials does not hide problems with the parameters."""
    with pytest.raises(ParamValidationError, match=r"(?s)RoleArn.*DurationSeconds"):
        assume_role(boto3.Session(), "nonsense", DurationSeconds=1)


def test_mistakes_are_told_before_a_program_is_run(tmp_path):
    """A refused call does not run a profile's credential_process; an accepted call may."""
    ran = tmp_path / "ran"
    (tmp_path / "config").write_text(f"[default]\nregion = us-east-1\ncredential_process = touch {ran}\n")
    refusal(boto3.Session(), "nonsense")
    assert not ran.exists()
    with pytest.raises(ValueError):  # it prints no credentials
        assume_role(boto3.Session(), HUB)
    assert ran.exists()


SECRETS = {
    "ExternalId": ["se cret-7531", "s", 7531, ["7531"], "secret-7531" * 200],
    "TokenCode": ["7531", "75317531", 7531, ["7531"]],
    "Policy": ["{7531", '["7531"]', {"7531": "x" * 3000}, ["7531"], 7531, {"7531": {1}}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in SECRETS for value in SECRETS[name]])
@pytest.mark.parametrize("additional", [False, True])
def test_no_error_text_has_a_secret(parent, name, value, additional):
    """An error says which parameter is wrong and does not repeat an external ID, a code or a policy."""
    given: dict[str, Any] = {"additional_kwargs": {name: value}} if additional else {name: value}
    text = refusal(parent, SerialNumber=SERIAL, **given)
    assert name in text
    assert "7531" not in text


def test_no_error_text_has_the_secret_of_another_parameter(parent):
    """An error about an invalid parameter does not quote a valid one."""
    text = refusal(
        parent,
        "Hub",
        ExternalId="secret-7531",
        SerialNumber=SERIAL,
        TokenCode="753175",
        Policy={"Id": "7531"},
        additional_kwargs={"NoSuchParameter": "x"},
    )
    assert "7531" not in text


def test_a_policy_of_bytes_is_not_repeated(parent):
    """Bytes are not accepted as a policy, even if they contain one: the error says so without quoting them."""
    assert "bucket" not in refusal(parent, Policy=b'{"Statement": "my-bucket"}')


@pytest.mark.parametrize("contexts", ["a-jwt-of-mine", [{"ProviderArn": HUB, "ContextAssertion": b"a-jwt-of-mine"}]])
def test_a_context_of_the_wrong_kind_is_not_repeated(parent, contexts):
    """A context assertion is a token: the error describes the problem without quoting it."""
    with pytest.raises(ParamValidationError, match=r"ProvidedContexts.* must be a ") as error:
        assume_role(parent, HUB, ProvidedContexts=contexts)
    assert "a-jwt-of-mine" not in str(error.value)
