"""Parameters of any kind raise only documented errors, and those accepted are neither refused by botocore nor lost."""

from __future__ import annotations

import contextlib
import enum
import functools
import json
from collections import OrderedDict, UserDict, deque
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from botocore.exceptions import ClientError, DataNotFoundError, InvalidRegionError, ParamValidationError
from conftest import HUB, key
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from parameters import refusal

from aws_assume_role_lib import AUTOMATIC_ROLE_SESSION_NAME, assume_role

pytestmark = pytest.mark.timeout(300)  # the profile `full` has many examples

# All examples of a test deliberately share one parent and one stub: a session outlives its calls.
ONE_STUB = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


class Text(str, enum.Enum):
    """Strings that are members of an enum, as settings often are."""

    NAME = "from-an-enum"
    CODE = "123456"


class Number(int, enum.Enum):
    """Numbers that are members of an enum, whose str() is a name."""

    HOUR = 3600


ITSELF: dict[str, Any] = {}
ITSELF["Statement"] = [ITSELF]

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # including single surrogates
ODD = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.timedeltas(), st.datetimes()),
    *(ANY_TEXT, st.binary(max_size=4)),
    st.sampled_from([*Text, *Number, AUTOMATIC_ROLE_SESSION_NAME, Decimal("NaN"), 3600j]),
    st.sampled_from([object(), object, len, print, lambda: "name", lambda _: None, iter("ab"), range(3), ...]),
    st.sampled_from([set("ab"), deque("ab"), bytearray(b"ab"), ITSELF, [ITSELF], UserDict(Key="a")]),
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
ARN = st.builds("arn:{}:iam::aws:policy/{}".format, st.just("aws") | TEXT, NAME | TEXT)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)
DOCUMENT = st.dictionaries(ANY_TEXT, JSON, max_size=3)
TAGS = st.dictionaries(TEXT, TEXT, max_size=3)
PROVIDER = TEXT.map("arn:aws:iam::aws:contextProvider/{}".format)
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
        st.fixed_dictionaries({"ProviderArn": PROVIDER, "ContextAssertion": TEXT}), max_size=2
    ),
    "MinimumSessionTokenSize": st.integers(-1, 4097) | st.sampled_from([True, *Number]),
}
SOME_PLAUSIBLE = st.fixed_dictionaries({}, optional=PLAUSIBLE)
SOME = st.fixed_dictionaries({}, optional=dict.fromkeys(PLAUSIBLE, ANY)) | SOME_PLAUSIBLE
ADDITIONAL = ANY | st.dictionaries(st.sampled_from([*PLAUSIBLE, "RoleArn", "Unknown"]), ANY, max_size=3)
OPTIONS = st.dictionaries(
    st.sampled_from(["endpoint_url", "region_name", "config", "verify", "use_ssl", "api_version"]) | ANY_TEXT,
    ANY | ANY_TEXT.map("http://{}".format),
    max_size=2,
)


@ONE_STUB
@given(parameters=SOME, additional=ADDITIONAL, validate=st.booleans())
def test_no_parameter_raises_what_is_not_documented(parent, parameters, additional, validate):
    """Whatever the parameters of STS are, they pass, or raise TypeError for wrong use or, if they are checked,
    ParamValidationError."""
    try:
        assume_role(parent, HUB, additional_kwargs=additional, validate=validate, **parameters)
    except ParamValidationError:
        assert validate
    except TypeError as error:
        assert "additional_kwargs" in str(error)  # noqa: PT017  # the message is checked, not the raising


DEEP: list[Any] = functools.reduce(lambda inner, _: [inner], range(2000), [])


@pytest.mark.parametrize("value", [pytest.param(10**5000, id="long"), pytest.param(DEEP, id="deep")])
@pytest.mark.parametrize("name", [*PLAUSIBLE, "Unknown"])
def test_what_has_no_text_is_refused(parent, name, value):
    """A number or a list on which even repr() fails is refused by name, on its own and within a list."""
    for odd in (value, [value], [{"Key": value, "Value": value}], [{"arn": value}]):
        assert name in refusal(parent, additional_kwargs={name: odd})


@ONE_STUB
@given(role_arn=ANY | (NAME | ANY_TEXT).map("arn:aws:iam::111111111111:role/{}".format), validate=st.booleans())
@example(role_arn="arn:aws:iam::111111111111:role/\ud800", validate=True)
def test_no_role_raises_what_is_not_documented(sts, parent, role_arn, validate):
    """Any value as the role raises ParamValidationError, or TypeError if it is not a string, or arrives unchanged."""
    try:
        session = assume_role(parent, role_arn, validate=validate)
    except ParamValidationError:
        assert validate
    except TypeError:
        assert not isinstance(role_arn, str)
    else:
        assert session.role_arn == role_arn
        if validate:
            with contextlib.suppress(ClientError):  # STS's response does not matter here
                key(session)
            assert sts.assumed[-1].params["RoleArn"] == role_arn


@ONE_STUB
@given(name=st.sampled_from(["region_name", "cache", "sts_client_kwargs"]), value=ANY | OPTIONS)
@example(name="sts_client_kwargs", value={"endpoint_url": "http://["})
@example(name="region_name", value="")
@example(name="sts_client_kwargs", value={"api_version": "/\0\ud800"})
def test_no_other_argument_raises_what_is_not_documented(parent, name, value):
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


