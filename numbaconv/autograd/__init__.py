"""Automatic differentiation: `Tensor`, a tape over NumPy arrays, and the functions that are recorded on it.

`gradients` is the table of all gradient formulas, `tape` walks backward through recorded operations, `ops` gathers the
functions, which are names of this package too.
"""

from numbaconv.autograd import ops
from numbaconv.autograd.check import grad_check
from numbaconv.autograd.ops import *  # noqa: F403 - the list is ops.__all__
from numbaconv.autograd.tape import is_recording, no_grad
from numbaconv.autograd.tensor import Tensor

__all__ = ["Tensor", "grad_check", "is_recording", "no_grad", "ops"]
__all__ += ops.__all__
