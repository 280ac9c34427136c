"""Parameters of any kind raise only documented errors, and those accepted are neither refused by botocore nor lost."""

from __future__ import annotations

import contextlib
import enum
import json
from collections import OrderedDict, UserDict, deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, DataNotFoundError, InvalidRegionError, ParamValidationError
from conftest import HUB, SPOKE
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from sts_stub import StsStub

from aws_assume_role_lib import AUTOMATIC_ROLE_SESSION_NAME, assume_role

pytestmark = pytest.mark.timeout(300)  # the profile `full` has many examples

# All examples of a test deliberately share one parent and one stub: a session outlives its calls.
ONE_STUB = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


class Text(str, enum.Enum):
    """Strings that are members of an enum, as settings often are."""

    HUB = HUB
    NAME = "from-an-enum"
    CODE = "123456"


class Number(int, enum.Enum):
    """Numbers that are members of an enum, whose str() is a name."""

    HOUR = 3600


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


ITSELF: dict[str, Any] = {}
ITSELF["Statement"] = [ITSELF]

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # including single surrogates
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    ANY_TEXT,
    st.binary(max_size=4),
    st.sampled_from([*Text, *Number, AUTOMATIC_ROLE_SESSION_NAME, Decimal("NaN"), 3600j]),
    st.sampled_from([object(), object, len, print, lambda: "name", lambda _: None, iter("ab"), range(3), ...]),
    st.sampled_from([set("ab"), deque("ab"), bytearray(b"ab"), ITSELF, [ITSELF], UserDict(Key="a")]),
    st.timedeltas(),
    st.datetimes(),
)
ANY: st.SearchStrategy[Any] = st.recursive(
    ODD,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(ANY_TEXT, st.integers(), st.none(), st.tuples()), inner, max_size=3),
        st.fixed_dictionaries({"Key": inner, "Value": inner}),
        st.fixed_dictionaries({"ProviderArn": inner, "ContextAssertion": inner}),
        st.dictionaries(st.just("arn"), inner, min_size=1).map(MappingProxyType),
        st.dictionaries(ANY_TEXT, inner, max_size=3).map(OrderedDict),
    ),
    max_leaves=6,
)

# Valid values, or nearly valid: those that differ in only one character or element are the most likely to pass.
NAME = st.text("AZaz09_+=,.@-", min_size=2, max_size=64)
TEXT = st.text(max_size=6) | ANY_TEXT | NAME
ARN = st.builds("arn:{}:iam::{}:{}/{}".format, st.just("aws") | TEXT, st.just("aws"), st.just("policy"), NAME | TEXT)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)
DOCUMENT = st.dictionaries(ANY_TEXT, JSON, max_size=3)
TAGS = st.dictionaries(TEXT, TEXT, max_size=3)
PLAUSIBLE: dict[str, st.SearchStrategy[Any]] = {
    "RoleSessionName": NAME | TEXT | st.just(Text.NAME) | NAME.map(lambda name: lambda: name),
    "PolicyArns": st.lists(ARN | ARN.map(lambda arn: {"arn": arn}) | ANY, max_size=3),
    "Policy": DOCUMENT | DOCUMENT.map(lambda document: json.dumps(document, indent=1, ensure_ascii=False)) | TEXT,
    "DurationSeconds": st.integers(890, 43210) | st.timedeltas() | st.sampled_from([True, 3600.0, *Number]),
    "Tags": TAGS | TAGS.map(lambda tags: [{"Key": key, "Value": value} for key, value in tags.items()]),
    "TransitiveTagKeys": st.lists(TEXT, max_size=2),
    "ExternalId": NAME | TEXT,
    "SerialNumber": NAME | TEXT,
    "TokenCode": st.from_regex(r"\d{6}", fullmatch=True) | st.just(Text.CODE) | st.just(lambda: "123456"),
    "SourceIdentity": NAME | TEXT,
    "ProvidedContexts": st.lists(
        st.fixed_dictionaries(
            {"ProviderArn": TEXT.map("arn:aws:iam::aws:contextProvider/{}".format), "ContextAssertion": TEXT}
        ),
        max_size=2,
    ),
    "MinimumSessionTokenSize": st.integers(-1, 4097) | st.sampled_from([True, *Number]),
}
OPTIONS = st.dictionaries(
    st.sampled_from(["endpoint_url", "region_name", "config", "verify", "use_ssl", "api_version"]) | ANY_TEXT,
    ANY | ANY_TEXT.map("http://{}".format),
    max_size=2,
)


