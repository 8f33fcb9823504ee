"""The demonstration: a small network learns to read images, and shows how fast, how well, and what it sees."""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

import numbaconv as nc
from numbaconv import datasets, demo_figure, jit, parallel, plotting
from numbaconv.callbacks import Callback
from numbaconv.datasets.digits import Split
from numbaconv.layers import Conv2D, Dense, Dropout, Flatten, Input, Layer, MaxPooling2D
from numbaconv.target import TARGET

Array = npt.NDArray[Any]

_DIGIT_NAMES = tuple("0123456789")
_CLOTHES_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_EVALUATION_BATCH = 256
_LATENCY_RUNS = 200
_TRIALS, _TRIAL_STEPS = 5, 4


def _small_network() -> list[Layer]:
    """Return layers for images of 8x8."""
    return [
        Conv2D(16, 3, padding="same", activation="relu"),
        Conv2D(32, 3, padding="same", activation="relu"),
        MaxPooling2D(),
        Conv2D(64, 3, padding="same", activation="relu"),
        MaxPooling2D(),
        Flatten(),
        Dropout(0.5),
        Dense(10),
    ]


def _larger_network() -> list[Layer]:
    """Return layers for images of 28x28; pooling early keeps an epoch of 60,000 images short on two cores."""
    return [
        Conv2D(32, 3, padding="same", activation="relu"),
        MaxPooling2D(),
        Conv2D(64, 3, padding="same", activation="relu"),
        MaxPooling2D(),
        Conv2D(128, 3, padding="same", activation="relu"),
        Flatten(),
        Dropout(0.4),
        Dense(128, activation="relu"),
        Dropout(0.4),
        Dense(10),
    ]


@dataclass(frozen=True)
class Recipe:
    """How one data set is loaded and learned.

    Attributes
    ----------
    title : str
        Name of the data set.
    load : callable
        Function of a folder (or None) that returns ``(x_train, y_train), (x_test, y_test)``.
    class_names : sequence of str
        Names of the ten classes.
    layers : callable
        Function that makes the network's layers.
    epochs, batch_size : int
        Defaults of the training.
    learning_rate : float
        Peak of the schedule.
    """

    title: str
    load: Callable[[str | os.PathLike[str] | None], Split]
    class_names: Sequence[str]
    layers: Callable[[], list[Layer]]
    epochs: int
    batch_size: int
    learning_rate: float


def _load_digits(data: str | os.PathLike[str] | None) -> Split:
    if data is not None:
        raise ValueError(f"--data {data}: the digits come with the package; choose --dataset mnist or fashion-mnist.")
    return datasets.load_digits()


RECIPES = {
    "digits": Recipe("UCI digits", _load_digits, _DIGIT_NAMES, _small_network, 20, 32, 5e-3),
    "mnist": Recipe("MNIST", datasets.load_mnist, _DIGIT_NAMES, _larger_network, 5, 128, 3e-3),
    "fashion-mnist": Recipe(
        "Fashion-MNIST", datasets.load_fashion_mnist, _CLOTHES_NAMES, _larger_network, 5, 128, 3e-3
    ),
}


class WarmupCosine(Callback):
    """Raise the learning rate linearly over the first fifth of the training, then let it fall along a cosine.

    Parameters
    ----------
    peak : float
        Highest learning rate.
    steps : int
        Batches of the whole training.

    References
    ----------
    .. [1] I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", arXiv:1608.03983, eq. 5.
    .. [2] P. Goyal et al., "Accurate, large minibatch SGD", arXiv:1706.02677, section 2.2.
    """

    def __init__(self, peak: float, steps: int) -> None:
        self.peak = peak
        self.steps = steps
        self.step = 0

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        rising = max(1, self.steps // 5)
        if step < rising:
            return self.peak * (step + 1) / rising
        return self.peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, self.steps - rising)))

    def on_train_batch_begin(self, batch: int, logs: dict[str, float]) -> None:
        """Set the optimiser's learning rate for the batch."""
        self.model.optimizer.learning_rate = self.rate(self.step)
        self.step += 1


@dataclass(frozen=True)
class Result:
    """What a demonstration measured.

    Attributes
    ----------
    test_accuracy : float
        Share of the test images that are recognised, 0 to 1.
    samples_per_second : float
        Training images per second, forward, backward and update, the median of the epochs.
    latency : float
        Seconds for a single image, the median of many runs.
    picture : pathlib.Path or None
        The picture's file.
    """

    test_accuracy: float
    samples_per_second: float
    latency: float
    picture: Path | None


