"""Render a procedural town as a dataset in the exact layout of CVUSA, CVACT or VIGOR, whose images may not be passed on.

Every place is an aerial tile and a 360 degree panorama of the same height field: what lies at an azimuth in one lies at that
azimuth in the other. All places share one palette, and each view has its own light, season, tint and exposure, so only the
layout tells places apart. A run that was stopped goes on with the same command; the files depend on
the settings only.
"""

import argparse
import base64
import dataclasses
import functools
import hashlib
import io
import itertools
import math
import os

import cv2
import numpy as np
import scipy.io

from safa.datasets.dataset import TOY_NOTE as NOTE
from safa.datasets.image_files import same_ratio, write_image
from safa.runtime.command_line import WORKERS, Parser, at_least
from safa.runtime.errors import UserError
from safa.runtime.files import PARTIAL, read_json, remove_abandoned, write_json, write_whole
from safa.runtime.progress import ProgressBar
from safa.runtime.worker_pool import available_cores, worker_map
from toy_town import overlapping
from toy_town.layout import Town, new_blocks
from toy_town.materials import CELL
from toy_town.scene import RANGE
from toy_town.views import TILE, panorama_view, random_look, render_aerial, render_panorama

DISTRICT = 6  # blocks along one side of what is drawn at once: more memory, but fewer margins drawn twice
REACH = math.ceil(RANGE / CELL) + 2  # cells around places, which hold what is seen from them
SPREAD = 30.0  # metres between the test places of the toy CVUSA
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 92)
CANBERRA = (693000.0, 6090000.0)  # metres, UTM easting and northing of the town's origin
RENDERER = 1  # raise it when the pictures change: an interrupted dataset must not be finished with other pictures


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides every byte of a dataset; kept beside it in `NOTE`."""

    dataset: str  # of SIZES
    train: int  # places
    test: int  # places
    seed: int
    tile_size: int  # pixels
    panorama_height: int  # pixels
    panorama_width: int  # pixels
    renderer: int = RENDERER
    offset: float = 0.0  # metres


SIZES = {"cvusa": (750, 224, 1232), "cvact": (1200, 832, 1664), "vigor": (640, 1024, 2048)}  # tile, panorama; pixels
FOLDERS = {"cvusa": "CVUSA", "cvact": "ANU_data_small", "vigor": "VIGOR"}
IMAGE_FOLDERS = {
    "cvusa": ("bingmap/19", "streetview/panos"),
    "cvact": ("satview_polish", "streetview"),
    "vigor": overlapping.FOLDERS,
}


def place_positions(settings):
    """Where the dataset's places are; the training places first, none within 30 m of a test place.

    Returns:
        (train + test, 2) int64, the lattice's columns and rows, and a list of as many districts' keys: places
        with one key are drawn together.
    """
    town = Town(settings.seed)
    positions, districts = [], []
    # Two quarters of the town, two blocks apart: training to the east, tests to the west.
    for quarter, count in enumerate((settings.train, settings.test)):
        side, found, taken = 0, [], {}
        while len(found) < count:
            side += 1
            for a, b in new_blocks(side):
                district = quarter, a // DISTRICT, b // DISTRICT
                for place in town.places(-4 - a if quarter else a, b, settings.dataset == "cvact"):
                    # CVUSA's test places are not neighbours of one another; CVACT's are.
                    if quarter == 0 or settings.dataset == "cvact" or _is_apart(place, taken):
                        found.append((place, district))
        # Which image shows which place should say nothing about where it lies.
        order = np.random.default_rng((settings.seed, 9, quarter)).permutation(count)
        positions += [found[i][0] for i in order]
        districts += [found[i][1] for i in order]
    return np.array(positions, np.int64).reshape(-1, 2), districts


def _is_apart(place, taken):
    """Whether a place is `SPREAD` metres from all `taken` ones, which it then joins; they are kept by squares of that size."""
    spread = round(SPREAD / CELL)
    i, j = place[0] // spread, place[1] // spread
    for square in ((i + di, j + dj) for di in (-1, 0, 1) for dj in (-1, 0, 1)):
        if any((place[0] - column) ** 2 + (place[1] - row) ** 2 < spread**2 for column, row in taken.get(square, ())):
            return False
    taken.setdefault((i, j), []).append(place)
    return True


def image_paths(settings, number):
    """Paths of a place's aerial tile and panorama in the dataset's folder; `number` counts from 0."""
    aerial, ground = IMAGE_FOLDERS[settings.dataset]
    if settings.dataset == "cvusa":
        return f"{aerial}/{number + 1:07d}.jpg", f"{ground}/{number + 1:07d}.jpg"
    name = pano_id(settings.seed, number)
    return f"{aerial}/{name}_satView_polish.jpg", f"{ground}/{name}_grdView.jpg"


def pano_id(seed, number):
    """A name of 22 characters, as Google's panoramas have."""
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return base64.urlsafe_b64encode(digest)[:22].decode()


