"""Where a run computes: one device, several GPUs of a machine, or several machines, by tf.distribute.

A batch is spread over replicas, one a device. The replicas of a process are fed by that process alone.
"""

import hashlib
import os
import signal

import numpy as np
import tensorflow as tf

from safa.runtime import backend
from safa.runtime.cluster import processes, say, uses_slurm
from safa.runtime.errors import UserError, first_line
from safa.runtime.interruption import SIGNALS


class Distribution:
    """The replicas of a run, and which of them are this process's.

    To be made before TensorFlow computes anything. Several machines where TF_CONFIG or Slurm's `srun` names them, else
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
        notes: lines for the user.

    Raises:
        UserError: the machines do not answer, there are fewer GPUs, or the CPU is not made for the precision.
    """

    def __init__(self, devices=None, precision="float32"):
        backend.compute_in(precision)
        self._processes, _ = processes()
        self.has_others = self._processes > 1
        self._gpus = _choose_devices(devices)
        warning = None if self._gpus else backend.unused_gpu_warning()
        self.notes = [] if warning is None else [warning]
        self.strategy = self._strategy()
        self.replicas = self.strategy.num_replicas_in_sync
        self._own = []  # numbers of this process's replicas
        self._from_function(lambda context: self._own.append(context.replica_id_in_sync_group) or tf.constant(0))
        self.is_chief = self._own[0] == 0
        self._sum = self.traced(_sum_over_replicas)

    def __str__(self):
        if self.replicas == 1:
            return backend.devices()
        among = f" of {self._processes} processes" if self.has_others else ""
        return f"{self.replicas} {'GPUs' if self._gpus else 'CPU devices'}{among}"

    def local_rows(self, order, batch_size):
        """The rows that this process reads, batch by batch: (N * local share,); and how many of them a batch has.

        `order`: (N,) rows of all replicas' batches; `batch_size`: of all replicas together; both multiples of their number.
        The last batch may have fewer.
        """
        parts = []
        for start in range(0, len(order), batch_size):
            batch = np.asarray(order[start : start + batch_size])
            parts.append(batch.reshape(self.replicas, -1)[self._own].reshape(-1))
        rows = np.concatenate([order[:0], *parts])  # a run that was stopped after an epoch's last step has none left
        return rows, batch_size // self.replicas * len(self._own)

    def spread(self, *arrays):
        """Give each of this process's replicas its share of a batch, as `strategy.run` takes it.

        Args:
            arrays: with this process's rows of the batch, or None.

        Returns:
            offset: (), int64 a replica: the slot of the whole batch that the replica's share begins with.
            A share of each array, a replica; None for None.
        """
        each = len(arrays[0]) // len(self._own)

        def shares(array):
            own = dict(zip(self._own, np.split(array, len(self._own)), strict=True))
            return self._from_function(lambda context: tf.convert_to_tensor(own[context.replica_id_in_sync_group]))

        offset = self._from_function(lambda context: tf.constant(context.replica_id_in_sync_group * each, tf.int64))
        return offset, *(None if array is None else shares(array) for array in arrays)

    def traced(self, function):
        """A replica's function as one of this process: compiled, run by all replicas, with what the first one here returns."""

        @tf.function(reduce_retracing=True, autograph=False)
        def of_process(*values):
            found = self.strategy.run(function, values)
            return tf.nest.map_structure(lambda each: self.strategy.experimental_local_results(each)[0], found)

        return of_process

    def sum_over_processes(self, value):
        """The sum of all processes' numbers, which need not be there yet; to be called by all processes."""
        return self._sum(self._from_function(lambda _: tf.constant(value))) if self.has_others else value

    def agree(self, text):
        """Refuse (UserError) to continue, in all processes, if one says something else: other settings, for instance."""
        digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
        digests = self.traced(gather_rows)(self._from_function(lambda _: tf.constant([digest], tf.int64)))
        if len(np.unique(digests)) > 1:
            raise UserError("the processes of the run have different settings or different data; give all of them the same")

    def share_chiefs_values(self, variables):
        """Give variables of all processes the chief's values."""
        if not self.has_others:
            return

        def of_chief(*values):
            is_chief = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
            return [_sum_over_replicas(tf.where(is_chief, value, tf.zeros_like(value))) for value in values]

        values = self.traced(of_chief)(*map(tf.convert_to_tensor, variables))
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _strategy(self):
        if self.has_others:
            resolver = _slurm_resolver(len(self._gpus), self._processes) if uses_slurm() else None
            # TensorFlow runs no handler of Python's while it waits for the others, and leaves one that ignores SIGTERM.
            handlers = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
            say(f"waiting until all {self._processes} processes of the run have started")
            try:
                return tf.distribute.MultiWorkerMirroredStrategy(resolver)
            except (tf.errors.OpError, ValueError, RuntimeError) as error:
                raise UserError(f"the other processes: {first_line(error)}; check that all run at these addresses") from None
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        names = [device.name for device in tf.config.list_logical_devices("GPU" if self._gpus else "CPU")]
        return tf.distribute.MirroredStrategy(names) if len(names) > 1 else tf.distribute.get_strategy()

    def _from_function(self, value_of):
        return self.strategy.experimental_distribute_values_from_function(value_of)


def _sum_over_replicas(value):
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))


def gather_rows(rows):
    """All replicas' rows, in their order, for each of them; to be called in a replica's context.

    Gradients go back through it: each replica gets the sum of all replicas' gradients by its rows.

    (b, ...) -> (b * replicas, ...), as many rows in every replica.
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return rows
    return context.all_gather(tf.identity(rows), axis=0)  # the identity has the replica's device; an argument lacks it


def _slurm_resolver(gpus, processes):
    """TensorFlow's resolver of Slurm's processes; Slurm itself has given each of them its GPUs."""

    class Resolver(tf.distribute.cluster_resolver.SlurmClusterResolver):
        def num_accelerators(self, *_, **__):
            return {"GPU": gpus}

    resolver = Resolver(gpus_per_node=processes, gpus_per_task=1, auto_set_gpu=False)
    address, node = resolver.cluster_spec().task_address(*resolver.get_task_info()), os.environ.get("SLURMD_NODENAME")
    if node is not None and address.partition(":")[0].partition(".")[0] != node.partition(".")[0]:
        raise UserError(f"Slurm: TensorFlow takes the process on {node} for {address}, as nodes are sorted; set TF_CONFIG")
    return resolver


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
