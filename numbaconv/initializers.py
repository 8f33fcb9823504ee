"""Initial values of weights: constants, random distributions scaled by fan-in and fan-out, orthogonal matrices.

An initializer is called with a shape and a dtype. With an integer `seed` every call gives the same values, as in Keras;
with `seed=None` the values come from the run's stream (`numbaconv.set_seed`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numbaconv import seeding
from numbaconv.lookup import find

# Standard deviation of a standard normal truncated to [-2, 2]; dividing by it restores the variance asked for.
_TRUNCATED_STDDEV = 0.87962566103423978


def compute_fans(shape: Sequence[int]) -> tuple[int, int]:
    """Return the inputs and outputs per unit that a weight of `shape` connects.

    Keras's rule: the last two axes are inputs and outputs, all others the receptive field.

    Examples
    --------
    >>> compute_fans((3, 3, 16, 32))
    (144, 288)
    """
    if not shape:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    receptive_field = math.prod(shape[:-2])
    return shape[-2] * receptive_field, shape[-1] * receptive_field


class Initializer(ABC):
    """Rule for the first values of a weight."""

    @abstractmethod
    def __call__(self, shape: Sequence[int], dtype: str = "float32") -> np.ndarray:
        """Return a new array of `shape` and `dtype`."""

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"


class Constant(Initializer):
    """Fill with one value.

    Parameters
    ----------
    value : float
        The value of every element.
    """

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: str = "float32") -> np.ndarray:
        """Return a new array of `shape` and `dtype`."""
        return np.full(shape, self.value, dtype)


class Zeros(Initializer):
    """Fill with zeros."""

    def __call__(self, shape: Sequence[int], dtype: str = "float32") -> np.ndarray:
        """Return a new array of `shape` and `dtype`."""
        return np.zeros(shape, dtype)


class Ones(Initializer):
    """Fill with ones."""

    def __call__(self, shape: Sequence[int], dtype: str = "float32") -> np.ndarray:
        """Return a new array of `shape` and `dtype`."""
        return np.ones(shape, dtype)


class RandomInitializer(Initializer):
    """Base of initializers that draw from a stream.

    Parameters
    ----------
    seed : int, optional
        Seed of this initializer alone; None draws from the run's stream.
    """

    def __init__(self, seed: int | None = None) -> None:
        if seed is not None:
            seeding.make_generator(seed)
        self.seed = seed

    def stream(self) -> np.random.Generator:
        """Return the generator to draw from."""
        return seeding.generator() if self.seed is None else seeding.make_generator(self.seed)


class RandomNormal(RandomInitializer):
    """Draw from a normal distribution.

    Parameters
    ----------
    mean, stddev : float
        Its mean and standard deviation.
    seed : int, optional
        Seed of this initializer alone.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = mean
        self.stddev = stddev

    def __call__(self, shape: Sequence[int], dtype: str = "float32") -> np.ndarray:
        """Return a new array of `shape` and `dtype`."""
        return _scale(self.stream().standard_normal(shape, np.dtype(dtype)), self.stddev, self.mean)


class RandomUniform(RandomInitializer):
    """Draw from a uniform distribution over `[minval, maxval)`.

    Parameters
    ----------
    minval, maxval : float
        Its bounds.
    seed : int, optional
        Seed of this initializer alone.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.minval = minval
        self.maxval = maxval

    def __call__(self, shape: Sequence[int], dtype: str = "float32") -> np.ndarray:
        """Return a new array of `shape` and `dtype`."""
        return _scale(self.stream().random(shape, np.dtype(dtype)), self.maxval - self.minval, self.minval)


class TruncatedNormal(RandomInitializer):
    """Draw from a normal distribution, redrawing values more than two standard deviations from the mean.

    Parameters
    ----------
    mean, stddev : float
        Mean and standard deviation of the normal distribution before it is truncated.
    seed : int, optional
        Seed of this initializer alone.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = mean
        self.stddev = stddev

    def __call__(self, shape: Sequence[int], dtype: str = "float32") -> np.ndarray:
        """Return a new array of `shape` and `dtype`."""
        return _scale(_truncated_normal(self.stream(), shape, dtype), self.stddev, self.mean)


