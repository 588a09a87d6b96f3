"""The clients of `docs/serve.md`, each built as it stands there, and a way to call them with ids of any bytes.

Built by the tools of their languages alone, without a registry; where these are not there, the test skips.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

PAGE = Path(__file__).resolve().parents[4] / "docs" / "serve.md"
SECONDS = 600  # for a build on a busy machine
TRIES = 20  # of a read that shows nothing: what starts on a busy machine is late at first

# What calls the code of a page: its arguments, and the items on standard output, one a line, in hexadecimal, as no
# argument can hold a NUL. `items TRIES N USER` asks again while there is nothing; `click N EVENT USER ITEM`.
CALL_PYTHON = """

def main(what, *given):
    if what == "items":
        tries, n, user = int(given[0]), int(given[1]), bytes.fromhex(given[2]).decode()
        found = next(filter(None, (items_for(user, n) for _ in range(tries))), [])
    else:
        found = items_after_click(*(bytes.fromhex(each).decode() for each in given[1:]), n=int(given[0]))
    for item in found:
        print(item.encode().hex())


if __name__ == "__main__":
    import sys
    main(*sys.argv[1:])
"""
CALL_NODE = """
import { itemsAfterClick, itemsFor } from "./slates.mjs";
const [what, ...given] = process.argv.slice(2);
const text = (hex) => Buffer.from(hex, "hex").toString();
let found = [];
if (what === "items") {
  for (let k = 0; k < Number(given[0]) && !found.length; k++) found = await itemsFor(text(given[2]), Number(given[1]));
} else {
  found = await itemsAfterClick(...given.slice(1).map(text), Number(given[0]));
}
for (const item of found) console.log(Buffer.from(item).toString("hex"));
"""
CALL_JAVA = """
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.List;

class Main {
    static String text(String hex) {
        return new String(HexFormat.of().parseHex(hex), StandardCharsets.UTF_8);
    }

    public static void main(String[] given) throws Exception {
        var slates = new Slates();
        List<String> found = List.of();
        if (given[0].equals("items")) {
            for (int k = 0; k < Integer.parseInt(given[1]) && found.isEmpty(); k++) {
                found = slates.itemsFor(text(given[3]), Integer.parseInt(given[2]));
            }
        } else {
            found = slates.itemsAfterClick(text(given[2]), text(given[3]), text(given[4]), Integer.parseInt(given[1]));
        }
        for (var item : found) {
            System.out.println(HexFormat.of().formatHex(item.getBytes(StandardCharsets.UTF_8)));
        }
    }
}
"""
CALL_GO = """package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"

	"shop/slates"
)

func text(given string) string {
	held, err := hex.DecodeString(given)
	if err != nil {
		panic(err)
	}
	return string(held)
}

func number(given string) int {
	n, err := strconv.Atoi(given)
	if err != nil {
		panic(err)
	}
	return n
}

func main() {
	given, found := os.Args[1:], []string{}
	if given[0] == "items" {
		for k := 0; k < number(given[1]) && len(found) == 0; k++ {
			found = slates.ItemsFor(context.Background(), text(given[3]), number(given[2]))
		}
	} else {
		items, err := slates.ItemsAfterClick(
			context.Background(), text(given[2]), text(given[3]), text(given[4]), number(given[1]))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		found = items
	}
	for _, item := range found {
		fmt.Println(hex.EncodeToString([]byte(item)))
	}
}
"""


class NotTaken(Exception):
    """The client said that its click was not taken: what it wrote of it."""


class Client(NamedTuple):
    """A program that the page's code is a part of."""

    language: str
    folder: Path
    command: Sequence[str]

    def items_for(self, user: str, n: int = 10, tries: int = TRIES) -> list[str]:
        """What it shows a user; asked again, up to so many times, while it shows nothing."""
        done = self._run("items", str(tries), str(n), _hex(user))
        assert done.returncode == 0, f"{self.language}: {done.stderr}"
        return _items(done.stdout)

    def items_after_click(self, event_id: str, user: str, item: str, n: int = 10) -> list[str]:
        """What it shows after a click. Raises NotTaken."""
        done = self._run("click", str(n), _hex(event_id), _hex(user), _hex(item))
        if done.returncode:
            raise NotTaken(done.stderr)
        return _items(done.stdout)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self.command, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=_environment(), capture_output=True, text=True, timeout=SECONDS, check=False
        )


def python(folder: Path, code: str) -> Sequence[str]:
    (folder / "page.py").write_text(code + CALL_PYTHON, "utf-8")
    return (sys.executable, "-I", "page.py")


def node(folder: Path, code: str) -> Sequence[str]:
    needs("node")
    (folder / "slates.mjs").write_text(code, "utf-8")
    (folder / "main.mjs").write_text(CALL_NODE, "utf-8")
    return ("node", "main.mjs")


def java(folder: Path, code: str) -> Sequence[str]:
    needs("java", "javac")
    (folder / "Slates.java").write_text(code, "utf-8")
    (folder / "Main.java").write_text(CALL_JAVA, "utf-8")
    build(folder, ("javac", "-encoding", "UTF-8", "--release", "17", "Slates.java", "Main.java"))
    return ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "Main")


def go(folder: Path, code: str) -> Sequence[str]:
    needs("go")
    (folder / "slates").mkdir()
    (folder / "slates" / "slates.go").write_text(code, "utf-8")
    (folder / "main.go").write_text(CALL_GO, "utf-8")
    (folder / "go.mod").write_text("module shop\n\ngo 1.21\n", "utf-8")
    build(folder, ("go", "build", "-o", "page", "."))
    return (str(folder / "page"),)


BUILDERS: Mapping[str, Callable[[Path, str], Sequence[str]]] = {"python": python, "js": node, "java": java, "go": go}


def built(language: str, folder: Path, url: str) -> Client:
    """The client of that language, for the service at `url`, in a folder of its own."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1 and blocks[0].count("http://localhost:8000") == 1, f"{language}: {len(blocks)} on the page"
    return Client(language, folder, BUILDERS[language](folder, blocks[0].replace("http://localhost:8000", url)))


def needs(*tools: str) -> None:
    """Skip the test where one of them is not there."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not there")


def build(folder: Path, command: Sequence[str]) -> None:
    """Run what has to succeed."""
    done = subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-1000:]}{done.stderr[-2000:]}"


def _environment() -> dict[str, str]:
    """That of the tests, without proxies, which would be asked for 127.0.0.1 too; for Go, without any registry."""
    own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**own, "GOPROXY": "off", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}


def _hex(text: str) -> str:
    return text.encode().hex()


def _items(lines: str) -> list[str]:
    return [bytes.fromhex(line).decode() for line in lines.split()]
