"""One step of gradient descent on a batch that may be spread over devices, and over parts that fit their memory."""

from runtime import backend  # noqa: F401
from runtime.distribution import gather_rows

import keras
import tensorflow as tf

from triplet_loss import far_apart, triplet_loss

ADAM_EPSILON = 1e-8  # TensorFlow 1's default; Keras's is 1e-7


def adam(learning_rate):
    """The paper's optimizer (section 4).

    Args:
        learning_rate: a number, or a keras.optimizers.schedules.LearningRateSchedule.
    """
    # The name is part of the keys in checkpoints; a second optimizer of a process would get another.
    return keras.optimizers.Adam(learning_rate, beta_1=0.9, beta_2=0.999, epsilon=ADAM_EPSILON, name="adam")


def learning_rate_schedule(learning_rate, schedule, warmup_steps, steps):
    """The learning rate of every step.

    Args:
        learning_rate: the highest.
        schedule: "constant" (the paper's), or "cosine", which falls to 0 at the end (Loshchilov & Hutter 2017).
        warmup_steps: steps in which the rate rises linearly from 0.
        steps: of the whole run.

    Returns:
        A number, or a keras.optimizers.schedules.LearningRateSchedule.
    """
    if schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup_steps else learning_rate,
            max(1, steps - warmup_steps),
            warmup_target=learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    if warmup_steps:
        return keras.optimizers.schedules.PolynomialDecay(0.0, warmup_steps, end_learning_rate=learning_rate)
    return learning_rate


def training_step(
    network, optimizer, strategy=None, negative_metres=None, batch_hard_count=0, micro_batch=None, clip_norm=None
):
    """A training step as a function.

    The loss is that of the whole batch: every replica gathers the descriptors of all. With `micro_batch`, the images
    go through the network in parts, twice: first for the descriptors, then, with the loss's gradient by these known,
    for the weights' (gradient caching; Gao et al. 2021). That is the same gradient, for the memory of a part.

    Args:
        network: keras.Model of `spatial_net.network`.
        optimizer: keras.optimizers.Optimizer, built for the network's weights, in the strategy's scope as these.
        strategy: tf.distribute.Strategy (default: one device).
        negative_metres: pairs closer than this are not negatives of each other; None: all other pairs are.
        batch_hard_count: see `triplet_loss`.
        micro_batch: pairs of a part, a divisor of a replica's share; None: all at once.
        clip_norm: gradients with a greater norm, over all weights, are scaled to it; None: not.

    Returns:
        Function of first, sat, grd, utm and stop. It updates the weights and returns the loss before the update,
        () float32, and the sum of `stop`, which is how the processes of a run agree on its end. The arguments, each
        for all replicas as `Distribution.spread` gives them: first row of the replica's part in the batch, () int64;
        images, (B, H, W, 3) uint8; positions, (B, 2) float64, or None; () float32, of this process.
    """
    strategy = strategy or tf.distribute.get_strategy()
    variables = network.trainable_variables

    def describe(sat, grd, first):
        position = tf.stack([tf.cast(optimizer.iterations.value, tf.int64), first])
        with keras.StatelessScope([(variable, position) for variable in network.non_trainable_variables]):
            return network([sat, grd], training=True)

    def gradients_of(loss_or_descriptors, tape, output_gradients=None):
        return tape.gradient(loss_or_descriptors, [variable.value for variable in variables], output_gradients)

    def batch_loss(descriptors, utm):
        descriptors = [gather_rows(each) for each in descriptors]
        utm = None if utm is None else gather_rows(utm)
        mask = None if negative_metres is None else far_apart(utm, negative_metres)
        return triplet_loss(*descriptors, mask, batch_hard_count)

    def whole(first, sat, grd, utm):
        with tf.GradientTape() as tape:
            loss = batch_loss(describe(sat, grd, first), utm)
            own = loss / strategy.num_replicas_in_sync  # gather_rows sums the replicas' gradients
        return loss, gradients_of(own, tape)

    def in_parts(first, sat, grd, utm):
        parts = sat.shape[0] // micro_batch

        def part(number):
            rows = slice(number * micro_batch, (number + 1) * micro_batch)
            return sat[rows], grd[rows], first + tf.cast(number * micro_batch, tf.int64)

        # One part after the other: in a plain loop TensorFlow would compute them at once.
        arrays = [tf.TensorArray(tf.float32, parts, element_shape=(micro_batch, output.shape[1])) for output in network.outputs]
        _, arrays = tf.while_loop(
            lambda number, arrays: number < parts,
            lambda number, arrays: (
                number + 1,
                [array.write(number, each) for array, each in zip(arrays, describe(*part(number)), strict=True)],
            ),
            (0, arrays),
            parallel_iterations=1,
        )
        descriptors = [array.concat() for array in arrays]
        with tf.GradientTape() as tape:
            tape.watch(descriptors)
            loss = batch_loss(descriptors, utm)
            own = loss / strategy.num_replicas_in_sync
        by_descriptors = tape.gradient(own, descriptors)

        def add_part(number, sums):
            with tf.GradientTape() as tape:
                described = describe(*part(number))
            rows = slice(number * micro_batch, (number + 1) * micro_batch)
            gradients = gradients_of(described, tape, [each[rows] for each in by_descriptors])
            return number + 1, [total + gradient for total, gradient in zip(sums, gradients, strict=True)]

        _, gradients = tf.while_loop(
            lambda number, sums: number < parts,
            add_part,
            (0, [tf.zeros(variable.shape) for variable in variables]),
            parallel_iterations=1,
        )
        return loss, gradients

    def replica_step(first, sat, grd, utm, stop):
        part_by_part = micro_batch is not None and micro_batch < sat.shape[0]
        loss, gradients = (in_parts if part_by_part else whole)(first, sat, grd, utm)
        context = tf.distribute.get_replica_context()
        if clip_norm is not None:  # the norm of the whole batch's gradient
            norm = tf.linalg.global_norm(context.all_reduce(tf.distribute.ReduceOp.SUM, gradients))
            gradients = [gradient * tf.minimum(1.0, clip_norm / norm) for gradient in gradients]
        optimizer.apply(gradients, variables)
        # The identity has the replica's device, which an argument lacks.
        return loss, context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(stop))

    @tf.function
    def step(first, sat, grd, utm, stop):
        loss, stops = strategy.run(replica_step, (first, sat, grd, utm, stop))
        return strategy.experimental_local_results(loss)[0], strategy.experimental_local_results(stops)[0]

    return step
