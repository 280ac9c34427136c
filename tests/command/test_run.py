"""The command line runs a program as a role, for as long as it takes, without the program noticing.

What the program would do with the environment that it is given, most tests do in their own process.
"""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import inside
import pytest
import time_machine
from botocore.exceptions import CredentialRetrievalError
from botocore.utils import ContainerMetadataFetcher
from conftest import HANG, HUB, Forked, later, wait_until
from inside import ASK
from sts_stub import Fault, StsStub

from aws_assume_role_lib import AssumedRoleSession, JSONFileCache, assume_role
from aws_assume_role_lib._command import endpoint as server
from aws_assume_role_lib._command import environment, run
from aws_assume_role_lib._mfa import MfaDevice

fcntl = pytest.importorskip("fcntl", reason="on Windows the program is a child process")
resource = pytest.importorskip("resource", reason="on Windows the program is a child process")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

becomes_the_program = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="only on Linux does the process of the command become the program"
)

DEVICE = "arn:aws:iam::111111111111:mfa/me"
HOSTILE = "aws_access_key_id = AKIAHOSTILE\naws_secret_access_key = s\n"
OURS = [sys.executable, "-m", "aws_assume_role_lib", HUB, "--profile", "dev"]
PRINT_ARN = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"


@pytest.fixture(autouse=True)
def _profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source profile, and a [default] profile whose keys would take precedence over an endpoint's."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # this process may have looked TMPDIR up
    (tmp_path / "credentials").write_text(f"[default]\n{HOSTILE}")
    (tmp_path / "config").write_text(
        f"[default]\nregion = ap-south-1\n{HOSTILE}"
        "[profile dev]\nregion = eu-west-1\nretry_mode = standard\nservices = our local\nnote = Jörg\n"
        "user_agent_appid = one\n  two\ns3 =\n"
        "  addressing_style = path\n"
        "aws_access_key_id = AKIAROOT\naws_secret_access_key = root-secret\n"
        "[services 'our local']\ndynamodb =\n  endpoint_url = http://127.0.0.1:9\n"
    )


@pytest.fixture
def hub(sts: StsStub) -> AssumedRoleSession:
    return assume_role(boto3.Session(profile_name="dev"), HUB)


@contextlib.contextmanager
def program_of(session: AssumedRoleSession) -> Iterator[None]:
    """Give this process the environment of a program that runs as the role, and serve it as such a program."""
    variables, serve = run.prepare(session, static=False)
    ended = threading.Event()
    served = later(lambda: serve(ended.wait))
    with mock.patch.dict(os.environ, variables, clear=True):
        yield
    ended.set()
    served.result(HANG)


def start(*command: str, options: tuple[str, ...] = (), ours: list[str] = OURS) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([*ours, *options, "--", *command], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def folders(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("aws-assume-role-lib-*"))


# The environment


@pytest.mark.parametrize("options", [(), ("--static",)])
def test_the_program_is_the_role(sts: StsStub, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]) -> None:
    """Whatever credentials the environment and the files have, the program acts as the role, and has no child."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN"):
        monkeypatch.setenv(name, "hostile")
    monkeypatch.setenv("AWS_PROFILE", "default")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "hostile")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/hostile")
    children = "import os\ntry:\n  os.waitpid(-1, os.WNOHANG)\nexcept ChildProcessError:\n  print('none', end=' ')\n"
    with start(sys.executable, "-c", children + PRINT_ARN, options=options) as process:
        output, errors = process.communicate(timeout=50)
    assert (process.returncode, errors) == (0, "")
    assert output.startswith("none arn:aws:sts::111111111111:assumed-role/Hub/")


def test_no_variable_with_credentials_is_passed_on(hub: AssumedRoleSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable documented as removed is removed, and no other is changed but those documented as set."""
    page = (Path(__file__).parents[2] / "docs/reference/command-line.md").read_text("utf-8")
    removed = page.partition("### Variables that are removed\n")[2].partition("\n#")[0]
    was_set = page.partition("### Variables that are set\n")[2].partition("\n#")[0]
    assert [f"`{name}`" for name in environment.REMOVED if f"`{name}`" not in removed] == []
    for name in (*environment.REMOVED, "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.setenv(name, "hostile")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/bundle")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    before = dict(os.environ)
    with program_of(hub):
        after = dict(os.environ)
    assert "hostile" not in after.values()
    changed = {name for name in after if after[name] != before.get(name)}
    assert {name for name in changed if f"`{name}`" not in was_set} == set()
    assert len(changed) == 12


