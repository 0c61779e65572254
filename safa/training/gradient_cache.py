"""The gradient of a loss of the whole batch, for the memory of a micro batch (gradient caching; Gao et al. 2021)."""

import tensorflow as tf


def cached_gradients(compute, loss, variables, batch, state, micro_batch):
    """Loss and gradients of a batch whose images go through the network in micro batches, twice.

    First for the descriptors; then, with the loss's gradient by these known, for the weights'.

    Args:
        compute: function of a Batch and the network's state that returns both branches' descriptors and the new state.
        loss: function of both branches' descriptors that returns what is differentiated, () float32.
        variables: the weights' tf.Variables.
        batch: input_data.Batch of this replica.
        state: list of tensors, what the network updates besides its weights.
        micro_batch: pairs of a micro batch, a divisor of the batch.

    Returns:
        What `loss` returns, the list of gradients by `variables`, and the state after the batch.
    """
    count = batch.sat.shape[0] // micro_batch

    def slots_of(number):
        return slice(number * micro_batch, (number + 1) * micro_batch)

    def micro(number):
        slots = slots_of(number)
        offset = batch.offset + tf.cast(number * micro_batch, tf.int64)
        return batch._replace(sat=batch.sat[slots], grd=batch.grd[slots], offset=offset)

    # One after the other: in a plain loop TensorFlow would compute them at once.
    def in_turn(body, *carried):
        return tf.while_loop(
            lambda number, *_: number < count,
            lambda number, *carried: (number + 1, *body(number, *carried)),
            (0, *carried),
            parallel_iterations=1,
        )[1:]

    def write_descriptors(number, arrays, state):
        descriptors, state = compute(micro(number), state)
        return [array.write(number, each) for array, each in zip(arrays, descriptors, strict=True)], state

    arrays = [tf.TensorArray(tf.float32, count) for _ in ("sat", "grd")]
    arrays, _ = in_turn(write_descriptors, arrays, state)
    descriptors = [array.concat() for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(descriptors)
        total = loss(*descriptors)
    # By variables it is 0, but for weights that a loss has of its own.
    by_descriptors, of_loss = tape.gradient(total, (descriptors, variables), unconnected_gradients="zero")

    def add_gradients(number, sums, state):
        with tf.GradientTape() as tape:
            descriptors, state = compute(micro(number), state)
        gradients = tape.gradient(descriptors, variables, [each[slots_of(number)] for each in by_descriptors], "zero")
        return [sum_ + gradient for sum_, gradient in zip(sums, gradients, strict=True)], state

    gradients, state = in_turn(add_gradients, list(map(tf.convert_to_tensor, of_loss)), state)
    return total, gradients, state
