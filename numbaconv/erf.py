"""The error function for arrays, in NumPy.

NumPy has no ``erf`` and the package does not depend on SciPy.  ``float64`` follows fdlibm's ``s_erf.c`` (Sun
Microsystems, 1993): one rational approximation per interval of ``|x|``, error below one unit in the last place.
``float32`` is computed in ``float64`` block by block and rounded once.
"""

from __future__ import annotations

import numpy as np

__all__ = ["erf"]

# Elements per block: every temporary of a block (64 KiB in float64) stays in the second-level cache.
BLOCK = 8192

# Coefficients are listed from the constant term upwards, named as in s_erf.c.
ERX = 8.45062911510467529297e-01
PP = (1.28379167095512558561e-01, -3.25042107247001499370e-01, -2.84817495755985104766e-02,
      -5.77027029648944159157e-03, -2.37630166566501626084e-05)  # fmt: skip
QQ = (1.0, 3.97917223959155352819e-01, 6.50222499887672944485e-02, 5.08130628187576562776e-03,
      1.32494738004321644526e-04, -3.96022827877536812320e-06)  # fmt: skip
PA = (-2.36211856075265944077e-03, 4.14856118683748331666e-01, -3.72207876035701323847e-01,
      3.18346619901161753674e-01, -1.10894694282396677476e-01, 3.54783043256182359371e-02,
      -2.16637559486879084300e-03)  # fmt: skip
QA = (1.0, 1.06420880400844228286e-01, 5.40397917702171048937e-01, 7.18286544141962662868e-02,
      1.26171219808761642112e-01, 1.36370839120290507362e-02, 1.19844998467991074170e-02)  # fmt: skip
RA = (-9.86494403484714822705e-03, -6.93858572707181764372e-01, -1.05586262253232909814e01,
      -6.23753324503260060396e01, -1.62396669462573470355e02, -1.84605092906711035994e02,
      -8.12874355063065934246e01, -9.81432934416914548592e00)  # fmt: skip
SA = (1.0, 1.96512716674392571292e01, 1.37657754143519042600e02, 4.34565877475229228821e02,
      6.45387271733267880336e02, 4.29008140027567833386e02, 1.08635005541779435134e02,
      6.57024977031928170135e00, -6.04244152148580987438e-02)  # fmt: skip
RB = (-9.86494292470009928597e-03, -7.99283237680523006574e-01, -1.77579549177547519889e01,
      -1.60636384855821916062e02, -6.37566443368389627722e02, -1.02509513161107724954e03,
      -4.83519191608651397019e02)  # fmt: skip
SB = (1.0, 3.03380607434824582924e01, 3.25792512996573918826e02, 1.53672958608443695994e03,
      3.19985821950859553908e03, 2.55305040643316442583e03, 4.74528541206955367215e02,
      -2.24409524465858183362e01)  # fmt: skip


def erf(x: np.ndarray) -> np.ndarray:
    """Compute the error function ``2/sqrt(pi) * integral of exp(-t**2) from 0 to x`` of each element.

    Parameters
    ----------
    x : ndarray of float32 or float64

    Returns
    -------
    ndarray
        Shape and dtype of ``x``.

    Examples
    --------
    >>> import numpy as np
    >>> erf(np.array([0.0, 0.5, -2.0])).round(6).tolist()
    [0.0, 0.5205, -0.995322]
    """
    flat = np.ascontiguousarray(x).reshape(-1)
    y = np.empty(flat.shape, flat.dtype)
    for start in range(0, flat.size, BLOCK):
        y[start : start + BLOCK] = erf_block(flat[start : start + BLOCK].astype(np.float64, copy=False))
    return y.reshape(np.shape(x))


def erf_block(x: np.ndarray) -> np.ndarray:
    """Return erf of a one-dimensional float64 array: each interval of ``|x|`` by its own approximation."""
    size = np.abs(x)
    y = np.ones_like(x)  # |x| >= 6: erf differs from 1 by less than half a unit in the last place
    y[np.isnan(x)] = np.nan
    for low, high, approximation in INTERVALS:
        inside = (size >= low) & (size < high)
        if inside.any():
            y[inside] = approximation(size[inside])
    return np.copysign(y, x)


def polynomial(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """Evaluate a polynomial by Horner's rule, constant term first."""
    y = np.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        y *= x
        y += c
    return y


def near_zero(x: np.ndarray) -> np.ndarray:
    """Return erf for 0 <= x < 0.84375: x + x P(x**2) / Q(x**2)."""
    z = x * x
    return x + x * (polynomial(PP, z) / polynomial(QQ, z))


def near_one(x: np.ndarray) -> np.ndarray:
    """Return erf for 0.84375 <= x < 1.25: a rational function around 1."""
    s = x - 1.0
    return ERX + polynomial(PA, s) / polynomial(QA, s)


def tail(x: np.ndarray, numerator: tuple[float, ...], denominator: tuple[float, ...]) -> np.ndarray:
    """Return ``1 - exp(-x**2 - 0.5625 + R/S) / x`` with R, S polynomials in ``1 / x**2``."""
    s = 1.0 / (x * x)
    return 1.0 - np.exp(-x * x - 0.5625 + polynomial(numerator, s) / polynomial(denominator, s)) / x


INTERVALS = (
    (0.0, 0.84375, near_zero),
    (0.84375, 1.25, near_one),
    (1.25, 1.0 / 0.35, lambda x: tail(x, RA, SA)),
    (1.0 / 0.35, 6.0, lambda x: tail(x, RB, SB)),
)
