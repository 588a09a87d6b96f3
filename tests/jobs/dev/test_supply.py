"""What is installed is what the locks name, by hash; the bill of materials names it all; the audit says what became of
it. The index of the audit is one on this machine, since the real one has no finding that stays.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name
from riverrank.jobs.dev import audit, sbom
from riverrank.jobs.dev.packages import CHECKOUT, DEV_LOCK, LOCK, Index, IndexAwayError, Pin, read, written
from riverrank.jobs.errors import Failure
from riverrank.jobs.flink import jars

OTHER = "0" * 64  # no file's hash


@pytest.fixture(scope="module")
def small() -> dict[str, Pin]:
    """Two small packages of the locks, by name; skipped where the index that pip goes to is not reached."""
    found = {pin.name: pin for pin in read(LOCK) if pin.name in ("six", "wheel")}
    try:
        files = Index().files("six")
    except IndexAwayError as error:
        pytest.skip(f"needs the package index: {error}")
    assert set(found["six"].hashes) == {file.sha256 for file in files if file.version == found["six"].version}
    return found


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the pip that it came with."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([getattr(sys, "_base_executable", sys.executable), "-m", "venv", folder], check=True, timeout=120)
    return folder / "bin" / "python"


@pytest.mark.parametrize(("wrong", "there"), [("six", ["wheel"]), ("wheel", []), ("", ["six", "wheel"])])
def test_a_file_of_another_hash_stops_the_installation(
    wrong: str, there: list[str], small: dict[str, Pin], old_python: Path, tmp_path: Path
) -> None:
    """In the tools that come first, and in all that follows."""
    changed = [pin._replace(hashes=(OTHER,)) if name == wrong else pin for name, pin in sorted(small.items())]
    (tmp_path / "requirements.lock").write_text(written(changed), "utf-8")
    subprocess.run([old_python, "-m", "pip", "uninstall", "-qy", "six", "wheel"], check=True, timeout=120)
    command = [CHECKOUT / ".ci" / "install-locked", old_python, "requirements.lock"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode == 0) is not wrong, done.stderr
    assert ("DO NOT MATCH THE HASHES" in done.stderr) is bool(wrong)
    listed = subprocess.check_output([old_python, "-m", "pip", "list", "--format", "json"], text=True, timeout=120)
    assert sorted({each["name"] for each in json.loads(listed)} & {*small}) == there


def test_the_bill_of_materials_names_all_packages_and_jars_of_the_locks_with_their_hashes() -> None:
    document = json.loads(sbom.bill())
    of = {each["purl"]: each for each in document["components"]}
    expected, hashes = {}, {}
    for lock, scope in ((LOCK, "required"), (DEV_LOCK, "excluded")):
        for pin in read(lock):
            purl = f"pkg:pypi/{canonicalize_name(pin.name)}@{pin.version}"
            expected[purl], hashes[purl] = scope, {*pin.hashes}
    jars_by_name = {"kafka-connector": "required", "kafka-tokens": "required", "s3-plugin": "optional"}
    needed_last = sorted(jars.ROOTS, key=lambda name: jars_by_name.get(name) == "required")
    for name in needed_last:  # of a jar that is in two sets, which is needed says the scope
        scope = jars_by_name.get(name, "excluded")
        for coordinate, digest in jars.locked(name).items():
            group, artifact, version = coordinate.split(":")
            purl = f"pkg:maven/{group}/{artifact}@{version}"
            expected[purl], hashes[purl] = scope, {digest}
    assert {purl: each["scope"] for purl, each in of.items()} == expected and len(expected) > 150
    told = {
        purl: {h["content"] for h in each.get("hashes") or each["externalReferences"][0]["hashes"]}
        for purl, each in of.items()
    }
    assert told == hashes
    assert {*document["dependencies"][-1]["dependsOn"]} == expected.keys()


@pytest.mark.parametrize(
    ("purl", "licence"),
    [
        ("pkg:pypi/numpy@", {"name": "BSD License"}),  # by its classifier, as its own text is long
        ("pkg:pypi/certifi@", {"id": "MPL-2.0"}),
        ("pkg:maven/org.apache.kafka/kafka-clients@", {"id": "Apache-2.0"}),
        ("pkg:maven/net.sf.jopt-simple/jopt-simple@", {"name": "The MIT License"}),
        ("pkg:maven/org.apache.logging.log4j/log4j-api@", {"id": "Apache-2.0"}),
    ],
)
def test_a_licence_is_what_the_package_or_the_jar_says_of_itself(purl: str, licence: dict[str, str]) -> None:
    (found,) = (each for each in json.loads(sbom.bill())["components"] if each["purl"].startswith(purl))
    assert [{key: each["license"][key] for key in licence} for each in found["licenses"]] == [licence]


def test_a_bill_that_is_none_by_the_schema_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sbom, "read", lambda lock: [Pin("six", "1.17.0", ("no hash",))])
    with pytest.raises(Failure, match="none by its schema: 'no hash'"):
        sbom.bill()


FILES = {"a-1.0-py3-none-any.whl": "a" * 64, "a-1.0.tar.gz": "b" * 64, "a-2.0.tar.gz": "c" * 64, "a-1.0.exe": "d" * 64}
ADVISORY = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fixed_in": ["2.0"], "withdrawn": None}


@contextmanager
def serving(pages: dict[str, Any]) -> Iterator[Index]:
    """A package index on this machine, with these pages by their paths."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in pages else 404)
            self.end_headers()
            self.wfile.write(json.dumps(pages.get(self.path)).encode())

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Index(f"http://127.0.0.1:{server.server_port}/simple/")
        finally:
            server.shutdown()
            thread.join()


