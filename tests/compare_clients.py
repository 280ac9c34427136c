"""Print everything about clients as JSON, for tests/test_plain_clients.py: ``compare_clients.py alone|in-use|child``.

``alone`` and ``in-use`` are a plain session's clients, in a process without and with the package in use;
``child`` is an assumed role's.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from sts_stub import StsStub

SERVICES = ("s3", "dynamodb", "iam", "ec2", "sqs", "sts", "cloudfront", "s3control", "events", "timestream-query")
HUB = "arn:aws:iam::111111111111:role/Hub"


def described(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON, with botocore's objects as their class and attributes."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {str(name): described(each, depth + 1) for name, each in sorted(value.items(), key=str)}
    if isinstance(value, (list, tuple)):
        return [described(each, depth + 1) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', kind)}"
    if depth < 4 and kind.startswith("botocore.") and not isinstance(value, botocore.session.Session):
        return {"class": kind, **{name: described(each, depth + 1) for name, each in sorted(vars(value).items())}}
    return kind


def handlers(client: Any) -> Any:
    """Return every event handler of a client, with the path of names that it is registered under."""

    def walk(node: Any, path: str) -> Any:
        if node["values"]:
            yield path, [[described(each) for each in section] for section in node["values"]]
        for name, child in sorted(node["children"].items()):
            yield from walk(child, f"{path}.{name}")

    return dict(walk(client.meta.events._emitter._handlers._root, ""))


def attributes(client: Any) -> dict[str, Any]:
    """Return everything that a program can see of a client."""
    names = ["copy_object", *list(client.meta.method_to_api_mapping)[:4]]
    paginators = [name for name in client.meta.method_to_api_mapping if client.can_paginate(name)]
    return {
        "class": [kind.__qualname__ for kind in type(client).__mro__],
        "dir": dir(client),
        "vars": sorted(vars(client)),
        "documentation": {name: str(getattr(client, name).__doc__) for name in names if hasattr(client, name)},
        "meta": [
            client.meta.region_name,
            client.meta.endpoint_url,
            client.meta.partition,
            client.meta.service_model.api_version,
        ],
        "config": described(client.meta.config),
        "operations": client.meta.method_to_api_mapping,
        "paginators": paginators,
        "waiters": client.waiter_names,
        "exceptions": dir(client.exceptions),
        "handlers": handlers(client),
        "endpoint": described({**vars(client._endpoint), "http_session": None, "_lock": None, "_event_emitter": None}),
        "signer": [client._request_signer.signature_version, client._request_signer.signing_name],
        "resolver": client._ruleset_resolver and described(client._ruleset_resolver._builtins),
    }


def requests(session: Any) -> list[Any]:
    """Send a few calls of each kind, and return the requests and their results."""
    sent: list[Any] = []

    def note(request: Any, **_: Any) -> None:
        headers = {name: described(value) for name, value in request.headers.items()}
        sent.append([request.method, request.url, headers, described(request.body)])

    config = Config(retries={"total_max_attempts": 2, "mode": "standard"})
    for service, call in {
        "s3": lambda client: client.put_object(Bucket="bucket", Key="key", Body=b"body"),
        "s3 ": lambda client: list(client.get_paginator("list_objects_v2").paginate(Bucket="bucket")),
        "dynamodb": lambda client: client.get_item(TableName="table", Key={"key": {"S": "value"}}),
        "iam": lambda client: client.get_role(RoleName="role"),
        "ec2": lambda client: client.describe_regions(RegionNames=["eu-west-1"]),
        "sqs": lambda client: client.list_queues(),
    }.items():
        client = session.client(service.strip(), config=config)
        client.meta.events.register("before-send", note)
        try:
            outcome = call(client)
        except Exception as error:
            outcome = f"{type(error).__qualname__}: {error}"
        sent.append(described(outcome))
    signed = session.client("s3").generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "key"})
    return [*sent, signed]


def main() -> None:
    with StsStub() as stub:
        os.environ["AWS_ENDPOINT_URL"] = stub.url
        parent = boto3.Session("AKIAROOT", "root-secret", "root-token", region_name="us-east-1")
        session: Any = parent
        if sys.argv[1] != "alone":
            from aws_assume_role_lib import assume_role

            for _ in range(2):
                child = assume_role(parent, HUB, RoleSessionName="compare")
                for service in SERVICES:
                    child.client(service)
                child.client("s3").head_bucket(Bucket="bucket")
            if sys.argv[1] == "child":
                session = child
        found = {
            "clients": {service: attributes(session.client(service)) for service in SERVICES},
            "resources": dir(session.resource("s3")),
            "requests": requests(session),
        }
        text = json.dumps(found, sort_keys=True, indent=1)
    for pattern, word in {
        re.escape(stub.url.rpartition(":")[2]): "PORT",
        r"\d{8}T\d{6}Z": "TIME",
        r"\d{8}/us-east-1": "DAY/us-east-1",
        r"[Ss]ignature=[\w%]+": "Signature",
        r"\w{3}, \d{2} \w{3} \d{4} [\d:]{8} GMT": "DATE",
        r"Expires=\d+": "Expires",
        r"[0-9a-f]{8}-[0-9a-f-]{27}": "UUID",
        r"0x[0-9a-f]+": "ADDRESS",
        r"AKIAROOT|ASIA\d{16}": "KEY",
        r"root-token|token-\d": "TOKEN",
        # The user agent says how the credentials were found.
        r" m/[\w,]+": "",
    }.items():
        text = re.sub(pattern, word, text)
    print(text)


if __name__ == "__main__":
    main()
