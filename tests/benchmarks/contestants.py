"""One contestant in a process of its own: ``contestants.py NAME [cold | import]``.

It is driven over stdin, a line at a time, so that the contestants take turns role by role and meet the same
machine. Each answer is one line of JSON. Nothing is imported here that a cold start would not import.
"""

import sys
import time

SERVICES = ("s3", "dynamodb", "ec2")


def arn(number):
    return f"arn:aws:iam::{number:012}:role/Bench"


def floor():
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
    "floor": floor,
    "ours": ours,
    "published": ours,  # in its environment, the name leads to the published package
    "recipe": recipe,
    "refresh_session": refresh_session,
}


class Steps:
    """What the driver can ask for."""

    def __init__(self, role):
        self.role = role
        self.kept = []

    def further_role(self, number):
        """Seconds that one more role takes: for its credentials, and for each of its clients. It is kept."""
        seconds, start = [], time.perf_counter()
        session = self.role(arn(number))
        self.kept.append(session)
        session.get_credentials().get_frozen_credentials()
        seconds.append(time.perf_counter() - start)
        for service in SERVICES:
            start = time.perf_counter()
            self.kept.append(session.client(service))
            seconds.append(time.perf_counter() - start)
        return seconds

    def memory(self, _):
        """Bytes that this process alone holds, or None where the system does not say."""
        import gc

        gc.collect()
        try:
            with open("/proc/self/smaps_rollup") as file:
                return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_"))
        except OSError:
            return None

    def credentials(self, roles):
        """Credentials of so many roles, one after the other."""
        for number in range(roles):
            self.role(arn(number)).get_credentials().get_frozen_credentials()

    def threads(self, roles):
        """Seconds for credentials of so many roles on 16 threads: through this contestant, and one STS client."""
        from concurrent.futures import ThreadPoolExecutor

        import boto3

        sts = boto3.client("sts")
        sts.get_caller_identity()
        self.credentials(1)
        seconds = []
        for call in (
            lambda number: self.role(arn(number)).get_credentials().get_frozen_credentials(),
            lambda number: sts.assume_role(RoleArn=arn(number), RoleSessionName="bench"),
        ):
            with ThreadPoolExecutor(16) as pool:
                start = time.perf_counter()
                list(pool.map(call, range(roles)))
                seconds.append(time.perf_counter() - start)
        return seconds


def cold(role):
    """The time, on the clock that all processes share, at which the first S3 request has been answered."""
    role(arn(1)).client("s3").head_bucket(Bucket="bench")
    return time.monotonic()


def import_():
    """Seconds that importing the package takes after boto3, and the modules it adds beyond its own."""
    import boto3  # noqa: F401  # not part of what is timed

    before = set(sys.modules)
    start = time.perf_counter()
    import aws_assume_role_lib  # noqa: F401  # what is timed

    seconds = time.perf_counter() - start
    return seconds, sorted(n for n in sys.modules.keys() - before if n.split(".")[0] != "aws_assume_role_lib")


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
        import json

        print(json.dumps(import_()))
    else:
        serve(Steps(CONTESTANTS[contestant]()))
