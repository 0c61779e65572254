"""Where a panorama is, between the tiles' centres, and how far from there it may be."""

import dataclasses
import functools

import numpy as np
import scipy.optimize
from scipy.special import logsumexp, softmax

# A panorama speaks for a tile as the training's loss weighs it: exp(-10 d) of the squared distance d = 2 - 2 s (section 3.3).
# A calibration fits its own.
PER_SIMILARITY = 20.0
LEAST_WEIGHT, MOST_WEIGHT = 1.0, 200.0  # per similarity, that a calibration may find
NEIGHBOURS = 1.5  # spacings within which a tile is a neighbour of the best one: its square's sides and corners
LEVELS = 0.68, 0.95
PARTS = (np.arange(5) - 2) / 5  # a tile stands for the square around its centre, in 5 x 5 parts
MEDIAN_SQUARE = 2 * np.log(2)  # of a two-dimensional Gaussian's Mahalanobis distance
STRAY = 1e-3  # share of panoramas that may be anywhere, so that one far from all its tiles decides little


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Where a panorama is; None where nothing was calibrated."""

    longitude: float  # degrees (WGS 84): the best tile and its neighbours, weighted, where these overlap much
    latitude: float
    covariance: tuple[float, float, float] | None = None  # square metres (east east, east north, north north)
    # Metres around it that hold the truth of so many of 100 calibrated panoramas; None too where more were far from all tiles.
    radius_68: float | None = None
    radius_95: float | None = None


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """What a calibration learned of the distances from estimates to truths."""

    per_similarity: float = PER_SIMILARITY  # weight of a similarity in a tile's log probability
    level_68: float = LEVELS[0]  # probability of the tiles within a radius that holds 68 % of the truths; above 1 where none
    level_95: float = LEVELS[1]
    covariance_scale: float = 1.0  # factor of the covariance


class Posterior:
    """Probabilities of tiles, the most probable of which and its neighbours give a centre.

    Args:
        metres: (C, 2) of the tiles' centres.
        logits: (C,) logarithms of their probabilities, up to a constant.
        spacing: metres between neighbouring tiles.
        overlap: whether neighbours show much of the same ground; else the best tile alone gives the centre.
    """

    def __init__(self, metres, logits, spacing, overlap=True):
        self._metres, self._spacing, self._tiles = metres, spacing, softmax(logits)
        near = np.linalg.norm(metres - metres[np.argmax(logits)], axis=1) <= NEIGHBOURS * spacing * overlap
        self.centre = np.average(metres[near], axis=0, weights=self._tiles[near])

    @functools.cached_property
    def _parts(self):
        """(P, 2) metres from the centre, (P,) distances and (P,) probabilities of all parts of the tiles' squares."""
        parts = self._spacing * np.stack(np.meshgrid(PARTS, PARTS), axis=-1).reshape(-1, 2)
        off = (self._metres[:, None] + parts - self.centre).reshape(-1, 2)
        return off, np.linalg.norm(off, axis=1), np.repeat(self._tiles / len(parts), len(parts))

    def mass_within(self, distance):
        """Probability of the ground that is closer to the centre than a distance in metres."""
        _, distances, probability = self._parts
        return float(probability[distances < distance].sum())

    def radius(self, level):
        """Metres within which the ground has a probability of `level`; None if all of it has less."""
        _, distances, probability = self._parts
        order = np.argsort(distances)
        reached = np.searchsorted(np.cumsum(probability[order]), level)
        return None if reached == len(order) else float(distances[order][reached])

    def covariance(self):
        """(2, 2) square metres around the centre."""
        off, _, probability = self._parts
        return (probability[:, None] * off).T @ off

    def estimate(self, frame, uncertainty):
        """The Estimate in a coordinates.LocalFrame; `uncertainty`: an Uncertainty, or None where nothing was calibrated."""
        longitude, latitude = frame.locations(self.centre)[0].tolist()
        if uncertainty is None:
            return Estimate(longitude, latitude)
        (east, both), (_, north) = (self.covariance() * uncertainty.covariance_scale).tolist()
        radii = self.radius(uncertainty.level_68), self.radius(uncertainty.level_95)
        return Estimate(longitude, latitude, (east, both, north), *radii)


def fit_weight(metres, similarities, log_priors, truths, spacing):
    """The weight per similarity that makes true places most likely.

    Args:
        metres, similarities, log_priors: lists of (C, 2), (C,), (C,), one for each panorama.
        truths: (n, 2) metres.
        spacing: metres between neighbouring tiles; a tile stands for the Gaussian with half of it around its centre.
    """
    squares = [((own - truth) ** 2).sum(axis=1) / (2 * (spacing / 2) ** 2) for own, truth in zip(metres, truths, strict=True)]

    def loss(log_weight):
        found = []
        for own, prior, square in zip(similarities, log_priors, squares, strict=True):
            logits = np.exp(log_weight) * own + prior
            found.append(logsumexp(logits - square) - logsumexp(logits))
        return -np.logaddexp(found, np.log(STRAY)).sum()

    bounds = np.log([LEAST_WEIGHT, MOST_WEIGHT])
    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded").x))


def fit_uncertainty(per_similarity, posteriors, truths):
    """The Uncertainty whose radii hold as many truths as they say.

    Of n panoramas the radius is such that at least ceil(share (n + 1)) truths lie within: then so does the next one with this
    probability (split conformal prediction).

    Args:
        posteriors: list of Posterior, of n panoramas; truths: (n, 2) metres.
    """
    off = np.array([truth - posterior.centre for posterior, truth in zip(posteriors, truths, strict=True)])
    masses = sorted(each.mass_within(np.hypot(*own)) for each, own in zip(posteriors, off, strict=True))
    ranks = [int(np.ceil(share * (len(masses) + 1))) for share in LEVELS]
    levels = [float(np.nextafter(masses[rank - 1], 2)) if rank <= len(masses) else 2.0 for rank in ranks]
    squares = [own @ np.linalg.solve(each.covariance(), own) for each, own in zip(posteriors, off, strict=True)]
    return Uncertainty(per_similarity, *levels, float(np.median(squares) / MEDIAN_SQUARE))
