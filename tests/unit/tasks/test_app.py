"""What an app says about itself."""

from __future__ import annotations

import pytest

from mplite_tasks import MPLite


@pytest.mark.parametrize("kind", ["mplite", "redis"])
def test_a_broker_url_that_cannot_be_taken_apart_is_shown_without_any_part_of_its_password(kind: str) -> None:
    assert MPLite("proj", f"{kind}://:sec/ret-key@host:7878/").broker_url == f"{kind}://**"
