"""Rows of the paper's tables, collected from result files: seeds together, published recalls beside them."""

import dataclasses
import fnmatch
import re
import statistics

import numpy as np

from recall import one_percent, recall_curve
from safa.datasets.corruptions import CORRUPTIONS, DRAWN, SEVERITIES
from safa.datasets.registry import DATASETS
from safa.report.published import CORRUPTED, OTHERS, PUBLISHED
from safa.report.result_file import AUTHORS, RECALLS, StoredResult, read_result
from safa.retrieval.confidence import recall_interval
from safa.retrieval.evaluation import HEADING_DEGREES
from safa.retrieval.task import AERIAL_TO_GROUND, GROUND_TO_AERIAL
from safa.runtime.errors import UserError, first_few, shortened

NETWORKS = ("VGG_gp", "SAFA_1", "SAFA_2", "SAFA_4", "SAFA_8")  # the paper's order; others come after
CURVE = 20  # so small test sets have a curve too
COSTS = ("parameters", "gmac", "descriptor", "milliseconds")
SHARES = {"heading_right": f"heading within {HEADING_DEGREES:g}°"}  # of queries, in some results: a line of a table each
PUBLISHED_TITLE = "{} (published)"
ALL = {"*": ""}  # rows, as of `choose`
# The view of corrupted queries: what else is special, whether they are files, corruption, severity.
CORRUPTED_VIEW = re.compile(rf"^(.*?)_?(files_)?({'|'.join(CORRUPTIONS)}|{DRAWN})(?:_([1-{SEVERITIES[-1]}]))?$")


@dataclasses.dataclass(frozen=True)
class Kind:
    """What results have in common that differ in their seed only: fields of StoredResult, and of its network.

    Of descriptors that were computed elsewhere, `network_type` is their name, and `polar` is None.
    """

    dataset: str
    split: str
    network_type: str
    polar: int | None
    run: str | None
    trained_on: str | None
    direction: str
    view: str
    sizes: str
    weights: str | None = None
    toy_town: bool = False

    @property
    def table(self):
        """What results of one table have in common: its title begins with it."""
        return f"{self.dataset} {self.split}{', toy town' * self.toy_town}"

    @property
    def corruption(self):
        """Of the queries: name and severity, "fog" and "3", or None each; without a severity it is of a mean or a draw."""
        found = CORRUPTED_VIEW.fullmatch(self.view)
        return found.group(3, 4) if found else (None, None)

    @property
    def clean(self):
        """The Kind of the same test on clean queries."""
        return dataclasses.replace(self, view=CORRUPTED_VIEW.sub(r"\1", self.view))

    @property
    def of_all_severities(self):
        """The Kind of the tests on the same corruption in whatever severity."""
        return dataclasses.replace(self, view=self.view.removesuffix(f"_{self.corruption[1]}"))

    @property
    def is_home(self):
        """Whether the network was trained on the same dataset."""
        return self.trained_on in (None, self.dataset, self.dataset.removesuffix("_test"))  # of CVACT_test: CVACT

    @property
    def is_papers_task(self):
        """Whether the paper tests this way: its sizes, its direction, whole panoramas."""
        return self.direction == GROUND_TO_AERIAL and not self.view and not self.sizes

    def title(self, with_sizes=True):
        """Of the row: "SAFA_8, polar", and what is special."""
        parts = [
            self.network_type,
            {None: "", 0: "no polar", 1: "polar"}[self.polar],
            self.run and f"run {self.run}",
            self.weights and ("authors' weights" if self.weights == AUTHORS else f"weights {self.weights}"),
            "" if self.is_home else f"trained on {self.trained_on}",
            "aerial to ground" if self.direction == AERIAL_TO_GROUND else "",
            self.view.replace("_", " "),
            self.sizes if with_sizes else "",
        ]
        return ", ".join(filter(None, parts))

    @property
    def order(self):
        """For sorting: the paper's task first, in the paper's order."""
        known = NETWORKS.index(self.network_type) if self.network_type in NETWORKS else len(NETWORKS)
        away = "" if self.is_home else self.trained_on
        special = self.direction == AERIAL_TO_GROUND, self.view, away, self.sizes, self.run or "", self.weights or ""
        return self.table, self.polar is None, not self.is_papers_task, *special, self.polar, known, self.network_type


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table: one network on one task; the results are of one seed each. `name` replaces its title."""

    kind: Kind
    results: list[StoredResult]
    name: str | None = None

    def title(self, with_sizes=True):
        return self.name or self.kind.title(with_sizes)

    @property
    def is_comparable(self):
        """Whether published recalls compare with it: the paper's task, not in a toy town, among as many references."""
        dataset = DATASETS.get(self.kind.dataset.lower())
        count = dataset and dataset.published_counts.get(self.kind.split)
        is_papers_task = self.kind.is_papers_task and not self.kind.toy_town
        return is_papers_task and all(result.references == count for result in self.results)

    @property
    def task(self):
        """What rows have in common that are ranked with each other."""
        kind, first = self.kind, self.results[0]
        return kind.direction, kind.view, None if kind.is_home else kind.trained_on, first.references, first.query_ids

    @property
    def published(self):
        """report.published.Published of the same network and task, or None."""
        key, (corruption, severity) = (self.kind.dataset, self.kind.network_type, self.kind.polar), self.kind.corruption
        known = PUBLISHED if corruption is None else {} if severity else CORRUPTED[corruption]
        # Published recalls on corrupted queries compare if those on clean ones do.
        clean = dataclasses.replace(self, kind=self.kind.clean)
        return known.get(key) if clean.is_comparable and self.kind.is_home else None

    @property
    def recalls(self):
        """The recalls that all results have, "recall" first: "pessimistic_recall" and "recall_within_5m", for instance."""
        shared = [name for name in self.results[0].recalls if all(name in result.recalls for result in self.results)]
        return sorted(shared, key="recall".__ne__)

    def percents(self, name="recall", ks=RECALLS):
        """The mean over the seeds and its standard deviation or None, in percent, at each K; None where it is not known."""
        values = [[result.recall(name, k) for result in self.results] for k in ks]
        deviations = [100 * statistics.stdev(each) if len(each) > 1 and None not in each else None for each in values]
        return [None if None in each else (100 * statistics.fmean(each), d) for each, d in zip(values, deviations, strict=True)]

    def interval(self, name="recall", ks=RECALLS):
        """Lower and upper end in percent at each K; none with several seeds, or where a recall is not known."""
        if len(self.results) > 1 or name == "pessimistic_recall":
            return []
        (result,) = self.results
        recalls = [result.recall(name, k) for k in ks]
        return [] if None in recalls else [tuple(100 * end for end in recall_interval(r, result.queries)) for r in recalls]

    @property
    def shares(self):
        """{title: percent} of SHARES, the mean over the seeds that have it."""
        found = {title: [getattr(result, name) for result in self.results] for name, title in SHARES.items()}
        known = {title: [share for share in values if share is not None] for title, values in found.items()}
        return {title: 100 * statistics.fmean(values) for title, values in known.items() if values}

    @property
    def differences(self):
        """Points above the published R@1, R@5, R@10 and R@1%; none where these are not known."""
        published = [] if self.published is None else self.published.recalls
        return [mean - percent for (mean, _), percent in zip(self.percents(), published, strict=False)]

    @property
    def costs(self):
        """{"parameters", "gmac", "descriptor", "milliseconds": number or None}; milliseconds are the fastest measured."""
        values = {name: [getattr(result.cost, name, None) for result in self.results] for name in COSTS}
        return {name: min((value for value in values[name] if value is not None), default=None) for name in COSTS}

    @property
    def curves(self):
        """recall@1, @2, ... in percent, a row a seed: up to 1 % of the references, and at least CURVE of them."""
        depth = min(result.references for result in self.results)
        depth = min(depth, max(CURVE, one_percent(depth)))
        return 100 * np.array([recall_curve(result.ranks["exact"], depth) for result in self.results])


