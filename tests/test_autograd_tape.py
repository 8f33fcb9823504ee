"""The tape: what tensors are, how gradients travel and accumulate, what is kept and freed, threads, errors."""

import gc
import threading
import weakref

import numpy as np
import pytest

from numbaconv.autograd import Tensor, grad_check, is_recording, no_grad, ops


def leaf(*values, dtype="float64"):
    return Tensor(list(values), requires_grad=True, dtype=dtype)


# ---- tensors ----


def test_arrays_are_used_without_a_copy_and_numbers_become_float32():
    array = np.ones((2, 3))
    assert Tensor(array).data is array
    assert Tensor(array).numpy() is array
    assert Tensor(Tensor(array)).data is array
    assert Tensor([1, 2.5]).dtype == np.float32
    assert Tensor(3).dtype == np.float32
    assert Tensor([1, 2], dtype="float64").dtype == np.float64
    assert Tensor(np.arange(3), dtype="float32").dtype == np.float32


@pytest.mark.parametrize("dtype", ["int64", "float16", "bool", "complex64"])
def test_other_arrays_are_refused(dtype):
    message = (
        rf"^data must have dtype float32 or float64\. Received an array of dtype {dtype}: cast it first, for example "
        r'data\.astype\("float32"\)\.$'
    )
    with pytest.raises(TypeError, match=message):
        Tensor(np.ones(3, dtype))


def test_other_types_are_refused():
    with pytest.raises(TypeError, match=r"^dtype must be float32 or float64\. Received: dtype=float16$"):
        Tensor([1.0], dtype="float16")
    with pytest.raises(TypeError, match=r"^data must be made of numbers\. Received: 'one'$"):
        Tensor("one")
    with pytest.raises(TypeError, match=r"^x must have dtype float32 or float64\. Received an array of dtype int64"):
        ops.relu(np.arange(3))


def test_a_tensor_looks_like_an_array():
    t = Tensor(np.arange(6.0).reshape(2, 3))
    assert (t.shape, t.ndim, t.size, len(t), t.dtype) == ((2, 3), 2, 6, 2, np.float64)
    assert t.T.shape == (3, 2)
    assert [row.shape for row in t] == [(3,), (3,)]
    assert float(t.sum()) == t.sum().item() == 15.0
    assert (t > 2).tolist() == [[False, False, False], [True, True, True]]
    assert (t <= t.data).all() and (t >= 0).all() and not (t < Tensor(0.0)).any()
    assert repr(Tensor([1.0], requires_grad=True)) == "Tensor([1.], dtype=float32, requires_grad=True)"
    assert len({t, t, Tensor(t.data)}) == 2


