"""The benchmark's STS and S3 over TLS, in a process of their own.

Each line that it reads is a handshake's delay in seconds; the answer is the number of handshakes so far.
"""

import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from contestants import REGIONS
from tls_stub import TlsStub

if __name__ == "__main__":
    with TlsStub(*(f"s3.{region}.localhost" for region in REGIONS)) as stub:
        print(json.dumps({"AWS_ENDPOINT_URL": stub.url, "AWS_CA_BUNDLE": stub.bundle}), flush=True)
        for line in sys.stdin:
            stub.delay = float(line)
            print(stub.handshakes, flush=True)
