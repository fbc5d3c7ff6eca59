"""The ray provider passes the suite that every provider passes, on a real cluster behind a faulty wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gitune.testing import ProviderConformance
from tests.providers.ray_world import KEY_VARIABLE, RayWorld
from tests.servers.ray import TOKEN, RayProxy, ray_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with ray_cluster() as url:
        yield url


@pytest.mark.slow
class TestRay(ProviderConformance):
    @pytest.fixture
    def world(self, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayWorld]:
        monkeypatch.setenv(KEY_VARIABLE, TOKEN)
        with RayProxy(cluster) as proxy:
            yield RayWorld(proxy, tmp_path)
            proxy.stop_jobs()