def render_dataset(settings, data_dir, workers=1, progress=None):
    """Render a dataset into its folder under `data_dir`, or the rest of it if a run was cut off.

    The lists of places are written last, so a dataset that has them is whole.

    Args:
        settings: `Settings`.
        data_dir: the folder that will hold one of FOLDERS.
        workers: processes; the files do not depend on it.
        progress: shown while rendering; a ProgressBar, or another object with `update(count)`.

    Returns:
        The dataset's folder.

    Raises:
        UserError: the folder holds another dataset, or a worker was killed.
    """
    folder = os.path.join(data_dir, FOLDERS[settings.dataset])
    _claim(folder, settings)
    if settings.dataset == "vigor":
        cities = _cities(settings)
        files, lists = _files_of_cities(folder, cities), _labels(cities)
    else:
        positions, districts = place_positions(settings)
        files = _files_of_places(settings, folder, positions, districts)
        lists = _splits(settings) if settings.dataset == "cvusa" else _mat(settings, positions)
    jobs = [(settings, of_district) for of_district in sorted(files.values(), key=len, reverse=True)]  # a large one is not last
    with worker_map(min(workers, len(jobs))) as parallel_map:
        for count in parallel_map(_render, jobs):
            if progress is not None:
                progress.update(count)
    for name in (".", "splits", *IMAGE_FOLDERS[settings.dataset]):
        if os.path.isdir(os.path.join(folder, name)):
            remove_abandoned(os.path.join(folder, name))
    for path, content in lists.items():
        os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
        write_whole(os.path.join(folder, path), content)
    return folder


def _claim(folder, settings):
    """Leave a note of the settings in a new folder, and refuse one that holds something else."""
    note, wanted = os.path.join(folder, NOTE), dataclasses.asdict(settings)
    if os.path.exists(note):
        found = read_json(note, dict, f"delete {folder} or choose another --data_dir")
        other = [f"{key} {found.get(key)} instead of {value}" for key, value in wanted.items() if found.get(key) != value]
        if found != wanted:
            what = ", ".join(other) or "settings that this version does not know"
            remedy = "choose another --data_dir, repeat its settings, or delete the folder"
            raise UserError(f"{folder}: holds a toy dataset with {what}; {remedy}")
        return
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UserError(f"{folder}: is a file; choose another --data_dir")
    if os.path.isdir(folder) and any(not name.endswith(PARTIAL) for name in os.listdir(folder)):
        raise UserError(
            f"{folder}: holds files that are not of a toy dataset (no {NOTE}), perhaps the real one; choose another --data_dir"
        )
    os.makedirs(folder, exist_ok=True)
    write_json(note, wanted)
    # Folders come after the note: a run that is killed here can go on.