def test_numpy_conversion_is_refused_only_where_a_gradient_would_be_lost():
    assert np.asarray(Tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    message = r"^this Tensor requires gradients, which an array cannot carry: tensor\.numpy\(\) has its values\.$"
    with pytest.raises(TypeError, match=message):
        np.asarray(leaf(1.0))
    with pytest.raises(TypeError):
        np.exp(leaf(1.0))


def test_operations_without_tensors_return_arrays():
    joined = ops.concatenate([np.ones(2), np.ones(1)])
    for y in (ops.relu([1.0]), joined, ops.softmax_cross_entropy(np.ones((1, 2)), [1])):
        assert type(y) is np.ndarray
    assert ops.relu([1.0]).dtype == np.float32


def test_arrays_on_the_left_give_tensors():
    x = leaf(1.0, 2.0)
    for y in (np.ones(2) + x, np.ones(2) - x, np.ones(2) * x, np.ones(2) / x, np.ones(2) ** x, np.ones((1, 2)) @ x):
        assert type(y) is Tensor and y.requires_grad


@pytest.mark.parametrize(
    "operate",
    [
        lambda x: x * 2,
        lambda x: 2.5 + x,
        lambda x: x / np.sqrt(2.0),
        lambda x: np.float64(3) - x,
        lambda x: x**2,
        lambda x: x * np.arange(3),
        lambda x: x * (x > 0),
        lambda x: ops.where(x > 0, x, 0.1),
        lambda x: ops.maximum(x, np.float64(0.5)),
        lambda x: x - [1, 2, 3],
        lambda x: x.mean() * 2.0,
    ],
)
def test_scalars_and_integers_do_not_change_the_type(operate):
    y = operate(leaf(-1.0, 0.0, 2.0, dtype="float32"))
    assert y.dtype == np.float32
    y.sum().backward()


def test_a_float32_operand_of_a_float64_result_gets_a_float32_gradient():
    narrow, wide = leaf(1.0, 2.0, dtype="float32"), leaf(3.0, 4.0)
    (narrow * wide).sum().backward()
    assert (narrow.grad.dtype, wide.grad.dtype) == (np.float32, np.float64)


def test_subclasses_are_tensors_and_results_are_plain():
    class Parameter(Tensor):
        def __init__(self, data, name):
            super().__init__(data, requires_grad=True)
            self.name = name

    p = Parameter([1.0, 2.0], "kernel")
    y = p * 2
    assert type(y) is Tensor
    y.sum().backward()
    assert p.grad.tolist() == [2, 2]


# ---- backward ----


def test_gradients_add_up_over_uses_and_over_calls():
    x = leaf(3.0)
    (x * x + x).backward()
    assert x.grad.tolist() == [7]
    (2 * x).backward()
    assert x.grad.tolist() == [9]
    x.zero_grad()
    assert x.grad is None


def test_shared_branches_are_walked_once_and_in_order():
    x = leaf(0.5)
    a = ops.exp(x)
    b = a * a
    c = a + b
    (b * c + a).backward()
    assert x.grad[0] == pytest.approx(4 * np.exp(2.0) + 3 * np.exp(1.5) + np.exp(0.5))


def test_gradients_of_several_leaves_share_no_memory():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    seed = np.ones(2)
    (a + b).backward(seed)
    a.grad += 5
    seed += 7
    assert b.grad.tolist() == [1, 1]
    a.zero_grad()
    y = ops.concatenate([a, b])
    y.reshape(2, 2).backward(np.ones((2, 2)))
    a.grad *= 0
    assert b.grad.tolist() == [2, 2]
    assert a.grad.flags.writeable
    x = leaf(1.0, 2.0)
    x.sum().backward()
    x.grad += 1
    assert x.grad.tolist() == [2, 2]


def test_an_accumulated_gradient_is_a_new_array():
    x = leaf(1.0)
    x.sum().backward()
    first = x.grad
    x.sum().backward()
    assert first.tolist() == [1] and x.grad.tolist() == [2]


def test_backward_of_a_leaf():
    x = leaf(1.0)
    x.backward()
    x.backward([2.0])
    assert x.grad.tolist() == [3]


def test_backward_takes_the_gradient_of_a_larger_result():
    x = leaf(1.0, 2.0)
    (x * x).backward(Tensor([10.0, 1.0]))
    assert x.grad.tolist() == [20, 4]


def test_results_of_operations_get_no_grad_attribute_value():
    x = leaf(1.0)
    y = x * 2
    (y * y).backward()
    assert y.grad is None and x.grad.tolist() == [8]


def test_constants_get_no_gradient_and_no_node():
    x, constant = leaf(1.0), Tensor([2.0], dtype="float64")
    (x * constant).backward()
    assert constant.grad is None
    assert (constant * constant).node is None


def test_detached_tensors_share_memory_but_not_the_graph():
    x = leaf(3.0)
    detached = (x * 2).detach()
    assert not detached.requires_grad
    (x * detached).backward()
    assert x.grad.tolist() == [6]


def test_errors_of_backward():
    message = (
        r"^backward\(\) of a tensor of shape \(2,\) needs grad, an array of that shape\. For one number, reduce it "
        r"first: tensor\.sum\(\)\.backward\(\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        leaf(1.0, 2.0).backward()
    with pytest.raises(ValueError, match=r"^grad must have the tensor's shape, \(2,\)\. Received: grad\.shape=\(1,\)$"):
        leaf(1.0, 2.0).backward([1.0])
    message = (
        r"^backward\(\) needs a tensor that requires gradients: it was computed from tensors without "
        r"requires_grad=True, or inside no_grad\(\)\.$"
    )
    with pytest.raises(RuntimeError, match=message):
        Tensor([1.0]).backward()


def test_a_second_backward_says_that_the_graph_is_freed():
    x = leaf(1.0)
    y = ops.exp(x)
    z = y * 2
    z.backward()
    message = (
        r"^backward\(\) has already run through this graph and freed its saved arrays \(at the operation '{}'\): "
        r"compute the result again, or give the earlier backward\(\) retain_graph=True\.$"
    )
    with pytest.raises(RuntimeError, match=message.format("multiply")):
        z.backward()
    with pytest.raises(RuntimeError, match=message.format("exp")):
        (y + 1).backward()
    assert x.grad[0] == 2 * np.exp(1.0)


def test_a_retained_graph_can_be_walked_again():
    x = leaf(3.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [12]


def test_a_failed_walk_leaves_the_leaves_as_they_were():
    x = leaf(1.0)
    y = ops.exp(x)
    y.backward()
    with pytest.raises(RuntimeError):
        (y + x * 3).backward()
    assert x.grad[0] == np.exp(1.0)


def test_chains_of_any_length():
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y + 1.0
    y.backward()
    assert x.grad.tolist() == [1]
    y = x
    for _ in range(20_000):
        y = y + 1.0
    del y  # an unused chain is freed without recursion as well


# ---- memory ----


def saved_arrays(tensor):
    return {name for name, value in tensor.node.saved.items() if isinstance(value, np.ndarray) and value.size > 1}


def test_only_what_the_wanted_gradients_need_is_kept():
    x, constant = leaf(1.0, 2.0, 3.0), Tensor([4.0, 5.0, 6.0], dtype="float64")
    assert saved_arrays(x + constant) == set()
    assert saved_arrays(x * constant) == {"b"}
    assert saved_arrays(x * x) == {"a", "b"}
    assert saved_arrays(ops.relu(x)) == {"y"}
    assert saved_arrays(ops.exp(x)) == {"y"}
    assert saved_arrays(ops.log(x)) == {"x"}
    assert saved_arrays(x.sum()) == saved_arrays(x.reshape(3, 1)) == saved_arrays(x[1:]) == set()
    assert saved_arrays(x.reshape(1, 3) @ np.ones((3, 2))) == {"b"}


def test_nothing_is_copied_on_the_way_forward():
    x = leaf(1.0, 2.0, 3.0, 4.0)
    for y in (x.reshape(2, 2), x[1:3], x.T, ops.expand_dims(x, 0)):
        assert np.shares_memory(y.data, x.data)
    y = ops.log(x)
    assert y.node.saved["x"] is x.data
    z = ops.relu(y)
    assert z.node.saved["y"] is z.data


def test_intermediate_arrays_die_with_the_walk_and_graphs_with_their_last_tensor():
    gc.disable()  # reference counts alone must do it
    try:
        x = leaf(1.0, 2.0)
        hidden = ops.exp(x)
        array = weakref.ref(hidden.data)
        loss = (hidden * hidden).sum()
        del hidden
        assert array() is not None
        loss.backward()
        assert array() is None
        other = ops.exp(x)
        array = weakref.ref(other.data)
        del other
        assert array() is None
    finally:
        gc.enable()


# ---- no_grad ----


def test_no_grad_as_context_manager_and_decorator():
    x = leaf(1.0)

    @no_grad()
    def double(t):
        return t * 2

    with no_grad():
        assert not is_recording()
        with no_grad():
            pass
        assert not is_recording()
        assert not (x * 2).requires_grad
    assert is_recording()
    assert not double(x).requires_grad
    assert (x * 2).requires_grad
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert is_recording()


def test_no_grad_is_for_one_thread():
    x = leaf(1.0)
    inside, checked = threading.Event(), threading.Event()

    def without():
        with no_grad():
            inside.set()
            checked.wait()

    thread = threading.Thread(target=without)
    thread.start()
    inside.wait()
    assert is_recording() and (x * 2).requires_grad
    checked.set()
    thread.join()


def test_threads_have_tapes_of_their_own():
    results = {}

    def work(k):
        x = leaf(*np.linspace(0, 1, 100))
        for _ in range(20):
            x.zero_grad()
            (ops.tanh(x * k) * x).sum().backward()
        results[k] = x.grad

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    x = np.linspace(0, 1, 100)
    for k, grad in results.items():
        np.testing.assert_allclose(grad, np.tanh(k * x) + k * x * (1 - np.tanh(k * x) ** 2), atol=1e-14)


# ---- grad_check ----


def test_grad_check_returns_the_worst_relative_error():
    assert grad_check(ops.matmul, np.ones((2, 3)), np.ones((3, 2)), eps=1.0) < 1e-14
    assert 0 < grad_check(ops.exp, np.array([1.0, 2.0])) < 1e-6


def test_grad_check_does_not_change_its_arguments():
    x = np.arange(3.0)
    grad_check(ops.square, x)
    assert x.tolist() == [0, 1, 2]
