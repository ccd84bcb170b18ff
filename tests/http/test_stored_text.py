"""Text that is no usual text, and keys that come again: stored as NFC, inert, once."""

from __future__ import annotations

import unicodedata

import pytest

from shared.runtime.codec import is_sealed
from tests.http.conftest import World


def test_an_NFD_title_is_stored_and_hashed_as_NFC(world: World) -> None:
    title = "강원 국도 확장 각각"
    body = {"title": unicodedata.normalize("NFD", title), "text": "가", "regions": ["gangwon"], "channel": "letter"}
    assert body["title"] != title
    county = world.maru.office("org-gangwon.officer")

    done = county.post("/v1/issues", body, key="decomposed")

    assert county.get(f"/v1/issues/{done.id}")["title"] == title
    assert county.post("/v1/issues", {**body, "title": title}, key="decomposed") == done
    (raw,) = world.system.service("issues").log.query(
        "SELECT state FROM stored_events WHERE case_id = ? AND topic LIKE 'IssueRaised.%'", done.id
    )[0]
    assert is_sealed(raw)
    assert title.encode() in raw
    assert unicodedata.is_normalized("NFC", raw.decode())


DANGEROUS = (
    "'; DROP TABLE stored_events; --",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "=1+1",
    "../../etc/passwd",
    "a\r\nSet-Cookie: x",
    "\u202eabc",
    "\u200b가",
    "\U0001f469\u200d\U0001f467",
    "\u00e9" * 100,
)


@pytest.mark.parametrize("text", DANGEROUS)
def test_text_that_looks_dangerous_is_stored_inert(world: World, text: str) -> None:
    county = world.maru.office("org-gangwon.officer")
    body = {"title": f"t{text}t", "text": text, "regions": ["gangwon"], "channel": "letter"}

    done = county.post("/v1/issues", body)

    read = county.get(f"/v1/issues/{done.id}")
    assert (read["title"], read["text"]) == (f"t{text}t", text)


def test_I_18_a_key_with_another_content_is_refused(world: World) -> None:
    county = world.maru.office("org-gangwon.officer")
    body = {"title": "하나", "text": "가", "regions": ["gangwon"], "channel": "letter"}
    done = county.post("/v1/issues", body, key="same-key-other-content")
    assert world.system.idle()
    before = world.stored()
    headers = world.headers("org-gangwon.officer", key="same-key-other-content")
    answer = world.http.post("/v1/issues", json={**body, "title": "둘"}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["rule"] == "I-18"
    assert world.stored() == before
    assert county.post("/v1/issues", body, key="same-key-other-content") == done
