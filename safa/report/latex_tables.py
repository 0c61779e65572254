"""Tables of rows in LaTeX, and their sources for BibTeX."""

import re

from safa.report.table_formats import BEST, PART, SECOND, captioned

NUMBER = re.compile(r"(?P<whole>[\d,]+)(\.(?P<part>\d+))?( ± (?P<deviation>[\d.]+))?")  # a cell that LaTeX aligns
# What LaTeX would obey, "[" and "*" where a line begins.
NAMED = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "|": "bar", "<": "less", ">": "greater", "°": "degree"}
LATEX = {each: "\\" + each for each in "&%$#_{}"} | {each: f"{{{each}}}" for each in "[*"} | {"±": r"$\pm$"}
LATEX = str.maketrans(LATEX | {each: rf"\text{name}{{}}" for each, name in NAMED.items()})
PREAMBLE = r"""% needs \usepackage{booktabs,siunitx,threeparttable,url}, and \bibliography{tables} for \cite
% letters beyond Latin need LuaLaTeX or XeLaTeX; a table that is too wide fewer --columns
"""
TABLE = r"""
\begin{table}
\centering
\sisetup{detect-weight, separate-uncertainty, table-align-uncertainty=false}
\begin{threeparttable}
\caption{%s}%s
\begin{tabular}{l%s}
\toprule
%s \\
\midrule
%s \\
\bottomrule
\end{tabular}%s
\end{threeparttable}
\end{table}
"""


def as_latex(tables, caption=None, label=None):
    """Tables in LaTeX: see PREAMBLE; the caption replaces their title."""
    return PREAMBLE + "".join(_latex(table, caption, label) for table in tables)


def _latex(table, caption, label):
    marks = ". Best bold, second underlined" if any(line.marks for line in table.lines) else ""
    caption = f"{captioned(table, caption).rstrip('.')}. {table.about}{marks}.".translate(LATEX)
    widths, body, group = {}, [], table.lines[0].group
    for name in table.columns:
        found = [NUMBER.fullmatch(line.cells.get(name, "").replace(",", "")) for line in table.lines]
        widths[name] = [max((len(each[part] or "") for each in found if each), default=1) for part in NUMBER.groupindex]
    for line in table.lines:
        rule, group = r"\midrule " * (line.group != group), line.group
        title = re.sub(f"^{PART}", r"\\quad ", line.title.translate(LATEX)) + rf"\tnote{{{line.note}}}" * bool(line.note)
        cells = (_latex_cell(line.cells.get(name, ""), line.marks.get(name), widths[name]) for name in table.columns)
        body.append(rule + " & ".join([title, *cells]))
    aligned = "".join(f"S[table-format={whole}.{part}{f'({more - 1})' * bool(more)}]" for whole, part, more in widths.values())
    notes = []
    for number, (note, source) in enumerate(table.sources.items(), 1):
        text = note.translate(LATEX).replace(source.url.translate(LATEX), rf"\url{{{source.url}}}")
        notes.append(rf"\item[{number}] {text}~\cite{{{source.key}}}")
    notes = "\n".join(
        [r"\begin{tablenotes}\footnotesize\raggedright", *notes, *(rf"\item {note.translate(LATEX)}" for note in table.notes)]
    )
    notes = f"\n{notes}\n\\end{{tablenotes}}" * bool(table.below)
    head = " & ".join(["", *(f"{{{text.translate(LATEX)}}}" for text in table.columns.values())])
    return TABLE % (caption, f"\n\\label{{{label}}}" * bool(label), aligned, head, " \\\\\n".join(body), notes)


def _latex_cell(text, mark, widths):
    """A cell of a column of siunitx whose numbers have these widths."""
    found, (whole, _, more) = NUMBER.fullmatch(text.replace(",", "")), widths
    if found is None:
        return text and "{" + re.sub(r"(?<=\d)-", "--", re.sub("^([+-])", r"$\1$", text.translate(LATEX))) + "}"
    if mark == SECOND:  # siunitx underlines nothing: as wide as its numbers
        before, after = "0" * (whole - len(found["whole"])), r"{} \pm 0." + "0" * (more - 2)
        after = rf"\phantom{{${after}$}}" * bool(more and not found["deviation"])
        return rf"{{\phantom{{{before}}}\underline{{${found[0]}$}}{after}}}".replace("±", r"\pm")
    return r"\bfseries " * (mark == BEST) + found[0].replace("±", "+-")


def as_bib(tables):
    """BibTeX's entries of all tables' sources."""
    sources = {source.key: source for table in tables for source in table.sources.values()}
    return "\n\n".join(source.bibtex for source in sources.values()) + "\n"
