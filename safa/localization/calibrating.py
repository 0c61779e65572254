"""From answers whose truth is known to a calibration, and what it says of them."""

import dataclasses

from safa.localization.answering import answer_alone, log_priors, posterior_alone, smoothed_answers
from safa.localization.calibration import check_count, fit_calibration, margin_of_probability
from safa.localization.position_estimate import fit_uncertainty, fit_weight


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
    check_count(len(usable))
    truths = index.frame.metres([answer.panorama.location for answer in usable])
    metres = [index.metres[answer.evidence.rows] for answer in usable]
    similar, priors = [answer.evidence.similarities for answer in usable], [log_priors(index, answer) for answer in usable]
    weight = fit_weight(metres, similar, priors, truths, index.spacing)
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
        answers, posteriors = smoothed_answers(index, found, config, weight)
        margins = [margin_of_probability(answer.confidence) for answer in answers]
    uncertainty = fit_uncertainty(weight, posteriors, truths)
    answers = [
        dataclasses.replace(answer, evidence=None, estimate=posterior.estimate(index.frame, uncertainty))
        for answer, posterior in zip(answers, posteriors, strict=True)
    ]
    similar = [answer.places[0].similarity for answer in answers]
    right = [answer.metres_off <= config.radius for answer in answers]
    calibration = fit_calibration(margins, similar, right, wrong_share, uncertainty)
    sure = [calibration.confidence(*each) for each in zip(margins, similar, strict=True)]
    return calibration, [
        dataclasses.replace(answer, confidence=own, known=own >= calibration.threshold)
        for answer, own in zip(answers, sure, strict=True)
    ]
