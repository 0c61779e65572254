"""Find where panoramas of your own were taken, among aerial imagery of a region.

build computes descriptors of geo-tagged aerial tiles and keeps them in an index; query finds the best places of panoramas
in it; calibrate learns how sure its answers are. docs/localisation.md says what to mind: the ground size of tiles, headings,
licences.
"""

from safa.localization.commands import launch_localization

if __name__ == "__main__":
    launch_localization(__doc__)
