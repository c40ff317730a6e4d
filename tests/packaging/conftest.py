from __future__ import annotations

import pytest

from tests.end_to_end.chain import Project, shared_project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project, trained, evaluated and exported; nobody writes into it."""
    return shared_project(tmp_path_factory)
