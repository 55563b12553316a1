"""The lock files have what pyproject.toml asks for, with hashes; no file says where packages come from."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = sorted(ROOT.glob("requirements*.lock"))
# In two parts each, because nothing in the project may name one.
REGISTRIES = [
    f"{name}.{domain}"
    for domain, names in {
        "org": ["pypi", "pythonhosted", "npmjs", "repo.maven.apache", "repo1.maven", "proxy.golang", "deb.debian"],
        "io": ["crates", "docker", "ghcr", "quay"],
    }.items()
    for name in names
]


def pinned(lock: Path) -> set[Requirement]:
    return {Requirement(line.removesuffix(" \\")) for line in lock.read_text().splitlines() if re.match(r"\w", line)}


def required() -> dict[str, list[str]]:
    """What each lock file is for, by the file's name."""
    groups = PROJECT["dependency-groups"]
    run = PROJECT["project"]["dependencies"]
    return {
        "requirements-build.lock": PROJECT["build-system"]["requires"],
        "requirements.lock": run,
        "requirements-dev.lock": run + [one for group in groups.values() for one in group if isinstance(one, str)],
    }


def test_every_lock_file_is_for_something() -> None:
    assert [lock.name for lock in LOCKS] == sorted(required())


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_file_has_all_that_is_required_of_it_at_an_accepted_version(lock: Path) -> None:
    pins = {(canonicalize_name(pin.name), str(pin.specifier).removeprefix("==")) for pin in pinned(lock)}
    for requirement in map(Requirement, required()[lock.name]):
        versions = [version for name, version in pins if name == canonicalize_name(requirement.name)]
        assert versions, f"{requirement.name} is missing: run make lock"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: run make lock"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_in_a_lock_file_has_its_hashes(lock: Path) -> None:
    entries = re.split(r"^(?=\w)", lock.read_text(), flags=re.MULTILINE)[1:]
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_tests_run_on_the_versions_that_are_shipped() -> None:
    shipped, tested = (
        {(pin.name, str(pin.specifier)) for pin in pinned(ROOT / name)}
        for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert shipped <= tested


def test_no_file_says_where_packages_come_from() -> None:
    """That is the user's own configuration: a mirror must serve as well."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\0")
    files = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    if not files:
        pytest.skip("not a checkout of the repository")
    named = {file.name: host for file in files for host in REGISTRIES if host.encode() in file.read_bytes()}
    assert named == {}
