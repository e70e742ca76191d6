"""A database for each test: SQLite in the lab's home, or PostgreSQL where MODELLAB_TEST_POSTGRES names a server."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import tracking
from pipelines.lab import Lab
from tests.registry.desk import make_lab, register_versions

SERVER = os.environ.get("MODELLAB_TEST_POSTGRES", "")
"""``postgresql://USER@HOST:PORT``; `make test-postgres` sets it."""
_numbers = itertools.count(1)


def on_server(statement: str) -> None:
    import psycopg2

    connection = psycopg2.connect(f"{SERVER}/postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


def new_database(template: str = "template1") -> str:
    name = f"modellab_{os.getpid()}_{next(_numbers)}"
    on_server(f"CREATE DATABASE {name} TEMPLATE {template}")
    return f"{SERVER}/{name}"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab whose database is empty; MLflow has not seen it yet."""
    return make_lab(tmp_path / "lab", new_database() if SERVER else None)


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab whose database has MLflow's tables and three registered versions; making them takes seconds."""
    template = make_lab(tmp_path_factory.mktemp("template"), new_database() if SERVER else None)
    tracking.connect(template)
    register_versions(template)
    return template


@pytest.fixture
def make_mlflow_lab(mlflow_template: Lab, tmp_path: Path) -> Callable[[], Lab]:
    """Makes labs as the template is."""

    def make() -> Lab:
        root = tmp_path / f"lab{next(_numbers)}"
        if SERVER:
            _close_connections()
            assert mlflow_template.mlflow_uri is not None
            return make_lab(root, new_database(mlflow_template.mlflow_uri.rpartition("/")[2]))
        made = make_lab(root, None)
        shutil.copyfile(mlflow_template.home.mlflow_database, made.home.mlflow_database)
        return made

    return make


@pytest.fixture
def mlflow_lab(make_mlflow_lab: Callable[[], Lab]) -> Lab:
    return make_mlflow_lab()


def _close_connections() -> None:
    """PostgreSQL copies a database that nobody is connected to, and MLflow keeps connections."""
    on_server("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'modellab%'")
