"""Training at the paper's sizes: pairs/s forward and a step, waiting, memory; beside two yardsticks of the same machine.

The yardsticks: the best single convolution of the network alone, and the same network written plainly, of Keras's own layers
with a GradientTape step. Every measurement runs in a process of its own, one after the other, so its peak memory is its own.
The step is the training script's, with dropout and Adam; its images are read from files that are made for it.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time

GFLOP_IMAGE = 42.3  # of one branch forward, 112x616: two for each multiplication and addition of the convolutions
GFLOP_PAIR = 6 * GFLOP_IMAGE  # two images; backward costs twice forward
CONVOLUTIONS = (
    (112, 616, 3, 64),
    (112, 616, 64, 64),
    (56, 308, 64, 128),
    (56, 308, 128, 128),
    (28, 154, 128, 256),
    (28, 154, 256, 256),
    (14, 77, 256, 512),
    (14, 77, 512, 512),
    (7, 39, 512, 512),
)


def shortest(function, repeats=3):
    """Least seconds of several runs, after one that warms up."""
    function()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def plain_seconds(precision, batch_size):
    """Seconds a pair, forward and step, of the network written plainly."""
    import keras
    import numpy as np
    import tensorflow as tf
    from keras import layers

    keras.mixed_precision.set_global_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")

    class Embedding(layers.Layer):
        def build(self, shape):
            self.first = self.add_weight((shape[1], shape[1] // 2, 8))
            self.second = self.add_weight((shape[1] // 2, shape[1], 8))

        def call(self, maps):
            hidden = tf.einsum("bi,ijm->bjm", tf.reduce_mean(maps, -1), tf.cast(self.first, maps.dtype))
            weights = tf.einsum("bjm,jim->bim", hidden, tf.cast(self.second, maps.dtype))
            return tf.einsum("bic,bim->bmc", maps, weights)

    def branch():
        images = maps = keras.Input((112, 616, 3))
        for number, (count, channels) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))):
            for _ in range(count):
                maps = layers.Conv2D(channels, 3, padding="same", activation="relu")(maps)
                maps = layers.Dropout(0.2)(maps) if number > 2 else maps
            maps = layers.MaxPooling2D(2, padding="same")(maps)
        features = layers.Flatten()(Embedding()(layers.Reshape((-1, 512))(maps)))
        return keras.Model(images, layers.UnitNormalization(dtype="float32")(features))

    branches, optimizer = (branch(), branch()), keras.optimizers.Adam(1e-5)

    def describe(images, training):
        return [each(tf.cast(view, tf.float32), training=training) for each, view in zip(branches, images, strict=True)]

    @tf.function
    def step(images):
        with tf.GradientTape() as tape:
            sat, grd = describe(images, True)
            distances = 2 - 2 * tf.matmul(sat, grd, transpose_b=True)
            positive = tf.linalg.diag_part(distances)
            loss = tf.reduce_mean(
                tf.nn.softplus(10 * (positive - distances)) + tf.nn.softplus(10 * (positive[:, None] - distances))
            )
        variables = [variable for each in branches for variable in each.trainable_variables]
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    random = np.random.default_rng(0)
    images = [tf.constant(random.integers(0, 256, (batch_size, 112, 616, 3), np.uint8)) for _ in range(2)]
    forward = tf.function(lambda images: describe(images, False))
    return [
        shortest(lambda: [each.numpy() for each in forward(images)]) / batch_size,
        shortest(lambda: step(images).numpy()) / batch_size,
    ]


def measure(precision, batch_size, micro_batch, plain):
    import cv2
    import numpy as np
    import tensorflow as tf

    from input_data import Batch, batches
    from safa.datasets.cvusa import CVUSA
    from safa.datasets.dataset import POLAR, Pairs
    from safa.runtime import backend
    from safa.settings import NetworkConfig, TrainingConfig
    from safa.training.step import adam, batch_loss, training_step
    from spatial_net import network

    backend.compute_in(precision)
    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    part = micro_batch or batch_size  # images that go through a layer at a time
    rates = []
    for height, width, inputs, outputs in CONVOLUTIONS:
        maps = tf.cast(tf.random.normal((part, height, width, inputs)), dtype)
        kernel = tf.cast(tf.random.normal((3, 3, inputs, outputs)), dtype)
        convolution = tf.function(lambda maps, kernel: tf.reduce_max(tf.nn.conv2d(maps, kernel, 1, "SAME")))
        seconds = shortest(lambda convolution=convolution, maps=maps, kernel=kernel: convolution(maps, kernel).numpy())
        rates.append(2 * 9 * part * height * width * inputs * outputs / seconds / 1e9)
    best = max(rates)

    config = NetworkConfig()
    model = network(config, 0.8, 0, precision)
    optimizer = adam(1e-5)
    optimizer.build(model.trainable_variables)
    step = training_step(model, optimizer, batch_loss(TrainingConfig()), micro_batch=micro_batch)
    forward = tf.function(lambda sat, grd: model([sat, grd], training=False))
    random = np.random.default_rng(0)
    sat, grd = (tf.constant(random.integers(0, 256, (batch_size, 112, 616, 3), np.uint8)) for _ in range(2))
    forward_seconds = shortest(lambda: [each.numpy() for each in forward(sat[:part], grd[:part])]) / part
    zero = tf.constant(0, tf.int64)
    step_seconds = shortest(lambda: step(Batch(sat, grd, None, offset=zero)).numpy()) / batch_size

    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, size in (("sat.png", (112, 616)), ("grd.jpg", (224, 1232))):
            smooth = cv2.resize(random.integers(0, 256, (14, 77, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
            paths.append(os.path.join(folder, name))
            cv2.imwrite(paths[-1], smooth)
        count = 4 * batch_size
        polar_maps, panoramas = ([path] * count for path in paths)
        pairs = Pairs(CVUSA(), "train", POLAR, ["0"] * count, polar_maps, panoramas, polar_maps)
        waited, begin = 0.0, time.perf_counter()
        reader = batches(pairs, range(count), batch_size, (config.sat_shape, config.grd_shape))
        for _ in range(4):
            waiting = time.perf_counter()
            batch = next(reader)
            waited += time.perf_counter() - waiting
            step(Batch(tf.constant(batch.sat), tf.constant(batch.grd), None, offset=zero)).numpy()
        seconds = time.perf_counter() - begin

    gpus = tf.config.list_physical_devices("GPU")
    peak = (
        tf.config.experimental.get_memory_info("GPU:0")["peak"]
        if gpus
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    print(
        f"{precision}, batch {batch_size}{f' in parts of {micro_batch}' if micro_batch else ''}, on "
        f"{backend.devices()}: best single convolution {best:,.0f} GFLOP/s (first one {rates[0]:,.0f})"
    )
    for name, taken, flop, plainly in (
        ("forward", forward_seconds, 2 * GFLOP_IMAGE, plain[0]),
        ("step", step_seconds, GFLOP_PAIR, plain[1]),
    ):
        print(
            f"  {name:8} {1 / taken:8.2f} pairs/s, {taken:.4f} s a pair, {flop / taken:,.0f} GFLOP/s = "
            f"{100 * flop / taken / best:.0f} % of that; {plainly / taken:.2f} times the plain network's pairs/s"
        )
    print(
        f"  waiting for input: {100 * waited / seconds:.1f} % of {seconds / 4:.2f} s a step; peak memory "
        f"{peak / 1e9:.1f} GB{'' if gpus else ' of the whole process'}",
        flush=True,
    )


def _has_bfloat16():
    import tensorflow as tf

    from safa.runtime import backend

    has = bool(tf.config.list_physical_devices("GPU")) or backend.cpu_has_bfloat16()
    if not has:
        print("bfloat16 is left out: this CPU computes it in software")
    return has


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=("float32", "tf32", "bfloat16"),
        default=None,
        help="(default: float32, and bfloat16 where the processor has instructions for it)",
    )
    parser.add_argument("--batch_size", type=int, default=8, help="pairs")
    parser.add_argument("--micro_batch", type=int, help="pairs that go through the network at a time")
    parser.add_argument("--in_process", nargs=2, type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.precision is None:
        args.precision = ["float32", "bfloat16"] if _has_bfloat16() else ["float32"]
    if args.plain:
        print(*plain_seconds(args.precision[0], args.batch_size))
        return
    if args.in_process:
        measure(args.precision[0], args.batch_size, args.micro_batch, args.in_process)
        return

    def run(precision, *arguments, **options):
        command = [
            sys.executable,
            "-m",
            "benchmarks.training_speed",
            "--precision",
            precision,
            "--batch_size",
            str(args.batch_size),
            *arguments,
        ]
        return subprocess.run(command, check=True, **options)

    parts = ["--micro_batch", str(args.micro_batch)] if args.micro_batch else []
    for precision in args.precision:
        try:
            plain = run(precision, "--plain", stdout=subprocess.PIPE, text=True).stdout.split()
            run(precision, "--in_process", *plain, *parts)
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode)


if __name__ == "__main__":
    main()
