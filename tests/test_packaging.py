"""What is built and shipped imports, holds its data, and keeps its layers and its pinned versions."""

import ast
import graphlib
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from riverrank.jobs.dev.bundle import PACKAGES, bundle
from riverrank.jobs.dev.packages import DEV_LOCK, LOCK, installed, needed, read
from riverrank.operators.flink.shipped import HANDED_OVER
from riverrank.operators.flink.signals import SignalsFunction
from riverrank.operators.settings import Behaviour

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("state", "operators", "jobs")  # each may import those before it
FLINK_FOLDERS = {"jobs/flink", "jobs/dev/benchmarks/flink", "operators/flink"}
WHERE = """
import json, sys
from importlib import resources
import riverrank.jobs.flink.jars, riverrank.operators.settings, riverrank.state.records as records
lock = resources.files("riverrank.jobs.flink").joinpath("jars.lock").read_text("utf-8")
print(json.dumps({
    "files": [sys.modules[name].__file__ for name in ("riverrank.state", "riverrank.operators", "riverrank.jobs")],
    "locked": list(riverrank.jobs.flink.jars.locked("kafka-connector")),
}))
"""


def imported_from(path: Path, elsewhere: Path) -> list[str]:
    """Import the packages from there, in a folder that is not the checkout; the files of the three packages."""
    code = f"import sys; sys.path.insert(0, {str(path)!r})\n{WHERE}"
    # -I: neither the working directory nor PYTHONPATH helps.
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=elsewhere, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = ast.literal_eval(done.stdout)
    assert found["locked"] == ["org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2"]
    return list(found["files"])


def test_zip_for_pyfs_imports_outside_the_checkout(tmp_path: Path) -> None:
    names = bundle(tmp_path / "riverrank.zip")
    files = imported_from(tmp_path / "riverrank.zip", tmp_path)
    zipped = tmp_path / "riverrank.zip" / "riverrank"
    assert files == [str(zipped / name / "__init__.py") for name in LAYERS]
    assert {f"riverrank/{name}/" for name in PACKAGES} < set(names)


