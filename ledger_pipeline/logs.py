"""Logs of what trades by itself: on stderr, so that results on stdout can be read by programs.

LOG_FORMAT=json makes every line a JSON object; LOG_LEVEL is DEBUG, INFO, WARNING (the default of what trades by itself)
or ERROR (that of commands, which print their warnings). Keys of a broker are never logged: what holds them cannot be
shown.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import structlog

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def get_logger(name: str) -> Any:
    """A structured logger, set up by the environment of this moment: `log.info("planned", deployment="core")`."""
    level = os.environ.get("LOG_LEVEL", "WARNING").upper()
    as_json = os.environ.get("LOG_FORMAT", "").lower() == "json"
    shown = (
        structlog.processors.JSONRenderer(sort_keys=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    return structlog.wrap_logger(
        structlog.PrintLogger(file=sys.stderr),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            structlog.processors.format_exc_info,
            shown,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelName(level if level in LEVELS else "WARNING")
        ),
        cache_logger_on_first_use=False,
    ).bind(logger=name)
