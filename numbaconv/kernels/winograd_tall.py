"""One-dimensional Winograd transforms of vectors at the points 0, +-1/2, +-1, +-2 and infinity, of *tall* tiles.

As those of `numbaconv.kernels.winograd_points` with eight points: r taps and m = 9 - r outputs, F(m, r). Five taps take
eight products for four outputs, where six points take twelve. Their error is larger, so only rows are transformed
this way, and columns at six points. Powers of two are exact and leave few roundings.

    y = A^T [(G w) * (B^T x)]    A^T: (m, 8)    G: (8, r)    B^T: (8, 8)

B^T is that of F(6, 3), and of every other r (Lavin and Gray, arXiv:1509.09308, section 4.1).
"""

from __future__ import annotations

from numbaconv.jit import inline
from numbaconv.kernels.winograd_points import POINTS
from numbaconv.simd.pointers import advance
from numbaconv.simd.vectors import fma, load, splat, store

TALL_POINTS = 8
TALL_TAPS = 5

TILE_REGISTERS = TALL_POINTS * POINTS + TALL_POINTS
"""Registers of a buffer that holds a tile of any kind between the transforms along its two axes, and a row more."""

# Sums and products of two and of all three squares of 1/2, 1 and 2.
MINUS_SUM_1_2, MINUS_SUM_HALF_2, MINUS_SUM_HALF_1 = -5.0, -4.25, -1.25
PRODUCT_1_2, PRODUCT_HALF_1 = 4.0, 0.25
SUM = 5.25
HALF, MINUS_HALF, TWO, MINUS_TWO = 0.5, -0.5, 2.0, -2.0

# 1 / product of the differences to the other finite points, and its products with the powers of each point.
SCALE_HALF, SCALE_1, SCALE_2 = 32 / 45, -2 / 9, 1 / 90
HALF_1, HALF_2, HALF_3, HALF_4 = SCALE_HALF / 2, SCALE_HALF / 4, SCALE_HALF / 8, SCALE_HALF / 16
TWO_1, TWO_2, TWO_3, TWO_4 = SCALE_2 * 2, SCALE_2 * 4, SCALE_2 * 8, SCALE_2 * 16
MINUS_HALF_1, MINUS_SCALE_1, MINUS_TWO_1 = -HALF_1, -SCALE_1, -TWO_1
MINUS_HALF_3, MINUS_TWO_3 = -HALF_3, -TWO_3


@inline
def transform_tall_input(x, step, out, out_step):
    """Write B^T x: eight vectors, `step` apart, to eight vectors `out_step` apart."""
    x1, x2, x3 = load(advance(x, step)), load(advance(x, 2 * step)), load(advance(x, 3 * step))
    x4, x5, x6 = load(advance(x, 4 * step)), load(advance(x, 5 * step)), load(advance(x, 6 * step))
    minus_5, minus_4, minus_1 = splat(out, MINUS_SUM_1_2), splat(out, MINUS_SUM_HALF_2), splat(out, MINUS_SUM_HALF_1)
    four, quarter = splat(out, PRODUCT_1_2), splat(out, PRODUCT_HALF_1)
    even, odd = fma(four, x2, fma(minus_5, x4, x6)), fma(four, x1, fma(minus_5, x3, x5))
    store(fma(splat(out, HALF), odd, even), advance(out, out_step))
    store(fma(splat(out, MINUS_HALF), odd, even), advance(out, 2 * out_step))
    even, odd = fma(minus_4, x4, x6) + x2, fma(minus_4, x3, x5) + x1
    store(even + odd, advance(out, 3 * out_step))
    store(even - odd, advance(out, 4 * out_step))
    even, odd = fma(quarter, x2, fma(minus_1, x4, x6)), fma(quarter, x1, fma(minus_1, x3, x5))
    store(fma(splat(out, TWO), odd, even), advance(out, 5 * out_step))
    store(fma(splat(out, MINUS_TWO), odd, even), advance(out, 6 * out_step))
    store(fma(splat(out, SUM), x4 - x2, load(x) - x6), out)
    store(fma(splat(out, SUM), x3 - x5, load(advance(x, 7 * step)) - x1), advance(out, 7 * out_step))


@inline
def transform_tall_kernel(w, step, taps, out, out_step):
    """Write G w: `taps` vectors, 4 or 5 and `step` apart, to eight vectors `out_step` apart."""
    w0, w1, w2, w3 = load(w), load(advance(w, step)), load(advance(w, 2 * step)), load(advance(w, 3 * step))
    half, one, two = splat(w, SCALE_HALF) * w0, splat(w, SCALE_1) * w0, splat(w, SCALE_2) * w0
    half, one, two = fma(splat(w, HALF_2), w2, half), fma(splat(w, SCALE_1), w2, one), fma(splat(w, TWO_2), w2, two)
    last = w3
    if taps > 4:
        last = load(advance(w, 4 * step))
        half, one = fma(splat(w, HALF_4), last, half), fma(splat(w, SCALE_1), last, one)
        two = fma(splat(w, TWO_4), last, two)
    store(w0, out)
    store(fma(splat(w, HALF_3), w3, fma(splat(w, HALF_1), w1, half)), advance(out, out_step))
    store(fma(splat(w, MINUS_HALF_3), w3, fma(splat(w, MINUS_HALF_1), w1, half)), advance(out, 2 * out_step))
    store(fma(splat(w, SCALE_1), w3, fma(splat(w, SCALE_1), w1, one)), advance(out, 3 * out_step))
    store(fma(splat(w, MINUS_SCALE_1), w3, fma(splat(w, MINUS_SCALE_1), w1, one)), advance(out, 4 * out_step))
    store(fma(splat(w, TWO_3), w3, fma(splat(w, TWO_1), w1, two)), advance(out, 5 * out_step))
    store(fma(splat(w, MINUS_TWO_3), w3, fma(splat(w, MINUS_TWO_1), w1, two)), advance(out, 6 * out_step))
    store(last, advance(out, 7 * out_step))


@inline
def transform_tall_sums(m, step, outputs, y, y_step):
    """Write A^T m: eight vectors, `step` apart, to `outputs` vectors, 4 or 5 and `y_step` apart."""
    m1, m2, m3 = load(advance(m, step)), load(advance(m, 2 * step)), load(advance(m, 3 * step))
    m4, m5, m6 = load(advance(m, 4 * step)), load(advance(m, 5 * step)), load(advance(m, 6 * step))
    infinity = load(advance(m, 7 * step))
    even_half, odd_half, even_1, odd_1, even_2, odd_2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4, m5 + m6, m5 - m6
    store(load(m) + even_half + even_1 + even_2, y)
    store(fma(splat(m, 0.5), odd_half, fma(splat(m, 2.0), odd_2, odd_1)), advance(y, y_step))
    store(fma(splat(m, 0.25), even_half, fma(splat(m, 4.0), even_2, even_1)), advance(y, 2 * y_step))
    y3 = fma(splat(m, 0.125), odd_half, fma(splat(m, 8.0), odd_2, odd_1))
    if outputs == 4:
        store(y3 + infinity, advance(y, 3 * y_step))
        return
    store(y3, advance(y, 3 * y_step))
    y4 = fma(splat(m, 0.0625), even_half, fma(splat(m, 16.0), even_2, even_1))
    store(y4 + infinity, advance(y, 4 * y_step))