def test_settings_of_the_source_profile_come_along(
    hub: AssumedRoleSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program gets the source profile's settings, in a folder that has no key and is its user's alone; the keys of
    a .boto file, where botocore looks before it asks an endpoint, are not used.
    """
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".boto").write_text(f"[Credentials]\n{HOSTILE}")
    with program_of(hub):
        [folder] = folders(tmp_path)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert "AKIA" not in "".join(file.read_text() for file in folder.iterdir())
        session = boto3.Session()
        assert session._session.get_scoped_config() == {
            "region": "eu-west-1",
            "retry_mode": "standard",
            "services": "our local",
            "note": "Jörg",
            "user_agent_appid": "one\ntwo",
            "s3": {"addressing_style": "path"},
        }
        assert session._session.full_config["services"] == {
            "our local": {"dynamodb": {"endpoint_url": "http://127.0.0.1:9"}}
        }
        assert ":assumed-role/Hub/" in session.client("sts").get_caller_identity()["Arn"]
    assert folders(tmp_path) == []


def test_a_role_without_a_region(sts: StsStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the session has no region, none is set for the program."""
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    session = assume_role(boto3.Session("AKIAROOT", "root-secret"), HUB, sts_client_kwargs={"region_name": "us-east-1"})
    variables, serve = run.prepare(session, static=True)
    serve(lambda: None)
    assert "AWS_REGION" not in variables
    assert variables["AWS_ACCESS_KEY_ID"] == session.export_credentials().access_key


# Refreshes


def test_credentials_refresh_while_the_program_runs(
    sts: StsStub, hub: AssumedRoleSession, clock: time_machine.Traveller
) -> None:
    """A program that outlives its first keys continues with new ones, without an error."""
    with program_of(hub):
        client = boto3.client("sts")
        used = []
        for _ in range(3):
            used.append(client.get_caller_identity()["UserId"])
            clock.shift(3600)
    assert used == [*sts.issued]
    assert sts.violations == []


@becomes_the_program
def test_a_failed_refresh_is_reported(sts: StsStub) -> None:
    """While STS refuses, the endpoint says so, and stderr has one line, however often the SDK tries."""
    sts.lifetime = 3

    def answer(process: subprocess.Popen[str]) -> str:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return line_of(process)

    with start(sys.executable, "-u", "-c", f"while True:\n  input()\n{textwrap.indent(ASK, '  ')}") as process:
        assert "AccessKeyId" in answer(process)
        sts.fault = Fault.error(403, "AccessDenied", "secret-1")
        wait_until(lambda: time.time() >= max(issued.expires for issued in sts.issued.values()))
        answers = [answer(process), answer(process)]
        process.kill()
        errors = process.communicate(timeout=50)[1]
    failure = f"{HUB} could not be refreshed: AssumeRole failed with AccessDenied."
    assert all(failure in answer for answer in answers)
    assert errors == f"aws_assume_role_lib: {failure}\n"


NO_CODE = "a new MFA code is needed. "


def test_a_code_cannot_be_asked_for_while_the_program_runs(
    sts: StsStub, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a refresh needs an MFA code, the SDK's error says so, and so does one line on stderr."""
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
    session = assume_role(boto3.Session(profile_name="dev"), HUB, SerialNumber=DEVICE, TokenCode="123456")
    with program_of(session):
        client = boto3.client("sts")
        client.get_caller_identity()
        clock.shift(3600)
        for _ in range(2):
            with pytest.raises(CredentialRetrievalError, match=NO_CODE):
                client.get_caller_identity()
    errors = capsys.readouterr().err
    assert errors.startswith(
        f"aws_assume_role_lib: {HUB} could not be refreshed: {NO_CODE}Start the program again, or "
    )
    assert errors.count("\n") == 1


def test_a_prompt_of_botocores_has_no_reader() -> None:
    """botocore's own prompt for a code fails at once if no one can type, and the error says so."""
    assert server._reason(EOFError()).startswith(NO_CODE)
    with pytest.raises(CredentialRetrievalError) as caught:
        MfaDevice(DEVICE, None).code()
    assert server._reason(caught.value).startswith(NO_CODE)


def test_a_code_typed_in_another_shell_serves_a_running_program(
    sts: StsStub, tmp_path: Path, clock: time_machine.Traveller
) -> None:
    """When the keys of a running program expire, its endpoint first looks for those that another run has kept."""
    mfa = {"SerialNumber": DEVICE, "TokenCode": "123456"}
    session = assume_role(boto3.Session(profile_name="dev"), HUB, cache=JSONFileCache(tmp_path / "kept"), **mfa)
    with program_of(session):
        client = boto3.client("sts")
        client.get_caller_identity()
        clock.shift(3600)
        with mock.patch.dict(os.environ, {"AWS_CONFIG_FILE": str(tmp_path / "config")}):
            options = ("--cache", str(tmp_path / "kept"), "--SerialNumber", DEVICE, "--TokenCode", "654321")
            assert inside.run(HUB, "--profile", "dev", *options).returncode == 0
        assert client.get_caller_identity()["UserId"] == [*sts.issued][1]
    assert [request.params["TokenCode"] for request in sts.assumed] == ["123456", "654321"]


def reason(session: boto3.Session) -> str:
    """Return why the role cannot be refreshed, as the endpoint reports it."""
    hub = assume_role(session, HUB)
    with pytest.raises(Exception) as raised:
        hub.export_credentials()
    return server._reason(raised.value)


def test_keys_of_the_source_that_expire(
    sts: StsStub, parent: boto3.Session, root_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the source's keys expire, which cannot be replaced in a running process, start the command again."""
    sts.fault = Fault.error(403, "InvalidClientTokenId")
    assert reason(parent) == "AssumeRole failed with InvalidClientTokenId"
    sts.fault = Fault.error(403, "ExpiredToken")
    assert reason(parent).endswith("The source's keys have expired. Get new ones, and start the command again")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "root-token")
    soon = datetime.now(timezone.utc) + timedelta(minutes=5)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", soon.isoformat())
    session = boto3.Session()
    session.get_credentials()
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00+00:00")
    assert reason(session).endswith("start the command again")


def test_a_source_that_can_be_renewed(sts: StsStub, tmp_path: Path) -> None:
    """If the source can be renewed while the program runs, the line says to log in again, and as what."""
    soon = datetime.now(timezone.utc) + timedelta(minutes=5)
    keys = {"Version": 1, "AccessKeyId": "AKIADEV", "SecretAccessKey": "dev-secret", "SessionToken": "t"}
    (tmp_path / "keys").write_text(json.dumps(keys | {"Expiration": soon.isoformat()}))
    (tmp_path / "config").write_text(f"[profile dev]\nregion = us-east-1\ncredential_process = cat {tmp_path}/keys\n")
    session = boto3.Session(profile_name="dev")
    session.get_credentials()
    (tmp_path / "keys").unlink()
    assert reason(session).endswith(". Log in again; the program can then go on")


# The process


def test_the_exit_code_and_streams_are_the_programs(sts: StsStub) -> None:
    """The program has its own stdin, stdout and exit code."""
    with start("sh", "-c", "cat; echo error >&2; exit 7") as process:
        assert process.communicate("input", timeout=50) == ("input", "error\n")
    assert process.returncode == 7


MACOS = (
    "import os, signal; from aws_assume_role_lib._command.cli import main; "
    "os.__dict__.pop('pidfd_open', None); del signal.SIGUSR2; main()"
)


@pytest.mark.parametrize(
    ("ours", "last", "code"),
    [
        pytest.param(OURS, signal.SIGINT, -signal.SIGINT, id="the program is this process", marks=becomes_the_program),
        pytest.param(
            [sys.executable, "-c", MACOS, *OURS[3:]], signal.SIGUSR1, 128 + signal.SIGUSR1, id="it is a child, on macOS"
        ),
    ],
)
def test_a_signal_for_the_command_reaches_the_program(sts: StsStub, ours: list[str], last: int, code: int) -> None:
    """A signal sent to the command reaches the program, which may handle it or die from it."""
    # Not with handlers: Python calls them late if the signal comes just before it waits for something.
    program = (
        "import signal\nhandled = {signal.SIGHUP, signal.SIGTERM}\nsignal.pthread_sigmask(signal.SIG_BLOCK, handled)\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\nprint('on')\nwhile True: print(int(signal.sigwait(handled)))"
    )
    with start(sys.executable, "-u", "-c", program, ours=ours) as process:
        assert line_of(process) == "on\n"
        for number in (signal.SIGHUP, signal.SIGTERM):
            process.send_signal(number)
            assert line_of(process) == f"{int(number)}\n"
        process.send_signal(last)
        assert process.wait(50) == code


def test_ctrl_c_where_the_program_is_a_child(sts: StsStub) -> None:
    """Ctrl-C reaches the command and the program; the exit code is that of a program which has died from it."""
    command = [sys.executable, "-c", MACOS, *OURS[3:], "--", "sh", "-c", "sleep 0.2; kill -INT 0"]
    assert subprocess.run(command, timeout=50, start_new_session=True).returncode == 130


@becomes_the_program
def test_a_system_without_processes(sts: StsStub) -> None:
    """If the server of the credentials cannot be started, the program is not run without it."""
    script = (
        "import itertools, os\nfrom aws_assume_role_lib._command.cli import main\n"
        "fork, n = os.fork, itertools.count()\nos.fork = lambda: fork() if next(n) < 1 else 1 / 0\nmain()"
    )
    with start("echo", "run", ours=[sys.executable, "-c", script, *OURS[3:]]) as process:
        output, errors = process.communicate(timeout=50)
    assert (process.returncode, output) == (126, "")
    assert "echo could not be run: there are too many processes" in errors


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("/no/such/program", 127, "No such file or directory"),
        ("/etc/passwd", 126, "Permission denied"),
    ],
)
def test_a_program_that_cannot_be_run(sts: StsStub, command: str, code: int, reason: str) -> None:
    """A missing or non-executable program produces one line and the exit code that shells use."""
    finished = inside.run_without_terminal(HUB, "--profile", "dev", "--", command, "argument")
    assert finished == (code, "", f"aws_assume_role_lib: {command} could not be run: {reason}.\n")


