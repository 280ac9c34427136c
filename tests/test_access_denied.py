"""The note on an AccessDenied error says who was denied what, and where to look."""

from __future__ import annotations

import boto3
import pytest
from botocore.exceptions import ClientError, CredentialRetrievalError
from conftest import HUB, SPOKE, key
from sts_stub import Fault, StsStub

from aws_assume_role_lib import assume_role
from aws_assume_role_lib._answers import in_one_line, refusal_code

ALICE = "arn:aws:iam::123456789012:user/alice"
DENIED = f"User: {ALICE} is not authorized to perform: sts:AssumeRole on resource: {HUB}"


def note_of(sts: StsStub, parent: boto3.Session, message: str, **parameters: object) -> str:
    sts.fault = Fault.error(403, "AccessDenied", message)
    with pytest.raises(ClientError) as caught:
        key(assume_role(parent, HUB, **parameters))  # type: ignore[arg-type]
    assert caught.value.response["Error"]["Message"] == message
    note: str = caught.value.__notes__[0]
    return note


CAUSES = {
    " because no identity-based policy allows the sts:AssumeRole action": "no allow in any identity-based policy",
    " with an explicit deny in a resource-based policy": "deny in a resource-based policy (the role's trust",
    " because no role trust policy allows the sts:AssumeRole action": "no allow in any role trust policy (on",
    " with an explicit deny in the role trust policy": "an explicit deny in the role trust policy (on the role's side)",
    " because no session policy allows the sts:AssumeRole action": "session policy (on the caller's side)",
    " with an explicit deny in a service control policy": "service control policy (on the caller's side)",
    " with an explicit deny in an identity-based policy: arn:aws:iam::1:policy/x": "deny in an identity-based",
    " with an explicit deny in a resource control policy": "(of the role's organization)",
    "": "",
}


@pytest.mark.parametrize("rest", CAUSES)
def test_the_side_that_denied(sts, parent, rest):
    """The note says which side denied the call if STS does, and does not mention it otherwise."""
    note = note_of(sts, parent, DENIED + rest)
    assert note.startswith(f"{ALICE} was denied sts:AssumeRole on {HUB}.")
    assert CAUSES[rest] in note
    assert ("STS names the cause" in note) == bool(rest)
    assert "the caller's policies must allow sts:AssumeRole on this ARN" in note


def test_the_permissions_that_parameters_need(sts, parent):
    """The note lists the permissions that tags, source identity and contexts need, and repeats no value sent."""
    context = {"ProviderArn": "arn:aws:iam::aws:contextProvider/x", "ContextAssertion": "my-secret"}
    sent = {"Tags": {"a": "my-secret"}, "SourceIdentity": "my-secret", "ProvidedContexts": [context]}
    denied = DENIED.replace("sts:AssumeRole", "sts:TagSession")
    note = note_of(sts, parent, denied, **sent, ExternalId="my-secret")
    assert "was denied sts:TagSession" in note
    assert "sts:TagSession and sts:SetSourceIdentity and sts:SetContext" in note
    assert "it must be the one that was sent" in note
    assert "my-secret" not in note
    assert "sts:TagSession" not in note_of(sts, parent, DENIED)


def test_mfa(sts, parent):
    """A rejected code is not taken for a missing permission; without a device, MFA is one more thing to check."""
    assert "pass SerialNumber" in note_of(sts, parent, DENIED)
    device = {"SerialNumber": "arn:aws:iam::111111111111:mfa/me", "TokenCode": "123456"}
    assert "pass SerialNumber" not in note_of(sts, parent, DENIED, **device)
    rejected = "MultiFactorAuthentication failed with invalid MFA one time pass code."
    note = note_of(sts, parent, rejected, **device)
    assert note.startswith("STS rejected the MFA code.")
    assert "trust policy" not in note


def test_a_message_that_names_nobody(sts, parent):
    """If the message does not name the caller, the note names the source of the credentials."""
    note = note_of(sts, parent, "no")
    assert note.startswith(f"a session with explicit credentials was denied sts:AssumeRole on {HUB}")


def test_a_handlers_own_call(sts, parent):
    """If a handler's own AssumeRole is denied, the error has no note that names this role as the one denied."""
    other = boto3.Session("AKIAOTHER", "other-secret", region_name="us-east-1").client("sts")

    def call(**_: object) -> None:
        other.assume_role(RoleArn=SPOKE, RoleSessionName="other")

    parent.events.register("before-call.sts.AssumeRole", call)
    sts.fault = Fault.error(403, "AccessDenied", DENIED)
    with pytest.raises(ClientError) as caught:
        key(assume_role(parent, HUB))
    assert not any("was denied" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("operation", ["AbortMultipartUpload", "AssumeRoleWithWebIdentity"])
def test_a_refusal_of_another_operation(operation):
    """Only a refusal of AssumeRole counts as STS's refusal of the role."""
    assert refusal_code(ClientError({"Error": {"Code": "AccessDenied"}}, "AssumeRole")) == "AccessDenied"
    assert refusal_code(ClientError({"Error": {"Code": "AccessDenied"}}, operation)) == ""


@pytest.mark.parametrize("provider", ["an-agent", "sso"])
def test_the_text_of_another_provider(provider):
    """Only the text of the library's own errors is quoted: what others say may hold a secret."""
    assert "reason" in in_one_line(CredentialRetrievalError(provider="assume-role", error_msg="reason"))
    assert in_one_line(CredentialRetrievalError(provider=provider, error_msg="token-1")) == "CredentialRetrievalError"