class VarianceScaling(RandomInitializer):
    r"""Draw with a variance of `scale / n`.

    Parameters
    ----------
    scale : float
        Positive factor of the variance.
    mode : {"fan_in", "fan_out", "fan_avg"}
        What n is: the inputs of a unit, its outputs, or their mean (`compute_fans`).
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}
        `uniform` draws from `[-limit, limit)` with `limit = sqrt(3 scale / n)`.
    seed : int, optional
        Seed of this initializer alone.

    Raises
    ------
    ValueError
        When `scale` is not positive or `mode` or `distribution` is unknown.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        if scale <= 0.0:
            raise ValueError(f"Argument `scale` must be positive float. Received: scale={scale}")
        _check_choice("mode", mode, ("fan_in", "fan_out", "fan_avg"))
        _check_choice("distribution", distribution, ("uniform", "truncated_normal", "untruncated_normal"))
        self.scale = scale
        self.mode = mode
        self.distribution = distribution

    def __call__(self, shape: Sequence[int], dtype: str = "float32") -> np.ndarray:
        """Return a new array of `shape` and `dtype`."""
        fan_in, fan_out = compute_fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        stream = self.stream()
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return _scale(stream.random(shape, np.dtype(dtype)), 2.0 * limit, -limit)
        if self.distribution == "truncated_normal":
            return _scale(_truncated_normal(stream, shape, dtype), math.sqrt(variance) / _TRUNCATED_STDDEV)
        return _scale(stream.standard_normal(shape, np.dtype(dtype)), math.sqrt(variance))


class GlorotUniform(VarianceScaling):
    """Draw from `[-limit, limit)` with `limit = sqrt(6 / (fan_in + fan_out))`.

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010), equation 16.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed)


class GlorotNormal(VarianceScaling):
    """Draw from a truncated normal of variance `2 / (fan_in + fan_out)`.

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010), equation 12.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed)


class HeUniform(VarianceScaling):
    """Draw from `[-limit, limit)` with `limit = sqrt(6 / fan_in)`.

    References
    ----------
    He et al., "Delving deep into rectifiers" (2015), section 2.2.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(2.0, "fan_in", "uniform", seed)


class HeNormal(VarianceScaling):
    """Draw from a truncated normal of variance `2 / fan_in`.

    References
    ----------
    He et al., "Delving deep into rectifiers" (2015), section 2.2.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(2.0, "fan_in", "truncated_normal", seed)


class LecunUniform(VarianceScaling):
    """Draw from `[-limit, limit)` with `limit = sqrt(3 / fan_in)`.

    References
    ----------
    LeCun et al., "Efficient BackProp" (1998), section 4.6.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_in", "uniform", seed)


class LecunNormal(VarianceScaling):
    """Draw from a truncated normal of variance `1 / fan_in`.

    References
    ----------
    LeCun et al., "Efficient BackProp" (1998), section 4.6.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_in", "truncated_normal", seed)


class Orthogonal(RandomInitializer):
    """Fill with a random matrix of orthonormal rows or columns, whichever are fewer.

    The matrix has the last axis as columns and all others, flattened, as rows.

    Parameters
    ----------
    gain : float
        Factor of the matrix.
    seed : int, optional
        Seed of this initializer alone.

    References
    ----------
    Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks" (2014).
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: str = "float32") -> np.ndarray:
        """Return a new array of `shape` and `dtype`."""
        if len(shape) < 2:
            raise ValueError(
                "The tensor to initialize must be at least two-dimensional. "
                f"Received: shape={tuple(shape)} of rank {len(shape)}."
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        normal = self.stream().standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(normal)
        # Signs of r's diagonal make the distribution uniform over orthogonal matrices.
        q *= np.where(np.diag(r) < 0.0, -1.0, 1.0)
        matrix = q if rows >= columns else q.T
        return np.ascontiguousarray(self.gain * matrix.reshape(shape), dtype)


def _truncated_normal(stream: np.random.Generator, shape: Sequence[int], dtype: str) -> np.ndarray:
    """Return standard normal values within [-2, 2]."""
    values = stream.standard_normal(shape, np.dtype(dtype))
    flat = values.reshape(-1)
    outside = np.flatnonzero(np.abs(flat) > 2.0)
    while outside.size:
        flat[outside] = stream.standard_normal(outside.size, np.dtype(dtype))
        outside = outside[np.abs(flat[outside]) > 2.0]
    return values


def _scale(values: np.ndarray, factor: float, shift: float = 0.0) -> np.ndarray:
    """Multiply and shift in place."""
    values *= factor
    values += shift
    return values


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(
            f"Invalid `{name}` argument: {value!r}. Expected one of {', '.join(repr(item) for item in allowed)}."
        )


_TABLE: dict[str, Callable[..., Initializer]] = {
    "zeros": Zeros,
    "ones": Ones,
    "constant": Constant,
    "random_normal": RandomNormal,
    "random_uniform": RandomUniform,
    "truncated_normal": TruncatedNormal,
    "variance_scaling": VarianceScaling,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_uniform": LecunUniform,
    "lecun_normal": LecunNormal,
    "orthogonal": Orthogonal,
}


def get(identifier: Any) -> Callable[..., np.ndarray]:
    """Return the initializer a name, a class or a callable stands for.

    Parameters
    ----------
    identifier : str, type or callable
        A name such as `"he_normal"`, an `Initializer` class or object, or a function of `(shape, dtype=...)`.

    Raises
    ------
    ValueError, TypeError
        When the name is unknown or the object cannot be called.
    """
    return find("initializer", identifier, _TABLE)
