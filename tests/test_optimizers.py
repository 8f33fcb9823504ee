"""Optimizers against their formulas written out in NumPy, against PyTorch, and against Keras's documented results."""

from __future__ import annotations

import copy
import tracemalloc

import numpy as np
import pytest

from numbaconv import Tensor, optimizers
from numbaconv.optimizers import SGD, Adam, AdamW, RMSprop

STEPS = 5


def gradients(rng):
    return [rng.normal(size=(3, 4)) for _ in range(STEPS)]


def run(optimizer, start, grads):
    weight = Tensor(start.copy(), requires_grad=True)
    for grad in grads:
        weight.grad = grad.copy()
        optimizer.apply([weight])
    return weight.data


def sgd(w, grads, rate=0.01, momentum=0.0, nesterov=False, decay=0.0):
    velocity = 0.0
    for g in grads:
        w = w - rate * decay * w
        velocity = momentum * velocity - rate * g
        w = w + (momentum * velocity - rate * g if nesterov else velocity)
    return w


def adam(w, grads, rate=0.001, b1=0.9, b2=0.999, epsilon=1e-7, amsgrad=False, decay=0.0):
    m = v = greatest = 0.0
    for t, g in enumerate(grads, start=1):
        w = w - rate * decay * w
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        greatest = np.maximum(greatest, v)
        alpha = rate * np.sqrt(1 - b2**t) / (1 - b1**t)
        w = w - alpha * m / (np.sqrt(greatest if amsgrad else v) + epsilon)
    return w


def rmsprop(w, grads, rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False):
    square = mean = velocity = 0.0
    for g in grads:
        square = rho * square + (1 - rho) * g**2
        mean = rho * mean + (1 - rho) * g
        step = rate * g / np.sqrt(square - (mean**2 if centered else 0.0) + epsilon)
        velocity = momentum * velocity + step
        w = w - (velocity if momentum else step)
    return w


@pytest.mark.parametrize(
    ("optimizer", "formula", "options"),
    [
        (SGD(), sgd, {}),
        (SGD(0.1, momentum=0.9), sgd, {"rate": 0.1, "momentum": 0.9}),
        (SGD(0.1, momentum=0.9, nesterov=True), sgd, {"rate": 0.1, "momentum": 0.9, "nesterov": True}),
        (SGD(0.1, weight_decay=0.2), sgd, {"rate": 0.1, "decay": 0.2}),
        (Adam(), adam, {}),
        (Adam(0.1, 0.8, 0.9, 1e-3), adam, {"rate": 0.1, "b1": 0.8, "b2": 0.9, "epsilon": 1e-3}),
        (Adam(0.1, beta_2=0.3, amsgrad=True), adam, {"rate": 0.1, "b2": 0.3, "amsgrad": True}),
        (AdamW(), adam, {"decay": 0.004}),
        (AdamW(0.1, 0.3), adam, {"rate": 0.1, "decay": 0.3}),
        (RMSprop(), rmsprop, {}),
        (RMSprop(0.1, 0.7, momentum=0.9), rmsprop, {"rate": 0.1, "rho": 0.7, "momentum": 0.9}),
        (RMSprop(0.1, centered=True, epsilon=1e-3), rmsprop, {"rate": 0.1, "centered": True, "epsilon": 1e-3}),
    ],
    ids=lambda value: (
        type(value).__name__ if isinstance(value, optimizers.Optimizer) else getattr(value, "__name__", str(value))
    ),
)
def test_formulas(optimizer, formula, options, rng):
    start, grads = rng.normal(size=(3, 4)), gradients(rng)
    np.testing.assert_allclose(
        run(copy.deepcopy(optimizer), start, grads), formula(start, grads, **options), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: SGD(0.1, 0.9), lambda t, p: t.optim.SGD(p, 0.1, 0.9)),
        (lambda: SGD(0.1, 0.9, True), lambda t, p: t.optim.SGD(p, 0.1, 0.9, nesterov=True)),
        (lambda: Adam(0.1, epsilon=0.0), lambda t, p: t.optim.Adam(p, 0.1, eps=0.0)),
        (lambda: AdamW(0.1, 0.2, epsilon=0.0), lambda t, p: t.optim.AdamW(p, 0.1, weight_decay=0.2, eps=0.0)),
        (lambda: RMSprop(0.1, 0.8, epsilon=0.0), lambda t, p: t.optim.RMSprop(p, 0.1, 0.8, eps=0.0)),
    ],
    ids=["sgd", "nesterov", "adam", "adamw", "rmsprop"],
)
def test_agreement_with_pytorch(ours, theirs, rng):
    torch = pytest.importorskip("torch")
    start, grads = rng.normal(size=(3, 4)), gradients(rng)
    weight = torch.tensor(start, requires_grad=True)
    optimizer = theirs(torch, [weight])
    for grad in grads:
        weight.grad = torch.tensor(grad)
        optimizer.step()
    np.testing.assert_allclose(run(ours(), start, grads), weight.detach().numpy(), rtol=1e-10)


