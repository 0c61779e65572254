"""How long a network trains, from a few steps on random images."""

import dataclasses
import time

import numpy as np

from input_data import Batch
from safa.retrieval.descriptors import DescriptorExtractor
from safa.runtime.distribution import Distribution, explain_tensorflow_errors
from safa.training.step import adam, batch_loss, training_step
from spatial_net import network as build_network

STEPS = 2  # that are measured, after one that compiles


@dataclasses.dataclass(frozen=True)
class Pace:
    """Seconds that a network takes on this machine, without reading images.

    Attributes:
        step: seconds a training step.
        pair: seconds a pair whose descriptors are computed.
        device: what computed.
    """

    step: float
    pair: float
    device: str


def measure_pace(settings):
    """The Pace of a network and its training.

    Args:
        settings: settings.Settings.

    Raises:
        UserError: the devices are not there, or their memory is too small.
    """
    config, run = settings.training, settings.run
    distribution = Distribution(run.devices, config.precision)
    with explain_tensorflow_errors(distribution, "--micro_batch"):
        with distribution.strategy.scope():
            network = build_network(settings.network, config.keep_prob, config.seed, config.precision)
            optimizer = adam(config.learning_rate, config.ema)
            optimizer.build(network.trainable_variables)
        step = training_step(network, optimizer, batch_loss(config), distribution.strategy, run.micro_batch, config.clip_norm)
        random = np.random.default_rng(0)
        shapes = settings.network.sat_shape, settings.network.grd_shape
        images = [random.integers(0, 256, (config.batch_size, *shape, 3), np.uint8) for shape in shapes]
        rows = np.arange(config.batch_size)
        offset, *parts = distribution.spread(*images, rows)
        batch = Batch(*parts, offset=offset)
        seconds = _seconds(lambda: float(step(batch)))
        describe = DescriptorExtractor(network, distribution).batch
        pair = sum(_seconds(lambda view=view: describe(*view)) for view in zip(("sat", "grd"), images, strict=True))
    return Pace(seconds, pair / config.batch_size, str(distribution))


def _seconds(function):
    """Mean seconds of a function that was called once before."""
    function()
    begin = time.perf_counter()
    for _ in range(STEPS):
        function()
    return (time.perf_counter() - begin) / STEPS
