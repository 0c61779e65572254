"""How long the toy world takes per place, and in which stage, at CVUSA's sizes and at small ones.

One process, one thread. "town" is the drawing of the height field, shared by the places of a district; each other stage
is the median over the places. Run from the repository's root: python -m benchmarks.toy_world_rendering
"""

import argparse
import os
import tempfile
import time

import cv2
import numpy as np

from safa.datasets.image_files import write_image
from toy_town import dataset as toy_world
from toy_town.views import _leaves, panorama_view, random_look, render_aerial, render_panorama


def stages(settings, places):
    """Milliseconds per place of each stage, over about that many places of whole districts."""
    positions, districts = toy_world.place_positions(settings)
    chosen = {}
    for position, district in zip(positions, districts, strict=True):
        chosen.setdefault(district, []).append(position)
    view = panorama_view(settings.dataset, settings.panorama_height, settings.panorama_width)
    times = {"town": [], "look": [], "aerial": [], "panorama": [], "JPEG": []}
    # The whole districts in the middle; those at the edge of the town have fewer places.
    for cells in sorted(chosen.values(), key=len, reverse=True):
        cells = np.array(cells)
        start = time.perf_counter()
        scene = toy_world._district_scene(settings.seed, cells)
        times["town"] += [(time.perf_counter() - start) / len(cells)] * len(cells)
        with tempfile.TemporaryDirectory() as folder:
            for number, (column, row) in enumerate(cells.tolist()):
                marks = [time.perf_counter()]
                rng = np.random.default_rng((settings.seed, number))
                looks = random_look(rng), random_look(rng)
                marks.append(time.perf_counter())
                aerial = render_aerial(scene, column, row, settings.tile_size, looks[0])
                marks.append(time.perf_counter())
                panorama = render_panorama(scene, column, row, view, looks[1])
                marks.append(time.perf_counter())
                write_image(os.path.join(folder, "aerial.jpg"), aerial, toy_world.JPEG)
                write_image(os.path.join(folder, "panorama.jpg"), panorama, toy_world.JPEG)
                marks.append(time.perf_counter())
                for stage, seconds in zip(("look", "aerial", "panorama", "JPEG"), np.diff(marks), strict=True):
                    times[stage].append(seconds)
        if len(times["JPEG"]) >= places:
            break
    return {stage: 1000 * float(np.mean(values) if stage == "town" else np.median(values)) for stage, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--places", type=int, default=200, help="places to render at each size")
    places = parser.parse_args().places
    cv2.setNumThreads(1)
    _leaves()  # the noise is drawn once per process
    print(f"{'tile':>9} {'panorama':>9} {'ms/place':>9}  of which")
    for aerial, height, width in ((750, 224, 1232), (256, 112, 616)):
        settings = toy_world.Settings("cvusa", 1500, 200, 1, aerial, height, width)
        found = stages(settings, places)
        total = sum(found.values())
        shares = ", ".join(f"{stage} {value:.1f} ({value / total:.0%})" for stage, value in found.items())
        print(f"{aerial:>4}x{aerial:<4} {height:>4}x{width:<4} {total:>9.1f}  {shares}")


if __name__ == "__main__":
    main()
