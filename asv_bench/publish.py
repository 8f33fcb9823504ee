"""Write all pages: `python -m asv_bench.publish` runs `asv publish`, frees its pages from the network and adds our own.

asv's pages load jQuery, Flot, Bootstrap and three smaller scripts from content delivery networks. They are taken from
the npm registry once instead, by `npm pack`, compared with the digests below, kept in `.asv/scripts` and copied beside
the pages. All of them are under the MIT licence, and none is part of this project.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asv_bench import summary_page

CONFIGURATION = "asv.conf.json"
SCRIPTS_FOLDER = "scripts"


class PublishError(Exception):
    """The pages cannot be made; the message says what would work."""


@dataclass(frozen=True)
class Script:
    """A file of an npm package, and the SHA-256 digest of its content."""

    package: str
    member: str
    digest: str


def _flot(part: str, digest: str) -> Script:
    return Script("flot@0.8.3", f"jquery.flot{part}.js", digest)


# By the end of the address in asv's page. Where a delivery network shortens a script itself, the original stands here.
SCRIPTS = {
    "jquery-3.3.1.min.js": Script(
        "jquery@3.3.1", "dist/jquery.min.js", "160a426ff2894252cd7cebbdd6d6b7da8fcd319c65b70468f10b6690c45d02ef"
    ),
    "jquery.flot.min.js": _flot("", "b7b931f273c38b1277b9c6c1f4e05c4ec09885a487bddaf3279e2d7e49a38e12"),
    "jquery.flot.time.min.js": _flot(".time", "a582c832adc7138a6b05aaf61f16ebac274701f1be4afea77e739a1c34b9c41a"),
    "jquery.flot.selection.min.js": _flot(
        ".selection", "e6c85f6c1ebe4b4da29d8ae238c7c5060283f05f7ef054f6b91817d02c092918"
    ),
    "jquery.flot.categories.min.js": _flot(
        ".categories", "6e81664b28ea795c734906f4aa15614640a75ac7fbd399a7fb9084040698351a"
    ),
    "jquery.flot.orderBars.js": Script(
        "flot-orderbars@1.0.0", "js/jquery.flot.orderBars.js",
        "39735b4f46f96ff4e082572401f47c55a2767b366fd1d1e821e44a8d830a12bf",
    ),
    "stupidtable.min.js": Script(
        "stupid-table-plugin@1.1.3", "stupidtable.min.js",
        "4642380f28ebe9ed7cac251793b281ef8620c4386205d92788f9b12f5cceb4e0",
    ),
    "md5.min.js": Script(
        "blueimp-md5@2.19.0", "js/md5.min.js", "64d7ded388c562e4bde9e58ce205e5fa01b9734fcd434d496eb7b4fbfe9b927d"
    ),
    "bootstrap.min.js": Script(
        "bootstrap@3.1.1", "dist/js/bootstrap.min.js",
        "898d05a17f2cfc5120ddcdba47a885c378c0b466f30f0700e502757e24b403a1",
    ),
    "bootstrap.min.css": Script(
        "bootstrap@3.1.1", "dist/css/bootstrap.min.css",
        "e9503448692b738dd260fbd7f7cabf2e11f09b600fa97e6eb3a56eba5b1a7e9b",
    ),
}  # fmt: skip
_TAG = re.compile(r"<(?:script|link)\b[^>]*>")
_ADDRESS = re.compile(r'\b(src|href)="https?://[^"]*/([^"/]+)"')
# What belongs to an address on another host: its digest there, and how it is asked for.
_REMOTE = re.compile(r'\s+(?:integrity|crossorigin|referrerpolicy)="[^"]*"')


def localise(page: str) -> tuple[str, list[str]]:
    """Return asv's page with scripts and styles from its own folder, and the names of these."""
    names: list[str] = []

    def replace(match: re.Match[str]) -> str:
        tag = match.group()
        address = _ADDRESS.search(tag)
        if address is None:
            return tag
        if address.group(2) not in SCRIPTS:
            raise PublishError(
                f"asv's page loads {address.group(2)}, which SCRIPTS of {__name__} does not know: add it"
            )
        names.append(address.group(2))
        return _REMOTE.sub("", _ADDRESS.sub(rf'\1="{SCRIPTS_FOLDER}/\2"', tag))

    return _TAG.sub(replace, page), names


def is_whole(path: Path, script: Script) -> bool:
    """Tell whether a file is there and is the script."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == script.digest


def fetch(names: Sequence[str], store: Path) -> None:
    """Bring scripts that the store lacks from the npm registry."""
    missing = [name for name in names if not is_whole(store / name, SCRIPTS[name])]
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for package in dict.fromkeys(SCRIPTS[name].package for name in missing):
            archive = _pack(package, Path(folder))
            with tarfile.open(archive) as tar:
                for name in missing:
                    if SCRIPTS[name].package == package:
                        content = tar.extractfile(f"package/{SCRIPTS[name].member}")
                        assert content is not None
                        (store / name).write_bytes(content.read())
    for name in missing:
        if not is_whole(store / name, SCRIPTS[name]):
            (store / name).unlink()
            raise PublishError(f"{name} of {SCRIPTS[name].package} is not the file that was expected: it was not kept")


def _pack(package: str, folder: Path) -> Path:
    """Download a package's archive with npm, as the user has set it up."""
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), package]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise PublishError("npm was not found: install it (Debian: apt-get install npm)") from None
    if run.returncode:
        raise PublishError(f"{' '.join(command[:2])} {package} failed: {run.stderr.strip() or run.stdout.strip()}")
    return folder / run.stdout.split()[-1]


def make_local(html: Path, store: Path) -> None:
    """Let the pages of `asv publish` in a folder load nothing from the network."""
    index = html / "index.html"
    page, names = localise(index.read_text(encoding="utf-8"))
    fetch(names, store)
    (html / SCRIPTS_FOLDER).mkdir(exist_ok=True)
    for name in names:
        shutil.copyfile(store / name, html / SCRIPTS_FOLDER / name)
    index.write_text(page, encoding="utf-8")
    # The grid asks for a summary of every benchmark, and asv writes those that have results.
    for name in json.loads((html / "index.json").read_text())["benchmarks"]:
        summary = html / "graphs" / "summary" / f"{name}.json"
        if not summary.exists():
            summary.parent.mkdir(parents=True, exist_ok=True)
            summary.write_text("[]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish; return 0, or 2 where something is missing, with what could be made left in place."""
    parser = argparse.ArgumentParser(prog="python -m asv_bench.publish", description=str(__doc__).splitlines()[0])
    add = parser.add_argument
    add("--scripts", type=Path, default=Path(".asv/scripts"), metavar="FOLDER", help="store (default: %(default)s)")
    add("--gate", type=Path, action="append", default=[], metavar="FILE", help="JSON of asv_bench.gate for the summary")
    options = parser.parse_args(arguments)
    try:
        settings = json.loads(Path(CONFIGURATION).read_text())
    except OSError as error:
        print(f"publish: {error}: run it in the repository's top folder", file=sys.stderr)
        return 2
    html = Path(settings["html_dir"])
    code = subprocess.run([sys.executable, "-m", "asv", "publish"], check=False).returncode
    if code:
        return 2
    gates = [argument for path in options.gate for argument in ("--gate", str(path))]
    code = summary_page.main(["-o", str(html), "--results", settings["results_dir"], *gates])
    try:
        make_local(html, options.scripts)
    except (PublishError, OSError) as error:
        print(
            f"publish: {error}\nuntil then {html / 'index.html'} needs the network; the summary does not",
            file=sys.stderr,
        )
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
