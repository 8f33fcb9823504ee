"""Random streams of a run: one seed decides weights, dropout masks and the order of batches.

Everything random in layers and training asks `generator()` for its stream. That is the stream of the innermost
`use_generator` block (a model with its own seed opens one around its work), or else the process-wide stream, which
`set_seed` restarts.
"""

from __future__ import annotations

from contextvars import ContextVar, Token

import numpy as np

_ACTIVE: ContextVar[np.random.Generator | None] = ContextVar("numbaconv_generator", default=None)
_process_generator = np.random.default_rng()


def set_seed(seed: int) -> None:
    """Restart the process-wide random stream.

    Weights initialised, dropout masks drawn and batches shuffled after this call are the same, bit for bit, in every
    run that makes the same calls in the same order on one thread.

    Parameters
    ----------
    seed : int
        Non-negative seed of the stream.

    Raises
    ------
    TypeError, ValueError
        When `seed` is not a non-negative integer.

    Examples
    --------
    >>> import numbaconv as nc
    >>> nc.set_seed(7)
    >>> first = nc.initializers.GlorotUniform()((3, 4))
    >>> nc.set_seed(7)
    >>> bool((nc.initializers.GlorotUniform()((3, 4)) == first).all())
    True
    """
    global _process_generator
    _process_generator = make_generator(seed)


def make_generator(seed: int) -> np.random.Generator:
    """Return a new stream started at `seed`."""
    if isinstance(seed, bool) or not hasattr(type(seed), "__index__"):
        raise TypeError(f"`seed` must be a non-negative integer. Received: seed={seed!r}. Pass for example seed=0.")
    if seed < 0:
        raise ValueError(f"`seed` must be a non-negative integer. Received: seed={seed!r}. Pass for example seed=0.")
    return np.random.default_rng(int(seed))


def generator() -> np.random.Generator:
    """Return the stream that random choices draw from at this point."""
    return _ACTIVE.get() or _process_generator


class use_generator:
    """Make `stream` the one `generator` returns inside the block; None leaves it unchanged.

    A class, as every call of a model opens such a block: a generator function takes a microsecond more.
    """

    __slots__ = ("_stream", "_token")

    def __init__(self, stream: np.random.Generator | None) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        self._token: Token | None = None if self._stream is None else _ACTIVE.set(self._stream)

    def __exit__(self, *exception: object) -> None:
        if self._token is not None:
            _ACTIVE.reset(self._token)
