"""Lists that have forked, as trees."""

from __future__ import annotations

from typing import Any

from harness.report import vega
from harness.report.forks import forks
from harness.report.picture import COLOURS, Picture
from tests.planted_split_brain import judged, split_brain

LOST, KEPT, UNKNOWN = COLOURS["lost"], COLOURS["kept"], COLOURS["unknown"]


def drawn(tree: dict[str, Any], key: str = "k") -> Picture:
    story = judged([])
    story.verdict.evidence["trees"] = {key: tree}
    (fork,) = forks(story)
    return fork.picture


def values(picture: Picture, layer: int) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = picture.specification["layer"][layer]["data"]["values"]
    return data


def dots(picture: Picture) -> list[tuple[str, str]]:
    return [(dot["label"], dot["colour"]) for dot in values(picture, 1)]


def branch(elements: list[Any], **others: Any) -> dict[str, Any]:
    return {"elements": elements, **others}


def test_a_fork_has_a_branch_that_is_kept_and_one_that_is_struck_out() -> None:
    (fork,) = forks(judged(split_brain()))
    picture = fork.picture
    assert not fork.wide
    assert picture.title == "The list k forked after 2"
    assert dots(picture)[2:] == [("5", KEPT), ("6", KEPT), ("3", LOST), ("4", LOST)]
    assert [strike["label"] for strike in values(picture, 3)] == ["3", "4"]
    texts = [label["label"] for label in values(picture, 6)]
    assert texts == ["2 in common", "n2: 2 appends, kept", "n1: 2 appends, all lost"]
    assert "n1: 2 appends, all lost (3 4)" in picture.words


def test_of_long_branches_the_elements_next_to_the_fork_are_drawn() -> None:
    tree = branch(
        list(range(100)), survived=True, branches=[branch([200, *range(300, 340)], survived=True), branch([201])]
    )
    picture = drawn(tree)
    assert [label for label, _ in dots(picture)] == ["98", "99", "200", "300", "301", "302", "201"]
    assert [gap["label"] for gap in values(picture, 5)] == ["98 more", "37 more"]


def test_of_a_branch_that_is_gone_only_what_had_been_acknowledged_is_struck_out() -> None:
    picture = drawn(branch([1], branches=[branch([2, 3], lost=[3], survived=False), branch([4], survived=True)]))
    assert [strike["label"] for strike in values(picture, 3)] == ["3"]
    assert "2 appends, 1 lost" in [label["label"] for label in values(picture, 6)]


def test_without_a_last_read_nobody_knows_what_was_kept() -> None:
    picture = drawn(branch([1], branches=[branch([2]), branch([3])]))
    assert [colour for _, colour in dots(picture)[1:]] == [UNKNOWN, UNKNOWN]


def test_a_branch_may_fork_again_but_a_picture_has_an_end() -> None:
    tree = branch([40])
    for number in range(40):
        tree = branch([number], branches=[tree, branch([100 + number])])
    picture = drawn(tree)
    assert picture.specification["height"] < 600
    assert any("forks again" in label["label"] for label in values(picture, 6))
    wide = drawn(branch([1], branches=[branch([number]) for number in range(2, 40)]))
    assert wide.specification["height"] < 600
    assert any(label["label"] == "30 more branches" for label in values(wide, 6))


def test_a_list_may_fork_at_its_beginning_and_hold_anything() -> None:
    evil = "</script>\u202e"
    picture = drawn(branch([], branches=[branch([evil], by=[evil]), branch([None], lost=[None], survived=False)]), evil)
    assert picture.title.endswith("forked at its beginning")
    assert "\u202e" not in str(picture.specification) + picture.title + picture.words
    assert "<svg" in vega.as_svg(picture)


def test_where_most_is_lost_comes_first() -> None:
    story = judged([])
    few, many = ([branch(list(range(n)), lost=list(range(n)), survived=False), branch([9])] for n in (1, 3))
    story.verdict.evidence["trees"] = {"a": branch([8], branches=few), "b": branch([8], branches=many)}
    assert [fork.picture.title[:10] for fork in forks(story)] == ["The list b", "The list a"]
