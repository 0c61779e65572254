"""How sure an answer is: the probability that it is right, and a threshold below which it is "unknown"."""

import dataclasses
import hashlib

import msgspec
import numpy as np
import scipy.optimize
from scipy.special import expit, logit

from safa.localization.position_estimate import Uncertainty
from safa.runtime.errors import UserError, shortened
from safa.runtime.files import read_json, write_json

LEAST_ANSWERS = 20  # that a calibration needs: a share of 5 % is one of twenty
# Standard deviation of the prior of the three weights, for similarities and margins in units of 0.1: wide, but the weights
# stay finite where right and wrong answers are separated.
PRIOR = 5.0
UNIT = 0.1
MOST_MARGIN = 1.0  # of an answer without a rival


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A logistic regression of "right" on an answer's margin and similarity, and a threshold."""

    weights: tuple[float, float, float]  # of margin, similarity, and constant
    threshold: float  # confidence below which an answer is "unknown"; above 1 where no threshold keeps the share
    wrong_share: float  # that the threshold was chosen for
    answers: int  # number of panoramas it was fitted on
    right: int  # how many of their best places were
    answered: int  # how many of them are given at the threshold
    wrong: int  # how many of these are
    uncertainty: Uncertainty = Uncertainty()  # of the estimated positions

    def confidence(self, margin, similarity):
        """Probability that a best place of this margin and similarity is right."""
        return float(expit(_features([margin], [similarity]) @ np.array(self.weights))[0])


def margin_of_probability(probability):
    """What stands for the margin where a drive gives probabilities: their logit, in UNIT."""
    return float(UNIT * logit(np.clip(probability, 1e-9, 1 - 1e-9)))


def fit_calibration(margins, similarities, right, wrong_share):
    """Fit a Calibration on answers whose truth is known.

    The threshold is the lowest that keeps the share of wrong answers among those given at `wrong_share`, where one more wrong
    answer is counted than was seen, since the next one may be wrong.

    Args:
        margins, similarities: (n,) of the best places.
        right: (n,) bool.
        wrong_share: fraction.
    """
    right = np.asarray(right, bool)
    features = _features(margins, similarities)
    signs = np.where(right, 1.0, -1.0)

    def loss(weights):
        return np.logaddexp(0, -signs * (features @ weights)).sum() + (weights**2).sum() / (2 * PRIOR**2)

    found = scipy.optimize.minimize(loss, np.zeros(3), method="BFGS").x
    confidence = expit(features @ found)
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~right[order])
    # Answers of one confidence are given together or not at all.
    last = np.append(np.diff(confidence[order]) != 0, True)
    good = np.flatnonzero((wrong + 1 <= wrong_share * (np.arange(len(order)) + 2)) & last)
    answered = int(good[-1]) + 1 if len(good) else 0
    return Calibration(
        tuple(map(float, found)),
        float(confidence[order][answered - 1]) if answered else 2.0,
        wrong_share,
        len(right),
        int(right.sum()),
        answered,
        int(wrong[answered - 1]) if answered else 0,
    )


def _features(margins, similarities):
    """(n, 3) float64."""
    margins = np.minimum(np.asarray(margins, np.float64), MOST_MARGIN)
    return np.stack([margins / UNIT, np.asarray(similarities, np.float64) / UNIT, np.ones(len(margins))], axis=1)


@dataclasses.dataclass(frozen=True)
class KeptCalibrations:
    """What a file of calibrations holds."""

    index: str  # IndexManifest.identity of the index whose answers they are fitted on, which updates leave as it is
    views: dict[str, Calibration]  # by the name of the view
    digest: str  # by which a damaged file is found


def write_calibrations(path, index, views):
    """Write {name of a view: Calibration} of an index of this identity."""
    write_json(path, KeptCalibrations(index, views, _digest(views)))


def read_calibrations(path, index):
    """{name of a view: Calibration} of a file, for an index of this identity; {} without a file.

    Raises:
        UserError: the file cannot be understood, was changed, or is of another index.
    """
    remedy = "delete it, and run localize.py calibrate again"
    try:
        kept = read_json(path, KeptCalibrations, remedy)
    except FileNotFoundError:
        return {}
    if kept.digest != _digest(kept.views):
        raise UserError(f"{shortened(path)}: has changed since it was written; {remedy}")
    if kept.index != index:
        raise UserError(f"{shortened(path)}: is of another index; {remedy}")
    return kept.views


def _digest(views):
    return hashlib.sha256(msgspec.json.encode(views)).hexdigest()
