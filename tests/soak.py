"""The soak: ``python tests/soak.py [--seconds N] [--json FILE]``.

32 threads, and workers forked beside them, sign requests with a tree of 200 sessions whose credentials last for
seconds, from an STS that fails often. It exits with 1 if a request was signed by the wrong identity or with expired
credentials, if anything but botocore's errors was raised, or if the process grew. If a call does not return, it prints
the stacks of all threads and is killed by SIGALRM.
"""

from __future__ import annotations

import argparse
import datetime
import faulthandler
import gc
import importlib.metadata
import json
import logging
import os
import pathlib
import platform
import random
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from typing import Any, NoReturn

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from sts_stub import Answer, Fault, Request, StsStub

import aws_assume_role_lib
from aws_assume_role_lib import _credentials, _family, assume_role

THREADS = 32
SESSIONS = 200
ROOTS = ["AKIAROOT", "AKIAOTHER"]
DEPTH = 4
STUCK = 45  # seconds within which each thread must finish a call; a call that meets only faults takes half of that
WARM_UP = 15  # seconds
# For all objects, and for memory, after the warm-up: botocore creates a client's connections and error classes when
# each is first needed, and so is never quite warm. This package's own objects may not grow by even one.
GROWTH = 1.10

FAULT_RATE = 0.15
FAULTS = [
    Fault.error(400, "AccessDenied"),
    Fault.error(400, "Throttling"),
    Fault.error(403, "ExpiredToken"),
    Fault.error(500, "InternalFailure"),
    Fault.error(503, "ServiceUnavailable"),
    Fault.html(),
    Fault.body(""),
    Fault.empty_result(),
    Fault(cut=True),
    Fault(resets=True),
    Fault.without("SessionToken"),
    Fault.expiration(None),
    Fault.expiration("2001-01-01T00:00:00Z"),
    Fault(within=0.3),
    Fault(before=1.5),  # longer than the client waits
]

Lineage = tuple[str, ...]  # the root's key, then the ARN and session name of each hop


class FlakySts(StsStub):
    """An STS that spoils some of its responses, and checks who signed each request instead of keeping it."""

    def __init__(self) -> None:
        super().__init__()
        self.faults = self.outages = 0
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.lineages = [lineage for _, _, lineage in requests()]
        self.roots = set(ROOTS)
        # A request may arrive after the keys that signed it have expired: a second later if 32 threads share two
        # busy cores. This STS's clock is behind, so that only a request that is far too late is a violation.
        self.clock_offset = -3.0

    def take_fault(self, action: str) -> tuple[Fault, threading.Event]:
        if action != "AssumeRole" or random.random() >= FAULT_RATE:
            return super().take_fault(action)
        with self.lock:
            self.faults += 1
        return random.choice(FAULTS), threading.Event()

    def admit(self, request: Request) -> Answer | None:
        refusal = super().admit(request)
        agent = re.search(r"soak/(\d+)", request.user_agent)
        with self.lock:
            self.requests.clear()
            self.seen[request.action] += 1
            if request.action == "GetCallerIdentity" and agent:
                right, was = self.lineages[int(agent[1])], self.lineage(request.access_key)
                self.wrong += [f"{right} signed as {was}"] if right != was else []
        return refusal

    def lineage(self, key: str) -> Lineage:
        if key not in self.issued:
            return (key,)
        issued = self.issued[key]
        return (*self.lineage(issued.by), issued.role_arn, issued.session_name)

    def change(self) -> None:
        """Change the lifetime, which is 2 to 8 seconds by this machine's clock, and be unreachable now and then."""
        self.lifetime, self.latency = random.uniform(5, 11), random.uniform(0, 0.01)
        if random.random() < 0.15:
            self.outages += 1
            self.down()
            threading.Event().wait(random.uniform(0.1, 0.5))
            self.up()


