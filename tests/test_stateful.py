"""Random trees of sessions, clock changes, outages, forks and drops: each request is signed by the right, valid key."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import boto3
import botocore.exceptions
import botocore.session
import pytest
import time_machine
from botocore.exceptions import BotoCoreError, ClientError
from conftest import HUB, SPOKE, Forked, needs_fork
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from hypothesis.stateful import run_state_machine_as_test as run
from sts_stub import Fault, StsStub

from aws_assume_role_lib import assume_role

FAULTS = [
    Fault.error(400, "AccessDenied"),
    Fault.error(403, "ExpiredToken"),
    Fault.error(503, "ServiceUnavailable"),
    Fault.html(),
    Fault(resets=True),
    Fault(cut=True),
    Fault.empty_result(),
    Fault.without("SessionToken"),
    Fault.expiration("2001-01-01T00:00:00Z"),
    Fault.expiration(None),
    Fault.error(500, "InternalFailure", times=1),
]
ROOTS = ["AKIAROOT", "AKIAOTHER"]

# Few of each, so that similar but different sessions are frequent.
REQUESTS = st.sampled_from(
    [
        {"RoleArn": HUB},
        {"RoleArn": SPOKE},
        {"RoleArn": SPOKE, "DurationSeconds": 900},
        {"RoleArn": SPOKE, "DurationSeconds": 900, "RoleSessionName": "one"},
        {"RoleArn": SPOKE, "DurationSeconds": 900, "SourceIdentity": "two"},
    ]
)
CACHED = st.sampled_from([True, True, False])


@dataclass(eq=False)
class Node:
    """A session of the tree, and what its requests must be signed with."""

    session: boto3.Session
    parent: Node | None
    request: dict[str, Any]
    client: Any
    key: str = ""  # the last one seen

    @property
    def depth(self) -> int:
        return 1 + self.parent.depth if self.parent else 0

    @property
    def session_name(self) -> str | None:
        return self.request.get("RoleSessionName", self.request.get("SourceIdentity"))

    def is_known_as(self, arn: str) -> bool:
        """Whether an answer is this session's ARN."""
        if self.parent is None or not arn.startswith("arn:"):
            return arn.endswith("user/root")
        _, _, _, _, account, resource = arn.split(":")
        _, role, name = resource.split("/")
        is_role = self.request["RoleArn"] == f"arn:aws:iam::{account}:role/{role}"
        return is_role and self.session_name in (None, name)

    def __repr__(self) -> str:
        return f"{self.parent!r} > {self.request}" if self.parent else self.key


nodes = Bundle("nodes")
SOME = st.lists(nodes, min_size=1, max_size=5)


