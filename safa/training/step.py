"""One step of gradient descent on a batch that may be spread over devices, and over parts that fit their memory."""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from safa.datasets.positions import far_apart
from safa.runtime.distribution import gather_rows
from safa.training.gradient_cache import cached_gradients

ADAM_EPSILON = 1e-8  # TensorFlow 1's default; Keras's is 1e-7


def adam(learning_rate, ema=0.0):
    """The paper's optimizer (section 4), with a learning rate or a Keras schedule of it.

    `ema`: decay of the moving average of the weights that it keeps; 0: none.
    """
    average = {"use_ema": True, "ema_momentum": ema} if ema else {}
    return keras.optimizers.Adam(learning_rate, beta_1=0.9, beta_2=0.999, epsilon=ADAM_EPSILON, **average)


def learning_rate_schedule(learning_rate, schedule, warmup_steps, steps):
    """The learning rate of every step: a number, or a keras.optimizers.schedules.LearningRateSchedule.

    Args:
        learning_rate: the highest.
        schedule: "constant" (the paper's), or "cosine", which falls to 0 at the end (Loshchilov & Hutter 2017).
        warmup_steps, steps: steps in which the rate rises linearly from 0, and those of the whole run.
    """
    if schedule == "constant" and not warmup_steps:
        return learning_rate
    begin, target = (0.0, learning_rate) if warmup_steps else (learning_rate, None)
    least = {"constant": 1.0, "cosine": 0.0}[schedule]  # share of the highest that stays at the end
    warmup = {"warmup_target": target, "warmup_steps": warmup_steps}
    return keras.optimizers.schedules.CosineDecay(begin, max(1, steps - warmup_steps), alpha=least, **warmup)


def negatives_of(pairs, of, among):
    """Which references of a batch are negatives of which panoramas.

    A panorama's own reference is not, nor are its acceptable ones and those closer to its own than `negative_metres`.

    Args:
        pairs: datasets.dataset.Pairs.
        of, among: (n,) and (B,) rows of queries: those whose references are asked about, and the whole batch.

    Returns:
        (n, B) float32, 1 where the reference of query of[i] is a negative of query among[j]; None: all but the own are.
    """
    metres = pairs.dataset.negative_metres
    if pairs.one_to_one and metres is None and pairs.acceptable is None:
        return None
    references, own = pairs.truth[of], pairs.truth[among]
    negatives = references[:, None] != own
    if metres is not None:
        negatives &= far_apart(pairs.utm[references], pairs.utm[own], metres)
    if pairs.acceptable is not None:
        negatives &= ~np.stack([np.isin(references, pairs.acceptable[row]) for row in among], axis=1)
    return negatives.astype(np.float32)


def training_step(network, optimizer, loss, strategy=None, micro_batch=None, clip_norm=None):
    """A training step as a function.

    The loss is that of the whole batch: every replica gathers the descriptors of all.

    Args:
        network: spatial_net.Network.
        optimizer: keras.optimizers.Optimizer, built for the network's weights, in the strategy's scope as these.
        loss: function of a whole batch, as `parts.Loss` makes it.
        strategy: tf.distribute.Strategy (default: one device).
        micro_batch: pairs that go through the network at a time (`gradient_cache`), a divisor of a replica's share;
            None: all at once.
        clip_norm: clip the gradient's global norm to this value; None: no clipping.

    Returns:
        Function of an input_data.Batch, spread by `Distribution.spread`, that updates the weights (and a network's other
        state, for instance the means of a BatchNormalization, averaged over replicas) and returns the loss before the update,
        () float32, NaN where the gradient is not finite.
        The first step raises ValueError if a layer has a loss of its own, or a variable is used that is not the network's.
    """
    strategy = strategy or tf.distribute.get_strategy()
    weights = [variable.value for variable in network.trainable_variables]
    of_loss = set() if network.loss_layer is None else set(map(id, network.loss_layer.variables))  # which it updates itself
    states = [variable for variable in network.non_trainable_variables if id(variable) not in of_loss]

    def compute(batch, state):
        """Both branches' descriptors and the state after the batch, which is assigned once, after all micro batches."""
        cursor = tf.stack([tf.cast(optimizer.iterations.value, tf.int64), batch.offset])
        with _only_trained(network), keras.StatelessScope(zip(states, state, strict=True), collect_losses=True) as scope:
            descriptors = network((batch.sat, batch.grd), cursor, training=True)
            if scope.losses or any(variable.regularizer is not None for variable in network.trainable_variables):
                raise ValueError("a layer has a loss of its own (regularizer, add_loss), and only --loss counts: leave it out")
        return descriptors, [tf.convert_to_tensor(scope.get_current_value(variable)) for variable in states]

    def replica_step(batch):
        def share_of_loss(sat, grd):
            gathered = [None if rows is None else gather_rows(rows) for rows in (sat, grd, batch.negatives)]
            with _only_trained(network):
                return loss(*gathered) / strategy.num_replicas_in_sync  # gather_rows sums the replicas' gradients

        state = [tf.convert_to_tensor(variable.value) for variable in states]
        if micro_batch is not None and micro_batch < batch.sat.shape[0]:
            share, gradients, state = cached_gradients(compute, share_of_loss, weights, batch, state, micro_batch)
        else:
            with tf.GradientTape() as tape:
                descriptors, state = compute(batch, state)
                share = share_of_loss(*descriptors)
            gradients = tape.gradient(share, weights, unconnected_gradients="zero")
        context = tf.distribute.get_replica_context()
        # NaN if a device's gradient is not finite: a ReLU may hide the weights that it makes.
        share += context.all_reduce(tf.distribute.ReduceOp.SUM, 0 * tf.linalg.global_norm(gradients))
        if clip_norm is not None:  # the norm of the whole batch's gradient
            norm = tf.linalg.global_norm(context.all_reduce(tf.distribute.ReduceOp.SUM, gradients))
            gradients = [gradient * tf.minimum(1.0, clip_norm / norm) for gradient in gradients]
        optimizer.apply(gradients, network.trainable_variables)
        means = [context.all_reduce(tf.distribute.ReduceOp.MEAN, each) if each.dtype.is_floating else each for each in state]
        return share * strategy.num_replicas_in_sync, means

    @tf.function(autograph=False)  # no Python to rewrite; half a second sooner
    def step(batch):
        loss, state = strategy.run(replica_step, (batch,))
        for variable, value in zip(states, state, strict=True):
            variable.value.assign(_of_one_replica(strategy, value))
        return _of_one_replica(strategy, loss)

    return step


@contextlib.contextmanager
def _only_trained(network):
    """A context, while a step is traced, that refuses variables that are used and that nobody trains."""
    with tf.GradientTape() as tape:
        yield
    known = {variable.value.ref() for variable in network.variables}
    strangers = [variable.name for variable in tape.watched_variables() if variable.ref() not in known]
    if strangers:
        raise ValueError(f"variables of no layer are used, not trained ({strangers[0]}): make it a Keras layer that has them")


def _of_one_replica(strategy, value):
    return strategy.experimental_local_results(value)[0]
