"""Commits by name, and their packages laid out in folders."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from pathlib import Path

PACKAGE = "numbaconv"
# A line of a commit's message that accepts a change of what the gate would fail, with the names of tracks or cases.
TRAILER = "Gate-accept"


class GateError(Exception):
    """Something the user asked for cannot be done; the message says what would work."""


def git(root: Path, *arguments: str) -> bytes:
    """Run git in the repository and return what it prints."""
    try:
        run = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        raise GateError("git was not found: the gate reads both commits by it; install git") from None
    if run.returncode:
        raise GateError(f"git {' '.join(arguments)}: {run.stderr.decode(errors='replace').strip()}")
    return run.stdout


def find_root(folder: Path) -> Path:
    """Return the top folder of the repository that holds `folder`."""
    try:
        return Path(git(folder, "rev-parse", "--show-toplevel").decode().strip())
    except GateError as error:
        if "not a git repository" in str(error):
            raise GateError(f"{folder} is not inside a git repository: run the gate in a clone of {PACKAGE}") from None
        raise


def resolve(root: Path, name: str) -> str:
    """Return the full name of a commit."""
    try:
        return git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").decode().strip()
    except GateError as error:
        if "git was not found" in str(error):
            raise
        shallow = git(root, "rev-parse", "--is-shallow-repository").decode().strip() == "true"
        hint = "; this clone is shallow, `git fetch --unshallow` brings the rest" if shallow else ""
        raise GateError(f"unknown commit {name!r}: name a commit, branch or tag of {root}{hint}") from None


def describe(root: Path, commit: str) -> str:
    """Return a commit's short name and the first line of its message."""
    return git(root, "log", "-1", "--format=%h %s", commit).decode().strip()


def package_tree(root: Path, commit: str) -> str:
    """Return git's name of the package's content in a commit: the same content has the same name."""
    try:
        return git(root, "rev-parse", f"{commit}:{PACKAGE}").decode().strip()
    except GateError:
        raise GateError(f"commit {commit[:12]} has no folder {PACKAGE}: name one that holds the package") from None


def uncommitted(root: Path) -> list[str]:
    """List the package's files with changes that no commit holds."""
    lines = git(root, "status", "--porcelain", "--", PACKAGE).decode().splitlines()
    return [line[3:] for line in lines]


def accepted(root: Path, base: str, head: str) -> set[str]:
    """Return the names that the messages of the commits from base to head accept by the trailer."""
    messages = git(root, "log", "--format=%B%x00", f"{base}..{head}").decode(errors="replace")
    found = re.findall(rf"^{TRAILER}:[ \t]*(.+)$", messages, flags=re.MULTILINE | re.IGNORECASE)
    return {name for line in found for name in re.split(r"[,\s]+", line) if name}


def lay_out(root: Path, commit: str, folder: Path) -> None:
    """Write a commit's package, and nothing else of the commit, to a folder."""
    archive = git(root, "archive", "--format=tar", commit, "--", PACKAGE)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
