"""Training at the paper's sizes: pairs/s forward and a step, FLOP/s beside the best convolution, waiting, memory.

Each precision runs in a process of its own, so that its peak memory is its own. The step is the training script's, with
dropout and Adam; its images are read from files that are made for it.
"""
import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

GFLOP_IMAGE = 42.3  # of one branch forward, 112x616: two for each multiplication and addition of the convolutions
GFLOP_PAIR = 6 * GFLOP_IMAGE  # two images; backward costs twice forward
AUTHORS = 0.45, 1.96  # seconds a pair, forward and step, of TensorFlow 1 on another 2-core machine, in float32
CONVOLUTIONS = ((112, 616, 3, 64), (112, 616, 64, 64), (56, 308, 64, 128), (56, 308, 128, 128), (28, 154, 128, 256),
                (28, 154, 256, 256), (14, 77, 256, 512), (14, 77, 512, 512), (7, 39, 512, 512))


def shortest(function, repeats=3):
    """Least seconds of several runs, after one that warms up."""
    function()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def measure(precision, batch_size, micro_batch):
    import cv2
    import numpy as np

    import backend
    import tensorflow as tf
    from configuration import NetworkConfig
    from input_data import Pairs, batches
    from spatial_net import network
    from training_step import adam, training_step

    part = micro_batch or batch_size  # images that go through a layer at a time
    rates = []
    for height, width, inputs, outputs in CONVOLUTIONS:
        maps = tf.cast(tf.random.normal((part, height, width, inputs)), precision)
        kernel = tf.cast(tf.random.normal((3, 3, inputs, outputs)), precision)
        convolution = tf.function(lambda maps, kernel: tf.reduce_max(tf.nn.conv2d(maps, kernel, 1, "SAME")))
        seconds = shortest(lambda convolution=convolution, maps=maps, kernel=kernel: convolution(maps, kernel).numpy())
        rates.append(2 * 9 * part * height * width * inputs * outputs / seconds / 1e9)
    best = max(rates)

    config = NetworkConfig()
    model = network(config, 0.8, 0, precision)
    optimizer = adam(1e-5)
    optimizer.build(model.trainable_variables)
    step = training_step(model, optimizer, micro_batch=micro_batch)
    forward = tf.function(lambda sat, grd: model([sat, grd], training=False))
    random = np.random.default_rng(0)
    sat, grd = (tf.constant(random.integers(0, 256, (batch_size, 112, 616, 3), np.uint8)) for _ in range(2))
    zero = tf.constant(0, tf.int64)
    forward_seconds = shortest(lambda: [each.numpy() for each in forward(sat[:part], grd[:part])]) / part
    step_seconds = shortest(lambda: step(zero, sat, grd, None, tf.constant(0.0))[0].numpy()) / batch_size

    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, size in (("sat.png", (112, 616)), ("grd.jpg", (224, 1232))):
            smooth = cv2.resize(random.integers(0, 256, (14, 77, 3), np.uint8), size[::-1],
                                interpolation=cv2.INTER_CUBIC)
            paths.append(os.path.join(folder, name))
            cv2.imwrite(paths[-1], smooth)
        count = 4 * batch_size
        pairs = Pairs("benchmark", "train", ["0"] * count, [paths[0]] * count, [paths[1]] * count)
        waited, begin = 0.0, time.perf_counter()
        reader = batches(pairs, range(count), batch_size, config.sat_shape, config.grd_shape)
        for _ in range(4):
            waiting = time.perf_counter()
            sat, grd, _ = next(reader)
            waited += time.perf_counter() - waiting
            step(zero, tf.constant(sat), tf.constant(grd), None, tf.constant(0.0))[0].numpy()
        seconds = time.perf_counter() - begin

    gpus = tf.config.list_physical_devices("GPU")
    peak = (tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpus
            else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    print(f"{precision}, batch {batch_size}{f' in parts of {micro_batch}' if micro_batch else ''}, on "
          f"{backend.devices()}: best single convolution {best:,.0f} GFLOP/s (first one {rates[0]:,.0f})")
    for name, taken, flop, authors in (("forward", forward_seconds, 2 * GFLOP_IMAGE, AUTHORS[0]),
                                       ("step", step_seconds, GFLOP_PAIR, AUTHORS[1])):
        print(f"  {name:8} {1 / taken:8.2f} pairs/s, {taken:.4f} s a pair, {flop / taken:,.0f} GFLOP/s = "
              f"{100 * flop / taken / best:.0f} % of that; {authors / taken:.1f} times the authors' code")
    print(f"  waiting for input: {100 * waited / seconds:.1f} % of {seconds / 4:.2f} s a step; peak memory "
          f"{peak / 1e9:.1f} GB{'' if gpus else ' of the whole process'}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--micro_batch", type=int)
    parser.add_argument("--in_process", action="store_true", help="measure the one --precision here")
    args = parser.parse_args()
    if args.in_process:
        measure(args.precision[0], args.batch_size, args.micro_batch)
        return
    for precision in args.precision:
        command = [sys.executable, __file__, "--in_process", "--precision", precision, "--batch_size",
                   str(args.batch_size)]
        subprocess.run(command + (["--micro_batch", str(args.micro_batch)] if args.micro_batch else []), check=True)


if __name__ == "__main__":
    main()
