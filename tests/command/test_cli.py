"""The command line prints credentials, or one line that says what is wrong and what to do."""

from __future__ import annotations

import inspect
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import pytest
import time_machine
from botocore.credentials import AssumeRoleProvider
from botocore.exceptions import CredentialRetrievalError
from botocore.loaders import Loader
from conftest import HUB, SPOKE, Forked, needs_fork, needs_posix, needs_terminal
from inside import ASK, Finished, run, run_without_terminal, type_in
from sts_stub import Fault, StsStub

import aws_assume_role_lib
from aws_assume_role_lib import ExportedCredentials, assume_role
from aws_assume_role_lib._command import arguments, cli, formats
from aws_assume_role_lib._command.environment import REMOVED

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

COMMAND = [sys.executable, "-m", "aws_assume_role_lib"]
DEVICE = "arn:aws:iam::111111111111:mfa/me"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
DEV = "aws_access_key_id = AKIADEV\naws_secret_access_key = dev-secret\n"
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
TOO_LONG = "The requested DurationSeconds exceeds the MaxSessionDuration set"
LIMIT = 60  # seconds: far longer than any process takes unless it hangs


@pytest.fixture(autouse=True)
def _source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the process long-term keys and a region, and let it import the same package as the test."""
    path = [str(Path(aws_assume_role_lib.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAROOT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "root-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


def run_process(*arguments: str, **options: Any) -> Finished:
    """Run the command line as a process until it exits."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    ran = subprocess.run([*COMMAND, *arguments], text=True, timeout=LIMIT, check=False, **streams)
    return Finished(ran.returncode, ran.stdout, ran.stderr)


def credentials(finished: Finished) -> dict[str, Any]:
    """Return what a successful run with --json printed."""
    assert (finished.returncode, finished.stderr) == (0, "")
    output: dict[str, Any] = json.loads(finished.stdout)
    return output


def assert_failed(finished: Finished, code: int, *fragments: str) -> None:
    """The run exited with this code and one line on stderr that has each fragment, and nothing else."""
    assert (finished.returncode, finished.stdout) == (code, ""), finished.stderr
    assert re.fullmatch(r"aws_assume_role_lib: .+\.\n", finished.stderr)
    for fragment in fragments:
        assert fragment in finished.stderr


def configure(text: str) -> None:
    Path(os.environ["AWS_CONFIG_FILE"]).write_text(text)


def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")


# Output


def test_prints_environment_variables(sts: StsStub) -> None:
    """By default, four NAME=value lines are printed, and nothing on stderr."""
    finished = run_process(HUB)
    expires = datetime.fromtimestamp(sts.issued["ASIA0000000000000001"].expires, timezone.utc)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.splitlines() == [
        "AWS_ACCESS_KEY_ID=ASIA0000000000000001",
        "AWS_SECRET_ACCESS_KEY=secret-1",
        "AWS_SESSION_TOKEN=token-1",
        f"AWS_CREDENTIALS_EXPIRATION={expires:%Y-%m-%dT%H:%M:%SZ}",
    ]


# The safe forms in the docs, and how each shell is started.
SHELLS = {
    "bash": (["bash", "-c"], 'creds=$({} --format env {}) && eval "$creds"'),
    "zsh": (["zsh", "-c"], 'creds=$({} --format env {}) && eval "$creds"'),
    "fish": (["fish", "-c"], "set creds ({} --format fish {} | string collect)\nand eval $creds"),
    "pwsh": (
        ["pwsh", "-NoProfile", "-Command"],
        "$creds = {} --format powershell {}\nif ($LASTEXITCODE -eq 0) {{ $creds | Out-String | Invoke-Expression }}",
    ),
}


