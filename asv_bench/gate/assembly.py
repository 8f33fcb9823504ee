"""Count what matters in the assembly of a kernel: instructions, fused multiply-adds on whole registers, spills."""

from __future__ import annotations

import re
from typing import Any

_LABEL = re.compile(r"^(\.?L?[\w.$]+):")
_INSTRUCTION = re.compile(r"^\s+([a-z][\w.]*)(?:\s+(.*))?$")

# Per architecture: arithmetic on floating-point numbers, a fused multiply-add, a vector register moved to or from the
# stack. The register that a vector fills is named by the caller. LLVM finds registers on the stack by %rsp alone: %rbp
# holds any pointer, or the caller's frame.
_X86 = (
    re.compile(r"v?(?:add|sub|mul|fn?m(?:add|sub)\d+)[ps][sd]"),
    re.compile(r"vfn?m(?:add|sub)\d+p[sd]"),
    re.compile(r"v?mov[au]p[sd]"),
    re.compile(r"\(%rsp\)"),
)
_ARM = (
    re.compile(r"f(?:add|sub|mul|madd|msub|nmadd|nmsub|mla|mls)(?:\.\w+)?"),
    re.compile(r"fml[as](?:\.\w+)?"),
    re.compile(r"(?:str|ldr|stp|ldp|stur|ldur)"),
    re.compile(r"\[sp"),
)


def _blocks(text: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Split assembly into basic blocks: a label and its (mnemonic, operands)."""
    blocks: list[tuple[str, list[tuple[str, str]]]] = [("", [])]
    for line in text.splitlines():
        line = line.split("#")[0].rstrip() if "##" in line or "\t#" in line else line
        label = _LABEL.match(line)
        if label:
            blocks.append((label.group(1), []))
            continue
        match = _INSTRUCTION.match(line)
        if match and not match.group(1).startswith("."):
            blocks[-1][1].append((match.group(1), match.group(2) or ""))
    return blocks


def _is_vector_move(mnemonic: str, operands: str, move: re.Pattern[str], arm: bool) -> bool:
    return bool(move.fullmatch(mnemonic)) and (not arm or bool(re.match(r"q\d+", operands)))


def count(text: str, architecture: str, register: str) -> dict[str, Any]:
    """Count the instructions of one kernel.

    Parameters
    ----------
    text : str
        Assembly as LLVM prints it.
    architecture : str
        ``"x86_64"`` or ``"aarch64"``; of others only instructions are counted.
    register : str
        What operands on whole registers hold: ``"ymm"``, ``"zmm"``, or for 64-bit Arm ``""``.

    Returns
    -------
    dict
        ``instructions``; ``fma_share``, fused multiply-adds on whole registers among all floating-point arithmetic;
        ``spills``, moves of vector registers to or from the stack; ``loop_spills``, those inside innermost loops that
        hold fused multiply-adds.
    """
    blocks = _blocks(text)
    result: dict[str, Any] = {"instructions": sum(len(lines) for _, lines in blocks)}
    if architecture not in ("x86_64", "aarch64"):
        return result
    arm = architecture == "aarch64"
    arithmetic, fused, move, stack = _ARM if arm else _X86
    total = whole = spills = loop_spills = 0
    for label, lines in blocks:
        block_whole = block_spills = 0
        for mnemonic, operands in lines:
            if arithmetic.fullmatch(mnemonic):
                total += 1
                block_whole += bool(fused.fullmatch(mnemonic)) and register in operands
            elif _is_vector_move(mnemonic, operands, move, arm) and stack.search(operands):
                block_spills += 1
        is_loop = any(m.startswith(("j", "b", "cb", "tb")) and o.split(",")[-1].strip() == label for m, o in lines)
        whole, spills = whole + block_whole, spills + block_spills
        if is_loop and label and block_whole:
            loop_spills += block_spills
    return result | {"fma_share": whole / total if total else 0.0, "spills": spills, "loop_spills": loop_spills}
