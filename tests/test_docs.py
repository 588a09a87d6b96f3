"""What the documents name exists: files, classes, functions, settings' tables."""

import ast
import re
from pathlib import Path

from riverrank.jobs.cli.main import app
from riverrank.jobs.config.fields import schema_of
from riverrank.jobs.config.schema import Config
from riverrank.operators.candidates import registry

ROOT = Path(__file__).resolve().parent.parent
WALK = ROOT / "docs" / "architecture.md"
COMMANDS = {(command.callback.__name__ if command.callback else "") for command in app.registered_commands} | {
    str(group.name) for group in app.registered_groups
}
LAYERS = ("state", "operators", "jobs")


def defined() -> dict[Path, dict[str, set[str]]]:
    """By file, of each class in it the names that it defines, and under "" those of the module itself."""
    names: dict[Path, dict[str, set[str]]] = {}
    for layer in LAYERS:
        for path in (ROOT / layer).rglob("*.py"):
            held = names[path.relative_to(ROOT)] = {"": set[str]()}
            for node in ast.parse(path.read_text("utf-8")).body:
                held[""].update(targets(node))
                if isinstance(node, ast.ClassDef):
                    held[node.name] = {name for inner in node.body for name in targets(inner)} | {
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


def holds(held: dict[str, set[str]], word: str) -> bool:
    """Whether a file that defines this holds `word`, a name or a class with a name of its."""
    owner, _, name = word.rpartition(".")
    return name in held.get(owner, ())


def test_every_name_in_the_walk_through_the_code_exists() -> None:
    names, words = defined(), quoted(WALK)
    files = {word for word in words if "/" in word}
    commands = {f"riverrank {name}" for name in COMMANDS}
    inner = {name for held in names.values() for of_one in held.values() for name in of_one}
    modules = {path.stem for path in names}
    settings = {setting.key for setting in schema_of(Config).settings.values()}
    assert len(files) > 15 and len(words) > 80
    assert {name for name in files if not (ROOT / name).exists()} == set()
    unknown = {
        word
        for word in words - files - commands - settings - modules - inner - {*LAYERS}
        if not any(holds(held, word) for held in names.values())
    }
    assert unknown == set()


def test_what_is_said_to_stand_in_a_file_stands_there() -> None:
    names, said = defined(), re.findall(r"`([A-Za-z_.]+)`\s+(?:\(|in\s+)`([^`\s]+\.py)`", WALK.read_text("utf-8"))
    assert len(said) > 25
    assert {(word, file) for word, file in said if not holds(names[Path(file)], word)} == set()


def test_settings_and_files_that_any_page_names_exist() -> None:
    settings = {setting.key for setting in schema_of(Config).settings.values()}
    tables = {key.partition(".")[0] for key in settings if "." in key}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    words = {(page.name, word) for page in pages for word in quoted(page)}
    named = {
        each for each in words if re.fullmatch(r"[a-z]+\.[a-z_]+", each[1]) and each[1].partition(".")[0] in tables
    }
    files = {each for each in words if re.fullmatch(r"(?:[a-z_-]+/)+[A-Za-z_.-]+\.[a-z]+", each[1])}
    assert len(named) > 20 and len(files) > 30
    assert {each for each in named if each[1] not in settings} == set()
    assert {each for each in files if not (ROOT / each[1]).exists()} == set()


def test_commands_that_any_page_shows_exist() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = {
        (page.name, command)
        for page in pages
        for command in re.findall(r"(?:^|[`;&$] ?)riverrank ([a-z]+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert len(shown) > 5
    assert {each for each in shown if each[1] not in COMMANDS} == set()


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


def test_every_promise_names_tests_that_are_there() -> None:
    page = (ROOT / "docs" / "promises.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "promise |" not in line]
    assert len(rows) > 15
    for row in rows:
        held_by = re.findall(r"`(tests/[^`]+\.py)::(test_\w+)`", row)
        assert held_by, row
        for file, test in held_by:
            defined_there = {
                node.name
                for node in ast.parse((ROOT / file).read_text("utf-8")).body
                if isinstance(node, ast.FunctionDef)
            }
            assert test in defined_there, (file, test)
