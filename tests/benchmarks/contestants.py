"""One contestant in a process of its own: ``contestants.py NAME [cold | import]``.

It is driven over stdin, a line at a time, so that the contestants take turns role by role and meet the same
machine. Each answer is one line of JSON. Nothing is imported here that a cold start would not import.
"""

import os
import sys
import time

SERVICES = ("s3", "dynamodb", "iam", "ec2")

REGIONS = [f"region-{number}" for number in range(17)]


def arn(number):
    return f"arn:aws:iam::{number:012}:role/Bench"


def plain():
    import boto3

    session = boto3.Session()
    return lambda role_arn: session


def ours():
    import boto3

    from aws_assume_role_lib import assume_role

    parent = boto3.Session()
    return lambda role_arn: assume_role(parent, role_arn, RoleSessionName="bench")


def recipe():
    import boto3

    sts = boto3.client("sts")

    def role(role_arn):
        keys = sts.assume_role(RoleArn=role_arn, RoleSessionName="bench")["Credentials"]
        return boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])

    return role


def refresh_session():
    from boto3_refresh_session import RefreshableSession

    return lambda role_arn: RefreshableSession(assume_role_kwargs={"RoleArn": role_arn, "RoleSessionName": "bench"})


CONTESTANTS = {
    "plain": plain,
    "ours": ours,
    "published": ours,  # in its environment, the name is the published package
    "recipe": recipe,
    "refresh_session": refresh_session,
}


class Steps:
    """What the driver can ask for."""

    def __init__(self, role):
        self.role = role
        self.kept = []

    def use(self, number):
        """CPU and wall seconds of one more role, an S3 client of it and the client's first call. All are kept."""
        cpu, wall = time.process_time(), time.perf_counter()
        session = self.role(arn(number))
        client = session.client("s3")
        client.head_bucket(Bucket="bench")
        self.kept += session, client
        return time.process_time() - cpu, time.perf_counter() - wall

    def create(self, number):
        """CPU seconds of a client of one more role, for each service. Nothing is kept, and nothing called."""
        seconds = []
        for service in SERVICES:
            session = self.role(arn(number))
            start = time.process_time()
            session.client(service)
            seconds.append(time.process_time() - start)
        return seconds

    def keep(self, number):
        """One more role and an EC2 client of it, kept; the memory after it."""
        session = self.role(arn(number))
        self.kept += session, session.client("ec2")
        return self.memory(0)

    def memory(self, _):
        """Bytes that this process alone holds, or None if the system does not say."""
        import gc

        gc.collect()
        try:
            with open("/proc/self/smaps_rollup") as file:
                return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_"))
        except OSError:
            return None

    def threads(self, roles):
        """CPU seconds of so many roles, each with an S3 client and a call, on 16 threads."""
        from concurrent.futures import ThreadPoolExecutor

        start = time.process_time()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(self.use, range(1000, 1000 + roles)))
        return time.process_time() - start

    def scan(self, account):
        """CPU seconds of one more account in all regions: a role, and a client with one call in each. All are kept."""
        import socket

        look_up = socket.getaddrinfo
        socket.getaddrinfo = lambda host, *args, **kwargs: look_up("localhost", *args, **kwargs)
        try:
            start = time.process_time()
            session = self.role(arn(account))
            for region in REGIONS:
                url = os.environ["AWS_ENDPOINT_URL"].replace("localhost", f"s3.{region}.localhost")
                client = session.client("s3", region_name=region, endpoint_url=url)
                client.head_bucket(Bucket="bench")
                self.kept.append(client)
            return time.process_time() - start
        finally:
            socket.getaddrinfo = look_up

    def files(self, _):
        """How many files and sockets this process has open, or None if the system does not say."""
        try:
            return len(os.listdir("/proc/self/fd"))
        except OSError:
            return None


def cold(role):
    """The time, on the clock that all processes share, at which the first S3 request has been answered."""
    role(arn(1)).client("s3").head_bucket(Bucket="bench")
    return time.monotonic()


def import_():
    """Seconds that importing the package takes after boto3."""
    import boto3  # noqa: F401  # not part of what is timed

    start = time.perf_counter()
    import aws_assume_role_lib  # noqa: F401  # what is timed

    return time.perf_counter() - start


def serve(steps):
    import json
    import traceback

    for line in sys.stdin:
        name, argument = line.split()
        try:
            answer = getattr(steps, name)(int(argument))
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    contestant, mode = (*sys.argv[1:], "serve")[:2]
    if mode == "cold":
        print(cold(CONTESTANTS[contestant]()))
    elif mode == "import":
        print(import_())
    else:
        serve(Steps(CONTESTANTS[contestant]()))
