"""The emulated message queue (SMQ, formerly MNS).

Modules belong here if they store messages or answer calls to `/queues`: the queue itself, the signature of its calls, and XML.
"""
