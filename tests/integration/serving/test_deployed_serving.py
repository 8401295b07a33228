"""Unit file, compose service and chart start `presspool serve` with options that it has."""

from __future__ import annotations

import importlib
import shlex
from typing import Any

import click
import pytest
import typer
import yaml
from tests.conftest import REPOSITORY

from presspool.server.cli.serve_cli import serve

DEPLOY = REPOSITORY / "docs" / "deploy"


def asked(command: list[str]) -> dict[str, Any]:
    """What a command line asks of `presspool serve`; click refuses what it does not know."""
    assert command[0] == "serve"
    app = typer.Typer(add_completion=False)
    app.command()(serve)
    with click.Context(found := typer.main.get_command(app)):
        return found.make_context("serve", list(command[1:])).params


def test_the_unit_file_is_on_loopback_and_asks_for_keys() -> None:
    text = (DEPLOY / "presspool-serve.service").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("ExecStart="))
    found = asked(shlex.split(line.removeprefix("ExecStart="))[1:])
    assert (found["host"], bool(found["keys"]), found["plain"]) == ("127.0.0.1", True, False)


def test_the_compose_service_is_published_on_loopback_alone() -> None:
    service = yaml.safe_load((DEPLOY / "compose-serve.yaml").read_text())["services"]["serve"]
    found = asked(service["command"])
    assert found["plain"]
    assert found["keys"]
    assert [port.split(":")[0] for port in service["ports"]] == ["127.0.0.1"]


@pytest.mark.parametrize("tls", [False, True])
def test_the_chart_is_a_deployment_and_its_service(tls: bool) -> None:
    helm = pytest.importorskip("helm_python", reason="pip install helm-python-sdk (244 MB)")
    values: dict[str, Any] = {"keysSecret": "keys", "registry": "s3://adapters", "plain": True}
    values |= {"knownConfigMap": "known"}
    if tls:
        values = {"keysSecret": "keys", "tlsSecret": "tls", "otlp": "http://otel:4318"}
        values |= {"grpcPort": 8902}
        values |= {"adaptersClaim": "runs", "adapters": ["desk=/adapters/desk"]}
        values |= {"reference": "/adapters/public.csv"}
    with helm.Chart.load(str(DEPLOY / "chart")) as chart:
        rendered = chart.render(values, name="desk", namespace="press")
    found = {one["kind"]: one for text in rendered.values() for one in yaml.safe_load_all(text)}
    assert set(found) == {"Deployment", "Service", "NetworkPolicy"}
    pod = found["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    (container,) = pod["spec"]["containers"]
    said = asked(container["args"])
    assert (said["plain"], said["tls_cert"] is None) == (not tls, not tls)
    assert list(said["adapters"] or []) == values.get("adapters", [])
    assert (said["registry"], said["otlp"]) == (values.get("registry"), values.get("otlp"))
    assert said["grpc_port"] == values.get("grpcPort")
    ports = [one["containerPort"] for one in container["ports"]]
    assert ports == [one["port"] for one in found["Service"]["spec"]["ports"]]
    assert ports == [8901, *([8902] if tls else [])]
    known, reference = (str(said[one] or "") for one in ("known", "reference"))
    assert known == ("" if tls else "/known/registry.json")
    assert reference == values.get("reference", "")
    network = found["NetworkPolicy"]["spec"]
    assert network["podSelector"]["matchLabels"] == labels
    open_ports = [{"port": "serve"}, *([{"port": "grpc"}] if tls else [])]
    (entrance,) = network["ingress"]
    assert entrance == {"from": [{"podSelector": {}}], "ports": open_ports}
    assert {one["port"] for rule in network["egress"] for one in rule["ports"]} == {53, 443}
    scheme = "HTTPS" if tls else "HTTP"
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        assert container[probe]["httpGet"]["scheme"] == scheme
    volumes = {one["name"] for one in pod["spec"]["volumes"]}
    assert {one["name"] for one in container["volumeMounts"]} == volumes
    assert container["securityContext"]["readOnlyRootFilesystem"]


@pytest.mark.parametrize(
    ("values", "missing"),
    [({"plain": True}, "keysSecret"), ({"keysSecret": "keys"}, "tlsSecret.*plain: true")],
)
def test_the_chart_asks_for_keys_and_tls(values: dict[str, Any], missing: str) -> None:
    helm = pytest.importorskip("helm_python", reason="pip install helm-python-sdk (244 MB)")
    errors = importlib.import_module("helm_python.errors")
    with (
        helm.Chart.load(str(DEPLOY / "chart")) as chart,
        pytest.raises(errors.HelmError, match=missing),
    ):
        chart.render(values, name="desk", namespace="press")
