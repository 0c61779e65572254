"""Which of a run's processes this one is, by the environment; needs no TensorFlow."""

import json
import os

from safa.runtime.errors import UserError

CLUSTER = "TF_CONFIG"
SLURM_TASKS, SLURM_TASK = "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"  # srun sets them for each process that it starts


def processes():
    """How many processes the run has, and the number of this one; the first is the chief, which reports and writes.

    TF_CONFIG says it (UserError if it cannot be understood), else Slurm's step where `srun` started several processes.
    """
    if CLUSTER not in os.environ:
        return (int(os.environ[SLURM_TASKS]), int(os.environ[SLURM_TASK])) if uses_slurm() else (1, 0)
    try:
        config = json.loads(os.environ[CLUSTER])
        if set(config["cluster"]) - {"chief", "worker"}:
            raise ValueError
        tasks = [(kind, index) for kind in ("chief", "worker") for index in range(len(config["cluster"].get(kind, [])))]
        return len(tasks), tasks.index((config["task"]["type"], config["task"]["index"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f'{CLUSTER}: not like {{"cluster": {{"worker": ["host1:12345", "host2:12345"]}}, "task": '
            f'{{"type": "worker", "index": 0}}}}; correct it, or unset it'
        ) from None


def uses_slurm():
    """Whether Slurm says who the run's processes are."""
    return CLUSTER not in os.environ and int(os.environ.get(SLURM_TASKS, 1)) > 1


def say(*lines):
    """Print those lines that are not None, in the chief's process."""
    if processes()[1] == 0:
        for line in lines:
            if line is not None:
                print(line, flush=True)