def some_of(strategies: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict(strategies))


ANYTHING = some_of(dict.fromkeys(PLAUSIBLE, ANY)) | some_of(PLAUSIBLE)
ADDITIONAL = ANY | st.dictionaries(st.sampled_from([*PLAUSIBLE, "RoleArn", "Unknown"]), ANY, max_size=3)


@ONE_STUB
@given(parameters=ANYTHING, additional=ADDITIONAL, validate=st.booleans())
def test_no_parameter_raises_what_is_not_documented(
    parent: boto3.Session, parameters: dict[str, Any], additional: Any, validate: bool
) -> None:
    """Whatever the parameters of STS are, they pass, or raise TypeError for wrong use or, if they are checked,
    ParamValidationError."""
    try:
        assume_role(parent, HUB, additional_kwargs=additional, validate=validate, **parameters)
    except ParamValidationError:
        assert validate
    except TypeError as error:
        assert "additional_kwargs" in str(error)  # noqa: PT017  # the message is checked, not the raising


# No error can show these values, not even hypothesis's own.
NO_TEXT = [pytest.param(10**5000, id="long"), pytest.param(nested(2000), id="deep")]


@pytest.mark.parametrize("value", NO_TEXT)
@pytest.mark.parametrize("name", [*PLAUSIBLE, "Unknown"])
def test_what_has_no_text_is_refused(parent: boto3.Session, name: str, value: Any) -> None:
    """A number or a list on which even repr() fails is refused by name, on its own and within a list."""
    for odd in (value, [value], [{"Key": value, "Value": value}], [{"arn": value}]):
        with pytest.raises(ParamValidationError, match=name):
            assume_role(parent, HUB, additional_kwargs={name: odd})


def test_what_has_no_text_is_no_cache(parent: boto3.Session) -> None:
    """An object that is not a cache is a TypeError, even if it is a number that repr() fails on."""
    with pytest.raises(TypeError, match="cache is of type int"):
        assume_role(parent, HUB, cache=10**5000)


@ONE_STUB
@given(role_arn=ANY | ANY_TEXT.map("arn:aws:iam::111111111111:role/{}".format), validate=st.booleans())
def test_no_role_raises_what_is_not_documented(parent: boto3.Session, role_arn: Any, validate: bool) -> None:
    """Any value as the role is accepted, or raises ParamValidationError, or TypeError if it is not a string."""
    try:
        assert assume_role(parent, role_arn, validate=validate).role_arn == role_arn
    except ParamValidationError:
        assert validate
    except TypeError:
        assert not isinstance(role_arn, str)


@ONE_STUB
@given(name=st.sampled_from(["region_name", "cache", "sts_client_kwargs"]), value=ANY | OPTIONS)
@example(name="sts_client_kwargs", value={"endpoint_url": "http://["})
@example(name="region_name", value="")
@example(name="sts_client_kwargs", value={"api_version": "/\0\ud800"})
def test_no_other_argument_raises_what_is_not_documented(parent: boto3.Session, name: str, value: Any) -> None:
    """Any value of an argument that is not STS's is accepted, or raises TypeError or its documented error."""
    try:
        assume_role(parent, HUB, **{name: value})
    except TypeError as error:
        assert name in str(error)  # noqa: PT017  # the message is checked, not the raising
    except InvalidRegionError:
        assert name == "region_name" or "region_name" in value
    except DataNotFoundError:
        assert "api_version" in value
    except ValueError as error:
        assert name == "sts_client_kwargs"
        assert "endpoint_url" in str(error)  # noqa: PT017  # the message is checked, not the raising


