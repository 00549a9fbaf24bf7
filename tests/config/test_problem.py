"""How problems are told, and in which order."""

from __future__ import annotations

from balancer.config.problem import ConfigError, Problem


def test_a_problem_names_its_place_and_says_whether_it_can_be_lived_with() -> None:
    assert str(Problem("p.yaml", 3, "no key")) == "p.yaml:3: no key"
    assert str(Problem("p.yaml", 3, "no key", warning=True)) == "p.yaml:3: warning: no key"


def test_where_no_line_is_meant_none_is_named() -> None:
    assert str(Problem("environment", 0, "PORT: must be a number")) == "environment: PORT: must be a number"


def test_problems_are_told_by_file_in_the_order_of_lines() -> None:
    found = ConfigError([Problem("b", 9, "x"), Problem("a", 5, "y"), Problem("b", 2, "z"), Problem("a", 1, "v")])

    assert str(found).splitlines() == ["b:2: z", "b:9: x", "a:1: v", "a:5: y"]
