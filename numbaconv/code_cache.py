"""Machine code kept on disk: one file per compiled function, in a folder named by everything the code depends on.

The folder's name hashes the content of every source file of the package, the versions of the package, Numba, llvmlite,
NumPy and Python, the CPU's name and features as LLVM is told them, and the settings of Numba that change code. Whatever
changes, another folder is used; there is no index, so two processes can only ever write the same function to one name.
The name of a kernel with a user's function in it hashes that function too (`numbaconv.fingerprints`).
Files are written aside and renamed; each carries the SHA-256 of its content, and one that does not match is a miss.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import llvmlite
import numba
import numpy as np

import numbaconv
from numbaconv.target import TARGET

PACKAGE_FOLDER = Path(__file__).resolve().parent
_MAGIC = b"numbaconv code 1\n"
_SUFFIX = ".code"
_FOLDER_NAME = re.compile(r"cp\d+-[0-9a-f]{24}")
# Folders of other versions that stay: enough for a few environments side by side, well under 50 MB in all.
_KEPT_FOLDERS = 8
_KEPT_SECONDS = 3600.0
_OF_A_FUNCTION = re.compile(r".+-[0-9a-f]{24}-float\d\d\.code")
KEPT_FUNCTIONS = 64
"""Files with users' functions in them that stay in a folder: a function that is edited leaves one behind each time."""


def _source_stamps(folder: str = str(PACKAGE_FOLDER)) -> list[tuple[str, int, int]]:
    """Return (path, time of change, size) of every source file of the package, in order of the paths."""
    stamps: list[tuple[str, int, int]] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.endswith(".py"):
                status = entry.stat()
                stamps.append((entry.path, status.st_mtime_ns, status.st_size))
            elif entry.name != "__pycache__" and entry.is_dir():
                stamps.extend(_source_stamps(entry.path))
    return stamps


def _source_digest() -> str:
    digest = hashlib.sha256()
    for path, _, _ in _STAMPS:
        with open(path, "rb") as file:
            content = file.read()
        name = os.path.relpath(path, PACKAGE_FOLDER).replace(os.sep, "/")
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _settings() -> str:
    """Return the environment's NUMBA_* variables that may change generated code (threads and caches do not)."""
    harmless = ("NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER", "NUMBA_CACHE", "NUMBA_DISABLE_PERFORMANCE_WARNINGS")
    names = sorted(name for name in os.environ if name.startswith("NUMBA_") and not name.startswith(harmless))
    return "\n".join(f"{name}={os.environ[name]}" for name in names)


def _key(source_digest: str) -> str:
    parts = (
        source_digest,
        numbaconv.__version__,
        numba.__version__,
        llvmlite.__version__,
        np.__version__,
        sys.version,
        sys.platform,
        TARGET.architecture,
        TARGET.cpu_name,
        TARGET.features,
        _settings(),
    )
    return f"cp{sys.version_info[0]}{sys.version_info[1]}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}"


# Taken when the package is imported, that is together with the code that will be compiled.
try:
    _STAMPS = _source_stamps()
except OSError:
    _STAMPS = []


def _sources_unchanged() -> bool:
    """Whether the files on disk are still those that this process imported."""
    try:
        return bool(_STAMPS) and _source_stamps() == _STAMPS
    except OSError:
        return False


@cache
def key() -> str | None:
    """Return the name of the folder of this process's code, or None where its sources cannot be known any more."""
    if not _sources_unchanged():
        return None
    try:
        return _key(_source_digest())
    except OSError:
        return None


def _user_root() -> Path:
    configured = os.environ.get("NUMBACONV_CACHE_DIR")
    if configured:
        return Path(configured).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("numbaconv", appauthor=False))


def _temporary_root() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"numbaconv-{user}"


