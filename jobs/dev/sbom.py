"""The bill of materials: every Python package and jar that the locks name, in CycloneDX 1.6, checked by its schema.

    python -m riverrank.jobs.dev.sbom sbom.json

Licences are what the packages installed here, and the jars in the cache, say of themselves. What only tests,
measurements and the demo need, as the jars of a Kafka broker, has the scope `excluded`; what only the image has, as the
plugin for S3, `optional`.
"""

import importlib.metadata
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.utils import canonicalize_name
from riverrank.jobs.errors import Failure
from riverrank.jobs.flink import jars

from .packages import DEV_LOCK, LOCK, OURS, Pin, read

LONGEST_NAME = 100  # characters, of a licence; what is longer is its text
RUNS = {LOCK: ComponentScope.REQUIRED, DEV_LOCK: ComponentScope.EXCLUDED}
JARS = {  # of a jar that is in two of them, the first counts
    "kafka-connector": ComponentScope.REQUIRED,
    "kafka-tokens": ComponentScope.REQUIRED,
    "kafka-broker": ComponentScope.EXCLUDED,
    "s3-plugin": ComponentScope.OPTIONAL,
    "operator-api": ComponentScope.EXCLUDED,
}


def bill() -> str:
    """The bill, as JSON. Raises Failure where it is none by its schema, and JarsUnavailableError without the jars."""
    bom, ours = Bom(), importlib.metadata.metadata(OURS)
    whole = Component(
        name=OURS, version=ours["Version"], type=ComponentType.APPLICATION, bom_ref=OURS, licenses=_licences(OURS)
    )
    bom.metadata.component = whole
    for component in (*_packages(), *_jars()):
        bom.components.add(component)
    bom.register_dependency(whole, bom.components)
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise Failure(f"the bill of materials is none by its schema: {str(error).splitlines()[0]}")
    return text


def _packages() -> Iterator[Component]:
    for lock, scope in RUNS.items():
        for pin in read(lock):
            yield _package(pin, scope)


def _package(pin: Pin, scope: ComponentScope) -> Component:
    """The hashes are of all files of the version, of which pip takes the one that fits: so none is the component's."""
    purl = PackageURL("pypi", name=canonicalize_name(pin.name), version=pin.version)
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION, url=XsUri(purl.to_string()), hashes=map(_sha256, pin.hashes)
    )
    return _component(pin.name, pin.version, purl, scope, external_references=[files], licenses=_licences(pin.name))


def _jars() -> Iterator[Component]:
    named = set[str]()
    for name, scope in JARS.items():
        for (coordinate, digest), path in zip(jars.locked(name).items(), jars.jars(name), strict=True):
            if coordinate in named:
                continue
            named.add(coordinate)
            group, artifact, version = coordinate.split(":")
            purl = PackageURL("maven", group, artifact, version)
            licences = [_licence(each) for each in _of_jar(path, group, artifact)]
            yield _component(artifact, version, purl, scope, group=group, hashes=[_sha256(digest)], licenses=licences)


def _component(name: str, version: str, purl: PackageURL, scope: ComponentScope, **more: object) -> Component:
    return Component(name=name, version=version, purl=purl, bom_ref=purl.to_string(), scope=scope, **more)  # type: ignore[arg-type]


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _licences(name: str) -> list[License]:
    """What an installed package says of its licence: an SPDX expression, else a short name, else its classifiers."""
    said = importlib.metadata.metadata(name)
    names = [next((said[key] for key in ("License-Expression", "License") if key in said), "")]
    if not 0 < len(names[0].strip()) <= LONGEST_NAME:
        classified = (each.split(" :: ") for each in said.get_all("Classifier") or ())
        names = [each[-1] for each in classified if each[0] == "License" and each[1:] != ["OSI Approved"]]
    return [_licence(each) for each in names]


def _licence(name: str) -> License:
    return LicenseFactory().make_from_string(" ".join(name.split()))


def _of_jar(path: Path, group: str, artifact: str) -> list[str]:
    """The names of the licences that a jar's own pom, else its manifest, else its licence says; none if none does."""
    with zipfile.ZipFile(path) as jar:
        held = {*jar.namelist()}

        def text_of(*names: str) -> str:
            found = next((name for name in names if name in held), None)
            return jar.read(found).decode("utf-8", "replace") if found else ""

        if pom := text_of(f"META-INF/maven/{group}/{artifact}/pom.xml"):
            named = ElementTree.fromstring(pom).findall("{*}licenses/{*}license/{*}name")
            if names := [each.text for each in named if each.text]:
                return names
        manifest = text_of("META-INF/MANIFEST.MF").replace("\r\n ", "").replace("\n ", "")  # it wraps its lines
        if said := re.search(r"^Bundle-License: \"?([^;\"\r\n]+)", manifest, re.M):
            return [said[1].strip()]
        text = " ".join(text_of("META-INF/LICENSE", "META-INF/LICENSE.txt", "LICENSE")[:300].split())
        return ["Apache-2.0"] if text.startswith("Apache License Version 2.0") else []


def main(arguments: list[str]) -> int:
    """The command of the module docstring."""
    if len(arguments) != 1:
        print("usage: python -m riverrank.jobs.dev.sbom FILE.json", file=sys.stderr)
        return 2
    Path(arguments[0]).write_text(bill(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
