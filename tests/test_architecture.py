"""The package checks itself: imports run one way, one file has one subject, docstrings say what signatures say."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import numbaconv

PACKAGE = Path(numbaconv.__file__).parent
TESTS = Path(__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 400

# A part may import the parts before it. What one line holds belongs together, in the order given.
ORDER = [
    *("padding", "shapes", "pool_spec", "spec", "settings"),
    *("target", "inlining", "simd", "code_cache", "jit", "memory", "constants", "warming"),
    *("threading_layer", "runs", "parallel", "program"),
    *("fingerprints", "scalars", "arrays", "dispatch", "kernels", "fusing", "algorithms", "planner"),
    *("erf", "activations", "functional"),
    *("lookup", "seeding", "autograd"),
    *("initializers", "regularizers", "constraints", "layers"),
    *("optimizers", "losses", "metrics", "callbacks", "weights", "summary", "training", "model"),
    *("datasets", "plotting", "demo_figure", "demo", "cli"),
]
# Parts that write LLVM IR, and files that hand functions to Numba.
IR_WRITERS = {"simd"}
COMPILERS = {"inlining.py", "jit.py", "scalars.py"}


def file_id(path: Path) -> str:
    return str(path.relative_to(path.parents[1] if path.parent == TESTS else PACKAGE))


def part_of(path: Path) -> str:
    """Name the part of the package that a file belongs to: its folder, or itself."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported_modules(tree: ast.AST) -> list[tuple[int, str]]:
    """List line and dotted name of all that is imported when the code runs, names of `from` imports included."""
    found = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


# --- structure -------------------------------------------------------------------------------------------------------


def test_every_part_has_its_place():
    parts = {part_of(path) for path in FILES} - {"__init__", "__main__"}
    assert sorted(parts - set(ORDER)) == []


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_imports_run_one_way(path):
    part = part_of(path)
    if part in ("__init__", "__main__"):  # the list of public names, looked up on first use
        return
    place = ORDER.index(part)
    for line, name in imported_modules(parse(path)):
        names = name.split(".")
        if names[0] != "numbaconv" or len(names) < 2 or names[1] == part or names[1].startswith("__"):
            continue
        assert ORDER.index(names[1]) < place, f"{path.name}, line {line}: {part} imports {names[1]}, which is above it"


def test_algorithms_do_not_import_each_other():
    """An algorithm, that is a module the planner lists, stands alone beside helpers that are none."""
    listed = {
        name.split(".")[2]
        for _, name in imported_modules(parse(PACKAGE / "planner.py"))
        if name.startswith("numbaconv.algorithms.")
    }
    assert "direct" in listed
    for algorithm in listed:
        path = PACKAGE / "algorithms" / f"{algorithm}.py"
        if not path.exists():
            continue
        siblings = {
            name.split(".")[2] for _, name in imported_modules(parse(path)) if name.startswith("numbaconv.algorithms.")
        }
        assert not siblings & (listed - {algorithm}), algorithm


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_only_simd_writes_llvm_ir(path):
    if part_of(path) in IR_WRITERS:
        return
    for line, name in imported_modules(parse(path)):
        message = f"line {line}: LLVM IR and intrinsics belong to simd/"
        assert not name.startswith("llvmlite.ir"), message
        assert name not in ("numba.extending.intrinsic", "numba.core.extending.intrinsic"), message


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_one_place_compiles(path):
    if str(path.relative_to(PACKAGE)) in COMPILERS:
        return
    decorators = {"njit", "jit", "cfunc", "vectorize", "guvectorize", "stencil", "jit_module"}
    for line, name in imported_modules(parse(path)):
        assert not (name.startswith("numba.") and name.split(".")[-1] in decorators), f"line {line}: {name}"
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("numba", "nb"):
            assert node.attr not in decorators, f"line {node.lineno}: numba.{node.attr}"


@pytest.mark.parametrize("path", [*FILES, *sorted(TESTS.glob("*.py"))], ids=file_id)
def test_files_stay_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines: more than one subject?"


@pytest.mark.parametrize("name", ["oracle.py", "oracle_windows.py"])
def test_the_oracle_owes_nothing_to_the_package(name):
    assert {module.split(".")[0] for _, module in imported_modules(parse(TESTS / name))} <= {
        "__future__",
        "numpy",
        "oracle_windows",
    }


# --- public names and their docstrings -------------------------------------------------------------------------------


def public_callables(name: str):
    """Yield dotted name and object of what can be called under one public name: itself, or a module's own names."""
    thing = getattr(numbaconv, name)
    if not inspect.ismodule(thing):
        if callable(thing):
            yield name, thing
        return
    own = [n for n, member in vars(thing).items() if getattr(member, "__module__", None) == thing.__name__]
    for inner in getattr(thing, "__all__", [n for n in own if not n.startswith("_")]):
        member = getattr(thing, inner)
        if inspect.isclass(member) or inspect.isfunction(member):
            yield f"{name}.{inner}", member


def documented_parameters(docstring: str) -> list[str]:
    """Read the names in the Parameters section of a NumPy docstring."""
    lines = inspect.cleandoc(docstring).splitlines()
    names: list[str] = []
    inside = False
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if below and set(below) == {"-"}:
            inside = line.strip() == "Parameters"
        elif inside and line and not line.startswith((" ", "-")):
            names += [name.strip().lstrip("*") for name in line.split(" : ")[0].split(",")]
    return names


def wrong_with_docstring(thing, docstring: str | None) -> str:
    """Say what a docstring lacks, or nothing.

    It opens with a sentence. A Parameters section names exactly the arguments; without one, the text names each where
    there is more than one.
    """
    if not docstring:
        return "no docstring"
    if not docstring.splitlines()[0].rstrip().endswith((".", ":")):
        return "the first line is no sentence"
    parameters = inspect.signature(thing).parameters.values()
    passed_on = {p.name for p in parameters if p.kind is p.VAR_KEYWORD}
    expected = {p.name for p in parameters} - {"self", "cls"}
    documented = set(documented_parameters(docstring))
    if documented:
        missing, unknown = expected - documented - passed_on, documented - expected
    elif len(expected) == 1:
        missing = unknown = set()
    else:
        missing, unknown = expected - passed_on - set(re.findall(r"\w+", docstring)), set()
    return f"missing {sorted(missing)}, unknown {sorted(unknown)}" if missing or unknown else ""


@pytest.mark.parametrize("name", numbaconv.__all__)
def test_public_docstrings_match_signatures(name):
    wrong = {}
    for dotted, thing in public_callables(name):
        # A class that takes over the constructor of its base may leave the arguments' meaning to it.
        bases = [base for base in inspect.getmro(thing) if base is not object] if inspect.isclass(thing) else [thing]
        found = [wrong_with_docstring(thing, base.__doc__ and inspect.cleandoc(base.__doc__)) for base in bases]
        if not bases[0].__doc__ or all(found):
            wrong[dotted] = found[0]
    assert not wrong, "\n".join(f"{dotted}: {what}" for dotted, what in wrong.items())


def test_modules_say_what_they_are():
    for path in FILES:
        assert ast.get_docstring(parse(path)), f"{file_id(path)} has no docstring"


def test_every_module_can_be_imported_alone():
    for path in FILES:
        if path.stem == "__main__":
            continue
        dotted = ".".join(("numbaconv", *path.relative_to(PACKAGE).with_suffix("").parts))
        importlib.import_module(dotted.removesuffix(".__init__"))
