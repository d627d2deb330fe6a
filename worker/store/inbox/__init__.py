"""Notifications and what they make due: the notification log, sync requests (claim, complete, retry, dead-letter), pending GetVideoInfo calls."""