class Sessions(RuleBasedStateMachine):
    """A tree of sessions at two roots, with one cache that some of them share."""

    def __init__(self, sts: StsStub, loader: Any) -> None:
        super().__init__()
        self.sts, self.loader = sts, loader
        self.cache: dict[str, Any] = {}
        self.healthy = True
        self.recover()
        sts.lifetime = None
        sts.violations.clear()
        self.travel = time_machine.travel(datetime(2031, 5, 1, 12, tzinfo=timezone.utc), tick=False)
        self.clock = self.travel.start()

    def teardown(self) -> None:
        self.travel.stop()
        self.recover()

    @initialize(target=nodes, tree=st.lists(st.tuples(st.integers(0, 9), REQUESTS, CACHED), min_size=4, max_size=9))
    def plant(self, tree: list[Any]) -> Any:
        nodes = [self.root(key) for key in ROOTS]
        for number, request, cached in tree:
            nodes += self.child(nodes[number % len(nodes)], request, cached)
        return multiple(*nodes)

    def root(self, key: str) -> Node:
        core = botocore.session.Session()
        core.register_component("data_loader", self.loader)
        session = boto3.Session(key, "root-secret", region_name="us-east-1", botocore_session=core)
        return Node(session, None, {}, session.client("sts"), key)

    def child(self, parent: Node, request: dict[str, Any], cached: bool) -> list[Node]:
        if parent.depth == 3:
            return []
        session = assume_role(parent.session, cache=self.cache if cached else None, **request)
        return [Node(session, parent, request, session.client("sts"))]

    @rule(target=nodes, parent=nodes, request=REQUESTS, cached=CACHED)
    def create(self, parent: Node, request: dict[str, Any], cached: bool) -> Any:
        return multiple(*self.child(parent, request, cached))

    @rule(nodes=SOME)
    def call_some(self, nodes: list[Node]) -> None:
        for node in nodes:
            self.call(node)

    def call(self, node: Node) -> None:
        before, had_good_key = len(self.sts.requests), self.good(node.key)
        try:
            node.client.get_caller_identity()
        except (BotoCoreError, ClientError):
            assert not self.healthy, "raised while STS is well"
            assert not had_good_key, "raised while the credentials are good"
        else:
            node.key = self.sts.requests[-1].access_key
        self.check(node, before)

    @rule(node=nodes)
    def call_in_a_fork(self, node: Node) -> None:
        before, had_good_key = len(self.sts.requests), self.good(node.key)
        answer = Forked.start(lambda: str(node.client.get_caller_identity()["Arn"])).result()
        if not node.is_known_as(answer):
            assert hasattr(botocore.exceptions, answer.partition(":")[0]), answer
            assert (self.healthy, had_good_key) == (False, False), answer
        self.check(node, before)

    @rule(seconds=st.sampled_from([1, 60, 61, 300, 675, 899, 900, 2701, 3600]) | st.integers(1, 9000), nodes=SOME)
    def advance(self, seconds: int, nodes: list[Node]) -> None:
        self.clock.shift(seconds)
        self.call_some(nodes)

    @rule(node=nodes, seconds=st.sampled_from([-800, -200, -60, -1, 0, 1]), nodes=SOME)
    def advance_to_an_expiry(self, node: Node, seconds: int, nodes: list[Node]) -> None:
        if self.good(node.key):
            now = datetime.now(timezone.utc).timestamp()
            self.clock.shift(max(0.0, self.sts.issued[node.key].expires + seconds - now))
        self.call_some([node, *nodes])

    @rule(fault=st.sampled_from(FAULTS))
    def fail(self, fault: Fault) -> None:
        self.sts.fault, self.healthy = fault, False

    @rule()
    def go_down(self) -> None:
        self.sts.fault, self.healthy = None, False
        self.sts.down()

    @rule()
    def recover(self) -> None:
        self.sts.fault, self.healthy = None, True
        self.sts.up()

    @rule(seconds=st.sampled_from([None, 30, 200, 900]))
    def cut_lifetimes_short(self, seconds: int | None) -> None:
        self.sts.lifetime = seconds

    @rule(node=consumes(nodes))
    def drop(self, node: Node) -> None:
        del node
        gc.collect()

    @invariant()
    def no_refusal(self) -> None:
        assert self.sts.violations == []

    def good(self, key: str) -> bool:
        if not self.sts.server.started or key not in self.sts.issued:
            return False  # a root's key never expires, but nothing is listening
        return self.sts.issued[key].expires > datetime.now(timezone.utc).timestamp()

    def check(self, node: Node, before: int) -> None:
        """Check who signed the requests since then: the session itself, and the roles before it."""
        for request in self.sts.requests[before:]:
            if request.action == "AssumeRole":
                assert any(self.asks_as(hop, request) for hop in lineage(node) if hop.parent), request
            else:
                assert self.is_key_of(node, request.access_key), request

    def asks_as(self, hop: Node, request: Any) -> bool:
        asked = {name: str(value) for name, value in hop.request.items()}
        return (
            asked.items() <= {"RoleSessionName": hop.session_name, **request.params}.items()
            and request.params.get("DurationSeconds") == asked.get("DurationSeconds")
            and hop.parent is not None
            and self.is_key_of(hop.parent, request.access_key)
        )

    def is_key_of(self, node: Node, key: str) -> bool:
        """Whether the key was issued for the session's request, signed with its parent's key, and so on to the root."""
        if node.parent is None:
            return key == node.key
        issued = self.sts.issued.get(key)
        return (
            issued is not None
            and issued.role_arn == node.request["RoleArn"]
            and node.session_name in (None, issued.session_name)
            and self.is_key_of(node.parent, issued.by)
        )


def lineage(node: Node | None) -> Iterator[Node]:
    while node:
        yield node
        node = node.parent


@pytest.fixture
def quick_collections() -> Iterator[None]:
    # A collection takes 50 ms to go through all of the suite's objects; it skips frozen ones.
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@needs_fork
@pytest.mark.timeout(300)  # hundreds of forks
@pytest.mark.usefixtures("quick_collections")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_no_session_ever_signs_with_expired_or_another_identitys_credentials(sts, one_attempt):
    """Whatever happens in whatever order, each session signs as its role through its chain, or raises in an outage."""
    sts.roots = set(ROOTS)
    loader = botocore.session.Session().get_component("data_loader")
    run(
        lambda: Sessions(sts, loader),
        settings=settings(max_examples=settings.default.max_examples // 12),  # an example forks, again and again
    )
