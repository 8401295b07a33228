"""The `presspool` command: every command is registered here, and nowhere else.

A command is a function of a `*_cli` module. Those modules import only what reads a command line;
whatever is heavy (torch, Flower, transformers) is imported inside the function that needs it.

Example: `presspool outlet budget init` is `init` of `presspool.client.cli.budget_cli`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Annotated

import typer
import typer.core

from presspool import __version__
from presspool.client.cli import (
    adapters_cli,
    agent_cli,
    backup_cli,
    budget_cli,
    care_cli,
    check_data_cli,
    count_cli,
    doctor_cli,
    erase_cli,
    import_cli,
    join_cli,
    outlet_init_cli,
    peers_cli,
    policy_cli,
)
from presspool.common.audit.cli import audit_cli, opinion_cli, report_cli, ui_cli
from presspool.common.base.console import guarded
from presspool.common.released import predict_cli
from presspool.server.cli import (
    contract_cli,
    coordinator_cli,
    export_cli,
    gate_cli,
    keeping_cli,
    registry_cli,
    run_cli,
    serve_cli,
)
from presspool.simulations.attack import attack_cli
from presspool.simulations.cli import (
    bench_cli,
    methods_cli,
    models_cli,
    new_run_cli,
    plan_cli,
    researcher_cli,
    sweep_cli,
    tune_cli,
)
from presspool.simulations.experiments import experiment_cli

# Without rich markup, but with rich at hand, typer writes "\[default: 2]" into its helps.
typer.core.HAS_RICH = False

Commands = Mapping[str, Callable[..., None]]

HELP = "Media outlets fine-tune one language model together; readers' data never leaves them."

OUTLET: Commands = {
    "join": join_cli.join,
    "init": outlet_init_cli.init,
    "approve": policy_cli.approve,
    "decline": policy_cli.decline,
    "runs": budget_cli.runs,
    "end": budget_cli.end,
    "erase": erase_cli.erase,
    "import": import_cli.import_data,
    "check-data": check_data_cli.check_data,
    "preview-redaction": care_cli.preview_redaction,
    "split": care_cli.split,
    "count": count_cli.count,
    "run": agent_cli.run,
    "doctor": doctor_cli.doctor,
    "backup": backup_cli.backup,
    "restore": backup_cli.restore,
    "moved": backup_cli.moved,
}
BUDGET: Commands = {
    "init": budget_cli.init,
    "plan": budget_cli.plan,
    "rename": budget_cli.rename,
    "restored": backup_cli.restored,
}
POLICY: Commands = {
    "example": policy_cli.example,
    "check": policy_cli.check,
    "pin": policy_cli.pin,
}
PEERS: Commands = {"me": peers_cli.me, "approve": peers_cli.approve, "withdraw": peers_cli.withdraw}
ADAPTERS: Commands = {
    "list": adapters_cli.list_adapters,
    "fetch": adapters_cli.fetch,
    "verify": adapters_cli.verify,
}
COORDINATOR: Commands = {
    "init": coordinator_cli.init,
    "invite": coordinator_cli.invite,
    "admit": coordinator_cli.admit,
    "revoke": coordinator_cli.revoke,
    "members": coordinator_cli.members,
    "viewer": coordinator_cli.viewer,
    "migrate": keeping_cli.migrate,
    "backup": keeping_cli.backup,
    "restore": keeping_cli.restore,
    "move": keeping_cli.move,
    "reissue": keeping_cli.reissue,
    "start": run_cli.start,
    "submit": run_cli.submit,
    "status": run_cli.status,
    "stop": run_cli.stop,
    "drop": run_cli.drop,
}
REGISTRY: Commands = {
    "init": registry_cli.init,
    "add": registry_cli.add,
    "list": registry_cli.list_adapters,
    "show": registry_cli.show,
    "gate": gate_cli.gate,
    "promote": registry_cli.promote,
    "rollback": registry_cli.rollback,
    "retire": registry_cli.retire,
    "diff": registry_cli.diff,
    "verify": registry_cli.verify,
    "gc": registry_cli.gc,
}
CONTRACT: Commands = {"check": contract_cli.check}
AUDIT: Commands = {
    "report": report_cli.report,
    "card": report_cli.card,
    "fields": report_cli.fields,
    "ui": ui_cli.ui,
    "verify": audit_cli.verify,
    "recompute": audit_cli.recompute,
    "export": audit_cli.export_ledger,
    "fork": audit_cli.fork,
    "attack": attack_cli.attack,
}
BENCH: Commands = {
    "engine": bench_cli.engine,
    "gpu": bench_cli.gpu,
    "transport": bench_cli.transport,
    "ledger": bench_cli.ledger,
    "secagg": bench_cli.secagg,
    "export": bench_cli.export,
    "simulation": bench_cli.simulation,
    "serving": bench_cli.serving,
}
EXPERIMENT: Commands = {
    "agnews": experiment_cli.agnews,
    "outlets": experiment_cli.outlets,
    "readers": experiment_cli.readers,
    "sweep": experiment_cli.sweep,
    "headlines": experiment_cli.headlines,
    "heads": experiment_cli.heads,
    "pooled": experiment_cli.pooled,
    "robust": experiment_cli.robust,
    "tasks": experiment_cli.tasks,
    "paired": experiment_cli.paired,
    "methods": experiment_cli.methods,
    "clicks": experiment_cli.clicks,
}
MODELS: Commands = {
    "list": models_cli.list_models,
    "show": models_cli.show,
    "fetch": models_cli.fetch,
}
NEW: Commands = {"run": new_run_cli.new_run}
RESEARCHER: Commands = {
    "demo": researcher_cli.demo,
    "simulate": researcher_cli.simulate,
    "compare": researcher_cli.compare,
    "tune": tune_cli.tune,
    "sweep": sweep_cli.sweep,
    "plan": plan_cli.plan,
    "methods": methods_cli.methods,
}
EDITOR: Commands = {
    "predict": predict_cli.predict,
    "opinion": opinion_cli.opinion,
    "export": export_cli.export,
    "serve": serve_cli.serve,
    "serve-key": serve_cli.serve_key,
}


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"presspool {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Media outlets fine-tune one language model together; readers' data never leaves them."""