def _render(job):
    """Render the missing ones of files that lie close together, and say how many panoramas are among all of them.

    Args:
        job: settings, and for each file its path, whether it is a panorama, the place (column, row) that it shows, and a number
            that its look and a tile's offset are drawn by.
    """
    settings, files = job
    for folder in {os.path.dirname(path) for path, *_ in files}:
        os.makedirs(folder, exist_ok=True)
    scene = None
    for path, is_panorama, place, number in files:
        if os.path.exists(path):
            continue
        scene = scene or _town(settings.seed).scene_around(np.array([place for _, _, place, _ in files]), REACH)
        # A panorama's look is drawn after its tile's, but in VIGOR's form, where files have numbers of their own.
        stream, before = (13, 0) if settings.dataset == "vigor" else (10, int(is_panorama))
        rng = np.random.default_rng((settings.seed, stream, number))
        look = [random_look(rng) for _ in range(before + 1)][-1]
        if is_panorama:
            view = _view(settings.dataset, settings.panorama_height, settings.panorama_width)
            image = render_panorama(scene, *place, view, look)
        else:
            column, row = np.add(place, _offset(settings, number)).tolist()
            image = render_aerial(scene, column, row, settings.tile_size, look)
        write_image(path, image, JPEG if path.endswith(".jpg") else ())
    return sum(is_panorama for _, is_panorama, *_ in files)


def _files_of_places(settings, folder, positions, districts):
    """What `_render` draws of places, by district."""
    jobs = {}
    for number, (district, place) in enumerate(zip(districts, positions.tolist(), strict=True)):
        for is_panorama, path in enumerate(image_paths(settings, number)):
            jobs.setdefault(district, []).append((os.path.join(folder, path), bool(is_panorama), place, number))
    return jobs


