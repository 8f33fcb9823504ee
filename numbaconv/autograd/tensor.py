"""`Tensor`: a NumPy array that remembers how it was computed."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from numbaconv.autograd import rules
from numbaconv.autograd.gradients import GRADIENTS
from numbaconv.autograd.recycling import compute
from numbaconv.autograd.tape import Node, Primitive, is_recording, walk_backward
from numbaconv.memory import empty

__all__ = ["Tensor", "TensorLike", "apply", "record", "to_arrays"]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
PRIMITIVES = {name: Primitive(name, row) for name, row in GRADIENTS.items()}

Axis: TypeAlias = int | tuple[int, ...] | None


def to_floats(value: Any, dtype: Any, what: str) -> np.ndarray:
    """Return ``value`` as a float32 or float64 array; arrays of another type need an explicit ``dtype``."""
    if dtype is not None:
        dtype = np.dtype(dtype)
        if dtype not in FLOATS:
            raise TypeError(f"dtype must be float32 or float64. Received: dtype={dtype}")
        return np.asarray(value, dtype)
    if hasattr(value, "dtype") or hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.dtype not in FLOATS:
            raise TypeError(
                f"{what} must have dtype float32 or float64. Received an array of dtype {array.dtype}: "
                f'cast it first, for example {what}.astype("float32").'
            )
        return array
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{what} must be made of numbers. Received: {value!r}")
    return array.astype(np.float32)


class Tensor:
    """Hold a float array and, while gradients are wanted, the operation that made it.

    Arithmetic, indexing and the functions of `numbaconv.autograd.ops` and `numbaconv` take tensors and return
    tensors.  `backward` then gives every tensor made with ``requires_grad=True`` the gradient of the result.

    Parameters
    ----------
    data : array_like
        An array of float32 or float64 is used as it is, without a copy.  Python numbers and lists become float32.
    requires_grad : bool, default False
        Whether `backward` computes a gradient for this tensor.
    dtype : {"float32", "float64"}, optional
        Type to convert ``data`` to.

    Attributes
    ----------
    data : ndarray
        The values.  Change them in place only when no recorded operation still needs them, that is after `backward`.
    grad : ndarray or None
        The gradient that `backward` accumulated: shape and dtype of ``data``, memory of its own.  Only tensors that
        were made by hand get one, not the results of operations.
    requires_grad : bool

    Raises
    ------
    TypeError
        If ``data`` is an array of another dtype and ``dtype`` is not given, or ``dtype`` is not a supported one.

    Notes
    -----
    ``float32`` stays ``float32``: Python and NumPy scalars never change the type of a result, and integer or boolean
    arrays are converted to the tensor's type.  Two arrays of different float types give float64.

    ``==`` compares identity, so that tensors work as dictionary keys; ``<``, ``<=``, ``>``, ``>=`` give boolean arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv.autograd import Tensor
    >>> w = Tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    >>> loss = (w * w).sum()
    >>> loss.backward()
    >>> w.grad.tolist()
    [2.0, 4.0, 6.0]
    """

    __slots__ = ("__weakref__", "data", "grad", "node", "requires_grad")
    __array_ufunc__ = None  # array + tensor asks Tensor.__radd__

    data: np.ndarray
    grad: np.ndarray | None
    node: Node | None
    requires_grad: bool

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        self.data = to_floats(data.data if isinstance(data, Tensor) else data, dtype, "data")
        self.requires_grad = bool(requires_grad)
        self.grad = None
        self.node = None

    # ---- as an array ----

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.data.size

    def __len__(self) -> int:
        return len(self.data)

    def __float__(self) -> float:
        return self.item()

    def __repr__(self) -> str:
        values = np.array2string(self.data, separator=", ", prefix="Tensor(", threshold=100)
        suffix = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({values}, dtype={self.dtype}{suffix})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.requires_grad:
            raise TypeError(
                "this Tensor requires gradients, which an array cannot carry: tensor.numpy() has its values."
            )
        return np.array(self.data, dtype=dtype, copy=copy)

    @classmethod
    def __tensor_function__(cls, function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Take over a call of an array function of the package that got a tensor."""
        from numbaconv.autograd.hook import call_with_tensors  # which needs this class

        return call_with_tensors(function, args, keywords)

    def numpy(self) -> np.ndarray:
        """Return the values as an array; no copy."""
        return self.data

    def item(self) -> float:
        """Return the value of a tensor of one element as a Python float."""
        return self.data.item()

    def detach(self) -> Tensor:
        """Return a tensor of the same memory that is no longer tied to the tape."""
        return Tensor(self.data)

    def zero_grad(self) -> None:
        """Forget the accumulated gradient."""
        self.grad = None

    def backward(self, grad: Any = None, retain_graph: bool = False) -> None:
        """Compute the gradients of this tensor with respect to all tensors it was computed from.

        Each tensor made with ``requires_grad=True`` gets ``grad``, or has it increased.  The arrays saved on the way
        forward are freed as the walk passes them.

        Parameters
        ----------
        grad : array_like, shape of this tensor, optional
            Gradient of the final scalar with respect to this tensor; 1 by default, for a tensor of one element.
        retain_graph : bool, default False
            Keep the saved arrays, so that `backward` can run through the same operations again.

        Raises
        ------
        RuntimeError
            If nothing that led to this tensor requires a gradient, or its graph has been freed.
        ValueError
            If ``grad`` is missing for a tensor of several elements, or has another shape.

        Examples
        --------
        >>> from numbaconv.autograd import Tensor
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> (3 * x).backward([1.0, 10.0])
        >>> x.grad.tolist()
        [3.0, 30.0]
        """
        if not self.requires_grad:
            raise RuntimeError(
                "backward() needs a tensor that requires gradients: it was computed from tensors without "
                "requires_grad=True, or inside no_grad()."
            )
        if grad is None:
            if self.size != 1:
                raise ValueError(
                    f"backward() of a tensor of shape {self.shape} needs grad, an array of that shape. "
                    "For one number, reduce it first: tensor.sum().backward()."
                )
            seed = np.ones(self.shape, self.dtype)
        else:
            given = np.asarray(grad.data if isinstance(grad, Tensor) else grad)
            if given.shape != self.shape:
                raise ValueError(f"grad must have the tensor's shape, {self.shape}. Received: grad.shape={given.shape}")
            seed = empty(self.shape, self.dtype)
            seed[...] = given
        if self.node is None:
            self.grad = seed if self.grad is None else self.grad + seed
            return
        for leaf, gradient in walk_backward(self.node, seed, retain_graph):
            leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient

    # ---- operations; the functions of `ops` document them ----

    def __add__(self, other: TensorLike) -> Tensor:
        return apply("add", np.add, (self, other))

    def __radd__(self, other: TensorLike) -> Tensor:
        return apply("add", np.add, (other, self))

    def __sub__(self, other: TensorLike) -> Tensor:
        return apply("subtract", np.subtract, (self, other))

    def __rsub__(self, other: TensorLike) -> Tensor:
        return apply("subtract", np.subtract, (other, self))

    def __mul__(self, other: TensorLike) -> Tensor:
        return apply("multiply", np.multiply, (self, other))

    def __rmul__(self, other: TensorLike) -> Tensor:
        return apply("multiply", np.multiply, (other, self))

    def __truediv__(self, other: TensorLike) -> Tensor:
        return apply("divide", np.divide, (self, other))

    def __rtruediv__(self, other: TensorLike) -> Tensor:
        return apply("divide", np.divide, (other, self))

    def __pow__(self, other: TensorLike) -> Tensor:
        return apply("power", operator.pow, (self, other))

    def __rpow__(self, other: TensorLike) -> Tensor:
        return apply("power", operator.pow, (other, self))

    def __matmul__(self, other: TensorLike) -> Tensor:
        return apply("matmul", rules.matmul, (self, other))

    def __rmatmul__(self, other: TensorLike) -> Tensor:
        return apply("matmul", rules.matmul, (other, self))

    def __neg__(self) -> Tensor:
        return apply("negative", np.negative, (self,))

    def __abs__(self) -> Tensor:
        return apply("abs", np.abs, (self,))

    def __lt__(self, other: TensorLike) -> np.ndarray:
        return self.data < values(other)

    def __le__(self, other: TensorLike) -> np.ndarray:
        return self.data <= values(other)

    def __gt__(self, other: TensorLike) -> np.ndarray:
        return self.data > values(other)

    def __ge__(self, other: TensorLike) -> np.ndarray:
        return self.data >= values(other)

    def __getitem__(self, index: Any) -> Tensor:
        return apply("getitem", rules.getitem, (self,), index=index)

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Sum over axes, see `ops.sum`."""
        return apply("sum", np.sum, (self,), axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Average over axes, see `ops.mean`."""
        return apply("mean", np.mean, (self,), axis=axis, keepdims=keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Take the maximum over axes, see `ops.max`."""
        return apply("max", np.max, (self,), axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Take the minimum over axes, see `ops.min`."""
        return apply("min", np.min, (self,), axis=axis, keepdims=keepdims)

    def var(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Compute the variance over axes, see `ops.var`."""
        return apply("var", np.var, (self,), axis=axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Tensor:
        """Give another shape, as a tuple or as several integers."""
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], numbers.Integral) else shape
        return apply("reshape", rules.reshape, (self,), shape=shape)

    def transpose(self, *axes: Any) -> Tensor:
        """Permute the axes, given as a tuple or as several integers; reverse them by default."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], numbers.Integral) else axes or None
        return apply("transpose", np.transpose, (self,), axes=order)

    @property
    def T(self) -> Tensor:
        """The tensor with its axes reversed."""
        return self.transpose()

    def astype(self, dtype: Any) -> Tensor:
        """Convert to float32 or float64."""
        return apply("astype", to_dtype, (self,), dtype=dtype)


TensorLike: TypeAlias = Tensor | np.ndarray | float | Sequence[Any]


def wrap(y: Any) -> Tensor:
    """Return a tensor of a float array, without checks and without a node."""
    result = Tensor.__new__(Tensor)
    result.data = y
    result.grad = result.node = None
    result.requires_grad = False
    return result


def values(operand: Any) -> Any:
    """Return the array of a tensor, anything else as it is."""
    return operand.data if isinstance(operand, Tensor) else operand


def to_dtype(x: np.ndarray, dtype: Any) -> np.ndarray:
    return to_floats(x, dtype, "x")


def to_arrays(name: str, operands: Sequence[Any]) -> list[Any]:
    """Return the operands of primitive ``name`` as float arrays, Python floats or None.

    The first tensor or float array gives the type: scalars stay Python floats, which NumPy never lets change a type,
    and integer arrays are converted to it.
    """
    dtype = next((o.dtype for o in operands if isinstance(o, (Tensor, np.ndarray)) and o.dtype in FLOATS), None)
    names = PRIMITIVES[name].operands
    arrays: list[Any] = []
    for i, operand in enumerate(operands):
        if isinstance(operand, Tensor):
            arrays.append(operand.data)
        elif operand is None:
            arrays.append(None)
        elif dtype is not None and isinstance(operand, (numbers.Real, np.number, np.bool_)):
            arrays.append(float(operand))
        elif dtype is not None and (not hasattr(operand, "dtype") or operand.dtype.kind in "biu"):
            arrays.append(np.asarray(operand, dtype))
        else:
            arrays.append(to_floats(operand, None, names[min(i, len(names) - 1)].lstrip("*")))
    return arrays


def apply(name: str, forward: Callable[..., Any], operands: Sequence[Any], **options: Any) -> Any:
    """Compute ``forward(*operands, **options)`` and record it as primitive ``name`` of the gradient table.

    Without a tensor among the operands the result is an array and nothing is recorded.
    """
    arrays = to_arrays(name, operands)
    y = compute(forward, *arrays) if isinstance(forward, np.ufunc) else forward(*arrays, **options)
    return record(name, y, operands, arrays, **options)


def record(name: str, y: Any, operands: Sequence[Any], arrays: Sequence[Any], **context: Any) -> Any:
    """Wrap the result ``y`` of primitive ``name`` in a tensor, with a node if a gradient can be wanted.

    ``context`` holds the options of the call and further values that the rules name.
    """
    tensors = [operand if isinstance(operand, Tensor) else None for operand in operands]
    if not any(tensor is not None for tensor in tensors):
        return y
    result = wrap(y if type(y) is np.ndarray else np.asarray(y))
    if is_recording():
        targets = [None if t is None or not t.requires_grad else t if t.node is None else t.node for t in tensors]
        if any(target is not None for target in targets):
            result.requires_grad = True
            result.node = Node(PRIMITIVES[name], result.data, arrays, targets, context)
    return result
