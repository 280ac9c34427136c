"""The command line prints credentials: in the tests' own process, or in one as a shell or botocore starts it."""

from __future__ import annotations

import inspect
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from datetime import datetime, timezone
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
import time_machine
from botocore.exceptions import CredentialRetrievalError
from conftest import HUB, SPOKE, needs_posix, needs_terminal
from inside import Finished, run
from sts_stub import Fault, StsStub

import aws_assume_role_lib
from aws_assume_role_lib import ExportedCredentials, assume_role
from aws_assume_role_lib._command import cli, formats

COMMAND = [sys.executable, "-m", "aws_assume_role_lib"]
DEVICE = "arn:aws:iam::111111111111:mfa/me"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
LIMIT = 60  # seconds: far longer than any process takes unless it hangs


@pytest.fixture(autouse=True)
def _source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the process long-term keys and a region, and let it import the same package as the test."""
    path = [str(Path(aws_assume_role_lib.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAROOT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "root-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


def run_process(*arguments: str, through: tuple[str, ...] = (), **options: Any) -> Finished:
    """Run the command line as a process until it exits, optionally through another command."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    ran = subprocess.run([*through, *COMMAND, *arguments], text=True, timeout=LIMIT, check=False, **streams)
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


WHO = shlex.join([sys.executable, "-c", "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"])
# The safe forms in the docs, with {} for the command, and how each shell is started.
SHELLS = {
    "bash": (["bash", "-c"], 'creds=$({} --format env) && eval "$creds"', "$?"),
    "zsh": (["zsh", "-c"], 'creds=$({} --format env) && eval "$creds"', "$?"),
    "fish": (["fish", "-c"], "set creds ({} --format fish | string collect)\nand eval $creds", "$status"),
    "pwsh": (
        ["pwsh", "-NoProfile", "-Command"],
        "$creds = {} --format powershell\nif ($LASTEXITCODE -eq 0) {{ $creds | Out-String | Invoke-Expression }}",
        "$LASTEXITCODE",
    ),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_becomes_the_role(sts: StsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    """After the documented form, a program in that shell acts as the role; if the command fails, nothing is set."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))  # fish complains unless it can write there
    start, form, status = SHELLS[shell]
    page = (Path(__file__).parents[2] / "docs/reference/command-line.md").read_text("utf-8")
    name, hub = "aws-assume-role-lib", "arn:aws:iam::111111111111:role/Hub"
    shown = re.sub(rf"{name} (--format \w+) {hub}", r"{} \1", page).replace("{ $creds", "{{ $creds")
    assert form in shown.replace("Expression }", "Expression }}")
    command = shlex.join([*COMMAND, HUB, "--RoleSessionName", "shell"])
    script = f"{form.format(command)}\necho {status}\n{WHO}\n"
    finished = subprocess.run([*start, script], capture_output=True, text=True, timeout=LIMIT, check=True)
    assert finished.stdout.splitlines()[-1] == "arn:aws:sts::111111111111:assumed-role/Hub/shell"
    assert finished.stderr == ""
    sts.fault = Fault.error(403, "AccessDenied", "not you")
    finished = subprocess.run([*start, script], capture_output=True, text=True, timeout=LIMIT, check=False)
    code, arn = finished.stdout.splitlines()
    assert (code != "0", arn) == (True, "arn:aws:iam::000000000000:user/root")
    assert finished.stderr.count("\n") == 1


KEYS = ExportedCredentials("ASIA1", "a/b+c=", "t/+=", datetime(2030, 1, 31, 12, 0, 0, 750, timezone.utc), "1" * 12)
# As `aws configure export-credentials` prints them.
FORMATS = {
    "process": (
        '{\n  "Version": 1,\n  "AccessKeyId": "ASIA1",\n  "SecretAccessKey": "a/b+c=",\n  "SessionToken": "t/+=",\n'
        '  "Expiration": "2030-01-31T12:00:00+00:00",\n  "AccountId": "111111111111"\n}\n'
    ),
    "env": "export {}={}\n",
    "env-no-export": "{}={}\n",
    "powershell": '$Env:{}="{}"\n',
    "windows-cmd": "set {}={}\n",
    "fish": 'set -gx {} "{}"\n',
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_the_aws_clis(name: str) -> None:
    """Each format is what `aws configure export-credentials` prints, plus the account, or the role for this command."""
    variables = {
        "AWS_ACCESS_KEY_ID": "ASIA1",
        "AWS_SECRET_ACCESS_KEY": "a/b+c=",
        "AWS_SESSION_TOKEN": "t/+=",
        "AWS_CREDENTIAL_EXPIRATION": "2030-01-31T12:00:00+00:00",
    }
    expected = FORMATS[name]
    if name not in ("process", "env-no-export"):
        variables["AWS_ASSUME_ROLE_LIB_PRINTED"] = f"ASIA1:{HUB}"
    if name != "process":
        expected = "".join(expected.format(*variable) for variable in variables.items())
    assert formats.FORMATS[name](KEYS, HUB) == expected


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("env", """export AWS_SESSION_TOKEN='a"$`^&b '"'"'\\'"""),
        ("powershell", '$Env:AWS_SESSION_TOKEN="a`"`$``^&b \'\\"'),
        ("windows-cmd", "set AWS_SESSION_TOKEN=a^\"$`^^^&b '\\"),
        ("fish", 'set -gx AWS_SESSION_TOKEN "a\\"\\$`^&b \'\\\\"'),
    ],
)
def test_values_are_quoted_for_the_shell(name: str, line: str) -> None:
    """Characters that are special to the shell are quoted, in case a token ever contains them."""
    assert formats.FORMATS[name](KEYS._replace(token="a\"$`^&b '\\"), HUB).splitlines()[2] == line


def test_short_names_of_formats(sts: StsStub) -> None:
    """--env is short for --format env-no-export, and prints nothing on stderr."""
    finished = run("--env", HUB)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert re.search(r"^AWS_CREDENTIAL_EXPIRATION=20\S+\+00:00$", finished.stdout, re.MULTILINE)
    assert finished.stdout.startswith("AWS_ACCESS_KEY_ID=ASIA0000000000000001\n")


def test_the_version() -> None:
    """--version prints the package's version, and the console script is the same program."""
    finished = run("--version")
    assert (finished.returncode, finished.stdout) == (0, f"aws-assume-role-lib {aws_assume_role_lib.__version__}\n")
    [script] = [each for each in distribution("aws-assume-role-lib").entry_points if each.group == "console_scripts"]
    assert (script.name, script.load()) == ("aws-assume-role-lib", cli.main)


def test_prints_json(sts: StsStub) -> None:
    """--json prints one JSON object with the members that credential_process defines, as strings."""
    output = credentials(run("--json", HUB))
    assert output.pop("Expiration")
    assert output == {
        "Version": 1,
        "AccessKeyId": "ASIA0000000000000001",
        "SecretAccessKey": "secret-1",
        "SessionToken": "token-1",
        "AccountId": "111111111111",
    }


@pytest.mark.parametrize("sent", ["2030-01-31T12:00:00Z", "2030-01-31T13:30:00+01:30", "2030-01-31T12:00:00.750Z"])
def test_the_expiration_is_the_one_granted(sts: StsStub, sent: str) -> None:
    """The expiration is STS's own, in UTC and whole seconds, whatever its format and the requested duration."""
    sts.fault = Fault.expiration(sent)
    assert credentials(run("--json", HUB, "--DurationSeconds", "900"))["Expiration"] == "2030-01-31T12:00:00+00:00"


# Requests to STS


def test_several_arns_are_hops(sts: StsStub) -> None:
    """Each role is assumed once, by the one before it, and the options apply only to the last."""
    middle = "arn:aws:iam::333333333333:role/Middle"
    output = credentials(run("--json", HUB, middle, SPOKE, "--ExternalId", "secret-id", "--DurationSeconds", "900"))
    assert [(request.params["RoleArn"], request.access_key) for request in sts.requests] == [
        (HUB, "AKIAROOT"),
        (middle, "ASIA0000000000000001"),
        (SPOKE, "ASIA0000000000000002"),
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


def test_a_minimum_token_size_reaches_sts(sts: StsStub) -> None:
    """--MinimumSessionTokenSize is sent to STS, or makes the run exit with 2 if this botocore does not know it."""
    shape = botocore.session.Session().get_service_model("sts").operation_model("AssumeRole").input_shape
    finished = run("--json", HUB, "--MinimumSessionTokenSize", "2048")
    if "MinimumSessionTokenSize" in shape.members:
        assert credentials(finished)
        assert sts.requests[0].params["MinimumSessionTokenSize"] == "2048"
    else:
        assert_failed(finished, 2, "MinimumSessionTokenSize")


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
    monkeypatch.setenv("HOME", str(tmp_path))
    policy = POLICY | {"Id": "ü"}
    (tmp_path / "policy.json").write_text(json.dumps(policy, indent=2, ensure_ascii=False), encoding)
    for path in (tmp_path / "policy.json", "~/policy.json"):
        credentials(run("--json", HUB, "--Policy", f"file://{path}"))
    assert [json.loads(request.params["Policy"]) for request in sts.requests] == [policy, policy]


def test_profile_and_region_are_the_first_hops(sts: StsStub) -> None:
    """--profile selects who assumes the first role, whatever the environment has, and --region which STS is called."""
    configure("[profile dev]\naws_access_key_id = AKIADEV\naws_secret_access_key = dev-secret\n")
    credentials(run("--profile", "dev", "--region", "ap-south-1", "--json", HUB, SPOKE))
    assert [(request.access_key, request.region) for request in sts.requests] == [
        ("AKIADEV", "ap-south-1"),
        ("ASIA0000000000000001", "ap-south-1"),
    ]


def test_roles_of_moto_are_assumed(moto: str) -> None:
    """On moto, a chain of two roles yields the second role's credentials."""
    output = credentials(run("--json", HUB, SPOKE, "--RoleSessionName", "last"))
    keys = (output["AccessKeyId"], output["SecretAccessKey"], output["SessionToken"])
    who = boto3.Session(*keys, region_name="us-east-1").client("sts").get_caller_identity()
    assert who["Arn"] == "arn:aws:sts::222222222222:assumed-role/Spoke/last"


# As a credential_process


@pytest.fixture
def spoke(sts: StsStub, monkeypatch: pytest.MonkeyPatch) -> str:
    """A profile whose credentials come from the command line, which starts from another profile's static keys."""
    without_keys(monkeypatch)
    keys = "aws_access_key_id = AKIADEV\naws_secret_access_key = dev-secret\n"
    command = shlex.join([*COMMAND, "--profile", "dev", "--json", HUB, SPOKE, "--RoleSessionName", "process"])
    configure(f"[profile dev]\n{keys}\n[profile spoke]\ncredential_process = {command}\n")
    return "spoke"


def test_a_profile_uses_the_command_as_its_credential_process(sts: StsStub, spoke: str) -> None:
    """A session with such a profile acts as the last role, and its client outlives the credentials."""
    client = boto3.Session(profile_name=spoke).client("sts")
    spoke_arn = "arn:aws:sts::222222222222:assumed-role/Spoke/process"
    assert client.get_caller_identity()["Arn"] == spoke_arn
    assert client.get_caller_identity()["Arn"] == spoke_arn
    assert len(sts.assumed) == 2
    with time_machine.travel(time.time() + 50 * 60):
        assert client.get_caller_identity()["Arn"] == spoke_arn
    assert [request.access_key for request in sts.requests if request.action == "GetCallerIdentity"] == [
        "ASIA0000000000000002",
        "ASIA0000000000000002",
        "ASIA0000000000000004",
    ]
    assert sts.assumed[0].access_key == "AKIADEV"
    assert not sts.violations


def test_botocore_takes_the_expiration(sts: StsStub, spoke: str) -> None:
    """A profile's credentials from the command line are refreshable, and expire exactly when STS said."""
    found = boto3.Session(profile_name=spoke).get_credentials()
    expires = datetime.fromtimestamp(sts.issued["ASIA0000000000000002"].expires, timezone.utc)
    assert found.method == "custom-process"
    assert found._expiry_time == expires
    assert found.get_frozen_credentials().token == "token-2"


def test_a_failed_credential_process_says_why(sts: StsStub, spoke: str) -> None:
    """If credential_process fails, the session's error shows the command's one line."""
    sts.fault = Fault.error(403, "AccessDenied", "not you")
    with pytest.raises(CredentialRetrievalError, match=rf"{HUB} could not be assumed: .*AccessDenied.*not you"):
        boto3.Session(profile_name=spoke).get_credentials()


# Failures


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ((), "ROLE_ARN"),
        ((HUB, "--Bogus", "x"), "unknown option --Bogus"),
        ((HUB, "--Duration", "900"), "unknown option --Duration; did you mean --DurationSeconds?"),
        ((HUB, "--external-id", "abc"), "unknown option --external-id; did you mean --ExternalId?"),
        ((HUB, "-p", "dev"), "unknown option -p; did you mean --profile?"),
        (("--role-arn", HUB), "unknown option --role-arn: pass the ARN without an option"),
        ((f"--role-arn={HUB}",), "unknown option --role-arn: pass the ARN without an option"),
        ((HUB, "--Tags", "a=1", "b=2"), "b=... is not a role; if it is a tag, pass all tags as one argument"),
        ((HUB, "terraform", "apply"), "'terraform' is not the ARN of a role; if it is a program, put -- before it"),
        ((HUB, "ls", "-al"), "unknown option -al; if it is a program's option, put -- before the program"),
        ((HUB, "--mfa", "123456"), "unknown option --mfa; did you mean --SerialNumber?"),
        (("--profile", HUB), "ROLE_ARN is missing"),
        ((HUB, "--Policy", "foo.json"), "did you mean file://foo.json?"),
        ((HUB, "--"), "COMMAND is missing"),
        ((HUB, "--", ""), "COMMAND is missing"),
        ((HUB, "--", "", "arguments"), "COMMAND is missing"),
        ((HUB, "--static"), "--static needs -- COMMAND"),
        ((HUB, "--json", "--", "true"), "nothing is printed: leave out --format"),
        ((HUB, "--env", "--json"), "not allowed with"),
        ((HUB, "--ExternalId"), "--ExternalId: expected one argument"),
        ((HUB, "--Policy", "{"), "--Policy: this is not JSON"),
        ((HUB, "--Policy", "null"), "--Policy: this must be a JSON object"),
        ((HUB, "--Policy", "[]"), "Policy must be a JSON object"),
        ((HUB, "--Policy", "file:///no/such/file"), "/no/such/file"),
        ((HUB, "--Policy", "file://~nobody-at-all/x"), "home directory. See"),
        ((HUB, "--PolicyArns", "[" * 50_000), "--PolicyArns: this is not JSON"),
        ((HUB, "--Tags", "team"), "--Tags: each tag must be key=value"),
        ((HUB, "--Tags", "Key=a,Value=1"), "--Tags: for each tag, pass a=1 instead of Key=a,Value=1"),
        ((HUB, "--Tags", "Key=a,Value=1", "Key=b,Value=2"), "--Tags: for each tag, pass a=1"),
        ((HUB, "--Tags", "a=1,a=2"), "has the key 'a' twice"),
        ((HUB, "--additional-kwargs", "[1]"), "additional_kwargs is of type list; it must be a dict"),
        ((HUB, "--additional-kwargs", '{"RoleArn": "x"}'), "RoleArn is given twice"),
        ((HUB, "--DurationSeconds", "long"), "--DurationSeconds: invalid int value: 'long'"),
        ((HUB, SPOKE, "--DurationSeconds", "3601"), "role chaining"),
        ((HUB, "--SerialNumber", DEVICE, "--TokenCode", "12345"), "six digits"),
        ((HUB, "--region", "eu west"), "'eu west'"),
        ((HUB, "--region", "eu-west-1\n"), "eu-west-1"),
        (("not-an-arn", SPOKE), "RoleArn is 'not-an-arn'"),
        (("a\nb", "--SourceIdentity", "c\nd"), "SourceIdentity is 'c\\nd'"),
    ],
)
def test_wrong_usage(sts: StsStub, arguments: tuple[str, ...], fragment: str) -> None:
    """An impossible command line exits with 2 and one line that names the mistake, before any call to STS."""
    assert_failed(run(*arguments), 2, fragment, "See --help.")
    assert not sts.requests


def test_a_policy_file_that_is_not_text(sts: StsStub, tmp_path: Path) -> None:
    """A policy file that is not UTF-8 makes the run exit with 2."""
    (tmp_path / "policy").write_bytes(b"\xff\xfe{}")
    assert_failed(run(HUB, "--Policy", f"file://{tmp_path}/policy"), 2, "--Policy: the file cannot be read")


def test_all_that_is_wrong_is_said_at_once(sts: StsStub) -> None:
    """Several invalid parameters are all named in the same line."""
    finished = run("x", "--DurationSeconds", "1", "--SourceIdentity", "a b")
    assert_failed(finished, 2, "RoleArn is 'x'", "DurationSeconds is 1", "SourceIdentity is 'a b'")


BROKEN_PROFILES = {
    "": "Unable to locate credentials",
    "[profile other]": "profile (dev) could not be found",
    "[profile dev": "Unable to parse config file",
    "[profile dev]\naws_access_key_id = AKIADEV": "aws_secret_access_key",
    "[profile dev]\ncredential_process = /no/such/command": "/no/such/command",
    "[profile dev]\ncredential_process = sh -c 'echo gone wrong >&2; exit 1'": "gone wrong",
    f"[profile dev]\nrole_arn = {HUB}\nsource_profile = other": "other",
    f"[profile dev]\nrole_arn = {HUB}\ncredential_source = Environment": "Environment",
    "[profile dev]\nmax_attempts = many\naws_access_key_id = AKIADEV\naws_secret_access_key = s": "many",
}


@pytest.mark.parametrize(("config", "fragment"), BROKEN_PROFILES.items())
def test_no_or_broken_source(sts: StsStub, monkeypatch: pytest.MonkeyPatch, config: str, fragment: str) -> None:
    """Without source credentials, or with a profile that has no working ones, the run exits with 3 and a hint."""
    without_keys(monkeypatch)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    configure(config)
    chosen = ("--profile", "dev") if config else ()
    assert_failed(run(*chosen, SPOKE), 3, fragment, "--profile", "config file")
    assert not sts.requests


@pytest.mark.parametrize(
    "fault",
    [
        Fault.error(403, "AccessDenied", "not you"),
        Fault.error(403, "InvalidClientTokenId", "not you"),
        Fault.truncated(),
    ],
    ids=["denied", "bad keys", "cut"],
)
def test_a_profile_whose_own_role_fails(sts: StsStub, fault: Fault) -> None:
    """If a source profile cannot assume its own role, the run exits with 3, without a traceback or the response."""
    configure(f"[profile dev]\nrole_arn = {HUB}\ncredential_source = Environment\n")
    sts.fault = fault
    finished = run("--profile", "dev", SPOKE)
    assert_failed(finished, 3, "--profile")
    assert "secret-1" not in finished.stderr
    assert {request.params["RoleArn"] for request in sts.assumed} == {HUB}


def test_a_profile_that_needs_a_code(sts: StsStub) -> None:
    """If a source profile has an MFA device and there is no terminal to prompt on, it exits with 3 and one line."""
    configure(f"[profile dev]\nrole_arn = {HUB}\ncredential_source = Environment\nmfa_serial = {DEVICE}\n")
    assert_failed(run_process("--profile", "dev", SPOKE, start_new_session=True), 3, "No MFA code")


@pytest.mark.parametrize("code", ["ExpiredToken", "IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId"])
def test_source_keys_that_sts_refuses(sts: StsStub, code: str) -> None:
    """If STS rejects the source keys, the run exits with 3, as with a profile without keys."""
    sts.fault = Fault.error(403, code, "these keys")
    assert_failed(run(HUB), 3, f"{HUB} could not be assumed", code, "unset AWS_ACCESS_KEY_ID")


def test_no_region(sts: StsStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region, the run exits with 3 and names what sets one; boto3 does not read AWS_REGION."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    finished = run(HUB)
    assert_failed(finished, 3)
    assert finished.stderr.endswith("You must specify a region. Pass --region or set AWS_DEFAULT_REGION.\n")


@pytest.mark.parametrize(
    ("fault", "fragment"),
    [
        (Fault.error(403, "AccessDenied", "not you"), "(AccessDenied) when calling the AssumeRole operation: not you"),
        (Fault.error(503, "ServiceUnavailable"), "ServiceUnavailable"),
        (Fault.html(), "proxy"),
        (Fault.empty(), "proxy"),
        (Fault.truncated(), "proxy"),
        (Fault.without("SessionToken"), "SessionToken"),
        (Fault.expiration("2001-01-01T00:00:00Z"), "clock"),
        (Fault.expiration("soon"), "not an AssumeRole response"),
    ],
)
def test_a_role_that_cannot_be_assumed(sts: StsStub, fault: Fault, fragment: str) -> None:
    """If the response has no credentials, the run exits with 4 and one line that names the role and the response."""
    sts.fault = fault
    finished = run(HUB)
    assert_failed(finished, 4, f"{HUB} could not be assumed", fragment)
    assert "secret-1" not in finished.stderr


def test_one_advice_is_enough(sts: StsStub) -> None:
    """An error that says what to do is not followed by the general advice."""
    sts.fault = Fault.html()
    assert run(HUB).stderr.endswith("Check for a proxy or an endpoint URL that is not STS's.\n")
    sts.fault = Fault.error(403, "AccessDenied")
    assert run(HUB).stderr.endswith("If a policy requires MFA, pass SerialNumber.\n")
    sts.fault = Fault.error(400, "RegionDisabledException")
    assert run(HUB).stderr.endswith("and network access to STS.\n")


def test_sts_is_not_there(sts: StsStub) -> None:
    """If the connection is refused, the run exits with 4 and names the address."""
    sts.down()
    assert_failed(run(HUB), 4, f"{HUB} could not be assumed", sts.url)


def test_the_hop_that_failed_is_named(sts: StsStub) -> None:
    """If STS refuses the second role, for any reason, the run exits with 4 and its ARN: the source is not at fault."""
    sts.any_root = False
    sts.fault = Fault(element="AccessKeyId", text="<AccessKeyId>ASIAUNKNOWN</AccessKeyId>")
    assert_failed(run(HUB, SPOKE), 4, f"{SPOKE} could not be assumed", "InvalidClientTokenId", "opt-in region")


# Secrets


@pytest.mark.parametrize(
    "fault",
    [
        Fault.error(
            400, "ValidationError", "1 error: Value 'my-secret-id' at 'externalId' failed, Value '246810' at 'x'"
        ),
        Fault.error(403, "SignatureDoesNotMatch", "no match\n\nshould have been\nx-amz-security-token:root-token\n"),
        Fault.truncated(),
        Fault.body("my-secret-id 246810 root-token"),
        Fault.error(500, "InternalFailure"),
    ],
    ids=["quoted", "signed", "cut", "echoed", "failed"],
)
def test_no_secret_is_in_an_error(sts: StsStub, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
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


@pytest.mark.parametrize(
    "arguments",
    [
        ("--ExternalID", "my-secret"),
        ("--ExternalID=my-secret",),
        ("--ExternalId", "my-secret "),
        ("--SerialNumber", DEVICE, "--TokenCode", "my-secret"),
        ("--Policy", '{"my-secret"}'),
        ("--Tags", "[my-secret]"),
    ],
)
def test_no_secret_is_in_a_usage_error(arguments: tuple[str, ...]) -> None:
    """Neither the value of a misspelled option nor an invalid value is repeated."""
    finished = run(HUB, *arguments)
    assert_failed(finished, 2)
    assert "my-secret" not in finished.stderr


# MFA, and the terminal

# Makes the terminal on stdin the controlling terminal, as a shell does, then runs the command in its own place.
ON_TERMINAL = (
    sys.executable,
    "-c",
    "import fcntl, os, sys, termios\n"
    "os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])",
)


def type_in(keys: bytes, *arguments: str) -> tuple[Finished, bytes]:
    """Run on a terminal, type at the prompt for the code, and return the result and what the terminal showed."""
    screen, terminal = os.openpty()
    shown = b""
    try:
        with subprocess.Popen(
            [*ON_TERMINAL, *COMMAND, *arguments],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            # One line at a prompt: getpass discards what was typed before it.
            for number, line in enumerate(keys.splitlines(keepends=True), start=1):
                while shown.count(b"Enter MFA") < number or not shown.endswith(b": "):
                    assert select.select([screen], [], [], LIMIT)[0], shown
                    shown += os.read(screen, 1024)
                os.write(screen, line)
            stdout, stderr = process.communicate(timeout=LIMIT)
        while select.select([screen], [], [], 0)[0]:
            shown += os.read(screen, 1024)
    finally:
        os.close(screen)
        os.close(terminal)
    return Finished(process.returncode, stdout, stderr), shown


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
        assert_failed(finished, 4, HUB)
    else:
        assert (finished.returncode, finished.stdout, finished.stderr) == (130, "", "")
    assert not sts.requests


@needs_posix
def test_a_code_cannot_be_asked_for(sts: StsStub) -> None:
    """Without a terminal, --SerialNumber fails at once with 4 and a hint, and does not wait for stdin."""
    read_end, write_end = os.pipe()
    try:
        for through, stdin in (((), read_end), ((), subprocess.DEVNULL), (("sh", "-c", 'exec "$@" <&-', "sh"), None)):
            finished = run_process(HUB, "--SerialNumber", DEVICE, through=through, stdin=stdin, start_new_session=True)
            assert_failed(finished, 4, DEVICE, "no terminal", "Pass TokenCode")
    finally:
        os.close(read_end)
        os.close(write_end)
    assert not sts.requests


@needs_posix
def test_an_interrupt(sts: StsStub) -> None:
    """An interrupt during the call to STS makes the run exit with 130 and print nothing."""
    sts.gate.clear()
    with subprocess.Popen([*COMMAND, HUB], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert sts.arrived.acquire(timeout=LIMIT)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=LIMIT) == ("", "")
    assert process.returncode == 130


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


@needs_posix
def test_the_examples_in_the_help_run(sts: StsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command that --help shows, and the profile, can be pasted."""
    text = run("--help").stdout.partition("examples:\n")[2]
    shell, profile = text.split("in ~/.aws/config, for any program that reads it:\n")
    command = f'aws-assume-role-lib() {{ {shlex.join(COMMAND)} "$@"; }}\n'
    (tmp_path / "terraform").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    keys = "[profile dev]\naws_access_key_id = AKIADEV\naws_secret_access_key = s\n"
    configure(
        keys
        + textwrap.dedent(profile)
        .replace("= aws-assume-role-lib", f"= {shlex.join(COMMAND)}")
        .replace("(all on one line)", "")
    )
    subprocess.run(
        ["bash", "-ec", command + textwrap.dedent(shell)], cwd=tmp_path, timeout=LIMIT, check=True, capture_output=True
    )
    assert [request.params["RoleArn"] for request in sts.requests] == [HUB, HUB, HUB, SPOKE]
    without_keys(monkeypatch)
    assert boto3.Session(profile_name="spoke").get_credentials().access_key == "ASIA0000000000000005"


@needs_posix
@pytest.mark.parametrize(("arguments", "unbuffered"), [((HUB,), ""), ((HUB,), "1"), (("--help",), "")])
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


@needs_posix
@pytest.mark.parametrize("arguments", [(HUB,), ("--help",)])
def test_output_that_is_closed(sts: StsStub, arguments: tuple[str, ...]) -> None:
    """If stdout is closed, the run exits with 1 and one line."""
    finished = run_process(*arguments, through=("sh", "-c", 'exec "$@" >&-', "sh"))
    assert_failed(finished, 1, "stdout is closed")


@needs_posix
def test_errors_that_nobody_reads() -> None:
    """With a closed stderr, the exit code is the same, and the error does not go to stdout."""
    finished = run_process("x", "--json", through=("sh", "-c", 'exec "$@" 2>&-', "sh"))
    assert (finished.returncode, finished.stdout) == (2, "")


def test_only_sts_is_asked(sts: StsStub) -> None:
    """A run makes one AssumeRole request per role and no others, and loads no service model but STS's."""
    script = (
        "import botocore.loaders, sys; load = botocore.loaders.Loader.load_service_model\n"
        "def seen(self, name, *rest, **more): print(name, file=sys.stderr); return load(self, name, *rest, **more)\n"
        "botocore.loaders.Loader.load_service_model = seen; from aws_assume_role_lib._command.cli import main; main()"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, HUB, SPOKE], capture_output=True, text=True, timeout=LIMIT, check=True
    )
    assert [request.action for request in sts.requests] == ["AssumeRole", "AssumeRole"]
    assert set(finished.stderr.split()) == {"sts"}


def test_the_package_does_not_load_the_command_line() -> None:
    """Importing the package imports neither argparse nor the module that does."""
    ours = "{'argparse', 'aws_assume_role_lib._command', 'difflib', 'http.server'}"
    script = (
        "import boto3, sys; before = set(sys.modules); import aws_assume_role_lib;"
        f"print({ours} & (set(sys.modules) - before))"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


@pytest.mark.parametrize("arguments", [("Hub",), (HUB, "arn:Spoke"), (HUB, "--DurationSeconds", "1")])
def test_mistakes_come_before_missing_credentials(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    """Problems with the roles are reported first, even without credentials."""
    without_keys(monkeypatch)
    assert_failed(run(*arguments), 2, "Parameter validation failed")


def test_no_advice_is_for_programmers(sts: StsStub) -> None:
    """The command line never suggests passing a callable."""
    for arguments in (("--TokenCode", "12"), ()):
        finished = run_process(HUB, "--SerialNumber", DEVICE, *arguments, start_new_session=True)
        assert "callable" not in finished.stderr
        assert "six digits" in finished.stderr
