"""Notebooks on the site: rendered as they are, or executed first where EXECUTE_NOTEBOOKS=1 asks for it.

Notebooks lie outside of the documentation and carry no outputs. To execute them takes minutes, which is too long for a
look at a page; a site that is to be published is built with the variable set.
"""

import os
import re
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

#: Seconds that a notebook may take, as in its test.
TIMEOUT_S = 480

_PLAIN = """*Not executed: this page shows the code alone. Build the site with `EXECUTE_NOTEBOOKS=1 make docs` to see
what it gives, or open `notebooks/{name}` in Jupyter.*"""

_EXECUTED = "*Executed when this page was built. To run it yourself open `notebooks/{name}` in Jupyter.*"

# What Jupyter's template loads from elsewhere: typesetting of formulas and of diagrams, of which there are none.
_ELSEWHERE = re.compile(
    r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->"
    r'|<script type="module">.*?<!-- End of mermaid configuration -->',
    re.DOTALL,
)


class NotebookPage(File):
    """A notebook that is a page. The plug-in that renders them makes pages only of files below the documentation."""

    def is_documentation_page(self) -> bool:
        """Return True: it is given a place and a title as Markdown is."""
        return True


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebooks, executed where that was asked for, as pages under ``notebooks/``."""
    execute = os.environ.get("EXECUTE_NOTEBOOKS", "") not in ("", "0")
    # Apart, so that a look at the site while another build executes them does not put plain ones in their place.
    folder = ROOT / "build" / "notebooks" / ("executed" if execute else "plain")
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        written = folder / path.name
        partial = folder / f".{path.stem}.{os.getpid()}.part"
        nbformat.write(noted(path, execute=execute), partial)
        partial.replace(written)
        files.append(NotebookPage.generated(config, f"notebooks/{path.name}", abs_src_path=str(written)))
    return files


def noted(path: Path, *, execute: bool) -> nbformat.NotebookNode:
    """Return a notebook with a line below its title that says whether its outputs are there.

    Parameters
    ----------
    path
        Its first cell begins with the title.
    execute
        Run every cell first, in the notebook's folder.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        A cell failed: a page with a failure on it is not published.
    """
    notebook = nbformat.read(path, as_version=4)
    if execute:
        from nbclient import NotebookClient

        NotebookClient(
            notebook, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
        ).execute()
    title, _, rest = notebook.cells[0].source.partition("\n")
    note = (_EXECUTED if execute else _PLAIN).format(name=path.name)
    notebook.cells[0].source = f"{title}\n\n{note}\n{rest}"
    return notebook


def on_page_content(html: str, page: Page, **_: object) -> str:
    """Take from a notebook's page what it would load from elsewhere."""
    return without_elsewhere(html) if page.file.src_uri.endswith(".ipynb") else html


def without_elsewhere(html: str) -> str:
    """Return the HTML of a notebook without the scripts that Jupyter's template loads from a network."""
    return _ELSEWHERE.sub("", html)
