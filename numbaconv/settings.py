"""Settings of the whole process: `numbaconv.config`."""

from __future__ import annotations

from collections.abc import Callable

_changed: list[Callable[[], object]] = []


def on_change(function: Callable[[], object]) -> Callable[[], object]:
    """Call ``function`` after every change of a setting: it forgets what depended on the old value."""
    _changed.append(function)
    return function


class Config:
    """Settings that apply to every call from now on, on all threads.

    Examples
    --------
    >>> import numbaconv as nc
    >>> nc.config.winograd
    True
    >>> nc.config.winograd = False  # every convolution by the direct algorithm
    >>> nc.config.winograd = True
    """

    __slots__ = ("_winograd",)

    def __init__(self) -> None:
        self._winograd = True

    @property
    def winograd(self) -> bool:
        """Whether convolutions in float32 may use Winograd's algorithm where it is estimated to be faster.

        It rounds differently from the direct algorithm: with 3x3 kernels the root mean square error of results and
        input gradients is at most 2.5 times the direct one's, that of kernel gradients at most 4 times (about 1e-6 of
        the gradient's root mean square). A call's own ``algorithm=`` goes before this setting.
        """
        return self._winograd

    @winograd.setter
    def winograd(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"config.winograd={value!r}: must be True or False")
        self._winograd = value
        for function in _changed:
            function()

    def __repr__(self) -> str:
        return f"Config(winograd={self._winograd})"


config = Config()
