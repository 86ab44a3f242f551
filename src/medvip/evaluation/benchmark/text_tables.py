"""A table as text: Markdown and LaTeX, in which every label stays the text that it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes
    ----------
    title, columns, rows
        What is shown. Nothing is escaped.
    labels
        How many of the leading columns hold labels that somebody chose; the others hold figures.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1

    def markdown(self) -> str:
        """As Markdown."""
        marks = ["---"] * self.labels + ["---:"] * (len(self.columns) - self.labels)
        lines = [self.columns, marks, *self.rows]
        escaped = [
            [markdown_escaped(cell) if i < self.labels or n == 0 else cell for i, cell in enumerate(line)]
            for n, line in enumerate(lines)
        ]
        escaped[1] = marks
        body = "\n".join(f"| {' | '.join(line)} |" for line in escaped)
        return f"### {markdown_escaped(self.title)}\n\n{body}\n"

    def latex(self) -> str:
        """As a LaTeX table that needs no package."""
        kinds = "l" * self.labels + "r" * (len(self.columns) - self.labels)
        lines = [" & ".join(map(latex_escaped, line)) + r" \\" for line in (self.columns, *self.rows)]
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{latex_escaped(self.title)}}}",
                rf"\begin{{tabular}}{{{kinds}}}",
                r"\hline",
                lines[0],
                r"\hline",
                *lines[1:],
                r"\hline",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


_MARKDOWN = str.maketrans(
    {character: "\\" + character for character in r"\`*_{}[]#|~$!"}
    | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " ", "\r": " "}
)
_LATEX = str.maketrans(
    {character: "\\" + character for character in "{}$&#_%"}
    | {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # after the \\\\ of the line before it would be an option, as would a star
        "*": "{*}",
        "±": r"$\pm$",
        "\n": " ",
        "\r": " ",
    }
)


def markdown_escaped(text: str) -> str:
    r"""Text that Markdown shows as it is.

    Examples
    --------
    >>> print(markdown_escaped("a|b <c>"))
    a\|b &lt;c&gt;
    """
    return text.translate(_MARKDOWN)


def latex_escaped(text: str) -> str:
    r"""Text that LaTeX shows as it is.

    Examples
    --------
    >>> print(latex_escaped(r"50 % of $x_1$"))
    50 \% of \$x\_1\$
    """
    return text.translate(_LATEX)
