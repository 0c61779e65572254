"""What a check says about a dataset."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something worth saying about a dataset.

    Attributes:
        check: its name: "missing", for instance.
        split: its name, or "" for the whole dataset.
        count: how many files, pairs or places.
        text: what it is, and what follows.
        problem: whether it is one; else a note.
        examples: the files or ids.
    """

    check: str
    split: str
    count: int
    text: str
    problem: bool = True
    examples: tuple = ()


def found(check, split, examples, text, problem=True):
    """A list with the Finding of these examples, or an empty one where there are none."""
    return [Finding(check, split, len(examples), text, problem, tuple(examples))] if len(examples) else []
