"""Runs reproduce.py with steps that only copy the files of a real row: folder of the steps, then reproduce.py's flags.

The steps are links to this file. $REAL is the folder of the real row; without it the project's scripts run, each in a fork,
which has imported TensorFlow. $FAILS are words of steps that fail, $WAITS one of those that wait for a signal.
"""

import json
import multiprocessing
import os
import runpy
import shutil
import signal
import sys
import time


def step(script, *words):
    with open("calls", "a") as file:
        print(script, *words, file=file)
    if {script, *words} & set(os.environ.get("FAILS", "").split()):
        sys.exit("some lines\nand a reason")
    if os.environ.get("WAITS") in words:
        for number in signal.SIGINT, signal.SIGTERM:
            signal.signal(number, lambda number, _: sys.exit(f"saved after {signal.Signals(number).name}"))
        with open("pid", "w") as file:
            file.write(str(os.getpid()))
        time.sleep(100)
    if script in ("data_preparation.py", "check_data.py"):
        return
    given = dict(zip(words[::2], words[1::2], strict=True))  # all flags have values
    row, polar, seed = (given[f"--{name}"] for name in ("network_type", "polar", "seed"))
    network, end = {"network_type": row, "polar": int(polar)}, f"polar_{polar}" + (f"_seed_{seed}" if seed != "0" else "")
    copied = "Model/CVUSA/VGG_gp/polar_1" if script == "train_cvusa.py" else "Result/CVUSA/VGG_gp_polar_1.json"
    target = copied.replace("VGG_gp", row).replace("polar_1", end)
    source, is_training = os.path.join(os.environ["REAL"], copied), script == "train_cvusa.py"
    if is_training:
        shutil.copytree(source, target, dirs_exist_ok=True)
        source = target = f"{target}/config.json"
    with open(source) as file:
        content = json.load(file)
    content["network"] |= network
    if is_training:
        content["training"]["seed"] = int(seed)
    else:
        checkpoint = content["checkpoint"].replace("VGG_gp/polar_1", f"{row}/{end}")
        content |= network | {"seed": int(seed), "checkpoint": checkpoint}
    with open(target, "w") as file:
        json.dump(content, file)


def finish_in_a_fork(command, **streams):
    """As `reproduce.finish`."""

    def script():
        for stream, file in streams.items():
            os.dup2(file.fileno(), getattr(sys, stream).fileno())
        sys.argv = command
        runpy.run_path(os.path.join(ROOT, command[0]), run_name="__main__")

    sys.stdout.flush()
    process = multiprocessing.get_context("fork").Process(target=script)
    process.start()
    process.join()
    return process.exitcode


if os.path.islink(sys.argv[0]):
    step(os.path.basename(sys.argv[0]), *sys.argv[1:])
else:
    import reproduce
    from safa.runtime.errors import ROOT, reported

    reproduce.ROOT = sys.argv.pop(1)
    if "REAL" not in os.environ:
        reproduce.finish = finish_in_a_fork
    with reported():
        sys.exit(reproduce.main())
