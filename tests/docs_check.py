"""Every command that README and the pages of docs/ show is run as it stands: `make docs-check`, some minutes.

A block marked `sh` is run a command at a time, as in a terminal, in a folder with the project in it. What a reader has
to put in is put in: `Terminal.places`. A run on topics goes on until its block ends, and is interrupted then.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from riverrank.jobs.dev import services
from riverrank.jobs.dev.benchmarks.streams import shop_stream, write
from riverrank.jobs.dev.cluster import FlinkCluster
from streams import send, wait_until

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ONLY_TARGETS = re.compile(r"make (?!setup|zip)[a-z-]+")  # run by themselves; here it is seen that they are there
ENDLESS = re.compile(r"riverrank run .*--kafka")
STAYS = re.compile(r"source |export ")  # holds for what follows
SECONDS = 600
pytestmark = pytest.mark.timeout(3600)

# Small files of the forms that the pages name, by the names that they have there.
FILMS = [("10", "Dunes", "adventure, sci_fi"), ("11", "Alone", "drama"), ("12", "Laugh", "comedy")]
RATINGS = "".join(
    "\t".join([f"{user}", film, f"{880_000_000 + 60 * (3 * user + k)}000000000", title, "915148800000000000", genres])
    + f"\t{3 + k}\t24\tM\twriter\n"
    for user in range(40)
    for k, (film, title, genres) in enumerate(FILMS[user % 2 :])
)
FILES = {
    "log.csv": "user_id,item_id,ts\na,i-1,1764000000\nb,i-2,1764000060\n",
    "log.csv.gz": "who,what,when,name\na,i-1,1764000000000,A tent\nb,i-2,1764000060000,A lamp\n",
    "MINDsmall_train/behaviors.tsv": "1\tU7\t11/11/2019 9:05:58 AM\tN1\tN3-1 N4-0\n",
    "MINDsmall_train/news.tsv": "N3\tnews\tworld\tA title\tAll of it\thttp://x\t[]\t[]\n",
    "events.csv": (
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1430000000001,71,view,9001,\n1430000000003,71,transaction,9001,55\n"
    ),
    "yoochoose-clicks.dat": "31,2014-05-01T08:00:00.125Z,7001,0\n",
    "yoochoose-buys.dat": "31,2014-05-01T08:02:00.000Z,7002,1099,1\n",
    "UserBehavior.csv": "5,801,40,pv,1512000000\n6,801,40,buy,1512000180\n",
    "ratings.dat": "1::10::5::978300000\n",
    "movies.dat": "10::Été, L' (1999)::Drama|Romance\n",
    "ratings.csv": "userId,movieId,rating,timestamp\n1,10,4.5,978300000\n",
    "movies.csv": "movieId,title,genres\n10,Dunes (1999),Adventure|Sci-Fi\n",
    "online_retail_II.csv": (
        "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n"
        "500001,A1,LAMP,6,2010-01-05 09:15:00,2.5,900,France\n"
    ),
    "transactions_train.csv": (
        "t_dat,customer_id,article_id,price,sales_channel_id\n2018-09-20,aa01,0663713001,0.05,2\n"
    ),
    "articles.csv": (
        "article_id,prod_name,detail_desc,product_type_name,colour_group_name\n0663713001,Top,Soft,Vest top,Black\n"
    ),
    "FOLDER/transactions.csv": (
        "household_id,store_id,basket_id,product_id,quantity,sales_value,week,transaction_timestamp\n"
        + "".join(f"{h},1,{h}{k},p{k % 3},1,2.5,1,2017-01-0{1 + k} 11:00:00\n" for h in range(5) for k in range(5))
    ),
    "FOLDER/products.csv": "product_id,manufacturer_id,department,brand,product_category,product_type,package_size\n"
    + "".join(f"p{k},2,GROCERY,National,TEA,GREEN TEA,20 CT\n" for k in range(3)),
    "FOLDER/clicks.csv": "SessionId,ItemId,Time\n"
    + "".join(f"{s},{(s + k) % 4},{1_462_752_000 + 60 * k}\n" for s in range(9) for k in range(5)),
    "home/river_data/MovieLens100K/ml_100k.csv": (
        "user\titem\ttimestamp\ttitle\trelease_date\tgenres\trating\tage\tgender\toccupation\n" + RATINGS
    ),
}


def commands(block: str) -> Iterator[str]:
    """The commands of a block, each with all of its lines: as bash sees it, which asks for more where there is more."""
    command = ""
    for line in block.splitlines(keepends=True):
        command += line
        read = subprocess.run(["bash", "-n"], input=command, text=True, capture_output=True, check=False)
        if not command.rstrip().endswith("\\") and not read.returncode and not read.stderr:
            yield command.strip()
            command = ""
    assert not command.strip(), f"a command without an end: {command}"


def shown() -> dict[str, list[list[str]]]:
    """By page, the commands of each of its blocks that are marked `sh`; of pages that have any."""
    blocks = {
        page.name: [
            [each for each in commands(block) if not each.startswith("#")]
            for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        ]
        for page in PAGES
    }
    return {page: found for page, found in blocks.items() if found}


class Terminal:
    """Runs commands in `folder`, those that stay for later ones first."""

    def __init__(self, folder: Path, broker: services.KafkaBroker, valkey: services.Valkey) -> None:
        self.folder, self.broker, self.valkey = folder, broker, valkey
        self.places = {
            "localhost:9092": broker.bootstrap,
            "redis://localhost:6379/0": valkey.url,
            "file:///tmp/savepoints": (folder / "savepoints").as_uri(),
        }
        self.environment = {**os.environ, "HOME": str(folder / "home")}
        self.environment.pop("RIVER_DATA", None)
        self.cluster: FlinkCluster | None = None
        self._staying: list[str] = []
        self._running: subprocess.Popen[str] | None = None

    def run(self, command: str) -> None:
        """Run a command, which must succeed."""
        if STAYS.match(command):
            self._staying.append(command)
            return
        for place, put in self.places.items():
            command = command.replace(place, put)
        if ONLY_TARGETS.match(command):
            command = f"make --dry-run {command.partition(' ')[2]}"
        script = "\n".join(["set -eo pipefail", *self._staying, command])
        if ENDLESS.match(command):
            self._begin(script)
            return
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\nended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        if job := re.search(r"JobID ([0-9a-f]{32})", done.stdout):
            self.places["JOB"] = job[1]
            assert self.cluster is not None
            self.cluster.wait_for(job[1])
        if savepoint := re.search(r"Savepoint completed. Path: (\S+)", done.stdout):
            self.places["SAVEPOINT"] = savepoint[1]

    def end(self) -> None:
        """Interrupt what goes on, as Ctrl-C does."""
        running, self._running = self._running, None
        if running is not None:
            os.killpg(running.pid, signal.SIGINT)
            _, told = running.communicate(timeout=SECONDS)
            assert running.returncode == 130 and "Traceback" not in told, f"{running.returncode}: {told}"

    def _begin(self, script: str) -> None:
        """Start what does not end, and let the shop of the page go on until its user has a slate."""
        self._running = subprocess.Popen(
            ["bash", "-c", f"exec {script.splitlines()[-1]}"], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._running.stderr is not None
        told = []
        for line in self._running.stderr:
            told.append(line)
            if "running; " in line:
                break
        else:
            raise AssertionError(f"it ended: {''.join(told)}")
        for name, key in (("items", "item_id"), ("events", "user_id")):
            send(self.broker, name, (self.folder / f"{name[0]}.jsonl").read_text().splitlines(), key)
        client = redis.Redis.from_url(self.valkey.url)
        user = json.loads((self.folder / "e.jsonl").read_text().splitlines()[0])["user_id"]
        wait_until(lambda: bool(client.hget(f"rr:slate:{user}", "slate")))


@pytest.fixture
def terminal(tmp_path: Path, broker: services.KafkaBroker, valkey: services.Valkey) -> Terminal:
    for path in ROOT.iterdir():
        if path.name not in (".git", "riverrank.zip"):
            (tmp_path / path.name).symlink_to(path)
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "latin-1" if name == "movies.dat" else "utf-8")
    subprocess.run(["gzip", "log.csv.gz", "--stdout"], cwd=tmp_path, check=True, stdout=(tmp_path / "z").open("wb"))
    (tmp_path / "z").replace(tmp_path / "log.csv.gz")
    items, events = shop_stream(400)
    write(tmp_path / "e.jsonl", events)
    write(tmp_path / "i.jsonl", items)
    return Terminal(tmp_path, broker, valkey)


@pytest.mark.parametrize("page", [*shown()])
def test_all_that_a_page_says_to_run_runs(page: str, terminal: Terminal, request: pytest.FixtureRequest) -> None:
    if any("flink run" in command for block in shown()[page] for command in block):
        terminal.cluster = request.getfixturevalue("cluster")
        terminal.environment |= terminal.cluster.environment
    terminal.environment["PATH"] = os.pathsep.join([str(ROOT / ".venv" / "bin"), terminal.environment["PATH"]])
    for block in shown()[page]:
        try:
            for command in block:
                terminal.run(command)
        finally:
            terminal.end()