def pages(yanked: bool | str = False, advisories: tuple[dict[str, Any], ...] | None = ()) -> dict[str, Any]:
    files = [{"filename": name, "hashes": {"sha256": sha}, "yanked": yanked} for name, sha in FILES.items()]
    told = {} if advisories is None else {"vulnerabilities": [*advisories]}
    return {"/simple/a/": {"files": files}, "/pypi/a/1.0/json": told}


@pytest.mark.parametrize(
    ("told", "reasons", "code", "printed"),
    [
        (pages(), "", 0, ""),
        (pages("broken"), "", 1, "a==1.0 yanked: broken\n"),
        (pages(yanked=True), "", 1, "a==1.0 yanked: no reason given\n"),
        (pages("broken"), '"a==1.0 yanked" = "we use what works"', 0, ""),
        (pages(advisories=(ADVISORY,)), "", 1, "a==1.0 PYSEC-1: CVE-1; fixed in 2.0\n"),
        (pages(advisories=(ADVISORY | {"fixed_in": None},)), "", 1, "a==1.0 PYSEC-1: CVE-1; fixed in no version\n"),
        (pages(advisories=(ADVISORY | {"withdrawn": "2026-01-01"},)), "", 0, ""),
        (pages(advisories=(ADVISORY,)), '"a==1.0 PYSEC-1" = "not called"', 0, ""),
        (pages(advisories=None), "", 0, ""),
        ({}, "", 1, f"a==1.0 gone: 2 of 2 files, such as sha256:{'a' * 64}\n"),
    ],
)
def test_a_finding_is_a_line_and_a_failure_unless_there_is_a_reason(
    told: dict[str, Any],
    reasons: str,
    code: int,
    printed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ask(tmp_path, monkeypatch, reasons, "ab")
    with serving(told) as index:
        assert audit.main([], index, tmp_path / "accepted") == code
    out, err = capsys.readouterr()
    assert out == printed and f"audit: 1 packages, {printed.count(chr(10))} findings, {bool(reasons):d} accepted" in err
    assert ("this index tells no advisories" in err) is (not told.get("/pypi/a/1.0/json"))


def ask(folder: Path, monkeypatch: pytest.MonkeyPatch, reasons: str, hashes: str) -> None:
    """Let the audit be of the package `a` alone, with hashes of these letters."""
    for name, text in (("LOCK", written([Pin("a", "1.0", tuple(64 * each for each in hashes))])), ("DEV_LOCK", "")):
        (folder / name).write_text(text, "utf-8")
        monkeypatch.setattr(audit, name, folder / name)
    (folder / "accepted").write_text(reasons, "utf-8")


def test_one_file_that_is_gone_is_told_and_a_reason_without_a_finding_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(tmp_path, monkeypatch, '"b==1 yanked" = "long ago"', "ae")
    with serving(pages()) as index:
        assert audit.main([], index, tmp_path / "accepted") == 1
    out, err = capsys.readouterr()
    assert out == f"a==1.0 gone: 1 of 2 files, such as sha256:{'e' * 64}\n"
    assert "audit: b==1 yanked is no longer found: take it out of accepted" in err


def test_an_index_that_does_not_answer_is_told_and_fails_unless_that_is_to_be_skipped(
    free_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = Index(f"http://127.0.0.1:{free_port}/simple/")
    assert audit.main([], nobody) == 2 and audit.main(["--skip-offline"], nobody) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all("does not answer" in line and "nothing was looked at" in line for line in lines)


def test_the_reasons_that_are_given_are_of_packages_that_are_locked() -> None:
    accepted = audit.tomllib.loads(audit.ACCEPTED.read_text("utf-8"))
    pins = {str(pin) for lock in (LOCK, DEV_LOCK) for pin in read(lock)}
    assert {name.split(" ")[0] for name in accepted} <= pins and all(accepted.values())
