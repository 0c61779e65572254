"""What a network costs: parameters, multiplications and the size of its descriptor, counted from the network itself."""

import hashlib
import logging

import tensorflow as tf


def network_cost(network):
    """{"parameters": number, "gmac": of a pair, "descriptor": values} of a spatial_net.Network; and a digest of what it does
    with images and weights, 16 hexadecimal digits, which changes with its code.

    A GMAC is 1e9 multiplications with an addition each: half the floating-point operations that TensorFlow's profiler counts in
    the forward graphs of both branches.
    """
    operations, computation = 0, hashlib.sha256()
    for branch in (network.sat, network.grd):
        images = tf.TensorSpec((1, *branch.image_shape, 3))
        forward = tf.function(lambda images, branch=branch: branch(images, training=False), autograph=False)
        graph = forward.get_concrete_function(images).graph
        computation.update(graph.as_graph_def().SerializeToString(deterministic=True))
        options = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
        logging.disable(logging.WARNING)  # TensorFlow calls its own profiler deprecated
        operations += tf.compat.v1.profiler.profile(graph, options=options.with_empty_output().build()).total_float_ops
        logging.disable(logging.NOTSET)
    cost = {
        "parameters": sum(int(variable.shape.num_elements()) for variable in network.trainable_variables),
        "gmac": operations / 2e9,
        "descriptor": network.sat.dimension,
    }
    return cost, computation.hexdigest()[:16]
