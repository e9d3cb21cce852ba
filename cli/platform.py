"""The platform as a whole: ``up``, ``down``, ``status``, ``logs``, ``env``."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from cli.launch import Launch
    from cli.progress import Progress
    from cli.state import DeployedGraph
    from core.settings import Settings


def up(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="HTTP port [default: 8000].")] = None,
    config: Annotated[Path, typer.Option(help="Serve configuration to deploy.")] = Path("serve_local.yaml"),
    timeout: Annotated[float, typer.Option(min=1, help="Seconds until a start that hangs is given up.")] = 600,
    cpus: Annotated[
        int | None, typer.Option(min=1, help="Logical CPUs of Ray [default: the cores, at least 8].")
    ] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Chat once at the end.")] = True,
) -> None:
    """Start everything on this machine and check that it talks. Run again, it starts what is missing.

    \b
    Examples:
      artistmind up
      artistmind up --port 8080
      artistmind up --config my_graph.yaml --timeout 1200 --no-check
    """
    from rich.console import Console

    from cli.launch import Launch, LaunchOptions
    from cli.progress import Progress
    from cli.state import exclusive
    from core.settings import get_settings

    _interrupt_on_termination()
    settings = get_settings()
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    options = LaunchOptions(_config_path(config, settings), cpus, timeout, check)
    console = Console(highlight=False)
    progress = Progress(console)
    with exclusive(settings.home_dir):
        launch = Launch(settings, options, progress)
        if port is None:
            launch.keep_port()
        deployed = launch.already_runs()
        if deployed is not None:
            typer.echo(f"already running at {deployed.url}")
        else:
            deployed = _run(launch, progress)
            typer.echo(f"ready in {progress.total_s:.1f} s at {deployed.url}")
    _show_what_to_try(deployed.url)


def _run(launch: Launch, progress: Progress) -> DeployedGraph:
    try:
        with progress.live():
            return launch.run()
    except KeyboardInterrupt:
        typer.echo("artistmind: interrupted; what was started is stopped again", err=True)
        raise typer.Exit(130) from None


def _show_what_to_try(url: str) -> None:
    from cli.self_check import DEMO_NAME, curl_line

    typer.echo(f"\ntry:  {curl_line(url)}\n\nchat: artistmind chat --name {DEMO_NAME}\nstop: artistmind down")


def _config_path(path: Path, settings: Settings) -> Path:
    return path.resolve() if path.exists() else settings.resolved(path)


def _interrupt_on_termination() -> None:
    """SIGTERM and a closed terminal stop a start the way Ctrl-C does."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def down() -> None:
    """Stop what `up` has started, and nothing else. Data stays.

    \b
    Example:
      artistmind down
    """
    from cli.state import exclusive
    from cli.teardown import bring_down
    from core.settings import get_settings

    home = get_settings().home_dir
    if not home.exists():
        typer.echo("nothing was running")
        return
    with exclusive(home):
        stopped = bring_down(home)
    if stopped.total == 0:
        typer.echo("nothing was running")
        return
    typer.echo(
        f"stopped {stopped.total} processes: graph and Ray {stopped.ray}, servers {stopped.servers}"
        + (f", left over {stopped.others}" if stopped.others else "")
        + f"; data kept in {home}"
    )


def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show what runs, its health and its memory. Exit code 0 only when all of it is healthy.

    \b
    Examples:
      artistmind status
      artistmind status --json
    """
    from rich.console import Console

    from cli.health import as_table, collect
    from core.settings import get_settings

    found = collect(get_settings())
    if as_json:
        typer.echo(json.dumps(found.as_json(), ensure_ascii=False, indent=2))
    else:
        Console(highlight=False).print(as_table(found))
        if found.health and found.health.get("components"):
            typer.echo(f"health: {json.dumps(found.health['components'], ensure_ascii=False)}")
    if not found.healthy:
        raise typer.Exit(1)


def logs(
    component: Annotated[
        str, typer.Argument(help="servers, postgres, redis, ray, controller, or a deployment such as gateway.")
    ] = "servers",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is added.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines of each file.")] = 50,
) -> None:
    """Print the end of a component's logs.

    \b
    Examples:
      artistmind logs gateway
      artistmind logs generator --follow
      artistmind logs servers --lines 200
    """
    from cli.logs import follow as follow_files
    from cli.logs import log_files, tail
    from cli.state import load_state
    from core.settings import get_settings

    settings = get_settings()
    files = log_files(component, settings, load_state(settings.home_dir))
    for path in files:
        typer.secho(f"==> {path}", dim=True, err=True)
        for line in tail(path, lines):
            typer.echo(line)
    if follow:
        follow_files(files, typer.echo)


def env() -> None:
    """Print what a shell needs to reach our Ray: jobs, `serve status`, drivers.

    \b
    Examples:
      eval "$(artistmind env)"
      ray job submit --working-dir . -- python -m train_jobs.qlora --config train_jobs/configs/smoke.yaml
    """
    import os

    from cli.processes import is_alive
    from cli.ray_env import client_env
    from cli.state import load_state
    from core.errors import SetupError
    from core.settings import get_settings

    settings = get_settings()
    head = load_state(settings.home_dir).ray
    if head is None or not is_alive(head.process):
        raise SetupError("Ray is not running: start it with `artistmind up`")
    for name, value in client_env(settings, head, os.environ).items():
        typer.echo(f"export {name}={shlex.quote(value)}")
