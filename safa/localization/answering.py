"""From what panoramas are compared with to answers, of each alone or of all of a drive, and from answers to a calibration."""

import dataclasses

import numpy as np
from scipy.spatial import cKDTree

from safa.localization.calibration import LEAST_ANSWERS, fit_calibration, margin_of_probability
from safa.localization.drive import CANDIDATES, smoothed
from safa.localization.places import Answer, Evidence, Place, distinct_places, margin_of
from safa.localization.position_estimate import Posterior, fit_uncertainty, fit_weight
from safa.retrieval.search import closest
from safa.runtime.errors import UserError

EVIDENCE = 1000  # tiles that an estimate of the position looks at
AGREES = 0.01  # posterior probability from which a tile of a drive agrees with a place; less is the smoothing's background


def answer_alone(index, panorama, rows, found, headings, config, with_evidence=False, weight=None):
    """The Answer of a panorama by itself; of a drive's, only its evidence.

    Args:
        index: index.Index.
        rows: (C,) of the tiles that it is compared with, None for all of them.
        found, headings: (C,) similarities, and its heading in degrees at each of these tiles.
        with_evidence: keep it in the answer, for `fit_answers`, which says how sure that is.
        weight: per similarity (default: as calibrated).
    """
    weight = weight or index.weight(config, panorama)
    if rows is None:
        rows, metres, tree = np.arange(len(index)), index.metres, index.tree
    else:
        metres = index.metres[rows]
        tree = cKDTree(metres)
    scores = found
    if panorama.rough is not None:
        scores = found + _log_prior(index, panorama, metres).astype(np.float32) / np.float32(weight)
    count = min(CANDIDATES if config.sequence is not None else EVIDENCE, len(found))
    best, values = (each[0] for each in closest(scores[None], count))
    best = best[values > -np.inf]
    evidence = Evidence(rows[best], found[best].astype(np.float64).round(6), headings[best].round(2))
    margin = margin_of(scores, tree, best[0], config.radius)
    if config.sequence is not None:
        return Answer(panorama, [], margin, evidence=evidence)
    merged = distinct_places(scores, tree, config.top + 1, config.merge_metres)
    rivals = [float(scores[row]) for row, _ in merged[1:]] + [-np.inf]
    places = [
        _place(index, rows[row], found[row], headings[row], int(np.count_nonzero(scores[near] > rival)))
        for (row, near), rival in zip(merged, rivals, strict=True)
    ][: config.top]
    answer = Answer(panorama, places, margin, evidence=evidence)
    if with_evidence:
        return answer
    calibration = index.calibration(config, panorama)
    confidence = None if calibration is None else calibration.confidence(margin, places[0].similarity)
    return _sure(index, answer, posterior_alone(index, answer, weight), calibration, confidence)


def posterior_alone(index, answer, weight):
    """The Posterior of an answer by its panorama alone; `weight`: per similarity."""
    metres = index.metres[answer.evidence.rows]
    return Posterior(metres, _logits(index, answer, weight), index.spacing, index.tiles_overlap)


def drive_answers(index, answers, config):
    """The answers of a drive's panoramas, from all of them together; those with a problem stay as they are."""
    usable = [answer for answer in answers if answer.problem is None]
    if not usable:
        return answers
    given, weight = list(answers), index.weight(config, usable[0].panorama)
    for number, answer, posterior in smoothed_answers(index, answers, config, weight):
        calibration, confidence = index.calibration(config, answer.panorama), answer.confidence
        if calibration is not None:
            confidence = calibration.confidence(margin_of_probability(confidence), answer.places[0].similarity)
        given[number] = _sure(index, answer, posterior, calibration, confidence)
    return given