def test_keras_documented_results():
    """First steps on w = 10, loss w^2 / 2, that is gradient 10, from the examples of Keras's optimizers."""
    ten = np.array([10.0])
    assert run(Adam(0.1), ten, [ten]) == pytest.approx(9.9)
    assert run(RMSprop(0.1), ten, [ten]) == pytest.approx(9.683772)
    assert run(SGD(0.1), ten, [ten]) == pytest.approx(9.0)


def test_defaults_are_keras_defaults():
    assert (SGD().learning_rate, SGD().momentum, SGD().nesterov) == (0.01, 0.0, False)
    adam = Adam()
    assert (adam.learning_rate, adam.beta_1, adam.beta_2, adam.epsilon) == (0.001, 0.9, 0.999, 1e-7)
    assert AdamW().weight_decay == 0.004
    rmsprop = RMSprop()
    assert (rmsprop.learning_rate, rmsprop.rho, rmsprop.momentum, rmsprop.epsilon) == (0.001, 0.9, 0.0, 1e-7)


@pytest.mark.parametrize("make", [SGD, lambda: SGD(momentum=0.9), Adam, AdamW, RMSprop, lambda: RMSprop(centered=True)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_updates_are_in_place_and_allocate_nothing_after_the_first(make, dtype, rng):
    weight = Tensor(rng.normal(size=(300, 400)).astype(dtype), requires_grad=True)
    array = weight.data
    optimizer = make()
    weight.grad = rng.normal(size=(300, 400)).astype(dtype)
    optimizer.apply([weight])
    gradient = weight.grad.copy()
    tracemalloc.start()
    optimizer.apply([weight])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < array.nbytes / 20
    assert weight.data is array
    assert array.dtype == dtype
    np.testing.assert_array_equal(weight.grad, gradient)


def test_parameters_without_gradient_are_left_alone():
    weight = Tensor(np.ones(3), requires_grad=True)
    AdamW(0.1).apply([weight])
    np.testing.assert_array_equal(weight.data, np.ones(3))


def test_weights_of_several_sizes_share_scratch_without_mixing(rng):
    sizes = [(2,), (5, 5), (3,)]
    start = [rng.normal(size=size) for size in sizes]
    grads = [[rng.normal(size=size) for size in sizes] for _ in range(3)]
    together = [Tensor(w.copy(), requires_grad=True) for w in start]
    optimizer = Adam(0.1)
    for step in grads:
        for weight, grad in zip(together, step, strict=True):
            weight.grad = grad
        optimizer.apply(together)
    for index, weight in enumerate(together):
        np.testing.assert_allclose(weight.data, adam(start[index], [g[index] for g in grads], rate=0.1), rtol=1e-12)


def test_names_and_classes():
    assert isinstance(optimizers.get("adam"), Adam)
    assert isinstance(optimizers.get("SGD"), SGD)
    assert isinstance(optimizers.get(AdamW), AdamW)
    given = RMSprop()
    assert optimizers.get(given) is given


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (
            lambda: SGD("fast"),
            ValueError,
            "Argument `learning_rate` should be float. Received instead: learning_rate='fast'. Pass a finite number >= "
            "0, for example 0.001; callbacks.LearningRateScheduler changes it during training.",
        ),
        (
            lambda: setattr(Adam(), "learning_rate", float("nan")),
            ValueError,
            "Argument `learning_rate` should be float. Received instead: learning_rate=nan. Pass a finite number >= 0, "
            "for example 0.001; callbacks.LearningRateScheduler changes it during training.",
        ),
        (
            lambda: SGD(momentum=2),
            ValueError,
            "`momentum` must be a float between [0, 1]. Received: momentum=2 (of type int). "
            "Pass for example momentum=0.9.",
        ),
        (
            lambda: Adam(beta_1=1.0),
            ValueError,
            "Argument `beta_1` must be in [0, 1). Received: beta_1=1.0. Pass for example 0.9.",
        ),
        (
            lambda: SGD(weight_decay=-1.0),
            ValueError,
            "Argument `weight_decay` must be in [0, 1]. Received: weight_decay=-1.0. Pass for example 0.01.",
        ),
        (
            lambda: optimizers.get("adm"),
            ValueError,
            "Unknown optimizer: 'adm'. Did you mean 'adam'? Names that work: 'adam', 'adamw', 'rmsprop', 'sgd'.",
        ),
        (
            lambda: optimizers.get(3),
            TypeError,
            "Could not interpret optimizer identifier: 3. Pass a name (one of 'adam', 'adamw', 'rmsprop', 'sgd'), or "
            "an object of class Optimizer.",
        ),
        (
            lambda: optimizers.get(print),
            TypeError,
            "Could not interpret optimizer identifier: <built-in function print>. Pass a name (one of 'adam', 'adamw', "
            "'rmsprop', 'sgd'), or an object of class Optimizer.",
        ),
        (
            lambda: AdamW(weight_decay=None),
            ValueError,
            "Argument `weight_decay` must be a float. Received: weight_decay=None. Use Adam for no weight decay.",
        ),
    ],
)
def test_error_text(make, kind, text):
    with pytest.raises(kind) as error:
        make()
    assert str(error.value) == text
