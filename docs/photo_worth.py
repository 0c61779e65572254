"""Writes the table of docs/localisation.md: what each thing that a photo's tags say is worth, in the toy district.

Run by `make localize-worth`, after `make localize-demo`: python -m docs.photo_worth demo/localize

Photos are whole spheres rendered at the places of the district's panoramas and calibration panoramas. Each case changes their
pixels as a camera would, and asks twice: as if the tag were not there, and with it. Chance draws (headings, directions of tilt)
are the same for all cases.
"""

import dataclasses
import os
import sys

import cv2
import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation
from tabulate import tabulate

from docs.measured import DOCS, write
from safa.localization import Index
from safa.localization.coordinates import LocalFrame, projections
from safa.localization.located_files import read_located_files
from safa.runtime.errors import reported
from toy_town.district import EPSG, ORIGIN, REACH, WIDTH
from toy_town.layout import Town
from toy_town.materials import CELL
from toy_town.views import PanoramaShape, random_look, render_panorama

PAGE = "localisation.md"
BEGIN, END = "<!-- by make localize-worth -->\n", "<!-- end -->\n"
WITHIN = (5, 10, 25)  # metres
SHOWN_DEGREES = 70.0  # that the toy town's panoramas of CVUSA show from top to bottom, which the network is trained on
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" {}/></rdf:RDF></x:xmpmeta>'
)
ORIENTATION, UPSIDE_DOWN, GPS = 0x0112, 3, 0x8825


@dataclasses.dataclass(frozen=True)
class Case:
    """A thing that a photo says.

    Attributes:
        tags: what names of those tags begin with that "without" lacks.
        crop: left, top, right, bottom of what the photo shows of its sphere, 0 to 1.
        tilt: degrees; upside_down: how it is stored; rough: metres, standard deviation of its GPS, east and north.
        settings: of `safa.localization.places.QueryConfig`, in both; added: in "with" alone.
    """

    name: str
    tags: tuple[str, ...] = ()
    crop: tuple[float, float, float, float] = (0, 0, 1, 1)
    tilt: float = 0.0
    upside_down: bool = False
    rough: float | None = None
    settings: dict = dataclasses.field(default_factory=dict)
    added: dict = dataclasses.field(default_factory=dict)


HEADING, CROP, UNKNOWN = ("PoseHeading",), ("Cropped", "FullPano"), {"unknown_heading": True}
CASES = (
    Case("heading", HEADING),
    Case("heading, without: `--unknown_heading`", HEADING, settings=UNKNOWN, added={"unknown_heading": False}),
    Case("crop: the lower 30 % cut off", CROP, (0, 0, 1, 0.7)),
    Case("crop: the upper 30 % cut off", CROP, (0, 0.3, 1, 1)),
    Case(
        "crop: the left quarter cut off, without: `--fov 270`",
        CROP,
        (0.25, 0, 1, 1),
        settings={"fov": 270.0},
        added={"fov": None},
    ),
    Case("orientation: upside down", ("Orientation",), upside_down=True),
    *(Case(f"tilt of {tilt}°, with `--level`", tilt=tilt, added={"level": True}) for tilt in (3, 6, 10)),
    *(Case(f"GPS of σ {sigma} m, with `--gps_sigma`", rough=sigma, added={"gps_sigma": float(sigma)}) for sigma in (10, 5)),
    *(
        Case(
            f"the same of σ {sigma} m, `--unknown_heading`",
            HEADING,
            rough=sigma,
            settings=UNKNOWN,
            added={"gps_sigma": float(sigma)},
        )
        for sigma in (10, 5)
    ),
)


