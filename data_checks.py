"""What can be wrong with a dataset that loads: each check is a function from pairs or files to findings."""
import collections
import dataclasses
import itertools
import os
import struct

import cv2
import numpy as np
import simplejpeg
from scipy.spatial import cKDTree

from data_preparation import polar_map, street_view
from image_files import JPEG_START, PNG_START, ImageError, decode_image, read_bytes
from input_data import CVACT

NEAR_METRES = 5.0  # CVACT_test counts a match this close as a hit, so closer places of two splits are a leak
GRID = 4, 64  # rows and columns of a view's colours for the statistic of orientation
LEAST_PAIRS = 30  # that the statistic needs
CHANCE = 0.35  # share of pairs that look no more like each other than strangers, above which a split is reported
CHANCE_SINGLE = 0.002  # share of pairs that may look mirrored or swapped by chance
TURNS = {"turned by 90 degrees": 16, "turned by 180 degrees": 32, "turned by 270 degrees": 48}  # columns of GRID
COLOUR_TYPES = {0: "grey-scale", 3: "palette", 4: "grey-scale with alpha", 6: "alpha"}  # of PNG


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something worth saying about a dataset.

    Attributes:
        check: its name, such as "missing".
        split: such as "train", or "" for the whole dataset.
        count: how many files, pairs or places.
        text: for a person: what it is, and what follows.
        problem: whether it is one; else a note.
        examples: some of the files or ids.
    """
    check: str
    split: str
    count: int
    text: str
    problem: bool = True
    examples: tuple = ()


def listing(dataset, splits):
    """Counts, duplicates, and what training and test splits share.

    Args:
        dataset: input_data.CVUSA, CVACT or CVACTTest.
        splits: {name: input_data.Pairs}.

    Returns:
        List of Finding.
    """
    findings = []
    for name, pairs in splits.items():
        published = dataset.published[name]
        if len(pairs) != published:
            findings.append(Finding("count", name, len(pairs), f"pairs, where the published split has {published:,}",
                                    problem=False))
        twice = [each for each, count in collections.Counter(pairs.ids).items() if count > 1]
        if twice:
            findings.append(Finding("duplicate ids", name, len(twice), "ids are listed more than once: in training "
                                    "such a pair is its own negative, in testing it fills two ranks",
                                    examples=tuple(twice)))
    return findings + leakage(splits)


def leakage(splits):
    """Places that the training and the test split share, by id and by distance; arguments as for `listing`."""
    if not {"train", "val"} <= set(splits):
        return []
    train, val = splits["train"], splits["val"]
    shared = sorted(set(train.ids) & set(val.ids))
    findings = [Finding("leakage by id", "val", len(shared), "ids are in the training split too: their recall is of "
                                                             "places that were trained on", examples=tuple(shared))
                ] if shared else []
    if train.utm is not None:
        centre = train.utm.mean(axis=0)  # so that nothing is lost in the millions of a northing
        distances, _ = cKDTree(train.utm - centre).query(val.utm - centre)
        near = np.flatnonzero(distances < NEAR_METRES)
        if near.size:
            findings.append(Finding("leakage by distance", "val", near.size, f"places are less than {NEAR_METRES:g} m "
                                    "from a training place", problem=False,
                                    examples=tuple(val.ids[row] for row in near)))
    return findings


def outdated(split, made):
    """Prepared files that are older than what they are made from.

    Args:
        split: name of the split.
        made: (source, prepared file) paths; those that do not exist are another check's.
    """
    def changed(path):
        try:
            return os.stat(path).st_mtime_ns
        except OSError:
            return None
    old = [prepared for source, prepared in made
           if None not in (times := (changed(source), changed(prepared))) and times[1] < times[0]]
    return [Finding("outdated", split, len(old), "prepared files are older than what they are made from: run "
                    "data_preparation.py --overwrite", examples=tuple(old))] if old else []


def missing(split, title, paths):
    """Files of a split that do not exist, with the name of their kind."""
    return [Finding("missing", split, len(paths), f"{title} do not exist", examples=tuple(paths))] if paths else []


def check_pair(is_cvact, paths):
    """All that the files of one pair tell; the function of a worker process.

    Args:
        is_cvact: whether panoramas are prepared too.
        paths: (aerial tile, panorama, polar map, prepared panorama or None).

    Returns:
        files: for each path a dict: "path", "error" (None or "missing" or text), "size" (height, width), "kinds" (a
            list such as ["grey-scale"]).
        origin: how the polar map was made: "published", "unstretched", "other", or None where it cannot be told.
        panorama_agrees: whether the prepared panorama is made from the panorama; None where it cannot be told.
        colours: (2, rows, columns, 3) float32 of the polar map and the panorama, or None.
    """
    files, images = [], []
    for path in paths:
        file, image = _read(path) if path is not None else (None, None)
        files.append(file)
        images.append(image)
    tile, panorama, polar, prepared = images
    origin = agrees = colours = None
    if tile is not None and tile.shape[0] == tile.shape[1]:
        expected = polar_map(tile)
        if polar is not None:
            origin = ("published" if np.array_equal(polar, expected) else
                      "unstretched" if np.array_equal(polar, polar_map(tile, stretch=False)) else "other")
        else:
            polar = expected
    if is_cvact and panorama is not None and panorama.shape[1] == 2 * panorama.shape[0]:
        expected = street_view(panorama)
        agrees = None if prepared is None else bool(np.array_equal(prepared, expected))
        panorama = expected
    if polar is not None and panorama is not None:
        colours = np.stack([_colours(polar), _colours(panorama)])
    return files, origin, agrees, colours


def _read(path):
    file = {"path": path, "error": None, "size": None, "kinds": []}
    if not os.path.exists(path):
        return file | {"error": "missing"}, None
    try:
        content = read_bytes(path)
        image = decode_image(path, content)
    except ImageError as error:
        return file | {"error": str(error)}, None
    return file | {"size": image.shape[:2], "kinds": _kinds(content, image)}, image


def _kinds(content, image):
    """What an image is besides eight bits of three colours; all of it is converted when it is read."""
    kinds = []
    if content.startswith(JPEG_START):
        space = simplejpeg.decode_jpeg_header(content)[2]
        kinds += ["grey-scale"] if space == "Gray" else ["CMYK"] if space in ("CMYK", "YCCK") else []
    elif content.startswith(PNG_START):
        depth, colour_type = struct.unpack_from("BB", content, 24)
        kinds += (["16-bit"] if depth == 16 else []) + ([COLOUR_TYPES[colour_type]] if colour_type != 2 else [])
    if not kinds and not np.ptp(image, axis=2).any():
        kinds.append("without colour")
    return kinds


def _colours(image):
    """The colours of an image's lower half, of the ground near by, relative to their row's mean, of length 1 a row."""
    colours = cv2.resize(image[image.shape[0] // 2:], GRID[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    colours -= colours.mean(axis=1, keepdims=True)
    return colours / np.maximum(np.sqrt((colours**2).sum(axis=1, keepdims=True)), 1)


def orientation(pairs, colours):
    """What the colours say of pairs that are mirrored, turned or swapped.

    The statistic: how much more a panorama's colours around the horizon resemble those of its own polar map than those
    of others, in standard deviations. A single pair that resembles its tile no more than others is not reported:
    in forests and deserts that is usual.

    Args:
        pairs: input_data.Pairs.
        colours: of `check_pair`, a list with an entry (or None) for each pair.
    """
    rows = [row for row, each in enumerate(colours) if each is not None]
    if len(rows) < LEAST_PAIRS:
        return [Finding("orientation", pairs.split, len(rows), f"pairs are too few to tell whether some are mirrored, "
                        f"turned or swapped, which takes {LEAST_PAIRS}", problem=False)]
    sat, grd = (np.stack([colours[row][view] for row in rows]) for view in (0, 1))
    flat = grd.reshape(len(rows), -1)
    views = {"straight": sat, "mirrored": np.roll(sat[:, :, ::-1], 1, axis=2)}
    views |= {name: np.roll(sat, columns, axis=2) for name, columns in TURNS.items()}
    own = {name: np.einsum("nd,nd->n", flat, view.reshape(len(rows), -1)) for name, view in views.items()}
    # Against all others, block by block; the best other one may be the pair that it was swapped with.
    others = sat.reshape(len(rows), -1)
    mean, deviation, best, best_score = (np.empty(len(rows)) for _ in range(4))
    for start in range(0, len(rows), 1024):
        block = slice(start, start + 1024)
        scores = flat[block] @ others.T
        mean[block], deviation[block] = scores.mean(axis=1), np.maximum(scores.std(axis=1), 1e-6)
        scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = -np.inf
        best[block], best_score[block] = scores.argmax(axis=1), scores.max(axis=1)
    own = {name: (score - mean) / deviation for name, score in own.items()}
    best, best_score = best.astype(int), (best_score - mean) / deviation

    def ids(selected):
        return tuple(pairs.ids[rows[number]] for number in np.flatnonzero(selected))
    findings = []
    average = {name: score.mean() for name, score in own.items()}
    winner = max(average, key=average.get)
    margin = 3 / np.sqrt(len(rows))  # three standard errors
    if winner != "straight" and average[winner] > average["straight"] + margin:
        findings.append(Finding(winner, pairs.split, len(rows), f"pairs agree better, on average, with tiles {winner}: "
                                f"{average[winner]:.2f} against {average['straight']:.2f} standard deviations"))
        return findings
    unlike = float(np.mean(own["straight"] < 0))
    if unlike > CHANCE:
        findings.append(Finding("unlike", pairs.split, int(round(unlike * len(rows))), "pairs look no more like each "
                                "other than strangers (half would by chance): their order may be mixed up"))
        return findings
    mirrored = (own["mirrored"] > 2) & (own["mirrored"] - own["straight"] > 2)
    swapped = (best[best] == np.arange(len(rows))) & (np.minimum(best_score, best_score[best]) > 2.5) & (
        np.minimum(best_score - own["straight"], (best_score - own["straight"])[best]) > 2)
    for name, selected in (("mirrored", mirrored), ("swapped", swapped)):
        if selected.any():
            by_chance = 2 + int(CHANCE_SINGLE * len(rows))
            findings.append(Finding(f"{name} pairs", pairs.split, int(selected.sum()), f"pairs look {name}; look at "
                                    f"them (up to {by_chance} of so many can be chance)", examples=ids(selected),
                                    problem=bool(selected.sum() > by_chance)))
    return findings


def files(pairs, results, titles):
    """What the results of `check_pair` say of a split's files.

    Args:
        pairs: input_data.Pairs.
        results: list of what `check_pair` returned.
        titles: names of the four kinds of files.
    """
    findings = []
    for number, title in enumerate(titles):
        found = [result[0][number] for result in results if result[0][number] is not None]
        broken = [file["error"] for file in found if file["error"] not in (None, "missing")]
        sizes = collections.Counter(file["size"] for file in found if file["size"])
        usual = max(sizes, key=sizes.get, default=None)
        odd = [f"{file['path']} ({file['size'][0]}x{file['size'][1]})" for file in found
               if file["size"] and file["size"] != usual]
        findings += missing(pairs.split, title, [file["path"] for file in found if file["error"] == "missing"])
        if broken:
            findings.append(Finding("unreadable", pairs.split, len(broken), f"{title} cannot be decoded, or in part "
                                    "only", examples=tuple(broken)))
        if odd:
            findings.append(Finding("size", pairs.split, len(odd), f"{title} have not the {usual[0]}x{usual[1]} pixels "
                                    "that most have", examples=tuple(odd)))
        for kind in sorted(set(itertools.chain.from_iterable(file["kinds"] for file in found))):
            of_kind = [file["path"] for file in found if kind in file["kinds"]]
            findings.append(Finding("kind", pairs.split, len(of_kind), f"{title} are {kind}; they are converted when "
                                    "they are read", problem=False, examples=tuple(of_kind)))
    for origin, text in (("unstretched", "polar maps are made without the min-max stretch, unlike the paper's"),
                         ("other", "polar maps are not what data_preparation.py makes of their tiles")):
        names = [result[0][2]["path"] for result in results if result[1] == origin]
        if names:
            findings.append(Finding("stretch" if origin == "unstretched" else "content", pairs.split, len(names), text,
                                    examples=tuple(names)))
    names = [result[0][3]["path"] for result in results if result[2] is False]
    if names:
        findings.append(Finding("content", pairs.split, len(names), "prepared panoramas are not what "
                                "data_preparation.py makes of their panoramas", examples=tuple(names)))
    return findings


def sources(dataset, split):
    """Paths of a split's four kinds of files: tiles, panoramas, polar maps, and prepared panoramas (CVACT) or None."""
    polar, aerial = dataset.pairs(split, 1), dataset.pairs(split, 0)
    if isinstance(dataset, CVACT):
        panoramas = [os.path.join(dataset.panorama_dir, f"{name}_grdView.jpg") for name in polar.ids]
        return list(zip(aerial.sat_paths, panoramas, polar.sat_paths, polar.grd_paths, strict=True))
    return [(*each, None) for each in zip(aerial.sat_paths, polar.grd_paths, polar.sat_paths, strict=True)]
