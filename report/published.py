"""Recalls that were published for SAFA, each with its source."""

import dataclasses

SAFA = "Shi, Liu, Yu, Li: Spatial-Aware Feature Aggregation for Cross-View Image Based Geo-Localization, NeurIPS 2019"
LATER = "as later papers quote it (their tables on CVUSA, CVACT_val and CVACT_test)"


@dataclasses.dataclass(frozen=True)
class Published:
    """A published row.

    Attributes:
        recalls: percent, R@1, R@5, R@10, R@1%.
        source: where it was printed.
    """

    recalls: tuple
    source: str


# Dataset, network type, polar.
PUBLISHED = {
    ("CVUSA", "SAFA_8", 1): Published((89.84, 96.93, 98.14, 99.64), SAFA),
    ("CVACT", "SAFA_8", 1): Published((81.03, 92.80, 94.84, 98.17), SAFA),
    ("CVUSA", "SAFA_8", 0): Published((81.15, 94.23, 96.85, 99.49), LATER),
    ("CVACT", "SAFA_8", 0): Published((78.28, 91.60, 93.79, 98.15), LATER),
    ("CVACT_test", "SAFA_8", 1): Published((55.50, 79.94, 85.08, 94.49), LATER),
}


def published_row(dataset_name, config):
    """The Published of a dataset and a settings.NetworkConfig, or None: of the paper's sizes only."""
    return PUBLISHED.get((dataset_name, config.network_type, config.polar)) if config.is_papers else None
