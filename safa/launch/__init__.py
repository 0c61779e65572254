"""What the training and the test scripts do before there is a network: flags, settings, and a check of the data."""

from safa.launch.testing import launch_testing, testing_parser
from safa.launch.training import launch_training, training_parser

__all__ = ["launch_testing", "launch_training", "testing_parser", "training_parser"]