@needs_posix
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_becomes_the_role(sts: StsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    """After the documented form, a program in that shell finds the role's credentials and no others; if the command
    fails, nothing is changed.
    """
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    start, form = SHELLS[shell]
    page = (Path(__file__).parents[2] / "docs/reference/command-line.md").read_text("utf-8")
    assert form.format("aws-assume-role-lib", HUB) in page
    monkeypatch.setenv("HOME", str(tmp_path))  # fish complains unless it can write there
    used = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CREDENTIAL_EXPIRATION", "AWS_ASSUME_ROLE_LIB_LOADING"}
    for name in {*REMOVED, "AWS_BEARER_TOKEN_BEDROCK"} - used:
        monkeypatch.setenv(name, "hostile")
    configure("[profile hostile]\n")
    printed = run(HUB, "--format", form.split()[form.split().index("--format") + 1])
    assert printed.stderr == ""
    (tmp_path / "printed").write_text(printed.stdout)
    ours = tmp_path / "ours"
    ours.touch(0o700)

    def variables_after(script: str) -> dict[str, str]:
        ours.write_text(f"#!/bin/sh\n{script}\n")
        command = [*start, f"{form.format(ours, HUB)}\nenv"]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
        assert finished.stderr == ""
        variables = dict(line.split("=", 1) for line in finished.stdout.splitlines() if "=" in line)
        return {name: value for name, value in variables.items() if name.startswith("A")}

    before = {name: value for name, value in os.environ.items() if name.startswith("A")}
    assert variables_after("exit 4") == before
    after = variables_after(f"cat {tmp_path}/printed")
    assert "hostile" not in after.values()
    assert after["AWS_ACCESS_KEY_ID"] == "ASIA0000000000000001"
    assert {name for name in after if name in REMOVED} == {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_ASSUME_ROLE_LIB_PRINTED",
    }


# What removes a variable, what sets one, and how this token, should there ever be such a one, is quoted.
TOKEN = "a\"$`^&b '\\"
FORMATS = {
    "env": ("unset {}\n", "export {}={}\n", """'a"$`^&b '"'"'\\'"""),
    "env-no-export": ("", "{}={}\n", """'a"$`^&b '"'"'\\'"""),
    "powershell": ("Remove-Item Env:{}\n", '$Env:{}="{}"\n', "a`\"`$``^&b '\\"),
    "windows-cmd": ("set {}=\n", "set {}={}\n", "a^\"$`^^^&b '\\"),
    "fish": ("set -e {}\n", 'set -gx {} "{}"\n', "a\\\"\\$`^&b '\\\\"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_the_aws_clis(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each format is what `aws configure export-credentials` prints, plus, for a shell, the role for this command and
    the removal of AWS_PROFILE, which some SDKs prefer to keys, if it is set.
    """
    keys = ExportedCredentials("ASIA1", "a/b+c=", TOKEN, datetime(2030, 1, 31, 12, 0, 0, 750, timezone.utc), "1" * 12)
    remove, line, token = FORMATS[name]
    variables = {
        "AWS_ACCESS_KEY_ID": "ASIA1",
        "AWS_SECRET_ACCESS_KEY": "a/b+c=",
        "AWS_SESSION_TOKEN": token,
        "AWS_CREDENTIAL_EXPIRATION": "2030-01-31T12:00:00+00:00",
    }
    if remove:
        variables["AWS_ASSUME_ROLE_LIB_PRINTED"] = f"ASIA1:{HUB}"
    expected = "".join(line.format(*variable) for variable in variables.items())
    assert formats.FORMATS[name](keys, HUB) == expected
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert formats.FORMATS[name](keys, HUB) == remove.format("AWS_PROFILE") + expected


def test_short_names_of_formats(sts: StsStub) -> None:
    """--json prints one JSON object with the members that credential_process defines, indented as the AWS CLI does it;
    --env is short for --format env-no-export.
    """
    finished = run("--json", HUB)
    expires = datetime.fromtimestamp(sts.issued["ASIA0000000000000001"].expires, timezone.utc)
    assert credentials(finished) == {
        "Version": 1,
        "AccessKeyId": "ASIA0000000000000001",
        "SecretAccessKey": "secret-1",
        "SessionToken": "token-1",
        "Expiration": f"{expires:%Y-%m-%dT%H:%M:%S+00:00}",
        "AccountId": "111111111111",
    }
    assert finished.stdout == json.dumps(json.loads(finished.stdout), indent=2) + "\n"
    assert run("--env", HUB).stdout.startswith("AWS_ACCESS_KEY_ID=ASIA0000000000000002\n")


def test_the_version() -> None:
    """--version prints the package's version, and the console script is the same program."""
    finished = run("--version")
    assert (finished.returncode, finished.stdout) == (0, f"aws-assume-role-lib {aws_assume_role_lib.__version__}\n")
    [script] = [each for each in distribution("aws-assume-role-lib").entry_points if each.group == "console_scripts"]
    assert (script.name, script.load()) == ("aws-assume-role-lib", cli.main)


@pytest.mark.parametrize("sent", ["2030-01-31T12:00:00Z", "2030-01-31T13:30:00+01:30", "2030-01-31T12:00:00.750Z"])
def test_the_expiration_is_the_one_granted(sts: StsStub, sent: str) -> None:
    """The expiration is STS's own, in UTC and whole seconds, whatever its format and the requested duration."""
    sts.fault = Fault.expiration(sent)
    assert credentials(run("--json", HUB, "--DurationSeconds", "900"))["Expiration"] == "2030-01-31T12:00:00+00:00"


# Requests to STS


def test_several_arns_are_hops(sts: StsStub) -> None:
    """Each role is assumed once, by the one before it; --profile selects who assumes the first, whatever is in the
    environment, --region which STS is called, and the other options apply only to the last role.
    """
    configure(f"[profile dev]\n{DEV}")
    middle = "arn:aws:iam::333333333333:role/Middle"
    source = ("--profile", "dev", "--region", "ap-south-1")
    output = credentials(run("--json", *source, HUB, middle, SPOKE, "--ExternalId", "id", "--DurationSeconds", "900"))
    sent = [(request.params["RoleArn"], request.access_key, request.region) for request in sts.requests]
    assert sent == [
        (HUB, "AKIADEV", "ap-south-1"),
        (middle, "ASIA0000000000000001", "ap-south-1"),
        (SPOKE, "ASIA0000000000000002", "ap-south-1"),
    ]
    assert output["AccessKeyId"] == "ASIA0000000000000003"
    assert ["ExternalId" in request.params for request in sts.requests] == [False, False, True]
    assert [request.params.get("DurationSeconds") for request in sts.requests] == [None, None, "900"]


def test_every_option_reaches_sts(sts: StsStub) -> None:
    """Each option arrives as the parameter of the same name, wherever it appears among the ARNs."""
    tags = "team=red,formula=a=b,empty="
    contexts = '[{"ProviderArn": "arn:aws:iam::aws:contextProvider/Idc", "ContextAssertion": "asserted"}]'
    names = ("--RoleSessionName", "night", "--SourceIdentity", "ann", "--ExternalId", "secret-id")
    policies = ("--PolicyArns", f"{READ_ONLY},arn:aws:iam::aws:policy/Second", "--Policy", json.dumps(POLICY, indent=1))
    tagged = ("--Tags", tags, "--TransitiveTagKeys", "team,empty", "--ProvidedContexts", contexts)
    mfa = ("--SerialNumber", DEVICE, "--TokenCode", "012345", "--additional-kwargs", '{"DurationSeconds": 1200}')
    credentials(run("--json", *names, HUB, *policies, SPOKE, *tagged, *mfa))
    params = sts.requests[1].params
    assert {name: value for name, value in params.items() if name not in ("Action", "Version")} == {
        "RoleArn": SPOKE,
        "RoleSessionName": "night",
        "SourceIdentity": "ann",
        "ExternalId": "secret-id",
        "PolicyArns.member.1.arn": READ_ONLY,
        "PolicyArns.member.2.arn": "arn:aws:iam::aws:policy/Second",
        "Policy": json.dumps(POLICY, separators=(",", ":")),
        "Tags.member.1.Key": "team",
        "Tags.member.1.Value": "red",
        "Tags.member.2.Key": "formula",
        "Tags.member.2.Value": "a=b",
        "Tags.member.3.Key": "empty",
        "Tags.member.3.Value": "",
        "TransitiveTagKeys.member.1": "team",
        "TransitiveTagKeys.member.2": "empty",
        "ProvidedContexts.member.1.ProviderArn": "arn:aws:iam::aws:contextProvider/Idc",
        "ProvidedContexts.member.1.ContextAssertion": "asserted",
        "SerialNumber": DEVICE,
        "TokenCode": "012345",
        "DurationSeconds": "1200",
    }


def test_every_parameter_of_assume_role_is_an_option() -> None:
    """The help lists an option for each STS parameter that assume_role() has."""
    parameters = {name for name in inspect.signature(assume_role).parameters if name[0].isupper()}
    options = set(re.findall(r"^  --([A-Z]\w+) ", run("--help").stdout, re.MULTILINE))
    assert options == parameters - {"RoleArn"}


@pytest.mark.parametrize(
    ("option", "as_text", "as_json"),
    [
        ("--PolicyArns", f"{READ_ONLY},{READ_ONLY}2", f'["{READ_ONLY}", {{"arn": "{READ_ONLY}2"}}]'),
        ("--Tags", "a=1,b=2", '{"a": "1", "b": "2"}'),
        ("--Tags", "Key=a,b=2", '{"Key": "a", "b": "2"}'),
        ("--Tags", "a=1,b=2", ' [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]'),
    ],
)
def test_a_list_is_text_or_json(sts: StsStub, option: str, as_text: str, as_json: str) -> None:
    """A list means the same to STS whether it is written with commas or as JSON."""
    for value in (as_text, as_json):
        credentials(run("--json", HUB, "--RoleSessionName", "same", option, value))
    first, second = (request.params for request in sts.requests)
    assert first == second
    assert any(name.startswith(f"{option[2:]}.member.2") for name in first)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_policy_is_read_from_a_file(
    sts: StsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """--Policy file://path sends the file's content, with ~ for the home folder and with or without a BOM."""
    for name in ("HOME", "USERPROFILE"):  # the latter is Windows'
        monkeypatch.setenv(name, str(tmp_path))
    policy = POLICY | {"Id": "ü"}
    (tmp_path / "policy.json").write_text(json.dumps(policy, indent=2, ensure_ascii=False), encoding)
    for path in (tmp_path / "policy.json", "~/policy.json"):
        credentials(run("--json", HUB, "--Policy", f"file://{path}"))
    assert [json.loads(request.params["Policy"]) for request in sts.requests] == [policy, policy]


# Running a program, where it is a child of the command


def test_where_the_program_is_a_child(
    sts: StsStub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """On Windows and macOS the program is a child process with the same credentials, whose exit code is the command's,
    unless it cannot be run. This process does not fork: Windows cannot, and on macOS a fork cannot look up host names.
    """
    monkeypatch.delattr(os, "fork", raising=False)
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process keeps its own handlers
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)  # this process may have looked TMPDIR up
    assert run(HUB, "--", sys.executable, "-c", f"{ASK}\nexit(3)") == (3, "", "")
    assert HUB in capfd.readouterr().out
    show = "import os; print(os.environ['AWS_SESSION_TOKEN'])"
    assert run(HUB, "--static", "--", sys.executable, "-c", show) == (0, "", "")
    assert capfd.readouterr().out.split() == ["token-2"]
    if os.name == "posix":
        hang_up = "import os, signal as s; s.signal(s.SIGHUP, s.SIG_DFL); os.kill(os.getpid(), s.SIGHUP)"
        assert run(HUB, "--", sys.executable, "-c", hang_up) == (129, "", "")
    finished = run(HUB, "--", "/no/such/program")
    assert finished.returncode == 127
    assert "/no/such/program could not be run: " in finished.stderr
    assert list(tmp_path.glob("aws-assume-role-lib-*")) == []


# As a credential_process


def test_a_profile_uses_the_command_as_its_credential_process(sts: StsStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session with such a profile acts as the last role until the keys expire, exactly when STS said, and then with
    new ones; if the command fails, the session's error shows its one line.
    """
    without_keys(monkeypatch)
    join = shlex.join if os.name == "posix" else subprocess.list2cmdline
    command = join([*COMMAND, "--profile", "dev", "--json", HUB, SPOKE, "--RoleSessionName", "process"])
    configure(f"[profile dev]\n{DEV}[profile spoke]\ncredential_process = {command}\n")
    session = boto3.Session(profile_name="spoke")
    client = session.client("sts")
    assert client.get_caller_identity()["Arn"] == "arn:aws:sts::222222222222:assumed-role/Spoke/process"
    found = session.get_credentials()
    assert found.method == "custom-process"
    assert found._expiry_time.timestamp() == sts.issued["ASIA0000000000000002"].expires
    with time_machine.travel(time.time() + 50 * 60):
        client.get_caller_identity()
    used = [request.access_key for request in sts.requests if request.action == "GetCallerIdentity"]
    assert used == ["ASIA0000000000000002", "ASIA0000000000000004"]
    assert (sts.assumed[0].access_key, sts.violations) == ("AKIADEV", [])
    sts.fault = Fault.error(403, "AccessDenied", "not you")
    with pytest.raises(CredentialRetrievalError, match=rf"{HUB} could not be assumed: .*AccessDenied.*not you"):
        boto3.Session(profile_name="spoke").get_credentials()


# Failures


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ((), "ROLE_ARN"),
        ((HUB, "--Duration", "900"), "unknown option --Duration; did you mean --DurationSeconds?"),
        ((HUB, "-p", "dev"), "unknown option -p; did you mean --profile?"),
        ((f"--role-arn={HUB}",), "unknown option --role-arn: pass the ARN without an option"),
        ((HUB, "--Tags", "a=1", "b=2"), "b=... is not a role; if it is a tag, pass all tags as one argument"),
        ((HUB, "terraform", "apply"), "'terraform' is not the ARN of a role; if it is a program, put -- before it"),
        ((HUB, "ls", "-al"), "unknown option -al; if it is a program's option, put -- before the program"),
        ((HUB, "--mfa", "123456"), "unknown option --mfa; did you mean --SerialNumber?"),
        ((HUB, "--Policy", "foo.json"), "did you mean file://foo.json?"),
        ((HUB, "--"), "COMMAND is missing"),
        ((HUB, "--", "", "arguments"), "COMMAND is missing"),
        ((HUB, "--cache="), "--cache is empty"),
        ((HUB, "--static"), "--static needs -- COMMAND"),
        ((HUB, "--json", "--", "true"), "nothing is printed: leave out --format"),
        ((HUB, "--env", "--json"), "not allowed with"),
        ((HUB, "--ExternalId"), "--ExternalId: expected one argument"),
        ((HUB, "--Policy", "null"), "--Policy: this must be a JSON object"),
        ((HUB, "--Policy", "[]"), "Policy must be a JSON object"),
        ((HUB, "--Policy", "file:///no/such/file"), "the file cannot be read: [Errno 2] No such file"),
        ((HUB, "--Policy", f"file://{sys.executable}"), "--Policy: the file cannot be read"),
        pytest.param((HUB, "--Policy", "file://~nobody-at-all/x"), "home directory. See", marks=needs_posix),
        ((HUB, "--PolicyArns", "[" * 50_000), "--PolicyArns: this is not JSON"),
        ((HUB, "--Tags", "team"), "--Tags: each tag must be key=value"),
        ((HUB, "--Tags", "Key=a,Value=1"), "--Tags: for each tag, pass a=1 instead of Key=a,Value=1"),
        ((HUB, "--Tags", "Key=a,Value=1", "Key=b,Value=2"), "--Tags: for each tag, pass a=1"),
        ((HUB, "--Tags", "a=1,a=2"), "has the key 'a' twice"),
        ((HUB, "--additional-kwargs", "[1]"), "additional_kwargs is of type list; it must be a dict"),
        ((HUB, "--additional-kwargs", '{"RoleArn": "x"}'), "RoleArn is given twice"),
        ((HUB, "--DurationSeconds", "long"), "--DurationSeconds: invalid int value: 'long'"),
        ((HUB, SPOKE, "--DurationSeconds", "3601"), "role chaining"),
        ((HUB, "--region", "eu west"), "'eu west'"),
        ((HUB, "--region", "eu-west-1\n"), "eu-west-1"),
        (("not-an-arn", SPOKE), "RoleArn is 'not-an-arn'"),
        (("a\nb", "--SourceIdentity", "c\nd"), "SourceIdentity is 'c\\nd'"),
        ((HUB, "--ExternalID", "my-secret"), "unknown option --ExternalID"),
        ((HUB, "--ExternalID=my-secret"), "unknown option --ExternalID"),
        ((HUB, "--ExternalId", "my-secret "), "ExternalId"),
        ((HUB, "--SerialNumber", DEVICE, "--TokenCode", "my-secret"), "six digits"),
        ((HUB, "--Policy", '{"my-secret"}'), "--Policy: this is not JSON"),
        ((HUB, "--Tags", "[my-secret]"), "--Tags: this is not JSON"),
    ],
)
def test_wrong_usage(sts: StsStub, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], fragment: str) -> None:
    """An impossible command line exits with 2 and one line that names the mistake, even without credentials, and does
    not repeat what may be a secret.
    """
    without_keys(monkeypatch)
    finished = run(*arguments)
    assert_failed(finished, 2, fragment, "See --help.")
    assert "callable" not in finished.stderr
    assert "my-secret" not in finished.stderr
    assert not sts.requests


def test_all_that_is_wrong_is_said_at_once(sts: StsStub) -> None:
    """Several invalid parameters are all named in the same line."""
    finished = run("x", "--DurationSeconds", "1", "--SourceIdentity", "a b")
    assert_failed(finished, 2, "RoleArn is 'x'", "DurationSeconds is 1", "SourceIdentity is 'a b'")


@pytest.mark.parametrize(
    ("config", "fragment"),
    [
        ("", "Unable to locate credentials"),
        ("[profile other]", "profile (dev) could not be found"),
        ("[profile dev", "Unable to parse config file"),
        ("[profile dev]\naws_access_key_id = AKIADEV", "aws_secret_access_key"),
        pytest.param("[profile dev]\ncredential_process = /no/such/command", "/no/such/command", marks=needs_posix),
        pytest.param(
            "[profile dev]\ncredential_process = sh -c 'echo gone wrong >&2; exit 1'", "gone wrong", marks=needs_posix
        ),
        (f"[profile dev]\nrole_arn = {HUB}\nsource_profile = other", "other"),
        (f"[profile dev]\nrole_arn = {HUB}\ncredential_source = Environment", "Environment"),
        ("[profile dev]\nmax_attempts = many\naws_access_key_id = AKIADEV\naws_secret_access_key = s", "many"),
    ],
)
def test_no_or_broken_source(sts: StsStub, monkeypatch: pytest.MonkeyPatch, config: str, fragment: str) -> None:
    """Without source credentials, or with a profile that has no working ones, the run exits with 3 and a hint."""
    without_keys(monkeypatch)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    configure(config)
    chosen = ("--profile", "dev") if config else ()
    assert_failed(run(*chosen, SPOKE), 3, fragment, "--profile", "config file")
    assert not sts.requests


PROFILE = f"[profile dev]\nrole_arn = {HUB}\ncredential_source = Environment\n"
REJECTED = Fault.error(403, "AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code.")


@pytest.mark.parametrize(
    ("fault", "fragment"),
    [
        pytest.param(Fault.error(403, "AccessDenied", "not you"), "Log in again, pass --profile", id="denied"),
        pytest.param(Fault.error(403, "InvalidClientTokenId"), "Log in again, pass --profile", id="bad keys"),
        pytest.param(Fault(cut=True), "Log in again, pass --profile", id="cut"),
        pytest.param(REJECTED, "STS rejected the MFA code.", id="rejected code"),
        pytest.param(None, "Check the network first", id="down"),
    ],
)
def test_a_profile_whose_own_role_fails(
    sts: StsStub, monkeypatch: pytest.MonkeyPatch, one_attempt: None, fault: Fault | None, fragment: str
) -> None:
    """If a source profile cannot assume its own role, the run exits with 3 and a hint that fits."""
    configure(PROFILE + (f"mfa_serial = {DEVICE}\n" if fault is REJECTED else ""))
    monkeypatch.setattr("botocore.credentials.getpass.getpass", lambda _: "123456")
    monkeypatch.setattr(AssumeRoleProvider.__init__, "__defaults__", (None,) * 4)
    sts.fault = fault
    if fault is None:
        sts.down()
    finished = run("--profile", "dev", SPOKE)
    assert_failed(finished, 3, fragment)
    assert ("Log in again" in finished.stderr) is ("Log in again" in fragment)
    assert "secret-1" not in finished.stderr
    assert {request.params["RoleArn"] for request in sts.assumed} <= {HUB}


@needs_fork
@pytest.mark.filterwarnings("ignore::getpass.GetPassWarning")
def test_without_a_terminal(sts: StsStub) -> None:
    """A code that cannot be asked for, of the role or of a source profile, makes the run fail with one line. It is not
    read from stdin, which is the program's.
    """
    configure(f"{PROFILE}mfa_serial = {DEVICE}\n")
    what_to_type = "Type the six digits that the profile's MFA device shows, on a terminal.\n"
    assert_failed(run_without_terminal("--profile", "dev", SPOKE), 3, f"No MFA code was given. {what_to_type}")
    finished = run_without_terminal(HUB, "--SerialNumber", DEVICE)
    assert_failed(finished, 4, DEVICE, "no terminal", "Pass TokenCode: six digits.\n")
    assert not sts.requests


def test_no_region(sts: StsStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region, the run exits with 3 and names what sets one; boto3 does not read AWS_REGION."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert_failed(run(HUB), 3, "You must specify a region. Pass --region or set AWS_DEFAULT_REGION.\n")


@pytest.mark.parametrize(
    ("fault", "code", "fragments"),
    [
        (
            Fault.error(403, "AccessDenied", "not you"),
            4,
            (
                "(AccessDenied) when calling the AssumeRole operation",
                ": not you",
                "If a policy requires MFA, pass SerialNumber.\n",
            ),
        ),
        (Fault.error(503, "ServiceUnavailable"), 4, ("ServiceUnavailable",)),
        (Fault.error(400, "RegionDisabledException"), 4, ("and network access to STS.\n",)),
        (Fault.html(), 4, ("Check for a proxy or an endpoint URL that is not STS's.\n",)),
        (Fault.body(""), 4, ("proxy",)),
        (Fault(cut=True), 4, ("proxy",)),
        (Fault.without("SessionToken"), 4, ("SessionToken",)),
        (Fault.expiration("2001-01-01T00:00:00Z"), 4, ("clock",)),
        (Fault.expiration("soon"), 4, ("not an AssumeRole response",)),
        (Fault.error(400, "ValidationError", TOO_LONG), 4, ("Leave DurationSeconds out",)),
        (REJECTED, 4, ("STS rejected the MFA code.",)),
        *(
            (Fault.error(403, code, "these keys"), 3, (code, "unset AWS_ACCESS_KEY_ID"))
            for code in ("ExpiredToken", "IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId")
        ),
    ],
)
def test_a_role_that_cannot_be_assumed(
    sts: StsStub, one_attempt: None, fault: Fault, code: int, fragments: tuple[str, ...]
) -> None:
    """If the response has no credentials, the run exits with 4, or with 3 if the source's keys are at fault, and one
    line that names the role, the response and what to do, once.
    """
    sts.fault = fault
    mfa = ("--SerialNumber", DEVICE, "--TokenCode", "123456") if fault is REJECTED else ()
    finished = run(HUB, "--DurationSeconds", "43200", *mfa)
    assert_failed(finished, code, f"{HUB} could not be assumed", *fragments)
    assert "secret-1" not in finished.stderr


def test_sts_is_not_there(sts: StsStub) -> None:
    """If the connection is refused, the run exits with 4, names the address and says to check the network."""
    sts.down()
    finished = run(HUB)
    assert_failed(finished, 4, f"{HUB} could not be assumed", sts.url, "Check the network first")
    assert "trust policy" not in finished.stderr


def test_the_hop_that_failed_is_named(sts: StsStub) -> None:
    """If STS refuses the second role, for any reason, the run exits with 4 and its ARN: the source is not at fault. If
    it does not know keys that it has just handed out, the hint names the setting to change.
    """
    sts.roots = {"AKIAROOT"}
    sts.fault = Fault(element="AccessKeyId", text="<AccessKeyId>ASIAUNKNOWN</AccessKeyId>")
    advice = "get them with AWS_STS_REGIONAL_ENDPOINTS=regional.\n"
    assert_failed(run(HUB, SPOKE), 4, f"{SPOKE} could not be assumed", "InvalidClientTokenId", "opt-in region", advice)


@pytest.fixture
def printed(sts: StsStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a shell after `eval "$(aws-assume-role-lib --format env Hub)"`."""
    for line in run(HUB, "--format", "env").stdout.splitlines():
        command, _, assignment = line.partition(" ")
        name, _, value = assignment.partition("=")
        if command == "export":
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name)


def test_the_source_is_keys_that_were_printed(printed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run in a shell says whose keys are its source, unless --profile chooses another one, or other keys have
    been set since.
    """
    finished = run(SPOKE)
    assert finished.returncode == 0
    assert finished.stderr == (
        f"aws_assume_role_lib: The source is the environment's keys, printed for {HUB}. "
        "For another source, pass --profile.\n"
    )
    configure(f"[profile dev]\n{DEV}")
    assert run(SPOKE, "--profile", "dev").stderr == ""
    for other in ("AKIAOTHER", "ASIAOTHER"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", other)
        assert run(SPOKE).stderr == ""


def test_the_printed_keys_have_expired(
    sts: StsStub, tmp_path: Path, printed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the keys in the environment have expired, the hint is about them, and not to log in; those of a file have
    another hint.
    """
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00+00:00")
    finished = run(SPOKE)
    assert finished.returncode == 3
    assert "The keys are those in the environment: unset AWS_ACCESS_KEY_ID, or pass --profile." in finished.stderr
    assert "Log in again" not in finished.stderr
    (tmp_path / "credentials").write_text("[own]\naws_access_key_id = AKIAOWN\naws_secret_access_key = s\n")
    sts.fault = Fault.error(403, "InvalidClientTokenId")
    finished = run(SPOKE, "--profile", "own", "--region", "us-east-1")
    assert finished.returncode == 3
    assert "environment" not in finished.stderr


# Secrets


@pytest.mark.parametrize(
    "fault",
    [
        Fault.error(
            400, "ValidationError", "1 error: Value 'my-secret-id' at 'externalId' failed, Value '246810' at 'x'"
        ),
        Fault.error(403, "SignatureDoesNotMatch", "no match\n\nshould have been\nx-amz-security-token:root-token\n"),
        Fault(cut=True),
        Fault.body("my-secret-id 246810 root-token"),
        Fault.error(500, "InternalFailure"),
    ],
    ids=["quoted", "signed", "cut", "echoed", "failed"],
)
def test_no_secret_is_in_an_error(
    sts: StsStub, one_attempt: None, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """No key, token, code, external ID or policy is printed, even if STS quotes it."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "root-token")
    sts.fault = fault
    policy = json.dumps({**POLICY, "Id": "my-policy"})
    finished = run(
        HUB, "--ExternalId", "my-secret-id", "--SerialNumber", DEVICE, "--TokenCode", "246810", "--Policy", policy
    )
    assert finished.returncode in (3, 4)
    assert finished.stderr.count("\n") == 1
    for secret in ("root-secret", "root-token", "my-secret-id", "246810", "my-policy", "secret-1", "token-1"):
        assert secret not in finished.stdout + finished.stderr


@pytest.mark.parametrize("end", ["\n", "\r"], ids=["newline", "carriage-return"])
def test_no_token_that_cannot_be_sent_is_in_an_error(sts: StsStub, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """A token with a stray line ending, which the HTTP client would quote, is not printed; the advice names it."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"root-token{end}")
    finished = run(HUB)
    assert_failed(finished, 3, f"{HUB} could not be assumed", "line ending", "unset AWS_ACCESS_KEY_ID")
    assert "root-token" not in finished.stderr


@pytest.mark.parametrize("fault", [Fault.html(), None], ids=["html", "down"])
def test_no_password_of_an_endpoint_url_is_in_an_error(
    sts: StsStub, monkeypatch: pytest.MonkeyPatch, fault: Fault | None
) -> None:
    """A password in AWS_ENDPOINT_URL is not printed, even one with an unescaped @."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", sts.url.replace("://", "://me:Hunter2@Hunter3@"))
    if fault is None:
        sts.down()
    sts.fault = fault
    finished = run(HUB)
    assert_failed(finished, 4, sts.url)
    assert "Hunter" not in finished.stderr


# MFA, and the terminal


@needs_terminal
def test_a_code_is_asked_for_on_the_terminal(sts: StsStub) -> None:
    """--SerialNumber alone prompts on the terminal, once and without echo; stdout has only the credentials."""
    finished, shown = type_in(b"123456\n", "--json", HUB, SPOKE, "--SerialNumber", DEVICE)
    assert credentials(finished)["AccessKeyId"] == "ASIA0000000000000002"
    assert [request.params.get("TokenCode") for request in sts.requests] == [None, "123456"]
    assert shown.count(b"MFA") == 1
    assert DEVICE.encode() in shown
    assert b"123456" not in shown


@needs_terminal
@pytest.mark.parametrize(
    ("keys", "code"), [(b"\x04", 4), (b"12\n" * 3, 4), (b"\x03", 130)], ids=["end", "short", "interrupt"]
)
def test_no_code_is_typed(sts: StsStub, keys: bytes, code: int) -> None:
    """With no code, or half of one three times, the run exits with 4 and a line; on an interrupt, with 130 and none."""
    finished, _ = type_in(keys, HUB, "--SerialNumber", DEVICE)
    if code == 4:
        assert_failed(finished, 4, HUB, "six digits")
    else:
        assert finished == (130, "", "")
    assert not sts.requests


@needs_fork
def test_an_interrupt(sts: StsStub) -> None:
    """An interrupt during the call to STS makes the run exit with 130 and print nothing."""
    sts.gate.clear()
    forked = Forked.start(lambda: json.dumps(run(HUB)))
    assert sts.arrived.acquire(timeout=LIMIT)
    os.kill(forked.pid, signal.SIGINT)
    assert json.loads(forked.result()) == [130, "", ""]


# Help, output that cannot be written, and cost


@pytest.mark.parametrize("columns", [80, 100])
def test_help_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """--help exits with 0 and fits in 80 and in 100 columns, without any credentials."""
    without_keys(monkeypatch)
    monkeypatch.setenv("COLUMNS", str(columns))
    finished = run("--help")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert max(map(len, finished.stdout.splitlines())) <= columns
    assert "root" not in finished.stdout


def test_the_examples_in_the_help_run(sts: StsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command that --help shows, and the profile, can be pasted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    configure(f"[profile dev]\n{DEV}")
    text = run("--help").stdout.partition("examples:\n")[2].replace("(all on one line)", "")
    shown = re.findall(r"aws-assume-role-lib( .*?)(?:\n\n|\)|$)", re.sub(r"\\?\n {4,}(?!\[)", " ", text), re.DOTALL)
    assert len(shown) == 4
    for example in shown:
        options, _, program = example.partition(" -- ")
        assert arguments.parse(shlex.split(example)).command == (program.split() or None)
        assert run(*shlex.split(options)).returncode == 0
    assert [request.params["RoleArn"] for request in sts.requests] == [HUB, HUB, HUB, SPOKE, SPOKE]


@needs_posix
@pytest.mark.parametrize(("arguments", "unbuffered"), [((HUB,), ""), (("--help",), "1"), (("--version",), "1")])
def test_output_that_nobody_reads(
    sts: StsStub, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], unbuffered: str
) -> None:
    """If the reader closes the pipe, the run exits with 1 and one line, however Python buffers its output."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    read_end, write_end = os.pipe()
    os.close(read_end)
    finished = run_process(*arguments, stdout=write_end)
    os.close(write_end)
    assert finished.returncode == 1
    assert finished.stderr == "aws_assume_role_lib: The output could not be written: Broken pipe.\n"


@pytest.mark.parametrize(
    ("closed", "arguments", "code", "shown"),
    [
        ("stdout", (HUB,), 1, "aws_assume_role_lib: stdout is closed; nothing was written.\n"),
        ("stdout", ("--help",), 1, "aws_assume_role_lib: stdout is closed; nothing was written.\n"),
        ("stderr", ("x", "--json"), 2, ""),
    ],
)
def test_a_closed_stream(
    sts: StsStub, monkeypatch: pytest.MonkeyPatch, closed: str, arguments: tuple[str, ...], code: int, shown: str
) -> None:
    """If stdout is closed, the run exits with 1 and one line; with a closed stderr, no error goes to stdout."""
    other = io.StringIO()
    monkeypatch.setattr(sys, "stderr" if closed == "stdout" else "stdout", other)
    monkeypatch.setattr(sys, closed, None)  # as Python does if the process is started without it
    monkeypatch.setattr(sys, "argv", ["aws-assume-role-lib", *arguments])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert (exit.value.code, other.getvalue()) == (code, shown)


def test_only_sts_is_asked(sts: StsStub, models_read_anew: None) -> None:
    """A run makes one AssumeRole request per role and no others, and loads no service model but STS's."""
    with mock.patch.object(Loader, "load_service_model", autospec=True, side_effect=Loader.load_service_model) as load:
        assert run(HUB, SPOKE).returncode == 0
    assert [request.action for request in sts.requests] == ["AssumeRole", "AssumeRole"]
    assert {call.args[1] for call in load.call_args_list} == {"sts"}
