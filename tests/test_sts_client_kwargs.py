"""sts_client_kwargs: what is refused at the call, and what each option does."""

from __future__ import annotations

import pytest
from botocore.config import Config
from botocore.exceptions import DataNotFoundError, HTTPClientError
from conftest import HUB, NotSent, do_not_send, key
from parameters import params_sent
from sts_stub import StsStub

from aws_assume_role_lib import assume_role


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("service_name", "sts", TypeError),
        ("aws_access_key_id", "AKIA", TypeError),
        ("aws_secret_access_key", "7531", TypeError),
        ("aws_session_token", "7531", TypeError),
        ("aws_account_id", "111111111111", TypeError),
        ("endpoint", "http://localhost", TypeError),
        ("endpoint_url", 1, TypeError),
        ("endpoint_url", "localhost", ValueError),
        ("endpoint_url", "ftp://localhost", ValueError),
        ("endpoint_url", "https://me:7531@localhost", ValueError),
        ("endpoint_url", "https://7531@[x", ValueError),
        ("endpoint_url", "http://[x", ValueError),
        ("region_name", True, TypeError),
        ("region_name", "us east 1", ValueError),
        ("config", {"retries": 1}, TypeError),
        ("verify", 1, TypeError),
        ("use_ssl", "yes", TypeError),
        ("api_version", 2011, TypeError),
    ],
)
def test_sts_client_kwargs_are_checked_at_the_call(parent, clients_made, name, value, error):
    """Options that an STS client cannot take are refused at the call; the error names them and shows no password."""
    with pytest.raises(error, match=name) as caught:
        assume_role(parent, HUB, sts_client_kwargs={name: value}, validate=False)
    assert "7531" not in str(caught.value)
    assert error is TypeError or "7531" in value or value in str(caught.value)
    assert clients_made == []


@pytest.mark.parametrize("options", ["endpoint_url", [("use_ssl", True)], 1, True])
def test_sts_client_kwargs_is_a_mapping(parent, options):
    """Anything but a mapping as sts_client_kwargs raises a TypeError that names it."""
    with pytest.raises(TypeError, match="sts_client_kwargs"):
        assume_role(parent, HUB, sts_client_kwargs=options)


def test_sts_client_kwargs_of_the_request(sts, parent):
    """endpoint_url, region_name and config apply to the client that calls AssumeRole, and to no other."""
    with StsStub() as other:
        options = {"use_ssl": None, "endpoint_url": other.url, "region_name": "eu-west-1"}
        config = Config(user_agent_extra="hop/1")
        child = assume_role(parent, HUB, sts_client_kwargs={**options, "config": config})
        child.client("sts").get_caller_identity()
        assert [(each.region, "hop/1" in each.user_agent) for each in other.requests] == [("eu-west-1", True)]
    assert [(each.action, each.region) for each in sts.requests] == [("GetCallerIdentity", "us-east-1")]
    assert "hop/1" not in sts.requests[0].user_agent


@pytest.mark.parametrize(("use_ssl", "scheme"), [(None, "https"), (False, "http"), (True, "https")])
def test_sts_client_kwargs_use_ssl(parent, use_ssl, scheme):
    """use_ssl=False calls STS over plain HTTP."""
    parent.events.register("before-send.sts.AssumeRole", do_not_send)
    with pytest.raises(NotSent, match=f"^{scheme}://sts."):
        key(assume_role(parent, HUB, sts_client_kwargs={"use_ssl": use_ssl}))


def test_sts_client_kwargs_verify(sts, parent, tmp_path):
    """verify is the CA bundle for the client that calls AssumeRole."""
    bundle = str(tmp_path / "no-such-bundle.pem")
    options = {"verify": bundle, "endpoint_url": sts.url.replace("http:", "https:")}
    with pytest.raises((HTTPClientError, OSError), match=r"no-such-bundle|No such file"):
        key(assume_role(parent, HUB, sts_client_kwargs=options))
    assert sts.requests == []


def test_sts_client_kwargs_api_version(sts, parent):
    """api_version selects the version of STS's API, and an unknown one fails at the call."""
    params_sent(parent, sts, sts_client_kwargs={"api_version": "2011-06-15"})
    assert len(sts.assumed) == 1
    with pytest.raises(DataNotFoundError, match="sts.2000-01-01"):
        assume_role(parent, HUB, sts_client_kwargs={"api_version": "2000-01-01"})


def test_a_url_that_hides_itself(sts, parent):
    """Two URLs of a class that shows neither are two endpoints, each with a client of its own."""

    class Hidden(str):
        def __repr__(self) -> str:
            return "'***'"

    with StsStub() as other:
        for stub in (sts, other):
            key(assume_role(parent, HUB, sts_client_kwargs={"endpoint_url": Hidden(stub.url)}))
        assert (len(sts.assumed), len(other.assumed)) == (1, 1)
