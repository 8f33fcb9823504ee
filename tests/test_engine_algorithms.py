"""Every algorithm, forced on every problem that it accepts, also where the planner would take another."""

from __future__ import annotations

import oracle
import pytest
from numpy.testing import assert_array_equal
from passes import case_id, draw, run
from problems import CONVOLUTIONS, DEPTHWISE, LARGE, TransposedProblem

from numbaconv import planner
from numbaconv.kernels.tile_sizes import DOT_PIXELS
from numbaconv.spec import resolve_conv

PROBLEMS = [p for p in [*CONVOLUTIONS, *LARGE] if not isinstance(p, TransposedProblem)]
ORACLE = {"forward": "conv", "input_grad": "conv_input_grad", "kernel_grad": "conv_kernel_grad"}


def spec_of(problem, dtype="float32"):
    return resolve_conv(problem.x_shape, problem.kernel_shape, dtype=dtype, **problem.options)


def second_choices():
    """List problem, direction and name of every exact algorithm that would run if those before it were not there."""
    return [
        (problem, direction, name)
        for problem in PROBLEMS
        for direction in planner.DIRECTIONS
        for name, refusal in planner.reasons(spec_of(problem), direction)
        if name != "winograd" and refusal is None and name != planner.choose(spec_of(problem), direction)
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("problem", "direction", "name"), second_choices(), ids=case_id)
def test_forced_algorithms_are_exact(problem, direction, name, dtype, rng):
    arrays = draw(problem, rng, dtype)
    first, second = {"forward": ("x", "kernel"), "input_grad": ("grad_y", "kernel"), "kernel_grad": ("x", "grad_y")}[
        direction
    ]
    engine = getattr(planner, direction)
    result = engine(spec_of(problem, dtype), arrays[first], arrays[second], algorithm=name)
    assert_array_equal(result, run(oracle, ORACLE[direction], problem, arrays))


@pytest.mark.parametrize("direction", planner.DIRECTIONS)
def test_the_last_algorithm_never_refuses(direction):
    for problem in PROBLEMS:
        name, refusal = planner.reasons(spec_of(problem), direction)[-1]
        assert (name, refusal) == ("direct", None)


@pytest.mark.parametrize("direction", planner.DIRECTIONS)
def test_every_algorithm_is_the_choice_of_some_problem(direction):
    listed = [name for name, _ in planner.reasons(spec_of(DEPTHWISE[0]), direction)]
    wide = resolve_conv((4, 28, 28, 64), (3, 3, 64, 64), padding="same")
    classes = resolve_conv((1, 64, 64, 64), (1, 1, 64, 2))
    specs = [wide, classes, *(spec_of(problem) for problem in PROBLEMS)]
    # Where registers are few, sums across their lanes have no tiles.
    able = {name for name in listed if name != "dot" or DOT_PIXELS}
    assert {planner.choose(spec, direction) for spec in specs} == able


def test_algorithms_say_why_they_refuse():
    for problem in PROBLEMS:
        for direction in planner.DIRECTIONS:
            for name, refusal in planner.reasons(spec_of(problem), direction):
                assert refusal is None or len(refusal.split()) > 2, (name, refusal)


def test_unknown_algorithm(rng):
    problem = PROBLEMS[0]
    arrays = draw(problem, rng, "float32")
    with pytest.raises(ValueError, match=r"^Unknown value for argument `algorithm`: 'fft'\. Choose one of \["):
        planner.forward(spec_of(problem), arrays["x"], arrays["kernel"], algorithm="fft")