def render_spheres(folder):
    """Yield (sphere (308, 616, 3) uint8 BGR with north in the middle, (longitude, latitude)) of the district's places."""
    town, view = Town(1), PanoramaShape(WIDTH // 2, WIDTH, -90.0, 90.0)
    for name in ("panoramas", "calibration"):
        listed = read_located_files(os.path.join(folder, "district", f"{name}.csv"), needs_locations=True)
        cells = np.round((projections(EPSG)[0](listed.locations) - ORIGIN) * (1, -1) / CELL).astype(int)
        scene, rng = town.scene_around(cells, REACH), np.random.default_rng((1, len(name)))
        for (column, line), location in zip(cells.tolist(), listed.locations.tolist(), strict=True):
            yield render_panorama(scene, column, line, view, random_look(rng)), tuple(location)


def tilted(sphere, pitch, roll):
    """What a camera sees that rolls its right side down and then looks up, by degrees: an image like `sphere`."""
    height, width = sphere.shape[:2]
    east = np.radians((np.arange(width) + 0.5) / width * 360 - 180)
    up = np.radians(90 - (np.arange(height) + 0.5) / height * 180)[:, None]
    own = np.stack([np.cos(up) * np.sin(east), np.cos(up) * np.cos(east), np.sin(up) + 0 * east], axis=-1)
    right, ahead, above = np.moveaxis(own @ Rotation.from_euler("XY", [pitch, roll], degrees=True).as_matrix().T, -1, 0)
    x, y = (np.arctan2(right, ahead) / np.pi + 1) / 2 * width - 0.5, (0.5 - np.arcsin(above) / np.pi) * height - 0.5
    return cv2.remap(sphere, np.float32(x), np.float32(y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def write_photo(path, case, sphere, location, rng, left_out):
    """Write a photo of a sphere by a camera of random heading, direction of tilt and error of GPS, with all tags but some."""
    height, width = sphere.shape[:2]
    columns, direction, metres = rng.integers(width), rng.uniform(0, 2 * np.pi), (case.rough or 0) * rng.standard_normal(2)
    pitch, roll = case.tilt * np.cos(direction), case.tilt * np.sin(direction)
    image = np.roll(sphere, -columns, axis=1)
    image = tilted(image, pitch, roll) if case.tilt else image
    left, top, right, bottom = (round(edge * side) for edge, side in zip(case.crop, (width, height) * 2, strict=True))
    image = image[top:bottom, left:right][:: -1 if case.upside_down else 1, :: -1 if case.upside_down else 1]
    tags = {"PoseHeadingDegrees": f"{columns * 360 / width:.14f}", "PosePitchDegrees": pitch, "PoseRollDegrees": roll}
    tags |= {"FullPanoWidthPixels": width, "FullPanoHeightPixels": height}
    tags |= {"CroppedAreaImageWidthPixels": right - left, "CroppedAreaImageHeightPixels": bottom - top}
    tags |= {"CroppedAreaLeftPixels": left, "CroppedAreaTopPixels": top}
    told = " ".join(f'GPano:{name}="{value}"' for name, value in tags.items() if not name.startswith(left_out or ("-",)))
    exif = Image.Exif()
    if case.upside_down and "Orientation" not in left_out:
        exif[ORIENTATION] = UPSIDE_DOWN
    if case.rough is not None:
        ((longitude, latitude),) = LocalFrame(*location).locations(metres).tolist()
        east, south = (longitude, 0.0, 0.0), (-latitude, 0.0, 0.0)  # where the toy town lies
        exif[GPS] = {1: "S", 2: south, 3: "E", 4: east}
    image = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    image.save(path, quality=92, exif=exif, xmp=XMP.format(told).encode())


def errors(index, folder, case, spheres, left_out, settings):
    """(N,) metres from the best places to the truth."""
    rng, paths = np.random.default_rng(0), []
    os.makedirs(folder, exist_ok=True)
    for number, (sphere, location) in enumerate(spheres):
        paths.append(os.path.join(folder, f"{number:04d}.jpg"))
        write_photo(paths[-1], case, sphere, location, rng, left_out)
    best = [answer.places[0] for answer in index.query(paths, **settings)]
    places = [(place.longitude, place.latitude) for place in best]
    truths = [location for _, location in spheres]
    return np.linalg.norm(index.frame.metres(places) - index.frame.metres(truths), axis=1)


def main(folder):
    """Measure all cases on the demo in a folder and write the table."""
    index, spheres, rows = Index(os.path.join(folder, "index")), list(render_spheres(folder)), []
    recipe = dataclasses.replace(index.manifest.recipe, vertical_fov=SHOWN_DEGREES)
    index.manifest = dataclasses.replace(index.manifest, recipe=recipe)
    for case in CASES:
        without = errors(index, os.path.join(folder, "worth"), case, spheres, case.tags, case.settings)
        told = errors(index, os.path.join(folder, "worth"), case, spheres, (), case.settings | case.added)
        shares = [[f"{100 * np.mean(off <= bound):.0f}" for off in (without, told)] for bound in WITHIN]
        row = [case.name, *(f"{before} → {after} %" for before, after in shares)]
        rows.append([*row, f"{np.median(without):.1f} → {np.median(told):.1f} m"])
        print(*rows[-1], sep="  ", flush=True)
    table = tabulate(rows, ["what the photo says", *(f"within {bound} m" for bound in WITHIN), "median"], "pipe")
    note = f"{len(spheres)} photos among {len(index):,} tiles; weights {recipe.weights[:8]}."
    with open(os.path.join(DOCS, PAGE), encoding="utf-8") as file:
        text = file.read()
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    write(PAGE, f"{text[:start]}\n{table}\n\n{note}\n{text[end:]}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with reported():
        main(sys.argv[1])
