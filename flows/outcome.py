"""How a job ends when it does not succeed."""

from __future__ import annotations

BAD_CONFIGURATION = 2  # exit code of a job that refuses its configuration or input


class JobFailed(RuntimeError):
    """A job that did not succeed; the message ends with its last lines.

    `exit_code` is None when the job was stopped, lost its node, or never started.
    """

    def __init__(self, message: str, exit_code: int | None = None, stopped: bool = False):
        super().__init__(message)
        self.exit_code = exit_code
        self.stopped = stopped

    @property
    def worth_retrying(self) -> bool:
        """False when a second try must end alike (bad configuration) or somebody stopped the job on purpose."""
        return self.exit_code != BAD_CONFIGURATION and not self.stopped


class Regression(RuntimeError):
    """An encoder is worse than the one before it, by more than chance explains; the message says in what."""