def smoothed_answers(index, answers, config, weight):
    """Yield a drive's answers: number, Answer with places, whose confidence is the best one's probability, and Posterior.

    `weight`: per similarity. A panorama that could not be used has none, and makes the step across it longer.
    """
    numbers = [number for number, answer in enumerate(answers) if answer.problem is None]
    alone = [answers[number] for number in numbers]
    rows = [answer.evidence.rows for answer in alone]
    emissions = [_logits(index, answer, weight) for answer in alone]
    along = np.diff(index.frame.metres([answer.panorama.track or (np.nan, np.nan) for answer in alone]), axis=0)
    steps = np.where(np.isfinite(along).all(axis=1), np.linalg.norm(along, axis=1), np.diff(numbers) * config.sequence)
    probabilities = smoothed(rows, emissions, index.metres, steps, index.manifest.spacing or 0.0)
    for number, answer, own, probability in zip(numbers, alone, rows, probabilities, strict=True):
        evidence, places = answer.evidence, []
        for best, near in distinct_places(probability, cKDTree(index.metres[own]), config.top, config.merge_metres):
            agree, whole = int(np.count_nonzero(probability[near] > AGREES)), float(probability[near].sum())
            place = _place(index, own[best], evidence.similarities[best], evidence.headings[best], agree)
            places.append(dataclasses.replace(place, probability=whole))
        places.sort(key=lambda place: -place.probability)
        logits = np.log(np.maximum(probability, 1e-300))
        posterior = Posterior(index.metres[own], logits, index.spacing, index.tiles_overlap)
        yield number, dataclasses.replace(answer, places=places, confidence=places[0].probability), posterior


def fit_answers(index, found, config, wrong_share):
    """The Calibration of answers, and those of them that have no problem as it sees them.

    Args:
        index: index.Index; found: its answers to panoramas of known location, with evidence.
        config: places.QueryConfig; with `sequence` the panoramas are a drive, in order.
        wrong_share: of the answers that may be wrong.

    Raises:
        UserError: there are too few without a problem.
    """
    usable = [answer for answer in found if answer.problem is None]
    if len(usable) < LEAST_ANSWERS:
        raise UserError(f"{len(usable)} panoramas are too few to calibrate on; use at least {LEAST_ANSWERS}, better hundreds")
    truths = index.frame.metres([answer.panorama.location for answer in usable])
    metres = [index.metres[answer.evidence.rows] for answer in usable]
    priors = [_log_prior(index, answer.panorama, own) for answer, own in zip(usable, metres, strict=True)]
    weight = fit_weight(metres, [answer.evidence.similarities for answer in usable], priors, truths, index.spacing)
    if config.sequence is None:
        # How much a rough position counts depends on the weight.
        answers = [
            answer_alone(index, each.panorama, *dataclasses.astuple(each.evidence), config, True, weight)
            if each.panorama.rough
            else each
            for each in usable
        ]
        posteriors = [posterior_alone(index, answer, weight) for answer in answers]
        margins = [answer.margin for answer in answers]
    else:
        _, answers, posteriors = zip(*smoothed_answers(index, found, config, weight), strict=True)
        margins = [margin_of_probability(answer.confidence) for answer in answers]
    similar = [answer.places[0].similarity for answer in answers]
    right = np.linalg.norm([posterior.centre for posterior in posteriors] - truths, axis=1) <= config.radius
    uncertainty = fit_uncertainty(weight, posteriors, truths)
    calibration = dataclasses.replace(fit_calibration(margins, similar, right, wrong_share), uncertainty=uncertainty)
    sure = [calibration.confidence(*each) for each in zip(margins, similar, strict=True)]
    judged = zip(answers, posteriors, sure, strict=True)
    return calibration, [_sure(index, answer, posterior, calibration, own) for answer, posterior, own in judged]


def _place(index, row, similarity, heading, tiles):
    longitude, latitude = index.locations[row].tolist()
    return Place(longitude, latitude, float(similarity), float(heading), index.names[row], int(row), tiles)


def _logits(index, answer, weight):
    """(C,) logarithms of how likely each tile of an answer's evidence is by its panorama alone."""
    evidence = answer.evidence
    return weight * evidence.similarities + _log_prior(index, answer.panorama, index.metres[evidence.rows])


def _log_prior(index, panorama, metres):
    """(C,) by a panorama's rough position, of tiles at (C, 2) metres."""
    if (rough := panorama.rough) is None:
        return np.zeros(len(metres))
    (place,) = index.frame.metres([(rough.longitude, rough.latitude)])
    return rough.log_prior(np.linalg.norm(metres - place, axis=1), index.spacing)


def _sure(index, answer, posterior, calibration, confidence):
    """An answer with what a calibration, or None, says of it, and without the evidence that this rests on."""
    estimate = posterior.estimate(index.frame, calibration and calibration.uncertainty)
    known = calibration and confidence >= calibration.threshold
    return dataclasses.replace(answer, estimate=estimate, confidence=confidence, known=known, evidence=None)
