"""The variables of a network and its optimizer by names of ours, which no other layer of the process can change."""

import hashlib

import numpy as np

MOMENTS = "momentum", "velocity"  # of Adam, as Keras calls them
AVERAGE = "average"  # Keras's name of a weight's moving average
NETWORK, ADAM = "network/", "adam/"  # first part of the keys in our checkpoints
STEP, LOSS = f"{ADAM}step", "loss"
SEED = "seed_generator"  # in the names of the states of Keras's own dropout: drawn, not learned


def network_weights(network):
    """What Adam trains: {"sat/backbone/00_kernel": tf.Variable, ...}.

    A name says the branch, the part, and the variable's place in it; what layers are called does not matter, so twins and
    layers that Keras numbers for itself keep apart in every process.
    """
    return _by_name(network, "trainable_variables")


def network_variables(network):
    """The same of all that a network learns: its weights and, for instance, the means of a BatchNormalization."""
    return network_weights(network) | _by_name(network, "non_trainable_variables", "state_")


def _by_name(network, kind, prefix=""):
    """The variables of a kind of all parts that have weights, in the order of the network's own list."""
    branches = {"sat": network.sat, "grd": network.grd}.items()
    parts = {f"{name}/{part}": getattr(branch, part) for name, branch in branches for part in ("backbone", "aggregation")}
    if network.is_shared:
        del parts["grd/backbone"]  # the satellite branch's
    if network.loss_layer is not None:
        parts[LOSS] = network.loss_layer
    of_parts = ((part, *each) for part, layer in parts.items() for each in enumerate(getattr(layer, kind)))
    return {f"{part}/{prefix}{number:02}_{variable.name}": variable.value for part, number, variable in of_parts}


def adam_variables(network, optimizer):
    """What Adam keeps: {"adam/step": tf.Variable, "adam/sat/backbone/00_kernel/momentum": ..., ".../velocity", ".../average"}.

    `optimizer`: keras.optimizers.Adam, built for the network's trainable variables. What another one keeps besides is
    "adam/other/002": its third variable.
    """
    weights, found = network_weights(network), {STEP: optimizer.iterations.value}
    for kind in (*MOMENTS, AVERAGE):
        of_kind = [variable.value for variable in optimizer.variables if variable.name.endswith(f"_{kind}")]
        if len(of_kind) == len(weights):
            found |= {f"{ADAM}{name}/{kind}": each for name, each in zip(weights, of_kind, strict=True)}
    known = {id(each) for each in found.values()}
    others = ((n, each) for n, each in enumerate(optimizer.variables) if each.name != "learning_rate")
    return found | {f"{ADAM}other/{n:03}": each.value for n, each in others if id(each.value) not in known}


def weights_digest(network):
    """What a network has learned, as 16 hexadecimal digits: descriptors of the same weights can be used again."""
    digest = hashlib.sha256()
    for name, variable in sorted(network_variables(network).items()):
        if SEED not in name:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(variable.numpy()))
    return digest.hexdigest()[:16]


class Averages:
    """A context in which a network has the moving averages of its weights that Adam keeps, if it keeps any.

    Afterwards the network has its own weights again.

    Args:
        network, optimizer: as of `adam_variables`.

    Attributes:
        pairs: of each weight and its average.
        are_in: whether the network has averages, or some of them: weights that nobody may save as its own.
    """

    def __init__(self, network, optimizer):
        kept, weights = adam_variables(network, optimizer), network_weights(network)
        self.pairs = [(weight, kept[key]) for name, weight in weights.items() if (key := f"{ADAM}{name}/{AVERAGE}") in kept]
        self._own, self.are_in = [], False

    def __enter__(self):
        self._own, self.are_in = [weight.numpy() for weight, _ in self.pairs], True
        for weight, average in self.pairs:
            weight.assign(average)

    def __exit__(self, *_):
        for (weight, _), own in zip(self.pairs, self._own, strict=True):
            weight.assign(own)
        self._own, self.are_in = [], False
