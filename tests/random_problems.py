"""Random convolutions: one recipe, drawn by NumPy for many in a row or by hypothesis for few that shrink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from problems import Problem, TransposedProblem

Choose = Callable[[Sequence[Any]], Any]

MODES = ("zeros", "reflect", "replicate", "circular")


def any_convolution(choose: Choose, ndims: Sequence[int] = (1, 2, 3, 4)) -> Problem:
    """Draw a convolution with at least one output position, whatever its options."""
    ndim = choose(ndims)
    kernel_size = [choose(range(1, 5)) for _ in range(ndim)]
    strides = tuple(choose(range(1, 4)) for _ in range(ndim))
    dilation = tuple(choose(range(1, 4)) for _ in range(ndim))
    # As long as the dilated kernel and four samples at least: enough for "valid" and for every padding mode.
    longest = {1: 40, 2: 14, 3: 6, 4: 4}[ndim]
    spatial = [max((k - 1) * d + 1, 4) + choose(range(longest)) for k, d in zip(kernel_size, dilation, strict=True)]
    padding = tuple(choose(["valid", "same", "causal", 0, 1, 3, (0, 2), (3, 1)]) for _ in range(ndim))
    groups, per_group, filters_per_group = choose([1, 1, 1, 2, 3, 8]), choose([1, 2, 3, 8, 17]), choose([1, 2, 5, 16])
    return Problem(
        "random",
        (choose([1, 2, 3]), *spatial, groups * per_group),
        (*kernel_size, per_group, groups * filters_per_group),
        {
            "strides": strides,
            "dilation_rate": dilation,
            "padding": padding,
            "padding_mode": tuple(choose(MODES) for _ in range(ndim)),
            "groups": groups,
        },
    )


def any_transposed(choose: Choose, ndims: Sequence[int] = (1, 2, 3, 4)) -> TransposedProblem:
    """Draw a transposed convolution; explicit padding never cuts more than the kernel reaches."""
    ndim = choose(ndims)
    kernel_size = [choose(range(1, 5)) for _ in range(ndim)]
    strides = tuple(choose(range(1, 4)) for _ in range(ndim))
    dilation = tuple(choose(range(1, 3)) for _ in range(ndim))
    longest = {1: 20, 2: 7, 3: 4, 4: 3}[ndim]
    padding, output_padding = choose(["valid", "same", "explicit"]), choose([None, "each"])
    if padding == "explicit":
        padding = tuple(
            (choose(range((k - 1) * d + 1)) // 2, choose(range((k - 1) * d + 1)) // 2)
            for k, d in zip(kernel_size, dilation, strict=True)
        )
    if output_padding == "each":
        output_padding = tuple(choose(range(s)) for s in strides)
    groups, per_group, filters_per_group = choose([1, 1, 2, 3]), choose([1, 2, 5, 17]), choose([1, 3, 8, 16])
    # Of one sample, "same" with output_padding may leave nothing.
    spatial = [(1 if output_padding is None else 2) + choose(range(longest)) for _ in range(ndim)]
    return TransposedProblem(
        "random transposed",
        (choose([1, 2]), *spatial, groups * per_group),
        (*kernel_size, filters_per_group, groups * per_group),
        {
            "strides": strides,
            "dilation_rate": dilation,
            "padding": padding,
            "output_padding": output_padding,
            "groups": groups,
        },
    )


def numpy_choice(rng: np.random.Generator) -> Choose:
    """Choose with a NumPy generator."""
    return lambda options: options[int(rng.integers(len(options)))]


@st.composite
def convolutions(draw, ndims: Sequence[int] = (1, 2, 3, 4)) -> Problem:
    """Draw convolutions that shrink towards the first option of every choice."""
    return any_convolution(lambda options: draw(st.sampled_from(options)), ndims)


@st.composite
def transposed_convolutions(draw, ndims: Sequence[int] = (1, 2, 3, 4)) -> TransposedProblem:
    """Draw transposed convolutions."""
    return any_transposed(lambda options: draw(st.sampled_from(options)), ndims)
