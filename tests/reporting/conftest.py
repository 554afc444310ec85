"""The run folder that the report's tests share."""

from report_run import made, run  # noqa: F401 - fixtures
