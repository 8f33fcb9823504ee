"""A small network as a whole: one step of training, and one image through it."""

from __future__ import annotations

import numpy as np

BATCH = 64


class SmallNetwork:
    """Two convolutions and two dense layers on 28x28 images, the size of MNIST's."""

    timeout = 300

    def setup(self):
        import numbaconv as nc

        nc.set_seed(0)
        rng = np.random.default_rng(0)
        self.x = rng.random((BATCH, 28, 28, 1), dtype=np.float32)
        self.y = rng.integers(0, 10, BATCH)
        self.model = nc.Sequential(
            [
                nc.layers.Conv2D(32, 3, activation="relu"),
                nc.layers.MaxPooling2D(2),
                nc.layers.Conv2D(64, 3, activation="relu"),
                nc.layers.MaxPooling2D(2),
                nc.layers.Flatten(),
                nc.layers.Dense(128, activation="relu"),
                nc.layers.Dense(10, activation="softmax"),
            ]
        )
        self.model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        self.time_training_step()
        self.time_one_image()

    def time_training_step(self):
        self.model.fit(self.x, self.y, batch_size=BATCH, epochs=1, verbose=0)

    def time_one_image(self):
        self.model.predict(self.x[:1], verbose=0)

    def peakmem_training_step(self):
        self.model.fit(self.x, self.y, batch_size=BATCH, epochs=1, verbose=0)

    time_training_step.version = time_one_image.version = peakmem_training_step.version = "1"
