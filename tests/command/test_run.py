"""The command line runs a program as a role, for as long as it takes, without the program noticing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import CredentialRetrievalError
from conftest import HANG, HUB, SPOKE, later, wait_until
from sts_stub import Fault, StsStub

from aws_assume_role_lib import assume_role
from aws_assume_role_lib._command import cli, environment, run
from aws_assume_role_lib._command import endpoint as server
from aws_assume_role_lib._mfa import MfaDevice

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="on Windows the program is a child process")

HOSTILE = "aws_access_key_id = AKIAHOSTILE\naws_secret_access_key = s\n"
PRINT_ARN = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"


@pytest.fixture(autouse=True)
def _profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source profile, and a [default] profile whose keys would take precedence over an endpoint's."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # this process may have looked TMPDIR up
    (tmp_path / "credentials").write_text(f"[default]\n{HOSTILE}")
    (tmp_path / "config").write_text(
        f"[default]\nregion = ap-south-1\n{HOSTILE}"
        "[profile dev]\nregion = eu-west-1\nretry_mode = standard\nservices = local\n"
        "user_agent_appid = one\n  two\ns3 =\n"
        "  addressing_style = path\n"
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


def assert_gone(port: int, folder: Path) -> None:
    """Within a short time, nothing listens on the port, and no settings folder is left."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) and not list(folder.glob("aws-assume-role-lib-*")):
                return
    pytest.fail("the endpoint or its folder is still there")


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


def test_no_variable_with_credentials_is_passed_on(sts: StsStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable documented as removed is removed, and no other is changed but those documented as set."""
    page = (Path(__file__).parents[2] / "docs/reference/command-line.md").read_text("utf-8")
    removed = page.partition("### Variables that are removed\n")[2].partition("\n#")[0]
    was_set = page.partition("### Variables that are set\n")[2].partition("\n#")[0]
    assert [f"`{name}`" for name in environment.REMOVED if f"`{name}`" not in removed] == []
    for name in environment.REMOVED:
        monkeypatch.setenv(name, "hostile")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "hostile")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/bundle")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    before = dict(os.environ)
    code, output, errors = finish(sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))")
    assert (code, errors) == (0, "")
    after = json.loads(output)
    assert "hostile" not in after.values()
    assert after["AWS_CA_BUNDLE"] == "/bundle"
    changed = {name for name in after if after[name] != before.get(name) and name.startswith(("AWS_", "BOTO", "CPL_"))}
    assert {name for name in changed if f"`{name}`" not in was_set} == set()
    assert len(changed) == 12


def test_settings_of_the_source_profile_come_along(sts: StsStub) -> None:
    """The program gets the source profile's region, retries, services and nested settings, but not its keys."""
    program = (
        "import boto3; s = boto3.Session(); print(s.region_name, s._session.get_scoped_config(),"
        "s.client('dynamodb', endpoint_url=None)._client_config.retries, s._session.full_config['services'])"
    )
    code, output, errors = finish(sys.executable, "-c", program)
    assert (code, errors) == (0, "")
    assert output.startswith("eu-west-1 ")
    assert "'mode': 'standard'" in output
    assert "'addressing_style': 'path'" in output
    assert "{'local': {'dynamodb': {'endpoint_url': 'http://127.0.0.1:9'}}}" in output
    assert "'user_agent_appid': 'one\\ntwo'" in output
    assert "AKIA" not in output


def test_the_programs_folder_is_its_users_alone(sts: StsStub) -> None:
    """Other users cannot open the program's settings folder, which contains no key."""
    program = "import os; p = os.environ['AWS_CONFIG_FILE']; print(oct(os.stat(os.path.dirname(p)).st_mode)); "
    program += "print([open(os.path.join(os.path.dirname(p), n)).read() for n in os.listdir(os.path.dirname(p))])"
    code, output, errors = finish(sys.executable, "-c", program)
    assert (code, errors) == (0, "")
    assert output.startswith("0o40700\n")
    assert "AKIA" not in output
    assert "secret" not in output


def test_keys_of_boto_2_do_not_win(sts: StsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of a .boto file, where botocore looks before it asks an endpoint, are not used."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".boto").write_text(f"[Credentials]\n{HOSTILE}")
    assert ":assumed-role/Hub/" in finish(sys.executable, "-c", PRINT_ARN)[1]


def test_credentials_refresh_while_the_program_runs(sts: StsStub) -> None:
    """A program that outlives its first keys continues with new ones, without an error."""
    sts.lifetime = 3
    program = (
        "import boto3, time\nkeys = set()\nclient = boto3.client('sts')\n"
        "while len(keys) < 3: keys.add(client.get_caller_identity()['UserId']); time.sleep(0.1)\nprint(len(keys))"
    )
    assert finish(sys.executable, "-c", program) == (0, "3\n", "")
    assert sts.violations == []


def test_the_exit_code_and_streams_are_the_programs(sts: StsStub) -> None:
    """The program has its own stdin, stdout and exit code."""
    with start("sh", "-c", "cat; echo error >&2; exit 7", stdin=subprocess.PIPE) as process:
        assert process.communicate("input", timeout=50) == ("input", "error\n")
    assert process.returncode == 7


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_for_the_command_reaches_the_program(sts: StsStub, name: str) -> None:
    """A signal sent to the command reaches the program, which may handle it or die from it."""
    number = getattr(signal, name)  # Windows does not have each of them
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
    """A missing or non-executable program produces one line and the exit code that shells use."""
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
    """The endpoint and the settings folder disappear with the program, and no argument list has the token."""
    program = (
        "import os, subprocess; print(os.environ['AWS_CONTAINER_CREDENTIALS_FULL_URI'].split('/')[2]);"
        "print(os.environ['AWS_CONTAINER_AUTHORIZATION_TOKEN'] in subprocess.check_output(['ps', 'axww']).decode())"
    )
    code, output, errors = finish(sys.executable, "-c", program)
    assert (code, errors) == (0, "")
    host, shown = output.split()
    assert shown == "False"
    assert_gone(int(host.split(":")[1]), tmp_path)


def test_a_program_that_is_killed(sts: StsStub, tmp_path: Path) -> None:
    """After kill -9, too, the endpoint is gone and the folder is removed."""
    program = "import os, time; print(os.environ['AWS_CONTAINER_CREDENTIALS_FULL_URI'], flush=True); time.sleep(60)"
    with start(sys.executable, "-c", program) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split("/")[2].split(":")[1])
        process.kill()
        assert process.wait(50) == -signal.SIGKILL
    assert_gone(port, tmp_path)


def test_a_pipe_ends_with_the_program(sts: StsStub) -> None:
    """A pipe or lock that the program inherits is not held open by the process that serves it."""
    read_end, write_end = os.pipe()
    program = f"import os; os.close({write_end}); input()"
    with start(sys.executable, "-c", program, stdin=subprocess.PIPE, pass_fds=[write_end]) as process:
        os.close(write_end)
        assert os.read(read_end, 1) == b""  # while the program runs
        process.communicate("\n", timeout=50)
    os.close(read_end)
    assert process.returncode == 0


def test_a_pipeline_ends_with_the_program(sts: StsStub) -> None:
    """In a pipeline, the reader sees EOF when the program ends, and SIGPIPE ends the program if the reader leaves."""
    run = shlex.join([sys.executable, "-m", "aws_assume_role_lib", HUB, "--profile", "dev", "--"])
    script = f"{run} echo one | cat; {run} yes | head -n 1; echo ${{PIPESTATUS[0]}}"
    finished = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=50)
    assert (finished.stdout, finished.stderr) == ("one\ny\n141\n", "")


