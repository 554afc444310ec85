"""The run folder that the report's tests share."""

from report_run import run  # noqa: F401 - a fixture
