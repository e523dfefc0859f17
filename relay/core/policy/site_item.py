"""What does a site hold that a reviewer might take away, and where does it stand?"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class SiteItem:
    """A rule, a host, a person or a key of the applied site."""

    kind: str  # "person", "key", "host", "rule" (one that allows), "deny rule"
    name: str  # a key's fingerprint, a host's NAME.ZONE
    file: str
    first: int = 0  # lines, 0: the whole file
    last: int = 0
    shared: bool = False  # other things stand on the same lines
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
