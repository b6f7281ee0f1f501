"""The ranking as a LaTeX table (booktabs)."""

import re
from collections.abc import Sequence

from ganzoo.errors import printable

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}",
    "[": "{[}", "]": "{]}",
}  # fmt: skip


def escaped(text: str) -> str:
    """As LaTeX prints it, whatever it holds; characters that pdflatex may not know as `?`."""
    line = "".join(_SPECIAL.get(c, c if c.isascii() else "?") for c in printable(text, 240))
    return re.sub(r"-(?=-)", "-{}", line)  # two of them would be a dash


def latex_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], rest: Sequence[Sequence[str]], caption: str
) -> str:
    """A table of text in `headings`, `rows` and, below a line, `rest`; the first column left, the others right.

    Needs booktabs, and T1 fonts for a quotation mark in a name.
    """

    def line(cells: Sequence[str]) -> str:
        return "    " + " & ".join([*cells, *[""] * (len(headings) - len(cells))]).rstrip() + r" \\"

    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{caption}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}",
            r"    \toprule",
            line(headings),
            r"    \midrule",
            *map(line, rows),
            *([r"    \midrule", *map(line, rest)] if rest else []),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )
