"""Render a district of the toy town to try localize.py on: an orthophoto, and panoramas taken between the tiles of any grid.

Writes orthophoto.tif (GeoTIFF, UTM zone 55 south), and lists with positions and true headings: panoramas.csv and
calibration.csv of the district, drive.csv along a road, and elsewhere.csv of another part of the town. Every panorama is turned
by a heading of its own. The town and its seed are those of `python -m toy_town`, in a part that no training place lies in.
"""

import itertools
import math
import os

import numpy as np

from safa.datasets.image_files import write_image
from safa.localization.coordinates import needed
from safa.runtime.command_line import Parser, at_least
from safa.runtime.errors import UserError, reported
from safa.runtime.files import partial_path, write_whole
from toy_town.dataset import JPEG
from toy_town.layout import Town
from toy_town.materials import CELL
from toy_town.scene import RANGE
from toy_town.views import TILE, panorama_view, random_look, render_aerial, render_panorama

EPSG = 32755  # UTM zone 55 south, WGS 84
ORIGIN = (500000.0, 6090000.0)  # metres: on the zone's central meridian, where grid north is true north
CENTRE, ELSEWHERE = (-12, 6), (-30, 6)  # crossroads; training places have numbers from 0 on
PIXELS = 256  # of TILE metres of the orthophoto
HEIGHT, WIDTH = 112, 616  # of a panorama, as in the demo on CVUSA
DRIVE_METRES = 10.0
APART = 9.0  # metres between places on a road
REACH = math.ceil((RANGE + TILE) / CELL)  # cells around places, with what is seen from them
LISTS = ("panoramas", "calibration", "drive", "elsewhere")


def render_district(folder, metres, count, seed):
    """Render a district's orthophoto and panoramas; returns the folder.

    Args:
        folder: for the files; must not exist, or be of the same district.
        metres: side of the square that panoramas are taken in; the orthophoto reaches farther by a tile.
        count: panoramas in each of panoramas.csv and calibration.csv; a quarter of it elsewhere.
        seed: of the town.

    Raises:
        UserError: rasterio is missing, or the district has too few places.
    """
    town = Town(seed)
    centre = np.round(town.node(*CENTRE) / CELL).astype(int)
    half = math.ceil((metres / TILE + 1) / 2) * TILE  # half a tile around the panoramas, and whole pieces
    places = _places(town, CENTRE, centre, metres / 2, np.random.default_rng((seed, 21)))
    if len(places) < 2 * count:
        raise UserError(f"--panoramas {count}: a district of {metres:g} m has room for {len(places) // 2}; choose fewer")
    os.makedirs(os.path.join(folder, "panoramas"), exist_ok=True)
    _write_orthophoto(folder, *_orthophoto(town, centre, half, np.random.default_rng((seed, 20))))
    far = np.round(town.node(*ELSEWHERE) / CELL).astype(int)
    others = _places(town, ELSEWHERE, far, metres / 2, np.random.default_rng((seed, 23)))[: max(1, count // 4)]
    groups = places[:count], places[count : 2 * count], _drive(town, CENTRE, metres / 2), others
    for number, (name, group) in enumerate(zip(LISTS, groups, strict=True)):
        rng = np.random.default_rng((seed, 22, number))
        scene = town.scene_around(np.array(group), REACH)
        view = panorama_view("cvusa", HEIGHT, WIDTH)
        lines = ["path,easting,northing,epsg,heading"]
        for row, (column, line) in enumerate(group):
            heading = rng.integers(WIDTH)  # in columns
            image = np.roll(render_panorama(scene, column, line, view, random_look(rng)), -heading, axis=1)
            path = f"panoramas/{name}_{row:04d}.jpg"
            write_image(os.path.join(folder, path), image, JPEG)
            easting, northing = ORIGIN[0] + column * CELL, ORIGIN[1] - line * CELL
            lines.append(f"{path},{easting:.3f},{northing:.3f},{EPSG},{heading * 360 / WIDTH:.3f}")
        write_whole(os.path.join(folder, f"{name}.csv"), ("\n".join(lines) + "\n").encode())
    return folder


def _orthophoto(town, centre, half, rng):
    """(S, S, 3) uint8 BGR of a square, drawn in pieces of one look, and easting and northing of its north-west corner."""
    look, pieces = random_look(rng), round(2 * half / TILE)
    step = TILE / CELL
    first = centre - round(half / CELL)
    corners = [np.round(first + step * (number + 0.5)).astype(int) for number in range(pieces)]
    scene = town.scene_around(np.array([corners[0], corners[-1]]), REACH)
    rows = [
        np.concatenate([render_aerial(scene, corners[x][0], corners[y][1], PIXELS, look) for x in range(pieces)], axis=1)
        for y in range(pieces)
    ]
    west, south = (corners[0] * CELL - TILE / 2).tolist()
    return np.concatenate(rows), (ORIGIN[0] + west, ORIGIN[1] - south)


def _write_orthophoto(folder, image, corner):
    rasterio = needed("rasterio", "toy_town.district")
    path = os.path.join(folder, "orthophoto.tif")
    transform = rasterio.Affine(TILE / PIXELS, 0, corner[0], 0, -TILE / PIXELS, corner[1])
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": f"EPSG:{EPSG}", "transform": transform}
    profile |= {"height": image.shape[0], "width": image.shape[1], "compress": "jpeg", "photometric": "ycbcr", "tiled": True}
    partial = partial_path(path)
    with rasterio.open(partial, "w", **profile) as file:
        file.write(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))
    os.replace(partial, path)


def _places(town, crossroads, centre, half, rng):
    """Camera positions within `half` metres of a centre, every few metres of all roads, as lattice cells in any order."""
    reach, cells = math.ceil(half / 60) + 1, half / CELL
    a, b = (range(number - reach, number + reach) for number in crossroads)
    places = []
    for road in (town.road(*numbers) for numbers in itertools.product(a, b, (False, True))):
        for distance in np.arange(rng.uniform(0, APART), road.length, APART):
            point, _ = road.at(distance)
            place = tuple(np.round(point / CELL).astype(int).tolist())
            if road.kind != "path" and max(abs(place[0] - centre[0]), abs(place[1] - centre[1])) <= cells:
                places.append(place)
    return [places[number] for number in rng.permutation(len(places))]


def _drive(town, crossroads, half):
    """Camera positions every DRIVE_METRES along the roads that go east through a district."""
    a, b = crossroads
    west = town.node(a, b)[0] - half
    places = []
    for number in range(a - math.ceil(half / 60) - 1, a + math.ceil(half / 60) + 1):
        road = town.road(number, b, False)
        for distance in np.arange(0, road.length, DRIVE_METRES):
            point, _ = road.at(distance)
            if west <= point[0] <= west + 2 * half:
                places.append(tuple(np.round(point / CELL).astype(int).tolist()))
    return places


def parser():
    """The command line; its help is the manual."""
    result = Parser(__doc__)
    result.add_argument("folder", metavar="FOLDER", help="folder for the files")
    result.add_argument(
        "--metres", type=at_least(float, 80, 2000), default=300.0, metavar="METRES", help="side of the district"
    )
    result.add_argument(
        "--panoramas", type=at_least(int, 4, 10_000), default=100, metavar="N", help="panoramas of each of both lists"
    )
    result.add_argument("--seed", type=at_least(int, 0, 2**31 - 1), default=1, metavar="S", help="which town")
    return result


def main(argv=None):
    """Render a district as the command line asks."""
    args = parser().parse_args(argv)
    folder = render_district(args.folder, args.metres, args.panoramas, args.seed)
    print(f"{folder}: orthophoto.tif, {', '.join(f'{name}.csv' for name in LISTS)}")


if __name__ == "__main__":
    with reported():
        main()
