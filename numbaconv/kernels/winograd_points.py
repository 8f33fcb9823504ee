"""One-dimensional Winograd transforms of vectors at the points 0, +-5/8, +-3/2 and infinity.

A polynomial product is evaluated at six points, multiplied point by point and interpolated (Winograd 1980; Lavin and
Gray, arXiv:1509.09308, section 4.1). With r taps and m = 7 - r outputs, F(m, r), the sum of r products for each of m
outputs costs six multiplications instead of m * r. By the transposition principle the input is interpolated and the
result evaluated, so the transform of six inputs is the same for every r:

    y = A^T [(G w) * (B^T x)]    A^T: (m, 6)    G: (6, r)    B^T: (6, 6)

Fewer outputs than m need fewer points. The first p of 0, 5/8, -5/8, 3/2, -3/2 then make p + 1 - r outputs of the first
p inputs: kernel and result are transformed as before, with products of zero at all other points, and the input by a
B^T of its own, whose rows are multiplied by the differences to the absent finite points that the kernel's are divided
by. That of five points is the upper left part of the one of six.

The points are those of the least rounding error (Barabasz et al., arXiv:1803.10986, section 5, found +-5/8 and +-3/2
close to the best set; integers 1 and 2 have twice the error).
"""

from __future__ import annotations

from numbaconv.jit import inline
from numbaconv.simd.pointers import advance
from numbaconv.simd.vectors import at_least, fma, load, splat, store

POINTS = 6

A = 5 / 8
B = 3 / 2
A2, A3, A4 = A**2, A**3, A**4
B2, B3, B4 = B**2, B**3, B**4
A2B2 = A2 * B2
MINUS_A, MINUS_B, MINUS_A2, MINUS_B2, MINUS_A2_B2 = -A, -B, -A2, -B2, -(A2 + B2)
# 1 / product of the differences to the other finite points, and its products with the powers of each point.
SCALE_0 = 1 / A2B2
SCALE_A = 1 / (2 * A2 * (A2 - B2))
SCALE_B = 1 / (2 * B2 * (B2 - A2))
SCALED_A, SCALED_A2, SCALED_A3, SCALED_A4 = SCALE_A * A, SCALE_A * A2, SCALE_A * A3, SCALE_A * A4
SCALED_B, SCALED_B2, SCALED_B3, SCALED_B4 = SCALE_B * B, SCALE_B * B2, SCALE_B * B3, SCALE_B * B4
MINUS_SCALED_A, MINUS_SCALED_B, MINUS_SCALED_A3, MINUS_SCALED_B3 = -SCALED_A, -SCALED_B, -SCALED_A3, -SCALED_B3
AB, TWO_B, SUM, DIFFERENCE, A2_MINUS_B2 = A * B, 2 * B, A + B, B - A, A2 - B2
MINUS_SUM, MINUS_DIFFERENCE = -SUM, -DIFFERENCE

LEAST_POINTS = 3
"""Fewest points that a tile of few outputs has."""

FEWER_POINTS = 5
"""Points from which on the transform of the input is that of all six."""


@inline
def transform_input(x, step, out, out_step):
    """Write B^T x: six vectors, `step` apart, to six vectors `out_step` apart."""
    transform_inputs(
        x, advance(x, step), advance(x, 2 * step), advance(x, 3 * step), advance(x, 4 * step), advance(x, 5 * step),
        out, out_step,
    )  # fmt: skip


@inline
def transform_inputs(p0, p1, p2, p3, p4, p5, out, out_step):
    """Write B^T x: six vectors that lie anywhere, to six vectors `out_step` apart."""
    x1, x2, x3, x4 = load(p1), load(p2), load(p3), load(p4)
    minus_a2, minus_b2 = splat(out, MINUS_A2), splat(out, MINUS_B2)
    even_a, odd_a = fma(minus_b2, x2, x4), fma(minus_b2, x1, x3)
    even_b, odd_b = fma(minus_a2, x2, x4), fma(minus_a2, x1, x3)
    a2b2, minus_sum = splat(out, A2B2), splat(out, MINUS_A2_B2)
    first, last = fma(a2b2, load(p0), fma(minus_sum, x2, x4)), fma(a2b2, x1, fma(minus_sum, x3, load(p5)))
    store(fma(splat(out, A), odd_a, even_a), advance(out, out_step))
    store(fma(splat(out, MINUS_A), odd_a, even_a), advance(out, 2 * out_step))
    store(fma(splat(out, B), odd_b, even_b), advance(out, 3 * out_step))
    store(fma(splat(out, MINUS_B), odd_b, even_b), advance(out, 4 * out_step))
    store(first, out)
    store(last, advance(out, 5 * out_step))


@inline
def transform_few_inputs(points, p0, p1, p2, p3, out, out_step):
    """Write B^T x for the first 3 or 4 points: as many vectors that lie anywhere, to vectors `out_step` apart."""
    x1, x2 = load(p1), load(p2)
    if points == 3:
        scale, odd = splat(out, A2_MINUS_B2), splat(out, A) * x1
        store(fma(splat(out, A2B2), load(p0), splat(out, MINUS_B2) * x2), out)
        store(scale * (x2 + odd), advance(out, out_step))
        store(scale * (x2 - odd), advance(out, 2 * out_step))
        return
    x3, product = load(p3), splat(out, AB) * x1
    odd, even = fma(splat(out, MINUS_A2), x1, x3), fma(splat(out, A2B2), load(p0), splat(out, MINUS_B2) * x2)
    store(fma(splat(out, B), odd, even), out)
    store(splat(out, SUM) * (fma(splat(out, MINUS_DIFFERENCE), x2, x3) - product), advance(out, out_step))
    store(splat(out, DIFFERENCE) * (fma(splat(out, MINUS_SUM), x2, x3) + product), advance(out, 2 * out_step))
    store(splat(out, TWO_B) * odd, advance(out, 3 * out_step))


