"""Recalls that were published, each with its source: a number without one is not here."""

import dataclasses

SAFA = "Shi, Liu, Yu, Li: Spatial-Aware Feature Aggregation for Cross-View Image Based Geo-Localization, NeurIPS 2019"
LATER = "as later papers quote it (their tables on CVUSA, CVACT_val and CVACT_test)"
UNIVERSITY = "University1652-Baseline, State-of-the-art list"
CAUSAL = "CVGL: Causal Learning and Geometric Topology"
LEADERBOARD = "a public leaderboard's R@1"


@dataclasses.dataclass(frozen=True)
class Published:
    """A published row.

    Attributes:
        recalls: percent, R@1, R@5, R@10, R@1%; None where it was not printed.
        source: where it was printed.
    """

    recalls: tuple
    source: str


# SAFA by dataset, network type, polar. The paper's other ablation rows are not known as numbers.
PUBLISHED = {
    ("CVUSA", "SAFA_8", 1): Published((89.84, 96.93, 98.14, 99.64), SAFA),
    ("CVACT", "SAFA_8", 1): Published((81.03, 92.80, 94.84, 98.17), SAFA),
    ("CVUSA", "SAFA_8", 0): Published((81.15, 94.23, 96.85, 99.49), LATER),
    ("CVACT", "SAFA_8", 0): Published((78.28, 91.60, 93.79, 98.15), LATER),
    ("CVACT_test", "SAFA_8", 1): Published((55.50, 79.94, 85.08, 94.49), LATER),
}

# Other systems by dataset, worst first.
OTHERS = {
    "CVUSA": {
        "CVM-Net": Published((18.80, None, None, None), LEADERBOARD),
        "OriCNN": Published((27.15, None, None, None), LEADERBOARD),
        "CVFT": Published((61.43, None, None, None), LEADERBOARD),
        "DSM": Published((91.96, 97.50, 98.54, 99.67), UNIVERSITY),
        "SAFA + LPN": Published((92.83, 98.00, 98.85, 99.78), UNIVERSITY),
        "TransGeo": Published((94.08, None, None, None), LEADERBOARD),
        "GeoDTR": Published((95.43, None, None, None), LEADERBOARD),
        "Sample4Geo": Published((98.68, 99.68, 99.78, 99.87), UNIVERSITY),
    },
    "CVACT": {
        "CVM-Net": Published((20.15, None, None, None), LEADERBOARD),
        "OriCNN": Published((46.96, None, None, None), LEADERBOARD),
        "CVFT": Published((61.05, None, None, None), LEADERBOARD),
        "DSM": Published((82.49, 92.44, 93.99, 97.32), UNIVERSITY),
        "SAFA + LPN": Published((83.66, 94.14, 95.92, 98.41), UNIVERSITY),
        "TransGeo": Published((84.95, None, None, None), LEADERBOARD),
        "GeoDTR": Published((86.21, None, None, None), LEADERBOARD),
        "Sample4Geo": Published((90.81, None, None, None), LEADERBOARD),
        "polar L2LTR, trained on CVUSA": Published((52.58, None, None, None), f"{CAUSAL}, table 6"),
        "polar GeoDTR, trained on CVUSA": Published((53.16, None, None, None), f"{CAUSAL}, table 6"),
        "Sample4Geo, trained on CVUSA": Published((56.62, None, None, None), f"{CAUSAL}, table 6"),
    },
    "CVACT_test": {"Sample4Geo": Published((71.51, 92.42, 94.45, 98.70), f"{CAUSAL}, table 2")},
}