def group(commands: Commands, says: str) -> typer.Typer:
    """A group that only holds commands."""
    made = typer.Typer(help=says, no_args_is_help=True, suggest_commands=False)
    made.callback()(lambda: None)
    return register(made, commands)


def shown(show: Callable[..., None], commands: Commands) -> typer.Typer:
    """A group that shows something where no command is named."""
    made = typer.Typer(invoke_without_command=True, suggest_commands=False)
    made.callback()(show)
    return register(made, commands)


def register(made: typer.Typer, commands: Commands) -> typer.Typer:
    """Add commands under their names."""
    for name, command in commands.items():
        made.command(name)(command)
    return made


app = typer.Typer(
    name="presspool",
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    suggest_commands=False,  # click does
)
app.callback()(root)
register(app, RESEARCHER)
register(app, EDITOR)
outlet = group(OUTLET, "Commands of an outlet's operator.")
outlet.add_typer(shown(budget_cli.show, BUDGET), name="budget")
outlet.add_typer(shown(policy_cli.show, POLICY), name="policy")
outlet.add_typer(shown(peers_cli.show, PEERS), name="peers")
outlet.add_typer(
    group(ADAPTERS, "Finished runs' adapters, for this outlet's own use."), name="adapters"
)
app.add_typer(outlet, name="outlet")
app.add_typer(group(COORDINATOR, "Commands of a coordinator's operator."), name="coordinator")
app.add_typer(
    group(REGISTRY, "The registry of adapters: which of them is in use."), name="adapters"
)
app.add_typer(group(NEW, "Start something of your own."), name="new")
app.add_typer(group(CONTRACT, "Run contracts."), name="contract")
app.add_typer(group(AUDIT, "Check outlets' budget ledgers, and report on them."), name="audit")
app.add_typer(group(MODELS, "Base models that can be had offline."), name="models")
app.add_typer(group(BENCH, "Measure this machine."), name="bench")
app.add_typer(
    group(EXPERIMENT, "Declared experiments on real data; plots need the extra `plots`."),
    name="experiment",
)


def main() -> None:
    """Entry point: exit code 0 fine, 1 the work failed, 2 wrong usage or bad input."""
    sys.exit(guarded(app))


if __name__ == "__main__":
    main()
