"""Record notifications, and claim what is due because of them.

Notifications and their history, sync requests (request, claim, complete, retry, dead-letter), and pending GetVideoInfo calls.
"""