def _cities(settings):
    """The four cities, among which the places are shared out."""
    town, cities = Town(settings.seed), []
    for row, name in enumerate(overlapping.CENTRES):
        shares = ((count + row) // len(overlapping.CENTRES) for count in (settings.train, settings.test))
        cities.append(overlapping.plan_city(town, name, *shares))
    return cities


def _files_of_cities(folder, cities):
    """What `_render` draws of cities, by district."""
    jobs, numbers = {}, itertools.count()
    for city in cities:
        for kind, files in ("satellite", city.tiles), ("panorama", city.panoramas):
            for name, cell in files.items():
                district = city.name, *(at // (DISTRICT * overlapping.STEP) for at in cell)
                path = os.path.join(folder, city.name, kind, name)
                jobs.setdefault(district, []).append((path, kind == "panorama", cell, next(numbers)))
    return jobs


def _offset(settings, number):
    """Cells by which a tile's centre lies to the east and south of its place: anywhere within `settings.offset` metres."""
    if not settings.offset:
        return 0, 0
    rng = np.random.default_rng((settings.seed, 11, number))
    distance, angle = settings.offset / CELL * math.sqrt(rng.random()), 2 * math.pi * rng.random()
    return round(distance * math.sin(angle)), round(distance * math.cos(angle))


_view, _town = functools.cache(panorama_view), functools.cache(Town)  # kept between districts


def _splits(settings):
    """CVUSA's lists: {path: bytes}."""
    numbers = range(settings.train + settings.test)
    names = [(*image_paths(settings, number), f"streetview/annotations/{number + 1:07d}.png") for number in numbers]
    lines = [",".join(of_place) + "\n" for of_place in names]
    lists = {"train": lines[: settings.train], "val": lines[settings.train :]}
    return {f"splits/{name}-19zl.csv": "".join(of_split).encode() for name, of_split in lists.items()}


def _labels(cities):
    """VIGOR's lists: {path: bytes}."""
    lists = {f"splits/{city.name}/{name}": lines for city in cities for name, lines in city.lists.items()}
    return {path: "".join(f"{line}\n" for line in lines).encode() for path, lines in lists.items()}


def _mat(settings, positions):
    """CVACT's list: {path: bytes}."""
    utm = np.array(CANBERRA) + positions * (CELL, -CELL)  # rows grow to the south, northings to the north
    rows = np.arange(1, len(positions) + 1, dtype=np.int32)[:, None]  # MATLAB counts from 1
    train, test = rows[: settings.train], rows[settings.train :]
    content = {"panoIds": np.array([pano_id(settings.seed, number) for number in range(len(positions))]), "utm": utm}
    content |= {"trainSet": {"trainInd": train}, "valSet": {"valInd": test}, "valSetAll": {"valInd": test}}
    file = io.BytesIO()
    scipy.io.savemat(file, content)
    content = bytearray(file.getvalue())
    content[:116] = b"MATLAB 5.0 MAT-file, written by toy_town".ljust(116)  # else it names the hour
    return {"ACT_data.mat": bytes(content)}


def _height_by_width(text):
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, for instance 112x616")
    height, width = int(height), int(width)
    if not (16 <= height <= 4096 and 32 <= width <= 8192):
        raise argparse.ArgumentTypeError(f"{text} is not between 16x32 and 4096x8192 pixels")
    return height, width


def parser():
    """The command line; its help is the manual."""
    result = Parser(__doc__)
    count = at_least(int, 1, 1_000_000)
    result.add_argument("--dataset", choices=sorted(SIZES), default="cvusa", help="dataset whose layout is written")
    result.add_argument("--train", type=count, default=1500, metavar="N", help="number of training places")
    result.add_argument(
        "--test", type=count, default=200, metavar="N", help="number of test places, in another part of the town"
    )
    result.add_argument("--seed", type=at_least(int, 0, 2**31 - 1), default=1, metavar="S", help="which town")
    result.add_argument(
        "--workers",
        type=at_least(int, 1, 1024),
        default=available_cores(),
        metavar="W",
        help=f"{WORKERS}, of about 500 MB each",
    )
    result.add_argument(
        "--data_dir",
        default="Data",
        metavar="DIR",
        help="folder in which CVUSA/, ANU_data_small/ or VIGOR/ is written; one that holds another dataset is refused",
    )
    result.add_argument(
        "--tile_size",
        "--aerial_size",
        type=at_least(int, 16, 8192),
        metavar="PIXELS",
        default=argparse.SUPPRESS,
        help=f"height and width of the aerial tiles, which are always {TILE:g} m across (default: as "
        "in the dataset, 750 for cvusa, 1200 for cvact and 640 for vigor)",
    )
    result.add_argument(
        "--panorama_size",
        type=_height_by_width,
        metavar="HxW",
        default=argparse.SUPPRESS,
        help="height and width of the panoramas in pixels; cvact's and vigor's are whole spheres, so twice as wide "
        "as high, cvusa's 5.5 times (default: as in the dataset, 224x1232 for cvusa, 832x1664 for cvact and 1024x2048 for "
        "vigor)",
    )
    result.add_argument(
        "--offset",
        type=at_least(float, 0, 10),
        default=0.0,
        metavar="METRES",
        help="each tile's centre lies anywhere within this distance of its place, as on a grid of tiles; 0: panoramas are "
        "taken at the centres, as those of cvusa and cvact; vigor's lie on a grid without it",
    )
    return result


def main(argv=None):
    """Render a dataset as the command line asks.

    Raises:
        UserError: the settings contradict one another or the folder holds something else.
    """
    arguments = parser().parse_args(argv)
    tile_size, *panorama = SIZES[arguments.dataset]
    height, width = getattr(arguments, "panorama_size", panorama)
    if arguments.dataset == "vigor":
        if arguments.offset:
            raise UserError("--offset: vigor's tiles lie on a grid, and panoramas off their centres; leave it out")
        if min(arguments.train, arguments.test) < len(overlapping.CENTRES):
            raise UserError("--train, --test: vigor has four cities; use at least 4 places each")
    flag = f"--panorama_size {height}x{width}"
    if arguments.dataset != "cvusa" and (width != 2 * height or height % 4):
        what = f"{arguments.dataset}'s panoramas are whole spheres, and a quarter of cvact's is cropped above and below"
        raise UserError(f"{flag}: {what}; choose twice as wide as high, and a height that 4 divides, such as 224x448")
    if arguments.dataset == "cvusa" and not same_ratio((height, width), panorama):
        raise UserError(f"{flag}: cvusa's panoramas are 5.5 times as wide as high; choose 112x616, for instance")
    places = arguments.dataset, arguments.train, arguments.test, arguments.seed
    tile_size = getattr(arguments, "tile_size", tile_size)
    settings = Settings(*places, tile_size, height, width, offset=arguments.offset)
    with ProgressBar(None, "rendering", settings.train + settings.test, "places") as progress:
        folder = render_dataset(settings, arguments.data_dir, arguments.workers, progress)
    print(f"{folder}: {settings.train} training and {settings.test} test places")
