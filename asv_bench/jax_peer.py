"""JAX's side of the comparison: passes compiled by XLA, channels last and first."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from asv_bench.peer import Peer, PeerCall, UnsupportedByPeerError
from asv_bench.problems import Arrays, Layer

SPATIAL = "DHW"


class JaxPeer(Peer):
    """JAX on the CPU; gradients are those of its own transposition rules."""

    key, name, module = "jax", "JAX", "jax"
    distributions = ("jax",)

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        # XLA's thread pool takes its size from the processors that it may use when it starts.
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=" + ("false" if threads == 1 else "true"))
        os.environ.setdefault("JAX_PLATFORMS", "cpu")

    def calls(self, layer: Layer, direction: str, arrays: Arrays) -> dict[str, PeerCall]:
        """Run all passes of plain convolutions of up to three spatial axes."""
        if layer.transposed or layer.ndim > 3:
            raise UnsupportedByPeerError("JAX is measured on plain convolutions of up to three axes")
        import jax

        axes = SPATIAL[3 - layer.ndim :]
        numbers = (f"N{axes}C", f"{axes}IO", f"N{axes}C")

        def convolve(x: Any, kernel: Any) -> Any:
            return jax.lax.conv_general_dilated(
                x, kernel, layer.stride, layer.padding, rhs_dilation=layer.dilation, dimension_numbers=numbers,
                feature_group_count=layer.groups,
            )  # fmt: skip

        x = jax.numpy.zeros(layer.x_shape) if arrays.x is None else jax.numpy.asarray(arrays.x)
        kernel = jax.numpy.zeros(layer.kernel_shape) if arrays.kernel is None else jax.numpy.asarray(arrays.kernel)
        if direction == "forward":
            compiled, operands = jax.jit(convolve), (x, kernel)
        elif direction == "input_grad":
            compiled = jax.jit(lambda g, k: jax.vjp(lambda a: convolve(a, k), x)[1](g)[0])
            operands = (jax.numpy.asarray(arrays.grad_y), kernel)
        else:
            compiled = jax.jit(lambda g, a: jax.vjp(lambda k: convolve(a, k), kernel)[1](g)[0])
            operands = (jax.numpy.asarray(arrays.grad_y), x)
        return {"": PeerCall(lambda: compiled(*operands).block_until_ready(), np.asarray)}
