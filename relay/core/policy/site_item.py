"""An item of a site that a reviewer may want to remove, with its place in the files."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class SiteItem:
    """A rule, a host, a person or a key of the running configuration."""

    kind: str  # "person", "key", "host", "rule" (one that allows), "deny rule"
    name: str  # a key's fingerprint, a host's NAME.ZONE
    file: str
    first: int = 0  # lines; 0: the whole file
    last: int = 0
    shared: bool = False  # other items are on the same lines
    owner: str = ""  # a key's person
    zone: str = ""  # a host's
    address: str = ""
    until: int | None = None  # Unix seconds

    @property
    def place(self) -> str:
        """file:line or file:first-last."""
        if not self.first:
            return self.file
        return f"{self.file}:{self.first}" + (f"-{self.last}" if self.last > self.first else "")