def test_zip_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    bundle(tmp_path / "one.zip")
    bundle(tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes() != b""


def test_zip_holds_every_module(tmp_path: Path) -> None:
    bundle(tmp_path / "riverrank.zip")
    modules = {f"riverrank/{path.relative_to(ROOT)}" for path in sources()}
    assert modules <= set(zipfile.ZipFile(tmp_path / "riverrank.zip").namelist())


def taskmanager(
    code: Path, script: str, first: str = "riverrank.operators.flink.arrivals"
) -> subprocess.CompletedProcess[str]:
    """Run a script as a TaskManager's interpreter does that had its first task, which asked for the module `first`,
    from the folder `code`, now gone.
    """
    beginning = f"""
import importlib, pickle, shutil, sys
sys.path.insert(0, {str(code)!r})
sys.modules["pemja"] = sys
import {first} as first
assert first.__file__.startswith({str(code)!r}), first.__file__
shutil.rmtree({str(code)!r})
"""
    command = [sys.executable, "-I", "-c", beginning + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder such as Flink unpacks the zip of `-pyfs` in."""
    bundle(tmp_path / "riverrank.zip")
    zipfile.ZipFile(tmp_path / "riverrank.zip").extractall(tmp_path / "code")
    return tmp_path / "code"


def test_a_taskmanager_keeps_all_modules_when_the_folder_of_its_first_job_is_gone(code: Path) -> None:
    """Flink takes away the folder when the job's last task there ends; the next job finds its packages imported."""
    topology = ROOT / "jobs" / "flink" / "topology.py"
    imported = {name for name in imports_of(topology) if is_module(name)}
    handed_over = {name for name in imported if not name.startswith("riverrank.jobs.flink")}
    assert {"riverrank.operators.flink.signals", "riverrank.jobs.local.reading"} <= handed_over
    done = taskmanager(code, f"for name in {sorted(handed_over)}: importlib.import_module(name)")
    assert done.returncode == 0, done.stderr


def test_a_taskmanager_whose_first_job_asked_for_a_few_modules_runs_the_job_all_the_same(code: Path) -> None:
    function = pickle.dumps(SignalsFunction(Behaviour()))
    script = f"print(pickle.loads({function!r}).behaviour, sys.modules['riverrank.state.records'].__file__)"
    done = taskmanager(code, script, first="riverrank.state.records")
    assert done.returncode == 0 and str(code) not in done.stdout, done.stderr


@pytest.mark.parametrize("changed", [False, True])
def test_a_taskmanager_with_other_code_refuses_the_job(code: Path, changed: bool) -> None:
    if changed:
        with (code / "riverrank" / "state" / "uids.py").open("a") as module:
            module.write("# another version\n")
    function = pickle.dumps(SignalsFunction(Behaviour()))
    done = taskmanager(code, f"print(pickle.loads({function!r}).behaviour)")
    assert (done.returncode != 0) is changed, done.stderr
    assert ("start the TaskManagers anew" in done.stderr) is changed


def test_sdist_makes_a_wheel_that_imports(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)

    # Without a further argument `build` makes the wheel out of the sdist, so both are tried.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", source]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (tmp_path / "dist").glob("riverrank-*.whl")
    assert list((tmp_path / "dist").glob("riverrank-*.tar.gz"))

    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target"]
    subprocess.run([*command, tmp_path / "installed", wheel], check=True, timeout=200)
    files = imported_from(tmp_path / "installed", tmp_path)
    assert files == [str(tmp_path / "installed" / "riverrank" / name / "__init__.py") for name in LAYERS]


def test_editable_install_imports_the_checkout(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", WHERE], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert ast.literal_eval(done.stdout)["files"] == [str(ROOT / name / "__init__.py") for name in LAYERS]


def test_console_script_is_installed(tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "riverrank"
    done = subprocess.run([script, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "replay" in done.stdout


def sources(layer: str = "") -> list[Path]:
    """All modules of a layer, of every layer for "", in any depth."""
    found = sorted(path for name in LAYERS if layer in ("", name) for path in (ROOT / name).rglob("*.py"))
    assert len(found) > 8
    return found


def module_of(path: Path) -> str:
    """The full name of the module in a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("riverrank", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def is_module(name: str) -> bool:
    """Whether a name of this project is a module, and not something in one."""
    path = ROOT.joinpath(*name.split(".")[1:])
    return name.startswith("riverrank.") and (path.is_dir() or path.with_suffix(".py").is_file())


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports, by their full names, wherever in it the import stands."""
    package = ["riverrank", *path.relative_to(ROOT).parent.parts]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*parent, node.module] if node.module else parent)
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def folder_of(module: str, known: set[str]) -> str:
    """The folder, as a dotted name below riverrank, that holds a module; a top-level module is a folder by itself."""
    while module and module not in known:
        module = module.rpartition(".")[0]
    parts = module.split(".")[1:]
    return ".".join(parts[:2])


def folder_imports() -> dict[str, set[str]]:
    """By folder, the other folders that its modules import."""
    known = {module_of(path) for path in sources()}
    edges: dict[str, set[str]] = {}
    for path in sources():
        here = folder_of(module_of(path), known)
        names = {folder_of(name, known) for name in imports_of(path) if name.startswith("riverrank.")}
        edges.setdefault(here, set()).update(names - {here, ""})
    return edges


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_import_only_downwards(layer: str) -> None:
    above = LAYERS[LAYERS.index(layer) + 1 :]
    imports = {module_of(path): imports_of(path) for path in sources(layer)}
    assert any(name.startswith("riverrank.") for names in imports.values() for name in names)
    upwards = [
        f"{file} imports {name}"
        for file, names in imports.items()
        for name in sorted(names)
        if name.split(".")[0] in LAYERS or (name.startswith("riverrank.") and name.split(".")[1] in above)
    ]
    assert upwards == []


def test_folders_import_one_way() -> None:
    edges = folder_imports()
    assert {"operators.slate", "jobs.cli", "jobs.flink"} <= edges.keys()
    assert "operators.candidates" in edges["operators.slate"]
    order = list(graphlib.TopologicalSorter(edges).static_order())  # raises CycleError, which names the circle
    assert order.index("operators.settings") < order.index("operators.slate") < order.index("jobs.cli")


def test_modules_import_one_way() -> None:
    known = {module_of(path) for path in sources()}
    edges = {
        module_of(path): {name for name in imports_of(path) if name in known} - {module_of(path)} for path in sources()
    }
    assert sum(map(len, edges.values())) > 100
    packages = {name for name in known if any(other.startswith(f"{name}.") for other in known)}
    graph = {name: targets - packages for name, targets in edges.items() if name not in packages}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(graph)


def test_each_folder_says_what_lives_there_and_holds_at_most_a_dozen_modules() -> None:
    """Or a comment `# many: ` that says why not."""
    folders = {path.parent for path in sources()}
    assert len(folders) > 10
    for folder in folders:
        text = (folder / "__init__.py").read_text("utf-8")
        assert ast.get_docstring(ast.parse(text)), f"{folder.relative_to(ROOT)}/__init__.py says nothing"
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= 12 or "# many: " in text, f"{folder.relative_to(ROOT)} holds {len(modules)} modules"


def test_modules_and_functions_fit_on_a_few_screens() -> None:
    """At most 400 lines a module and 50 a function, or a comment `# long: ` that says why not."""
    too_long, functions = [], 0
    for path in sources():
        text = path.read_text("utf-8")
        lines = text.splitlines()
        if len(lines) > 400 and "# long: " not in text:
            too_long.append(f"{path.relative_to(ROOT)}: {len(lines)} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                functions += 1
                body = lines[node.lineno - 1 : node.end_lineno]
                if len(body) > 50 and not any("# long: " in line for line in body):
                    too_long.append(f"{path.relative_to(ROOT)}: {node.name} has {len(body)} lines")
    assert functions > 300
    assert too_long == []


def test_modules_of_tests_fit_on_a_few_screens() -> None:
    """At most 400 lines each, without exception."""
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in (ROOT / "tests").rglob("*.py")}
    assert len(lengths) > 50
    assert {str(path.relative_to(ROOT)): lines for path, lines in lengths.items() if lines > 400} == {}


def test_flink_is_imported_in_the_folders_for_it() -> None:
    importing = {
        str(path.relative_to(ROOT))
        for path in sources()
        if any(name.split(".")[0] in ("pyflink", "py4j") for name in imports_of(path))
    }
    assert {str(Path(name).parent) for name in importing} == FLINK_FOLDERS


def test_session_calls_no_kernel() -> None:
    """It shares a thread with SIGNALS, where a kernel of its own would wait for ever (operators.flink.native). To lift
    this, start a new chain after SESSION in jobs.flink.topology, and let it call `make_ready`."""
    by_name = {module_of(path): path for path in sources()}
    seen, pending = set(), ["riverrank.operators.session.session", "riverrank.operators.flink.parse"]
    while pending:
        name = pending.pop()
        if name in by_name and name not in seen:
            seen.add(name)
            pending += imports_of(by_name[name])
    assert len(seen) > 5
    assert [name for name in sorted(seen) if "njit" in by_name[name].read_text("utf-8")] == []


def test_every_requirement_is_pinned_by_hash_and_the_pin_is_what_runs() -> None:
    pins = [*read(LOCK), *read(DEV_LOCK)]
    assert sum(text.count("==") for text in (LOCK.read_text("utf-8"), DEV_LOCK.read_text("utf-8"))) == len(pins) > 100
    assert [str(pin) for pin in pins if not pin.hashes] == []
    locked = {canonicalize_name(pin.name): pin.version for pin in pins}
    assert {name: pin.version for name, pin in installed().items()} == locked, (
        "what runs is not what is locked: make setup"
    )
    wanted = [Requirement(text) for text in metadata.requires("riverrank") or []]
    assert len(wanted) > 10
    disagree = [str(each) for each in wanted if locked[canonicalize_name(each.name)] not in each.specifier]
    assert disagree == []


def test_the_lock_of_the_job_names_what_the_job_needs_and_no_more() -> None:
    assert {canonicalize_name(pin.name) for pin in read(LOCK)} == needed()


def test_files_name_no_machine_path_and_no_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    texts = [path for name in listed.stdout.split("\0") if (path := ROOT / name).suffix not in (".gz", ".bin", "")]
    assert len(texts) > 10
    forbidden = re.compile("|".join(["/" + "root/", "/" + "work/main", "repo[.]" + "maven", "pypi[.]" + "org"]))
    named = {
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in texts
        if path.is_file() and (found := forbidden.search(path.read_text("utf-8", "replace")))
    }
    assert named == set()


@pytest.mark.skipif(os.name != "posix", reason="make is for Linux")
def test_make_help_lists_every_target() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    targets = re.findall(r"^  make ([\w-]+)", shown, re.MULTILINE)
    tests = [
        "test",
        "prometheus",
        "chromium",
        "open-bandit",
        "faults",
        "soak",
        "docs-check",
        "bench",
        "bench-quick",
        "lint",
        "sbom",
        "audit",
    ]
    assert targets == ["help", "setup", "demo", *tests, "zip", "clean"]


def test_all_that_jobs_hand_over_to_operators_is_in_the_digest_of_the_code() -> None:
    imports = {module_of(path): imports_of(path) for path in sources("jobs")}
    handed, pending = set[str](), ["riverrank.jobs.local.reading"]
    while pending:
        module = pending.pop()
        handed.add(module)
        pending += [name for name in imports[module] if name in imports and name not in handed]
    assert len(handed) > 1
    assert handed - {"riverrank.jobs", "riverrank.jobs.config", "riverrank.jobs.local"} == set(HANDED_OVER)


def test_no_two_test_modules_name_topics_alike() -> None:
    """One broker serves a whole run, and a topic that is there already can't be made."""
    streams = "events|items|slates|dead|dead-letters|exports|previews|receipts"
    named: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: list[object] = []
            if isinstance(node, ast.Constant):
                names = re.findall(rf"^([a-z0-9][a-z0-9-]*)-(?:{streams})$", str(node.value))
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "topics":
                names = [each.value for each in node.args[2:3] if isinstance(each, ast.Constant)]
            for name in names:
                named.setdefault(str(name), set()).add(path.name)
    assert len(named) > 10
    assert {name: found for name, found in named.items() if len(found) > 1} == {}
