"""Convolutions for CPUs, forward and backward, in any number of dimensions, compiled by Numba.

Public names are looked up on first use, so ``import numbaconv`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numbaconv import callbacks, datasets, initializers, layers, losses, metrics, optimizers, regularizers
    from numbaconv.autograd import Tensor, grad_check, no_grad, ops
    from numbaconv.functional import (
        adaptive_average_pool,
        adaptive_max_pool,
        average_pool,
        conv,
        conv_input_grad,
        conv_kernel_grad,
        conv_transpose,
        depthwise_conv,
        explain,
        global_average_pool,
        global_max_pool,
        max_pool,
        separable_conv,
    )
    from numbaconv.fusing import fused_activation
    from numbaconv.jit import show_config
    from numbaconv.model import Model, Sequential
    from numbaconv.seeding import set_seed
    from numbaconv.settings import config
    from numbaconv.spec import ConvSpec
    from numbaconv.warming import warmup

__version__ = "0.1.0.dev0"

__all__ = [
    "ConvSpec",
    "Model",
    "Sequential",
    "Tensor",
    "__version__",
    "adaptive_average_pool",
    "adaptive_max_pool",
    "average_pool",
    "callbacks",
    "config",
    "conv",
    "conv_input_grad",
    "conv_kernel_grad",
    "conv_transpose",
    "datasets",
    "depthwise_conv",
    "explain",
    "fused_activation",
    "global_average_pool",
    "global_max_pool",
    "grad_check",
    "initializers",
    "layers",
    "losses",
    "max_pool",
    "metrics",
    "no_grad",
    "ops",
    "optimizers",
    "regularizers",
    "separable_conv",
    "set_seed",
    "show_config",
    "warmup",
]

# Where each public name lives: "module" for a module of the package, "module:name" for a name in one.
_HOMES = {
    "callbacks": "callbacks",
    "datasets": "datasets",
    "initializers": "initializers",
    "layers": "layers",
    "losses": "losses",
    "metrics": "metrics",
    "optimizers": "optimizers",
    "regularizers": "regularizers",
    "Tensor": "autograd:Tensor",
    "grad_check": "autograd:grad_check",
    "no_grad": "autograd:no_grad",
    "ops": "autograd:ops",
    "adaptive_average_pool": "functional:adaptive_average_pool",
    "adaptive_max_pool": "functional:adaptive_max_pool",
    "average_pool": "functional:average_pool",
    "conv": "functional:conv",
    "conv_input_grad": "functional:conv_input_grad",
    "conv_kernel_grad": "functional:conv_kernel_grad",
    "conv_transpose": "functional:conv_transpose",
    "depthwise_conv": "functional:depthwise_conv",
    "explain": "functional:explain",
    "fused_activation": "fusing:fused_activation",
    "global_average_pool": "functional:global_average_pool",
    "global_max_pool": "functional:global_max_pool",
    "max_pool": "functional:max_pool",
    "config": "settings:config",
    "separable_conv": "functional:separable_conv",
    "show_config": "jit:show_config",
    "warmup": "warming:warmup",
    "Model": "model:Model",
    "Sequential": "model:Sequential",
    "set_seed": "seeding:set_seed",
    "ConvSpec": "spec:ConvSpec",
}


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name on the name's first use."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'numbaconv' has no attribute {name!r}")
    module_name, _, attribute = home.partition(":")
    module = importlib.import_module(f"numbaconv.{module_name}")
    value = getattr(module, attribute) if attribute else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
