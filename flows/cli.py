"""The console command `adaface`.

Exit codes: 0 done, 1 failed or not sound, 2 bad configuration, input or usage, 130 interrupted,
141 nobody reads the output.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from flows import cli_data, cli_encoder, cli_evaluation, cli_jobs


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        next_time = (
            "goes on where this one stopped" if arguments.run.__module__ == cli_jobs.__name__ else "starts anew"
        )
        print(f"adaface: interrupted; the same command {next_time}", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if arguments.debug or _is_ours(error.name):
            raise
        remedy = "install the pipeline: pip install -c constraints.txt -e '.[pipeline]'"
        return _failed(f"the package {error.name} is missing; {remedy}", 2)
    except (ValueError, FileNotFoundError) as error:
        if arguments.debug:
            raise
        return _failed(str(error), 2)
    except BrokenPipeError:  # `adaface ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (OSError, RuntimeError) as error:
        if arguments.debug:
            raise
        return _failed(f"{error} (--debug shows where)", 1)


def _parser() -> argparse.ArgumentParser:
    from adaface import __version__

    parser = argparse.ArgumentParser(prog="adaface", description="From raw photos to face datasets, step by step.")
    parser.add_argument("--version", action="version", version=f"adaface {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (cli_data, cli_jobs, cli_encoder, cli_evaluation):
        module.add_commands(commands, common)
    return parser


def _is_ours(module: str | None) -> bool:
    return module is None or module.partition(".")[0] in ("adaface", "data_pipeline", "ray_jobs", "flows")


def _failed(message: str, code: int) -> int:
    print(f"adaface: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
