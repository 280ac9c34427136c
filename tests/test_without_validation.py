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


def test_with_validation_only_the_model_of_sts_is_loaded(recording):
    """With validate=True, the only service model that a call loads is that of STS."""
    session, loaded = recording
    assume_role(session, HUB)
    assert set(loaded) == {"sts"}


def test_what_was_not_validated_is_for_sts_to_judge(sts, parent):
    """With validate=False, values that would be refused reach STS unchanged."""
    wrong = {"RoleSessionName": "x y", "DurationSeconds": 43201, "ExternalId": "x y", "TokenCode": "123456"}
    assert params_sent(parent, sts, **wrong, validate=False) == {**wrong, "DurationSeconds": "43201"}
