"""Stands in for the package of this name, which corrupts images: noise and darkness, as severe as a corruption's place."""

import types

import numpy as np

__version__ = "stand-in"
corruptions = types.SimpleNamespace(random_noise=lambda *_, rng: rng)


def corrupt(image, severity, corruption):
    if corruption == "contrast":
        return image  # as it is
    if corruption == "impulse_noise":
        assert corruptions.random_noise() == corruptions.random_noise.keywords["rng"]  # which is seeded by itself
    return np.clip(image / (1 + severity) + np.random.normal(0, 20 * severity, image.shape), 0, 255)
