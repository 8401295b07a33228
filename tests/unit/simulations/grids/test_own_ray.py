"""A Ray of our own is waited for as long as a busy machine needs, and not for ever."""

from __future__ import annotations

from typing import Any

import pytest

from presspool.common.base.errors import PressPoolError
from presspool.simulations.grids import own_ray

services = pytest.importorskip("ray._private.services", reason="pip install 'presspool[ray]'")


class SlowRay:
    """Starts when its node is there: a node that is asked for some times before it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, asked_before: int) -> None:
        self.left, self.settings = asked_before, dict[str, Any]()
        monkeypatch.setattr(services, "get_node", self.get_node)

    def get_node(self, *_: str) -> dict[str, str]:
        if self.left:
            self.left -= 1
            raise RuntimeError("no such node")
        return {"node": "here"}

    def init(self, **settings: Any) -> None:
        self.settings = settings
        try:
            services.get_node("127.0.0.1:6379", "ab")
        except RuntimeError:
            raise Exception("The current node timed out during startup.") from None


def test_a_node_that_is_late_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = SlowRay(monkeypatch, asked_before=3)
    own_ray.start_own(ray, workers=2, gpus=0, folder="/private")
    assert ray.left == 0
    assert ray.settings["num_cpus"] == 2
    assert ray.settings["_temp_dir"] == "/private/ray"
    assert services.get_node == ray.get_node  # others of this process ask as before


def test_a_node_that_never_comes_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_ray, "STARTS", 0)
    ray = SlowRay(monkeypatch, asked_before=1000)
    with pytest.raises(PressPoolError, match="Ray does not start on this machine") as caught:
        own_ray.start_own(ray, workers=2, gpus=0, folder="/private")
    assert caught.value.exit_code == 1
    assert "timed out during startup" in str(caught.value)
    assert services.get_node == ray.get_node