@given(session=ANY)
def test_no_session_raises_what_is_not_documented(session: Any) -> None:
    """Anything but a session as the session raises TypeError."""
    with pytest.raises(TypeError, match="it must be a boto3.Session"):
        assume_role(session, HUB)


def sent(sts: StsStub, session: boto3.Session) -> dict[str, str]:
    """Return the request that arrives at STS when a session is first used."""
    session.get_credentials().get_frozen_credentials()
    return sts.assumed[-1].params


@ONE_STUB
@given(parameters=some_of(PLAUSIBLE))
@example(parameters={"Tags": {"key": "\ud800"}})
@example(parameters={"SerialNumber": "arn:aws:iam::1:mfa/\ud800", "TokenCode": "123456"})
@example(parameters={"TransitiveTagKeys": ["\ud800"], "Tags": {"\ud800": ""}})
@example(parameters={"PolicyArns": ["arn:aws:iam::aws:policy/\ud800"]})
@example(parameters={"ProvidedContexts": [{"ProviderArn": HUB, "ContextAssertion": "four\ud800"}]})
def test_what_passes_is_sent(sts: StsStub, parent: boto3.Session, parameters: dict[str, Any]) -> None:
    """Parameters accepted at the call are not refused later, by either botocore's own check or its serializer."""
    with contextlib.suppress(ParamValidationError):
        session = assume_role(parent, HUB, **parameters)
        assume("SerialNumber" not in parameters or "TokenCode" in parameters)  # or else the terminal prompts
        before = len(sts.assumed)
        try:
            session.get_credentials().get_frozen_credentials()
        except ParamValidationError as error:
            pytest.fail(f"passed the call, and then: {error}")
        assert len(sts.assumed) == before + 1


@ONE_STUB
@given(end=NAME | TEXT)
@example(end="\ud800")
def test_a_role_that_passes_is_sent(sts: StsStub, parent: boto3.Session, end: str) -> None:
    """A role's ARN that is accepted at the call arrives at STS unchanged."""
    role_arn = f"arn:aws:iam::111111111111:role/{end}"
    with contextlib.suppress(ParamValidationError):
        session = assume_role(parent, role_arn)
        with contextlib.suppress(ClientError):  # STS's response does not matter here
            session.get_credentials().get_frozen_credentials()
        assert sts.assumed[-1].params["RoleArn"] == role_arn


