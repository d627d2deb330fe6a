"""vodsync: keep a relational database in step with an ApsaraVideo VOD media library."""

__version__ = "0.1.0"
