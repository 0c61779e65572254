"""Training a network: batches, steps, validation, checkpoints (paper, section 4)."""
import csv
import io
import itertools
import os
import time

import backend

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from checkpoints import RunCheckpoints
from configuration import SETTINGS, settings_text
from errors import UserError
from evaluation import Describer, evaluate, recall_line, tie_warning
from image_files import write_whole
from initial_weights import continue_published, initialise
from input_data import batches, epoch_order
from spatial_net import network as build_network
from triplet_loss import far_apart, triplet_loss

ADAM_EPSILON = 1e-8  # TensorFlow 1's default; Keras's is 1e-7
COLUMNS = ("epoch", "loss", "recall@1", "recall@5", "recall@10", "recall@1%", "seconds")


def train(network_config, training_config, train_pairs, val_pairs, folder, csv_path, negative_metres=None,
          published_parts=("VGG", "spatial")):
    """Train a network, or go on with a run that was stopped, after its last finished epoch.

    After every epoch: recall on the validation split, a line in the CSV file, a checkpoint.

    Args:
        network_config, training_config: configuration.NetworkConfig and TrainingConfig.
        train_pairs, val_pairs: input_data.Pairs.
        folder: for checkpoints.
        csv_path: file for losses and recalls.
        negative_metres: pairs closer than this are not negatives of each other; None: all other pairs are.
        published_parts: which layers to take from a checkpoint given as starting weights.

    Raises:
        UserError: weights cannot be had, or the loss is not finite any more.
    """
    _read_lines(csv_path)  # refuses what is not one, before anything is written
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    network = build_network(network_config, training_config.keep_prob, training_config.seed)
    optimizer = adam(training_config.learning_rate)
    optimizer.build(network.trainable_variables)
    describer = Describer(network)
    os.makedirs(folder, exist_ok=True)
    os.makedirs(os.path.dirname(csv_path), exist_ok=True)
    checkpoints = RunCheckpoints(folder, network, optimizer)

    print(f"{train_pairs.dataset}: {network_config}; {len(train_pairs):,} pairs for training, {len(val_pairs):,} for "
          f"validation; on {backend.devices()}", flush=True)
    restored = checkpoints.restore()
    if restored is not None:
        print(f"going on after epoch {int(checkpoints.epoch.numpy())} of {training_config.epochs}, from {restored}",
              flush=True)
    else:
        checkpoints.check_space()
        if training_config.continue_from is not None:
            step = continue_published(network, optimizer, training_config.continue_from, network_config)
            checkpoints.epoch.assign(step // (len(train_pairs) // training_config.batch_size))
        else:
            initialise(network, training_config.init, network_config, published_parts)
        write_whole(os.path.join(folder, SETTINGS), settings_text(network_config, training_config).encode())
        print(f"weights: {training_config.continue_from or training_config.init}; Adam's step "
              f"{int(optimizer.iterations.numpy())}, {int(checkpoints.epoch.numpy())} epochs done; dropout keeps "
              f"{training_config.keep_prob:g} of the activations", flush=True)
        before = "untrained" if training_config.continue_from is None else "before training"
        result = evaluate(*describer(val_pairs, network_config, training_config.batch_size, before))
        print(f"{before}: {recall_line(result['pessimistic_recall'])}", flush=True)

    finished = int(checkpoints.epoch.numpy())
    if finished >= training_config.epochs:
        print(f"all {training_config.epochs} epochs were finished before; use more --epochs to go on", flush=True)
        return
    lines = _read_lines(csv_path)
    if lines and (restored is None or int(lines[-1][0]) > finished + 1):
        kept = _free_name(csv_path)
        os.replace(csv_path, kept)
        print(f"{csv_path}: held the lines of another run, or of one cut off; kept as {kept}", flush=True)
    step = training_step(network, optimizer, negative_metres, training_config.batch_hard_count)
    for epoch in range(finished + 1, training_config.epochs + 1):
        begin = time.perf_counter()
        loss = _train_epoch(step, train_pairs, network_config, training_config, epoch)
        trained = time.perf_counter()
        result = evaluate(*describer(val_pairs, network_config, training_config.batch_size, "validation"))
        recalls = result["recall"]
        seconds = time.perf_counter() - begin
        pairs = len(train_pairs) // training_config.batch_size * training_config.batch_size
        print(f"epoch {epoch}: loss {loss:.4f}  {recall_line(recalls)}  {seconds:.1f} s, "
              f"{pairs / (trained - begin):.1f} pairs/s", flush=True)
        if (warning := tie_warning(result)) is not None:
            print(f"{warning}; pessimistic: {recall_line(result['pessimistic_recall'])}", flush=True)
        # A run that is killed between these repeats the epoch, and writes the same line and checkpoint again.
        _write_line(csv_path, (epoch, f"{loss:.6f}", *(f"{value:.6f}" for value in recalls.values()), f"{seconds:.2f}"))
        recall = result["pessimistic_recall"]["1"]  # so that a collapsed network is never the best
        best = recall > checkpoints.best_recall.numpy()
        checkpoints.epoch.assign(epoch)
        checkpoints.best_recall.assign(max(recall, checkpoints.best_recall.numpy()))
        checkpoints.save(best)
    print(f"finished {training_config.epochs} epochs; best R@1 {100 * checkpoints.best_recall.numpy():.2f}; "
          f"checkpoints in {folder}, losses and recalls in {csv_path}", flush=True)


def adam(learning_rate):
    """The paper's optimizer."""
    return keras.optimizers.Adam(learning_rate, beta_1=0.9, beta_2=0.999, epsilon=ADAM_EPSILON)


def training_step(network, optimizer, negative_metres=None, batch_hard_count=0):
    """One step of gradient descent as a function.

    Args:
        network: keras.Model of `spatial_net.network`.
        optimizer: built for the network's weights.
        negative_metres: see `train`.
        batch_hard_count: see `triplet_loss`.

    Returns:
        Function of sat, grd ((B, H, W, 3) uint8) and utm ((B, 2) float64, or None) that updates the weights and
        returns the loss before the update, () float32.
    """
    variables = network.trainable_variables

    @tf.function
    def step(sat, grd, utm):
        with tf.GradientTape() as tape:
            descriptors = network([sat, grd], training=True)
            mask = None if negative_metres is None else far_apart(utm, negative_metres)
            loss = triplet_loss(*descriptors, mask, batch_hard_count)
        optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
        return loss

    return step


def _train_epoch(step, pairs, network_config, training_config, epoch):
    """One epoch; returns its mean loss."""
    batch_size = training_config.batch_size
    steps = len(pairs) // batch_size  # an incomplete batch is dropped
    order = epoch_order(len(pairs), epoch, training_config.seed)[:steps * batch_size]
    total, pending = 0.0, None
    with tqdm(total=len(order), desc=f"epoch {epoch}", unit="pair", leave=False, disable=None) as progress:

        def account(number, loss):
            loss = float(loss)
            if not np.isfinite(loss):
                raise UserError(
                    f"epoch {epoch}, step {number} of {steps}: the loss is {loss}, so the run is stopped; the "
                    f"checkpoints of the epochs before are kept. Use a lower --learning_rate with another --model_dir"
                    + ("" if pairs.utm is None else "; a batch of places all close together has no negatives"))
            progress.set_postfix(loss=f"{total / max(number - 1, 1):.4f}", refresh=False)
            progress.update(batch_size)
            return loss

        reader = batches(pairs, order, batch_size, network_config.sat_shape, network_config.grd_shape)
        for number, (sat, grd, rows) in enumerate(reader, 1):
            loss = step(sat, grd, None if pairs.utm is None else pairs.utm[rows])
            if pending is not None:  # one step behind, so that the device computes while its last loss is looked at
                total += account(number - 1, pending)
            pending = loss
        total += account(steps, pending)
    return total / steps


def _read_lines(path):
    """The lines of a CSV file of this module without its header; none where there is no file."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = [line for line in csv.reader(file) if line]
    except FileNotFoundError:
        return []
    except (UnicodeDecodeError, csv.Error):
        lines = [None]
    if lines[:1] != [list(COLUMNS)] or not all(line[0].isdecimal() for line in lines[1:]):
        raise UserError(f"{path}: not a file of losses and recalls; move it away, or use another --result_dir")
    return lines[1:]


def _free_name(path):
    """A name beside `path` that no file has."""
    numbers = itertools.count(1)
    return next(name for name in (path.removesuffix(".csv") + f".previous-{number}.csv" for number in numbers)
                if not os.path.exists(name))


def _write_line(path, row):
    """Put an epoch's line into the CSV file, in place of its own and later ones from a run that was stopped."""
    lines = [line for line in _read_lines(path) if int(line[0]) < row[0]]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *lines, row])
    write_whole(path, text.getvalue().encode())
