"""`almanac serve RUN|BUNDLE ... [--port N]`, `almanac serve --new-token NAME --tokens FILE`"""

import argparse
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from research.util import sealed
from research.util.errors import UserError
from research.util.escape import visible
from tools.verbs import arguments

CAPTURE_DAYS, MOST_DAYS = 30.0, 3650


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac serve",
        description="Serves runs and bundles over HTTP: predictions, and text with OpenAI's API. SIGTERM lets requests end.",
        epilog="docs/serving.md has the routes, and calls with curl and the openai client.",
    )
    parser.add_argument("runs", nargs="*", metavar="[NAME=]RUN", help="a run or a bundle, and the name to serve it by")
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|last|STEP", help="default: best if there is one, else last"
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine alone; 0.0.0.0: every interface")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--chat-template", type=Path, metavar="FILE", help="a Jinja template in place of the model's own"
    )
    parser.add_argument(
        "--models", type=Path, metavar="FOLDER", help="whose bundles may be loaded as new versions (default: none)"
    )
    parser.add_argument(
        "--monitor", type=Path, metavar="FOLDER", help="keep numbers of every request there, for `almanac monitor`"
    )
    parser.add_argument(
        "--capture", action="store_true", help="keep what requests hold and are answered there too, to learn from"
    )
    parser.add_argument("--capture-days", type=float, metavar="N", help="that it is kept (default: 30)")
    parser.add_argument(
        "--traces", action="store_true", help="send spans by OpenTelemetry, to where OTEL_EXPORTER_OTLP_ENDPOINT says"
    )
    text = parser.add_argument_group("text")
    text.add_argument("--slots", type=int, help="requests that generate at once (default: 8)")
    text.add_argument("--context", type=int, help="tokens of a prompt and its answer (default: the model's own)")
    text.add_argument(
        "--answers",
        type=int,
        metavar="TOKENS",
        help="of answers kept for requests that come again (default: 20000; 0: none)",
    )
    rows = parser.add_argument_group("predictions")
    rows.add_argument("--max-batch", type=int, help="rows predicted at once (default: 32)")
    rows.add_argument("--delay", type=float, metavar="SECONDS", help="that a row waits for others (default: 0.002)")
    bounds = parser.add_argument_group("limits")
    bounds.add_argument("--queue", type=int, help="requests that wait (default: 64); more are answered 429")
    bounds.add_argument("--requests", type=int, help="that are being read or answered (default: 256)")
    bounds.add_argument("--seconds", type=float, help="of a request (default: 120)")
    bounds.add_argument("--body", type=int, metavar="BYTES", help="of a request (default: 8 MiB)")
    bounds.add_argument("--drain", type=float, metavar="SECONDS", help="to end in after SIGTERM (default: 30)")
    access = parser.add_argument_group("access")
    access.add_argument("--tokens", type=Path, metavar="FILE", help="who may ask, a TOML file (default: everyone)")
    access.add_argument("--new-token", metavar="NAME", help="adds a token to FILE, prints its secret, and ends")
    access.add_argument("--tls-cert", type=Path, metavar="FILE", help="a PEM certificate: serves https")
    access.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")
    args = vars(parser.parse_args(argv))
    file, new = args.pop("tokens"), args.pop("new_token")
    if new is not None:
        return _new_token(new, file)
    if not args["runs"]:
        parser.error("give a run or a bundle to serve")

    uvicorn = _uvicorn()
    from research.serving import servable
    from research.serving.monitor import observer
    from research.serving.web import app, connections, served, spans, tokens

    runs = [arguments.named(run) for run in args.pop("runs")]
    allowed = None if file is None else tokens.Watched(file)
    tls = connections.tls(args.pop("tls_cert"), args.pop("tls_key"))
    checkpoint, template = args.pop("checkpoint"), args.pop("chat_template")
    host, port = args.pop("host"), args.pop("port")
    bundles, monitored, traces = args.pop("models"), args.pop("monitor"), args.pop("traces")
    days = _capture_days(monitored, args.pop("capture"), args.pop("capture_days"))
    limits = served.Limits(**{name: value for name, value in args.items() if value is not None})
    _check(limits, port)
    if bundles is not None and not bundles.is_dir():
        raise UserError(f"--models={bundles}: there is no such folder")
    models = served.of([servable.from_folder(folder, name, checkpoint, template) for name, folder in runs], limits)
    watch = observer.Observer(monitored, capture_days=days) if monitored is not None else None
    sender = spans.from_environment() if traces else None
    config = connections.config(app.create(models, limits, allowed, bundles, watch, sender), limits.drain, tls)
    server, scheme = uvicorn.Server(config), "http" if tls is None else "https"
    server.capture_signals = lambda: _drained_by_signals(server)
    if days is not None:
        print(
            f"almanac: captures what requests hold and are answered, for {days:g} days in {visible(monitored)}, "
            + ("not sealed" if sealed.from_environment() is None else "sealed"),
            flush=True,
        )
    with _bound(host, port) as listener:
        print(f"almanac: compiling {', '.join(models.versions)}", flush=True)
        models.start()
        listener.listen(config.backlog)
        print(f"almanac: serving on {scheme}://{host}:{listener.getsockname()[1]}, its API at /docs", flush=True)
        server.run([listener])
    return 0


def _new_token(name: str, file: Path | None) -> int:
    """Prints the secret alone on stdout, so that a script can keep it."""
    from research.serving.web import tokens

    if file is None:
        raise UserError(f"--new-token {visible(name)}: name its file too, with --tokens FILE")
    print(tokens.add(file, name), flush=True)
    print(f"almanac: kept nowhere else; {visible(file)} has its hash, and room for limits", file=sys.stderr)
    return 0


def _bound(host: str, port: int) -> socket.socket:
    """A socket with its address, so that one in use is known before anything is compiled; it does not listen yet."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port") from None
    return made


def _uvicorn() -> Any:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UserError(f"almanac serve needs {error.name}: install the extra, almanac[serve]") from None
    return uvicorn


def _capture_days(monitored: Path | None, capture: bool, days: float | None) -> float | None:
    """For how many days contents are kept; None: they are not. Raises UserError for options that make no sense together."""
    if capture and monitored is None:
        raise UserError("--capture: say where to, with --monitor FOLDER")
    if days is not None and not capture:
        raise UserError(f"--capture-days={days:g}: nothing is captured without --capture")
    if days is not None and not 0 < days <= MOST_DAYS:
        raise UserError(f"--capture-days={days:g}: above 0, at most {MOST_DAYS}")
    return (days or CAPTURE_DAYS) if capture else None


def _check(limits: Any, port: int) -> None:
    """Raises UserError for a number that is out of range, and that no part of the server checks by itself."""
    if not 0 <= port < 65536:
        raise UserError(f"--port={port}: 0 to 65535")
    for name in ("seconds", "drain", "body", "requests", "max_batch"):
        if (value := getattr(limits, name)) <= 0:
            raise UserError(f"--{name.replace('_', '-')}={value}: above 0")
    from research.serving.web.connections import MOST

    if limits.requests > MOST:
        raise UserError(f"--requests={limits.requests}: at most {MOST}, the connections that the server keeps")
    if limits.answers < 0:
        raise UserError(f"--answers={limits.answers}: 0 or more")


@contextlib.contextmanager
def _drained_by_signals(server: Any) -> Iterator[None]:
    """SIGTERM and SIGINT let what runs end, and the command then ends as one that is done."""
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
