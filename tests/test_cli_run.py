"""The command line runs a program as a role, for as long as it takes, and is not noticed by it."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import HUB, SPOKE, key
from sts_stub import Fault, StsStub

from aws_assume_role_lib import _run, assume_role

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="on Windows the program is a child process")

HOSTILE = "aws_access_key_id = AKIAHOSTILE\naws_secret_access_key = s\n"
PRINT_ARN = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"


@pytest.fixture(autouse=True)
def _profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source profile, and a [default] profile whose keys would win over an endpoint's."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "credentials").write_text(f"[default]\n{HOSTILE}")
    (tmp_path / "config").write_text(
        f"[default]\nregion = ap-south-1\n{HOSTILE}"
        "[profile dev]\nregion = eu-west-1\nretry_mode = standard\nservices = local\ns3 =\n  addressing_style = path\n"
        "aws_access_key_id = AKIAROOT\naws_secret_access_key = root-secret\n"
        "[services local]\ndynamodb =\n  endpoint_url = http://127.0.0.1:9\n"
    )


def start(*command: str, options: tuple[str, ...] = (), **popen: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "aws_assume_role_lib", HUB, "--profile", "dev", *options, "--", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **popen,
    )


def finish(*command: str, options: tuple[str, ...] = (), **popen: Any) -> tuple[int, str, str]:
    with start(*command, options=options, **popen) as process:
        output, errors = process.communicate(timeout=50)
    return process.returncode, output, errors


@pytest.mark.parametrize("options", [(), ("--static",)])
def test_the_program_is_the_role(sts: StsStub, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]) -> None:
    """Whatever credentials the environment and the files have, the program acts as the role."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN"):
        monkeypatch.setenv(name, "hostile")
    monkeypatch.setenv("AWS_PROFILE", "default")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "hostile")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/hostile")
    code, output, errors = finish(sys.executable, "-c", PRINT_ARN, options=options)
    assert (code, errors) == (0, "")
    assert ":assumed-role/Hub/" in output


def test_settings_of_the_source_profile_come_along(sts: StsStub) -> None:
    """Region, retries, services and nested settings of the source profile are the program's; its keys are not."""
    program = (
        "import boto3; s = boto3.Session();print(s.region_name, s._session.get_scoped_config(), s._session.full_config)"
    )
    code, output, errors = finish(sys.executable, "-c", program)
    assert (code, errors) == (0, "")
    assert output.startswith("eu-west-1 ")
    assert "'retry_mode': 'standard'" in output
    assert "'addressing_style': 'path'" in output
    assert "'dynamodb': {'endpoint_url': 'http://127.0.0.1:9'}" in output
    assert "AKIA" not in output


def test_credentials_refresh_while_the_program_runs(sts: StsStub) -> None:
    """A program that outlives its first keys goes on with new ones, without an error."""
    sts.lifetime = 3
    program = (
        "import boto3\nkeys = set()\nclient = boto3.client('sts')\n"
        "while len(keys) < 3: keys.add(client.get_caller_identity()['UserId'])\nprint(len(keys))"
    )
    assert finish(sys.executable, "-c", program) == (0, "3\n", "")
    assert sts.violations == []


