"""The paper's table of a dataset with one command: prepare and check the data, train and test every row, print the table.

The rows are the paper's ablation: VGG_gp, SAFA_1, SAFA_2, SAFA_4 and SAFA_8, with polar maps and without. Each step is a
process of its own with a log in Result/<DATASET>/logs/, so one that crashes does not end the others. The same command
again skips what is finished and goes on with what was stopped. All flags of the training script are taken too and passed
on, --epochs 10 for instance; its --help explains them. On one machine, with all of its GPUs.
Exit code 0: all rows are finished; 1: some failed, which are named; 2: wrong flags or data.
"""

import sys

from safa.launch.reproduction import reproduce
from safa.runtime.errors import reported

if __name__ == "__main__":
    with reported():
        sys.exit(reproduce(__doc__))