def test_streams_that_the_program_closes(sts: StsStub) -> None:
    """A stream that the program closes is closed, although the process that serves it still runs."""
    program = "import os, signal; os.close(0); os.close(1); os.close(3); signal.pause()"
    run = [sys.executable, "-m", "aws_assume_role_lib", HUB, "--profile", "dev", "--", sys.executable, "-c", program]
    command = ["sh", "-c", 'exec "$@" 3>&1', "sh", *run]
    with subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert later(process.stdout.read).result(HANG) == b""
            with pytest.raises(BrokenPipeError):
                process.stdin.write(b"x")
        finally:
            process.kill()


def test_the_program_has_no_child(sts: StsStub) -> None:
    """The process that serves a program is not its child, so a program that waits for its children does not see it."""
    program = "import os\ntry:\n  os.waitpid(-1, os.WNOHANG)\nexcept ChildProcessError:\n  print('none')"
    assert finish(sys.executable, "-c", program) == (0, "none\n", "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_stays_closed(sts: StsStub, tmp_path: Path, closed: str) -> None:
    """A closed standard stream is closed for the program too, which still gets credentials."""
    arn = tmp_path / "arn"
    program = f"import boto3; open({str(arn)!r}, 'w').write(boto3.client('sts').get_caller_identity()['Arn'])"
    run = [sys.executable, "-m", "aws_assume_role_lib", HUB, "--profile", "dev", "--", sys.executable, "-c", program]
    assert subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *run], timeout=50).returncode == 0
    assert ":assumed-role/Hub/" in arn.read_text()


