"""Splits whose panoramas are mirrored, turned, or not those of their tiles, as far as their colours tell."""

import cv2
import numpy as np

from safa.datasets.checks import Finding

GRID = 4, 64  # rows and columns of an image's colours
LEAST_PAIRS = 30  # whose mean has a standard error of 0.18: a fifth of LEAST_MARGIN
# Standard deviations by which a turned or mirrored tile must beat the straight one before the split is reported.
# Five real CVUSA pairs average 1.78 straight, 1.84 turned by 180 degrees, and -0.8 mirrored and turned by 90 or 270: a
# street looks alike ahead and behind. Toy towns have 3.0 to 4.0, 0.0 to 0.5, and 0.3 to -1.0.
LEAST_MARGIN = 1.0
# Share of pairs that look no more like each other than strangers above which the split is reported. By chance half do;
# none in toy towns, and 4 % of normally distributed pairs that are on average as similar as the five real ones.
CHANCE = 0.35
HALF_TURN = "turned by 180 degrees"
TURNS = {"turned by 90 degrees": 16, HALF_TURN: 32, "turned by 270 degrees": 48}  # columns of GRID


def ground_colours(image):
    """The colours of an image's lower half, the ground near by, relative to their row's mean, of length 1 a row.

    (H, W, 3) uint8 -> (*GRID, 3) float32.
    """
    colours = cv2.resize(image[image.shape[0] // 2 :], GRID[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    colours -= colours.mean(axis=1, keepdims=True)
    return colours / np.maximum(np.sqrt((colours**2).sum(axis=1, keepdims=True)), 1)


def orientation(split, colours):
    """What the colours say of a split whose panoramas are mirrored, turned, or not those of their tiles.

    The statistic: how much more a panorama's colours around the horizon resemble those of its own polar map than those
    of others, in standard deviations, on average. Single pairs are not judged: in forests and deserts, many resemble their
    tile no more than others. Where a split looks alike ahead and behind, turns by 180 degrees cannot be told, and a note
    says so.

    Args:
        split: its name.
        colours: of the `CheckedFile`s of each pair's tile and panorama; pairs of which one is None are left out.

    Returns:
        A list of a Finding, or of none.
    """
    colours = [each for each in colours if all(image is not None for image in each)]
    count = len(colours)
    if count < LEAST_PAIRS:
        text = f"pairs are too few to tell whether they are mirrored, turned or mixed up, which takes {LEAST_PAIRS}"
        return [Finding("orientation", split, count, text, problem=False)]
    sat, grd = np.stack(colours, axis=1)
    flat_sat, flat_grd = sat.reshape(count, -1), grd.reshape(count, -1)
    # Mean and standard deviation of each panorama's similarities (dot products) with all tiles.
    mean = flat_grd @ flat_sat.mean(axis=0)
    variance = np.einsum("nd,nd->n", flat_grd @ np.cov(flat_sat, rowvar=False, bias=True), flat_grd)
    deviation = np.sqrt(np.maximum(variance, 1e-12))
    changed = {"straight": sat, "mirrored": np.roll(sat[:, :, ::-1], 1, axis=2)}
    changed |= {name: np.roll(sat, columns, axis=2) for name, columns in TURNS.items()}
    own = {name: (np.einsum("nrcd,nrcd->n", grd, tiles) - mean) / deviation for name, tiles in changed.items()}
    average = {name: float(scores.mean()) for name, scores in own.items()}
    straight, winner = average["straight"], max(average, key=average.get)
    if average[winner] > straight + LEAST_MARGIN + 3 / np.sqrt(count):  # three standard errors
        text = f"pairs agree better with tiles {winner}: {average[winner]:.2f} against {straight:.2f} standard deviations"
        return [Finding(winner, split, count, text)]
    unlike = int(np.sum(own["straight"] < 0))
    if unlike > CHANCE * count:
        text = "pairs look no more like each other than strangers (half would by chance): their order may be mixed up"
        return [Finding("unlike", split, unlike, text)]
    if straight < average[HALF_TURN] + LEAST_MARGIN:
        scores = f"{straight:.2f} straight, {average[HALF_TURN]:.2f} turned, in standard deviations"
        text = f"pairs look too much alike ahead and behind ({scores}) to tell panoramas turned by 180 degrees"
        return [Finding("ahead and behind", split, count, text, problem=False)]
    return []