@inline
def transform_kernel(w, step, taps, out, out_step):
    """Write G w: `taps` vectors, 2 to 5 and `step` apart, to six vectors `out_step` apart."""
    w0, w1 = load(w), load(advance(w, step))
    even_a, even_b, last = splat(w, SCALE_A) * w0, splat(w, SCALE_B) * w0, w1
    if taps > 2:
        last = load(advance(w, 2 * step))
        even_a, even_b = fma(splat(w, SCALED_A2), last, even_a), fma(splat(w, SCALED_B2), last, even_b)
    plus_a, minus_a = fma(splat(w, SCALED_A), w1, even_a), fma(splat(w, MINUS_SCALED_A), w1, even_a)
    plus_b, minus_b = fma(splat(w, SCALED_B), w1, even_b), fma(splat(w, MINUS_SCALED_B), w1, even_b)
    if taps > 3:
        last = load(advance(w, 3 * step))
        plus_a, minus_a = fma(splat(w, SCALED_A3), last, plus_a), fma(splat(w, MINUS_SCALED_A3), last, minus_a)
        plus_b, minus_b = fma(splat(w, SCALED_B3), last, plus_b), fma(splat(w, MINUS_SCALED_B3), last, minus_b)
    if taps > 4:
        last = load(advance(w, 4 * step))
        plus_a, minus_a = fma(splat(w, SCALED_A4), last, plus_a), fma(splat(w, SCALED_A4), last, minus_a)
        plus_b, minus_b = fma(splat(w, SCALED_B4), last, plus_b), fma(splat(w, SCALED_B4), last, minus_b)
    store(splat(w, SCALE_0) * w0, out)
    store(plus_a, advance(out, out_step))
    store(minus_a, advance(out, 2 * out_step))
    store(plus_b, advance(out, 3 * out_step))
    store(minus_b, advance(out, 4 * out_step))
    store(last, advance(out, 5 * out_step))


@inline
def combined(pointer, first, x, second, y, start):
    """Return first x + second y + start, registers of `pointer`'s type."""
    return fma(splat(pointer, first), x, fma(splat(pointer, second), y, start))


@inline
def transform_output(m, step, outputs, added, bound, y, y_step):
    """Write max(bound, A^T m + added): six vectors, `step` apart, to `outputs` vectors, 2 to 5 and `y_step` apart."""
    m1, m2, m3, m4 = (
        load(advance(m, step)), load(advance(m, 2 * step)), load(advance(m, 3 * step)), load(advance(m, 4 * step)),
    )  # fmt: skip
    even_a, odd_a, even_b, odd_b = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    infinity = load(advance(m, 5 * step)) + added
    store(at_least(load(m) + added + even_a + even_b, bound), y)
    if outputs == 2:
        store(at_least(combined(m, A, odd_a, B, odd_b, infinity), bound), advance(y, y_step))
        return
    store(at_least(combined(m, A, odd_a, B, odd_b, added), bound), advance(y, y_step))
    if outputs == 3:
        store(at_least(combined(m, A2, even_a, B2, even_b, infinity), bound), advance(y, 2 * y_step))
        return
    store(at_least(combined(m, A2, even_a, B2, even_b, added), bound), advance(y, 2 * y_step))
    if outputs == 4:
        store(at_least(combined(m, A3, odd_a, B3, odd_b, infinity), bound), advance(y, 3 * y_step))
        return
    store(at_least(combined(m, A3, odd_a, B3, odd_b, added), bound), advance(y, 3 * y_step))
    store(at_least(combined(m, A4, even_a, B4, even_b, infinity), bound), advance(y, 4 * y_step))


@inline
def transform_sums(m, step, outputs, y, y_step):
    """Write A^T m without bias and bound, the first half of a transform along two axes."""
    m1, m2, m3, m4 = (
        load(advance(m, step)), load(advance(m, 2 * step)), load(advance(m, 3 * step)), load(advance(m, 4 * step)),
    )  # fmt: skip
    even_a, odd_a, even_b, odd_b = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    infinity = load(advance(m, 5 * step))
    store(load(m) + even_a + even_b, y)
    if outputs == 2:
        store(combined(m, A, odd_a, B, odd_b, infinity), advance(y, y_step))
        return
    store(fma(splat(m, A), odd_a, splat(m, B) * odd_b), advance(y, y_step))
    if outputs == 3:
        store(combined(m, A2, even_a, B2, even_b, infinity), advance(y, 2 * y_step))
        return
    store(fma(splat(m, A2), even_a, splat(m, B2) * even_b), advance(y, 2 * y_step))
    if outputs == 4:
        store(combined(m, A3, odd_a, B3, odd_b, infinity), advance(y, 3 * y_step))
        return
    store(fma(splat(m, A3), odd_a, splat(m, B3) * odd_b), advance(y, 3 * y_step))
    store(combined(m, A4, even_a, B4, even_b, infinity), advance(y, 4 * y_step))
