"""Arrays that go to a program of all layers at once: what the user's code says still holds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import numbaconv as nc
from numbaconv import layers
from numbaconv.layers.changes import LAST, Watched


def test_a_call_of_a_users_model_is_made(rng):
    class Doubled(nc.Sequential):
        def call(self, inputs, training=False):
            return 2 * super().call(inputs, training)

    x = rng.standard_normal((1, 9, 9, 3), np.float32)
    model, doubled = (kind([layers.Conv2D(4, 3)], seed=0) for kind in (nc.Sequential, Doubled))
    with nc.no_grad():
        for _ in range(3):
            assert_array_equal(doubled(x).numpy(), 2 * model(x).numpy())


def test_shapes_that_are_refused_stay_so(rng):
    """`call` itself checks no shapes of models, and makes programs for them."""
    model = nc.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(4, 3)])
    x = rng.standard_normal((1, 6, 7, 3), np.float32)
    with nc.no_grad():
        assert model.call(nc.Tensor(x)).shape == (1, 4, 5, 4)
        with pytest.raises(ValueError, match="incompatible with the layer"):
            model(x)


@pytest.mark.parametrize("shape", [(), (4, 3, 1), (4, 2)])
def test_inputs_that_differ_from_the_stated_shape_in_axes_or_sizes_are_refused(shape):
    stated = () if shape == () else (3,)
    with pytest.raises(ValueError, match="incompatible with the layer"):
        layers.Input(stated).check_input_shape(shape)


def test_an_array_is_handed_to_the_program_at_once(rng, monkeypatch):
    model = nc.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(2)])
    x = rng.standard_normal((1, 8, 8, 3), np.float32)
    with nc.no_grad():
        expected = model(x).numpy()
        monkeypatch.setattr(nc.Model, "__call__", None)
        assert_array_equal(model(x).numpy(), expected)


def test_programs_are_left_once_an_attribute_is_set_or_deleted(rng):
    model = nc.Sequential([layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(2)])
    x = rng.standard_normal((1, 8, 8, 3), np.float32)

    def is_found():
        return model._stages.find_whole(model._layers, x, model.check_input_shape) is not None

    with nc.no_grad():
        model(x)
        assert is_found()
        model.layers[1].mask = 1
        assert not is_found()
        model(x)
        assert is_found()
        del model.layers[1].mask
        assert not is_found()


def test_attributes_that_are_set_or_deleted_are_noticed():
    item, changes = Watched(), [LAST[0]]
    item.size = 3
    changes.append(LAST[0])
    item.size = 3
    changes.append(LAST[0])
    del item.size
    changes.append(LAST[0])
    assert len(set(map(id, changes))) == 4
    assert not hasattr(item, "size")