# Valid values, within Unicode's and AWS's limits.
UNICODE = st.characters(exclude_categories=["Cs"])
CODE = st.from_regex(r"[0-9]{6}", fullmatch=True)
RIGHT_TAGS = st.lists(
    st.tuples(st.text(UNICODE, min_size=1, max_size=20), st.text(UNICODE, max_size=20)),
    max_size=4,
    unique_by=lambda tag: tag[0].casefold(),
).map(dict)
RIGHT_ARNS = st.lists(NAME.map("arn:aws:iam::111111111111:policy/team/{}".format), min_size=1, max_size=10)
SECONDS = st.integers(900, 43200) | st.just(Number.HOUR)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Valid parameters, in the form that defines their meaning."""
    return draw(
        some_of(
            {
                "RoleSessionName": NAME,
                "PolicyArns": RIGHT_ARNS,
                "Policy": DOCUMENT.filter(lambda document: len(json.dumps(document)) < 2000),
                "DurationSeconds": SECONDS,
                "Tags": RIGHT_TAGS,
                "ExternalId": st.text("AZaz09_+=,.@:/-", min_size=2),
                "SourceIdentity": NAME,
            }
        )
    )


def listed(params: dict[str, str], name: str, *fields: str) -> list[Any]:
    """Return a list of the query protocol, `Tags.member.1.Key` and so on, in order."""
    found = []
    while any(key.startswith(f"{name}.member.{len(found) + 1}") for key in params):
        member = f"{name}.member.{len(found) + 1}"
        found.append(tuple(params[f"{member}.{field}"] for field in fields) if fields else params[member])
    return found


@ONE_STUB
@given(request=requests(), data=st.data())
def test_what_is_sent_parses_back_to_what_was_given(
    sts: StsStub, parent: boto3.Session, request: dict[str, Any], data: st.DataObject
) -> None:
    """Policy, tags, ARNs, durations and names arrive as they were meant, in whichever form they were passed."""
    transitive = (
        data.draw(st.lists(st.sampled_from(sorted(request["Tags"])), max_size=3)) if request.get("Tags") else []
    )
    session = assume_role(parent, HUB, **data.draw(written(request)), TransitiveTagKeys=transitive)
    params = sent(sts, session)
    for name in ("ExternalId", "SourceIdentity"):
        assert params.get(name) == request.get(name)
    assert params["RoleSessionName"] == request.get(
        "RoleSessionName", request.get("SourceIdentity", params["RoleSessionName"])
    )
    assert params.get("DurationSeconds") == (
        str(int(request["DurationSeconds"])) if "DurationSeconds" in request else None
    )
    if "Policy" in request:
        assert exactly(json.loads(params["Policy"])) == exactly(request["Policy"])
    assert [arn for (arn,) in listed(params, "PolicyArns", "arn")] == request.get("PolicyArns", [])
    assert dict(listed(params, "Tags", "Key", "Value")) == request.get("Tags", {})
    assert listed(params, "TransitiveTagKeys") == transitive


def exactly(value: Any) -> Any:
    """Return JSON in a form that is equal only if the text means the same: in Python, 1 also equals 1.0 and True."""
    if isinstance(value, dict):
        return "object", frozenset((key, exactly(item)) for key, item in value.items())
    if isinstance(value, list):
        return "list", tuple(map(exactly, value))
    return type(value).__name__, repr(value)


@st.composite
def written(draw: st.DrawFn, request: dict[str, Any], reordered: bool = False) -> dict[str, Any]:
    """One of the ways to write a request; with `reordered`, whatever has no order may be in another order."""
    order: Callable[[list[Any]], list[Any]] = (lambda items: draw(st.permutations(items))) if reordered else list

    def rewritten(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rewritten(value[key]) for key in order(list(value))}
        return [rewritten(item) for item in value] if isinstance(value, list) else value

    given = {name: request[name] for name in order(list(request))}
    if "DurationSeconds" in given and draw(st.booleans()):
        given["DurationSeconds"] = timedelta(seconds=int(given["DurationSeconds"]))
    if "PolicyArns" in given:
        given["PolicyArns"] = [{"arn": arn} if draw(st.booleans()) else arn for arn in order(given["PolicyArns"])]
    if "Policy" in given:
        given["Policy"] = rewritten(given["Policy"])
        if draw(st.booleans()):
            indent, ascii_only = draw(st.sampled_from([None, 2])), draw(st.booleans())
            given["Policy"] = json.dumps(given["Policy"], indent=indent, ensure_ascii=ascii_only)
    if "Tags" in given:
        tags = order(list(given["Tags"].items()))
        given["Tags"] = dict(tags)
        if draw(st.booleans()):
            given["Tags"] = [{"Key": key, "Value": value} for key, value in tags]
            if draw(st.booleans()):
                given["Tags"] = [dict(reversed(tag.items())) for tag in given["Tags"]]
    if draw(st.booleans()):
        moved = draw(st.lists(st.sampled_from(sorted(given)), unique=True)) if given else []
        given = {
            **{name: value for name, value in given.items() if name not in moved},
            "additional_kwargs": {name: given[name] for name in moved},
        }
    if "RoleSessionName" not in request and "SourceIdentity" not in request and draw(st.booleans()):
        given["RoleSessionName"] = AUTOMATIC_ROLE_SESSION_NAME
    return given


def meaning(request: dict[str, Any]) -> Any:
    """Return a request in a form in which two are equal if they mean the same to STS."""
    parts: dict[str, Any] = dict(request)
    if "SourceIdentity" in parts:
        parts.setdefault("RoleSessionName", parts["SourceIdentity"])
    for name in ("PolicyArns", "Tags"):
        if name in parts:
            items = parts[name].items() if isinstance(parts[name], dict) else parts[name]
            parts[name] = tuple(sorted(items))
    if "Policy" in parts:
        parts["Policy"] = exactly(parts["Policy"])
    return frozenset(parts.items())


ROOTS = ["AKIAROOT", "AKIAOTHER"]
KEYS = st.sampled_from(ROOTS)
# Few values, so that two requests are often the same in all but one parameter.
SMALL = some_of(
    {
        "RoleSessionName": st.sampled_from(["me", "you"]),
        "PolicyArns": st.lists(st.sampled_from(["arn:aws:iam::aws:policy/A", "arn:aws:iam::aws:policy/B"]), max_size=2),
        "Policy": st.dictionaries(
            st.sampled_from("ab"), st.sampled_from([1, 1.0, True, "1", [], {}, [1, 2], [2, 1]]), max_size=2
        ),
        "DurationSeconds": st.sampled_from([900, 901]),
        "Tags": st.sampled_from([{}, {"a": "2"}, {"a": "2", "b": "1"}, {"a": "2", "b": "2"}]),
        "ExternalId": st.sampled_from(["me", "you"]),
        "SourceIdentity": st.sampled_from(["me", "you"]),
    }
)
CHAIN = st.tuples(KEYS, st.lists(st.tuples(st.sampled_from([HUB, SPOKE]), SMALL), min_size=1, max_size=2))


@st.composite
def chains(draw: st.DrawFn) -> tuple[Any, Any]:
    """Two chains of roles, each as its root key and its hops: the same, different in one place, or unrelated."""
    key, hops = draw(CHAIN)
    kind = draw(st.sampled_from(["same", "near", "any"]))
    if kind == "any":
        return (key, hops), draw(CHAIN)
    other = [(role_arn, dict(request)) for role_arn, request in hops]
    if kind == "near":
        changed, part = draw(st.sampled_from(other))[1], draw(SMALL)
        for name in draw(st.lists(st.sampled_from(sorted(part)), max_size=1)) if part else []:
            changed[name] = part[name]
        if changed and draw(st.booleans()):
            del changed[draw(st.sampled_from(sorted(changed)))]
        key = draw(KEYS)
    return (key, hops), (key, other)


@pytest.fixture
def roots() -> dict[str, boto3.Session]:
    return {key: boto3.Session(key, "root-secret", region_name="us-east-1") for key in ROOTS}


@ONE_STUB
@given(pair=chains(), data=st.data())
def test_an_entry_is_shared_exactly_by_the_same_request_of_the_same_identity(
    sts: StsStub, roots: dict[str, boto3.Session], pair: tuple[Any, Any], data: st.DataObject
) -> None:
    """Two sessions share a cache entry if, and only if, their chains make equal requests from the same root key."""
    cache: dict[str, Any] = {}
    used = []
    for key, hops in pair:
        session = roots[key]
        for role_arn, request in hops[:-1]:
            session = assume_role(session, role_arn, **data.draw(written(request, reordered=True)))
        role_arn, request = hops[-1]
        session = assume_role(session, role_arn, cache=cache, **data.draw(written(request, reordered=True)))
        used.append(session.get_credentials().get_frozen_credentials().access_key)
    one, other = ((key, [(role, meaning(request)) for role, request in hops]) for key, hops in pair)
    assert (used[0] == used[1]) == (one == other)
    assert len(cache) == len(set(used))
