"""vodsync: keeps a relational database true to an ApsaraVideo VOD media library."""

__version__ = "0.1.0"
