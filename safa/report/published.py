"""Recalls that were published, each with a source that a reader can open: a number without one is not here."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Source:
    """What recalls were read in; `key`: of \\cite; `kind`: of BibTeX's entries; `authors`: as BibTeX has them."""

    key: str
    kind: str
    authors: str
    title: str
    venue: str
    url: str

    def __str__(self):
        names = ", ".join(author.partition(",")[0] for author in self.authors.split(" and "))
        return f"{names}: {self.title}, {self.venue}, {self.url}"

    @property
    def bibtex(self):
        """The entry of a .bib file; a venue ends in its year if it has one."""
        venue, year = re.fullmatch(r"(.*?) ?(\d{4})?", self.venue).groups("")
        fields = {"author": self.authors, "title": f"{{{self.title}}}", VENUES[self.kind]: venue, "year": year, "url": self.url}
        lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
        return f"@{self.kind}{{{self.key},\n{lines}}}"


VENUES = {"inproceedings": "booktitle", "misc": "howpublished"}
SAFA = Source(
    "shi2019safa",
    "inproceedings",
    "Shi, Yujiao and Liu, Liu and Yu, Xin and Li, Hongdong",
    "Spatial-Aware Feature Aggregation for Image Based Cross-View Geo-Localization",
    "NeurIPS 2019",
    "https://papers.nips.cc/paper/9199-spatial-aware-feature-aggregation-for-image-based-cross-view-geo-localization",
)
LIST = "https://github.com/layumi/University1652-Baseline/tree/master/State-of-the-art"
UNIVERSITY = Source("university1652", "misc", "Zheng, Zhedong", "University1652-Baseline, State-of-the-art", "GitHub", LIST)
CVGL, ARXIV = "CVGL: Causal Learning and Geometric Topology", "https://arxiv.org/abs/2603.12551"
CLGT = Source("ouyang2025cvgl", "inproceedings", "Ouyang, Songsong and Zhu, Yingying", CVGL, "NeurIPS 2025", ARXIV)


@dataclasses.dataclass(frozen=True)
class Published:
    """A published row: R@1, R@5, R@10, R@1% in percent, None where it was not printed; its Source, and where in it."""

    recalls: tuple
    source: Source
    place: str = ""

    @property
    def note(self):
        """The source with its place, as a line."""
        return f"{self.source}{self.place and ', '}{self.place}"


# SAFA by dataset, network type, polar. The paper's other ablation rows are not known as numbers; those that later papers quote
# (without polar maps, CVACT_test) were not found in any that could be opened.
PUBLISHED = {
    ("CVUSA", "SAFA_8", 1): Published((89.84, 96.93, 98.14, 99.64), SAFA),
    ("CVACT", "SAFA_8", 1): Published((81.03, 92.80, 94.84, 98.17), SAFA),
}

# Other systems by dataset and what they were trained on (None: the same), worst first.
OTHERS = {
    ("CVUSA", None): {
        "CVM-Net": Published((18.80, 44.42, 57.47, 91.54), UNIVERSITY),
        "OriCNN": Published((27.15, 54.66, 67.54, 93.91), UNIVERSITY),
        "CVFT": Published((61.43, 84.69, 90.49, 99.02), UNIVERSITY),
        "polar DSM": Published((91.96, 97.50, 98.54, 99.67), UNIVERSITY),
        "polar SAFA + LPN": Published((92.83, 98.00, 98.85, 99.78), UNIVERSITY),
        "GeoDTR": Published((93.76, 98.47, 99.22, 99.85), UNIVERSITY),
        "polar L2LTR": Published((94.05, 98.27, 98.99, 99.67), UNIVERSITY),
        "TransGeo": Published((94.08, 98.36, 99.04, 99.77), UNIVERSITY),
        "polar GeoDTR": Published((95.43, 98.86, 99.34, 99.86), UNIVERSITY),
        "Sample4Geo": Published((98.68, 99.68, 99.78, 99.87), UNIVERSITY),
        "CLGT": Published((98.85, 99.71, 99.81, 99.86), CLGT, "table 2"),
    },
    ("CVACT", None): {
        "CVM-Net": Published((20.15, 45.00, 56.87, 87.57), UNIVERSITY),
        "OriCNN": Published((46.96, 68.28, 75.48, 92.04), UNIVERSITY),
        "CVFT": Published((61.05, 81.33, 86.52, 95.93), UNIVERSITY),
        "polar DSM": Published((82.49, 92.44, 93.99, 97.32), UNIVERSITY),
        "polar SAFA + LPN": Published((83.66, 94.14, 95.92, 98.41), UNIVERSITY),
        "polar L2LTR": Published((84.89, 94.59, 95.96, 98.37), UNIVERSITY),
        "TransGeo": Published((84.95, 94.14, 95.78, 98.37), UNIVERSITY),
        "GeoDTR": Published((85.43, 94.81, 96.11, 98.26), UNIVERSITY),
        "polar GeoDTR": Published((86.21, 95.44, 96.72, 98.77), UNIVERSITY),
        "Sample4Geo": Published((90.81, 96.74, 97.48, 98.77), UNIVERSITY),
        "CLGT": Published((91.97, 96.95, 97.72, 98.77), CLGT, "table 2"),
    },
    ("CVACT", "CVUSA"): {
        "polar L2LTR": Published((52.58, 75.81, None, 93.51), CLGT, "table 6"),
        "polar GeoDTR": Published((53.16, 75.62, None, 93.80), CLGT, "table 6"),
        "Sample4Geo": Published((56.62, 77.79, 87.02, 94.69), CLGT, "table 6"),
    },
    ("CVACT_test", None): {
        "polar GeoDTR": Published((64.52, 88.59, 91.96, 98.74), CLGT, "table 2"),
        "GeoDTR+": Published((67.75, 90.15, 92.73, 98.53), CLGT, "table 2"),
        "EP-BEV": Published((71.41, 92.38, 94.37, 98.77), CLGT, "table 2"),
        "Sample4Geo": Published((71.51, 92.42, 94.45, 98.70), CLGT, "table 2"),
        "CLGT": Published((73.22, 93.50, 95.23, 98.79), CLGT, "table 2"),
    },
}
