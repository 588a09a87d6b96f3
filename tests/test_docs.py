"""What the documents name exists: files, classes, functions, settings' tables."""

import ast
import re
from pathlib import Path

from riverrank.operators.candidates import registry

ROOT = Path(__file__).resolve().parent.parent
WALK = ROOT / "docs" / "architecture.md"


def defined() -> dict[str, set[str]]:
    """By class, and by module (the stem of its file), the names that it defines."""
    names: dict[str, set[str]] = {}
    for layer in ("state", "operators", "jobs"):
        for path in (ROOT / layer).rglob("*.py"):
            top = names.setdefault(path.stem, set())
            for node in ast.parse(path.read_text("utf-8")).body:
                for target in targets(node):
                    top.add(target)
                if isinstance(node, ast.ClassDef):
                    names.setdefault(node.name, set()).update(name for inner in node.body for name in targets(inner))
                    names[node.name] |= {
                        attribute.attr
                        for attribute in ast.walk(node)
                        if isinstance(attribute, ast.Attribute) and isinstance(attribute.ctx, ast.Store)
                    }
    return names


def targets(node: ast.stmt) -> set[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    if isinstance(node, ast.Assign):
        return {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return set()


def quoted(path: Path) -> set[str]:
    """What stands in backticks, outside blocks of code."""
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    return set(re.findall(r"`([^`\n]+)`", text))


def known(word: str, names: dict[str, set[str]], settings: str) -> bool:
    """Whether `word` is an attribute of a class or a module, or a setting."""
    owner, name = word.split(".")
    return name in names.get(owner, set()) or word in settings or (f"[{owner}]" in settings and name in settings)


def test_every_name_in_the_walk_through_the_code_exists() -> None:
    names = defined()
    every = set(names) | {name for inner in names.values() for name in inner}
    files = {word for word in quoted(WALK) if "/" in word}
    dotted = {word for word in quoted(WALK) - files if re.fullmatch(r"[A-Za-z_]+\.[A-Za-z_]+(\(\))?", word)}
    plain = {
        word for word in quoted(WALK) - files if re.fullmatch(r"[A-Z][a-zA-Z]+[a-z][a-zA-Z]*|[a-z]+_[a-z_]+", word)
    }
    assert len(files) > 15 and len(dotted) > 10
    assert {name for name in files if not (ROOT / name).exists()} == set()
    settings = (ROOT / "docs" / "settings.md").read_text("utf-8")
    missing = {word for word in dotted if not known(word.rstrip("()"), names, settings)}
    assert missing == set()
    assert {word for word in plain if word not in every} == set()


def test_links_between_documents_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    links = {
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
        if "://" not in link
    }
    assert len(links) > 10
    assert {f"{page.name} to {link}" for page, link in links if not (page.parent / link).exists()} == set()


def test_every_source_of_candidates_is_in_the_page_on_slates() -> None:
    page = (ROOT / "docs" / "slates.md").read_text("utf-8")
    rows = [f"| `{source.name}` | {source.meaning} | `{source.reason}` |" for source in registry.SOURCES]
    assert len(rows) > 10 and "\n".join(rows) in page
