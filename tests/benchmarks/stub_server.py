"""The STS and S3 of the benchmark, in a process of its own: each line it reads is a latency in seconds."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from sts_stub import StsStub

if __name__ == "__main__":
    with StsStub() as stub:
        print(f'{{"url": "{stub.url}"}}', flush=True)
        for line in sys.stdin:
            stub.latency = float(line)
            print(stub.connections, flush=True)
