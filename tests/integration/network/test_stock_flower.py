"""The same two apps on a real SuperLink: TLS, two authenticated SuperNodes, the same bytes."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID
from tests.fakes.instruments.loopback import free_port
from tests.fakes.instruments.superlink import LOOPBACK, Security, SuperLink
from tests.fakes.made_runs import write_run

from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_file import read_run_file
from presspool.server.rounds.server_app import serve
from presspool.simulations.grids.local_grid import LocalGrid
from presspool.simulations.simulate import SimulateOptions, prepare


def secured(folder: Path) -> Security:
    """TLS by a self-signed certificate, and SuperNodes that must show a key."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]),
    )
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "server.pem", folder / "server.key"
    public.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Security(
        options=(
            "--ssl-ca-certfile",
            str(public),
            "--ssl-certfile",
            str(public),
            "--ssl-keyfile",
            str(private),
            "--enable-supernode-auth",
        ),
        config=f'root-certificates = "{public}"',
        root=public,
    )


def node_key(path: Path) -> Path:
    """A SuperNode's private key; the public one lies beside it."""
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.with_suffix(".pub").write_bytes(
        key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    )
    return path


@pytest.fixture
def superlink(tmp_path: Path) -> Iterator[SuperLink]:
    link = SuperLink(tmp_path / "flower", secured(tmp_path))
    try:
        yield link
    finally:
        left = link.stop()
    assert left == []


def join(link: SuperLink, number: int, config: Path) -> None:
    """Start a SuperNode for an outlet."""
    assert link.home.exists()
    root = link.home.parent / "server.pem"
    link.start(
        f"node-{number}",
        "flower-supernode",
        "--superlink",
        link.address,
        "--root-certificates",
        str(root),
        "--auth-supernode-private-key",
        str(link.home.parent / f"node-{number}"),
        "--node-config",
        f'outlet-config="{config}"',
        "--port",
        str(free_port()),
    )


def test_two_supernodes_over_tls_make_the_bytes_of_the_local_grid(
    tmp_path: Path, contract_body: dict[str, Any], superlink: SuperLink
) -> None:
    run = read_run_file(write_run(tmp_path, contract_body))
    here, there = (
        prepare(run, SimulateOptions(out=tmp_path / "runs" / name, deterministic=7)).folder
        for name in ("local-grid", "flower")
    )
    torch.set_num_threads(1)
    outlets = [f"{name}.toml" for name in sorted(contract_body["outlets"])]
    with LocalGrid([here.outlets / name for name in outlets], workers=0) as grid:
        serve(grid, here)

    for number, name in enumerate(outlets):
        key = node_key(tmp_path / f"node-{number}")
        said = superlink.flwr("supernode", "register", key.with_suffix(".pub"))
        assert "registered" in said
        join(superlink, number, there.outlets / name)
    streamed = superlink.run(run_folder=there.path)
    assert there.adapter.exists(), streamed
    result = read_result(there.path)
    assert [sorted(done.outlets) for done in result.rounds[1:]] == [
        sorted(contract_body["outlets"])
    ] * len(result.rounds[1:])
    one, other = (
        (folder.adapter / "adapter_model.safetensors").read_bytes() for folder in (here, there)
    )
    assert one == other
    assert superlink.listened <= LOOPBACK
