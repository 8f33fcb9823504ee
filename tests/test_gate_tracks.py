"""Noise-free tracks: what is counted in assembly, and which differences fail."""

import copy

import pytest

from asv_bench.gate import assembly, rules, tracks

LOOP = """
kernel:
\tvmovups\t%ymm3, 64(%rsp)            # 32-byte Spill
.LBB0_1:
\tvmovups\t(%rdi), %ymm0
\tvfmadd231ps\t(%rsi), %ymm0, %ymm1
\tvfmadd231ps\t32(%rsi), %ymm0, %ymm2
{spill}\taddq\t$32, %rsi
\tjne\t.LBB0_1
\tvaddss\t%xmm1, %xmm2, %xmm1
\tvfmadd231ss\t%xmm1, %xmm2, %xmm1
\tretq
"""


def test_counts_of_a_loop():
    found = assembly.count(LOOP.format(spill=""), "x86_64", "ymm")
    assert found == {"instructions": 9, "fma_share": 0.5, "spills": 1, "loop_spills": 0}
    spilled = assembly.count(LOOP.format(spill="\tvmovups\t64(%rsp), %ymm3\n"), "x86_64", "ymm")
    assert (spilled["spills"], spilled["loop_spills"]) == (2, 1)
    pointer = assembly.count(LOOP.format(spill="\tvmovups\t64(%rbp), %ymm3\n"), "x86_64", "ymm")
    assert (pointer["spills"], pointer["loop_spills"]) == (1, 0)


def test_counts_on_arm():
    lines = ["ldr\tq0, [sp, #16]", "fmla\tv1.4s, v0.4s, v2.4s", "fadd\ts0, s1, s2", "b.ne\t.LBB0_2", "ret"]
    text = "k:\n.LBB0_2:\n" + "".join(f"\t{line}\n" for line in lines)
    found = assembly.count(text, "aarch64", "")
    assert found == {"instructions": 5, "fma_share": 0.5, "spills": 1, "loop_spills": 1}
    assert assembly.count(text, "riscv64", "") == {"instructions": 5}


def figures():
    kernel = {"instructions": 1000, "fma_share": 0.9, "spills": 4, "loop_spills": 0, "bytes": 8000}
    return {
        "functions": 20,
        "cache_bytes": 100_000,
        "new_signatures": 0,
        "import_modules": ["numbaconv", "typing"],
        "first_call_modules": ["numba", "numba.core", "numpy"],
        "kernels": {"forward-float32": kernel},
        "workspace_kib": {"layer.forward": 1000},
        "accuracy": {"layer": 1e-7},
    }


def change(head, path, value):
    *names, last = path.split("/")
    for name in names:
        head = head[name]
    head[last] = value


@pytest.mark.parametrize(
    ("path", "value", "fails"),
    [
        ("functions", 24, False),
        ("functions", 26, True),
        ("cache_bytes", 126_000, True),
        ("new_signatures", 1, True),
        ("import_modules", ["numbaconv", "typing", "numpy"], True),
        ("import_modules", ["numbaconv"], False),
        ("first_call_modules", ["cmath", "numba", "numba.core", "numba.np", "numpy"], False),
        ("first_call_modules", ["numba", "numba.core", "numpy", "scipy"], True),
        ("kernels/forward-float32/fma_share", 0.89, False),
        ("kernels/forward-float32/fma_share", 0.87, True),
        ("kernels/forward-float32/loop_spills", 1, True),
        ("kernels/forward-float32/spills", 8, False),
        ("kernels/forward-float32/spills", 12, True),
        ("kernels/forward-float32/instructions", 1251, True),
        ("kernels/forward-float32/bytes", 9000, False),
        ("workspace_kib/layer.forward", 1090, False),
        ("workspace_kib/layer.forward", 1101, True),
        ("accuracy/layer", 1.4e-7, False),
        ("accuracy/layer", 1.6e-7, True),
    ],
)
def test_each_rule(path, value, fails):
    base, head = figures(), figures()
    change(head, path, value)
    (finding,) = rules.compare(base, head)
    assert finding.fails is fails
    (accepted,) = rules.compare(base, head, [finding.track])
    assert not accepted.fails
    assert accepted.accepted is fails


def test_equal_figures_differ_in_nothing():
    head = figures()
    head["workspace_kib"]["layer.forward"] += rules.WORKSPACE_JITTER_KIB
    assert rules.compare(figures(), head) == []


def test_a_kernel_may_come_and_go():
    base, head = figures(), figures()
    head["kernels"]["new"] = copy.deepcopy(head["kernels"]["forward-float32"])
    (finding,) = rules.compare(base, head)
    assert (finding.track, finding.fails) == ("new", False)
    (finding,) = rules.compare(head, base)
    assert (finding.track, finding.fails) == ("new", False)


def test_the_rules_are_documented():
    tracks_named = ("import_modules", "first_call_modules", "new_signatures", "functions", "cache_bytes", "fma_share")
    assert all(name in rules.__doc__ for name in (*tracks_named, "loop_spills", "workspace", "accuracy"))


def test_modules_that_the_import_loads():
    loaded = tracks.imported_modules("import numbaconv")
    assert "numbaconv" in loaded
    assert "numba" not in loaded


def test_workspace_and_accuracy_of_this_package():
    sizes = tracks.workspaces()
    assert set(sizes) == {f"{layer}.{p}" for layer in tracks.WORKSPACE_LAYERS for p in tracks.PASSES}
    assert all(size > 0 for size in sizes.values())
    assert all(0 < error < 1e-5 for error in tracks.accuracy().values())


def test_new_shapes_compile_nothing():
    assert tracks.new_signatures() == 0
