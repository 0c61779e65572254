"""The processes of a run on several machines, by the environment's TF_CONFIG; needs no TensorFlow."""

import json
import os
import re
import socket
import time

from safa.runtime.errors import UserError, first_line

CLUSTER = "TF_CONFIG"
PORTS = range(1, 2**16)
RETRY_SECONDS = 0.5  # between two looks at processes that do not listen yet
ANSWER_SECONDS = 5.0  # that a connection may take


def cluster():
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


def is_chief():
    """Whether this process is the run's only one or its first, the one that reports and writes."""
    return cluster()[1] == 0


def _port(address):
    return int(address.rpartition(":")[2])


def wait_for_all(addresses, own):
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
