"""What the server that workers are forked from imports: whatever a worker would load for its first candidate."""

from __future__ import annotations

import exchange_calendars  # noqa: F401
import numba.experimental
import numba.typed  # noqa: F401
import scipy.linalg  # noqa: F401

import ledger_pipeline.analytics.metrics
import ledger_pipeline.simulation.compiled.run
import ledger_pipeline.simulation.measures
import ledger_pipeline.sweeps.worker  # noqa: F401
from ledger_pipeline.simulation.warm_up import load_compiled

load_compiled()
