"""From what a job wrote to an answer: a notebook of marimo, which is a Python file.

    marimo edit docs/notebook.py -- --slates slates.jsonl --events events.jsonl
    python docs/notebook.py --kafka localhost:9092

Files, or the topics of a Kafka up to their present end. It asks what docs/analysts.md asks, by the SQL of that page.
"""

import marimo

app = marimo.App(app_title="riverrank: what was shown, and what came of it")


@app.cell
def _():
    import re
    import tempfile
    from pathlib import Path

    import duckdb
    import marimo as mo
    from riverrank.jobs.config.schema import FLAGS, load
    from riverrank.jobs.local.reading import read

    return FLAGS, Path, duckdb, load, mo, re, read, tempfile


@app.cell
def _(mo):
    mo.md(
        """
        # What was shown, and what came of it

        Give `--slates`, `--events`, `--items` and `--predictions` files, or `--kafka HOST:PORT` for the topics, and
        `--config` for all that a configuration says of either.
        """
    )


@app.cell
def _(FLAGS, load, mo):
    given = {name.removeprefix("--"): value for name, value in mo.cli_args().to_dict().items()}
    flags = {key: given.get(flag.removeprefix("--")) for flag, key in FLAGS.items()}
    config = load(given.get("config"), flags)
    return (config,)


@app.cell
def _(Path, config, read, tempfile):
    # A file a stream, as docs/analysts.md names them: a link to what was given, or what the topic holds now.
    folder = tempfile.TemporaryDirectory(prefix="riverrank-")
    records = {}
    for stream in ("slates", "events", "predictions", "items"):
        path = Path(folder.name) / f"{stream}.jsonl"
        with path.open("wb") as file:
            records[stream] = 0
            for arrival in read(config, stream):
                if arrival.value:  # a tombstone says no more
                    file.write(arrival.value + b"\n")
                    records[stream] += 1
    return folder, records


@app.cell
def _(Path, duckdb, folder, re):
    page = (Path(__file__).parent / "analysts.md").read_text("utf-8")
    blocks = re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    database = duckdb.connect()
    for block in (block for block in blocks if block.startswith("CREATE")):
        # The page names files of the present folder.
        database.execute(re.sub(r"'(\w+\.jsonl)'", lambda name: f"'{folder.name}/{name[1]}'", block))
    return blocks, database


@app.cell
def _(blocks, database, mo, records):
    def answered(word):
        """What the query of the page that holds a word gives: a dictionary a row."""
        (query,) = (block for block in blocks if not block.startswith("CREATE") and word in block)
        asked = database.execute(query)
        names = [column[0] for column in asked.description]
        return [dict(zip(names, row, strict=True)) for row in asked.fetchall()]

    click_through = answered("count_if(clicked) AS clicks")
    rewards = answered("reward_a_slate")
    first_places = answered("self_normalised")
    mo.vstack(
        [
            mo.md(f"{records['slates']} slates and {records['events']} events were read."),
            mo.md("## Click-through by arm and place"),
            mo.ui.table(click_through),
            mo.md("## What a slate earned"),
            mo.ui.table(rewards),
            mo.md("## What an item would bring at the first place"),
            mo.ui.table(first_places),
        ]
    )
    return click_through, first_places, rewards


@app.cell
def _(click_through, rewards):
    # The answer, for whoever runs this as a script.
    for arm in rewards:
        places = [row for row in click_through if row["arm"] == arm["arm"]]
        shown = sum(row["shown"] for row in places)
        clicks = sum(row["clicks"] for row in places)
        print(
            f"arm {arm['arm']!r}: {arm['slates']} slates of {arm['users']} users were shown, with a click-through of "
            f"{clicks / shown:.4f}, and earned {arm['reward_a_slate']} each (error {arm['error_of_users']})"
        )


if __name__ == "__main__":
    app.run()
