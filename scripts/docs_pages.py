"""What the documentation has from elsewhere: the root's Markdown, the command line, and formulas.

MkDocs calls `on_files` and `on_page_markdown` (hooks of mkdocs.yml), and its superfences `mathml` for every fence
of `math`.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

import latex2mathml.converter
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from chromogen.app.cli import EPILOG, app

ROOT = Path(__file__).resolve().parents[1]
FROM_ROOT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "development/contributing.md",
    "CHANGELOG.md": "development/changelog.md",
    "SECURITY.md": "development/security.md",
}
COMMANDS = "reference/commands.md"
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
MARKUP = re.compile(r"\[/?[a-z ]+\]")  # Rich's, as in [bold]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    made = {page: relinked((ROOT / source).read_text("utf-8"), source) for source, page in FROM_ROOT.items()}
    for page, text in {**made, COMMANDS: command_line()}.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_context: Any) -> str:
    """The Markdown of a page, whose links to the root lead to the pages that are made of it."""
    return markdown if page.file.generated_by else relinked(markdown, f"docs/{page.file.src_uri}")


def relinked(text: str, source: str) -> str:
    """Markdown of a file of the repository, with links that lead from its page to pages.

    >>> relinked("see [how](docs/how-to/where.md#maps), [news](CHANGELOG.md), [web](https://a.b)", "README.md")
    'see [how](how-to/where.md#maps), [news](development/changelog.md), [web](https://a.b)'
    >>> relinked("see [what is promised](../../SECURITY.md)", "docs/reference/formats.md")
    'see [what is promised](../development/security.md)'
    """
    own = FROM_ROOT.get(source, source.removeprefix("docs/"))

    def led(link: re.Match[str]) -> str:
        meant = normpath(join(dirname(source), link[1]))
        page = FROM_ROOT.get(meant, meant.removeprefix("docs/"))
        return relpath(page, dirname(own) or ".")

    return LINK.sub(led, text)


def mathml(source: str, *_fence: Any, **_options: Any) -> str:
    """A fence of TeX as MathML, which browsers draw by themselves."""
    return f'<p class="math">{latex2mathml.converter.convert(source.strip(), display="block")}</p>'


def command_line() -> str:
    """The page of all commands and options, as `--help` knows them."""
    group: Any = typer.main.get_command(app)
    commands = "\n\n".join(_command(name, command) for name, command in group.commands.items())
    intro = "Every command, as `chromogen COMMAND --help` has it; this page is made from the same source."
    return f"# The command line\n\n{intro} {EPILOG}\n\n{commands}\n"


def _command(name: str, command: Any) -> str:
    shown = [parameter for parameter in command.params if parameter.name != "help"]
    arguments = [parameter for parameter in shown if parameter.param_type_name == "argument"]
    words = " ".join([f"chromogen {name}", *(_metavar(argument) for argument in arguments), "[OPTIONS]"])
    parts = [f"## {name}", command.help, f"```text\n{words}\n```"]
    panels: dict[str, list[Any]] = {}
    for parameter in shown:
        panels.setdefault(parameter.rich_help_panel or "", []).append(parameter)
    parts += [_panel(panel, parameters) for panel, parameters in panels.items()]
    if command.epilog:
        parts.append(_epilog(command.epilog))
    return "\n\n".join(parts)


def _panel(name: str, parameters: list[Any]) -> str:
    rows = [f"| {_names(parameter)} | {_meaning(parameter)} |" for parameter in parameters]
    title = [f"**{name}**", ""] if name else []
    return "\n".join([*title, "| option | |", "|---|---|", *rows])


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_metavar(parameter)}`"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} `{_metavar(parameter)}`"


def _meaning(parameter: Any) -> str:
    text = " ".join(MARKUP.sub("", parameter.help or "").split())
    if parameter.required:
        text += " Required."
    elif isinstance(parameter.default, str | int | float) and not isinstance(parameter.default, bool):
        text += f" Default: {parameter.default}."
    return text.replace("|", "\\|").replace("<", "&lt;")


def _epilog(text: str) -> str:
    """Paragraphs; lines that are commands stand in a block."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return "\n\n".join(
        f"```text\n{paragraph}\n```" if paragraph.startswith("chromogen ") else _escaped(paragraph)
        for paragraph in paragraphs
    )


def _escaped(text: str) -> str:
    return text.replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;")
