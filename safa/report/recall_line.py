"""Recalls and ties in a line, as training and tests print them."""


def recall_line(recalls):
    """Recalls in a line: "R@1 89.84  R@5 96.93  R@10 98.14  R@1% 99.64"."""
    return "  ".join(f"R@{k} {100 * value:.2f}" for k, value in recalls.items())


def tie_warning(tied, queries):
    """One line that says what ties do to the recall, or None without ties; numbers as of `retrieval.evaluation.recalls`."""
    if not tied:
        return None
    what = f"ties: {tied:,} of {queries:,} queries have other references as close as the true one, which only the pessimistic"
    return f"{what} recall counts. If it is much lower, the network has collapsed to the same descriptors everywhere"
