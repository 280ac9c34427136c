"""The metadata, and the files that only GitHub and Read the Docs use."""

from __future__ import annotations

import configparser
import importlib.metadata
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import run

ROOT = Path(__file__).parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
(REPOSITORY,) = re.findall(r'^repository = "(.*)"$', PYPROJECT, re.MULTILINE)
METADATA = importlib.metadata.metadata("aws-assume-role-lib")


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_project_urls_lead_into_the_repository() -> None:
    """Each project URL starts with the repository's address, and names a file or folder that exists."""
    urls = dict(line.split(", ") for line in METADATA.get_all("Project-URL") or [])
    assert urls.keys() == {"Changelog", "Documentation", "Source"}
    for url in urls.values():
        path = re.sub(r"^/(blob|tree)/v[^/]+", "", url.removeprefix(REPOSITORY))
        assert not path.startswith("https:")
        assert (ROOT / path.lstrip("/")).exists()


def test_the_readme_on_the_package_index_has_whole_links() -> None:
    """The description on the package index is the README, with each of its links made absolute."""
    # Where importlib_metadata is installed, it replaces importlib.metadata's finder, and has its own place for this.
    description = METADATA["Description"] or str(METADATA.get_payload())
    assert re.findall(r"\]\((?!https://|#)[^)]*\)", description) == []
    version = METADATA["Version"]
    relative = re.sub(rf"{re.escape(REPOSITORY)}/(blob|raw)/v{re.escape(version)}/", "", description)
    assert relative.strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()


@pytest.mark.skipif(not shutil.which("bash"), reason="the step is a shell command")
@pytest.mark.parametrize(
    ("step", "right", "wrong"),
    [
        ("The tag names the version", {"GITHUB_REF_NAME": f"v{METADATA['Version']}"}, {"GITHUB_REF_NAME": "v0.0.1"}),
        (
            "The metadata names this repository, not a placeholder",
            dict(zip(("GITHUB_SERVER_URL", "GITHUB_REPOSITORY"), REPOSITORY.rsplit("/", 1), strict=True)),
            {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "a/fork"},
        ),
    ],
)
def test_the_release_refuses_a_wrong_tag_or_address(step: str, right: dict[str, str], wrong: dict[str, str]) -> None:
    """The release workflow refuses a tag for another version, and metadata that does not name the repository."""
    steps = load(".github/workflows/release.yml")["jobs"]["build"]["steps"]
    (command,) = [each["run"] for each in steps if each.get("name") == step]
    assert run("bash", "-ec", command, cwd=ROOT, **right).returncode == 0
    assert run("bash", "-ec", command, cwd=ROOT, **wrong).returncode != 0


def test_pre_commit_runs_the_lint_environment() -> None:
    """pre-commit's hooks are the commands of tox's lint environment."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    (local,) = load(".pre-commit-config.yaml")["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == tox["testenv:lint"]["commands"].strip().splitlines()


def test_the_versions_of_python_are_tested() -> None:
    """The tests workflow runs the tests on each version of Python that the classifiers name."""
    named = set(re.findall(r"Python :: (3\.\d+)$", "\n".join(METADATA.get_all("Classifier") or []), re.MULTILINE))
    matrix = load(".github/workflows/tests.yml")["jobs"]["tests"]["strategy"]["matrix"]["include"]
    tested = {job["python"] for job in matrix if job["tox"] == "py" + job["python"].replace(".", "")}
    assert named
    assert named <= tested
