"""Where a run computes: one device, several GPUs of a machine, or several machines, by tf.distribute.

A batch is spread over replicas, one a device. The replicas of a process are fed by that process alone.
"""

from runtime import backend
from runtime.errors import UserError, first_line
from runtime.interruption import SIGNALS, StopRequest

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import time

import numpy as np
import tensorflow as tf

CLUSTER = "TF_CONFIG"
PORTS = range(1, 2**16)
RETRY_SECONDS = 0.5  # between two looks at processes that do not listen yet
ANSWER_SECONDS = 5.0  # that a connection may take


class Distribution:
    """The replicas of a run and this process's part in it.

    To be made before TensorFlow computes anything. Several machines where the environment's TF_CONFIG names them, else
    several GPUs of this one, else one device.

    Args:
        devices: number of GPUs to use (default: all). Without GPUs the CPU counts as so many devices, which makes
            nothing faster but tries the distribution.
        precision: see `backend.compute_in`.

    Attributes:
        strategy: tf.distribute.Strategy.
        replicas: number of devices that share a batch.
        is_chief: whether this process is the one that reports and writes.
        has_others: whether the run has other processes.

    Raises:
        UserError: TF_CONFIG cannot be understood, its machines do not answer, there are fewer GPUs, or the CPU is not
            made for the precision.
    """

    def __init__(self, devices=None, precision="float32"):
        backend.compute_in(precision)
        self._addresses, self._own_number = _cluster()
        self.has_others = len(self._addresses) > 1
        self._gpus = _choose_devices(devices)
        if not self._gpus and (warning := backend.unused_gpu_warning()):
            print(warning, flush=True)
        self.strategy = self._strategy()
        self.replicas = self.strategy.num_replicas_in_sync
        numbers = []
        self._from_function(lambda context: numbers.append(context.replica_id_in_sync_group) or tf.constant(0))
        self._own = numbers
        self.is_chief = numbers[0] == 0

    def __str__(self):
        if self.replicas == 1:
            return backend.devices()
        among = f" of {len(self._addresses)} processes" if self.has_others else ""
        return f"{self.replicas} {'GPUs' if self._gpus else 'CPU devices'}{among}"

    def local_rows(self, order, batch_size):
        """The rows that this process reads, batch by batch.

        Args:
            order: (N,) rows of all replicas' batches, N a multiple of their number.
            batch_size: of all replicas together, a multiple of their number; the last batch may have fewer.

        Returns:
            (N * local share,) rows, in batches of `local_batch_size(batch_size)`.
        """
        parts = []
        for start in range(0, len(order), batch_size):
            batch = np.asarray(order[start : start + batch_size])
            parts.append(batch.reshape(self.replicas, -1)[self._own].reshape(-1))
        return np.concatenate(parts)

    def local_batch_size(self, batch_size):
        """Pairs of a batch that this process reads."""
        return batch_size // self.replicas * len(self._own)

    def spread(self, *arrays):
        """Give each of this process's replicas its part of a batch, as `strategy.run` takes it.

        Args:
            arrays: with this process's rows of the batch.

        Returns:
            first: (), int64 a replica: the number that the replica's first row has in the whole batch.
            A part of each array, a replica.
        """
        each = len(arrays[0]) // len(self._own)

        def part(array, number):
            start = (number - self._own[0]) * each
            return tf.convert_to_tensor(array[start : start + each])

        parts = [
            self._from_function(lambda context, array=array: part(array, context.replica_id_in_sync_group)) for array in arrays
        ]
        return self._from_function(lambda context: tf.constant(context.replica_id_in_sync_group * each, tf.int64)), *parts

    def everywhere(self, value):
        """Give each of this process's replicas the same value, as `strategy.run` takes it."""
        return self._from_function(lambda context: tf.constant(value))

    def agree(self, text):
        """Refuse to go on if another process of the run says something else.

        Args:
            text: what all of them must say, such as their settings.

        Raises:
            UserError: in all processes.
        """
        if not self.has_others:
            return
        digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")

        @tf.function
        def gather(digest):
            return self.strategy.run(gather_rows, (digest,))

        digests = gather(self._from_function(lambda context: tf.constant([digest], tf.int64)))
        if len(np.unique(self.strategy.experimental_local_results(digests)[0])) > 1:
            raise UserError(
                "the processes of the run were started with different settings, or see different data; "
                "give all of them the same"
            )

    def share_chiefs_values(self, variables):
        """Give variables of all processes the chief's values."""
        if not self.has_others:
            return

        def sum_over_replicas(values):
            context = tf.distribute.get_replica_context()
            is_chief = tf.equal(context.replica_id_in_sync_group, 0)
            return [
                context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(is_chief, value, tf.zeros_like(value)))
                for value in values
            ]

        @tf.function
        def chiefs(values):
            shared = self.strategy.run(sum_over_replicas, (values,))
            return [self.strategy.experimental_local_results(value)[0] for value in shared]

        values = [tf.convert_to_tensor(variable) for variable in variables]
        for variable, value in zip(variables, chiefs(values), strict=True):
            variable.assign(value)

    def _strategy(self):
        if self.has_others:
            with StopRequest() as stop, stop.at_once():
                _wait_for_all(self._addresses, self._own_number)
            # TensorFlow runs no handler of Python's while it connects, and leaves one that ignores SIGTERM.
            handlers = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
            try:
                return tf.distribute.MultiWorkerMirroredStrategy()
            except (tf.errors.OpError, ValueError, RuntimeError) as error:
                raise UserError(
                    f"{CLUSTER}: {first_line(error)}; check its addresses, and that every worker was started"
                ) from None
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        names = [device.name for device in tf.config.list_logical_devices("GPU" if self._gpus else "CPU")]
        return tf.distribute.MirroredStrategy(names) if len(names) > 1 else tf.distribute.get_strategy()

    def _from_function(self, value_of):
        return self.strategy.experimental_distribute_values_from_function(value_of)


