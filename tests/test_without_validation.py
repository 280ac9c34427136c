"""With validate=False nothing is checked, and no service model is loaded."""

from __future__ import annotations

from typing import Any

import boto3
import botocore.session
import pytest
from botocore.loaders import Loader
from conftest import HUB
from parameters import params_sent

from aws_assume_role_lib import assume_role


class _RecordingLoader(Loader):
    """A botocore loader that remembers which services it loaded."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.loaded: list[str] = []

    def load_service_model(self, service_name: str, *arguments: Any, **named: Any) -> Any:
        self.loaded.append(service_name)
        return super().load_service_model(service_name, *arguments, **named)


@pytest.fixture
def recording() -> tuple[boto3.Session, list[str]]:
    loader = _RecordingLoader()
    session = botocore.session.Session()
    session.register_component("data_loader", loader)
    return boto3.Session("AKIAROOT", "secret", region_name="us-east-1", botocore_session=session), loader.loaded


def test_without_validation_everything_is_accepted(recording):
    """With validate=False, a call with everything wrong raises nothing, and loads no service model."""
    session, loaded = recording
    assume_role(
        session,
        "Hub",
        RoleSessionName="x",
        PolicyArns="nothing",
        Policy="{",
        DurationSeconds="soon",
        Tags=["k"],
        TransitiveTagKeys="other",
        ExternalId="x",
        TokenCode="1",
        SourceIdentity="x",
        ProvidedContexts={},
        additional_kwargs={"NoSuchParameter": "x"},
        validate=False,
    )
    assert loaded == []


def test_without_validation_nothing_is_checked_later_either(monkeypatch):
    """With validate=False, nothing is checked later either, once the parent's credentials have been found."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAROOT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert assume_role(boto3.Session(region_name="us-east-1"), "nonsense", validate=False).role_arn == "nonsense"


def test_with_validation_only_the_model_of_sts_is_loaded(recording):
    """With validate=True, the only service model that a call loads is that of STS."""
    session, loaded = recording
    assume_role(session, HUB)
    assert set(loaded) == {"sts"}


def test_what_was_not_validated_is_for_sts_to_judge(sts, parent):
    """With validate=False, an out-of-range value reaches STS unchanged."""
    sent = params_sent(parent, sts, RoleSessionName="x y", DurationSeconds=43201, ExternalId="x y", validate=False)
    assert sent == {"RoleSessionName": "x y", "DurationSeconds": "43201", "ExternalId": "x y"}


def test_a_code_without_a_device_is_for_sts_to_judge(sts, parent):
    """With validate=False, a TokenCode without a SerialNumber reaches STS unchanged."""
    assert params_sent(parent, sts, TokenCode="123456", validate=False)["TokenCode"] == "123456"
