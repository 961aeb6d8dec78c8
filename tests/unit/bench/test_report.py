"""Tables and files of results."""

import json

from bench.report import Report, table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(["relay", "us"], [["a", "100"], ["hairpin", "7"]]).splitlines() == [
        "relay     us",
        "a        100",
        "hairpin    7",
    ]


def test_a_report_names_its_machine_and_survives_as_json() -> None:
    report = Report("ng", {"rounds": 3})
    assert {"processor", "cores", "kernel", "commit", "date"} <= report.machine.keys()
    text = json.dumps(report.as_dict())
    assert json.loads(text)["settings"] == {"rounds": 3}
    assert str(report.machine["kernel"]) in report.heading()
