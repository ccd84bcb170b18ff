"""Documents: links lead somewhere, both READMEs say the same, exit codes are those of the program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services import cli
from shared.runtime.settings import ROOT

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_both_readmes_have_the_same_parts_commands_and_names() -> None:
    english, korean = (ROOT / "README.md").read_text("utf-8"), (ROOT / "README.ko.md").read_text("utf-8")

    def shape(text: str) -> list[str]:
        return [re.split(r"[ |]", line)[0] or "row" for line in text.splitlines() if re.match(r"#+ |\||- |```", line)]

    def names(text: str) -> set[str]:
        return set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))

    assert shape(english) == shape(korean)
    assert names(english) == names(korean)


def test_the_readme_has_the_exit_codes_of_the_program() -> None:
    told = set(re.findall(r"(?:^|· |\n)(\d) ", cli.__doc__ or ""))
    assert told == set(re.findall(r"^\| (\d) \|", (ROOT / "README.md").read_text("utf-8"), flags=re.MULTILINE))
