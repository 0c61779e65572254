"""Pairs that are mirrored, turned or swapped, as far as their colours tell."""

import dataclasses

import cv2
import numpy as np

from safa.datasets.findings import Finding, found

GRID = 4, 64  # rows and columns of a view's colours
LEAST_PAIRS = 30  # that the statistic needs
CHANCE = 0.35  # share of pairs that look no more like each other than strangers, above which a split is reported
# Standard deviations by which a turned or mirrored view must beat the straight one before the whole split is reported.
# Five real CVUSA pairs average 1.78 straight, 1.84 turned by 180 degrees, and -0.8 mirrored and turned by 90 or 270: a
# street looks alike ahead and behind. Toy towns have 3.0 to 4.0, 0.0 to 0.5, and 0.3 to -1.0.
LEAST_MARGIN = 1.0
# Standard deviations that make a single pair suspicious: its own score, and how much it beats the straight one by. In six
# sound toy towns of 400 places each they name no pair; of those changed on purpose they find two thirds of the mirrored and
# the turned, and half of the swapped.
SINGLE_SCORE, SINGLE_GAIN = 2.25, 2.25
SWAPPED_SCORE, SWAPPED_GAIN = 2.5, 2.0
CHANCE_SINGLE = 0.001  # share of pairs that may be named by chance: what no case among 2,400 leaves possible
HALF_TURN = "turned by 180 degrees"
TURNS = {"turned by 90 degrees": 16, HALF_TURN: 32, "turned by 270 degrees": 48}  # columns of GRID


def ground_colours(image):
    """The colours of an image's lower half, the ground near by, relative to their row's mean, of length 1 a row.

    (H, W, 3) uint8 -> (*GRID, 3) float32.
    """
    colours = cv2.resize(image[image.shape[0] // 2 :], GRID[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    colours -= colours.mean(axis=1, keepdims=True)
    return colours / np.maximum(np.sqrt((colours**2).sum(axis=1, keepdims=True)), 1)


def orientation(pairs, colours):
    """What the colours say of pairs that are mirrored, turned or swapped.

    The statistic: how much more a panorama's colours around the horizon resemble those of its own polar map than those
    of others, in standard deviations. A single pair that resembles its tile no more than others is not reported:
    in forests and deserts that is usual. Where a split looks alike ahead and behind, turns by 180 degrees cannot be
    told, and a note says so.

    Args:
        pairs: dataset.Pairs.
        colours: of `CheckedPair`, a list with an entry (or None) for each pair.
    """
    split = pairs.split
    rows = [row for row, each in enumerate(colours) if each is not None]
    if len(rows) < LEAST_PAIRS:
        text = f"pairs are too few to tell whether some are mirrored, turned or swapped, which takes {LEAST_PAIRS}"
        return [Finding("orientation", split, len(rows), text, problem=False)]
    sat, grd = (np.stack([colours[row][view] for row in rows]) for view in (0, 1))
    views = {"straight": sat, "mirrored": np.roll(sat[:, :, ::-1], 1, axis=2)}
    views |= {name: np.roll(sat, columns, axis=2) for name, columns in TURNS.items()}
    strangers = _strangers(grd, sat)
    own = {name: strangers.standardised(np.einsum("nd,nd->n", _flat(grd), _flat(view))) for name, view in views.items()}
    average = {name: score.mean() for name, score in own.items()}
    whole = _whole_split(split, own, average)
    if whole is not None:
        return [whole]
    findings, suspicious = [], ["mirrored", HALF_TURN]
    if average["straight"] < average[HALF_TURN] + LEAST_MARGIN:
        suspicious.remove(HALF_TURN)
        text = (
            f"pairs look so much alike ahead and behind ({average['straight']:.2f} straight, {average[HALF_TURN]:.2f} turned, "
            "in standard deviations) that panoramas turned by 180 degrees cannot be told"
        )
        findings.append(Finding("ahead and behind", split, len(rows), text, problem=False))

    def note(name, selected, by_chance):
        expected = by_chance + 3 * np.sqrt(by_chance) + CHANCE_SINGLE * len(rows)
        text = f"pairs look {name}; look at them (up to {int(expected):,} of so many can be chance)"
        examples = [pairs.ids[rows[number]] for number in np.flatnonzero(selected)]
        return found(f"{name} pairs", split, examples, text, problem=bool(selected.sum() > expected))

    # Chance is counted where nothing true can be found: among quarter turns, and among mirrored tiles.
    quarter = max(int(_beats(own, name).sum()) for name in TURNS if name != HALF_TURN)
    for name in suspicious:
        findings += note(name, _beats(own, name), quarter)
    decoys = _strangers(grd, views["mirrored"])
    swapped_decoys = int(_swapped(decoys, own["straight"]).sum())
    return findings + note("swapped", _swapped(strangers, own["straight"]), swapped_decoys)


def _whole_split(split, own, average):
    """The Finding that a whole split is mirrored, turned or mixed up, or None; arguments: scores and means of the views."""
    count = len(own["straight"])
    winner = max(average, key=average.get)
    if average[winner] > average["straight"] + LEAST_MARGIN + 3 / np.sqrt(count):  # three standard errors
        text = (
            f"pairs agree better, on average, with tiles {winner}: {average[winner]:.2f} against "
            f"{average['straight']:.2f} standard deviations"
        )
        return Finding(winner, split, count, text)
    unlike = float(np.mean(own["straight"] < 0))
    if unlike > CHANCE:
        text = "pairs look no more like each other than strangers (half would by chance): their order may be mixed up"
        return Finding("unlike", split, round(unlike * count), text)
    return None


@dataclasses.dataclass(frozen=True)
class Strangers:
    """How panoramas resemble the tiles of other places.

    Attributes:
        mean, deviation: (N,) of each panorama's scores with all tiles.
        best: (N,) int64, the most similar tile of another place.
        best_score: (N,) its score, standardised.
    """

    mean: np.ndarray
    deviation: np.ndarray
    best: np.ndarray
    best_score: np.ndarray

    def standardised(self, scores):
        """(N,) scores in standard deviations from the mean of each panorama."""
        return (scores - self.mean) / self.deviation


def _flat(views):
    return views.reshape(len(views), -1)


def _strangers(grd, sat):
    """Strangers of (N, rows, columns, 3) colours, block by block."""
    mean, deviation, best, score = (np.empty(len(grd)) for _ in range(4))
    for start in range(0, len(grd), 1024):
        block = slice(start, start + 1024)
        scores = _flat(grd)[block] @ _flat(sat).T
        mean[block], deviation[block] = scores.mean(axis=1), np.maximum(scores.std(axis=1), 1e-6)
        scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = -np.inf
        best[block], score[block] = scores.argmax(axis=1), scores.max(axis=1)
    return Strangers(mean, deviation, best.astype(int), (score - mean) / deviation)


def _beats(own, name):
    """Which pairs look like another view of their tile, and much more so than straight."""
    return (own[name] > SINGLE_SCORE) & (own[name] - own["straight"] > SINGLE_GAIN)


def _swapped(strangers, straight):
    """Which pairs have a partner such that each one's panorama is most like the other's tile, and not like its own."""
    best, score = strangers.best, strangers.best_score
    gain = score - straight
    return (
        (best[best] == np.arange(len(best)))
        & (np.minimum(score, score[best]) > SWAPPED_SCORE)
        & (np.minimum(gain, gain[best]) > SWAPPED_GAIN)
    )
