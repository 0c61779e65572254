"""Training at the paper's sizes: pairs/s of this code, plain Keras and PyTorch, in one run, taking turns; medians.

Each side is a process of its own, and only one of them computes at a time: in every round each computes its forward pass and
its step once, with the yardstick, the fastest single convolution of the network, measured between them. So what else the
machine does meets all of them; on a CPU, seconds of CPU differ by a few percent even on a busy machine. The step is the
training script's, with dropout and Adam. At the end: how long this code waits for images that it reads from files, and each
side's peak memory. PyTorch is left out unless it is installed: pip install torch.
"""

import argparse
import importlib.util
import itertools
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter

import numpy as np

GFLOP_IMAGE = 42.3  # of one branch forward, 112x616: two for each multiplication and addition of the convolutions
GFLOP = {"forward": 2 * GFLOP_IMAGE, "step": 6 * GFLOP_IMAGE}  # a pair; backward costs twice forward
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
YARDSTICK_SECONDS = 0.3  # of a measurement; a convolution alone takes a few milliseconds
OURS, KERAS, TORCH, YARDSTICK = "this code", "plain Keras", "PyTorch", "one convolution"


def our_calls(precision, batch_size, micro_batch):
    """{"forward", "step": function that computes a batch to its end, "waiting": share of four steps' time}."""
    import cv2
    import tensorflow as tf

    from benchmarks import plain_networks
    from input_data import Batch, batches
    from safa.datasets.cvusa import CVUSA
    from safa.datasets.dataset import POLAR, Pairs
    from safa.datasets.pair_images import PairImages
    from safa.parts import build_network
    from safa.runtime import backend
    from safa.settings import NetworkConfig, TrainingConfig
    from safa.training.step import adam, training_step
    from triplet_loss import triplet_loss

    backend.compute_in(precision)
    config = NetworkConfig(height=plain_networks.SHAPE[0], width=plain_networks.SHAPE[1])
    model = build_network(config, TrainingConfig.keep_prob, 0, precision)
    optimizer = adam(TrainingConfig.learning_rate)
    optimizer.build(model.trainable_variables)
    step = training_step(model, optimizer, triplet_loss, micro_batch=micro_batch)
    forward = tf.function(lambda sat, grd: model((sat, grd), training=False))
    sat, grd = (tf.constant(each) for each in plain_networks.images(batch_size))
    zero = tf.constant(0, tf.int64)

    def waiting():
        random = np.random.default_rng(0)
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for name, size in (("sat.png", (112, 616)), ("grd.jpg", (224, 1232))):
                smooth = cv2.resize(random.integers(0, 256, (14, 77, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
                paths.append(os.path.join(folder, name))
                cv2.imwrite(paths[-1], smooth)
            count = 4 * batch_size
            polar_maps, panoramas = ([path] * count for path in paths)
            pairs = Pairs(CVUSA(), "train", POLAR, ["0"] * count, polar_maps, panoramas, polar_maps)
            read = PairImages.of(pairs, (config.sat_shape, config.grd_shape))
            waited, begin, reader = 0.0, time.perf_counter(), batches(read, range(count), batch_size, 2)
            for _ in range(4):
                asked = time.perf_counter()
                batch = next(reader)
                waited += time.perf_counter() - asked
                step(Batch(tf.constant(batch.sat), tf.constant(batch.grd), offset=zero)).numpy()
        return waited / (time.perf_counter() - begin)

    return {
        "forward": lambda: [each.numpy() for each in forward(sat, grd)],
        "step": lambda: step(Batch(sat, grd, offset=zero)).numpy(),
        "waiting": waiting,
        "memory": plain_networks.tensorflow_memory,
    }


def convolution_call(precision, batch_size):
    """{"work": function that computes the fastest of the network's convolutions for a while and returns its GFLOP}."""
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # it warns of nine functions that are alike
    tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
    dtype = "bfloat16" if precision == "bfloat16" else "float32"

    def call_of(height, width, inputs, outputs):
        maps = tf.cast(tf.random.normal((batch_size, height, width, inputs)), dtype)
        kernel = tf.cast(tf.random.normal((3, 3, inputs, outputs)), dtype)
        convolve = tf.function(lambda: tf.reduce_max(tf.nn.conv2d(maps, kernel, 1, "SAME")))
        return lambda: convolve().numpy()

    def work(sizes):
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < YARDSTICK_SECONDS:
            calls[sizes]()
            count += 1
        height, width, inputs, outputs = sizes
        return 2 * 9e-9 * count * batch_size * height * width * inputs * outputs

    calls = {sizes: call_of(*sizes) for sizes in CONVOLUTIONS}
    for call in calls.values():
        call()
    best = max(calls, key=work)
    return {"work": lambda: work(best)}


def serve(side, precision, batch_size, micro_batch):
    """Answer each line of standard input, the name of a call: what it returns, its seconds, and its seconds of CPU."""
    from benchmarks import plain_networks

    if side == OURS:
        calls = our_calls(precision, batch_size, micro_batch)
    else:
        makers = {KERAS: plain_networks.keras_calls, TORCH: plain_networks.torch_calls, YARDSTICK: convolution_call}
        calls = makers[side](precision, batch_size)
    for name in GFLOP.keys() & calls:  # tracing, and the first batches
        calls[name]()
        calls[name]()
    print("ready", flush=True)
    for line in sys.stdin:
        name = line.strip()
        begin, cpu = time.perf_counter(), time.process_time()
        found = calls[name]()
        found = 0 if name in GFLOP else found
        print(found, time.perf_counter() - begin, time.process_time() - cpu, flush=True)


class Side:
    """A process that serves the calls of a side."""

    def __init__(self, name, precision, args):
        words = [name, precision, str(args.batch_size), str(args.micro_batch or 0)]
        command = [sys.executable, "-m", "benchmarks.training_speed", "--serve", *words]
        quiet = {"env": os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}, "text": True}
        self.name = name
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **quiet)
        if self._process.stdout.readline().strip() != "ready":
            sys.exit(f"{name}: did not begin, see above")

    def ask(self, call):
        """The number that a call gives, and an array of its seconds and its seconds of CPU."""
        print(call, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        number, *seconds = map(float, answer.split()) if answer else sys.exit(f"{self.name}: ended, see above")
        return number, np.array(seconds)

    def end(self):
        self._process.stdin.close()
        self._process.wait()


def compare(precision, args):
    """Print what one precision's rounds give."""
    has_torch = importlib.util.find_spec("torch") is not None
    *sides, yardstick = (Side(name, precision, args) for name in (OURS, KERAS, *[TORCH] * has_torch, YARDSTICK))
    rates, shares = {}, {}  # lists of arrays: pairs a second, and a second of CPU; their parts of the yardstick's

    def yardstick_rate():
        work, seconds = yardstick.ask("work")
        return work / seconds

    for _, side, call in itertools.product(range(args.rounds), sides, GFLOP):
        before = yardstick_rate()
        rate = args.batch_size / side.ask(call)[1]
        rates.setdefault((call, side.name), []).append(rate)
        shares.setdefault((call, side.name), []).append(GFLOP[call] * rate / ((before + yardstick_rate()) / 2))
    ours = sides[0]
    print(
        f"{precision}, batches of {args.batch_size}, medians of {args.rounds} rounds{'' if has_torch else '; no PyTorch here'}"
    )
    for call, side in itertools.product(GFLOP, sides):
        (by_time, by_cpu), share = (np.median(each[call, side.name], axis=0) for each in (rates, shares))
        line = (
            f"  {call:8}{side.name:12} {by_time:7.2f} pairs/s, {1 / by_cpu:.3f} s of CPU a pair, {share[0]:.0%} of {YARDSTICK}"
        )
        line += f" ({share[1]:.0%} by CPU)"
        if side is not ours:
            ratios = np.array(rates[call, OURS]) / rates[call, side.name]
            (low, low_cpu), (high, high_cpu), (middle, middle_cpu) = ratios.min(0), ratios.max(0), np.median(ratios, axis=0)
            line += f"; {OURS} {middle:.2f} times it ({low:.2f} to {high:.2f}), "
            line += f"by CPU {middle_cpu:.2f} ({low_cpu:.2f} to {high_cpu:.2f})"
        print(line)
    print(f"  waiting for images: {ours.ask('waiting')[0]:.1%} of a step")
    print("  peak memory: " + ", ".join(f"{side.name} {side.ask('memory')[0]:.1f} GB" for side in sides), flush=True)
    for side in (*sides, yardstick):
        side.end()


def print_operations(precision, args):
    """Print what the kinds of operations take of this code's step: shares of the seconds of all of them, on a CPU."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    step, space, seconds = our_calls(precision, args.batch_size, args.micro_batch)["step"], xplane_pb2.XSpace(), Counter()
    step()  # tracing
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(args.rounds):
                step()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space.ParseFromString(path.read_bytes())
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            operation = re.fullmatch(r"[^:]+:(?:_MklNative|_Mkl)?([A-Z]\w+)", plane.event_metadata[event.metadata_id].name)
            if operation:
                seconds[operation[1]] += event.duration_ps / 1e12
    print(f"{precision}, batches of {args.batch_size}, {args.rounds} steps of {sum(seconds.values()) / args.rounds:.2f} s")
    for kind, spent in seconds.most_common(12):
        print(f"  {spent / sum(seconds.values()):6.1%} {kind}", flush=True)


def main():
    if sys.argv[1:2] == ["--serve"]:
        side, precision, batch_size, micro_batch = sys.argv[2:]
        serve(side, precision, int(batch_size), int(micro_batch) or None)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--precision", nargs="+", choices=("float32", "tf32", "bfloat16"), default=["float32"], help="of sides")
    parser.add_argument("--batch_size", type=int, default=8, help="pairs")
    parser.add_argument("--micro_batch", type=int, help="pairs that go through this code's network at a time")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is measured")
    parser.add_argument("--operations", action="store_true", help="print instead what each kind takes of this code's step")
    args = parser.parse_args()
    for precision in args.precision:
        (print_operations if args.operations else compare)(precision, args)


if __name__ == "__main__":
    main()