def test_the_exit_code_and_streams_are_the_programs(sts: StsStub) -> None:
    """What the program reads, writes and returns is its own."""
    with start("sh", "-c", "cat; echo error >&2; exit 7", stdin=subprocess.PIPE) as process:
        assert process.communicate("input", timeout=50) == ("input", "error\n")
    assert process.returncode == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_for_the_command_reaches_the_program(sts: StsStub, number: signal.Signals) -> None:
    """A signal that is sent to the command is the program's, which may handle it, or die of it."""
    program = (
        f"import signal, sys; signal.signal({int(number)}, lambda *_: sys.exit(5));"
        "print('on', flush=True); signal.pause()"
    )
    with start(sys.executable, "-c", program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        process.send_signal(number)
        assert process.wait(50) == 5
    with start(sys.executable, "-c", program.replace("lambda *_: sys.exit(5)", "signal.SIG_DFL")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        process.send_signal(number)
        assert process.wait(50) == -number


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [("/no/such/program", 127, "No such file or directory"), ("/etc/passwd", 126, "Permission denied")],
)
def test_a_program_that_cannot_be_run(sts: StsStub, command: str, code: int, reason: str) -> None:
    """A program that is not there, or is none, is one line and the exit code that shells use."""
    assert finish(command) == (code, "", f"aws_assume_role_lib: {command} could not be run: {reason}.\n")


@pytest.mark.parametrize("options", [(), ("--static",)])
def test_a_role_that_cannot_be_assumed_starts_nothing(sts: StsStub, tmp_path: Path, options: tuple[str, ...]) -> None:
    """If a role is refused, the program is not started."""
    sts.fault = Fault.error(403, "AccessDenied", "no")
    code, output, errors = finish("touch", str(tmp_path / "started"), options=options)
    assert (code, output) == (4, "")
    assert errors.startswith(f"aws_assume_role_lib: {HUB} could not be assumed: ")
    assert not (tmp_path / "started").exists()


def test_nothing_is_left_behind(sts: StsStub, tmp_path: Path) -> None:
    """The endpoint and the folder of settings end with the program, and no argument list has the token."""
    program = (
        "import os, subprocess; print(os.environ['AWS_CONTAINER_CREDENTIALS_FULL_URI'].split('/')[2]);"
        "print(os.environ['AWS_CONTAINER_AUTHORIZATION_TOKEN'] in subprocess.check_output(['ps', 'axww']).decode())"
    )
    code, output, errors = finish(sys.executable, "-c", program)
    assert (code, errors) == (0, "")
    host, shown = output.split()
    assert shown == "False"
    address = ("127.0.0.1", int(host.split(":")[1]))
    ended = False
    for _ in range(2000):
        with socket.socket() as probe:
            if ended := probe.connect_ex(address) != 0:
                break
    assert ended
    for _ in range(2000):
        if not list(tmp_path.glob("aws-assume-role-lib-*")):
            break
    assert list(tmp_path.glob("aws-assume-role-lib-*")) == []


def test_a_failed_refresh_is_reported(sts: StsStub) -> None:
    """While STS refuses, the SDK has the endpoint's error, and stderr one line that says what failed."""
    sts.lifetime = 2
    program = (
        "import boto3, botocore.exceptions\nclient = boto3.client('sts')\nprint('on', flush=True)\ninput()\n"
        "try:\n    while True: client.get_caller_identity()\n"
        "except botocore.exceptions.BotoCoreError as error: print(error)"
    )
    with start(sys.executable, "-c", program, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        sts.fault = Fault.error(403, "AccessDenied", "secret-1")
        output, errors = process.communicate("\n", timeout=50)
    assert "AssumeRole was answered with AccessDenied" in output
    assert f"aws_assume_role_lib: {HUB} could not be refreshed: AssumeRole was answered with AccessDenied.\n" in errors
    assert "secret-" not in output + errors


@pytest.fixture
def endpoint(sts: StsStub, parent: boto3.Session) -> Iterator[_run.Endpoint]:
    endpoint = _run.Endpoint(assume_role(parent, HUB))
    thread = threading.Thread(target=endpoint.serve_forever, args=(0.02,))
    thread.start()
    yield endpoint
    endpoint.shutdown()
    thread.join()
    endpoint.server_close()


def ask(endpoint: _run.Endpoint, method: str = "GET", path: str = "/credentials", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(endpoint.host, timeout=20)
    connection.request(method, path, headers={"Authorization": endpoint.token, **headers})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def test_the_endpoint_hands_out_the_role(sts: StsStub, endpoint: _run.Endpoint) -> None:
    """With the token, GET of the one path returns the role's keys and their expiry."""
    status, body = ask(endpoint)
    keys = endpoint.session.export_credentials()
    assert status == 200
    assert json.loads(body) == {
        "AccessKeyId": keys.access_key,
        "SecretAccessKey": keys.secret_key,
        "Token": keys.token,
        "Expiration": f"{keys.expiry:%Y-%m-%dT%H:%M:%SZ}",
        "RoleArn": HUB,
        "AccountId": "111111111111",
    }
    assert endpoint.server_address[0] == "127.0.0.1"


REFUSED: dict[str, tuple[dict[str, str], int]] = {
    "no token": ({"Authorization": ""}, 403),
    "wrong token": ({"Authorization": "wrong"}, 403),
    "a token that is not ASCII": ({"Authorization": "f\xfcr"}, 403),
    "another host": ({"Host": "example.com"}, 404),
    "another path": ({"path": "/"}, 404),
    "POST": ({"method": "POST"}, 501),
    "HEAD": ({"method": "HEAD"}, 501),
    "a long path": ({"path": "/" + "x" * 70_000}, 414),
    "a long header": ({"X": "x" * 70_000}, 431),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_endpoint_refuses_everything_else(sts: StsStub, endpoint: _run.Endpoint, name: str) -> None:
    """Without the token, from another site, or for anything else, there are no keys."""
    request, expected = REFUSED[name]
    status, body = ask(endpoint, **request)
    assert status == expected
    assert b"ASIA" not in body
    assert sts.assumed == []


def test_the_endpoint_survives_rude_clients(
    sts: StsStub, endpoint: _run.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that say nothing are closed after a while, and too many at once are not accepted."""
    monkeypatch.setattr(_run._Handler, "timeout", 0.5)
    address = ("127.0.0.1", endpoint.server_address[1])
    silent = [socket.create_connection(address) for _ in range(_run.MAX_CONNECTIONS + 8)]
    for connection in silent:
        connection.settimeout(20)
        assert connection.recv(1) == b""
        connection.close()
    assert ask(endpoint)[0] == 200


def test_an_endpoint_whose_stderr_is_closed(
    sts: StsStub, endpoint: _run.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed refresh is answered with an error, also where nobody reads stderr."""
    monkeypatch.setattr(sys, "stderr", None)
    sts.fault = Fault.error(403, "AccessDenied")
    status, body = ask(endpoint)
    assert status == 502
    assert json.loads(body)["code"] == "RefreshFailed"


def test_a_client_that_leaves_is_not_reported(endpoint: _run.Endpoint, capfd: pytest.CaptureFixture[str]) -> None:
    """What goes wrong with a connection is nobody's business: stderr belongs to the program."""
    try:
        raise BrokenPipeError
    except BrokenPipeError:
        endpoint.handle_error(None, None)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("static", [False, True])
def test_where_no_process_can_become_another(
    sts: StsStub,
    parent: boto3.Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    static: bool,
) -> None:
    """On Windows the program is a child process, with the same credentials, and its exit code is returned."""
    monkeypatch.delattr(os, "fork")
    session = assume_role(parent, SPOKE)
    key(session)
    assert _run.run(session, [sys.executable, "-c", PRINT_ARN + "; exit(3)"], static=static) == 3
    assert ":assumed-role/Spoke/" in capfd.readouterr().out
    assert _run.run(session, ["/no/such/program"], static=static) == 127
    assert list(tmp_path.glob("aws-assume-role-lib-*")) == []


def test_how_a_process_becomes_the_program(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The serving process is in a session of its own, without stdin and stdout, and waits for the program to end."""
    done: list[str] = []

    def left(code: int) -> None:
        raise SystemExit(code)

    for name in ("setsid", "dup2"):
        monkeypatch.setattr(os, name, lambda *_, name=name: done.append(name))
    monkeypatch.setattr(os, "_exit", left)
    monkeypatch.setattr(os, "fork", lambda: 0)
    with pytest.raises(SystemExit):
        _run._become(["true"], {}, lambda wait: done.append("serve"))
    assert done == ["setsid", "dup2", "dup2", "serve"]
    monkeypatch.setattr(os, "fork", lambda: 12345)
    monkeypatch.setattr(os, "waitpid", lambda *_: done.append("waitpid"))
    monkeypatch.setattr(signal, "signal", lambda *_: done.append("signal"))
    assert _run._become(["/no/such/program"], {}, lambda wait: None) == 127
    assert done[4:] == ["waitpid", "signal", "signal"]


@pytest.mark.parametrize("has_pidfd", [True, False])
def test_the_end_of_a_process_is_noticed(monkeypatch: pytest.MonkeyPatch, has_pidfd: bool) -> None:
    """Waiting for a process ends when it has ended, with and without pidfd_open()."""
    if not has_pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        wait = _run._waiting_for(process.pid)
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        waiting.join(20)
        assert not waiting.is_alive()