@ONE_STUB
@given(parameters=SOME_PLAUSIBLE)
@example(parameters={"Tags": {"key": "\ud800"}})
@example(parameters={"SerialNumber": "arn:aws:iam::1:mfa/\ud800", "TokenCode": "123456"})
@example(parameters={"TransitiveTagKeys": ["\ud800"], "Tags": {"\ud800": ""}})
@example(parameters={"PolicyArns": ["arn:aws:iam::aws:policy/\ud800"]})
@example(parameters={"ProvidedContexts": [{"ProviderArn": HUB, "ContextAssertion": "four\ud800"}]})
def test_what_passes_is_sent(sts, parent, parameters):
    """Parameters accepted at the call are not refused later, by either botocore's own check or its serializer."""
    with contextlib.suppress(ParamValidationError):
        session = assume_role(parent, HUB, **parameters)
        assume("SerialNumber" not in parameters or "TokenCode" in parameters)  # or else the terminal prompts
        before = len(sts.assumed)
        try:
            key(session)
        except ParamValidationError as error:
            pytest.fail(f"passed the call, and then: {error}")
        assert len(sts.assumed) == before + 1


# Valid values, within Unicode's and AWS's limits.
UNICODE = st.characters(exclude_categories=["Cs"])
RIGHT_TAGS = st.lists(
    st.tuples(st.text(UNICODE, min_size=1, max_size=20), st.text(UNICODE, max_size=20)),
    max_size=4,
    unique_by=lambda tag: tag[0].casefold(),
).map(dict)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "RoleSessionName": NAME,
        "PolicyArns": st.lists(NAME.map("arn:aws:iam::111111111111:policy/team/{}".format), min_size=1, max_size=10),
        "Policy": DOCUMENT.filter(lambda document: len(json.dumps(document)) < 2000),
        "DurationSeconds": st.integers(900, 43200) | st.just(Number.HOUR),
        "Tags": RIGHT_TAGS,
        "ExternalId": st.text("AZaz09_+=,.@:/-", min_size=2),
        "SourceIdentity": NAME,
    },
)


@st.composite
def written(draw: st.DrawFn, request: dict[str, Any]) -> dict[str, Any]:
    """One of the ways to write a request: other types, and what has no order in any order."""

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: shuffled(value[name]) for name in draw(st.permutations(list(value)))}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    given = shuffled(request)
    if "DurationSeconds" in given and draw(st.booleans()):
        given["DurationSeconds"] = timedelta(seconds=int(given["DurationSeconds"]))
    if "PolicyArns" in given:
        arns = draw(st.permutations(given["PolicyArns"]))
        given["PolicyArns"] = [{"arn": arn} if draw(st.booleans()) else arn for arn in arns]
    if "Policy" in given and draw(st.booleans()):
        indent, ascii_only = draw(st.sampled_from([None, 2])), draw(st.booleans())
        given["Policy"] = json.dumps(given["Policy"], indent=indent, ensure_ascii=ascii_only)
    if "Tags" in given and draw(st.booleans()):
        given["Tags"] = [shuffled({"Key": name, "Value": value}) for name, value in given["Tags"].items()]
    if "RoleSessionName" not in request and "SourceIdentity" not in request and draw(st.booleans()):
        given["RoleSessionName"] = AUTOMATIC_ROLE_SESSION_NAME
    moved = draw(st.lists(st.sampled_from(sorted(given)), unique=True)) if given else []
    additional = {name: given.pop(name) for name in moved}
    return {**given, "additional_kwargs": additional}


def listed(params: dict[str, str], name: str, *fields: str) -> list[Any]:
    """Return a list of the query protocol, `Tags.member.1.Key` and so on."""
    found = []
    while any(param.startswith(f"{name}.member.{len(found) + 1}.") for param in params):
        found.append(tuple(params[f"{name}.member.{len(found) + 1}.{field}"] for field in fields))
    return found


def exactly(value: Any) -> Any:
    """Return JSON in a form that is equal only if the text means the same: in Python, 1 also equals 1.0 and True."""
    if isinstance(value, dict):
        return "object", frozenset((name, exactly(item)) for name, item in value.items())
    if isinstance(value, list):
        return "list", tuple(map(exactly, value))
    return type(value).__name__, repr(value)


@ONE_STUB
@given(request=REQUESTS, data=st.data())
def test_what_is_sent_parses_back_to_what_was_given(sts, parent, request, data):
    """Policy, tags, ARNs, durations and names arrive as they were meant, in whichever form they were passed, and a
    request in another form finds the cache entry of the first."""
    cache: dict[str, Any] = {}
    first, second = (key(assume_role(parent, HUB, cache=cache, **data.draw(written(request)))) for _ in range(2))
    assert first == second
    params = sts.assumed[-1].params
    for name in ("ExternalId", "SourceIdentity"):
        assert params.get(name) == request.get(name)
    default_name = request.get("SourceIdentity", params["RoleSessionName"])
    assert params["RoleSessionName"] == request.get("RoleSessionName", default_name)
    duration = request.get("DurationSeconds")
    assert params.get("DurationSeconds") == (None if duration is None else str(int(duration)))
    if "Policy" in request:
        assert exactly(json.loads(params["Policy"])) == exactly(request["Policy"])
    assert sorted(listed(params, "PolicyArns", "arn")) == sorted((arn,) for arn in request.get("PolicyArns", []))
    assert dict(listed(params, "Tags", "Key", "Value")) == request.get("Tags", {})
