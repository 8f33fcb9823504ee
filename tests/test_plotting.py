"""Pictures: what is drawn where, and that a file is whole or not there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from numbaconv import demo_figure, plotting


@pytest.fixture
def axes():
    return Figure().add_subplot()


def test_mosaic_lays_tiles_out_row_by_row():
    tiles = np.arange(5 * 2 * 3).reshape(5, 2, 3)
    grid = plotting.mosaic(tiles, columns=3, gap=2)
    assert grid.shape == (2 * 2 + 2, 3 * 3 + 2 * 2)
    np.testing.assert_array_equal(grid[:2, 5:8], tiles[1])
    np.testing.assert_array_equal(grid[4:, 5:8], tiles[4])
    assert np.isnan(grid[2:4]).all() and np.isnan(grid[4:, 10:]).all()
    assert np.count_nonzero(~np.isnan(grid)) == tiles.size


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (4, (3, 3)), (5, (3, 5)), (16, (7, 7))])
def test_mosaic_is_about_square(count, shape):
    assert plotting.mosaic(np.zeros((count, 1, 1))).shape == shape


def test_learning_curve_has_both_parts(axes):
    plotting.draw_learning_curve(axes, {"loss": [3, 2, 1], "val_loss": [4, 3, 2.5]}, "loss")
    training, test = axes.get_lines()
    np.testing.assert_array_equal(training.get_xydata(), [[1, 3], [2, 2], [3, 1]])
    np.testing.assert_array_equal(test.get_ydata(), [4, 3, 2.5])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "training (with dropout)",
        "test, at last 2.5000",
    ]


def test_learning_curve_without_validation(axes):
    plotting.draw_learning_curve(axes, {"accuracy": [0.5]}, "accuracy")
    assert len(axes.get_lines()) == 1
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_filters_are_centred_on_zero(axes):
    kernel = np.full((3, 3, 1, 4), 0.5)
    kernel[0, 2, 0, 1] = -2
    plotting.draw_filters(axes, kernel)
    image = axes.get_images()[0]
    # One weight of 36 is no more than the colour scale may leave out.
    assert image.get_clim() == (-0.5, 0.5)
    rows, columns = np.nonzero(np.asarray(image.get_array()) == -2)
    # The second filter's right upper weight, 5 pixels wide, after a filter of 15 pixels and a gap of 3.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 4, 28, 32)


def test_activations_are_scaled_map_by_map(axes):
    maps = np.stack([np.full((2, 2), 4.0), np.zeros((2, 2)), np.array([[0, 1], [2, 3.0]])], axis=-1)
    plotting.draw_activations(axes, maps, "conv")
    grid = np.ma.filled(axes.get_images()[0].get_array(), np.nan)
    np.testing.assert_array_equal(grid[:2, :2], 1)
    np.testing.assert_array_equal(grid[:2, 3:], 0)
    np.testing.assert_allclose(grid[3:, :2], [[0, 1 / 3], [2 / 3, 1]])


def test_activations_name_how_many_maps_are_shown(axes):
    plotting.draw_activations(axes, np.ones((4, 5, 20)), "conv")
    assert axes.get_xlabel() == "16 of 20 maps of 4×5"
    plotting.draw_activations(axes, np.zeros((4, 5, 3)), "conv")
    assert axes.get_xlabel() == "3 maps of 4×5"


def test_right_class_is_green(axes):
    plotting.draw_probabilities(axes, np.array([0.1, 0.7, 0.2]), "abc", label=2)
    bars = axes.patches
    assert [bar.get_width() for bar in bars] == [0.1, 0.7, 0.2]
    colours = [to_hex(bar.get_facecolor()) for bar in bars]
    assert colours[0] == colours[1] != colours[2]


@pytest.mark.parametrize("is_right", [True, False, None])
def test_only_wrong_images_are_framed(axes, is_right):
    plotting.draw_image(axes, np.eye(3), "7", is_right=is_right)
    assert (axes.spines["left"].get_linewidth() > 1) == (is_right is False)
    assert axes.get_xlabel() == "7"


# Files


def test_figure_is_written_with_the_users_permissions(tmp_path):
    path = tmp_path / "picture.svg"
    path.write_text("old")
    umask = os.umask(0o027)
    try:
        plotting.save_figure(Figure(), path)
    finally:
        os.umask(umask)
    assert "<svg" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_failed_drawing_leaves_the_old_file(tmp_path):
    path = tmp_path / "picture.png"
    path.write_text("old")

    class Broken:
        def savefig(self, file, **options):
            raise RuntimeError("no ink")

    with pytest.raises(RuntimeError, match="no ink"):
        plotting.save_figure(Broken(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_is_no_file(tmp_path):
    folder = tmp_path / "folder.png"
    folder.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        plotting.check_output(folder)
    assert str(caught.value) == f"{folder} is a folder; give the name of a file."


def test_read_only_folder_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError) as caught:
        plotting.check_output(tmp_path / "a.png")
    assert str(caught.value) == (
        f"{tmp_path / 'a.png'} cannot be written: no permission to write to the folder {tmp_path}."
    )


def test_drawing_leaves_pyplot_alone():
    code = (
        "import sys, numpy as np\nfrom matplotlib.figure import Figure\nfrom numbaconv import plotting\n"
        "plotting.draw_image(Figure().add_subplot(), np.eye(3))\nprint('matplotlib.pyplot' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert output.stdout == "False\n"


# The demonstration's picture


def picture(wrong=3, count=60, names="0123456789"):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 10
    predictions = labels.copy()
    predictions[:wrong] = (labels[:wrong] + 1) % 10
    return demo_figure.Picture(
        title="Digits",
        subtitle="all right",
        class_names=list(names),
        history={"loss": [2, 1], "accuracy": [0.5, 0.9], "val_loss": [2, 1], "val_accuracy": [0.4, 0.8]},
        kernel=rng.normal(size=(3, 3, 1, 16)),
        sample=rng.random((8, 8)),
        sample_label=4,
        maps=[("conv 3×3", rng.random((8, 8, 16))), ("max pool 2×2", rng.random((4, 4, 16)))],
        probabilities=np.full(10, 0.1),
        images=rng.random((count, 8, 8)),
        labels=labels,
        predictions=predictions,
    )


def captions(figure):
    return [axes.get_xlabel() for axes in figure.axes]


def test_gallery_shows_the_wrong_ones_first():
    figure = demo_figure.draw(picture(wrong=3))
    shown = captions(figure)[-48:]
    assert shown[:3] == ["1\n(is 0)", "2\n(is 1)", "3\n(is 2)"]
    assert all(len(caption) == 1 for caption in shown[3:])
    texts = [text.get_text() for text in figure.texts]
    assert "all 3 wrong ones in red (predicted, then the label), 45 of the 57 right ones" in texts
    assert "label: 4" in texts


@pytest.mark.parametrize(("wrong", "count", "shown_wrong", "shown"), [(0, 5, 0, 5), (20, 20, 16, 16), (30, 99, 16, 48)])
def test_gallery_of_unusual_results(wrong, count, shown_wrong, shown):
    figure = demo_figure.draw(picture(wrong, count))
    # Two curves, the filters, the image, two layers and the probabilities come before the gallery.
    gallery = captions(figure)[7:]
    assert len(gallery) == shown
    assert sum("(is" in caption for caption in gallery) == shown_wrong


def test_picture_is_drawn_without_warnings_or_overlapping_axes(tmp_path):
    long_names = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot")
    figure = demo_figure.draw(picture(names=long_names))
    plotting.save_figure(figure, tmp_path / "demo.png", dpi=60)
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    width, height = figure.bbox.size
    for index, box in enumerate(boxes):
        assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height, index
        for other in boxes[:index]:
            overlap_x = min(box.x1, other.x1) - max(box.x0, other.x0)
            overlap_y = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(overlap_x, overlap_y) < 2, (index, boxes.index(other))
