"""The code of `docs/integrate.md` that reads slates is compiled and run as it stands, on a real Redis.

Part of `make docs-check`. Client libraries come from the registry of each language; where its tools are not there, the
test skips.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from riverrank.jobs.dev import services

PAGE = Path(__file__).resolve().parent.parent / "docs" / "integrate.md"
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>shop</groupId><artifactId>page</artifactId><version>1</version><dependencies><dependency>
<groupId>redis.clients</groupId><artifactId>jedis</artifactId><version>7.1.0</version>
</dependency></dependencies></project>
"""
# What calls the code of the page: a user and a number as arguments, a list as JSON on standard output.
CALL_PYTHON = """

if __name__ == "__main__":
    import sys
    print(json.dumps(items_for(sys.argv[1], int(sys.argv[2]))))
"""
CALL_NODE = """
import { itemsFor } from "./slates.mjs";
await new Promise((done) => setTimeout(done, 300)); // a page is not asked for before the server is up
console.log(JSON.stringify(await itemsFor(process.argv[2], Number(process.argv[3]))));
process.exit(0);
"""
CALL_JAVA = """
class Main {
    public static void main(String[] given) {
        System.out.println(new org.json.JSONArray(new Slates().itemsFor(given[0], Integer.parseInt(given[1]))));
    }
}
"""
CALL_GO = """package main

import (
	"context"
	"encoding/json"
	"os"
	"strconv"

	"shop/slates"
)

func main() {
	n, _ := strconv.Atoi(os.Args[2])
	items := append([]string{}, slates.ItemsFor(context.Background(), os.Args[1], n)...)
	json.NewEncoder(os.Stdout).Encode(items)
}
"""
Command = list[str]


def python(folder: Path, code: str) -> Command:
    (folder / "page.py").write_text(code + CALL_PYTHON)
    return [sys.executable, "page.py"]


def node(folder: Path, code: str) -> Command:
    needs("node", "npm")
    (folder / "slates.mjs").write_text(code)
    (folder / "main.mjs").write_text(CALL_NODE)
    done(folder, "npm", "install", "--no-audit", "--no-fund", "redis@5")
    return ["node", "main.mjs"]


def java(folder: Path, code: str) -> Command:
    needs("java", "javac", "mvn")
    (folder / "pom.xml").write_text(POM)
    (folder / "Slates.java").write_text(code)
    (folder / "Main.java").write_text(CALL_JAVA)
    done(folder, "mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies", "-DoutputDirectory=lib")
    done(folder, "javac", "-cp", "lib/*", "Slates.java", "Main.java")
    return ["java", "-cp", f"lib/*{os.pathsep}.", "Main"]


def go(folder: Path, code: str) -> Command:
    needs("go")
    (folder / "slates").mkdir()
    (folder / "slates" / "slates.go").write_text(code)
    (folder / "main.go").write_text(CALL_GO)
    done(folder, "go", "mod", "init", "shop")
    done(folder, "go", "mod", "tidy")
    done(folder, "go", "build", "-o", "page", ".")
    return [str(folder / "page")]


def needs(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not there")


def done(folder: Path, *command: str) -> str:
    """Standard output of a command that has to succeed."""
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stdout[-1000:]}{ended.stderr[-2000:]}"
    return ended.stdout


def slate(*items: str) -> str:
    return json.dumps({"slate_id": "u:1", "items": [{"item_id": item, "rank": 1} for item in items]})


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("language", "made"), [("python", python), ("js", node), ("java", java), ("go", go)])
def test_the_code_on_the_page_reads_slates_and_never_waits_for_redis(
    language: str, made: Callable[[Path, str], Command], tmp_path: Path, valkey: services.Valkey
) -> None:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    port = valkey.url.rpartition(":")[2].partition("/")[0]
    command = made(tmp_path, code.replace("localhost", "127.0.0.1").replace("6379", port))

    def shown(user: str, n: int) -> list[str]:
        return list(json.loads(done(tmp_path, *command, user, str(n))))

    assert shown("u-17", 10) == []  # nothing is cached yet
    with redis.Redis.from_url(valkey.url) as client:
        client.hset("rr:slate:u-17", mapping={"version": 1, "slate": slate("a", "gone", "ü", "c")})
        client.hset("rr:popular", mapping={"version": 1, "slate": slate("p", "q")})
        client.sadd("rr:gone", "gone", "another")
    assert shown("u-17", 10) == ["a", "ü", "c"] and shown("u-17", 2) == ["a", "ü"]
    assert shown("nobody", 10) == ["p", "q"]

    def seconds(expected: list[str]) -> float:
        began = time.monotonic()
        assert shown("u-17", 10) == expected
        return time.monotonic() - began

    usual = seconds(["a", "ü", "c"])  # the start of the program is in it
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        assert seconds([]) < usual + 1.5, "a page waited for Redis"
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    valkey.stop()
    assert seconds([]) < usual + 1.5, "a page waited for Redis"