@pytest.mark.parametrize("options", [(), ("--static",)])
def test_a_role_that_cannot_be_assumed_starts_nothing(sts: StsStub, tmp_path: Path, options: tuple[str, ...]) -> None:
    """If a role is refused, the program is not started."""
    sts.fault = Fault.error(403, "AccessDenied", "no")
    finished = inside.run_without_terminal(HUB, "--profile", "dev", *options, "--", "touch", str(tmp_path / "started"))
    assert (finished.returncode, finished.stdout) == (4, "")
    assert finished.stderr.startswith(f"aws_assume_role_lib: {HUB} could not be assumed: ")
    assert not (tmp_path / "started").exists()


@becomes_the_program
def test_nothing_is_left_behind(sts: StsStub, tmp_path: Path) -> None:
    """Even after kill -9, the endpoint and the settings folder disappear, and no argument list has the token."""
    program = (
        "import os, subprocess; print(os.environ['AWS_CONTAINER_CREDENTIALS_FULL_URI'].split('/')[2],"
        "os.environ['AWS_CONTAINER_AUTHORIZATION_TOKEN'] in subprocess.check_output(['ps', 'axww']).decode(),"
        "flush=True); input()"
    )
    with start(sys.executable, "-c", program) as process:
        host, shown = line_of(process).split()
        process.kill()
        assert process.wait(50) == -signal.SIGKILL
    assert shown == "False"

    def is_gone() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(host.split(":")[1]))) != 0 and not folders(tmp_path)

    wait_until(is_gone)