def collect(paths):
    """Rows of the result files of these paths, in the order of the paper's tables, and lines "PATH: why; left out"."""
    kinds, notes = {}, []
    for path in paths:
        try:
            result = read_result(path, "left out")
        except UserError as error:
            notes.append(str(error))
            continue
        kind = _kind(result)
        of_seed = kinds.setdefault(kind, {})
        first = next(iter(of_seed.values()), result)
        digest = result.checkpoint_digest
        twins = [seed for seed, one in of_seed.items() if seed == result.seed or digest and digest == one.checkpoint_digest]
        if (result.query_ids, result.references) != (first.query_ids, first.references):
            why = f"{kind.title()}, seed {result.seed} on other pairs than seed {first.seed}"
        elif twins:
            also = f", now under seed {result.seed}" * (result.seed not in twins)
            why = f"a second result of {kind.title()}, seed {twins[0]}{also}"
        else:
            of_seed[result.seed] = result
            continue
        notes.append(f"{shortened(path)}: {why}; left out")
    rows = [Row(kind, [of_seed[seed] for seed in sorted(of_seed)]) for kind, of_seed in kinds.items()]
    return sorted(rows, key=lambda row: row.kind.order), notes


def pattern_of(chosen, *titles):
    """The first of the chosen patterns that one of a row's titles matches, or None."""
    return next((each for each in chosen if any(fnmatch.fnmatchcase(title, each) for title in titles)), None)


def choose(rows, chosen):
    """The rows that are chosen, each table's in that order and by their new names.

    `chosen`: {pattern of titles, as a shell's: new name, or ""}; UserError if no row, and no published one, has such a title.
    """
    titles = [(row.kind.title(), row.kind.title(False)) for row in rows]
    published = [PUBLISHED_TITLE.format(system) for systems in OTHERS.values() for system in systems]
    for pattern in chosen:
        if not fnmatch.filter([*published, *(title for both in titles for title in both)], pattern):
            raise UserError(f"--rows {pattern}: no row has this title; there are {first_few([full for full, _ in titles])}")
    found = [(row, pattern_of(chosen, *both)) for row, both in zip(rows, titles, strict=True)]
    kept = [(row.kind.table, list(chosen).index(each), row, chosen[each]) for row, each in found if each is not None]
    if not kept:
        raise UserError("--rows: names published rows only; name one of yours")
    return [dataclasses.replace(row, name=name or None) for *_, row, name in sorted(kept, key=lambda each: each[:2])]


def _kind(result):
    """The Kind of a StoredResult."""
    of_network = {"network_type": result.name, "polar": None, "sizes": ""}
    if result.network is not None:
        of_network = {name: getattr(result.network, name) for name in of_network}
    names = [field.name for field in dataclasses.fields(Kind) if field.name not in of_network]
    return Kind(**of_network, **{name: getattr(result, name) for name in names})
