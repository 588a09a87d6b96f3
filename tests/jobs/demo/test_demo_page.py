"""What the demo promises on a terminal: its page is there, and it stays open after the summary until Ctrl-C."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from demo_stand_in import STAND_IN

SHOP = "ShopSettings(customers=20, items=200)"


def acted(address: str, user: str) -> str:
    """The page after a form that asks for a slate of `user`."""
    headers = {"origin": address, "sec-fetch-site": "same-origin"}
    form = urllib.request.Request(f"{address}/customer?id={user}", b"type=request", headers)
    with urllib.request.urlopen(form, timeout=20) as answer:
        return str(answer.read().decode())


class Terminal:
    """What a command shows on a terminal, as it comes."""

    def __init__(self, command: list[str]) -> None:
        self.text = ""
        master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self._reading = threading.Thread(target=self._read, args=(master,), daemon=True)
        self._reading.start()

    def wait_for(self, words: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert self.process.poll() is None and time.monotonic() < deadline, self.text
            time.sleep(0.1)

    def end(self, with_signal: Callable[[int, int], None] = os.kill) -> tuple[int, str]:
        """Ctrl-C: the exit code, and all of the standard output."""
        with_signal(self.process.pid, signal.SIGINT)
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out.decode()

    def _read(self, master: int) -> None:
        try:
            while piece := os.read(master, 65_536):
                self.text += piece.decode("utf-8", "replace")
        except OSError:
            return  # the other end is closed
        finally:
            os.close(master)


def test_on_a_terminal_the_shop_stays_open_with_its_page_until_ctrl_c(tmp_path: Path) -> None:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    code = (
        "from riverrank.jobs.demo.demo import demo\nfrom riverrank.jobs.evaluation.shop import ShopSettings\n"
        f"demo(3, settings={SHOP}, job_command={[sys.executable, str(script)]!r})"
    )
    terminal = Terminal([sys.executable, "-c", code])
    try:
        terminal.wait_for("stays open", 120)
        found = re.search(r"stays open: (http://127\.0\.0\.1:\d+)", terminal.text)
        assert found
        with urllib.request.urlopen(f"{found[1]}/user?id=u-0000", timeout=10) as answer:
            page = answer.read().decode()
        assert "Slate" in page and re.search(r"i-00\d{3}", page)
        assert "After your request" in acted(found[1], "a-visitor")
        time.sleep(2)  # the shop has seen the slate of one who is no customer of its own
        assert "After your request" in acted(found[1], "another")
        code_of_end, out = terminal.end()
    finally:
        terminal.process.kill()
    assert code_of_end == 0
    assert out.count("click-through riverrank") == 1