USE_UNTIL_IT_FAILS = """
import time
import boto3, botocore.exceptions
try:
    client = boto3.client("sts")
    print("on", flush=True)
    input()
    while True:
        try:
            client.get_caller_identity()
        except (botocore.exceptions.ClientError, RuntimeError):
            pass  # the keys expired on the way, or as soon as botocore had them
        time.sleep(0.1)  # leave the processor to others
except botocore.exceptions.BotoCoreError as error:
    print(error)
"""


def test_a_failed_refresh_is_reported(sts: StsStub) -> None:
    """While STS refuses, the SDK reports the endpoint's error, and stderr has one line, however often the SDK tries."""
    sts.lifetime = 5
    with start(sys.executable, "-c", USE_UNTIL_IT_FAILS, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        sts.fault = Fault.error(403, "AccessDenied", "secret-1")
        output, errors = process.communicate("\n", timeout=50)
    failure = f"{HUB} could not be refreshed: AssumeRole failed with AccessDenied."
    assert failure in output
    assert errors == f"aws_assume_role_lib: {failure}\n"
    assert len(sts.assumed) > 2


MFA = "a new MFA code is needed, which cannot be entered while the program runs. "


def test_a_code_cannot_be_asked_for_while_the_program_runs(sts: StsStub, tmp_path: Path) -> None:
    """If a refresh needs an MFA code, for the role or for the source profile, the line on stderr says so."""
    sts.lifetime = 5
    device = "arn:aws:iam::111111111111:mfa/me"
    failure = f"aws_assume_role_lib: {HUB} could not be refreshed: {MFA}Start it again, or pass a longer "
    options = ("--SerialNumber", device, "--TokenCode", "123456")
    with start(sys.executable, "-c", USE_UNTIL_IT_FAILS, options=options, stdin=subprocess.PIPE) as process:
        output, errors = process.communicate("\n", timeout=50)
    assert MFA in output
    assert errors.startswith(failure)
    assert errors.count("\n") == 1


@pytest.fixture
def endpoint(sts: StsStub, parent: boto3.Session) -> Iterator[server.Endpoint]:
    endpoint = server.Endpoint(assume_role(parent, HUB))
    thread = threading.Thread(target=endpoint.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield endpoint
    endpoint.shutdown()
    thread.join(20)
    endpoint.server_close()


def ask(endpoint: server.Endpoint, method: str = "GET", path: str = "/credentials", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(endpoint.host, timeout=20)
    connection.request(method, path, headers={"Authorization": endpoint.token, **headers})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def test_the_endpoint_hands_out_the_role(sts: StsStub, endpoint: server.Endpoint) -> None:
    """With the token, a GET of the one path returns the role's keys and their expiry."""
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
    "another name of this host": ({"Host": "localhost"}, 404),
    "another port": ({"Host": "127.0.0.1:80"}, 404),
    "another path": ({"path": "/"}, 404),
    "a query": ({"path": "/credentials?x"}, 404),
    "POST": ({"method": "POST"}, 501),
    "HEAD": ({"method": "HEAD"}, 501),
    "a long path": ({"path": "/" + "x" * 70_000}, 414),
    "a long header": ({"X": "x" * 70_000}, 431),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_endpoint_refuses_everything_else(sts: StsStub, endpoint: server.Endpoint, name: str) -> None:
    """Requests without the token, from another site, or for anything else get no keys."""
    request, expected = REFUSED[name]
    status, body = ask(endpoint, **request)
    assert status == expected
    assert b"ASIA" not in body
    assert sts.assumed == []


def say(endpoint: server.Endpoint, text: str) -> bytes:
    """Send this, and return everything that comes back."""
    with socket.create_connection(("127.0.0.1", endpoint.server_address[1]), timeout=20) as connection:
        connection.sendall(text.encode())
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while more := connection.recv(65536):
                answer += more
    return answer


def test_smuggled_requests(sts: StsStub, endpoint: server.Endpoint) -> None:
    """A bad Host, another form of the path or HTTP 0.9 gets no keys; a body is not taken for a request."""
    head = f"GET /credentials HTTP/1.1\r\nAuthorization: {endpoint.token}\r\n"
    host = f"Host: {endpoint.host}\r\n"
    for text in (
        f"{head}\r\n",
        f"{head}{host}Host: example.com\r\n\r\n",
        f"{head}{host}Host: 127.0.0.1\r\n\r\n",
        f"{head}Host: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n",
        f"{head}Host: example.com\r\n{host}\r\n",
        f"{head}Host:\r\n {endpoint.host}x\r\n\r\n",
        f"{head}{host}".replace("/credentials", f"http://{endpoint.host}/credentials") + "\r\n",
        f"GET /credentials\r\nAuthorization: {endpoint.token}\r\n{host}\r\n",
        f"{head}{host}\r\n".replace("HTTP/1.1", "HTTP/0.9"),
        f"{head}{host}\r\n".replace("/credentials", "//credentials"),
        f"{head}{host}" + "X: y\r\n" * 99 + "\r\n",
    ):
        assert b"ASIA" not in say(endpoint, text), text[:300]
    assert sts.assumed == []
    body = f"{head}{host}\r\n"
    answer = say(endpoint, f"{head}{host}Content-Length: {len(body)}\r\n\r\n{body}")
    assert answer.count(b"AccessKeyId") == 1


def test_a_host_without_the_port(endpoint: server.Endpoint) -> None:
    """AWS CRT leaves the port out of the Host header, and gets the keys."""
    assert ask(endpoint, Host="127.0.0.1")[0] == 200


def test_a_request_with_long_headers_is_answered(endpoint: server.Endpoint) -> None:
    """A request may have several kilobytes of headers, such as a client's own tracing headers."""
    assert ask(endpoint, traceparent="x" * 8000)[0] == 200


def test_32_connections_may_be_silent(endpoint: server.Endpoint) -> None:
    """As many connections may send nothing for a while; then each new one closes the oldest."""
    address = ("127.0.0.1", endpoint.server_address[1])
    silent = [socket.create_connection(address, timeout=20) for _ in range(31)]
    wait_until(lambda: len(endpoint._waiting) == 31)
    assert ask(endpoint)[0] == 200
    wait_until(lambda: len(endpoint._waiting) == 31)
    silent[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        silent[0].recv(1)
    silent.append(socket.create_connection(address, timeout=20))
    assert ask(endpoint)[0] == 200
    silent[0].settimeout(5)  # less than the time after which a silent connection is closed anyway
    assert silent[0].recv(1) == b""
    for connection in silent:
        connection.close()


def test_the_endpoint_survives_rude_clients(
    sts: StsStub, endpoint: server.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many connections send nothing, or a byte now and then, the program is served at once."""
    address = ("127.0.0.1", endpoint.server_address[1])
    rude = []
    for number in range(3 * server.MAX_WAITING):
        rude.append(socket.create_connection(address, timeout=20))
        if number % 2:
            rude[-1].sendall(b"GET /cred")
        if number % 10 == 0:
            assert ask(endpoint)[0] == 200
    assert len(endpoint._waiting) <= server.MAX_WAITING
    for connection in rude[: server.MAX_WAITING]:
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    for connection in rude:
        connection.close()


def test_a_silent_connection_is_closed(
    sts: StsStub, endpoint: server.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that sends nothing is closed after a while."""
    monkeypatch.setattr(server._Handler, "timeout", 0.2)
    assert say(endpoint, "") == b""
    assert endpoint._waiting == []


def test_an_endpoint_whose_stderr_is_closed(
    sts: StsStub, endpoint: server.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed refresh is answered with an error, even if nobody reads stderr."""
    monkeypatch.setattr(sys, "stderr", None)
    sts.fault = Fault.error(403, "AccessDenied")
    status, body = ask(endpoint)
    assert status == 424
    answer = json.loads(body)
    assert answer["code"] == answer["Code"] == "RefreshFailed"
    assert answer["message"] == answer["Message"]


def test_a_client_that_leaves_is_not_reported(endpoint: server.Endpoint, capfd: pytest.CaptureFixture[str]) -> None:
    """Connection errors are not reported: stderr belongs to the program."""
    try:
        raise BrokenPipeError
    except BrokenPipeError:
        endpoint.handle_error(None, None)
    assert capfd.readouterr() == ("", "")


def test_a_prompt_of_botocores_has_no_reader(parent: boto3.Session) -> None:
    """botocore's own prompt for a code fails at once if no one can type, and the error says so."""
    session = assume_role(parent, HUB)
    assert server._reason(session, EOFError()).startswith(MFA)
    with pytest.raises(CredentialRetrievalError) as caught:
        MfaDevice("arn:aws:iam::111111111111:mfa/me", None).code()
    assert server._reason(session, caught.value).startswith(MFA)


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
    monkeypatch.setattr("aws_assume_role_lib._command.environment.fcntl", None)
    session = assume_role(parent, SPOKE)
    environment, serve = run.prepare(session, static=static)
    assert run.run([sys.executable, "-c", PRINT_ARN + "; exit(3)"], environment, serve) == 3
    assert ":assumed-role/Spoke/" in capfd.readouterr().out
    with pytest.raises(FileNotFoundError):
        run.run(["/no/such/program"], environment, serve)
    assert list(tmp_path.glob("aws-assume-role-lib-*")) == []


@pytest.mark.parametrize("owner", ["me", "another user"])
def test_a_folder_that_a_killed_process_left(
    sts: StsStub, parent: boto3.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    """The next run removes the folder that a killed process has left, unless another user owns it."""
    folder = tmp_path / "aws-assume-role-lib-left"
    folder.mkdir()
    for name in ("config", "credentials"):
        (folder / name).touch()
    if owner != "me":
        monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    _, serve = run.prepare(assume_role(parent, HUB), static=True)
    serve(lambda: None)
    assert folder.exists() is (owner != "me")


@pytest.mark.parametrize("size", [0, 10], ids=["no folder", "no room in it"])
def test_no_folder_for_settings(sts: StsStub, tmp_path: Path, size: int) -> None:
    """Without space for temporary files, nothing is started or left behind: exit code 1, and one line."""
    limit = (
        f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}));"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    run = [sys.executable, "-m", "aws_assume_role_lib", HUB, "--profile", "dev", "--", "true", "it is"]
    # coverage would write files, too.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    finished = subprocess.run(
        [sys.executable, "-c", limit, *run], env=environment, capture_output=True, text=True, timeout=50
    )
    assert list(tmp_path.glob("aws-assume-role-lib-*")) == []
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr.startswith("aws_assume_role_lib: true could not be run: ")
    assert finished.stderr.count("\n") == 1


def test_a_server_that_fails_leaves_no_folder(sts: StsStub, parent: boto3.Session, tmp_path: Path) -> None:
    """The folder of settings is removed, too, when waiting for the program raises an exception."""
    _, serve = run.prepare(assume_role(parent, HUB), static=True)
    with pytest.raises(RuntimeError, match="wait"):
        serve(lambda: (_ for _ in ()).throw(RuntimeError("wait")))
    assert list(tmp_path.glob("aws-assume-role-lib-*")) == []


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux has pidfd_open()")
def test_a_descriptor_of_a_large_number_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has inherited more than a thousand open files notices the end of the program, too."""
    import fcntl
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    try:
        opened = os.pidfd_open
        monkeypatch.setattr(os, "pidfd_open", lambda pid: fcntl.fcntl(opened(pid), fcntl.F_DUPFD, 1100))
        with subprocess.Popen(["true"]) as process:
            assert run._waiting_for(process.pid)()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("has_pidfd", [True, False])
def test_the_end_of_a_process_is_noticed(monkeypatch: pytest.MonkeyPatch, has_pidfd: bool) -> None:
    """Waiting for a process ends when the process does, with and without pidfd_open()."""
    if not has_pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        wait = run._waiting_for(process.pid)
        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        waiting.join(20)
        assert not waiting.is_alive()


def test_a_process_of_another_user_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that now runs as another user, as with sudo, cannot be signalled but still counts as running."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    answers: list[type[OSError]] = [PermissionError, ProcessLookupError]

    def kill(_: int, number: int) -> None:
        assert number == 0  # which only asks
        raise answers.pop(0)

    monkeypatch.setattr(os, "kill", kill)
    run._waiting_for(1)()
    assert answers == []


def test_a_role_without_a_region(sts: StsStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the session has no region, none is set for the program."""
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    session = assume_role(boto3.Session("AKIAROOT", "root-secret"), HUB, sts_client_kwargs={"region_name": "us-east-1"})
    environment, serve = run.prepare(session, static=True)
    serve(lambda: None)
    assert "AWS_REGION" not in environment
    assert environment["AWS_ACCESS_KEY_ID"] == session.export_credentials().access_key


def test_the_command_where_no_process_can_become_another(
    sts: StsStub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On Windows, too, the exit code of the command is the program's, or says that it cannot be run."""
    monkeypatch.delattr(os, "fork")
    monkeypatch.setattr(
        sys, "argv", ["x", HUB, "--profile", "dev", "--", sys.executable, "-c", PRINT_ARN + "; exit(3)", "true"]
    )
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 3
    assert ":assumed-role/Hub/" in capfd.readouterr().out
    monkeypatch.setattr(sys, "argv", ["x", HUB, "--profile", "dev", "--", "/no/such/program"])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 127
    assert "/no/such/program could not be run: " in capfd.readouterr().err