def test_a_pipeline_ends_with_its_reader(sts: StsStub) -> None:
    """SIGPIPE ends a program whose reader leaves, as in any pipeline."""
    script = f"{shlex.join(OURS)} -- yes | head -n 1; echo ${{PIPESTATUS[0]}}"
    finished = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=50)
    assert (finished.stdout, finished.stderr) == ("y\n141\n", "")


def test_streams_that_the_program_closes(sts: StsStub) -> None:
    """A stream that the program closes, or a pipe that it inherited, is closed although its server still runs."""
    program = "import os, signal; os.close(0); os.close(1); os.close(3); signal.pause()"
    command = ["sh", "-c", 'exec "$@" 3>&1', "sh", *OURS, "--", sys.executable, "-c", program]
    with subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert later(process.stdout.read).result(HANG) == b""
            with pytest.raises(BrokenPipeError):
                process.stdin.write(b"x")
        finally:
            process.kill()


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_closed_stream_stays_closed(sts: StsStub, tmp_path: Path, closed: str) -> None:
    """A closed standard stream is closed for the program too, which still gets credentials."""
    program = f"import sys; sys.stdout = open({str(tmp_path / 'answer')!r}, 'w')\n{ASK}"
    command = [*OURS, "--", sys.executable, "-c", program]
    assert subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *command], timeout=50).returncode == 0
    assert HUB in (tmp_path / "answer").read_text()