def _is_private(folder: Path) -> bool:
    """Whether only this user can have written to a folder under the shared temporary directory."""
    if not hasattr(os, "getuid"):
        return True
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def _is_writable(root: Path, mode: int) -> bool:
    """Create a root folder and try a file in it: permission bits alone tell little (root user, read-only mounts)."""
    try:
        root.mkdir(mode=mode, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return True
    except OSError:
        return False


_lock = threading.RLock()
_write_folder: Path | None = None
_write_folder_known = False


def read_folders() -> list[Path]:
    """Return the folders to look in: the user's first, then the temporary one where it is ours alone."""
    name = key()
    if name is None:
        return []
    folders = [_user_root() / name]
    if _is_private(_temporary_root()):
        folders.append(_temporary_root() / name)
    return folders


def write_folder() -> Path | None:
    """Return the folder that new code goes to, or None where nothing can be written."""
    global _write_folder, _write_folder_known
    with _lock:
        if not _write_folder_known:
            _write_folder = None
            name = key()
            if name is not None:
                if _is_writable(_user_root(), 0o755):
                    _write_folder = _user_root() / name
                elif _is_writable(_temporary_root(), 0o700) and _is_private(_temporary_root()):
                    _write_folder = _temporary_root() / name
            _write_folder_known = True
        return _write_folder


def load(name: str) -> bytes | None:
    """Return the object code of a function, or None where no sound file holds it."""
    if not _sources_unchanged():
        return None
    for folder in read_folders():
        try:
            content = (folder / (name + _SUFFIX)).read_bytes()
        except OSError:
            continue
        digest, code = content[len(_MAGIC) : len(_MAGIC) + 32], content[len(_MAGIC) + 32 :]
        if content.startswith(_MAGIC) and hashlib.sha256(code).digest() == digest:
            return code
    return None


def save(name: str, code: bytes) -> bool:
    """Keep a function's code; return whether it was written."""
    folder = write_folder()
    if folder is None or not _sources_unchanged():
        return False
    content = _MAGIC + hashlib.sha256(code).digest() + code
    path = folder / (name + _SUFFIX)
    aside = folder / f"{name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            _prune(folder)
        aside.write_bytes(content)
        os.replace(aside, path)
        if _OF_A_FUNCTION.fullmatch(path.name):
            _drop_oldest(folder)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        return False
    return True


def _drop_oldest(folder: Path) -> None:
    """Remove the code of users' functions but the newest."""
    files = [path for path in folder.iterdir() if _OF_A_FUNCTION.fullmatch(path.name)]
    if len(files) > KEPT_FUNCTIONS:
        for path in sorted(files, key=lambda path: path.stat().st_mtime)[:-KEPT_FUNCTIONS]:
            path.unlink()


def _prune(current: Path) -> None:
    """Remove folders of other keys but the newest few; a process that still uses one recompiles at worst.

    A folder written to within the hour stays, whatever its rank: another environment may be filling it now.
    """
    others = []
    for entry in current.parent.iterdir():
        if entry != current and _FOLDER_NAME.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
            with contextlib.suppress(OSError):
                others.append((entry.stat().st_mtime, entry))
    others.sort(reverse=True)
    for modified, entry in others[_KEPT_FOLDERS - 1 :]:
        if time.time() - modified > _KEPT_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """The cache as `cache_info` found it.

    Attributes
    ----------
    folder : str or None
        Where this version's code is kept; None where nothing can be written.
    files, bytes : int
        What this version's folder holds.
    total_bytes : int
        What all versions hold together.
    state : str
        ``"ready"`` (holds code), ``"empty"``, ``"temporary"`` (the user's cache folder cannot be written) or ``"off"``.
    """

    folder: str | None
    files: int
    bytes: int
    total_bytes: int
    state: str


def _sizes(folder: Path) -> list[int]:
    sizes = []
    for path in folder.rglob("*" + _SUFFIX) if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            sizes.append(path.stat().st_size)
    return sizes


def cache_info() -> CacheInfo:
    """Describe the folder that compiled kernels are kept in.

    Examples
    --------
    >>> from numbaconv.code_cache import cache_info
    >>> cache_info().state in {"ready", "empty", "temporary", "off"}
    True
    """
    folder = write_folder()
    if folder is None:
        return CacheInfo(None, 0, 0, 0, "off")
    sizes = _sizes(folder)
    state = "ready" if sizes else "empty"
    if folder.parent == _temporary_root():
        state = "temporary"
    return CacheInfo(str(folder), len(sizes), sum(sizes), sum(_sizes(folder.parent)), state)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
