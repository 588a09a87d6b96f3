"""What is refused before Flink starts."""

import pytest
from riverrank.jobs.config.schema import parse
from riverrank.jobs.errors import UsageError
from riverrank.jobs.flink.launch import FIELDS, check


@pytest.mark.parametrize("field", FIELDS)
def test_a_run_that_goes_on_from_another_writes_no_file_that_the_other_filled(field: str) -> None:
    document = {"kafka": {"bootstrap": "localhost:1"}, "job": {"state": "kept"}}
    check(parse(document))
    with pytest.raises(UsageError, match=rf"files\.{field} holds what one run wrote.* give a topic \(kafka\.{field}\)"):
        check(parse(document | {"files": {field: "out.jsonl"}}))