def client(session: boto3.Session, number: int) -> Any:
    return session.client("sts", config=Config(user_agent_extra=f"soak/{number}", max_pool_connections=2))


def requests() -> list[tuple[int, dict[str, Any], Lineage]]:
    """The tree: each session's parent (another session, or a root if negative), request and lineage."""
    # Several parents make each request, so that only the lineage tells one session's credentials from another's.
    rng = random.Random(7)
    tree: list[tuple[int, dict[str, Any], Lineage]] = []
    for number in range(SESSIONS):
        shallow = [index for index, (_, _, lineage) in enumerate(tree) if len(lineage) < 2 * DEPTH]
        parent = rng.choice(shallow) if number >= 10 else -1 - number % len(ROOTS)
        kind = number // 2 % 40
        role, name = f"arn:aws:iam::{111111111111 * (kind % 8 + 1)}:role/Role{kind}", f"name-{kind}"
        before = tree[parent][2] if parent >= 0 else (ROOTS[-1 - parent],)
        tree.append((parent, {"RoleArn": role, "RoleSessionName": name}, (*before, role, name)))
    return tree


class Soak:
    """The sessions, and the outcomes of their calls."""

    def __init__(self, sts: FlakySts) -> None:
        self.sts = sts
        roots = [boto3.Session(key, "root-secret", region_name="us-east-1") for key in ROOTS]
        cache: dict[str, Any] = {}
        # Of each session: its parent, what it was made with, itself, and its client.
        self.nodes: list[tuple[boto3.Session, dict[str, Any], boto3.Session, Any]] = []
        for number, (index, request, _) in enumerate(requests()):
            parent = self.nodes[index][2] if index >= 0 else roots[-1 - index]
            # Short, because the lifetimes are.
            options = {"config": Config(connect_timeout=1, read_timeout=1)}
            request = {**request, "sts_client_kwargs": options, "cache": cache if number % 3 else None}
            session = assume_role(parent, **request)
            self.nodes.append((parent, request, session, client(session, number)))
        self.lock = threading.Lock()
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.ended = [0.0] * THREADS

    def call(self, number: int, with_client: Any = None) -> None:
        _, request, _, own_client = self.nodes[number]
        try:
            arn = (with_client or own_client).get_caller_identity()["Arn"]
        except (BotoCoreError, ClientError) as error:
            self.note(type(error).__name__)
        else:
            right = request["RoleArn"].replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")
            is_right = arn == f"{right}/{request['RoleSessionName']}"
            self.note("answered", [] if is_right else [f"{request} was taken for {arn}"])

    def note(self, what: str, wrong: list[str] | None = None) -> None:
        with self.lock:
            self.seen[what] += 1
            self.wrong += wrong or []

    def run(self, seconds: float) -> None:
        """Call from all threads, and from one forked worker after another."""
        end = time.monotonic() + seconds
        self.ended = [time.monotonic()] * THREADS
        threads = [threading.Thread(target=self.thread, args=(number, end), daemon=True) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            if min(self.ended) > time.monotonic() - STUCK:
                signal.alarm(STUCK)
            self.sts.change()
            if time.monotonic() < end:
                self.fork()
            threads[0].join(0.1)
        signal.alarm(0)

    def thread(self, number: int, end: float) -> None:
        try:
            while time.monotonic() < end:
                index = random.randrange(SESSIONS)
                if random.random() < 0.02:  # a session created for one call
                    parent, request, _, _ = self.nodes[index]
                    self.note("sessions made and dropped")
                    self.call(index, client(assume_role(parent, **request), index))
                else:
                    self.call(index)
                self.ended[number] = time.monotonic()
        except BaseException:
            self.note("failed", [traceback.format_exc()])
        finally:
            self.ended[number] = float("inf")

    def fork(self) -> None:
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns about forking a process with threads, which is the point here.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:
            self.work(writer)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            text = pipe.read()
        _, status = os.waitpid(pid, 0)
        self.note("forks", [f"a forked worker ended with {status}"] if status else [])
        seen, wrong = json.loads(text or "[{}, []]")
        with self.lock:
            self.seen.update(seen)
            self.wrong += wrong

    def work(self, writer: int) -> NoReturn:
        """In a forked worker: call as some of the sessions, with new clients, and send back the outcomes."""
        try:
            signal.alarm(STUCK)
            random.seed()
            self.lock, self.seen, self.wrong = threading.Lock(), Counter(), []
            for number in random.sample(range(SESSIONS), 10):
                self.call(number, client(self.nodes[number][2], number))
            os.write(writer, json.dumps([self.seen, self.wrong]).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)


def size() -> dict[str, int]:
    """Count what the process holds once its threads have ended."""
    gc.collect()
    everything = gc.get_objects()
    return {
        "bytes": int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        "objects": len(everything),
        "ours": sum(type(each).__module__.startswith("aws_assume_role_lib") for each in everything),
    }


def main() -> bool:
    parser = argparse.ArgumentParser(description="Threads, forks and a flaky STS.")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="how long")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    if options.seconds <= WARM_UP:
        parser.error(f"--seconds is {options.seconds:g}, of which {WARM_UP} are to warm up: pass more")
    logging.disable(logging.WARNING)  # each early refresh that fails logs one
    faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)
    # Both are a minute for credentials that last an hour.
    _credentials.BLOCKING_WINDOW = _credentials.RETRY_INTERVAL = _family.RETRY_INTERVAL = 0.25

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    os.environ |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "2"}  # botocore sleeps between attempts
    with FlakySts() as sts:
        os.environ["AWS_ENDPOINT_URL"] = sts.url
        soak = Soak(sts)
        soak.run(WARM_UP)
        for number in range(SESSIONS):
            soak.call(number)
        before = size()
        soak.run(options.seconds - WARM_UP)
        after = size()

    calls = sts.seen["GetCallerIdentity"]
    counted = ("answered", "forks", "sessions made and dropped", "failed")
    answered, forks, dropped, _ = (soak.seen.pop(name, 0) for name in counted)
    failures = {
        "signed by the wrong identity, or failed": soak.wrong + sts.wrong,
        "signed with credentials that were not valid": sts.violations,
        "grown": [name for name in before if after[name] > before[name] * (1 if name == "ours" else GROWTH)],
        "calls": [] if calls >= answered > 0 else [f"STS saw {calls}, answered were {answered}"],
    }
    result = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "figures": {
            "seconds": options.seconds,
            "threads": THREADS,
            "sessions": SESSIONS,
            "requests signed": sts.seen.total(),
            "AssumeRole requests": sts.seen["AssumeRole"],
            "credentials issued": len(sts.issued),
            "faults injected": sts.faults,
            "outages": sts.outages,
            "calls answered": answered,
            "errors that reached a caller": soak.seen.total(),
            "forks": forks,
            "sessions made and dropped": dropped,
            "memory after the warm-up, MB": round(before["bytes"] / 1e6, 1),
            "memory at the end, MB": round(after["bytes"] / 1e6, 1),
            "objects after the warm-up": before["objects"],
            "objects at the end": after["objects"],
            "of this package, after the warm-up": before["ours"],
            "of this package, at the end": after["ours"],
            **{what: len(found) for what, found in failures.items() if what.startswith("signed")},
        },
        "errors": dict(soak.seen.most_common()),
        "machine": {"cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("boto3", "botocore")},
            "aws-assume-role-lib": aws_assume_role_lib.__version__,
        },
    }
    print(json.dumps(result, indent=2))
    for what, found in failures.items():
        if found:
            print(f"\n{len(found)} x {what}:", *found[:5], sep="\n  ", file=sys.stderr)
    if options.json and not any(failures.values()):
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return any(failures.values())


if __name__ == "__main__":
    sys.exit(main())