def gather_rows(rows):
    """All replicas' rows, in their order, for each of them; to be called in a replica's context.

    Gradients go back through it: each replica gets the sum of all replicas' gradients by its rows.

    Args:
        rows: (b, ...), as many in every replica.

    Returns:
        (b * replicas, ...).
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return rows
    return context.all_gather(tf.identity(rows), axis=0)  # the identity has the replica's device; an argument lacks it


@contextlib.contextmanager
def understood(distribution, remedy):
    """Say in a user's words what TensorFlow says about memory and about other processes.

    Args:
        distribution: Distribution.
        remedy: what to do when a device's memory is full.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError:
        raise UserError(f"the device's memory is full; use {remedy}") from None
    except tf.errors.OpError as error:
        if not distribution.has_others:
            raise
        raise UserError(
            f"another process of the run has ended or cannot be reached ({type(error).__name__}); start "
            "all of them again: they go on from the last checkpoint"
        ) from None


def _choose_devices(devices):
    gpus = tf.config.list_physical_devices("GPU")
    if devices is not None and gpus:
        if devices > len(gpus):
            raise UserError(f"--devices {devices}: this machine has {backend.devices()}; use no more")
        gpus = gpus[:devices]
        tf.config.set_visible_devices(gpus, "GPU")
    elif devices is not None:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * devices
        )
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return gpus


def _cluster():
    """The processes of the run, by TF_CONFIG: their addresses, "host:port" each, and the number of this one among them."""
    text = os.environ.get(CLUSTER)
    if not text:
        return ["alone"], 0
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        chiefs, workers = cluster.get("chief", []), cluster.get("worker", [])
        addresses = chiefs + workers
        if (
            set(cluster) - {"chief", "worker"}
            or task["type"] not in cluster
            or not (0 <= int(task["index"]) < len(cluster[task["type"]]))
        ):
            raise ValueError("workers (and a chief) are expected, and a task that is one of them")
        if (
            len(set(addresses)) < len(addresses)
            or not all(re.fullmatch(r"\S+:\d{1,5}", address) for address in addresses)
            or int(task["index"]) != task["index"]
        ):
            raise ValueError("addresses are host:port, each once, and the index a whole number")
        if not all(_port(address) in PORTS for address in addresses):
            raise ValueError(f"ports are numbers from {PORTS[0]} to {PORTS[-1]}")
        return addresses, int(task["index"]) + (len(chiefs) if task["type"] == "worker" else 0)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f'{CLUSTER}: not like {{"cluster": {{"worker": ["host1:12345", "host2:12345"]}}, "task": '
            f'{{"type": "worker", "index": 0}}}} ({first_line(error)}); correct it, or unset it'
        ) from None


def _port(address):
    return int(address.rpartition(":")[2])


def _wait_for_all(addresses, own):
    """Wait until a process listens at every address, as this one does at its own meanwhile.

    TensorFlow would wait too, but would answer no signal and not say for whom.

    Raises:
        UserError: the own port is taken.
        Stopped: by a signal.
    """
    dual = socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server(
            ("", _port(addresses[own])), dualstack_ipv6=dual, family=socket.AF_INET6 if dual else socket.AF_INET
        )
    except OSError as error:
        raise UserError(
            f"{CLUSTER}: port {_port(addresses[own])} of this process cannot be used ({error.strerror}); "
            "end what uses it, or name another port in all processes"
        ) from None
    with listener:
        missing = [address for number, address in enumerate(addresses) if number != own]
        said = False
        while missing := [address for address in missing if not _listens(address)]:
            if not said:
                print(f"waiting for {len(missing)} of {len(addresses)} processes: {', '.join(missing)}", flush=True)
                said = True
            time.sleep(RETRY_SECONDS)


def _listens(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, UnicodeError):  # UnicodeError: a host name that cannot be one
        return False
    return True
