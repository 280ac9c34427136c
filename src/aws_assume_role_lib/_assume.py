"""``assume_role()``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import InvalidRegionError
from botocore.model import StructureShape
from botocore.utils import validate_region_name

from ._cache import CredentialCache, check_cache
from ._credentials import AssumedRoleCredentials
from ._parameters import AutomaticRoleSessionName, build_request, check_chaining, check_request, raise_problems
from ._role import RoleFetcher, load_credentials
from ._session import AssumedRoleSession, ChildSession, describe_method, session_class
from ._sts import check_sts_client_kwargs

if TYPE_CHECKING:
    from typing import TypedDict

    class AssumeRoleParameters(TypedDict, total=False):
        """The keywords of :func:`assume_role`."""

        RoleSessionName: str | Callable[[], str] | AutomaticRoleSessionName | None
        PolicyArns: Sequence[str | Mapping[str, object]] | None
        Policy: Mapping[str, object] | str | None
        DurationSeconds: int | timedelta | None
        Tags: Mapping[str, str] | Sequence[Mapping[str, object]] | None
        TransitiveTagKeys: Sequence[str] | None
        ExternalId: str | None
        SerialNumber: str | None
        TokenCode: str | Callable[[], str] | None
        SourceIdentity: str | None
        ProvidedContexts: Sequence[Mapping[str, object]] | None
        MinimumSessionTokenSize: int | None
        additional_kwargs: Mapping[str, object] | None
        region_name: str | bool | None
        validate: bool
        cache: CredentialCache | None
        sts_client_kwargs: Mapping[str, object] | None


def assume_role(
    session: boto3.session.Session,
    RoleArn: str,
    *,
    RoleSessionName: str | Callable[[], str] | AutomaticRoleSessionName | None = None,
    PolicyArns: Sequence[str | Mapping[str, object]] | None = None,
    Policy: Mapping[str, object] | str | None = None,
    DurationSeconds: int | timedelta | None = None,
    Tags: Mapping[str, str] | Sequence[Mapping[str, object]] | None = None,
    TransitiveTagKeys: Sequence[str] | None = None,
    ExternalId: str | None = None,
    SerialNumber: str | None = None,
    TokenCode: str | Callable[[], str] | None = None,
    SourceIdentity: str | None = None,
    ProvidedContexts: Sequence[Mapping[str, object]] | None = None,
    MinimumSessionTokenSize: int | None = None,
    additional_kwargs: Mapping[str, object] | None = None,
    region_name: str | bool | None = None,
    validate: bool = True,
    cache: CredentialCache | None = None,
    sts_client_kwargs: Mapping[str, object] | None = None,
) -> AssumedRoleSession:
    """Return a session that acts as a role, and refreshes its own credentials for as long as the process lives.

    STS is not asked by the call, but at the first use, once whatever the number of threads, and again before the
    credentials run out. The parent's own credentials are looked up by the call, which on EC2, say, asks the metadata
    service. The session may be the parent of the next hop.

    All parameters of STS's `AssumeRole
    <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>`_ are keywords, under STS's names; what
    is None is not sent.

    Args:
        session: The session that assumes the role, a :class:`boto3.session.Session`. Its credentials, and
            their refreshes, sign the call to STS.
        RoleArn: The role to assume.
        RoleSessionName: Names the session in logs: 2 to 64 characters of ``[A-Za-z0-9_+=,.@-]``. Default: the
            ``SourceIdentity`` if given, else generated, and then the same on every refresh.
            ``AUTOMATIC_ROLE_SESSION_NAME`` asks for a generated one even with a ``SourceIdentity``. A callable
            without arguments is asked for the name each time that STS is asked, as
            :func:`generate_lambda_session_name` should be; it is not part of the cache key.
        PolicyArns: Managed policies that limit the session, at most 10: ARNs, or the API's ``{"arn": ARN}``.
        Policy: A policy that limits the session: a mapping or a string of JSON, sent as compact JSON, at most
            2048 characters. See `session policies
            <https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies.html#policies_session>`_.
        DurationSeconds: Lifetime of each set of credentials: 900 to 43200 seconds as an int, or a timedelta;
            at most 3600 where the parent is itself an assumed role (`role chaining
            <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining>`_). Default:
            STS's, 3600. It does not limit the session, which refreshes itself.
        Tags: Session tags, at most 50: a mapping, or the API's list of ``{"Key": ..., "Value": ...}``. Keys have
            1 to 128 characters, values 0 to 256.
        TransitiveTagKeys: Keys of the tags that the next hops inherit, at most 50. See `session tags
            <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html>`_.
        ExternalId: What the role's trust policy asks for: 2 to 1224 characters of ``[A-Za-z0-9_+=,.@:/-]``. See
            `external id
            <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html>`_.
        SerialNumber: Serial number or ARN of an MFA device. Without ``TokenCode``, the code is asked for on the
            terminal, each time that STS is asked.
        TokenCode: The MFA device's code. Six digits serve once: the credentials are then used to their end, and
            the next use raises ``RefreshWithMFAUnsupportedError``. A callable without arguments is asked each
            time that STS is asked, by one thread at a time. Needs ``SerialNumber``.
        SourceIdentity: Who is behind the session, kept through a chain: 2 to 64 characters of
            ``[A-Za-z0-9_+=,.@-]``. See `source identity
            <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html>`_.
        ProvidedContexts: Trusted context assertions, at most 5, in the API's form.
        MinimumSessionTokenSize: The size that STS pads the session token to: 0 to 4096 bytes. Default: STS's, 0,
            no padding. Needs a botocore that knows it.
        additional_kwargs: Parameters of AssumeRole that are not named here, for the day that AWS adds one.
        region_name: The region of the new session. None follows the parent, at the time of asking; a string sets
            it; True keeps the parent's current one; False leaves it to the environment and the config file, and
            ignores a region set in code on the parent.
        validate: Check all of the above now. False skips that, and loads no service model.
        cache: Where credentials are shared: anything with ``__getitem__``, ``__setitem__`` and
            ``__contains__``, such as a dict or :class:`JSONFileCache`. An entry serves only the same request by
            the same identity. Its failures are logged and never cost credentials. Default: none.
        sts_client_kwargs: For the STS client: ``endpoint_url``, ``region_name``, ``config``, ``verify``,
            ``use_ssl``, ``api_version``, as for :meth:`boto3.session.Session.client`. Children of one parent
            with the same options share one client. Its timeouts are short (2 seconds to connect, 4 to read, 3
            attempts) unless a ``Config``, here or the parent's default, says otherwise.

    Returns:
        A session, also an instance of whatever ``boto3.Session`` is at the time of the call.

    Raises:
        TypeError: ``session`` is no boto3 session; an argument that is not STS's has a wrong type; a parameter is
            given twice, or ``sts_client_kwargs`` has what it cannot have.
        botocore.exceptions.NoCredentialsError: The parent has no credentials.
        botocore.exceptions.ParamValidationError: All that is wrong with the parameters of STS, at once.
        botocore.exceptions.InvalidRegionError: ``region_name`` can be no region.
        ValueError: An ``endpoint_url`` is no URL.
        botocore.exceptions.ClientError: By the use of the session: what STS answers, once there are no good
            credentials left. One of botocore's connection errors where nothing answers.
        botocore.exceptions.CredentialRetrievalError: By the use of the session: something else answers for STS, or
            the MFA code cannot be asked for.
        botocore.exceptions.RefreshWithMFAUnsupportedError: By the use of the session: as said of ``TokenCode``.

    Example:
        >>> import boto3
        >>> from aws_assume_role_lib import assume_role
        >>> session = boto3.Session()
        >>> hub = assume_role(session, "arn:aws:iam::111111111111:role/Hub")
        >>> spoke = assume_role(hub, "arn:aws:iam::222222222222:role/Spoke", ExternalId="abc")
        >>> spoke.client("sts").get_caller_identity()["Account"]
        '222222222222'
    """
    _check_arguments(session, region_name, additional_kwargs, cache)
    if not (validate or isinstance(RoleArn, str)):
        raise TypeError(f"RoleArn must be a string, not {type(RoleArn).__name__}. Pass the ARN of the role.")
    sts_client_kwargs = check_sts_client_kwargs(sts_client_kwargs)
    request = build_request(
        {
            "RoleArn": RoleArn,
            "RoleSessionName": RoleSessionName,
            "PolicyArns": PolicyArns,
            "Policy": Policy,
            "DurationSeconds": DurationSeconds,
            "Tags": Tags,
            "TransitiveTagKeys": TransitiveTagKeys,
            "ExternalId": ExternalId,
            "SerialNumber": SerialNumber,
            "TokenCode": TokenCode,
            "SourceIdentity": SourceIdentity,
            "ProvidedContexts": ProvidedContexts,
            "MinimumSessionTokenSize": MinimumSessionTokenSize,
        },
        additional_kwargs,
    )
    problems = check_request(request, _request_shape(session)) if validate else {}
    if not isinstance(session, AssumedRoleSession):
        # To load the parent's credentials may run a program, which a call that is refused does not.
        raise_problems(problems)
    parent_credentials = load_credentials(session)
    if validate:
        raise_problems(check_chaining(request, problems, parent_credentials))
    fetcher = RoleFetcher(session, request, cache, sts_client_kwargs)
    credentials = AssumedRoleCredentials(fetcher)
    # boto3 internal, here and in other modules: _session is the botocore session. There is no public way to it, and no
    # fallback; other libraries read it, too. Covered by tests/test_internals.py.
    child = ChildSession(session._session, credentials, region_name)
    return session_class()(botocore_session=child, role_arn=RoleArn, assume_role_parent_session=session)


describe_method(assume_role)


def _check_arguments(session: object, region_name: object, additional_kwargs: object, cache: object) -> None:
    # By name, since a library may have replaced boto3.Session with a subclass wherever that is kept.
    if ("boto3.session", "Session") not in [(kind.__module__, kind.__name__) for kind in type(session).__mro__]:
        kind = f"{type(session).__module__}.{type(session).__qualname__}"
        raise TypeError(
            f"session must be a boto3.Session, not {kind}. Pass boto3.Session(), "
            "or the session that is to assume the role."
        )
    if not (region_name is None or isinstance(region_name, (str, bool))):
        raise TypeError(f"region_name must be a string, True, False or None, not {type(region_name).__name__}.")
    if region_name == "":
        raise InvalidRegionError(region_name=region_name)
    if isinstance(region_name, str):
        validate_region_name(region_name)
    if not (additional_kwargs is None or isinstance(additional_kwargs, Mapping)):
        raise TypeError(f"additional_kwargs must be a dict, not {type(additional_kwargs).__name__}.")
    check_cache(cache)


def _request_shape(session: boto3.session.Session) -> StructureShape:
    shape = session._session.get_service_model("sts").operation_model("AssumeRole").input_shape
    assert shape is not None
    return shape