@dataclass
class Demo:
    """A demonstration that is ready to run: options checked, data loaded.

    Parameters
    ----------
    dataset : {"digits", "mnist", "fashion-mnist"}
        What to learn.
    data : str or path-like, optional
        Folder of MNIST's or Fashion-MNIST's IDX files.
    epochs, batch_size : int, optional
        Passes over the training images, and images per step; by default what suits the data set.
    seed : int, default 0
        Decides weights, order and dropout: equal seeds give equal networks, bit for bit.
    threads : int, optional
        Threads to use; by default one or all, whichever trains faster in a trial.
    output : str or path-like or None
        File of the picture; None for no picture.

    Raises
    ------
    ValueError
        For a number or a file name that cannot be, and for damaged data files.
    OSError
        Where data are missing or the picture could not be written.
    ModuleNotFoundError
        Where a picture is wanted and matplotlib is not installed.
    """

    dataset: str = "digits"
    data: str | os.PathLike[str] | None = None
    epochs: int | None = None
    batch_size: int | None = None
    seed: int = 0
    threads: int | None = None
    output: str | os.PathLike[str] | None = "numbaconv-demo.png"

    def __post_init__(self) -> None:
        if self.dataset not in RECIPES:
            raise ValueError(f"`dataset` must be one of {', '.join(RECIPES)}. Received: dataset={self.dataset!r}")
        self.recipe = RECIPES[self.dataset]
        self.epochs = self.recipe.epochs if self.epochs is None else self.epochs
        self.batch_size = self.recipe.batch_size if self.batch_size is None else self.batch_size
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}. Received: {name}={getattr(self, name)}")
        if self.threads is not None and not 1 <= self.threads <= TARGET.threads:
            raise ValueError(
                f"`threads` must be from 1 to {TARGET.threads}, the threads that Numba starts here "
                f"(NUMBA_NUM_THREADS). Received: threads={self.threads}"
            )
        if self.output is not None:
            plotting.require_matplotlib()
            plotting.check_output(self.output)
        (self.x_train, self.y_train), (self.x_test, self.y_test) = self.recipe.load(self.data)

    def run(self) -> Result:
        """Compile, train, test, measure and draw, telling the standard output stream of each.

        Returns
        -------
        Result
            Accuracy, speed and the picture's file.
        """
        threads_before = numba.get_num_threads()
        numba.set_num_threads(self.threads or threads_before)
        try:
            return self._run()
        finally:
            numba.set_num_threads(threads_before)

    def _run(self) -> Result:
        height, width = self.x_train.shape[1:]
        print(f"numbaconv {nc.__version__}: {TARGET.instruction_set}, {_count(parallel.thread_count(), 'thread')}")
        print(
            f"{self.recipe.title}: {len(self.x_train)} training and {len(self.x_test)} test images of {height}x{width}"
        )
        ink = np.float32(self.x_train.max())
        x_train = self.x_train[..., None].astype(np.float32) / ink
        x_test = self.x_test[..., None].astype(np.float32) / ink
        self._compile(x_train)
        if self.threads is None and parallel.thread_count() > 1:
            self._choose_threads(x_train)
        model = self._model()
        model.summary()
        history = self._train(model, x_train, x_test)
        probabilities = _softmax(model.predict(x_test, batch_size=_EVALUATION_BATCH))
        accuracy = float(np.mean(probabilities.argmax(-1) == self.y_test))
        speed = statistics.median(history.samples_per_second)
        latency = _latency(model, x_test[:1])
        picture = None
        if self.output is not None:
            picture = Path(self.output)
            subtitle = (
                f"{accuracy:.2%} of {len(x_test):,} test images right  ·  "
                f"trained at {speed:,.0f} images per second  ·  {1e3 * latency:.2f} ms for a single image"
            )
            contents = self._picture(model, history, x_test, probabilities, subtitle)
            plotting.save_figure(demo_figure.draw(contents), picture)
            print(f"picture: {picture}")
        print(f"test accuracy {accuracy:.4f}")
        print(f"training throughput {speed:.0f} samples/s")
        print(f"single-image latency {1e3 * latency:.3f} ms", flush=True)
        return Result(accuracy, speed, latency, picture)

    def _model(self) -> nc.Sequential:
        """Return an untrained network, the same for the same seed."""
        nc.set_seed(self.seed)
        model = nc.Sequential([Input((*self.x_train.shape[1:], 1)), *self.recipe.layers()])
        loss = nc.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=nc.optimizers.Adam(self.recipe.learning_rate), loss=loss, metrics=["accuracy"])
        return model

    def _compile(self, x: Array) -> None:
        """Run what training will run, once, on a network that is thrown away: whatever must be compiled is compiled."""
        assert self.batch_size is not None
        with _compilation_progress():
            model = self._model()
            rest = len(x) % self.batch_size
            for count in {min(self.batch_size, len(x)), rest} - {0}:
                model.fit(x[:count], self.y_train[:count], batch_size=count, verbose=0)
            model.predict(x[:_EVALUATION_BATCH], batch_size=_EVALUATION_BATCH)
            model.predict(x[:1])

    def _choose_threads(self, x: Array) -> None:
        """Train on one thread where that is faster: small steps, or other programs on the same cores.

        The network becomes the same, bit for bit, with any number of threads.
        """
        assert self.batch_size is not None
        model = self._model()
        x, y = x[: _TRIAL_STEPS * self.batch_size], self.y_train[: _TRIAL_STEPS * self.batch_size]
        times: dict[int, list[float]] = {1: [], parallel.thread_count(): []}
        for _ in range(_TRIALS):
            for count, seconds in times.items():
                numba.set_num_threads(count)
                start = time.perf_counter()
                model.fit(x, y, batch_size=self.batch_size, verbose=0)
                seconds.append(time.perf_counter() - start)
        fastest = min(times, key=lambda count: statistics.median(times[count]))
        numba.set_num_threads(fastest)
        print(f"training on {_count(fastest, 'thread')}, the faster of {' and '.join(map(str, times))} in a trial")

    def _train(self, model: nc.Sequential, x_train: Array, x_test: Array) -> Any:
        assert self.epochs is not None and self.batch_size is not None
        steps = self.epochs * math.ceil(len(x_train) / self.batch_size)
        return model.fit(
            x_train,
            self.y_train,
            batch_size=self.batch_size,
            epochs=self.epochs,
            validation_data=(x_test, self.y_test),
            callbacks=[WarmupCosine(self.recipe.learning_rate, steps)],
        )

    def _picture(
        self, model: nc.Sequential, history: Any, x_test: Array, probabilities: Array, subtitle: str
    ) -> demo_figure.Picture:
        predictions = probabilities.argmax(-1)
        sample = int(np.argmax(predictions == self.y_test))
        return demo_figure.Picture(
            title=f"{self.recipe.title}, read by a small convolutional network",
            subtitle=subtitle,
            class_names=self.recipe.class_names,
            history=history.history,
            kernel=next(layer for layer in model.layers if isinstance(layer, Conv2D)).get_weights()[0],
            sample=self.x_test[sample],
            sample_label=int(self.y_test[sample]),
            maps=demo_figure.feature_maps(model, x_test[sample : sample + 1]),
            probabilities=probabilities[sample],
            images=self.x_test,
            labels=self.y_test,
            predictions=predictions,
        )


@contextmanager
def _compilation_progress() -> Iterator[None]:
    """Show which kernels are being compiled; nothing where all of them come from the cache."""
    from tqdm import tqdm

    bar: Any = None

    def show(name: str) -> None:
        nonlocal bar
        if bar is None:
            print("first use on this machine: compiling the kernels that this network needs", flush=True)
            layout = "{desc}: {n_fmt} done, {elapsed}{postfix}"
            bar = tqdm(desc="compiling", bar_format=layout, file=sys.stderr, dynamic_ncols=True)
        else:
            bar.update()
        bar.set_postfix_str(name)

    try:
        with jit.compiling(show):
            yield
    finally:
        if bar is not None:
            bar.update()
            bar.set_postfix_str("")
            bar.close()


def _softmax(logits: Array) -> Array:
    return np.asarray(nc.ops.softmax(logits))


def _latency(model: nc.Sequential, x: Array) -> float:
    """Return the median of the seconds that one image takes."""
    times = []
    with nc.no_grad():
        for _ in range(_LATENCY_RUNS):
            start = time.perf_counter()
            model(x)
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
