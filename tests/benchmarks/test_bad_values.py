"""Wrong values at every entry point: none accepted, none met with a cryptic error."""

import pytest

from benchmarks.bad_values.benchmark import all_cases, main, table
from benchmarks.bad_values.settings import config_cases, unlisted
from benchmarks.bad_values.verdicts import Case, StartedError, verdict

SAMPLE = 23  # Every so many-th case in the normal suite.


def test_every_setting_is_tried():
    assert unlisted() == []


def test_a_sample_is_refused_in_words():
    found = [(case, *verdict(case)) for case in list(config_cases())[::SAMPLE]]
    assert len(found) > 50
    assert [f"{case} -> {text}" for case, name, text in found if name != "clear"] == []


def test_verdicts_can_tell():
    def raises(error):
        def call(value):
            raise error

        return call

    from jaxrl_runs.values import COUNT

    calls = {
        "clear": lambda value: COUNT.check("size", value),
        "cryptic": raises(ValueError("size must be ..., but not raised by our code")),
        "accepted": lambda value: None,
    }
    for name, call in calls.items():
        assert verdict(Case("f", "size", 0, call))[0] == name
    cryptic = lambda value: COUNT.check("other", value)  # noqa: E731
    assert verdict(Case("f", "size", 0, cryptic))[0] == "cryptic"
    assert verdict(Case("f", "size", 0, raises(StartedError())))[0] == "accepted"
    case = Case("f", "size", 0, calls["clear"])
    assert table([(case, "clear")]).splitlines()[-1] == "| **all** | 1 | 0 | 0 |"


@pytest.mark.slow
def test_all_are_refused_in_words(tmp_path, capsys):
    assert len(all_cases(tmp_path)) >= 1000
    assert main(["--show", "1000"]) == 0, capsys.readouterr().out
