"""A drive's places from all of its panoramas together: forward-backward smoothing of a hidden Markov model."""

import numpy as np
from scipy.special import logsumexp

CANDIDATES = 200  # tiles of each panorama that the drive may have passed
LOST = 1e-4  # probability of a step anywhere, for panoramas whose place is not among their candidates
LEAST_METRES = 5.0  # that the length of a step is uncertain by, beside half of it


def smoothed(candidates, emissions, metres, steps, tolerance):
    """Posterior probability of each candidate, given all panoramas of a drive.

    A step from one panorama to the next is so many metres long, give or take half of it and the tiles' own distance: places
    farther apart than that are unlikely, nearer ones are not held against a car that waits or turns.

    Args:
        candidates, emissions: T lists of C rows, and logarithms of how likely each is by its panorama alone.
        metres: (N, 2) locations of all tiles.
        steps: (T - 1,) metres between panoramas, roughly.
        tolerance: metres between neighbouring tiles.

    Returns:
        T arrays (C,) float64 that sum to 1 each.
    """

    def transition(number):
        before, after = metres[candidates[number]][:, None], metres[candidates[number + 1]][None]
        deviation = max(steps[number] / 2, LEAST_METRES) + tolerance
        likely = -0.5 * (np.maximum(np.linalg.norm(before - after, axis=2) - steps[number], 0) / deviation) ** 2
        return np.logaddexp(likely, np.log(LOST))

    forward = [emissions[0]]
    for number, emission in enumerate(emissions[1:]):
        forward.append(emission + logsumexp(forward[-1][:, None] + transition(number), axis=0))
    backward = [np.zeros(len(candidates[-1]))]
    for number in range(len(candidates) - 1, 0, -1):
        backward.append(logsumexp(transition(number - 1) + (emissions[number] + backward[-1])[None], axis=1))
    posterior = [before + after for before, after in zip(forward, reversed(backward), strict=True)]
    return [np.exp(each - logsumexp(each)) for each in posterior]