# Its end, and what may be left


def test_a_command_that_inherits_many_files(sts: StsStub, tmp_path: Path) -> None:
    """A command that has inherited more than a thousand open files serves the program, and notices its end."""
    many = (
        "import os, resource as r, sys; r.setrlimit(r.RLIMIT_NOFILE, (2048, r.getrlimit(r.RLIMIT_NOFILE)[1]))\n"
        "for _ in range(1100): os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    with start(sys.executable, "-c", ASK, ours=[sys.executable, "-c", many, *OURS]) as process:
        assert HUB in process.communicate(timeout=50)[0]
    wait_until(lambda: folders(tmp_path) == [])


def test_what_a_killed_process_leaves(hub: AssumedRoleSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a process that was killed is removed by the next run of its user; that of one that runs is kept."""

    def die() -> str:
        folder = environment.settings_folder(hub)
        os.kill(os.getpid(), signal.SIGKILL)
        return folder.name

    Forked.start(die).result()
    [abandoned] = folders(tmp_path)
    if os.path.exists("/proc/self/ns/pid"):
        assert f"-{os.stat('/proc/self/ns/pid').st_ino}-" in abandoned.name
    kept = {
        tmp_path / f"{environment.FOLDER_PREFIX}{name}"
        # Of these, only the second one, process 1's, has a name as this machine gives.
        for name in ("of-another-program", "1-process", "99999999-1-process", f"{10**22}-process")
    }
    for folder in kept:
        folder.mkdir()
    with monkeypatch.context() as another_user:
        another_user.setattr(os, "getuid", lambda: abandoned.stat().st_uid + 1)
        environment.settings_folder(hub).cleanup()
        another_user.setattr(os, "getuid", lambda: abandoned.stat().st_uid - 1)
        environment.settings_folder(hub).cleanup()
    assert abandoned.exists()
    running = environment.settings_folder(hub)
    assert not abandoned.exists()
    another = environment.settings_folder(hub)
    assert os.path.exists(running.name)
    for folder in (running, another):
        folder.cleanup()
    assert set(folders(tmp_path)) == kept


def test_a_server_that_fails_leaves_no_folder(hub: AssumedRoleSession, tmp_path: Path) -> None:
    """The folder of settings is removed, too, when waiting for the program raises an exception."""
    _, serve = run.prepare(hub, static=True)
    with pytest.raises(RuntimeError, match="wait"):
        serve(lambda: (_ for _ in ()).throw(RuntimeError("wait")))
    assert folders(tmp_path) == []


@pytest.mark.parametrize("size", [0, 10], ids=["no folder", "no room in it"])
def test_no_folder_for_settings(sts: StsStub, tmp_path: Path, size: int) -> None:
    """Without space for temporary files, nothing is started or left behind: exit code 1, and one line."""

    def work() -> str:
        gc.collect()  # what earlier tests have left may complain on stderr
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        finished = inside.run(HUB, "--profile", "dev", "--", "true", "it is")
        gc.collect()  # which the end of a process does
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))  # coverage writes a file at the end
        return json.dumps(finished)

    finished = inside.Finished(*json.loads(Forked.start(work).result()))
    assert folders(tmp_path) == []
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr.startswith("aws_assume_role_lib: true could not be run: ")
    assert finished.stderr.count("\n") == 1


def test_too_few_open_files(sts: StsStub) -> None:
    """If the endpoint may open too few files, the program is not started: exit code 1, and one line with the limit."""
    command = ["sh", "-c", 'ulimit -Sn 8; exec "$@"', "sh", *OURS, "--", "echo", "started"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr == (
        "aws_assume_role_lib: echo could not be run: the limit on open files is 8; it must be 64. Run ulimit -n 64.\n"
    )


# The endpoint


@pytest.fixture
def endpoint(hub: AssumedRoleSession) -> Iterator[server.Endpoint]:
    endpoint = server.Endpoint(hub)
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


def connect(endpoint: server.Endpoint) -> socket.socket:
    return socket.create_connection(("127.0.0.1", endpoint.server_address[1]), timeout=20)


def say(endpoint: server.Endpoint, text: str) -> bytes:
    """Send this, and return everything that comes back."""
    answer = b""
    with connect(endpoint) as connection, contextlib.suppress(ConnectionResetError):
        connection.sendall(text.encode())
        while more := connection.recv(65536):
            answer += more
    return answer


def test_the_endpoint_hands_out_the_role(endpoint: server.Endpoint) -> None:
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


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param({"Host": "127.0.0.1"}, 200, id="AWS CRT leaves the port out"),
        pytest.param({"traceparent": "x" * 8000}, 200, id="long headers of a client's tracing"),
        pytest.param({"Authorization": ""}, 403, id="no token"),
        pytest.param({"Authorization": "wrong"}, 403, id="wrong token"),
        pytest.param({"Authorization": "f\xfcr"}, 403, id="a token that is not ASCII"),
        pytest.param({"Host": "example.com"}, 404, id="another host"),
        pytest.param({"Host": "localhost"}, 404, id="another name of this host"),
        pytest.param({"Host": "127.0.0.1:80"}, 404, id="another port"),
        pytest.param({"path": "/"}, 404, id="another path"),
        pytest.param({"path": "/credentials?x"}, 404, id="a query"),
        pytest.param({"method": "POST"}, 501, id="POST"),
        pytest.param({"method": "HEAD"}, 501, id="HEAD"),
        pytest.param({"path": "/" + "x" * 70_000}, 414, id="a long path"),
        pytest.param({"X": "x" * 70_000}, 431, id="a long header"),
    ],
)
def test_the_endpoint_refuses_everything_else(
    sts: StsStub, endpoint: server.Endpoint, request_: dict[str, str], status: int
) -> None:
    """Requests without the token, from another site, or for anything else get no keys."""
    answer = ask(endpoint, **request_)
    assert answer[0] == status
    assert (b"ASIA" in answer[1]) is (status == 200)
    assert len(sts.assumed) == (status == 200)


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


def test_a_request_is_read_to_16_kilobytes(endpoint: server.Endpoint) -> None:
    """Whatever a client sends, the server keeps little of it: a token behind 120,000 characters is not found."""
    padding = f"a: {'x' * 60_000}\r\n" * 2
    head = f"GET /credentials HTTP/1.1\r\nHost: {endpoint.host}\r\n{padding}Authorization: {endpoint.token}\r\n\r\n"
    assert b" 200 " not in say(endpoint, head)


def test_32_connections_may_be_silent(endpoint: server.Endpoint) -> None:
    """As many connections may send nothing for a while, or less than a request; then each new one closes the oldest, so
    the program is always served at once.
    """
    silent = [connect(endpoint) for _ in range(31)]
    for connection in silent[1::2]:
        connection.sendall(b"GET /cred")
    wait_until(lambda: len(endpoint._waiting) == 31)
    assert ask(endpoint)[0] == 200
    wait_until(lambda: len(endpoint._waiting) == 31)
    silent[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        silent[0].recv(1)
    silent.append(connect(endpoint))
    assert ask(endpoint)[0] == 200
    silent[0].settimeout(5)  # less than the time after which a silent connection is closed anyway
    assert silent[0].recv(1) == b""
    for connection in silent:
        connection.close()


def test_a_silent_connection_is_closed(endpoint: server.Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that sends nothing is closed after a while."""
    monkeypatch.setattr(server._Handler, "timeout", 0.2)
    assert say(endpoint, "") == b""
    assert endpoint._waiting == []


def test_an_endpoint_whose_stderr_is_closed(
    sts: StsStub, endpoint: server.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed refresh is answered with an error, even if nobody reads stderr."""
    monkeypatch.setattr(endpoint, "_stderr", None)
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
